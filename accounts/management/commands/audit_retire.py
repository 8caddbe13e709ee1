"""`manage.py audit_retire`: months of the audit trail that are past their time, archived and given up."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from accounts import command_actors, hierarchy, retirements
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import archiving, retirement
from monitoring.archives import ArchiveError, named
from monitoring.archiving import Archived
from monitoring.log import LogDamaged
from monitoring.retirement import Month, State

WAITS: Final = 3
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])", re.ASCII)
_EXAMPLES = """
examples:
  manage.py audit_retire                          the months, what each holds, and which are due
  manage.py audit_retire 2024-10 --dry-run        verify the month, say what would be archived and dropped
  manage.py audit_retire 2024-10 --by ana@example.com --reason "Past 24 months."
      verifies the month, writes its archive, reads it back, and asks a second person; once somebody else has
      approved it in the console, the same command records the decision and drops the month's table
  manage.py audit_retire --due --by ana@example.com --reason "Past 24 months."     every month that is due

The archive goes to MESTORE_AUDIT_ARCHIVE_DIR, or --archive DIR. MIGRATION_DATABASE_URL is needed: the service
itself has no right to do any of this. A command that was cut short is run again.

exit codes: 0 done (or nothing to do), 1 not sound or refused, 2 could not run, 3 waits for a second person
"""


class Command(BaseCommand):
    help = "Archive months of the audit trail that are past their time, and drop them once two people agree."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument("month", nargs="?", help="a month, as in 2024-10; without one they are listed")
        which.add_argument("--due", action="store_true", help="every month that is due, oldest first")
        parser.add_argument("--by", help="the account in whose name this is done: e-mail address or id")
        parser.add_argument("--reason", help="why, in at least ten characters; kept in the trail")
        parser.add_argument("--archive", type=Path, metavar="DIR", help="where archives are kept")
        parser.add_argument("--dry-run", action="store_true", help="verify and say what would be done")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """List, or do the next step of each month. Raises CommandError: 1, 2 or 3 as the help says."""
        try:
            chosen = _chosen(options)
            if chosen is None:
                self._list(options)
                return
            done = [self._retire(month, options) for month in chosen]
        except (archiving.NotSound, ArchiveError, LogDamaged, retirement.TooYoung) as error:
            raise CommandError(str(error), returncode=1) from error
        except errors.MeStoreError as error:
            raise CommandError(str(error.message), returncode=1) from error
        except (retirement.NoSuchMonth, retirement.NotInTheLog, OSError, ValueError) as error:
            raise CommandError(str(error), returncode=2) from error
        except (DatabaseError, InterfaceError) as error:
            said = str(error).partition("\n")[0]
            raise CommandError(f"The database refused: {said}. Run it again.", returncode=2) from error
        self._say(done, as_json=options["json"])

    def _list(self, options: dict[str, Any]) -> None:
        shown = [_shown(month) for month in retirement.months()]
        if options["json"]:
            self.stdout.write(json.dumps({"held_for_months": settings.AUDIT_MONTHS, "months": shown}))
            return
        for one in shown:
            file = f"  {one['file']}  sha256 {one['sha256']}" if one["file"] else ""
            events = f"  {one['events']:,} events" if one["events"] is not None else ""
            self.stdout.write(f"{one['month']}  {one['state']:<8}  due {one['due_on']}{events}{file}")

    def _retire(self, month: Month, options: dict[str, Any]) -> dict[str, Any]:
        """Do what can be done for a month now, and say how far it came."""
        if options["dry_run"]:
            return self._tried(month)
        folder = _folder(options)
        if month.state in {State.HELD, State.DUE, State.ARCHIVED}:
            retirement.demand_due(month)
            by, reason = command_actors.named(options["by"]), options["reason"] or ""
            hierarchy.demand_reason(reason)
            archived = self._archived(month, folder, by)
            request = retirements.standing(archived, by=by)
            if request is None or request.waits():
                request = request or retirements.ask(archived, reason=reason, by=by)
                return _shown(retirement.find(month.month)) | {"waits_for": str(request.pk)}
            retirement.decide(archived, folder, reason=reason, by=by)
            month = retirement.find(month.month)
        dropped = retirement.drop(month, folder, progress=self._progress)
        return _shown(retirement.find(month.month)) | {"dropped": dropped}

    def _archived(self, month: Month, folder: Path, by: Actor) -> Archived:
        """Return the month's archive: the one on record when its file is there and whole, else a new one."""
        if month.archived is not None:
            try:
                archiving.demand_whole(folder, month.archived.manifest, progress=self._progress)
            except FileNotFoundError:
                self.stderr.write(f"{month.archived.manifest.file} is gone: another archive is made")
            else:
                return month.archived
        return archiving.make(month.month, folder, by=by, progress=self._progress)

    def _tried(self, month: Month) -> dict[str, Any]:
        said = _shown(month)
        if month.state is State.RETIRED:
            return said
        runs = archiving.check_month(month.month, progress=self._progress)
        events = sum(end - begin for parts in runs.values() for begin, end in parts)
        return said | {"would_archive": events, "is_due": month.state is not State.HELD}

    def _progress(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            self.stderr.write(f"{done:,} of {total:,} events", ending="\r")

    def _say(self, done: list[dict[str, Any]], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"months": done}))
        for one in done if not as_json else []:
            self.stdout.write(f"{one['month']}: {_words(one)}")
        if not done and not as_json:
            self.stdout.write("No month is due.")
        if any("waits_for" in one for one in done):
            raise CommandError(
                "A second person has to approve it: console, Approvals. Then run this again.",
                returncode=WAITS,
            )


def _words(one: dict[str, Any]) -> str:
    if "would_archive" in one:
        when = "" if one["is_due"] else f", not before {one['due_on']}"
        return f"sound; {one['would_archive']:,} events would be archived and dropped{when}"
    if "waits_for" in one:
        where = f"{one['events']:,} events are in {one['file']}, sha256 {one['sha256']}"
        return f"{where}; request {one['waits_for']}"
    if one.get("dropped") is not None:
        return f"{one['dropped']:,} events dropped; they are in {one['file']}"
    return f"{one['state']}; nothing to do"


def _chosen(options: dict[str, Any]) -> list[Month] | None:
    """Return the months that are named; None when none is. Raises ValueError, retirement.NoSuchMonth."""
    if options["due"]:
        unfinished = {State.DUE, State.ARCHIVED, State.DECIDED}
        return [one for one in retirement.months() if one.state in unfinished]
    if options["month"] is None:
        return None
    if not _MONTH.fullmatch(options["month"]):
        raise ValueError("a month looks like 2024-10")
    return [retirement.find(dt.date.fromisoformat(f"{options['month']}-01"))]


def _folder(options: dict[str, Any]) -> Path:
    found: Path | None = options["archive"] or retirement.folder()
    if found is None:
        raise ValueError("say where archives are kept: MESTORE_AUDIT_ARCHIVE_DIR, or --archive")
    if not settings.OWNER_ROLE:
        raise ValueError("only the owner of the tables may do this: set MIGRATION_DATABASE_URL")
    return found


def _shown(month: Month) -> dict[str, Any]:
    manifest = month.manifest
    return {
        "month": named(month.month),
        "state": str(month.state),
        "due_on": month.due_on.isoformat(),
        "events": manifest.events if manifest else None,
        "file": manifest.file if manifest else None,
        "sha256": manifest.sha256.hex() if manifest else None,
        "archived_at": month.archived_at.isoformat() if month.archived_at else None,
        "decided_at": month.decided_at.isoformat() if month.decided_at else None,
    }
