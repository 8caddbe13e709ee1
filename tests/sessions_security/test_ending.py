"""Ending sessions of other people: who may, by which reason, and once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from django.utils import timezone

from accounts import approvals, hierarchy
from accounts.models import User
from mestore.lib import actor, errors, ids
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from sessions_security import ending, everyone, sessions
from sessions_security.models import UserSession
from tests.factories import accounts as people
from tests.factories import administration
from tests.factories import sessions_security as made

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)
committed = pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])
Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]
REASON = "reported as stolen"


def staff(*names: str) -> Actor:
    user = people.AdminFactory.create()
    people.grant(user, *names)
    return administration.acting(user)


def is_live(session: UserSession) -> bool:
    return UserSession.objects.filter(pk=session.pk, revoked_at=None).exists()


@pytest.mark.parametrize("reason", ["", " " * 20, "too short"])
def test_without_a_reason_nothing_ends(reason: str) -> None:
    session = made.session_of(people.BuyerFactory.create())
    by = staff(ending.PERMISSION)

    for act in (
        lambda: ending.end_one(session, reason=reason, by=by),
        lambda: ending.end_all_of(session.user, reason=reason, by=by),
        lambda: ending.ask_end_everyone(reason=reason, by=by),
    ):
        with pytest.raises(hierarchy.ReasonMissing):
            act()
    assert is_live(session)


@pytest.mark.parametrize(
    "by",
    [
        Actor(kind="anonymous"),
        Actor(kind="user", id="not an id"),
        Actor(kind="user", id=str(ids.uuid7())),
        Actor(kind="machine", id=str(ids.uuid7())),
    ],
    ids=["stranger", "no-id", "nobody", "program"],
)
def test_who_is_nobody_ends_nothing(by: Actor) -> None:
    session = made.session_of(people.BuyerFactory.create())

    with pytest.raises(hierarchy.NotAllowed):
        ending.end_one(session, reason=REASON, by=by)
    with pytest.raises(hierarchy.NotAllowed):
        ending.end_all_of(session.user, reason=REASON, by=by)
    with pytest.raises(hierarchy.NotAllowed):
        ending.ask_end_everyone(reason=REASON, by=by)
    assert is_live(session)


def test_rank_without_the_right_and_the_right_without_rank_are_not_enough() -> None:
    buyer, above = people.BuyerFactory.create(), people.SuperuserFactory.create()
    low, high = made.session_of(buyer), made.session_of(above)

    with pytest.raises(hierarchy.NotAllowed):
        ending.end_one(low, reason=REASON, by=staff())
    with pytest.raises(hierarchy.NotAllowed):
        ending.end_one(high, reason=REASON, by=staff(ending.PERMISSION))
    assert is_live(low)
    assert is_live(high)


def test_whoever_looks_through_other_eyes_ends_nothing_with_that_rank() -> None:
    superuser: User = people.SuperuserFactory.create()
    people.grant(superuser, ending.PERMISSION)
    by = Actor(
        kind="user", id=str(superuser.pk), label=superuser.email, role="SUPERUSER",
        impersonator=str(ids.uuid7()),
    )  # fmt: skip
    session = made.session_of(people.BuyerFactory.create())

    with pytest.raises(hierarchy.NotAllowed):
        ending.end_one(session, reason=REASON, by=by)
    assert is_live(session)


def test_command_on_the_server_is_above_the_hierarchy_but_asks_nobody() -> None:
    session = made.session_of(people.SuperuserFactory.create())

    ending.end_one(session, reason=REASON, by=actor.system("test"))

    assert not is_live(session)
    with pytest.raises(hierarchy.NotAllowed):
        ending.ask_end_everyone(reason=REASON, by=actor.system("test"))


def test_unknown_account_is_not_there() -> None:
    with pytest.raises(errors.NotFound):
        ending.end_all_of(User(pk=ids.uuid7()), reason=REASON, by=staff(ending.PERMISSION))


def test_question_about_everybody_is_asked_once_and_answered_by_another_with_the_right() -> None:
    by = staff(everyone.ASKING)
    asked = ending.ask_end_everyone(reason=REASON, by=by)

    with pytest.raises(approvals.AskedAlready):
        ending.ask_end_everyone(reason=REASON, by=by)
    with pytest.raises(approvals.NotYours):
        approvals.approve(asked.pk, by=by)
    with pytest.raises(approvals.NotYours):
        approvals.approve(asked.pk, by=staff(everyone.ASKING))
    assert asked.expires_at > timezone.now()


@committed
def test_of_many_who_end_one_session_at_once_one_did(race: Race) -> None:
    session = made.session_of(people.BuyerFactory.create())
    actors = [staff(ending.PERMISSION) for _ in range(6)]

    came = race([partial(ending.end_one, session, reason=REASON, by=by) for by in actors])

    assert sorted(type(one).__name__ for one in came) == ["EndedAlready"] * 5 + ["NoneType"]
    assert AuditEvent.objects.filter(type="session.ended", target_id=str(session.pk)).count() == 1


@committed
def test_sign_in_beside_the_end_of_all_either_ends_or_came_after(race: Race) -> None:
    user: User = people.BuyerFactory.create()
    before = [made.session_of(user) for _ in range(3)]
    by = staff(ending.PERMISSION)

    came = race(
        [
            lambda: ending.end_all_of(user, reason=REASON, by=by),
            lambda: sessions.start(user, kind="token", amr=("pwd",), by=made.HERE),
        ]
    )

    assert not any(isinstance(one, BaseException) for one in came)
    assert not any(is_live(session) for session in before)
    ended, begun = came
    assert ended in {3, 4}
    assert is_live(begun) == (ended == 3)
