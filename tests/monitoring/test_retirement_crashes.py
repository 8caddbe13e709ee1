"""Ending a month of the trail, killed anywhere, done twice at once, and while others read and write."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import transaction

from accounts import retirements
from mestore.lib import sql
from mestore.lib.actor import Actor
from monitoring import (
    archiving,
    audit,
    events,
    retirement,
    sequencer,
)
from monitoring.retirement import State
from monitoring.verifications import Mode, Plan
from monitoring.verifications import verify as verify_log
from tests.monitoring import retiring
from tests.monitoring.retiring import (
    BY,
    OLD,
    WHY,
    Trail,
    approve,
    archive_of,
    decide,
    gone,
    is_there,
    retire,
    verified,
)
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)


@pytest.fixture
def trail(owner_dsn: str, tmp_path: Path, settings: Any) -> Iterator[Trail]:
    with retiring.past(owner_dsn, tmp_path, settings) as made:
        yield made


# --- Crashes -----------------------------------------------------------------------------------------------


def test_killed_before_the_archive_is_on_record(trail: Trail, superuser_dsn: str) -> None:
    archiving.make(OLD, trail.folder, by=BY)
    tamper(superuser_dsn, "DELETE FROM audit_archive")
    gone(trail)
    assert verified("--full", "--archive", str(trail.folder))[:2] == (0, [])


def test_killed_between_archive_and_question(trail: Trail) -> None:
    made = archiving.make(OLD, trail.folder, by=BY)
    gone(trail)
    assert archive_of().id == made.id


def test_killed_while_the_decision_is_written(trail: Trail) -> None:
    """Two connections commit: the record first, the use of the approval after it."""
    retire(trail)
    approve(trail)
    by = Actor(kind="user", id=str(trail.asker.pk))
    with transaction.atomic():
        retirement.decide(archive_of(), trail.folder, reason=WHY, by=by)
        transaction.set_rollback(True)
    assert retirement.find(OLD).state is State.DECIDED

    assert retire(trail)[0] == 0
    assert not is_there(trail)
    assert verified()[:2] == (0, [])
    request = retirements.standing(archive_of(), by=by)
    assert request is not None  # it may be used for this month alone, which is gone


def test_killed_between_decision_and_drop(trail: Trail) -> None:
    decide(trail)
    sequencer.drain()
    code, faults, notes = verified()
    assert (code, faults) == (0, [])
    assert any("was given up and stands still" in note for note in notes)

    assert retire(trail)[0] == 0
    assert not is_there(trail)


def test_killed_between_drop_and_the_values_beside_it(trail: Trail) -> None:
    decide(trail)
    sequencer.drain()
    with psycopg.connect(trail.dsn, autocommit=True) as connection:
        assert connection.execute("SELECT audit_retire_month(%s)", (OLD,)).fetchone() == (10,)
    assert kept_values(trail.captured) == 1

    assert retire(trail)[0] == 0
    assert kept_values(trail.captured) == 0


def kept_values(event_id: UUID) -> int:
    return int(sql.fetch_all("SELECT count(*) FROM audit_personal WHERE event_id = %s", (event_id,))[0][0])


def test_two_who_drop_the_same_month_at_once(trail: Trail, race: Callable[..., list[Any]]) -> None:
    decide(trail)
    sequencer.drain()
    month = retirement.find(OLD)

    ended = race([lambda: retirement.drop(month, trail.folder)] * 3)
    assert [one for one in ended if one is not None] == [10], ended
    assert verified()[:2] == (0, [])


def test_events_of_today_are_written_while_a_month_goes(trail: Trail, race: Callable[..., list[Any]]) -> None:
    decide(trail)
    month = retirement.find(OLD)

    def write() -> int:
        for n in range(50):
            with transaction.atomic():
                audit.record(events.SIGNED_OUT, by=BY, data={"n": n})
        return 50

    ended = race([lambda: retirement.drop(month, trail.folder), write, write])
    assert ended == [10, 50, 50]
    sequencer.drain()
    assert verified()[:2] == (0, [])


def test_nobody_is_alarmed_while_a_month_goes(trail: Trail, race: Callable[..., list[Any]]) -> None:
    decide(trail)
    month = retirement.find(OLD)

    def verify() -> list[str]:
        plans = [Plan(Mode.FULL), Plan(Mode.FULL, stream=True), Plan(Mode.FULL, rows=False)] * 2
        return [
            one.what for plan in plans for result in verify_log(plan, by=BY) for one in result.found.faults
        ]

    assert race([lambda: retirement.drop(month, trail.folder), verify, verify]) == [10, [], []]


def test_who_reads_the_whole_trail_is_waited_for_in_turns(
    trail: Trail, race: Callable[..., list[Any]]
) -> None:
    """A waiting drop lets nobody write: it gives up after two seconds, and comes back."""
    decide(trail)
    month, has_begun = retirement.find(OLD), threading.Event()

    def read() -> str:
        with psycopg.connect(trail.dsn) as reader, psycopg.connect(trail.dsn, autocommit=True) as watcher:
            reader.execute("SELECT count(*) FROM audit_event")
            has_begun.set()
            for is_wanted in (True, False, True):
                while is_waited_for(watcher, reader.info.backend_pid) is not is_wanted:
                    pass
        return "read"

    def drop() -> int | None:
        assert has_begun.wait(60)
        return retirement.drop(month, trail.folder)

    assert race([read, drop]) == ["read", 10]


def is_waited_for(watcher: psycopg.Connection[Any], pid: int) -> bool:
    found = watcher.execute(
        "SELECT 1 FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))", (pid,)
    ).fetchone()
    return found is not None
