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
    people = _people(by)
    found = {
        "address": ADDRESS,
        "password": PASSWORD,
        "machine": _machine(by),
        **_vendors(by),
        "people": people,
        "refresh": _refresh_tokens(people, int(sys.argv[1])),
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


def _refresh_tokens(people: list[str], count: int) -> list[dict[str, str]]:
    """Unused refresh tokens, each with the address that its session began at: one address per account."""
    from django.db import transaction

    from accounts.models import User
    from mestore.lib.actor import Actor
    from sessions_security import sessions, tokens

    users = {user.email: user for user in User.objects.filter(email__in=people)}
    found: list[dict[str, str]] = []
    for number, email in enumerate(people):
        address = f"198.19.{number % 250}.{number // 250 + 1}"
        by = Actor(kind="system", label="bench", role="SYSTEM", address=address)
        with transaction.atomic():
            session = sessions.start(users[email], kind="token", amr=["pwd"], by=by)
            pairs = [tokens.issue_pair(session) for _ in range(-(-count // len(people)))]
        found += [{"address": address, "token": pair.refresh_token or ""} for pair in pairs]
    # Neighbours in the list are different accounts, so that none meets its network's limit.
    return sorted(found, key=lambda one: hash(one["token"]))


if __name__ == "__main__":
    main()
