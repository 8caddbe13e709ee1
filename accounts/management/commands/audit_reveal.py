"""`manage.py audit_reveal`: the personal values of an event whose month was retired."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from accounts import archived_values, command_actors, hierarchy
from mestore.lib import crypto, errors
from monitoring import archive_revealing
from monitoring.archive_revealing import Opened
from monitoring.archives import ArchiveError

WAITS: Final = 3
_EXAMPLES = """
examples:
  manage.py audit_reveal 0199… --by ana@example.com --reason "Order of the court 2026-118."
      asks a second person; once somebody else who may read the trail has approved it in the console
      (Approvals, within 24 hours), the same command shows the event with its values, once

The archive is looked for in MESTORE_AUDIT_ARCHIVE_DIR, or --archive DIR. Who saw which values and why stays
in the trail. Values of people who were erased stay erased.

exit codes: 0 shown, 1 refused or not the file that was signed, 2 could not run, 3 waits for a second person
"""


class Command(BaseCommand):
    help = "Show the personal values of an archived event of the audit trail, once two people agree."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("event", type=UUID, help="the event's whole id")
        parser.add_argument("--by", required=True, help="the account in whose name: e-mail address or id")
        parser.add_argument(
            "--reason", required=True, help="why, in at least ten characters; kept in the trail"
        )
        parser.add_argument("--archive", type=Path, metavar="DIR", help="where archives are kept")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Ask, or show. Raises CommandError: 1, 2 or 3 as the help says."""
        event_id: UUID = options["event"]
        try:
            folder, by = _folder(options["archive"]), command_actors.named(options["by"])
            hierarchy.demand_reason(options["reason"])
            request = archived_values.standing(event_id, by=by)
            if request is None or request.waits():
                request = request or archived_values.ask(event_id, reason=options["reason"], by=by)
                raise CommandError(
                    f"Request {request.pk} waits: a second person has to approve it (console, Approvals)."
                    " Then run this again.",
                    returncode=WAITS,
                )
            opened = archive_revealing.reveal(event_id, folder, reason=options["reason"], by=by)
        except (ArchiveError, crypto.Unreadable) as error:
            raise CommandError(str(error), returncode=1) from error
        except errors.MeStoreError as error:
            raise CommandError(str(error.message), returncode=1) from error
        except (archive_revealing.NotArchived, OSError, ValueError) as error:
            raise CommandError(str(error), returncode=2) from error
        except (DatabaseError, InterfaceError) as error:
            said = str(error).partition("\n")[0]
            raise CommandError(f"The database refused: {said}. Run it again.", returncode=2) from error
        self._show(opened, as_json=options["json"])

    def _show(self, opened: Opened, *, as_json: bool) -> None:
        if as_json:
            shown = {
                "event": opened.event, "document": opened.document, "values": opened.values,
                "erased": list(opened.erased),
            }  # fmt: skip
            self.stdout.write(json.dumps(shown, ensure_ascii=False))
            return
        self.stdout.write(json.dumps(opened.document, ensure_ascii=False, indent=2))
        for name, value in opened.values.items():
            self.stdout.write(f"{name}: {value}")
        for name in opened.erased:
            self.stdout.write(f"{name}: erased with its person")


def _folder(given: Path | None) -> Path:
    found = given or (Path(settings.AUDIT_ARCHIVE_DIR) if settings.AUDIT_ARCHIVE_DIR else None)
    if found is None:
        raise ValueError("say where archives are kept: MESTORE_AUDIT_ARCHIVE_DIR, or --archive")
    return found
