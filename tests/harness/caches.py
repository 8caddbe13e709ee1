"""What a test leaves outside the database: keys in Redis, counters and breakers in this process."""

from __future__ import annotations

import os
from functools import cache

import redis

from mestore.lib import breaker, throttle
from mestore.lib.console import figures
from monitoring import health, integrity, subjects
from sessions_security import keys


def forget() -> None:
    """Bring Redis and the process back to how a test finds them."""
    for circuit in breaker._all.values():
        circuit._circuit.close()
        circuit._reopens_at = 0.0
    throttle._local._whole_at.clear()
    figures.forget()
    health.forget_report()
    integrity.forget()
    subjects.forget_cached_keys()
    keys.forget()
    _forget_redis()


def _forget_redis() -> None:
    try:
        client = _client()
        if client.dbsize() and (keys := list(client.scan_iter("mestore:*", count=1_000))):
            client.unlink(*keys)
    except redis.RedisError:
        # A test took Redis away; what it left there is gone with it or is removed after the next test.
        _client.cache_clear()


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=60)
