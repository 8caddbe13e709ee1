"""How far behind each destination of the audit trail is, for Prometheus: read at each scrape."""

from __future__ import annotations

import structlog
from django.db import Error as DatabaseError
from prometheus_client import Gauge

from monitoring import export_cursors, log, push
from monitoring.registry import REGISTRY

_NO_DATA = float("nan")

logger = structlog.get_logger("mestore.audit")

LAG = Gauge(
    "mestore_audit_push_lag_events",
    "Events of the signed log that a destination has not confirmed yet.",
    ["destination"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)


def publish() -> None:
    """Set the gauge of every configured destination; without an answer of the database, "not a number"."""
    names = [destination.name for destination in push.configured()]
    if not names:
        return
    try:
        behind = {kept.destination: kept.behind for kept in export_cursors.every()}
        size = log.state().size
    except (DatabaseError, log.LogDamaged) as error:
        logger.critical("audit_push_not_counted", error=type(error).__name__)
        for name in names:
            LAG.labels(name).set(_NO_DATA)
        return
    for name in names:
        LAG.labels(name).set(behind.get(name, size))
