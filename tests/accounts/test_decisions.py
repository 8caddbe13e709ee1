from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import decisions, grants, tasks
from accounts.conditions import Access
from accounts.models import AccessDecision, User
from mestore.lib.actor import Actor
from sessions_security import tokens
from tests.factories.accounts import AdminFactory, BuyerFactory, grant
from tests.factories.sessions_security import session_of

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

NAME = "vendors.approve.global"
PAST = timezone.now() - dt.timedelta(days=2)


@pytest.mark.parametrize(
    ("given", "access", "rule"),
    [
        (None, Access(), "no_grant"),
        ({}, Access(), "granted"),
        ({"granted_at": PAST, "expires_at": PAST + dt.timedelta(days=1)}, Access(), "grant_expired"),
        ({"revoked_at": PAST}, Access(), "grant_revoked"),
        ({"conditions": {"allowed_ips": ["10.0.0.0/8"]}}, Access(address="192.0.2.1"), "network"),
        ({"conditions": {"allowed_departments": ["x"]}}, Access(), "department"),
        ({"conditions": {"moon": 1}}, Access(), "conditions"),
        ({}, Access(limit=frozenset()), "impersonator"),
    ],
)
def test_verdict_names_the_rule_and_agrees_with_the_decision(
    given: dict[str, Any] | None, access: Access, rule: str
) -> None:
    user = AdminFactory.create()
    if given is not None:
        grant(user, NAME, **given)
    grants.see(user, access)

    verdict = decisions.explain(user, NAME)

    assert verdict.rule == rule
    assert verdict.allows is user.has_perm(NAME)
    assert verdict.limits["clearance"] == 3


@pytest.mark.parametrize(
    ("values", "name", "rule"),
    [
        ({"security_clearance_level": 2}, NAME, "clearance"),
        ({"is_active": False}, NAME, "account_closed"),
        ({}, "cats.pet.global", "unknown_permission"),
        ({}, "users.read.read_only", "role"),
    ],
)
def test_verdict_about_account_and_role(values: dict[str, Any], name: str, rule: str) -> None:
    user: User = AdminFactory.create(**values)
    grant(user, NAME)

    verdict = decisions.explain(user, name)

    assert verdict.rule == rule
    assert verdict.allows is user.has_perm(name)


def test_factor_that_is_missing_is_named() -> None:
    user = AdminFactory.create()
    grant(user, "users.update.global")
    grants.see(user, Access(second_factor=False))

    assert decisions.explain(user, "users.update.global").rule == "second_factor"


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_caller_is_not_told_and_support_is(client: Client) -> None:
    buyer = BuyerFactory.create()
    session = session_of(buyer)
    headers = {"Authorization": f"Bearer {tokens.issue_access(session).access_token}"}

    refused = client.get("/api/v1/admin/refusals", headers=headers)

    assert refused.status_code == 403
    assert b"ADMIN or SUPERUSER" not in refused.content
    (row,) = decisions.of_request(refused.json()["request_id"])
    assert (row.rule, row.asked, row.user_id) == ("role", "ADMIN or SUPERUSER", buyer.pk)
    assert row.inputs["route"] == "refusals"
    support = session_of(AdminFactory.create(), amr=("pwd", "otp"))
    headers = {"Authorization": f"Bearer {tokens.issue_access(support).access_token}"}
    shown = client.get(
        "/api/v1/admin/refusals", {"request_id": refused.json()["request_id"]}, headers=headers
    )
    assert shown.json()["results"][0]["rule"] == "role"
    assert client.get("/api/v1/admin/refusals", headers=headers).json()["results"] == []


def test_refusal_that_cannot_be_kept_is_still_a_refusal() -> None:
    row = decisions.Verdict("no_grant", {"strange": "\x00"})  # PostgreSQL keeps no NUL

    assert decisions.record("x", row, by=Actor(kind="user", id="nobody")) is None


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_old_refusals_are_deleted() -> None:
    decisions.record("x", decisions.Verdict("no_grant"), by=Actor(kind="anonymous"))
    AccessDecision.objects.using("audit").update(at=timezone.now() - dt.timedelta(days=91))

    assert tasks.purge_decisions(0) == 1
