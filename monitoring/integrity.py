"""What the signed log says of itself, for people: how large, how fresh, who watches, what was verified.

Every figure says when it was true; what nobody measured is None, never 0.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.utils import timezone

from mestore.lib import sql
from monitoring import verification
from monitoring.verification import Sample
from monitoring.verifications import Run

COUNTED: Final = 10_000
SAMPLED: Final = 3_000
SAMPLE_SECONDS: Final = 60
CHECKPOINTS: Final = 60
LOGS: Final = 20
# When a figure asks for a person (the alert rules say the same).
PENDING_OLD: Final = dt.timedelta(seconds=60)
CHECKPOINT_OLD: Final = dt.timedelta(seconds=120)
WITNESS_OLD: Final = dt.timedelta(minutes=15)

_STANDING = """
SELECT t.epoch, t.size, t.published_at, c.size, c.root, c.signed_at, p.many, p.oldest, (
    SELECT jsonb_agg(to_jsonb(e) ORDER BY e.epoch DESC) FROM (
        SELECT epoch, size, ended_at, reason, approved_by FROM audit_ended_log ORDER BY epoch DESC LIMIT %s
    ) AS e)
FROM audit_tree t
LEFT JOIN LATERAL (
    SELECT size, root, signed_at FROM audit_checkpoint WHERE epoch = t.epoch ORDER BY size DESC LIMIT 1
) AS c ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS many, min(occurred_at) AS oldest
    FROM (SELECT occurred_at FROM audit_pending ORDER BY id LIMIT %s) AS line
) AS p
"""
# From the first leaf that a checkpoint is the first to count, to its signature: the longest wait under it.
_LAGS = """
WITH newest AS (
    SELECT epoch, size, signed_at, lead(size) OVER (ORDER BY size DESC) AS before FROM audit_checkpoint
    WHERE epoch = (SELECT epoch FROM audit_tree) ORDER BY size DESC LIMIT %s
)
SELECT n.signed_at, n.size, extract(epoch FROM n.signed_at - l.occurred_at)::float8
FROM newest n JOIN audit_leaf l ON l.epoch = n.epoch AND l.leaf_index = n.before ORDER BY n.size
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """A log that ended because two people admitted a loss."""

    epoch: int
    size: int
    ended_at: dt.datetime
    reason: str
    approved_by: list[str]


@dataclass(frozen=True, slots=True)
class Standing:
    """The log now. `published_at` is when the newest checkpoint was signed or confirmed.

    `ended`: the logs before this one, newest first.
    """

    epoch: int
    size: int
    published_at: dt.datetime | None
    signed_size: int | None
    signed_root: bytes | None
    signed_at: dt.datetime | None
    pending: int
    oldest: dt.datetime | None
    ended: tuple[Ended, ...] = ()

    @property
    def unsigned(self) -> int:
        """How many leaves no checkpoint counts yet."""
        return self.size - (self.signed_size or 0)


@dataclass(frozen=True, slots=True)
class Lag:
    """How many seconds the first event under a checkpoint waited for its signature."""

    signed_at: dt.datetime
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a random sample of leaves said, and when it was drawn."""

    sample: Sample
    at: dt.datetime


def standing() -> Standing:
    """Return how the log stands, and how those before it ended; one statement."""
    row = sql.fetch_one(_STANDING, (LOGS, COUNTED))
    if row is None:
        raise LookupError("the log's state is missing")
    epoch, size, published_at, signed_size, root, signed_at, pending, oldest, said = row
    root = bytes(root) if root is not None else None
    before = tuple(_ended(one) for one in (json.loads(said) if isinstance(said, str) else said) or ())
    return Standing(epoch, size, published_at, signed_size, root, signed_at, pending, oldest, before)


def lags() -> list[Lag]:
    """Return how long events waited for each of the newest checkpoints, oldest first; one statement."""
    return [Lag(*row) for row in sql.fetch_all(_LAGS, (CHECKPOINTS,))]


def sampled() -> Sampled:
    """Return what a random sample of leaves says; drawn anew once a minute at most, in each process."""
    now = time.monotonic()
    if _kept and now < _kept[0][0]:
        return _kept[0][1]
    found = Sampled(verification.sample(SAMPLED), timezone.now())
    _kept[:] = [(now + SAMPLE_SECONDS, found)]
    return found


def forget() -> None:
    """Draw the next sample anew."""
    _kept.clear()


def _ended(said: dict[str, Any]) -> Ended:
    return Ended(**{**said, "ended_at": dt.datetime.fromisoformat(said["ended_at"])})


_kept: list[tuple[float, Sampled]] = []


def is_old(moment: dt.datetime | None, limit: dt.timedelta, now: dt.datetime) -> bool:
    """Say whether something is older than it may be, or never happened."""
    return moment is None or now - moment > limit


def newest(runs: Sequence[Run], mode: str) -> Run | None:
    """The newest run of one mode that came to its end."""
    return next((run for run in runs if run.mode == mode and run.finished_at is not None), None)
