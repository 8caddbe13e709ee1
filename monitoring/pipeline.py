"""Does the trail reach the signed log, the witnesses and the receipts in time? Figures, and signals.

The figures are the database's: whichever process read them last knows them for all.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

import structlog
from django.db import Error as DatabaseError
from django.utils.translation import gettext_lazy as _
from prometheus_client import Gauge

from mestore.lib import sql
from monitoring import alerts, cosigning, receipt_matching, spool
from monitoring.registry import REGISTRY

PENDING_LIMIT: Final = dt.timedelta(seconds=60)
CHECKPOINT_LIMIT: Final = dt.timedelta(seconds=120)
WITNESS_LIMIT: Final = dt.timedelta(minutes=15)
_NO_DATA = float("nan")

log = structlog.get_logger("mestore.audit")

BEHIND: Final = alerts.declare(
    alerts.Rule(
        "audit.queue_behind",
        _("Events wait too long for their place in the signed log"),
        alerts.Severity.HIGH,
        "audit-queue-behind",
    )
)
UNSIGNED: Final = alerts.declare(
    alerts.Rule(
        "audit.checkpoint_stale",
        _("Nobody signs the audit log: no sequencer is at work"),
        alerts.Severity.HIGH,
        "audit-checkpoint-stale",
    )
)
SILENT: Final = alerts.declare(
    alerts.Rule(
        "audit.witness_silent",
        _("A witness has not confirmed the audit log for long"),
        alerts.Severity.HIGH,
        "audit-witness-silent",
    )
)
UNWATCHED: Final = alerts.declare(
    alerts.Rule(
        "audit.no_witness",
        _("No witness watches the audit log: a rewritten history would not be noticed elsewhere"),
        alerts.Severity.INFO,
        "audit-no-witness",
    )
)
SPOOLED: Final = alerts.declare(
    alerts.Rule(
        "audit.spool_in_use",
        _("The audit trail refused events; sign-ins wait on this machine's disk"),
        alerts.Severity.HIGH,
        "audit-spool-in-use",
    )
)


def _gauge(name: str, about: str, labels: tuple[str, ...] = ()) -> Gauge:
    return Gauge(f"mestore_audit_{name}", about, labels, registry=REGISTRY, multiprocess_mode="mostrecent")


EVENTS = _gauge("events_total", "Events in the signed logs and before them.")
PENDING = _gauge("pending", "Events that have no place in the signed log yet.")
OLDEST = _gauge("oldest_pending_seconds", "Age of the oldest of them.")
CHECKPOINT_AGE = _gauge("checkpoint_age_seconds", "Since the log was last signed, or that was confirmed.")
WITNESS_AGE = _gauge(
    "witness_age_seconds", "Age of the oldest checkpoint that a witness has not cosigned.", ("witness",)
)
UNMATCHED = _gauge("receipts_unmatched", "What did not match in the newest comparison of receipts.")

_FIGURES = """
SELECT t.size + (SELECT coalesce(sum(size), 0)::bigint FROM audit_ended_log), p.pending,
       extract(epoch FROM now() - p.oldest)::float8,
       extract(epoch FROM now() - t.published_at)::float8
FROM audit_tree t CROSS JOIN (
    SELECT (SELECT count(*) FROM (SELECT FROM audit_pending LIMIT 1000000) AS counted) AS pending,
           (SELECT occurred_at FROM audit_pending ORDER BY id LIMIT 1) AS oldest
) AS p
"""
_UNCOSIGNED = """
SELECT named.witness, (
    SELECT greatest(0, extract(epoch FROM now() - c.signed_at))::float8 FROM audit_checkpoint c
    WHERE c.epoch = t.epoch AND c.size > coalesce(
        (SELECT max(w.size) FROM audit_cosignature w WHERE w.epoch = t.epoch AND w.witness = named.witness),
        -1)
    ORDER BY c.size LIMIT 1)
FROM unnest(%s::text[]) AS named(witness) CROSS JOIN audit_tree t
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """How the trail is doing; ages in seconds, None for what never was."""

    events: int
    pending: int
    oldest_pending_seconds: float | None
    checkpoint_age_seconds: float | None


def figures() -> Figures:
    """Return the figures of the queue and the log; one statement. Raises django.db.Error."""
    sequenced, pending, oldest, published = sql.fetch_one(_FIGURES) or (0, 0, None, None)
    return Figures(int(sequenced) + int(pending), int(pending), oldest, published)


def witness_ages() -> dict[str, float]:
    """Return, by configured witness, how old the oldest checkpoint is that it has not cosigned, in seconds.

    0 where it cosigned all: a log in which nothing happens gives it nothing to say. Raises django.db.Error.
    """
    names = [one.key.name for one in cosigning.configured()]
    rows = sql.fetch_all(_UNCOSIGNED, (names,)) if names else []
    return {name: age or 0.0 for name, age in rows}


def publish() -> None:
    """Set the gauges; without an answer of the database to "not a number", never to 0."""
    try:
        now, ages, latest = figures(), witness_ages(), receipt_matching.latest()
    except DatabaseError as error:
        log.critical("audit_figures_not_read", error=type(error).__name__)
        for gauge in (EVENTS, PENDING, OLDEST, CHECKPOINT_AGE, UNMATCHED):
            gauge.set(_NO_DATA)
        for one in cosigning.configured():
            WITNESS_AGE.labels(one.key.name).set(_NO_DATA)
        return
    EVENTS.set(now.events)
    PENDING.set(now.pending)
    OLDEST.set(now.oldest_pending_seconds or 0)
    CHECKPOINT_AGE.set(_NO_DATA if now.checkpoint_age_seconds is None else now.checkpoint_age_seconds)
    UNMATCHED.set(_NO_DATA if latest is None else latest.unmatched)
    for name, age in ages.items():
        WITNESS_AGE.labels(name).set(age)


def watch() -> int:
    """Raise a signal for everything that is late; return how many. For a worker, each minute."""
    now, told = figures(), 0
    oldest, age = now.oldest_pending_seconds or 0, now.checkpoint_age_seconds
    if oldest > PENDING_LIMIT.total_seconds():
        told += _tell(BEHIND, "log", pending=now.pending, oldest_seconds=round(oldest))
    if (age is None and now.events) or (age or 0) > CHECKPOINT_LIMIT.total_seconds():
        told += _tell(UNSIGNED, "log", age_seconds=None if age is None else round(age))
    for name, seconds in witness_ages().items():
        if seconds > WITNESS_LIMIT.total_seconds():
            told += _tell(SILENT, name, uncosigned_seconds=round(seconds))
    waiting = spool.waiting()
    if waiting:
        told += _tell(SPOOLED, "spool", events=waiting)
    return told


def tell_unwatched() -> bool:
    """Raise the signal that nobody watches the log, if so. For a worker, now and then."""
    return not cosigning.configured() and bool(_tell(UNWATCHED, "log", events=figures().events))


def _tell(rule: alerts.Rule, which: str, **evidence: Any) -> int:
    told = alerts.raise_signal(rule, entity=("audit_log", which), evidence=evidence, using="audit")
    return int(told is not None)
