"""Everybody's sessions end with one row, for cookie, token and refresh alike, and stay ended."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from psycopg import errors as pg

from accounts import approvals, hierarchy
from accounts.models import User
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from sessions_security import cutoffs, everyone, selectors, session_check, sessions
from sessions_security.models import PendingSignIn, RefreshToken, SessionCutoff, SessionSecret, UserSession
from tests.console import house
from tests.factories import accounts as people
from tests.factories import sessions_security as made

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)
committed = pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])

REASON = "the front end leaked its logs"
Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]


def acting(user: User) -> Actor:
    return Actor(kind="user", id=str(user.pk), label=user.email, role=user.user_type, second_factor=True)


def superuser() -> User:
    user = people.SuperuserFactory.create()
    people.grant(user, everyone.ASKING, everyone.APPROVING)
    return user


def end_everyone() -> SessionCutoff:
    return sessions.end_everyone(reason=REASON, asked_by="somebody", by=made.HERE)


def me(access_token: str) -> int:
    headers = {"Authorization": f"Bearer {access_token}"}
    return Client().get("/api/v1/auth/me", headers=headers).status_code


def refresh(refresh_token: str) -> int:
    body = json.dumps({"refresh_token": refresh_token})
    answer = Client().post("/api/v1/auth/refresh-token", body, content_type="application/json")
    return answer.status_code


def is_in_console(browser: Client) -> bool:
    return "/login/" not in browser.get("/admin/").headers.get("Location", "")


# Who may


def test_one_person_alone_does_not_end_everybodys_sessions() -> None:
    boss = superuser()
    _session, pair = made.tokens_of(people.BuyerFactory.create())
    asked = approvals.ask(everyone.PROCEDURE, target=("sessions", "everyone"), reason=REASON, by=acting(boss))

    with pytest.raises(approvals.NotYours):
        approvals.approve(asked.pk, by=acting(boss))
    with pytest.raises(IntegrityError), transaction.atomic():
        sessions.end_everyone(reason=REASON, asked_by=str(boss.pk), by=acting(boss))

    assert me(pair.access_token) == 200
    assert not SessionCutoff.objects.exists()


def test_who_lacks_the_permission_does_not_approve() -> None:
    asked = approvals.ask(
        everyone.PROCEDURE, target=("sessions", "everyone"), reason=REASON, by=acting(superuser())
    )

    with pytest.raises(approvals.NotYours):
        approvals.approve(asked.pk, by=acting(people.SuperuserFactory.create()))

    assert not SessionCutoff.objects.exists()


def test_who_asked_and_lost_the_permission_has_not_asked() -> None:
    asker = people.SuperuserFactory.create()
    asked = approvals.ask(
        everyone.PROCEDURE, target=("sessions", "everyone"), reason=REASON, by=acting(asker)
    )

    with pytest.raises(hierarchy.NotAllowed):
        approvals.approve(asked.pk, by=acting(superuser()))

    assert not SessionCutoff.objects.exists()


# What ends


@committed
def test_two_people_end_cookie_token_and_refresh_on_the_very_next_request_their_own_too() -> None:
    asker, second = superuser(), superuser()
    browser = house.enter(asker, people.TotpDeviceFactory.create(user=asker))
    _session, pair = made.tokens_of(people.BuyerFactory.create())
    client, _key = made.machine()
    machine = made.machine_bearer(client)["Authorization"].removeprefix("Bearer ")
    assert (me(pair.access_token), me(machine), is_in_console(browser)) == (200, 200, True)
    asked = approvals.ask(
        everyone.PROCEDURE, target=("sessions", "everyone"), reason=REASON, by=acting(asker)
    )

    approvals.approve(asked.pk, by=acting(second))

    assert (me(pair.access_token), me(machine), is_in_console(browser)) == (401, 401, False)
    assert refresh(pair.refresh_token or "") == 401
    cutoff = SessionCutoff.objects.get()
    assert (cutoff.asked_by, cutoff.approved_by) == (str(asker.pk), str(second.pk))
    assert AuditEvent.objects.filter(type="session.everyone_ended", actor_id=str(second.pk)).count() == 1
    assert not AuditEvent.objects.filter(type="session.ended").exists()


def test_whoever_signs_in_afterwards_is_in() -> None:
    user = people.BuyerFactory.create()
    end_everyone()

    _session, pair = made.tokens_of(user)

    assert me(pair.access_token) == 200


def test_a_sign_in_that_waits_for_its_second_factor_is_over() -> None:
    now = timezone.now()
    PendingSignIn.objects.create(
        user=people.AdminFactory.create(), token_hash=b"x" * 32, purpose="admin", auth_epoch=0,
        created_at=now, expires_at=now + dt.timedelta(minutes=5),
    )  # fmt: skip

    end_everyone()

    assert not PendingSignIn.objects.filter(used_at=None).exists()


def test_session_dated_ahead_by_a_fast_clock_ends_as_well() -> None:
    session, _pair = made.tokens_of(people.BuyerFactory.create())
    UserSession.objects.filter(pk=session.pk).update(created_at=timezone.now() + dt.timedelta(minutes=3))

    end_everyone()

    session.refresh_from_db()
    assert session.revoked_why == sessions.EVERYONE
    assert session_check.by_token(session.pk, session.user_id, address="127.0.0.1") is None
    assert not RefreshToken.objects.filter(session=session).exists()


def test_old_row_that_is_put_back_stays_dead() -> None:
    session, pair = made.tokens_of(people.BuyerFactory.create())
    end_everyone()
    everyone.mark()

    UserSession.objects.filter(pk=session.pk).update(revoked_at=None, revoked_why="", revoked_by="")

    assert me(pair.access_token) == 401
    everyone.mark()
    session.refresh_from_db()
    assert session.revoked_why == sessions.EVERYONE


def test_lists_counts_and_limits_leave_out_what_was_cut_off() -> None:
    user = people.SuperuserFactory.create()
    old = made.session_of(user)
    end_everyone()

    new = made.session_of(user)

    old.refresh_from_db()
    assert old.revoked_at is None  # not "evicted": it was over already
    assert list(sessions.live(user)) == [new]
    assert [session.pk for session in selectors.live_sessions()] == [new.pk]
    assert sum(count.sessions for count in selectors.live_counts()) == 1
    assert list(UserSession.objects.filter(cutoffs.not_cut_off())) == [new]


# How it is kept


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE sessions_security_sessioncutoff SET at = '-infinity'",
        "DELETE FROM sessions_security_sessioncutoff",
        "TRUNCATE sessions_security_sessioncutoff",
    ],
)
def test_the_application_cannot_take_it_back(app_dsn: str, attack: Any) -> None:
    with psycopg.connect(app_dsn) as runtime, pytest.raises(pg.InsufficientPrivilege):
        runtime.execute(attack)


def test_reason_is_not_kept_in_clear_in_the_trail() -> None:
    end_everyone()

    event = AuditEvent.objects.get(type="session.everyone_ended")
    assert REASON.encode() not in bytes(event.canon)


# What the worker does afterwards


def test_marking_takes_batches_and_tells_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for _number in range(5):
        made.tokens_of(people.BuyerFactory.create())
    made.cookie_of(people.AdminFactory.create())
    end_everyone()
    new, _pair = made.tokens_of(people.BuyerFactory.create())
    seen: list[int] = []

    assert everyone.mark(batch=2, progress=seen.append) == 6
    assert everyone.mark(batch=2) == 0

    assert seen == [2, 4, 6]
    assert list(UserSession.objects.filter(revoked_at=None)) == [new]
    assert set(UserSession.objects.exclude(pk=new.pk).values_list("revoked_why", flat=True)) == {"everyone"}
    assert not SessionSecret.objects.exists()
    assert RefreshToken.objects.get().session_id == new.pk
    assert AuditEvent.objects.filter(type="session.everyone_marked").count() == 1


@committed
def test_two_workers_mark_each_session_once(race: Race) -> None:
    for _number in range(6):
        made.session_of(people.BuyerFactory.create())
    end_everyone()

    counts = race([partial(everyone.mark, batch=1)] * 2)

    assert sum(counts) + everyone.mark() == 6


@committed
def test_sign_ins_during_the_end_are_dead_or_began_after_it(race: Race) -> None:
    users = people.BuyerFactory.create_batch(6)

    outcomes = race([*(partial(made.session_of, user) for user in users[:3]), end_everyone,
                     *(partial(made.session_of, user) for user in users[3:])])  # fmt: skip

    cutoff = SessionCutoff.objects.get()
    for session in (found for found in outcomes if isinstance(found, UserSession)):
        is_alive = session_check.by_token(session.pk, session.user_id, address="127.0.0.1") is not None
        assert not (is_alive and session.created_at <= cutoff.at)
        # One that began after the moment and was there before the end was committed looks like one dated by
        # a clock that runs ahead: it is ended by its own row, never for another reason.
        session.refresh_from_db()
        if session.created_at > cutoff.at:
            assert is_alive or session.revoked_why == sessions.EVERYONE


# All sessions of one account


def test_end_of_many_takes_few_statements_and_every_session_has_its_event() -> None:
    user = people.VendorFactory.create()
    pattern, _pair = made.tokens_of(user)
    others = [_copy(pattern) for _number in range(2_500)]
    UserSession.objects.bulk_create(others)

    with CaptureQueriesContext(connection) as queries:
        ended = sessions.end_all(user, by=made.HERE, why="console", keep=others[0].pk, reason=REASON)

    assert ended == 2_500
    assert len(queries.captured_queries) <= 3 * 3 + 4  # batches of 1,000; the last one finds nothing
    assert AuditEvent.objects.filter(type="session.ended").count() == 2_500
    assert not RefreshToken.objects.filter(session=pattern).exists()
    assert list(UserSession.objects.filter(revoked_at=None)) == [others[0]]


def test_end_takes_the_refresh_tokens_with_it() -> None:
    session, pair = made.tokens_of(people.BuyerFactory.create())

    sessions.end(session, by=made.HERE, why="sign_out")

    assert not RefreshToken.objects.exists()
    assert refresh(pair.refresh_token or "") == 401


def test_eviction_takes_cookie_and_refresh_tokens_with_it() -> None:
    user = people.SuperuserFactory.create()
    made.tokens_of(user)
    first, _cookie = made.cookie_of(user)
    made.cookie_of(user)
    newest, _pair = made.tokens_of(user)

    assert not SessionSecret.objects.filter(session=first).exists()
    assert RefreshToken.objects.get().session_id == newest.pk


@committed
def test_end_does_not_wait_for_who_holds_a_secret(race: Race) -> None:
    session, pair = made.tokens_of(people.BuyerFactory.create())
    with transaction.atomic():
        RefreshToken.objects.select_for_update().get(session=session)

        def end() -> bool:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '2s'")
                return sessions.end(session, by=made.HERE, why="console")

        assert race([end]) == [True]

    assert me(pair.access_token) == 401
    assert refresh(pair.refresh_token or "") == 401


def _copy(pattern: UserSession) -> UserSession:
    names = [field.attname for field in UserSession._meta.concrete_fields if not field.primary_key]
    return UserSession(**{name: getattr(pattern, name) for name in names})
