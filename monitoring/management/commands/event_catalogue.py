"""Show the catalogue of audit events, or write it into the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from monitoring import events

DOCUMENT = Path("docs/events.md")
HEADING = """# Audit events

Every event that MeStore records, from `monitoring/events.py`; written by `manage.py event_catalogue --write`.
A code never changes its meaning. *Outcome* and *retention* are the words of the API contract; *v* counts
changes of what an event's data carries.

| code | category | outcome | retention | v | what happened |
|---|---|---|---|---|---|
"""


def table() -> str:
    """Return the document as it should be."""
    rows = (
        f"| `{event.code}` | {event.category} | {event.outcome} | {event.retention} | {event.version} "
        f"| {event.description} |\n"
        for event in events.catalogue()
    )
    return HEADING + "".join(rows)


class Command(BaseCommand):
    help = "Print the catalogue of audit events. Example: manage.py event_catalogue --write"
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        chosen = parser.add_mutually_exclusive_group()
        chosen.add_argument("--write", action="store_true", help="write docs/events.md")
        chosen.add_argument("--check", action="store_true", help="fail when docs/events.md is not up to date")

    def handle(self, *_args: Any, **options: Any) -> None:
        document = Path(settings.BASE_DIR) / DOCUMENT
        if options["write"]:
            document.write_text(table(), encoding="utf-8")
            self.stdout.write(f"{DOCUMENT} is up to date.")
        elif options["check"]:
            if not document.is_file() or document.read_text(encoding="utf-8") != table():
                raise CommandError(f"{DOCUMENT} is out of date: run manage.py event_catalogue --write")
        else:
            self.stdout.write(table(), ending="")
