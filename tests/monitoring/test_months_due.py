"""Nothing retires by itself, so a month that is past its time is told to people until it is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from procrastinate.contrib.django import app

from monitoring import months_due, tasks
from monitoring.archives import named
from monitoring.models import Signal
from tests.monitoring import months, retiring
from tests.monitoring.retiring import NEXT, OLD, Trail

pytestmark = pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)

# The trail of these tests begins with a month in which nothing happened: it is due like any other.
EMPTY = months.first_day(27)


@pytest.fixture
def trail(owner_dsn: str, tmp_path: Path, settings: Any) -> Iterator[Trail]:
    with retiring.past(owner_dsn, tmp_path, settings) as made:
        yield made


def told() -> dict[str, str]:
    """Month and its state, as the newest evidence says."""
    rows = Signal.objects.filter(rule="audit.month_due", entity_type="audit_month")
    return {row.entity_id: row.evidence[0]["state"] for row in rows}


def test_months_that_are_held_are_no_signal() -> None:
    assert (months_due.watch(), told()) == (0, {})


def test_each_month_is_told_until_it_is_gone(trail: Trail) -> None:
    assert months_due.watch() == 3
    assert told() == {named(EMPTY): "due", named(OLD): "due", named(NEXT): "due"}

    retiring.decide(trail)
    months_due.watch()
    assert told() == {named(EMPTY): "due", named(OLD): "decided", named(NEXT): "due"}

    assert retiring.retire(trail)[0] == 0
    assert months_due.watch() == 2
    assert Signal.objects.get(entity_id=named(OLD)).seen == 2
    signal = Signal.objects.get(entity_id=named(NEXT))
    assert (signal.seen, signal.evidence[0]["days_overdue"] >= 0) == (3, True)


def test_a_month_whose_retirement_waits_for_a_second_person_is_told(trail: Trail) -> None:
    assert retiring.retire(trail)[0] == 3
    months_due.watch()

    assert told()[named(OLD)] == "archived"


def test_after_years_the_oldest_are_told(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(months_due, "MOST", 1)

    assert (months_due.watch(), set(told())) == (1, {named(EMPTY)})


def test_a_worker_looks_every_hour(trail: Trail) -> None:
    periodic = {one.task.name: one.cron for one in app.periodic_registry.periodic_tasks.values()}

    assert periodic["monitoring.watch_months"] == "11 * * * *"
    assert tasks.watch_months.func(timestamp=0) == 3
