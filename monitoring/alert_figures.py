"""How many signals wait, for Prometheus: read at each scrape, by an index over what is not archived."""

from __future__ import annotations

import structlog
from django.db import Error as DatabaseError
from prometheus_client import Gauge

from mestore.lib import sql
from monitoring.registry import REGISTRY
from monitoring.signals import Severity

COUNTED = 10_000
_NO_DATA = float("nan")

log = structlog.get_logger("mestore.alerts")

# Whichever process answered last knows best: the number is of the database, not of the process.
OPEN = Gauge(
    "mestore_signals_open",
    "Signals that are not archived, by severity.",
    ["severity"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
_COUNT = """
SELECT severity, count(*) FROM (
    SELECT severity FROM monitoring_signal WHERE NOT state = 'archived'
     ORDER BY severity DESC, last_seen_at DESC LIMIT %s) AS worst
 GROUP BY severity
"""


def publish() -> None:
    """Set the gauge of every severity; without an answer of the database to "not a number", never to 0."""
    try:
        counted = dict(sql.fetch_all(_COUNT, [COUNTED]))
    except DatabaseError as error:
        log.critical("signals_not_counted", error=type(error).__name__)
        for severity in Severity:
            OPEN.labels(severity.name.lower()).set(_NO_DATA)
        return
    for severity in Severity:
        OPEN.labels(severity.name.lower()).set(counted.get(severity.value, 0))
