"""Counting live sessions every five minutes: one statement, one row, nobody's name."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sessions_security import samples
from sessions_security.models import SessionCutoff, SessionSample, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


def aged(session: UserSession, hours: float) -> None:
    UserSession.objects.filter(pk=session.pk).update(created_at=F("created_at") - dt.timedelta(hours=hours))


def test_nothing_live_is_a_sample_of_nothing_and_no_sample_is_none() -> None:
    assert samples.newest() is None

    samples.sample()

    newest = samples.newest()
    assert newest is not None
    assert (newest.live, newest.ages, newest.of_kind("cookie")) == ({}, {}, 0)


def test_live_sessions_are_counted_by_role_kind_and_age_and_others_not() -> None:
    buyer, admin = people.BuyerFactory.create(), people.AdminFactory.create()
    aged(made.session_of(buyer), 3.5)
    made.session_of(buyer, kind="cookie")
    made.session_of(admin, kind="cookie")
    ended = made.session_of(buyer)
    UserSession.objects.filter(pk=ended.pk).update(revoked_at=timezone.now(), revoked_why="test")
    idle = made.session_of(people.BuyerFactory.create())
    UserSession.objects.filter(pk=idle.pk).update(idle_expires_at=timezone.now())
    closed = people.BuyerFactory.create()
    made.session_of(closed)
    type(closed).objects.filter(pk=closed.pk).update(is_active=False)

    samples.sample()

    newest = samples.newest()
    assert newest is not None
    assert newest.live == {"BUYER": {"token": 1, "cookie": 1}, "ADMIN": {"cookie": 1}}
    assert newest.ages == {0: 2, 3: 1}
    assert newest.of_kind("cookie") == 2


def test_end_of_everybodys_sessions_leaves_none_to_count() -> None:
    made.session_of(people.BuyerFactory.create())
    SessionCutoff.objects.create(at=timezone.now(), reason="a drill", asked_by="a", approved_by="b")

    samples.sample()

    newest = samples.newest()
    assert newest is not None
    assert newest.ages == {}


def test_second_worker_in_the_same_five_minutes_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    samples.sample()
    made.session_of(people.BuyerFactory.create())
    samples.sample()

    assert SessionSample.objects.count() == 1
    newest = samples.newest()
    assert newest is not None
    assert newest.ages == {}
    assert newest.at.second == 0
    assert newest.at.minute % 5 == 0


def test_old_samples_go_and_those_of_thirty_days_stay() -> None:
    now = timezone.now()
    for days in (29, 31):
        SessionSample.objects.create(at=now - dt.timedelta(days=days), live={}, ages={})

    samples.sample()

    assert len(samples.since(now - dt.timedelta(days=40))) == 2


def test_sample_takes_three_statements_however_many_are_signed_in() -> None:
    for _ in range(7):
        made.session_of(people.BuyerFactory.create())

    with CaptureQueriesContext(connection) as statements:
        samples.sample()

    wanted = [one["sql"] for one in statements if not one["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    assert len(wanted) == 3


def test_worker_knows_the_task() -> None:
    from procrastinate.contrib.django import app

    assert "sessions_security.sample" in app.tasks
