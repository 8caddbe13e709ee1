"""What the integrity page says about guards, hour by hour, and about nightly runs that did not happen."""

from __future__ import annotations

import datetime as dt
import html

import psycopg
import pytest

from mestore.lib import actor, ids, sql
from mestore.lib.console import State
from monitoring import guards_seen, integrity_figures, integrity_guards, overdue, verifications
from monitoring.guards_seen import Day, Look
from monitoring.verifications import Mode, Plan
from tests.console import house
from tests.console.test_pages import STATEMENTS, _offences, _statements

PAGE = "/admin/integrity/"
ENGLISH = {"accept-language": "en"}
BY = actor.system("test")
NOW = dt.datetime(2026, 3, 4, 17, 30, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
OFF = "ALTER TABLE accounts_grant DISABLE TRIGGER audit_capture_update"
ON = "ALTER TABLE accounts_grant ENABLE ALWAYS TRIGGER audit_capture_update"


def look(*, is_whole: bool = True) -> Look:
    first = () if is_whole else ("changes of accounts_grant are not captured",)
    return Look(NOW.replace(minute=0), NOW, is_whole, 37, first)


def test_a_house_in_which_nobody_looked_yet_claims_nothing() -> None:
    panel = integrity_guards.figure(Day(None, ()))

    assert (panel.state, panel.is_known) == (State.UNKNOWN, False)
    assert "does a worker run" in str(panel.detail)


def test_hours_without_any_look_are_counted() -> None:
    panel = integrity_guards.figure(Day(None, (NOW, NOW + HOUR)))

    assert panel.state is State.UNKNOWN
    assert panel.detail == "2 hours of the last day without a look"


def test_every_hour_was_seen() -> None:
    panel = integrity_guards.figure(Day(look(), ()))

    assert (panel.state, panel.value, panel.as_of) == (State.GOOD, "in place", NOW)
    assert panel.detail == "37 watched tables"


def test_a_missing_hour_asks_for_a_person() -> None:
    panel = integrity_guards.figure(Day(look(), (NOW - HOUR,)))

    assert panel.state is State.WARNING
    assert panel.detail == "37 watched tables; 1 hour of the last day without a look"


def test_guards_that_are_not_whole_are_critical_whatever_else_is() -> None:
    panel = integrity_guards.figure(Day(look(is_whole=False), (NOW - HOUR,)))

    assert (panel.state, panel.value) == (State.CRITICAL, "not whole")
    assert str(panel.detail).startswith("changes of accounts_grant are not captured; 1 hour")


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_page_says_what_the_last_look_saw(superuser_dsn: str) -> None:
    visitor = house.visitor(permissions=(house.AUDIT,))
    before = visitor.client.get(PAGE, headers=ENGLISH).content.decode()
    with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
        superuser.execute(OFF)
        try:
            guards_seen.look(by=BY)
        finally:
            superuser.execute(ON)

    answer = html.unescape(visitor.client.get(PAGE, headers=ENGLISH).content.decode())

    assert "Guards of the trail" in before
    assert "not whole" not in before
    assert "not whole" in answer
    assert "accounts_grant" in answer
    assert not list(_offences(answer))
    assert _statements(visitor.client, PAGE) <= STATEMENTS


RUN = """
INSERT INTO audit_verification (id, mode, epoch, first_leaf, upto, size, started_at, finished_at, actor)
SELECT %s, 'full', epoch, 0, 0, 0, %s, %s, 'test' FROM audit_tree
"""


@pytest.mark.django_db(databases=["default", "audit"])
@pytest.mark.parametrize(
    ("late", "state"), [(dt.timedelta(0), State.GOOD), (dt.timedelta(seconds=1), State.WARNING)]
)
def test_a_full_verification_that_is_two_nights_old_asks_for_a_person(
    late: dt.timedelta, state: State
) -> None:
    begun = NOW - overdue.LIMIT - late
    sql.execute(RUN, (ids.uuid7(), begun, begun))

    assert integrity_figures.verified(integrity_figures.read_runs(), NOW).state is state


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_runs_of_each_minute_do_not_hide_the_last_full_one() -> None:
    assert integrity_figures.verified([], NOW).state is State.UNKNOWN
    verifications.verify(Plan(Mode.FULL), by=BY)
    for _minute in range(25):
        verifications.verify(Plan(is_scheduled=True), by=BY)

    runs = integrity_figures.read_runs()
    assert [run.mode for run in runs] == [Mode.TAIL] * 20 + [Mode.FULL]
    assert integrity_figures.verified(runs, NOW).value == "sound"
