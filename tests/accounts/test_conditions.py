from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from accounts import conditions, grants
from accounts.conditions import Access
from accounts.models import GrantUse, Permission
from tests.factories.accounts import AdminFactory, grant

WORKDAY = {"from": "08:00", "to": "18:00", "days": [1, 2, 3, 4, 5]}
NIGHT = {"from": "22:00", "to": "06:00", "days": [5]}


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=conditions.BOGOTA)


def obstacle(
    given: Any, *, now: str = "2026-03-04T12:00", address: str | None = None, department: str = ""
) -> str:
    return conditions.obstacle(given, now=at(now).astimezone(dt.UTC), address=address, department=department)


@pytest.mark.parametrize(
    "given",
    [
        [], "always", 1, {"phase_of_moon": "full"}, {"allowed_hours": "9-5"}, {"allowed_hours": {}},
        {"allowed_hours": {"from": "24:00", "to": "06:00"}}, {"allowed_hours": {"from": "08:00"}},
        {"allowed_hours": {"from": "٠٨:00", "to": "18:00"}},
        {"allowed_hours": {"from": "08:00", "to": "08:00"}},
        {"allowed_hours": {**WORKDAY, "days": []}}, {"allowed_hours": {**WORKDAY, "days": [0]}},
        {"allowed_hours": {**WORKDAY, "days": [True]}}, {"allowed_hours": {**WORKDAY, "zone": "UTC"}},
        {"allowed_ips": []}, {"allowed_ips": "10.0.0.0/8"}, {"allowed_ips": ["10.0.0.0/33"]},
        {"allowed_ips": ["10.0.0.1"] * 51}, {"allowed_departments": [""]}, {"allowed_departments": ["a\x00"]},
        {"allowed_departments": [1]},
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused_and_never_holds(given: Any) -> None:
    with pytest.raises(conditions.BadCondition):
        conditions.check(given)
    assert obstacle(given) == "conditions"


@pytest.mark.parametrize(
    ("hours", "now", "holds"),
    [
        (WORKDAY, "2026-03-04T08:00", True),
        (WORKDAY, "2026-03-04T17:59", True),
        (WORKDAY, "2026-03-04T18:00", False),
        (WORKDAY, "2026-03-04T07:59", False),
        (WORKDAY, "2026-03-07T12:00", False),  # a Saturday
        (NIGHT, "2026-03-06T22:00", True),  # Friday
        (NIGHT, "2026-03-07T05:59", True),  # the night of Friday
        (NIGHT, "2026-03-07T06:00", False),
        (NIGHT, "2026-03-07T22:00", False),
        (NIGHT, "2026-03-06T05:00", False),  # the night of Thursday
        ({"from": "22:00", "to": "06:00", "days": [7]}, "2026-03-09T03:00", True),  # Monday, begun on Sunday
    ],
)
def test_hours_are_those_of_bogota(hours: Any, now: str, holds: bool) -> None:
    assert (obstacle({"allowed_hours": hours}, now=now) == "") is holds


@pytest.mark.parametrize(
    ("address", "holds"),
    [
        ("10.9.8.7", True), ("::ffff:10.9.8.7", True), ("11.0.0.1", False), ("2001:db8::1", False),
        (None, False), ("", False), ("nonsense", False),
    ],
)  # fmt: skip
def test_network_must_be_known_and_allowed(address: str | None, holds: bool) -> None:
    assert (obstacle({"allowed_ips": ["10.0.0.0/8"]}, address=address) == "") is holds


def test_department_must_be_one_of_them() -> None:
    given = {"allowed_departments": ["finance"]}

    assert obstacle(given, department="finance") == ""
    assert obstacle(given) == obstacle(given, department="sales") == "department"


def test_everything_must_hold_and_nothing_means_always() -> None:
    both = {"allowed_ips": ["10.0.0.0/8"], "allowed_hours": WORKDAY}

    assert obstacle(both, address="10.0.0.1") == ""
    assert obstacle(both, address="10.0.0.1", now="2026-03-04T20:00") == "hours"
    assert obstacle(None) == obstacle({}) == ""


# --- What the permission table makes of them --------------------------------------------------------------


@pytest.mark.django_db(databases=["default", "audit"])
def test_conditions_of_permission_and_grant_must_both_hold() -> None:
    user = AdminFactory.create()
    grant(user, "analytics.read.global", conditions={"allowed_ips": ["10.0.0.0/8"]})
    Permission.objects.filter(name="analytics.read.global").update(
        conditions={"allowed_departments": ["finance"]}
    )

    assert not user.has_perm("analytics.read.global")  # nobody said from where
    grants.see(user, Access(address="10.0.0.1"))
    assert not user.has_perm("analytics.read.global")
    user.department_id = "finance"
    grants.forget(user)
    assert user.has_perm("analytics.read.global")
    grants.see(user, Access(address="192.0.2.1"))
    assert not user.has_perm("analytics.read.global")
    assert "analytics.read.global" in grants.held(user)


@pytest.mark.django_db(databases=["default", "audit"])
def test_permission_that_needs_a_factor_counts_only_where_one_was_proved() -> None:
    user = AdminFactory.create()
    grant(user, "users.update.global")

    grants.see(user, Access(second_factor=False))
    assert not user.has_perm("users.update.global")
    grants.see(user, Access(second_factor=True))
    assert user.has_perm("users.update.global")


@pytest.mark.django_db(databases=["default", "audit"])
def test_use_is_noted_once_an_hour_and_only_of_grants(django_assert_num_queries: Any) -> None:
    user = AdminFactory.create()
    (given,) = grant(user, "analytics.read.global")

    grants.note_use(user, "users.read.read_only")
    grants.note_use(user, "commissions.manage.global")
    assert not GrantUse.objects.exists()
    grants.note_use(user, "analytics.read.global")
    first = GrantUse.objects.get(grant=given).last_used_at
    grants.forget(user)
    user.has_perm("analytics.read.global")
    with django_assert_num_queries(0):
        grants.note_use(user, "analytics.read.global")
    GrantUse.objects.update(last_used_at=timezone.now() - dt.timedelta(hours=2))
    grants.forget(user)
    grants.note_use(user, "analytics.read.global")

    assert GrantUse.objects.get(grant=given).last_used_at >= first


@pytest.mark.django_db(databases=["default", "audit"])
def test_closed_account_holds_nothing() -> None:
    user = AdminFactory.create(is_active=False)
    grant(user, "analytics.read.global")

    assert grants.held(user) == frozenset()
