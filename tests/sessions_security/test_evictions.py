"""Told about being signed out by one's own limit, once an hour; looked at when it happens again and again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from monitoring import delivery
from monitoring.outbox import OutboxMessage
from monitoring.signals import Signal
from sessions_security import sessions
from sessions_security.models import UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


def evict(user: User, times: int) -> None:
    """Sign in until the limit was exceeded `times` times."""
    while UserSession.objects.filter(user=user, revoked_why="limit").count() < times:
        made.session_of(user)


def told(user: User) -> int:
    return OutboxMessage.objects.filter(subject=str(user.pk), template="session_evicted").count()


def test_within_the_limit_nobody_is_told() -> None:
    user = people.BuyerFactory.create()

    for _session in range(5):
        made.session_of(user)

    assert told(user) == 0


def test_person_is_told_where_the_new_sign_in_came_from() -> None:
    user = people.BuyerFactory.create()
    for _session in range(5):
        made.session_of(user)

    made.session_of(user, by=replace(made.HERE, address="198.51.100.9", agent="Firefox/1\r\nBcc: x"))
    delivery.send(OutboxMessage.objects.get(template="session_evicted").pk)

    assert mail.outbox[0].to == [user.email]
    assert "198.51.100.9" in mail.outbox[0].body
    assert "\nBcc" not in mail.outbox[0].body


def test_one_mail_an_hour() -> None:
    user, other = people.BuyerFactory.create(), people.BuyerFactory.create()

    evict(user, 3)
    evict(other, 1)

    assert (told(user), told(other)) == (1, 1)


def test_staff_is_told_each_time() -> None:
    user = people.SuperuserFactory.create()

    evict(user, 3)

    assert told(user) == 3


def test_sign_in_that_fails_tells_nobody() -> None:
    user = people.SuperuserFactory.create()
    made.session_of(user)

    with transaction.atomic():
        made.session_of(user)
        transaction.set_rollback(True)

    assert told(user) == 0


def test_account_that_runs_into_its_limit_often_is_one_signal_that_counts() -> None:
    user = people.VendorFactory.create()

    evict(user, 4)
    assert not Signal.objects.exists()
    evict(user, 6)

    signal = Signal.objects.get(rule="sessions.evictions")
    assert signal.entity_id == str(user.pk)
    assert signal.seen == 2


def test_evictions_of_earlier_days_do_not_count() -> None:
    user = people.VendorFactory.create()
    evict(user, 4)
    UserSession.objects.filter(revoked_why="limit").update(revoked_at=timezone.now() - timedelta(hours=25))

    evict(user, 8)

    assert not Signal.objects.exists()


def test_machine_that_asks_for_tokens_all_day_is_neither_told_nor_watched(settings: Any) -> None:
    client, _key = made.machine()
    settings.SESSION_POLICY = {
        **settings.SESSION_POLICY,
        "SYSTEM": {**settings.SESSION_POLICY["SYSTEM"], "max_sessions": 1},
    }

    for _token in range(8):
        sessions.start(client.user, kind="token", amr=("key",), by=made.HERE, client=client)

    assert UserSession.objects.filter(revoked_why="limit").count() == 7
    assert not OutboxMessage.objects.exists()
    assert not Signal.objects.exists()
