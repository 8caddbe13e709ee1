"""Deleting what ended, in small batches that hold no long locks.

Each statement walks one index from its old end, a batch at a time, from where the batch before stopped: rows
that are gone are not looked at again, however many there are. Any number of workers may do this at once
(rows that another one holds are left to it), and a run that is cut short loses nothing but time.

Not here: counts of live sessions end where they are taken (`samples`); `Impersonation` is evidence and goes
with its account; `SessionCutoff` is never deleted, for a session that is put back must not live again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.utils import timezone

from mestore.lib import sql

BATCH = 1_000
KEEP: Final = timedelta(days=30)
"""How long an ended session stays listed; what could open it (secrets, tokens) goes at once."""
KEEP_ATTEMPTS: Final = timedelta(hours=48)
"""How long attempts to sign in are remembered."""
SWEPT: Final = timedelta(days=2)
"""How far back secrets of ended sessions are looked for; later they go with their session."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """One kind of row that has an end of life. `keep` is how long it stays after its end.

    `statement` takes after, before, batch and id, deletes one batch and tells: rows looked at, rows deleted,
    the latest moment and id looked at. `since` bounds how far back it looks.
    """

    name: str
    statement: sql.Query
    keep: timedelta = timedelta()
    since: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Purged:
    """How many rows of one kind went, and in how many seconds."""

    name: str
    rows: int
    batches: int
    seconds: float
    longest_batch_seconds: float


def _by_end(table: str, *, end: str = "expires_at", key: str = "id") -> sql.Query:
    """Return the statement for rows that nothing hangs on: the index over `end` leads to their `key`."""
    return sql.compose(
        """
        WITH picked AS (
            SELECT {key} AS key, {end} AS at FROM {table}
            WHERE {end} >= %(after)s AND {end} < %(before)s
            ORDER BY {end} LIMIT %(batch)s FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM {table} t USING picked WHERE t.{key} = picked.key
        )
        SELECT count(*), count(*), max(at), %(id)s::uuid FROM picked
        """,
        table=table, end=end, key=key,
    )  # fmt: skip


# Here the sessions themselves are not deleted, so the walk goes by (end, id).
_SECRETS = """
    WITH picked AS (
        SELECT id, absolute_expires_at AS at FROM sessions_security_usersession
        WHERE (absolute_expires_at, id) > (%(after)s, %(id)s::uuid) AND absolute_expires_at < %(before)s
        ORDER BY absolute_expires_at, id LIMIT %(batch)s
    ), cookies AS (
        DELETE FROM sessions_security_sessionsecret WHERE session_id IN (
            SELECT session_id FROM sessions_security_sessionsecret
            WHERE session_id IN (SELECT id FROM picked) FOR UPDATE SKIP LOCKED) RETURNING 1
    ), proofs AS (
        DELETE FROM sessions_security_stepupproof WHERE id IN (
            SELECT id FROM sessions_security_stepupproof
            WHERE session_id IN (SELECT id FROM picked) FOR UPDATE SKIP LOCKED) RETURNING 1
    )
    SELECT (SELECT count(*) FROM picked),
           (SELECT count(*) FROM cookies) + (SELECT count(*) FROM proofs), latest.at, latest.id
    FROM (SELECT at, id FROM picked ORDER BY at DESC, id DESC LIMIT 1) AS latest
"""
_SESSIONS = """
    WITH picked AS (
        SELECT id, absolute_expires_at AS at FROM sessions_security_usersession
        WHERE absolute_expires_at >= %(after)s AND absolute_expires_at < %(before)s
        ORDER BY absolute_expires_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    ), cookies AS (
        DELETE FROM sessions_security_sessionsecret WHERE session_id IN (SELECT id FROM picked)
    ), tokens AS (
        DELETE FROM sessions_security_refreshtoken WHERE session_id IN (SELECT id FROM picked)
    ), proofs AS (
        DELETE FROM sessions_security_stepupproof WHERE session_id IN (SELECT id FROM picked)
    ), gone AS (
        DELETE FROM sessions_security_usersession t USING picked WHERE t.id = picked.id
    )
    SELECT count(*), count(*), max(at), %(id)s::uuid FROM picked
"""
KINDS: Final = (
    Ended("pending sign-ins", _by_end("sessions_security_pendingsignin")),
    Ended("secrets and proofs of sessions", _SECRETS, since=SWEPT),
    Ended("refresh tokens", _by_end("sessions_security_refreshtoken")),
    Ended("sessions", _SESSIONS, keep=KEEP),
    Ended("proofs of possession", _by_end("sessions_security_usedproof", key="proof_hash")),
    Ended("notices of sign-ins", _by_end("sessions_security_signinnotice")),
    Ended("reputations of networks", _by_end("sessions_security_networkreputation", key="network")),
    Ended("attempts to sign in", _by_end("sessions_security_signinattempt", end="at"), keep=KEEP_ATTEMPTS),
)
"""What ends, in the order in which it is deleted: what opens a session before the session."""

_LONG_AGO = timedelta(days=36_500)
_NO_ID = "00000000-0000-0000-0000-000000000000"


def run(
    *, batch: int | None = None, progress: Callable[[str, int], None] = lambda _name, _rows: None
) -> list[Purged]:
    """Delete everything whose time is over, `batch` rows per statement; return what went."""
    now = timezone.now()
    return [_drain(kind, now, batch or BATCH, progress) for kind in KINDS]


def _drain(kind: Ended, now: datetime, batch: int, progress: Callable[[str, int], None]) -> Purged:
    after: datetime = now - (kind.since or _LONG_AGO)
    last, rows, batches, longest, began = _NO_ID, 0, 0, 0.0, time.monotonic()
    while True:
        values = {"after": after, "before": now - kind.keep, "batch": batch, "id": last}
        started = time.monotonic()
        found = sql.fetch_one(kind.statement, values)
        longest = max(longest, time.monotonic() - started)
        batches += 1
        looked, deleted, latest, latest_id = found or (0, 0, None, None)
        rows += deleted
        if deleted:
            progress(kind.name, rows)
        if looked < batch or latest is None:
            break
        after, last = latest, latest_id
    done = Purged(kind.name, rows, batches, time.monotonic() - began, longest)
    if rows:
        log.info("purged", what=done.name, rows=done.rows, longest_batch_seconds=round(longest, 3))
    return done
