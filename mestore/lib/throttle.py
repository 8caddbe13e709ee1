"""Load limits: how often, counted in Redis in one round trip whose cost does not depend on limit or window.

The rule is GCRA: a key stores one number, the time at which its budget would be whole again. A limit of 60 in
60 seconds allows 60 at once and then one more each second, so that a window that begins with a burst may hold
up to twice the limit. Several limits are judged together: when one refuses, none is charged, so asking again
does not prolong the wait.

Redis away or slow: a breaker stops asking, and a limiter inside this process answers with a quarter of each
limit (at least 1). Without Redis in the settings (one process, by construction) that limiter applies the
whole limit.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings
from django_redis import get_redis_connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from mestore.lib import breaker, crypto

_log = logging.getLogger(__name__)

_PREFIX = b"mestore:throttle:"
_MICRO = 1_000_000
_STRICTER = 4
_LOCAL_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Limit:
    """`limit` requests in `window_seconds`; `name` keeps the counters of different limits apart."""

    name: str
    limit: int
    window_seconds: int

    def __post_init__(self) -> None:
        if self.limit < 1 or self.window_seconds < 1:
            raise ValueError(f"the limit {self.name} must allow at least 1 request in at least 1 second")


@dataclass(frozen=True, slots=True)
class Decision:
    """The tightest of the limits asked about.

    `remaining` requests are left now, the whole budget is back in `reset_seconds`; `retry_after` is 0 when
    allowed.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int
    retry_after: int
    limit_name: str


# KEYS: one per limit. ARGV: cost, then per limit the microseconds that one request takes and that the budget
# holds. A stored time beyond the budget is cut back to it: a server clock set back, or a limit made smaller,
# cannot lock anybody out for longer than one window. Answer: refused, which limit, requests left,
# microseconds until whole, wait, as one text: the client library takes a list apart in forty calls.
_SCRIPT = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local cost = tonumber(ARGV[1])
local whole_at = {}
local refused, index, left, reset, wait = 0, 0, 0, 0, 0
for i, key in ipairs(KEYS) do
  local interval = tonumber(ARGV[2 * i])
  local budget = tonumber(ARGV[2 * i + 1])
  local used = tonumber(redis.call('GET', key) or now) - now
  if used < 0 then used = 0 elseif used > budget then used = budget end
  local after = used + cost * interval
  if after > budget then
    if refused == 0 or after - budget > wait then
      refused, index, wait = 1, i, after - budget
      left, reset = math.floor((budget - used) / interval), used
    end
  elseif refused == 0 then
    local remaining = math.floor((budget - after) / interval)
    if index == 0 or remaining < left then
      index, left, reset = i, remaining, after
    end
  end
  whole_at[i] = after
end
if refused == 0 then
  for i, key in ipairs(KEYS) do
    redis.call('SET', key, string.format('%.0f', now + whole_at[i]), 'PX', math.ceil(whole_at[i] / 1000))
  end
end
return string.format('%d %d %d %d %d', refused, index, left, reset, wait)
"""
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest().encode()

_redis = breaker.Breaker("throttle", failures=3, reset_seconds=30, counted=(RedisError, OSError))


def hit(limits: Sequence[tuple[Limit, str]], *, cost: int = 1) -> Decision:
    """Charge `cost` requests to each (limit, key) and say whether they are allowed.

    The key says whom to count: an address, a user's id. Never raises because Redis is away.
    """
    if not limits or cost < 1:
        raise ValueError("hit() needs at least one limit and a cost of at least 1")
    if not _has_redis():
        return _local.hit(limits, cost, stricter=1)
    try:
        with _redis:
            reply = _ask_redis(limits, cost)
    except breaker.Open:
        return _local.hit(limits, cost, stricter=_STRICTER)
    except (RedisError, OSError) as error:
        _log.warning(
            "throttle: Redis did not answer (%s); the strict limits of this process apply",
            type(error).__name__,
        )
        return _local.hit(limits, cost, stricter=_STRICTER)
    refused, index, left, reset, wait = reply
    limit = limits[index - 1][0]
    return _decision(limit.name, limit.limit, refused == 0, left, reset, wait)


def _has_redis() -> bool:
    backend: str = settings.CACHES["default"]["BACKEND"]
    return backend.startswith("django_redis.")


def _ask_redis(limits: Sequence[tuple[Limit, str]], cost: int) -> list[int]:
    arguments = [b"%d" % len(limits)]
    arguments += [_key(limit, whom) for limit, whom in limits]
    arguments.append(b"%d" % cost)
    for limit, _whom in limits:
        interval = _interval(limit.limit, limit.window_seconds)
        arguments += (b"%d" % interval, b"%d" % (interval * limit.limit))
    connections = _connections_here()
    try:
        reply = connections.ask(b"EVALSHA", _SHA, *arguments)
    except NoScriptError:  # first use, or Redis was restarted: sending the script stores it
        reply = connections.ask(b"EVAL", _SCRIPT.encode(), *arguments)
    return [int(number) for number in reply.split()]


def _key(limit: Limit, whom: str) -> bytes:
    # Names and keys have their lengths written before them, so no pair gives another pair's bytes; the keyed
    # digest keeps addresses and e-mails out of Redis and the length constant.
    return b"%b%b" % (_PREFIX, _digest(limit.name, whom, next(iter(settings.MESTORE_MASTER_KEYS))))


@lru_cache(maxsize=_LOCAL_KEYS)
def _digest(name: str, whom: str, _master_key: str) -> bytes:
    # Remembered for as many callers as the limiter of this process would be: the same few ask all the time.
    return crypto.mac(crypto.row_binding(name, whom), purpose="throttle")[:16].hex().encode()


def _interval(limit: int, window_seconds: int) -> int:
    return max(1, window_seconds * _MICRO // limit)


def _decision(name: str, limit: int, allowed: bool, left: int, reset: int, wait: int) -> Decision:
    return Decision(
        allowed=allowed,
        limit=limit,
        remaining=left,
        reset_seconds=math.ceil(reset / _MICRO),
        retry_after=0 if allowed else max(1, math.ceil(wait / _MICRO)),
        limit_name=name,
    )


def _packed(command: tuple[bytes, ...]) -> bytes:
    """A command as it goes over the wire (RESP). The client library's own way takes nine calls a word."""
    words = [b"$%d\r\n%b\r\n" % (len(word), word) for word in command]
    return b"*%d\r\n%b" % (len(words), b"".join(words))


