"""Background work and messages that wait: how many, since when, how often tried; and a way to try again.

Of a job only its task is told, of a message only its channel: what they are about stays sealed.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

from django.db import DatabaseError, transaction
from django.utils.translation import gettext_lazy as _
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import ConnectorException

from mestore.lib import errors, sql
from mestore.lib.actor import Actor
from monitoring import audit, events

PARK: Final = "jobs.park"
"""The action for which a fresh factor is asked (the setting STEP_UP)."""
COUNTED: Final = 10_000
TARGET: Final = "job"

# When a job came into the line is told by its first event; asked for the oldest of each kind alone.
_QUEUE = """
WITH line AS (
    SELECT id, task_name, status::text AS status, attempts FROM procrastinate_jobs
    WHERE status IN ('todo', 'doing', 'failed') ORDER BY id LIMIT %(most)s
), kinds AS (
    SELECT task_name, status, count(*) AS many, max(attempts) AS attempts, min(id) AS oldest
    FROM line GROUP BY task_name, status
)
SELECT task_name, status, many, attempts,
       (SELECT min(at) FROM procrastinate_events WHERE job_id = kinds.oldest)
FROM kinds ORDER BY task_name, status
"""
_MESSAGES = """
SELECT channel, count(*), count(*) FILTER (WHERE attempts > 1), max(attempts), min(created_at),
       mode() WITHIN GROUP (ORDER BY nullif(last_error, ''))
FROM (SELECT channel, attempts, created_at, last_error FROM monitoring_outboxmessage
      WHERE channel <> 'none' ORDER BY next_attempt_at LIMIT %(most)s) AS line
GROUP BY channel ORDER BY channel
"""


class Changed(errors.Conflict):
    """The job is not what it was when the page was made."""

    code = "JOB_CHANGED"
    message = _("This job has changed since you saw it, or the same work waits already. Look again.")


@dataclass(frozen=True, slots=True)
class Line:
    """Jobs of one task in one state. `since` is when the oldest came into the line."""

    task: str
    status: str
    many: int
    attempts: int
    since: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Mail:
    """Messages that wait on one channel. `trouble` is the kind of error met most often."""

    channel: str
    many: int
    again: int
    attempts: int
    since: dt.datetime
    trouble: str


def queue() -> list[Line]:
    """Return what waits, runs or failed, by task; one statement over at most COUNTED jobs."""
    return [Line(*row) for row in sql.fetch_all(_QUEUE, {"most": COUNTED})]


def messages() -> list[Mail]:
    """Return what waits to be sent, by channel; one statement over at most COUNTED messages."""
    return [
        Mail(channel, many, again, attempts, since, trouble or "")
        for channel, many, again, attempts, since, trouble in sql.fetch_all(_MESSAGES, {"most": COUNTED})
    ]


def retry(job: ProcrastinateJob, *, reason: str, by: Actor) -> None:
    """Put a failed job back in line. Raises Changed."""
    with transaction.atomic():
        _demand(job, "failed")
        try:
            with transaction.atomic():
                app.job_manager.retry_job_by_id(job_id=int(job.pk), retry_at=dt.datetime.now(dt.UTC))
        except (ConnectorException, DatabaseError) as refused:
            raise Changed from refused
        _record(events.JOB_RETRIED, job, reason, by)


def park(job: ProcrastinateJob, *, reason: str, by: Actor) -> None:
    """Take a waiting job out of the line; it stays as "cancelled". Raises Changed."""
    with transaction.atomic():
        _demand(job, "todo")
        if not app.job_manager.cancel_job_by_id(job_id=int(job.pk)):
            raise Changed
        _record(events.JOB_PARKED, job, reason, by)


def _demand(job: ProcrastinateJob, status: str) -> None:
    """Raise Changed unless the job is in this state; it is the caller's until the end of the transaction."""
    found: Any = ProcrastinateJob.objects.select_for_update().filter(pk=job.pk, status=status)
    if not found.values_list("pk", flat=True).first():
        raise Changed


def _record(code: str, job: ProcrastinateJob, reason: str, by: Actor) -> None:
    data = {"task": job.task_name, "attempts": job.attempts, "reason": reason}
    audit.record(code, by=by, target=(TARGET, str(job.pk)), data=data)
