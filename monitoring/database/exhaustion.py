"""Telling a pool that ran dry from a database that is away."""

from __future__ import annotations

from psycopg_pool import PoolTimeout, TooManyRequests


def is_pool_exhausted(error: BaseException) -> bool:
    """Return whether `error` means that no connection came free in time.

    Django wraps what the pool raises in its own `OperationalError`; the reason is found among the causes.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, PoolTimeout | TooManyRequests):
            return True
        seen = seen.__cause__
    return False
