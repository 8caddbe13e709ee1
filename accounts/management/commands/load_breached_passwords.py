"""`manage.py load_breached_passwords`: turn a Have I Been Pwned dump into the file that new passwords are
compared with."""

from __future__ import annotations

import contextlib
import re
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from accounts import breached

_EXAMPLES = """
examples:
  manage.py load_breached_passwords pwned-passwords-sha1-ordered-by-hash.txt --output /var/lib/mestore/leaked
  unzip -p dump.zip | manage.py load_breached_passwords - --output leaked --minimum-count 10

The dump has one line per password, SHA-1 in 40 hexadecimal digits, a colon and how often it was seen, in the
order of the hashes (a dump in another order: sort it first). Then name the file in
MESTORE_BREACHED_PASSWORDS; running processes notice a replaced file by themselves. Memory stays small
whatever the dump's size; the file appears only when it is whole.

exit codes: 0 written, 1 the dump cannot be read or is not one
"""
_LINE = re.compile(rb"([0-9A-Fa-f]{40})(?::([0-9]{1,12}))?\s*\Z")
_LONGEST_LINE = 200
_EVERY = 5_000_000


class Command(BaseCommand):
    help = "Load leaked passwords from a Have I Been Pwned dump, for use without a network."
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="the dump, or - for standard input")
        parser.add_argument("--output", help="file to write; default: what MESTORE_BREACHED_PASSWORDS names")
        parser.add_argument("--minimum-count", type=int, default=1, metavar="N", help="leave out rarer ones")
        parser.add_argument("--limit", type=int, default=None, metavar="N", help="stop after so many")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Write the file. Raises CommandError with the reason; then an older file is still there."""
        target = options["output"] or settings.BREACHED_PASSWORDS
        if not target:
            raise CommandError(_("Say with --output which file to write."))
        try:
            with _opened(options["file"]) as lines:
                hashes = self._hashes(lines, options["minimum_count"])
                count = breached.write(hashes, Path(target), limit=options["limit"])
        except OSError as error:
            raise CommandError(_("A file cannot be read or written: %s") % error) from error
        except breached.NotADump as error:
            raise CommandError(
                _("This is not a dump of passwords in the order of their hashes: %s") % error
            ) from error
        self.stdout.write(_("%(count)d leaked passwords in %(file)s.") % {"count": count, "file": target})

    def _hashes(self, lines: IO[bytes], minimum: int) -> Iterator[bytes]:
        number = 0
        # A line without an end must not be read into memory as one.
        while line := lines.readline(_LONGEST_LINE):
            number += 1
            found = _LINE.match(line)
            if found is None:
                raise breached.NotADump(f"line {number}")
            if int(found[2] or 1) >= minimum:
                yield bytes.fromhex(found[1].decode("ascii"))
            if number % _EVERY == 0:
                self.stderr.write(_("%d lines read") % number)


def _opened(name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    if name == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    return Path(name).open("rb")
