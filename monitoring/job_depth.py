"""How deep the line of jobs was, each minute: what the line on the jobs page is drawn from.

One sample a minute, whoever takes it: two workers at once write one, because its key is the minute. A minute
in which no worker ran has none, which is a gap in the line and no zero.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from django.db import models

from mestore.lib import sql

KEEP_DAYS: Final = 8
COUNTED: Final = 1_000_000

# What waits is what a worker could do now: a job for later is not late.
_SAMPLE = """
INSERT INTO monitoring_jobsample (at, waiting, running, failed, oldest_seconds)
SELECT date_trunc('minute', now()), count(*) FILTER (WHERE line.status = 'todo'),
       count(*) FILTER (WHERE line.status = 'doing'), count(*) FILTER (WHERE line.status = 'failed'),
       (SELECT CASE WHEN min(e.at) IS NOT NULL
                    THEN greatest(0, extract(epoch FROM now() - min(e.at)))::int END
        FROM procrastinate_events e
        WHERE e.job_id = (SELECT min(j.id) FROM procrastinate_jobs j WHERE j.status = 'todo'
                          AND (j.scheduled_at IS NULL OR j.scheduled_at <= now())))
FROM (SELECT status::text AS status FROM procrastinate_jobs
      WHERE status IN ('doing', 'failed')
         OR (status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now())) LIMIT %s) AS line
ON CONFLICT (at) DO NOTHING
"""
_FORGET = "DELETE FROM monitoring_jobsample WHERE at < now() - make_interval(days => %s)"
# The deepest of each step, and whether any sample of it was taken.
_SINCE = """
SELECT date_bin(%(step)s, at, %(first)s) AS slot, max(waiting), max(running), max(failed),
       max(oldest_seconds), max(at)
FROM monitoring_jobsample WHERE at >= %(first)s GROUP BY slot ORDER BY slot
"""


class JobSample(models.Model):
    """How many jobs waited, ran and had failed in one minute."""

    at = models.DateTimeField(primary_key=True, editable=False)
    waiting = models.PositiveIntegerField()
    running = models.PositiveIntegerField()
    failed = models.PositiveIntegerField()
    oldest_seconds = models.PositiveIntegerField(null=True)

    class Meta:
        app_label = "monitoring"

    def __str__(self) -> str:
        return f"jobs at {self.at}"


@dataclass(frozen=True, slots=True)
class Depth:
    """The most jobs that waited, ran and had failed within the step that begins at `slot`.

    `oldest_seconds`: how long the oldest waiting job had waited, None when none did; `at`: the last sample.
    """

    slot: dt.datetime
    waiting: int
    running: int
    failed: int
    oldest_seconds: int | None
    at: dt.datetime


def sample() -> bool:
    """Write the sample of this minute and drop what is too old; say whether it was ours.

    Raises django.db.Error.
    """
    written = sql.execute(_SAMPLE, (COUNTED,)) == 1
    if written:
        sql.execute(_FORGET, (KEEP_DAYS,))
    return written


def since(first: dt.datetime, step: dt.timedelta) -> list[Depth]:
    """Return how deep the line was from `first` on, step by step, oldest first; one statement."""
    return [Depth(*row) for row in sql.fetch_all(_SINCE, {"first": first, "step": step})]
