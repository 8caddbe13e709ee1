"""What is measured about database connections, per alias. Imports no Django model: the engine loads early."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from monitoring.registry import REGISTRY

WAIT = Histogram(
    "mestore_db_pool_wait_seconds",
    "Time until a connection was handed out.",
    ["alias"],
    registry=REGISTRY,
    buckets=(0.0005, 0.002, 0.01, 0.05, 0.2, 0.5, 1.0, 3.0),
)
CHECKOUT = Histogram(
    "mestore_db_pool_checkout_seconds",
    "Time a connection was held before it was given back.",
    ["alias"],
    registry=REGISTRY,
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0),
)
OPENED = Counter(
    "mestore_db_connections_opened_total", "Connections opened to the server.", ["alias"], registry=REGISTRY
)
EXHAUSTED = Counter(
    "mestore_db_pool_timeouts_total",
    "Times that no connection came free soon enough.",
    ["alias"],
    registry=REGISTRY,
)
