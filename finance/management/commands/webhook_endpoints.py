"""`manage.py webhook_endpoints`: where the storefront's events go. Secrets are shown here alone, once."""

from __future__ import annotations

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from finance import endpoints
from finance.models import WebhookEndpoint
from mestore.lib import actor, errors

_EXAMPLES = """
examples:
  manage.py webhook_endpoints list
  manage.py webhook_endpoints create shop https://shop.example/hooks --type order.confirmed --type refund.paid
      prints the secret that signs, once; without --type all events are sent
  manage.py webhook_endpoints rotate shop --overlap-hours 48
      prints another secret; the former one signs too for two days more (0: a secret that leaked ends at once)
  manage.py webhook_endpoints close shop --reason "The shop moves."
  manage.py webhook_endpoints open shop --reason "The shop is back."

Hosts must stand in MESTORE_WEBHOOK_HOSTS. Exit codes: 0 done, 1 refused, 2 wrong arguments
"""


class Command(BaseCommand):
    help = "Where events for the storefront are sent: list, create, rotate, close, open."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One word says what to do."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        made = {name: actions.add_parser(name) for name in ("list", "create", "rotate", "close", "open")}
        for name, one in made.items():
            one.add_argument("--json", action="store_true", help="print one JSON object")
            if name != "list":
                one.add_argument("name", help="its name")
            if name in {"close", "open"}:
                one.add_argument("--reason", required=True, help="kept in the audit trail")
        made["create"].add_argument("url", help="an https address")
        made["create"].add_argument("--type", action="append", default=[], help="a type of event")
        made["rotate"].add_argument(
            "--overlap-hours", type=int, default=24, help="how long the former secret signs too"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do it and print. Raises CommandError with 1 where the use case refuses."""
        run: Callable[[dict[str, Any]], dict[str, Any]] = getattr(self, f"_{options['action']}")
        try:
            answer = run(options)
        except errors.MeStoreError as refused:
            raise CommandError(str(refused)) from refused
        if options["json"]:
            self.stdout.write(json.dumps(answer))
            return
        for one in answer.get("endpoints", []):
            self.stdout.write("  ".join(str(value) for value in one.values()))
        for name, value in answer.items():
            if name != "endpoints":
                self.stdout.write(f"{name}: {value}")
        if "secret" in answer:
            self.stdout.write(
                _("The secret is shown this once. Keep it where the receiver reads its secrets.")
            )

    def _list(self, _options: dict[str, Any]) -> dict[str, Any]:
        rows = WebhookEndpoint.objects.order_by("name").defer("secret", "former_secret")
        return {
            "endpoints": [
                {
                    "name": one.name,
                    "state": "open" if one.is_active else "closed",
                    "url": one.url,
                    "types": ",".join(one.event_types) or "all",
                }
                for one in rows
            ]
        }

    def _create(self, options: dict[str, Any]) -> dict[str, Any]:
        made, secret = endpoints.create(
            options["name"], options["url"], event_types=options["type"], by=_by()
        )
        return {"name": made.name, "url": made.url, "secret": secret}

    def _rotate(self, options: dict[str, Any]) -> dict[str, Any]:
        overlap = timedelta(hours=max(0, options["overlap_hours"]))
        secret = endpoints.rotate(endpoints.named(options["name"]), overlap=overlap, by=_by())
        return {"name": options["name"], "secret": secret}

    def _close(self, options: dict[str, Any]) -> dict[str, Any]:
        endpoints.close(endpoints.named(options["name"]), reason=options["reason"], by=_by())
        return {"name": options["name"], "state": "closed"}

    def _open(self, options: dict[str, Any]) -> dict[str, Any]:
        endpoints.reopen(endpoints.named(options["name"]), reason=options["reason"], by=_by())
        return {"name": options["name"], "state": "open"}


def _by() -> actor.Actor:
    return actor.system("webhook_endpoints")
