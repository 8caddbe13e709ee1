"""`manage.py build_password_list`: make the list of guessable passwords from its documented sources."""

from __future__ import annotations

import gzip
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.contrib.auth import password_validation
from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from accounts import breached, password_rules

_EXAMPLES = """
sources, all of which may be shipped:
  accounts/data/password_roots.txt   words, names and phrases, written for this project
  accounts/password_rules.py         the rules applied to them
  Django's common-passwords.txt.gz   leaked passwords (BSD licence); those of 8 characters and more

examples:
  manage.py build_password_list           writes accounts/data/common_passwords.txt
  manage.py build_password_list --check   compares it with what the sources give

exit codes: 0 written or equal, 1 the file differs (--check) or a source is away
"""
_LEAKED = Path(password_validation.__file__).with_name("common-passwords.txt.gz")


class Command(BaseCommand):
    help = "Make the shipped list of passwords that are guessed first."
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when it differs")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Write or compare. Raises CommandError with the reason."""
        try:
            entries = sorted(password_rules.passwords(_roots(), _leaked()))
        except (OSError, KeyError) as error:
            raise CommandError(_("A source of the list cannot be read: %s") % error) from error
        text = breached.HEADING + "".join(f"{entry}\n" for entry in entries)
        if options["check"]:
            if not breached.LIST.exists() or breached.LIST.read_text(encoding="utf-8") != text:
                raise CommandError(_("The list is not what its sources give: run build_password_list."))
        else:
            breached.LIST.write_text(text, encoding="utf-8")
        long = sum(len(entry) >= password_rules.LONG for entry in entries)
        self.stdout.write(
            _("%(count)d passwords, %(long)d of them with 15 characters or more.")
            % {"count": len(entries), "long": long}
        )


def _roots() -> dict[str, list[str]]:
    """Return the words of each section of the roots file."""
    sections: dict[str, list[str]] = {}
    words: list[str] = []
    for line in breached.ROOTS.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("["):
            words = sections.setdefault(text[1:-1], [])
        elif text and not text.startswith("#"):
            words.append(text)
    return sections


def _leaked() -> list[str]:
    with gzip.open(_LEAKED, "rt", encoding="utf-8") as lines:
        return [line.rstrip("\n") for line in lines]
