"""`manage.py clients`: machine accounts, from the command line."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from mestore.lib import actor, errors
from sessions_security import client_listing, clients
from sessions_security.models import MachineClient

_EXAMPLES = """
examples:
  manage.py clients list
  manage.py clients create storefront --network 192.0.2.0/24 --network 2001:db8:1::/48
      prints the client's id and its key, once
  manage.py clients create relay --network 192.0.2.7/32 --public-key relay.jwk --kid 2026a --dpop
      signs in with assertions of its own key (private_key_jwt); there is no key to print
  manage.py clients rotate storefront-1a2b3c4d --overlap-hours 48
      prints the new key, once; the former one works for two days more (0: a key that leaked dies at once)
  manage.py clients networks storefront-1a2b3c4d --network 198.51.100.0/24
  manage.py clients add-key relay-1a2b3c4d --public-key new.jwk --kid 2026b
  manage.py clients remove-key relay-1a2b3c4d --kid 2026a
  manage.py clients method relay-1a2b3c4d --method private_key_jwt --dpop
  manage.py clients revoke relay-1a2b3c4d --reason "The contract with the relay ended."

A public key is a JWK (RFC 7517) of Ed25519 or P-256, in a file or "-" for the standard input.
exit codes: 0 done, 1 refused, 2 wrong arguments
"""


class Command(BaseCommand):
    help = "Machine accounts: list, create, rotate, change, revoke."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One word says what to do; each has its own options."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        made = {
            name: actions.add_parser(name, help=words)
            for name, words in [
                ("list", "show all clients"),
                ("create", "create one"),
                ("rotate", "give one a new key"),
                ("revoke", "close one for good"),
                ("networks", "replace the networks it may call from"),
                ("method", "change how it signs in"),
                ("add-key", "register a public key"),
                ("remove-key", "withdraw a public key"),
            ]
        }
        for name, one in made.items():
            if name != "list":
                one.add_argument("client", help="the name of a new one" if name == "create" else "client id")
            one.add_argument("--json", action="store_true", help="print one JSON object")
        for name in ("create", "networks"):
            made[name].add_argument("--network", action="append", required=True, metavar="CIDR")
        for name in ("create", "add-key"):
            made[name].add_argument("--public-key", metavar="FILE", required=name == "add-key")
        for name in ("create", "add-key", "remove-key"):
            made[name].add_argument(
                "--kid", default="", help="id of the public key", required=name != "create"
            )
        for name in ("create", "method"):
            made[name].add_argument("--dpop", action="store_true", help="its tokens must be bound to a key")
        made["method"].add_argument("--method", choices=MachineClient.Method.values, required=True)
        made["rotate"].add_argument(
            "--overlap-hours", type=int, default=24, help="how long the former key works on; 0: not at all"
        )
        made["revoke"].add_argument("--reason", required=True, help="kept in the audit trail")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do it and print. Raises CommandError with 1 where the use case refuses."""
        run: Callable[[dict[str, Any]], dict[str, Any]] = getattr(
            self, "_" + options["action"].replace("-", "_")
        )
        try:
            answer = run(options)
        except errors.MeStoreError as refused:
            raise CommandError(str(refused)) from refused
        if options["json"]:
            self.stdout.write(json.dumps(answer))
        else:
            self._print(answer)

    def _list(self, _options: dict[str, Any]) -> dict[str, Any]:
        return {"clients": [client_listing.plain(one) for one in client_listing.everything()]}

    def _create(self, options: dict[str, Any]) -> dict[str, Any]:
        made = clients.create_with(
            options["client"],
            networks=options["network"],
            public_jwk=_jwk(options["public_key"]) if options["public_key"] else None,
            kid=options["kid"],
            requires_dpop=options["dpop"],
            by=_by(),
        )
        return {"client_id": made.client.client_id, "key": made.key or None}

    def _rotate(self, options: dict[str, Any]) -> dict[str, Any]:
        client = _client(options)
        key = clients.rotate(client, by=_by(), overlap=timedelta(hours=options["overlap_hours"]))
        return {"client_id": client.client_id, "key": key}

    def _revoke(self, options: dict[str, Any]) -> dict[str, Any]:
        client = _client(options)
        clients.revoke(client, by=_by(), reason=options["reason"])
        return {"client_id": client.client_id, "revoked": True}

    def _networks(self, options: dict[str, Any]) -> dict[str, Any]:
        client = _client(options)
        clients.change_networks(client, options["network"], by=_by())
        return {"client_id": client.client_id, "networks": options["network"]}

    def _method(self, options: dict[str, Any]) -> dict[str, Any]:
        client = _client(options)
        key = clients.change_method(client, method=options["method"], requires_dpop=options["dpop"], by=_by())
        return {"client_id": client.client_id, "method": options["method"], "key": key or None}

    def _add_key(self, options: dict[str, Any]) -> dict[str, Any]:
        client = _client(options)
        row = clients.add_key(client, _jwk(options["public_key"]), kid=options["kid"], by=_by())
        return {"client_id": client.client_id, "kid": row.kid, "algorithm": row.algorithm}

    def _remove_key(self, options: dict[str, Any]) -> dict[str, Any]:
        client = _client(options)
        clients.remove_key(client, options["kid"], by=_by())
        return {"client_id": client.client_id, "kid": options["kid"], "removed": True}

    def _print(self, answer: dict[str, Any]) -> None:
        for one in answer.get("clients", []):
            self.stdout.write(_line(one))
        for name, value in answer.items():
            if name != "clients" and value is not None:
                self.stdout.write(f"{name}: {', '.join(value) if isinstance(value, list) else value}")
        if answer.get("key"):
            self.stdout.write(_("The key is shown this once. Keep it where the program reads its secrets."))


def _by() -> actor.Actor:
    return actor.system("clients")


def _client(options: dict[str, Any]) -> MachineClient:
    found = MachineClient.objects.select_related("user").filter(client_id=options["client"]).first()
    if found is None:
        raise CommandError(_("There is no such client."))
    return found


def _jwk(name: str) -> dict[str, Any]:
    """Return the JSON object in a file. Raises CommandError when there is none."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
        return dict(json.loads(text))
    except (OSError, ValueError, TypeError):
        raise CommandError(
            _("The public key cannot be read: it must be a JSON file."), returncode=2
        ) from None


def _line(one: dict[str, Any]) -> str:
    parts: Sequence[str] = [
        one["client_id"],
        _("active") if one["is_active"] else _("closed"),
        one["method"] + (" + DPoP" if one["requires_dpop"] else ""),
        _("from %(networks)s") % {"networks": ", ".join(one["networks"])},
        _("last sign-in %(at)s") % {"at": one["last_sign_in"] or _("never")},
        _("may: %(permissions)s") % {"permissions": ", ".join(one["permissions"]) or _("nothing granted")},
    ]
    return "; ".join(parts)
