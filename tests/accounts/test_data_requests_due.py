"""The law's days for an answer do not run out unseen."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone
from procrastinate.contrib.django import app

from accounts import data_requests, data_requests_due, tasks
from accounts.models import DataRequest, User
from monitoring.models import Signal
from monitoring.signals import Severity
from tests.factories.accounts import BuyerFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

# A Monday, a holiday and a working week of Colombia.
FRIDAY, HOLIDAY, TUESDAY = dt.date(2026, 11, 13), dt.date(2026, 11, 16), dt.date(2026, 11, 17)
State = DataRequest.State


def open_until(due_on: dt.date, state: str = State.WAITING) -> DataRequest:
    user: User = BuyerFactory.create()
    made: DataRequest = DataRequest.objects.create(
        person_id=user.pk, kind=DataRequest.Kind.EXPORT, state=state, due_on=due_on,
        decided_at=None if state == State.WAITING else timezone.now(),
    )  # fmt: skip
    return made


def severities() -> dict[str, int]:
    return dict(Signal.objects.filter(rule="data_request.overdue").values_list("entity_id", "severity"))


def test_what_has_time_left_is_no_signal() -> None:
    open_until(TUESDAY + dt.timedelta(days=2))

    assert (data_requests_due.watch(TUESDAY), severities()) == (0, {})


def test_the_last_two_working_days_are_told() -> None:
    """On Friday before the long weekend the second working day left is Tuesday."""
    request = open_until(TUESDAY)

    assert data_requests_due.watch(FRIDAY - dt.timedelta(days=1)) == 0
    assert data_requests_due.watch(FRIDAY) == 1
    assert severities() == {str(request.pk): Severity.MEDIUM}
    assert data_requests_due.watch(HOLIDAY) == 1
    assert data_requests_due.watch(TUESDAY) == 1
    assert severities() == {str(request.pk): Severity.MEDIUM}


@pytest.mark.parametrize("state", [State.WAITING, State.BUILDING])
def test_the_day_after_it_rises_to_high(state: str) -> None:
    request = open_until(TUESDAY, state)
    data_requests_due.watch(TUESDAY)

    assert data_requests_due.watch(TUESDAY + dt.timedelta(days=1)) == 1

    signal = Signal.objects.get()
    assert (signal.entity_type, signal.entity_id) == ("data_request", str(request.pk))
    assert (signal.severity, signal.seen) == (Severity.HIGH, 2)
    assert (signal.evidence[0]["days_overdue"], signal.evidence[0]["state"]) == (1, state)
    assert str(request.person_id) not in str(signal.evidence)


@pytest.mark.parametrize("state", [State.DONE, State.REJECTED, State.CANCELLED])
def test_what_was_answered_is_no_signal(state: str) -> None:
    open_until(FRIDAY, state)

    assert (data_requests_due.watch(TUESDAY), severities()) == (0, {})


def test_the_most_urgent_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_requests_due, "MOST", 1)
    open_until(TUESDAY)
    first = open_until(FRIDAY)

    assert data_requests_due.watch(TUESDAY + dt.timedelta(days=1)) == 1
    assert set(severities()) == {str(first.pk)}


def test_a_worker_looks_every_hour() -> None:
    periodic = {one.task.name: one.cron for one in app.periodic_registry.periodic_tasks.values()}
    open_until(data_requests.today() - dt.timedelta(days=1))

    assert periodic["accounts.data_requests_due"] == "29 * * * *"
    assert tasks.watch_data_requests.func(timestamp=0) == 1
