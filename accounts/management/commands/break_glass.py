"""`manage.py break_glass`: seal the account of emergencies; its code is printed this once."""

from __future__ import annotations

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from accounts import break_glass
from mestore.lib import actor, errors

_EXAMPLES = """
examples:
  manage.py break_glass --seal
      prints the code once: write it on paper, put it into an envelope, seal it
  manage.py break_glass --close
      closes the account if its hour is over (the worker does it as well)

The code opens the console at /admin/emergency/ once, for an hour; every superuser is told by mail.
exit codes: 0 done, 1 refused, 2 wrong arguments
"""


class Command(BaseCommand):
    help = "Seal the account of emergencies: a superuser whose code works once."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--seal", action="store_true", help="make a new code; an earlier one is void")
        what.add_argument("--close", action="store_true", help="close the account if its hour is over")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        by = actor.system("break_glass")
        if options["close"]:
            closed = break_glass.close_ended(by=by)
            self.stdout.write(json.dumps({"closed": closed}) if options["json"] else _("Closed: %d") % closed)
            return
        try:
            code = break_glass.seal(by=by)
        except errors.MeStoreError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps({"account": break_glass.EMAIL, "code": code}))
            return
        grouped = "-".join(code[at : at + 4] for at in range(0, len(code), 4))
        self.stdout.write(_("The code of the emergency account, shown this once: %s") % grouped)
        self.stdout.write(_("It opens the console at /admin/emergency/ once. Keep it on paper, sealed."))
