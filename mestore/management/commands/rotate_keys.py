"""`manage.py rotate_keys`: bring a new key into use, and see when an old one may go."""

from __future__ import annotations

import base64
import json
import re
import secrets
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from accounts import peppers
from mestore.management import sealed_rotation, signing_rotation

_EXAMPLES = """
rotating the pepper of password hashes, without signing anybody out:
  1. manage.py rotate_keys --purpose pepper --new 2026b
       prints an entry id:base64, once; put it first in MESTORE_PEPPER_KEYS and start the processes again
  2. people sign in as always; each hash moves to the new key when its owner does
  3. manage.py rotate_keys --purpose pepper
       shows what still stands under older keys; a key without anything under it may be dropped
     Backup codes cannot move by themselves: their owners make new ones, or use them up.

the keys that sign access tokens:
  manage.py rotate_keys --purpose signing
      shows them; keys whose last token has expired are deleted
  manage.py rotate_keys --purpose signing --rotate [--dry-run]
      a new key signs; the former one verifies until its last token has expired; nobody is signed out
  manage.py rotate_keys --purpose signing --rotate --compromised
      every former key is dropped at once: clients exchange their refresh tokens, machines ask again
  manage.py rotate_keys --purpose signing --rewrap
      seals the private keys again, after a new key was put first in MESTORE_MASTER_KEYS

what is sealed in the database (sessions, seeds, signing keys, messages), without signing anybody out:
  1. manage.py rotate_keys --purpose session --new 2026b
       prints an entry id:base64, once; put it first in MESTORE_MASTER_KEYS and start every process again
  2. manage.py rotate_keys --purpose session [--dry-run] [--json]
       seals everything again under the first key, while people work; repeat it after an interruption
     Keep the older keys in the ring, after the new one: what they signed is still checked with them.

exit codes: 0 nothing needs an older key (or a new key was made), 1 an older key is still needed,
            2 something names a key that the ring does not have, or does not open, or wrong arguments
"""
_ID = re.compile(r"[A-Za-z0-9]{1,32}", re.ASCII)


class Command(BaseCommand):
    help = "Rotate keys: make a new one, or say what still needs the old ones."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--purpose", choices=["pepper", "session", "signing"], required=True, help="which keys"
        )
        parser.add_argument("--new", metavar="ID", help="print a new key with this id; changes nothing")
        parser.add_argument("--rotate", action="store_true", help="signing: put a new key in force")
        parser.add_argument(
            "--compromised", action="store_true", help="signing, with --rotate: drop the former keys at once"
        )
        parser.add_argument(
            "--rewrap", action="store_true", help="signing: seal under the current master key"
        )
        parser.add_argument("--dry-run", action="store_true", help="session, signing: say what would be done")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print. Raises CommandError where an older key is needed or missing."""
        if options["purpose"] == "signing":
            signing_rotation.run(options, write=self.stdout.write)
            return
        if options["purpose"] == "session":
            sealed_rotation.run(options, write=self.stdout.write, tell=self.stderr.write)
            return
        if options["new"] is not None:
            self._new(options["new"], as_json=options["json"])
            return
        found = peppers.usage()
        if options["json"]:
            self.stdout.write(json.dumps({"keys": [asdict(one) for one in found]}))
        else:
            for one in found:
                self.stdout.write(_line(one))
        if any(one.is_needed and not one.is_held for one in found):
            raise CommandError(_("Passwords need a key that is not in the ring."), returncode=2)
        if any(one.is_needed and not one.is_current for one in found):
            raise CommandError(_("An older key is still needed."), returncode=1)

    def _new(self, key_id: str, *, as_json: bool) -> None:
        if not _ID.fullmatch(key_id) or key_id in settings.MESTORE_PEPPER_KEYS:
            raise CommandError(
                _("The id must be new: up to 32 letters and digits that no key has."), returncode=2
            )
        entry = f"{key_id}:{base64.b64encode(secrets.token_bytes(32)).decode('ascii')}"
        self.stdout.write(json.dumps({"entry": entry}) if as_json else entry)


def _line(one: peppers.Usage) -> str:
    state = _("current") if one.is_current else _("older") if one.is_held else _("MISSING")
    return _("%(id)s (%(state)s): %(passwords)d passwords, %(codes)d backup codes") % {
        "id": one.key_id,
        "state": state,
        "passwords": one.passwords,
        "codes": one.backup_codes,
    }
