"""`manage.py finance_verify`: do the books add up, in every way they must?"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from finance import invariants, verification
from mestore.lib import actor

_EXAMPLES = """
examples:
  manage.py finance_verify                 all books; a worker does it every night
  manage.py finance_verify --vendor 0192…  one vendor's books
  manage.py finance_verify --json          one JSON object with every broken row, for a machine
  manage.py finance_verify --rules         what is checked; reads nothing

exit codes: 0 everything adds up, 1 something does not (each row is named), 2 the check could not run
"""


class Command(BaseCommand):
    help = (
        "Verify the invariants of money: ledger, balances, statements, commissions, refunds, payouts, MACs."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--vendor", metavar="ID", help="only this vendor's books")
        parser.add_argument("--rules", action="store_true", help="list what is checked, and end")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Verify and print. Raises CommandError: 1 for findings, 2 when it could not run."""
        if options["rules"]:
            for rule in invariants.EVERY:
                self.stdout.write(f"{rule.name}: {rule.says}")
            self.stdout.write(f"{verification.SIGNATURES}: every entry's MAC is that of its rows")
            return
        try:
            vendor = UUID(options["vendor"]) if options["vendor"] else None
            report = verification.verify(
                vendor=vendor, by=actor.system("finance_verify"), progress=self._progress
            )
        except ValueError as error:
            raise CommandError("--vendor is a vendor's whole id", returncode=2) from error
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(f"The check could not run: {type(error).__name__}", returncode=2) from error
        self._say(report, as_json=options["json"])

    def _progress(self, name: str, rows: int) -> None:
        end = "\r" if sys.stderr.isatty() else "\n"
        self.stderr.write(f"{name}{f', {rows:,} rows' if rows else ''}", ending=end)

    def _say(self, report: verification.Report, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(_as_json(report)))
        else:
            for one in report.broken:
                self.stdout.write(f"BROKEN: {one.check} {one.row}: {one.what}")
            for name in report.more:
                self.stdout.write(f"BROKEN: {name}: and more than {verification.MOST}")
            self.stdout.write(
                f"{report.checks} checks, {report.entries:,} signatures, {report.seconds:.1f} s: "
                f"{'good' if report.is_good else 'NOT GOOD'}"
            )
        if not report.is_good:
            raise CommandError("The books do not add up.", returncode=1)


def _as_json(report: verification.Report) -> dict[str, Any]:
    return {
        "good": report.is_good, "vendor_id": str(report.vendor) if report.vendor else None,
        "checks": report.checks, "entries": report.entries, "seconds": round(report.seconds, 3),
        "broken": [{"check": one.check, "row": one.row, "what": one.what} for one in report.broken],
        "more": report.more,
    }  # fmt: skip
