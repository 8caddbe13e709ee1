"""`manage.py settle`: what vendors earned becomes available when its hold is over."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from finance import selectors, settlement
from finance.money import text_of
from mestore.lib import actor, errors

EXIT_SKIPPED = 1
EXIT_FAILED = 2
EXIT_INTERRUPTED = 130
_EXAMPLES = """
examples:
  manage.py settle                            what is due now; a worker does it every day
  manage.py settle --dry-run --json           what would be settled, by currency; nothing is changed
  manage.py settle --due-before 2026-01-31    what counted up to the end of that day and is due

A run that was killed is completed by running it again: no vendor is settled twice.
exit codes: 0 settled, 1 some vendors could not be settled (they are named and stay due), 2 it could not run
"""


class Command(BaseCommand):
    help = (
        "Settle commissions whose hold is over: vendors' money becomes available, what they owe taken first."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would be settled; change nothing"
        )
        parser.add_argument(
            "--due-before", metavar="DAY", help="a day (included) or a moment, in ISO 8601; not in the hold"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Settle and tell. Raises CommandError with the exit codes of the help."""
        try:
            due_before = _moment(options["due_before"])
            if options["dry_run"]:
                self._forecast(due_before, as_json=options["json"])
                return
            results = settlement.settle(
                due_before=due_before, by=actor.system("settle"), progress=self._progress
            )
        except (ValueError, errors.MeStoreError) as error:
            raise CommandError(str(getattr(error, "message", error)), returncode=EXIT_FAILED) from error
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(
                f"The settlement stopped: {type(error).__name__}. Run it again: it goes on where it stood.",
                returncode=EXIT_FAILED,
            ) from error
        except KeyboardInterrupt:
            raise CommandError(
                "Interrupted. What was settled stays; the same command completes it.",
                returncode=EXIT_INTERRUPTED,
            ) from None
        self._say(results, as_json=options["json"])

    def _progress(self, vendors: int, commissions: int) -> None:
        end = "\r" if sys.stderr.isatty() else "\n"
        self.stderr.write(f"{vendors:,} vendors, {commissions:,} commissions settled", ending=end)

    def _forecast(self, due_before: dt.datetime | None, *, as_json: bool) -> None:
        found = settlement.forecast(due_before=due_before)
        if as_json:
            rows = [
                {
                    "currency": one.currency, "vendors": one.vendors, "commissions": one.commissions,
                    "amount_before_refunds": text_of(one.minor, one.currency),
                }
                for one in found
            ]  # fmt: skip
            self.stdout.write(json.dumps({"dry_run": True, "due": rows}))
            return
        for one in found:
            self.stdout.write(
                f"{one.currency}: {one.commissions:,} commissions of {one.vendors:,} vendors, "
                f"{text_of(one.minor, one.currency)} before refunds"
            )
        self.stdout.write("Nothing was changed." if found else "Nothing is due.")

    def _say(self, results: list[settlement.Result], *, as_json: bool) -> None:
        skipped = [vendor for one in results for vendor in one.skipped]
        if as_json:
            self.stdout.write(json.dumps({"good": not skipped, "runs": [_as_json(one) for one in results]}))
        else:
            for one in results:
                sums = ", ".join(
                    f"{text_of(minor, name)} {name}" for name, minor in sorted(one.totals.items())
                )
                self.stdout.write(
                    f"run {one.run}{' (resumed)' if one.resumed else ''}: {one.vendors:,} vendors, "
                    f"{one.commissions:,} commissions, {sums or 'nothing was due'}, {one.seconds:.1f} s"
                )
        if skipped:
            names = ", ".join(str(vendor) for vendor in skipped[:20])
            raise CommandError(f"Not settled, and still due: {names}", returncode=EXIT_SKIPPED)


def _as_json(one: settlement.Result) -> dict[str, Any]:
    return {
        "run": str(one.run), "due_before": one.due_before.isoformat(), "resumed": one.resumed,
        "vendors": one.vendors, "commissions": one.commissions, "seconds": round(one.seconds, 3),
        "totals": {name: text_of(minor, name) for name, minor in sorted(one.totals.items())},
        "skipped": [str(vendor) for vendor in one.skipped],
    }  # fmt: skip


def _moment(text: str | None) -> dt.datetime | None:
    """Read a day (to its end, in business time) or a moment. Raises ValueError."""
    if not text:
        return None
    if len(text) == len("2026-01-31"):
        return selectors.start_of(dt.date.fromisoformat(text) + dt.timedelta(days=1)).astimezone(dt.UTC)
    moment = dt.datetime.fromisoformat(text)
    return moment if moment.utcoffset() is not None else selectors.in_business_time(moment)
