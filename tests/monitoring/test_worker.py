"""The worker: does the jobs that wait, as the runtime role, and stops when told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import psycopg
import pytest
from django.conf import settings
from django.db import transaction
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker

from mestore.lib import actor
from monitoring import audit, events, log, tasks

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
PATIENCE_SECONDS = 300


def _worker(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "worker", *arguments],
        cwd=settings.BASE_DIR, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _is_at_work(worker: subprocess.Popen[bytes], job: int) -> bool:
    """Wait until the worker has done `job`, before which it listens to signals; False when it ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while worker.poll() is None and time.monotonic() < deadline:
        if not ProcrastinateJob.objects.filter(pk=job).exists():
            return True
        threading.Event().wait(0.02)
    return False


def test_waiting_job_is_done_and_removed() -> None:
    app.configure_task("monitoring.audit_ensure_partitions").defer(timestamp=0)

    worker = _worker("--once", "--concurrency", "1")
    _out, err = worker.communicate(timeout=PATIENCE_SECONDS)

    assert worker.returncode == 0, err
    assert not ProcrastinateJob.objects.exists()


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGINT])
def test_worker_stops_cleanly_when_told(order: signal.Signals) -> None:
    job = app.configure_task("monitoring.audit_ensure_partitions").defer(timestamp=0)
    worker = _worker()
    try:
        is_at_work = _is_at_work(worker, job)
        worker.send_signal(order)
        _out, err = worker.communicate(timeout=PATIENCE_SECONDS)
    finally:
        worker.kill()

    assert is_at_work, err
    assert worker.returncode == 0, err
    assert not ProcrastinateWorker.objects.exists()


def test_a_worker_waits_while_another_one_holds_what_a_dead_one_left(app_dsn: str) -> None:
    job = app.configure_task("monitoring.audit_ensure_partitions").defer(timestamp=0)
    with psycopg.connect(app_dsn) as holder:
        holder.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')"
        )
        holder.commit()
        holder.execute("SELECT FROM procrastinate_workers FOR UPDATE")
        worker = _worker()
        try:
            assert worker.stderr is not None
            has_said = any(b"worker_waits_for_the_database" in line for line in worker.stderr)
            holder.rollback()
            is_at_work = _is_at_work(worker, job)
            worker.send_signal(signal.SIGTERM)
            _out, err = worker.communicate(timeout=PATIENCE_SECONDS)
        finally:
            worker.kill()

    assert has_said
    assert is_at_work, err
    assert worker.returncode == 0, err
    assert not ProcrastinateWorker.objects.exists()


def test_when_one_worker_is_killed_the_other_one_seals_on() -> None:
    workers = [_worker("--queue", "nobody"), _worker("--queue", "nobody")]
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while ProcrastinateWorker.objects.count() < 2 and time.monotonic() < deadline:
            threading.Event().wait(0.05)
        assert ProcrastinateWorker.objects.count() == 2, workers[0].poll()
        workers[0].kill()
        workers[0].wait()
        with transaction.atomic():
            audit.record(events.SIGNED_OUT, by=actor.system("test"))

        while not log.state().size and time.monotonic() < deadline:
            threading.Event().wait(0.05)
        assert log.state().size >= 1
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_partitions_are_ensured_every_day() -> None:
    assert "monitoring.audit_ensure_partitions" in {
        task.task.name for task in app.periodic_registry.periodic_tasks.values()
    }

    tasks.audit_ensure_partitions(timestamp=0)
