"""The sequencer: gives every event of the queue its place in the signed log.

One at a time, whoever holds the lock: any number of workers may run it. A batch is one transaction (out of
the queue, into the tree), so a killed sequencer leaves no gap and no duplicate. Checkpoints are signed after
that has been committed. Writers of events never wait for it: they only add rows to the queue.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.utils.translation import gettext_lazy as _

from mestore.lib import merkle, sql
from monitoring import alerts, checkpoints, cosigning, log
from monitoring.log import LogDamaged

BATCH = 5_000
PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 30.0
LONGEST_SILENCE = "3s"
"""How long whoever holds the log may say nothing to the database."""

DAMAGED: Final = alerts.declare(
    alerts.Rule(
        "audit.log_damaged",
        _("The audit log contradicts itself: nothing is sealed any more"),
        alerts.Severity.CRITICAL,
        "audit-log-damaged",
    )
)
UNEXPLAINED: Final = alerts.declare(
    alerts.Rule(
        "audit.queue_unexplained",
        _("The queue of the audit log was written to or its events were deleted by hand"),
        alerts.Severity.HIGH,
        "audit-queue-unexplained",
    )
)

logger = structlog.get_logger("mestore.audit")

_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('mestore.audit.sequencer'))"
# Whoever holds the log and says nothing for long (stopped, or its machine gone) loses it to another one.
_LOCK_BRIEFLY = """
SELECT pg_try_advisory_xact_lock(hashtext('mestore.audit.sequencer')),
       set_config('idle_in_transaction_session_timeout', %s::text, true)
"""
# An event that has its place already, or that the trail does not hold, leaves the queue without a leaf; how
# many those were is told, since nothing of ours does that. One probe for each event (OFFSET 0 keeps the
# planner from joining): the plan is kept, and must suit an empty queue and a full one.
_TAKE = """
WITH taken AS (
    DELETE FROM audit_pending WHERE id IN (SELECT id FROM audit_pending ORDER BY id LIMIT %(batch)s::bigint)
    RETURNING id, occurred_at
), placed AS (
    SELECT t.id, t.occurred_at, e.leaf_hash,
           %(size)s::bigint + row_number() OVER (ORDER BY t.id) - 1 AS leaf_index
    FROM taken t CROSS JOIN LATERAL (
        SELECT leaf_hash FROM audit_event WHERE id = t.id AND occurred_at = t.occurred_at OFFSET 0) e
    WHERE NOT EXISTS (SELECT FROM audit_leaf l WHERE l.event_id = t.id OFFSET 0)
), kept AS (
    INSERT INTO audit_leaf (epoch, leaf_index, event_id, occurred_at)
    SELECT %(epoch)s::int, leaf_index, id, occurred_at FROM placed
)
SELECT (SELECT count(*) FROM taken),
       (SELECT string_agg(leaf_hash, ''::bytea ORDER BY leaf_index) FROM placed)
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one pass did: events out of the queue, leaves into the log."""

    taken: int
    sequenced: int

    @property
    def unexplained(self) -> int:
        """Rows of the queue without an event of their own: somebody wrote or deleted by hand."""
        return self.taken - self.sequenced


def run_once(batch: int = BATCH) -> Batch | None:
    """Sequence one batch; None when another process is at it. Raises LogDamaged, django.db.Error."""
    is_outermost = not connections["default"].in_atomic_block
    with transaction.atomic():
        if not _alone(is_outermost):
            return None
        now = log.state(lock=True)
        values = {"batch": batch, "size": now.size, "epoch": now.epoch}
        taken, joined = sql.fetch_one(_TAKE, values, prepare=True) or (0, None)
        leaves = merkle.split(bytes(joined)) if joined else []
        if leaves:
            log.append(now, leaves)
    done = Batch(int(taken), len(leaves))
    if done.unexplained:
        logger.critical("audit_queue_unexplained", rows=done.unexplained)
        _tell(UNEXPLAINED, rows=done.unexplained, size=now.size)
    return done


def publish() -> bool:
    """Sign a checkpoint when one is due; say whether one was signed. Raises LogDamaged, django.db.Error."""
    is_outermost = not connections["default"].in_atomic_block
    with transaction.atomic():
        return _alone(is_outermost) and checkpoints.publish() is not None


def drain() -> int:
    """Sequence everything that waits and sign; return how many leaves were added."""
    added = 0
    while True:
        done = run_once()
        if done is None or not done.taken:
            publish()
            return added
        added += done.sequenced


def run(stop: threading.Event) -> None:
    """Sequence until `stop` is set. Errors are logged and tried again, ever more slowly; never skipped."""
    pause, since_signed = PAUSE_SECONDS, float(settings.AUDIT_CHECKPOINT_SECONDS)
    try:
        while not stop.is_set():
            try:
                done = run_once()
                if since_signed >= settings.AUDIT_CHECKPOINT_SECONDS:
                    publish()
                    cosigning.ask_all()
                    since_signed = 0.0
                pause = PAUSE_SECONDS
                if done is not None and done.taken >= BATCH:
                    continue
            except LogDamaged as error:
                logger.critical("audit_log_damaged", reason=str(error))
                _tell(DAMAGED, reason=str(error))
                pause = LONGEST_PAUSE_SECONDS
            except (DatabaseError, InterfaceError) as error:
                logger.warning("audit_sequencer_failed", error=type(error).__name__)
                connections["default"].close()
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            stop.wait(pause)
            since_signed += pause
    finally:
        connections["default"].close()
        connections["audit"].close()


def _tell(rule: alerts.Rule, **evidence: str | int) -> None:
    alerts.raise_signal(rule, entity=("audit_log", "log"), evidence=evidence, using="audit")


def _alone(is_outermost: bool) -> bool:
    """Take the lock for this transaction; the limit of silence holds for it, so not within another's."""
    if is_outermost:
        row = sql.fetch_one(_LOCK_BRIEFLY, (LONGEST_SILENCE,), prepare=True)
    else:
        row = sql.fetch_one(_LOCK)
    return row is not None and bool(row[0])
