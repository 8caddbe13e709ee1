"""Waiting until every transaction of the cluster that was begun before now has ended.

A snapshot of balances sums up what lies behind all transactions that are under way, and other workers'
tests have theirs in the same cluster.
"""

from __future__ import annotations

import time

from mestore.lib import sql

PATIENCE_SECONDS = 600
_NOW = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"
_IS_BEHIND = "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= %s::xid8"


def wait() -> None:
    """Return when nothing that was under way is any more. Raises TimeoutError."""
    (now,) = sql.fetch_one(_NOW) or ("0",)
    until = time.monotonic() + PATIENCE_SECONDS
    while not (sql.fetch_one(_IS_BEHIND, [now]) or (False,))[0]:
        if time.monotonic() > until:
            raise TimeoutError("a transaction does not end")
        time.sleep(0.02)
