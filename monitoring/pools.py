"""The connection pools of this process: what they hold now, and what Prometheus is told about them.

Only non-zero numbers are in a pool's own statistics, so every number is read with a default of zero; and they
are read, never popped: popping would take them away from everybody else who looks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter, Gauge

from monitoring.database.base import DatabaseWrapper
from monitoring.registry import REGISTRY

PUBLISH_SECONDS = 5.0

# psycopg's name -> ours.
_LEVELS = {
    "pool_min": "min",
    "pool_max": "max",
    "pool_size": "size",
    "pool_available": "available",
    "requests_waiting": "requests_waiting",
}
_TOTALS = {
    "requests_num": "requests",
    "requests_queued": "queued",
    "requests_errors": "request_errors",
    "returns_bad": "returns_bad",
    "connections_num": "connections_opened",
    "connections_errors": "connect_errors",
    "connections_lost": "connections_lost",
}

_gauges = {
    theirs: Gauge(
        f"mestore_db_pool_{ours}",
        f"Connection pools of all live processes: {ours.replace('_', ' ')}.",
        ["alias"],
        registry=REGISTRY,
        multiprocess_mode="livesum",
    )
    for theirs, ours in _LEVELS.items()
}
_counters = {
    theirs: Counter(
        f"mestore_db_pool_{ours}_total",
        f"Connection pools: {ours.replace('_', ' ')} so far.",
        ["alias"],
        registry=REGISTRY,
    )
    for theirs, ours in _TOTALS.items()
}

_lock = threading.Lock()
_told: dict[tuple[int, str], int] = {}
_next_at = 0.0


def pool_statistics() -> dict[str, dict[str, int]]:
    """Return every level and total, by our names, per alias whose pool this process opened."""
    names = _LEVELS | _TOTALS
    return {
        alias: {ours: int(stats.get(theirs, 0)) for theirs, ours in names.items()}
        for alias, _, stats in _pools()
    }


def publish_when_due() -> None:
    """Publish, at most every `PUBLISH_SECONDS`: cheap enough to be called after each request."""
    global _next_at  # noqa: PLW0603 - one moment per process
    now = time.monotonic()
    if now >= _next_at:
        _next_at = now + PUBLISH_SECONDS
        publish()


def publish() -> None:
    """Set the gauges, and move the counters by what has happened since the last time."""
    with _lock:
        for alias, identity, stats in _pools():
            for theirs, gauge in _gauges.items():
                gauge.labels(alias).set(stats.get(theirs, 0))
            for theirs, counter in _counters.items():
                _advance(counter, alias, (identity, theirs), int(stats.get(theirs, 0)))


def _advance(counter: Counter, alias: str, key: tuple[int, str], total: int) -> None:
    # A pool that was closed and opened again counts from zero: the difference must not become negative.
    counter.labels(alias).inc(max(0, total - _told.get(key, 0)))
    _told[key] = total


def _pools() -> list[tuple[str, int, Mapping[str, int]]]:
    pools: dict[str, Any] = DatabaseWrapper._connection_pools  # type: ignore[attr-defined]  # not in the stubs
    return [(alias, id(pool), pool.get_stats()) for alias, pool in list(pools.items())]
