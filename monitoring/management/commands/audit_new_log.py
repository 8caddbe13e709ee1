"""End the audit log as it stands and begin the next one, after a loss that two people admit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError

from mestore.lib import actor
from monitoring import ceremony
from monitoring.log import LogDamaged


class Command(BaseCommand):
    help = (
        "End the audit log as it stands and begin the next one: after a restored backup or a failover that "
        "lost its tail, when witnesses refuse it. Needs MIGRATION_DATABASE_URL. "
        "Exit codes: 0 done, 1 refused. "
        'Example: manage.py audit_new_log --reason "failover lost 40 s" --approved-by "staff 7" '
        '--approved-by "staff 9" --last-known witness.checkpoint'
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", required=True, help="what was lost and why; kept for ever")
        parser.add_argument(
            "--approved-by", action="append", required=True, metavar="PERSON", help="twice: two people"
        )
        parser.add_argument(
            "--last-known", type=Path, metavar="FILE",
            help="the newest checkpoint of the old log that a witness or an anchor has",
        )  # fmt: skip

    def handle(self, *_args: Any, **options: Any) -> None:
        if not settings.OWNER_ROLE:
            raise CommandError("Only the owner of the tables may do this: set MIGRATION_DATABASE_URL.")
        try:
            known = options["last_known"].read_text(encoding="utf-8") if options["last_known"] else ""
            begun = ceremony.begin_new_log(
                reason=options["reason"], approved_by=options["approved_by"], last_known=known,
                by=actor.system("audit_new_log"),
            )  # fmt: skip
        except (ceremony.NotApproved, LogDamaged, OSError, UnicodeDecodeError, DatabaseError) as error:
            raise CommandError(f"No new log: {error}") from error
        self.stdout.write(
            f"Log {begun.old_epoch} ended with {begun.old_size} leaves, root {begun.old_root.hex()}.\n"
            f"Log {begun.epoch} begins. Give its public key to every witness (--log) and verifier:\n"
            f"{begun.key}"
        )
