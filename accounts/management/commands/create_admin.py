"""`manage.py create_admin`: the first administrator, and the way back in when nobody else can."""

from __future__ import annotations

import json
import os
import secrets
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

import segno
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils.translation import gettext as _

from accounts import administration, totp
from accounts.models import Permission, TotpDevice, User
from accounts.roles import STAFF, Role
from mestore.lib import actor, errors

_EXAMPLES = """
examples:
  manage.py create_admin
      asks for what it needs, prints the password and the authenticator's QR code once
  manage.py create_admin --email ana@example.com --role SUPERUSER --all-grants
  manage.py create_admin --email ana@example.com --password-stdin --json < password.txt
      MESTORE_ADMIN_PASSWORD_FILE names a file with the password in place of standard input

A password is never taken from the command line: other people of the machine could read it there.

exit codes: 0 created, 1 refused (address taken, password or address not accepted), 2 wrong arguments
"""
PASSWORD_FILE = "MESTORE_ADMIN_PASSWORD_FILE"  # noqa: S105 - the name of a variable
_GENERATED_BYTES = 18
_REASON = "created on the server by create_admin"


class Command(BaseCommand):
    help = "Create an administrator with a password, an authenticator application and grants."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", help="address of the account; asked for when missing")
        parser.add_argument("--name", default="", help="first name")
        parser.add_argument("--role", choices=sorted(STAFF), default=str(Role.ADMIN))
        parser.add_argument("--clearance", type=int, choices=range(1, 6), default=5)
        parser.add_argument(
            "--grant",
            action="append",
            default=[],
            metavar="PERMISSION",
            help="resource.action.scope; repeatable",
        )
        parser.add_argument("--all-grants", action="store_true", help="every permission there is")
        parser.add_argument(
            "--password-stdin", action="store_true", help="read the password from standard input"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object and ask nothing")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Create the account. Raises CommandError with the reason; then nothing was written."""
        email = options["email"] or self._ask_email(options)
        given = _given_password(options)
        password = given or secrets.token_urlsafe(_GENERATED_BYTES)
        try:
            user, device, secret = _create(email, password, options)
        except errors.MeStoreError as error:
            reasons = [str(detail.message) for detail in error.details or ()]
            raise CommandError(" ".join([str(error), *reasons])) from error
        result = {
            "id": str(user.pk),
            "email": user.email,
            "role": user.user_type,
            "password": None if given else password,
            "totp_secret": secret,
            "otpauth_uri": totp.otpauth_uri(device),
        }
        if options["json"]:
            self.stdout.write(json.dumps(result))
        else:
            self._print(result)

    def _ask_email(self, options: dict[str, Any]) -> str:
        if options["json"] or options["password_stdin"] or not sys.stdin.isatty():
            raise CommandError(_("Say --email: there is nobody to ask."), returncode=2)
        return input(_("E-mail address: "))

    def _print(self, result: dict[str, Any]) -> None:
        self.stdout.write(_("Created %(email)s (%(role)s).") % result)
        if result["password"]:
            self.stdout.write(_("Password, shown this once: %(password)s") % result)
        self.stdout.write(
            _("Scan this with an authenticator application, or enter %(totp_secret)s:") % result
        )
        segno.make(result["otpauth_uri"], error="m").terminal(out=self.stdout, compact=True)  # type: ignore[arg-type] # a stream with write()


def _create(email: str, password: str, options: dict[str, Any]) -> tuple[User, TotpDevice, str]:
    by = actor.system("create_admin")
    names = options["grant"]
    if options["all_grants"]:
        names = list(Permission.objects.values_list("name", flat=True))
    with transaction.atomic():
        user = administration.create_user(
            email=email,
            password=password,
            role=Role(options["role"]),
            by=by,
            with_factor=True,
            clearance=options["clearance"],
            fields={"nombre": options["name"], "account_verified": True, "email_verified": True},
        )
        for name in names:
            administration.give_grant(user, name, by=by, reason=_REASON)
        # The secret is handed over here and now, by somebody who may read the keys anyway.
        device, secret = totp.enrol(user, "create_admin", by=by, confirmed=True)
    return user, device, secret


def _given_password(options: dict[str, Any]) -> str | None:
    """The password from standard input or the named file, without its line end; None to generate one."""
    if options["password_stdin"]:
        text = sys.stdin.readline()
    elif os.environ.get(PASSWORD_FILE):
        try:
            text = Path(os.environ[PASSWORD_FILE]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(
                _("The file named by %(name)s cannot be read.") % {"name": PASSWORD_FILE}
            ) from error
    else:
        return None
    password = text.rstrip("\r\n")
    if not password:
        raise CommandError(_("The password is empty."))
    return password
