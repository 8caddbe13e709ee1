"""Jobs of a worker that is gone: given to those that are there.

A worker that was killed leaves its jobs as "doing", and nobody is handed another job with the same lock: what
verifies the trail each minute would never run again. Workers say each ten seconds that they live; whose word
is too old, or who is not known any more, has lost its jobs. Every job of ours may be done twice: it claims
what it does in the transaction in which it does it.
"""

from __future__ import annotations

import datetime as dt
import threading
from typing import Final

import structlog
from django.db import DatabaseError, InterfaceError, connections, transaction
from procrastinate.contrib.django import app
from procrastinate.exceptions import ConnectorException, UniqueViolation

from mestore.lib import sql
from monitoring import guard_watch, job_depth

SILENT_SECONDS: Final = 60.0
"""A worker that has not been heard of for so long is gone. Its machine may only be slow: not too soon."""
EVERY_SECONDS: Final = 15.0
MOST: Final = 200
MOST_ATTEMPTS: Final = 5
"""A job whose workers died so often is the reason: it fails, and a person may try it again."""

log = structlog.get_logger("mestore.jobs")

_GONE = """
SELECT j.id FROM procrastinate_jobs j
LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
WHERE j.status = 'doing'
  AND (w.id IS NULL OR w.last_heartbeat < now() - make_interval(secs => %s))
ORDER BY j.id LIMIT %s
"""
_STILL_GONE = """
SELECT j.task_name, j.attempts FROM procrastinate_jobs j
LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
WHERE j.id = %s AND j.status = 'doing'
  AND (w.id IS NULL OR w.last_heartbeat < now() - make_interval(secs => %s))
FOR UPDATE OF j SKIP LOCKED
"""
_FAIL = "SELECT procrastinate_finish_job_v1(%s, 'failed', false)"
_DROP = "DELETE FROM procrastinate_jobs WHERE id = %s AND status = 'doing'"


def recover() -> int:
    """Put jobs whose worker is gone back in line; return how many were found.

    The same work that waits already is not put in line twice; what was tried too often fails. Each job is a
    transaction of its own: who begins or ends work waits for none of the others. One that could not be put
    back stays as it is, for the next time; raises its error (django.db.Error, ConnectorException) when all
    have had their turn.
    """
    found, failed = 0, None
    for (job_id,) in sql.fetch_all(_GONE, (SILENT_SECONDS, MOST)):
        try:
            found += _take_up(int(job_id))
        except (ConnectorException, DatabaseError) as error:
            log.warning("job_not_recovered", job_id=job_id, error=type(error.__cause__ or error).__name__)
            failed = error
    if failed is not None:
        raise failed
    return found


def _take_up(job_id: int) -> bool:
    """Put one job back in line; False when another worker is at it, or was."""
    with transaction.atomic():
        row = sql.fetch_one(_STILL_GONE, (job_id, SILENT_SECONDS))
        if row is None:
            return False
        task, attempts = row
        outcome = _recover(job_id, int(attempts))
        log.warning("job_abandoned", job_id=job_id, task=task, attempts=attempts, outcome=outcome)
    return True


def _recover(job_id: int, attempts: int) -> str:
    if attempts + 1 >= MOST_ATTEMPTS:
        sql.execute(_FAIL, (job_id,))
        return "failed"
    try:
        with transaction.atomic():
            app.job_manager.retry_job_by_id(job_id=job_id, retry_at=dt.datetime.now(dt.UTC))
    except UniqueViolation:
        sql.execute(_DROP, (job_id,))
        return "waits already"
    return "again"


def run(stop: threading.Event) -> None:
    """Look after the line of jobs, and at the guards, until `stop` is set. Errors are tried again."""
    watch = guard_watch.Watch()
    try:
        while not stop.is_set():
            try:
                recover()
                job_depth.sample()
                watch.look()
            except (ConnectorException, DatabaseError, InterfaceError) as error:
                log.warning("jobs_not_looked_after", error=type(error).__name__)
                connections["default"].close()
            stop.wait(EVERY_SECONDS)
    finally:
        connections["default"].close()
        connections["audit"].close()
