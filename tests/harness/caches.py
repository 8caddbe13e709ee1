"""What a test leaves outside the database: keys in Redis, counters and breakers in this process."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import redis


def forget() -> None:
    """Bring Redis and the process back to how a test finds them."""
    _forget_redis()


def _forget_redis() -> None:
    try:
        client = _client()
        if client.dbsize():
            for keys in iter(lambda: list(client.scan_iter("mestore:*", count=1_000)), []):
                client.unlink(*keys)
    except redis.RedisError:
        # A test took Redis away; what it left there is gone with it or is removed after the next test.
        _client.cache_clear()


@cache
def _client() -> redis.Redis[Any]:
    return redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=2)