class _Connections:
    """Connections kept for the script alone, made as django-redis' pool makes its own.

    The pool polls a connection each time before lending it, which is a third of the cost of a call. Here a
    connection that was closed while it lay idle is noticed by using it, and replaced once.
    """

    def __init__(self, pool: Any, location: object = None) -> None:
        self.pool = pool
        self.location = location
        self.process = os.getpid()
        self._idle: deque[Any] = deque()

    def ask(self, *command: bytes) -> bytes | str:
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._exchange(self._new(), command)
        try:
            return self._exchange(connection, command)
        except RedisConnectionError:
            return self._exchange(self._new(), command)

    def _new(self) -> Any:
        return self.pool.connection_class(**self.pool.connection_kwargs)

    def _exchange(self, connection: Any, command: tuple[bytes, ...]) -> bytes | str:
        try:
            connection.send_packed_command([_packed(command)])
            reply: bytes | str = connection.read_response()
        except ResponseError:  # an answer: nothing is left unread
            self._idle.append(connection)
            raise
        except BaseException:  # an unread answer would be taken for the next caller's
            connection.disconnect()
            raise
        self._idle.append(connection)
        return reply


_connections = _Connections(None)


_replacing = threading.Lock()


def _connections_here() -> _Connections:
    """The connections of this process to the Redis of the settings; a forked child makes its own.

    They belong to the address, not to django-redis' pool: threads that came first at the same moment keep a
    pool each, and would take the connections away from one another, a TLS handshake per request.
    """
    global _connections  # noqa: PLW0603 - replaced whole, so that no thread sees half of a change
    here = settings.CACHES["default"]["LOCATION"]
    if _connections.location != here or _connections.process != os.getpid():
        with _replacing:
            if _connections.location != here or _connections.process != os.getpid():
                _connections = _Connections(get_redis_connection("default").connection_pool, here)
    return _connections


class _LocalLimiter:
    """The same rule inside one process, in bounded memory: the key used longest ago is forgotten first."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._whole_at: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._lock = threading.Lock()

    def hit(self, limits: Sequence[tuple[Limit, str]], cost: int, *, stricter: int) -> Decision:
        """Judge and charge all limits, each divided by `stricter`."""
        with self._lock:
            now = self._clock() // 1000
            decisions = []
            whole_at = {}
            for limit, whom in limits:
                decision, after = self._judge(limit, whom, cost, now, max(1, limit.limit // stricter))
                decisions.append(decision)
                whole_at[limit.name, whom] = now + after
            tightest = min(decisions, key=_tightness)
            if tightest.allowed:
                self._store(whole_at)
            return tightest

    def _judge(self, limit: Limit, whom: str, cost: int, now: int, allowed: int) -> tuple[Decision, int]:
        interval = _interval(allowed, limit.window_seconds)
        budget = interval * allowed
        used = min(max(0, self._whole_at.get((limit.name, whom), now) - now), budget)
        after = used + cost * interval
        if after > budget:
            return _decision(
                limit.name, allowed, False, (budget - used) // interval, used, after - budget
            ), after
        return _decision(limit.name, allowed, True, (budget - after) // interval, after, 0), after

    def _store(self, whole_at: dict[tuple[str, str], int]) -> None:
        self._whole_at.update(whole_at)
        for key in whole_at:
            self._whole_at.move_to_end(key)
        while len(self._whole_at) > _LOCAL_KEYS:
            self._whole_at.popitem(last=False)


def _tightness(decision: Decision) -> tuple[bool, int]:
    return decision.allowed, decision.remaining if decision.allowed else -decision.retry_after


_local = _LocalLimiter()
