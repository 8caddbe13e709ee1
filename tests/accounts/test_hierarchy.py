"""Who stands above whom, asked of the one module that says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from accounts import hierarchy
from accounts.hierarchy import Authority, NotAllowed, ReasonMissing
from accounts.models import User
from accounts.roles import Role
from mestore.lib import actor
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from tests.factories.accounts import (
    AdminFactory,
    BuyerFactory,
    MachineFactory,
    SuperuserFactory,
    VendorFactory,
    grant,
)

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


def _as(user: User, **values: Any) -> Actor:
    given = {"kind": "user", "id": str(user.pk), "label": user.email, "role": user.user_type}
    return Actor(**(given | values))


def _why() -> list[str]:
    rows = AuditEvent.objects.using("audit").filter(type="user.administration_refused").order_by("id")
    return [json.loads(bytes(row.canon))["data"]["why"] for row in rows]


def _held(by: Actor) -> Authority:
    with transaction.atomic():
        return hierarchy.hold(by, []).authority


BOTH = [hierarchy.authority_of, _held]


@pytest.mark.parametrize("ask", BOTH)
def test_nobody_acts_through_another_persons_eyes(ask: Callable[[Actor], Authority]) -> None:
    boss = SuperuserFactory.create()

    with pytest.raises(NotAllowed):
        ask(_as(boss, impersonator=str(uuid4())))

    assert _why() == ["impersonated"]
    assert ask(_as(boss)).user == boss


@pytest.mark.parametrize("ask", BOTH)
@pytest.mark.parametrize(
    "values", [{"kind": "machine"}, {"kind": "anonymous"}, {"id": None}, {"id": "x"}, {"id": str(uuid4())}]
)
def test_who_is_nobody_has_no_authority(ask: Callable[[Actor], Authority], values: dict[str, Any]) -> None:
    with pytest.raises(NotAllowed):
        ask(_as(SuperuserFactory.create(), **values))

    assert _why() == ["nobody"]


@pytest.mark.parametrize("ask", BOTH)
@pytest.mark.parametrize("closed", ["is_active", "deleted_at"])
def test_closed_account_has_no_authority(ask: Callable[[Actor], Authority], closed: str) -> None:
    boss = SuperuserFactory.create()
    changes: dict[str, Any] = {"is_active": False}
    changes |= {"deleted_at": boss.created_at} if closed == "deleted_at" else {}
    User.objects.filter(pk=boss.pk).update(**changes)

    with pytest.raises(NotAllowed):
        ask(_as(boss))

    assert _why() == ["nobody"]


@pytest.mark.parametrize("ask", BOTH)
def test_command_of_the_server_is_above_all(ask: Callable[[Actor], Authority]) -> None:
    authority = ask(actor.system("test"))

    assert authority.user is None
    assert hierarchy.obstacle(authority, Role.SUPERUSER, 5) == ""
    hierarchy.demand_right(authority, "users.manage.global", actor.system("test"))


def test_what_is_held_is_what_was_asked_for() -> None:
    boss, one, other = SuperuserFactory.create(), BuyerFactory.create(), BuyerFactory.create()

    with transaction.atomic():
        held = hierarchy.hold(_as(boss), [one.pk, uuid4()])
        with_oneself = hierarchy.hold(_as(boss), [boss.pk, other.pk])
        by_command = hierarchy.hold(actor.system("test"), [one.pk])

    assert set(held.users) == {one.pk}
    assert set(with_oneself.users) == {boss.pk, other.pk}
    assert set(by_command.users) == {one.pk}


@pytest.mark.parametrize("make", [BuyerFactory, VendorFactory, AdminFactory])
@pytest.mark.parametrize("role", [Role.ADMIN, Role.SUPERUSER])
def test_nobody_below_the_superusers_reaches_the_staff(make: Any, role: Role) -> None:
    assert hierarchy.obstacle(Authority(make.create()), role, 1) == "rank"


@pytest.mark.parametrize(
    ("own", "theirs", "strictly", "why"),
    [
        (4, 3, False, ""), (4, 4, False, ""), (4, 5, False, "clearance"),
        (4, 3, True, ""), (4, 4, True, "clearance"), (4, 5, True, "clearance"),
    ],
)  # fmt: skip
def test_clearance_bounds_whom_one_reaches(own: int, theirs: int, strictly: bool, why: str) -> None:
    acting = Authority(SuperuserFactory.create(security_clearance_level=own))
    target = AdminFactory.create(security_clearance_level=theirs)

    assert hierarchy.obstacle_over(acting, target, strictly=strictly) == why
    if why:
        with pytest.raises(NotAllowed):
            hierarchy.demand_over(acting, target, _as(target), strictly=strictly)
        assert _why() == [why]


def test_nobody_administers_themselves() -> None:
    boss = SuperuserFactory.create()

    assert hierarchy.obstacle_over(Authority(boss), boss) == "oneself"
    assert hierarchy.obstacle_over(Authority(None), boss) == ""


def test_right_is_asked_of_the_table_of_permissions() -> None:
    boss = SuperuserFactory.create()
    with pytest.raises(NotAllowed):
        hierarchy.demand_right(Authority(boss), "users.manage.global", _as(boss))
    grant(boss, "users.manage.global")

    hierarchy.demand_right(Authority(User.objects.get(pk=boss.pk)), "users.manage.global", _as(boss))

    assert _why() == ["not_held"]


def test_machine_is_reached_by_superusers_only_as_the_table_says() -> None:
    machine = MachineFactory.create()

    assert hierarchy.obstacle_over(Authority(BuyerFactory.create()), machine) == "rank"


@pytest.mark.parametrize(
    ("reason", "enough"), [("a" * 10, True), ("a" * 9, False), (" " * 10 + "a" * 9, False)]
)
def test_reason_has_ten_characters_that_say_something(reason: str, enough: bool) -> None:
    if enough:
        hierarchy.demand_reason(reason)
    else:
        with pytest.raises(ReasonMissing) as refused:
            hierarchy.demand_reason(reason)
        assert [error.field for error in refused.value.details or []] == ["reason"]
