"""Accounts, sessions and tokens for the clients, made in the service's environment, printed as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import django

VENDORS = 100  # at 500 requests a minute each; more would measure the first request of a session too often
PEOPLE = 400
ADDRESS = "203.0.113.7"
PASSWORD = "bench: a long enough pass phrase 7"


def main() -> None:
    """Create what is needed and print it."""
    django.setup()
    from mestore.lib.actor import Actor

    by = Actor(kind="system", label="bench", role="SYSTEM", address=ADDRESS)
    found = {
        "address": ADDRESS,
        "password": PASSWORD,
        "machine": _machine(by),
        **_vendors(by),
        "people": _people(by),
    }
    sys.stdout.write(json.dumps(found) + "\n")


def _machine(by: Any) -> dict[str, str]:
    from django.db import transaction

    from sessions_security import clients, sessions, tokens

    client, _key = clients.create("bench", networks=["203.0.113.0/24"], by=by)
    with transaction.atomic():
        session = sessions.start(client.user, kind="token", amr=["key"], by=by, client=client)
        return {"token": tokens.issue_access(session).access_token}


def _vendors(by: Any) -> dict[str, Any]:
    """Vendors of the imported orders with one of their commissions, a token and a cookie each."""
    from django.db import transaction

    from accounts.models import User
    from finance.models import Commission
    from sessions_security import sessions, tokens
    from sessions_security.store import SessionStore

    wanted: dict[Any, str] = {}
    for commission in Commission.objects.order_by("vendor_id").iterator():
        wanted.setdefault(commission.vendor_id, str(commission.pk))
        if len(wanted) == VENDORS:
            break
    vendors = []
    for vendor_id, commission_id in wanted.items():
        user = User.objects.get(pk=vendor_id)
        with transaction.atomic():
            token = tokens.issue_access(sessions.start(user, kind="token", amr=["pwd"], by=by)).access_token
            store = SessionStore()
            store.open(sessions.start(user, kind="cookie", amr=["pwd"], by=by))
        vendors.append(
            {"id": str(vendor_id), "commission": commission_id, "token": token, "cookie": store.session_key}
        )
    return {"vendors": vendors}


def _people(by: Any) -> list[str]:
    """Buyers who can sign in, all with one password: hashing it once is enough to set them up."""
    from accounts import administration
    from accounts.models import User
    from accounts.roles import Role

    first = administration.create_user(email="bench0@example.com", password=PASSWORD, role=Role.BUYER, by=by)
    names = [f"bench{number}@example.com" for number in range(1, PEOPLE)]
    User.objects.bulk_create(
        User(email=name, email_key=name, password=first.password, user_type=Role.BUYER) for name in names
    )
    return [first.email, *names]


if __name__ == "__main__":
    main()
