"""`manage.py finance_snapshots`: the sums behind balances, taken, thinned out, or rebuilt after a restore."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from finance import snapshots
from mestore.lib import actor

_EXAMPLES = """
examples:
  manage.py finance_snapshots                       take them now; a worker does it every hour
  manage.py finance_snapshots --rebuild --reason 'restored from the backup of Monday, incident 12'
                                                    after a restore, with MIGRATION_DATABASE_URL
  manage.py finance_snapshots --keep 40             delete all but the newest 40 of each account (owner)

exit codes: 0 done, 1 snapshots are of another cluster and must be rebuilt, 2 it could not run
"""


class Command(BaseCommand):
    help = "Take the snapshots of balances, or rebuild them after a restore."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rebuild", action="store_true", help="throw them away and take them anew")
        parser.add_argument("--reason", help="with --rebuild: why")
        parser.add_argument(
            "--keep", type=int, metavar="N", help="delete all but the newest N of each account"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do it and tell. Raises CommandError with the exit codes of the help."""
        try:
            told = self._told(options)
        except ValueError as error:
            raise CommandError(str(error), returncode=2) from error
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(f"It could not be done: {type(error).__name__}", returncode=2) from error
        words = ", ".join(f"{name}: {value:,}" for name, value in told.items())
        self.stdout.write(json.dumps(told) if options["json"] else words)

    def _told(self, options: dict[str, Any]) -> dict[str, int]:
        if options["rebuild"]:
            if not (options["reason"] or "").strip():
                raise ValueError("--rebuild needs --reason")
            by = actor.system("finance_snapshots")
            gone, taken = snapshots.rebuild(reason=options["reason"], by=by, progress=self._progress)
            return {"gone": gone, "taken": taken}
        if options["keep"] is not None:
            if options["keep"] < 1:
                raise ValueError("--keep is at least 1")
            return {"gone": snapshots.forget(kept=options["keep"])}
        if strange := snapshots.from_another_cluster():
            raise CommandError(
                f"{strange} snapshots are of another cluster (a dump was restored): run --rebuild.",
                returncode=1,
            )
        return {"taken": snapshots.take(progress=self._progress)}

    def _progress(self, taken: int) -> None:
        self.stderr.write(f"{taken:,} snapshots", ending="\r" if sys.stderr.isatty() else "\n")
