"""What a killed worker was doing is done by another one; nothing stays locked by the dead."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker
from procrastinate.exceptions import ConnectorException

from mestore.lib import sql
from monitoring import abandoned, job_depth
from monitoring.job_depth import JobSample
from sessions_security import everyone
from tests.monitoring.test_worker import PATIENCE_SECONDS, _worker

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit"])

TASK = everyone.JOB
LONG_AGO = "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '10 minutes' WHERE id = %s"


def worker() -> int:
    """A worker that has just said that it lives."""
    return int(sql.fetch_all("SELECT worker_id FROM procrastinate_register_worker_v1()")[0][0])


def defer(task: str = TASK, **options: Any) -> int:
    return int(app.configure_task(task, **options).defer())


def take(by: int) -> int | None:
    """What a worker is handed when it asks for a job; it is doing that then."""
    found: int | None = sql.fetch_all("SELECT id FROM procrastinate_fetch_job_v2(NULL, %s)", (by,))[0][0]
    return found


def died(by: int) -> None:
    """Killed: its row stays, and says nothing any more."""
    sql.execute(LONG_AGO, (by,))


def states() -> dict[int, tuple[str, int]]:
    return {one.pk: (one.status, one.attempts) for one in ProcrastinateJob.objects.all()}


def test_a_job_of_a_dead_worker_is_handed_to_the_next() -> None:
    first, second = worker(), worker()
    job = defer()
    assert take(first) == job
    died(first)
    assert take(second) is None

    assert abandoned.recover() == 1

    assert states() == {job: ("todo", 1)}
    assert take(second) == job


def test_a_lock_does_not_stay_with_the_dead() -> None:
    """Without this the trail would never be verified again after one kill."""
    first, second = worker(), worker()
    held = defer(lock="audit_verify")
    waits = defer(lock="audit_verify")
    assert take(first) == held
    died(first)
    assert take(second) is None

    abandoned.recover()

    assert take(second) == held
    sql.execute("SELECT procrastinate_finish_job_v1(%s, 'succeeded', true)", (held,))
    assert take(second) == waits


def test_a_job_whose_worker_is_not_even_known_any_more_is_found() -> None:
    """A worker that starts forgets the silent ones."""
    first = worker()
    job = defer()
    take(first)
    ProcrastinateWorker.objects.filter(pk=first)._raw_delete("default")
    sql.execute("UPDATE procrastinate_jobs SET worker_id = NULL")

    assert (abandoned.recover(), states()) == (1, {job: ("todo", 1)})


def test_what_a_living_worker_does_is_left_alone() -> None:
    job = defer()
    take(worker())
    waits = defer()

    assert (abandoned.recover(), states()) == (0, {job: ("doing", 0), waits: ("todo", 0)})


def test_the_same_work_is_not_put_in_line_twice() -> None:
    first = worker()
    taken = defer(queueing_lock="one")
    take(first)
    waits = defer(queueing_lock="one")
    died(first)

    assert abandoned.recover() == 1
    assert states() == {waits: ("todo", 0)}
    assert taken not in states()


def test_what_cannot_be_put_back_now_is_not_lost_and_holds_nobody_up(app_dsn: str) -> None:
    first = worker()
    held = defer(queueing_lock="one")
    take(first)
    other = defer()
    take(first)
    died(first)
    sql.execute("SET lock_timeout = '50ms'")
    try:
        with psycopg.connect(app_dsn) as enqueuing:  # it has not committed: nobody knows yet whether it waits
            enqueuing.execute(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock)"
                " VALUES ('default', %s, 'one')",
                [TASK],
            )
            with pytest.raises(ConnectorException):
                abandoned.recover()
            assert states() == {held: ("doing", 0), other: ("todo", 1)}
            enqueuing.rollback()
        assert abandoned.recover() == 1
    finally:
        sql.execute("RESET lock_timeout")
    assert states() == {held: ("todo", 1), other: ("todo", 1)}


def test_a_job_that_kills_its_workers_fails_in_the_end() -> None:
    job = defer()
    for attempt in range(1, abandoned.MOST_ATTEMPTS):
        by = worker()
        assert take(by) == job
        died(by)
        abandoned.recover()
        assert states() == {job: ("todo", attempt)}
    by = worker()
    assert take(by) == job
    died(by)
    abandoned.recover()

    assert states()[job][0] == "failed"
    assert take(worker()) is None


def test_workers_that_recover_at_once_recover_each_job_once(race: Callable[..., list[Any]]) -> None:
    first = worker()
    jobs = [defer() for _ in range(20)]
    for _ in jobs:
        take(first)
    died(first)

    outcomes = race([abandoned.recover] * 4)

    assert sum(outcomes) == 20
    assert set(states().values()) == {("todo", 1)}


def test_a_worker_recovers_before_it_begins() -> None:
    first = worker()
    defer(lock="one")
    take(first)
    died(first)

    started = _worker("--once", "--concurrency", "1")
    _out, err = started.communicate(timeout=PATIENCE_SECONDS)

    assert (started.returncode, states()) == (0, {}), err


def test_the_keeper_goes_on_until_it_is_stopped() -> None:
    first = worker()
    defer()
    take(first)
    died(first)
    stop = threading.Event()
    thread = threading.Thread(target=abandoned.run, args=(stop,))
    thread.start()
    try:
        for _ in range(2_000):
            if JobSample.objects.exists():
                break
            stop.wait(0.05)
    finally:
        stop.set()
        thread.join()

    assert {status for status, _attempts in states().values()} == {"todo"}


class TestDepth:
    def test_a_sample_counts_what_waits_runs_and_failed(self) -> None:
        by = worker()
        failed = defer()
        take(by)
        sql.execute("SELECT procrastinate_finish_job_v1(%s, 'failed', false)", (failed,))
        defer()
        take(by)
        oldest = defer()
        defer()
        defer(schedule_at=dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
        sql.execute(
            "UPDATE procrastinate_events SET at = at - interval '90 seconds' WHERE job_id = %s", (oldest,)
        )

        assert job_depth.sample()

        row = JobSample.objects.get()
        assert (row.waiting, row.running, row.failed) == (2, 1, 1)
        assert row.oldest_seconds is not None
        assert row.oldest_seconds >= 90

    def test_an_empty_line_is_a_zero_and_no_wait(self) -> None:
        job_depth.sample()

        row = JobSample.objects.get()
        assert (row.waiting, row.running, row.failed, row.oldest_seconds) == (0, 0, 0, None)

    def test_two_workers_write_one_sample_a_minute(self) -> None:
        at = dt.datetime(2020, 1, 1, 10, 0, tzinfo=dt.UTC)
        JobSample.objects.create(at=at, waiting=9, running=0, failed=0)
        sql.execute(
            "INSERT INTO monitoring_jobsample (at, waiting, running, failed)"
            " SELECT date_trunc('minute', now()) + make_interval(mins => n), 7, 0, 0"
            " FROM generate_series(0, 600) AS n"
        )

        assert [job_depth.sample(), job_depth.sample()] == [False, False]
        assert set(JobSample.objects.values_list("waiting", flat=True)) == {9, 7}

    def test_the_deepest_of_each_step_is_told_and_a_gap_stays_one(self) -> None:
        first = dt.datetime(2026, 11, 22, 10, 0, tzinfo=dt.UTC)
        for minute, waiting, oldest in ((-1, 99, 1), (0, 3, 5), (29, 8, 60), (61, 1, None)):
            at = first + dt.timedelta(minutes=minute)
            JobSample.objects.create(at=at, waiting=waiting, running=1, failed=0, oldest_seconds=oldest)

        found = job_depth.since(first, dt.timedelta(minutes=30))

        assert [(one.slot, one.waiting, one.oldest_seconds) for one in found] == [
            (first, 8, 60), (first + dt.timedelta(hours=1), 1, None),
        ]  # fmt: skip

    def test_old_samples_go(self) -> None:
        old = dt.datetime.now(dt.UTC) - dt.timedelta(days=job_depth.KEEP_DAYS + 1)
        JobSample.objects.create(at=old, waiting=1, running=0, failed=0)

        job_depth.sample()

        assert not JobSample.objects.filter(at=old).exists()
