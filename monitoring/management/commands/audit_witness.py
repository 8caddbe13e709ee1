"""`manage.py audit_witness`: watch the audit log from elsewhere."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from mestore.lib.notes import NoteError
from monitoring import witness

_EXAMPLES = """
first, on the witness's own machine (a copy of the code is enough; the service's settings are not needed):
  python -m monitoring.witness --name witness.example/w1 --key-file w1.key --new-key
then:
  python -m monitoring.witness --name witness.example/w1 --key-file w1.key --store /var/lib/witness \\
      --log 'mestore.example/audit/log-1+…' --listen 0.0.0.0:8444 \\
      --certificate w1.pem --certificate-key w1.pem
and tell the service: MESTORE_AUDIT_WITNESSES='https://witness.example:8444 witness.example/w1+…'

exit codes: 0 stopped, 2 wrong arguments, a store that is damaged or held by another witness
"""


class Command(BaseCommand):
    help = "Run a witness of the audit log: it cosigns a log that only grew, and refuses every other."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        witness.add_arguments(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run until told to stop. Raises CommandError for what cannot be started."""
        try:
            witness.start(argparse.Namespace(**options), self.stdout.write)
        except (NoteError, witness.StoreDamaged, OSError, ValueError) as error:
            raise CommandError(str(error), returncode=2) from error
