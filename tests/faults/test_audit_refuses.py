"""While the audit trail takes no rows, money and administration are refused: 503, and nothing has changed."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest
from django.test import Client

from accounts import lockout, role_changes
from accounts.models import LockoutCounter
from accounts.roles import Role
from finance.models import IdempotencyKey, Order
from mestore.lib import actor, errors
from mestore.lib.http import dumps
from tests.console import house
from tests.factories.accounts import BuyerFactory, VendorFactory
from tests.factories.sessions_security import machine, machine_bearer
from tests.finance.conftest import ADDRESS, item, payment
from tests.monitoring.test_spool import refusing

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)
REASON = "asked for in writing"


def is_503(answer: Any) -> bool:
    return (answer.status_code, answer["Content-Type"]) == (503, "application/problem+json")


def order(headers: dict[str, str], vendor: Any) -> Any:
    body = {"currency": "COP", "items": [item(vendor.pk)], "payment": payment(), **ADDRESS}
    return Client(raise_request_exception=False).post(
        "/api/v1/orders/", dumps(body), content_type="application/json",
        headers=headers | {"Idempotency-Key": "key-1"},
    )  # fmt: skip


def test_an_order_is_refused_and_accepted_under_the_same_key_afterwards(owner_dsn: str) -> None:
    client, _key = machine()
    headers, vendor = machine_bearer(client), VendorFactory.create()

    with refusing(owner_dsn):
        answer = order(headers, vendor)
        assert (is_503(answer), answer["Retry-After"]) == (True, "5")
        assert not Order.objects.exists()
        assert not IdempotencyKey.objects.exists()

    assert order(headers, vendor).status_code == 201


def test_an_order_is_refused_where_nobody_made_the_months_partition(superuser_dsn: str) -> None:
    """The database's own triggers refuse first, in a statement of the business."""
    client, _key = machine()
    headers, vendor = machine_bearer(client), VendorFactory.create()
    name = "audit_event"
    with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
        row = superuser.execute(
            "SELECT 'audit_event_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')"
        ).fetchone()
        assert row is not None
        month = superuser.execute(
            "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = %s", [row[0]]
        ).fetchone()
        assert month is not None
        superuser.execute(f"ALTER TABLE {name} DETACH PARTITION {row[0]}".encode())
        try:
            assert is_503(order(headers, vendor))
            assert not Order.objects.exists()
        finally:
            superuser.execute(f"ALTER TABLE {name} ATTACH PARTITION {row[0]} {month[0]}".encode())


def test_a_role_stays_as_it_was(owner_dsn: str) -> None:
    target = BuyerFactory.create()

    with refusing(owner_dsn), pytest.raises(errors.SecurityServiceFailure):
        role_changes.change(target.pk, Role.ADMIN, reason=REASON, by=actor.system("test"))

    target.refresh_from_db()
    assert target.user_type == Role.BUYER


def test_an_action_of_the_console_is_refused(owner_dsn: str) -> None:
    visitor = house.visitor(permissions=(house.DANGEROUS, house.AUDIT))
    for _ in range(5):
        lockout.charge(lockout.attempt("login", account="victim@example.com", address="192.0.2.7"))
    page = visitor.client.get("/admin/lockouts/?q=victim@example.com").content.decode()
    link = re.search(r'href="(/admin/lockouts/[\w%=-]+/lift/)"', page)
    assert link
    visitor.client.raise_request_exception = False
    before = list(LockoutCounter.objects.order_by("pk").values())

    with refusing(owner_dsn):
        answer = visitor.client.post(link[1], {"reason": REASON})

    assert answer.status_code == 503
    assert list(LockoutCounter.objects.order_by("pk").values()) == before
