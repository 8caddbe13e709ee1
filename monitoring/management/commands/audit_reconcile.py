"""`manage.py audit_reconcile`: do the rows of watched tables say what the trail tells of them?"""

from __future__ import annotations

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from mestore.lib import actor
from monitoring import row_counts, row_reconciliation
from monitoring.row_reconciliation import Difference, Result

_EXAMPLES = """
examples:
  manage.py audit_reconcile            compares with the last time; a worker does it every night
  manage.py audit_reconcile --json     the same, as one JSON object

A worker need not run. The first time rows are counted, and compared from then on.

exit codes: 0 the trail tells of everything, 1 it does not (tables are named), 2 the comparison could not run
"""


class Command(BaseCommand):
    help = "Compare the rows of watched tables with the audit trail: what came, went or changed untold?"

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Compare and print. Raises CommandError: 1 for differences, 2 when it could not run."""
        try:
            result = row_reconciliation.reconcile(by=actor.system("audit_reconcile"))
        except row_counts.LaterRelease as error:
            raise CommandError(
                "The database was migrated by a later release: run its command.", returncode=2
            ) from error
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(
                f"The comparison could not run: {type(error).__name__}", returncode=2
            ) from error
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(result)))
        else:
            self._print(result)
        if not result.is_good:
            raise CommandError("Watched tables are not what the trail tells.", returncode=1)

    def _print(self, result: Result) -> None:
        for one in result.differences:
            self.stdout.write(f"DIFFERENCE: {one.table}: {one.what}{_rows(one)}")
        for note in result.notes:
            self.stdout.write(f"note: {note}")
        since = f"since {result.since.isoformat()}" if result.since is not None else "for the first time"
        self.stdout.write(
            f"{result.tables} tables, {result.rows:,} rows, {result.compared:,} of them compared with the "
            f"trail, {since}: {'good' if result.is_good else 'NOT GOOD'}"
        )


def _rows(one: Difference) -> str:
    return f" (rows {', '.join(one.rows)})" if one.rows else ""


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "run": str(result.id), "good": result.is_good, "taken_at": result.taken_at.isoformat(),
        "since": result.since.isoformat() if result.since is not None else None, "tables": result.tables,
        "rows": result.rows, "compared": result.compared,
        "differences": row_reconciliation.as_json(result.differences), "notes": result.notes,
    }  # fmt: skip
