"""Load limits in Redis, and what happens when Redis is away."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django_redis import get_redis_connection
from hypothesis import given
from hypothesis import strategies as st

from mestore import servers
from mestore.lib import breaker, throttle
from mestore.lib.throttle import Decision, Limit, hit

MINUTE = Limit("minute", 5, 60)
HOUR = Limit("hour", 3, 3600)


class Clock:
    """Nanoseconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.now = 10**18

    def __call__(self) -> int:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += int(seconds * 10**9)


@pytest.fixture(autouse=True)
def own_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A breaker, a local limiter and connections of the test's own, with patience for a busy machine."""
    patience = redis().connection_pool.connection_kwargs
    monkeypatch.setitem(patience, "socket_timeout", 30)
    monkeypatch.setitem(patience, "socket_connect_timeout", 30)
    monkeypatch.setattr(throttle, "_connections", throttle._Connections(None))
    monkeypatch.setattr(throttle, "_local", throttle._LocalLimiter())
    monkeypatch.setattr(
        throttle, "_redis", breaker.Breaker("throttle", counted=throttle._redis._counted, clock=lambda: 0.0)
    )


def redis() -> Any:
    return get_redis_connection("default")


def take(times: int, *limits: tuple[Limit, str]) -> list[Decision]:
    return [hit(limits) for _ in range(times)]


class TestInRedis:
    def test_the_budget_may_be_used_at_once_and_not_one_request_more(self) -> None:
        decisions = take(6, (MINUTE, "ana"))

        assert [decision.allowed for decision in decisions] == [True] * 5 + [False]
        assert [decision.remaining for decision in decisions] == [4, 3, 2, 1, 0, 0]

    def test_a_refusal_says_when_the_next_request_will_be_allowed(self) -> None:
        refused = take(6, (MINUTE, "ana"))[-1]

        assert 0 < refused.retry_after <= 12
        assert 48 < refused.reset_seconds <= 60
        assert (refused.limit, refused.limit_name) == (5, "minute")

    def test_an_allowed_request_need_not_wait(self) -> None:
        decision = hit([(MINUTE, "ana")])

        assert decision == Decision(
            allowed=True, limit=5, remaining=4, reset_seconds=12, retry_after=0, limit_name="minute"
        )

    def test_asking_again_while_refused_does_not_prolong_the_wait(self) -> None:
        first = take(6, (MINUTE, "ana"))[-1]
        last = take(20, (MINUTE, "ana"))[-1]

        assert last.retry_after <= first.retry_after

    def test_everybody_has_a_budget_of_their_own(self) -> None:
        take(6, (MINUTE, "ana"))

        assert hit([(MINUTE, "eva")]).allowed
        assert hit([(Limit("other", 5, 60), "ana")]).allowed

    @given(
        one=st.tuples(st.text(max_size=6), st.text(max_size=6)),
        other=st.tuples(st.text(max_size=6), st.text(max_size=6)),
    )
    def test_no_name_and_key_share_a_counter_with_another_pair(
        self, one: tuple[str, str], other: tuple[str, str]
    ) -> None:
        keys = [throttle._key(Limit(name, 1, 1), whom) for name, whom in (one, other)]

        assert (keys[0] == keys[1]) == (one == other)
        assert all(key.startswith(b"mestore:throttle:") and len(key) == 17 + 32 for key in keys)

    def test_moving_a_letter_from_the_key_to_the_name_is_another_counter(self) -> None:
        assert throttle._key(Limit("a", 1, 1), "b1") != throttle._key(Limit("ab", 1, 1), "1")

    def test_neither_address_nor_e_mail_stands_in_redis(self) -> None:
        hit([(MINUTE, "ana@example.co"), (HOUR, "203.0.113.7")])

        stored = list(redis().scan_iter("mestore:throttle:*"))
        assert len(stored) == 2
        assert not any(b"ana@" in key or b"203.0" in key for key in stored)

    def test_names_in_redis_are_made_with_the_key_in_force(self, settings: Any) -> None:
        before = throttle._key(MINUTE, "ana@example.co")
        ring = settings.MESTORE_MASTER_KEYS
        settings.MESTORE_MASTER_KEYS = {"another": b"\x07" * 32, **ring}

        assert throttle._key(MINUTE, "ana@example.co") != before
        settings.MESTORE_MASTER_KEYS = ring
        assert throttle._key(MINUTE, "ana@example.co") == before

    def test_the_tightest_of_several_limits_is_told(self) -> None:
        assert hit([(MINUTE, "a"), (HOUR, "a")]).limit_name == "hour"
        take(2, (HOUR, "a"))

        refused = hit([(MINUTE, "a"), (HOUR, "a")])
        assert (refused.allowed, refused.limit_name, refused.limit) == (False, "hour", 3)

    def test_of_two_refusals_the_longer_wait_is_told_whatever_their_order(self) -> None:
        take(5, (MINUTE, "a"))
        take(3, (HOUR, "a"))

        for limits in ([(MINUTE, "a"), (HOUR, "a")], [(HOUR, "a"), (MINUTE, "a")]):
            refused = hit(limits)
            assert refused.limit_name == "hour"
            assert refused.retry_after > 1_000

    def test_when_one_limit_refuses_none_is_charged(self) -> None:
        take(3, (HOUR, "a"))
        for order in ([(MINUTE, "a"), (HOUR, "a")], [(HOUR, "a"), (MINUTE, "a")]):
            assert not hit(order).allowed

        assert hit([(MINUTE, "a")]).remaining == 4

    def test_a_costly_request_takes_its_cost_or_nothing(self) -> None:
        assert hit([(MINUTE, "a")], cost=3).remaining == 2
        refused = hit([(MINUTE, "a")], cost=3)

        assert (refused.allowed, refused.remaining) == (False, 2)
        assert 0 < refused.retry_after <= 12
        assert hit([(MINUTE, "a")], cost=2).allowed

    def test_more_than_the_whole_budget_is_never_allowed(self) -> None:
        assert not hit([(MINUTE, "a")], cost=6).allowed
        assert hit([(MINUTE, "a")], cost=5).allowed

    def test_a_counter_disappears_by_itself_when_its_budget_is_whole(self) -> None:
        hit([(MINUTE, "a")], cost=5)
        hit([(HOUR, "a")])

        lives = sorted(redis().pttl(key) for key in redis().scan_iter("mestore:throttle:*"))
        assert 30_000 < lives[0] <= 60_000
        assert 1_100_000 < lives[1] <= 1_200_000

    def test_the_budget_comes_back_with_time(self) -> None:
        quick = Limit("quick", 1, 600)
        assert hit([(quick, "a")]).allowed
        assert not hit([(quick, "a")]).allowed

        key = throttle._key(quick, "a")
        redis().set(key, int(redis().get(key)) - 600_000_000)
        assert hit([(quick, "a")]).allowed

    def test_a_long_rest_earns_no_more_than_the_budget(self) -> None:
        hit([(MINUTE, "a")])
        key = throttle._key(MINUTE, "a")
        redis().set(key, int(redis().get(key)) - 3_600_000_000)

        assert [decision.allowed for decision in take(6, (MINUTE, "a"))] == [True] * 5 + [False]

    def test_a_stored_time_far_ahead_locks_nobody_out_for_longer_than_a_window(self) -> None:
        hit([(MINUTE, "a")])
        key = throttle._key(MINUTE, "a")
        redis().set(key, int(redis().get(key)) + 10**15)

        refused = hit([(MINUTE, "a")])
        assert not refused.allowed
        assert refused.retry_after <= 12
        assert refused.reset_seconds <= 60

    def test_a_burst_from_many_threads_is_counted_exactly(self, race: Any) -> None:
        limit = Limit("burst", 20, 3600)

        decisions = race([lambda: hit([(limit, "a")])] * 40)
        assert sum(decision.allowed for decision in decisions) == 20

    def test_large_limits_are_exact_too(self) -> None:
        limit = Limit("large", 60_000, 60)

        assert hit([(limit, "a")], cost=59_000).remaining == 1_000
        assert not hit([(limit, "a")], cost=1_200).allowed

    def test_one_decision_is_one_round_trip(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hit([(MINUTE, "a"), (HOUR, "a")])
        sent: list[bytes] = []
        exchange = throttle._Connections._exchange

        def counting(connections: Any, connection: Any, command: Any) -> Any:
            sent.append(command[0])
            return exchange(connections, connection, command)

        monkeypatch.setattr(throttle._Connections, "_exchange", counting)
        hit([(MINUTE, "a"), (HOUR, "a")])

        assert sent == [b"EVALSHA"]

    def test_after_redis_forgot_the_script_the_next_request_is_counted_as_ever(
        self, own_redis: servers.Servers
    ) -> None:
        """Of a Redis of its own: all test processes share the scripts of the other one."""
        take(4, (MINUTE, "a"))
        redis().execute_command("SCRIPT", "FLUSH")
        idle = list(throttle._connections._idle)

        assert hit([(MINUTE, "a")]).remaining == 0
        assert list(throttle._connections._idle) == idle
        assert not hit([(MINUTE, "a")]).allowed
        assert throttle._redis.state == "closed"

    def test_a_connection_closed_while_it_lay_idle_is_replaced(self) -> None:
        hit([(MINUTE, "a")])
        for connection in throttle._connections._idle:
            connection._sock.close()

        assert hit([(MINUTE, "a")]).remaining == 3
        assert throttle._redis.state == "closed"

    def test_threads_with_a_pool_each_share_the_connections(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hit([(MINUTE, "a")])
        mine, idle = throttle._connections, list(throttle._connections._idle)
        other = type("Client", (), {"connection_pool": object()})
        monkeypatch.setattr(throttle, "get_redis_connection", lambda _alias: other)

        assert hit([(MINUTE, "a")]).remaining == 3
        assert throttle._connections is mine
        assert list(mine._idle) == idle

    def test_a_forked_child_makes_connections_of_its_own(self) -> None:
        hit([(MINUTE, "a")])
        mine = throttle._connections
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            decision = hit([(MINUTE, "a")])
            os.write(writing, bytes([decision.remaining, throttle._connections is mine]))
            os._exit(0)
        os.waitpid(child, 0)
        answer = os.read(reading, 2)
        os.close(reading)
        os.close(writing)

        assert answer == bytes([3, False])
        assert hit([(MINUTE, "a")]).remaining == 2


class TestBadQuestions:
    @pytest.mark.parametrize(("limit", "window"), [(0, 60), (-1, 60), (5, 0), (5, -1)])
    def test_a_limit_without_room_is_refused(self, limit: int, window: int) -> None:
        with pytest.raises(ValueError, match="broken"):
            Limit("broken", limit, window)

    def test_no_limit_and_no_cost_are_refused(self) -> None:
        with pytest.raises(ValueError, match="at least one limit"):
            hit([])
        for cost in (0, -1):
            with pytest.raises(ValueError, match="cost"):
                hit([(MINUTE, "a")], cost=cost)


@pytest.fixture(scope="module")
def spare_servers() -> Iterator[servers.Servers]:
    with servers.start() as running:
        yield running


@pytest.fixture
def own_redis(spare_servers: servers.Servers, settings: Any) -> Iterator[servers.Servers]:
    """A Redis that the test may take away."""
    options = {"SOCKET_TIMEOUT": 30, "SOCKET_CONNECT_TIMEOUT": 30}
    cache = {**settings.CACHES["default"], "LOCATION": spare_servers.redis_url(), "OPTIONS": options}
    settings.CACHES = {"default": cache}
    yield spare_servers
    if spare_servers.control("status", "redis") is None:
        spare_servers.control("start", "redis")


class TestWithoutRedis:
    def test_redis_away_means_a_quarter_of_each_limit_and_never_a_pass(
        self, own_redis: servers.Servers
    ) -> None:
        limit = Limit("api", 12, 60)
        assert hit([(limit, "a")]).remaining == 11
        own_redis.control("kill", "redis")

        decisions = take(5, (limit, "a"))

        assert [decision.allowed for decision in decisions] == [True, True, True, False, False]
        assert [decision.limit for decision in decisions] == [3] * 5
        assert decisions[-1].retry_after > 0

    def test_even_the_smallest_limit_lets_one_through_and_only_one(self, own_redis: servers.Servers) -> None:
        own_redis.control("kill", "redis")

        assert [decision.allowed for decision in take(2, (HOUR, "a"))] == [True, False]

    def test_after_three_failures_redis_is_not_asked_and_then_it_counts_again(
        self, own_redis: servers.Servers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        now = [0.0]
        monkeypatch.setattr(
            throttle,
            "_redis",
            breaker.Breaker("throttle", counted=throttle._redis._counted, clock=lambda: now[0]),
        )
        own_redis.control("kill", "redis")
        with caplog.at_level(logging.WARNING):
            take(6, (MINUTE, "ana@example.co"))
        assert throttle._redis.state == "open"
        assert len(caplog.records) == 3
        assert "ana@example.co" not in caplog.text

        own_redis.control("start", "redis")
        assert hit([(MINUTE, "eva")]).limit == 1
        now[0] = 30.0

        assert hit([(MINUTE, "eva")]).limit == 5
        assert breaker.states()["throttle"] == "closed"

    def test_a_redis_that_hangs_costs_its_timeout_three_times_at_most(
        self, own_redis: servers.Servers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hit([(MINUTE, "a")])
        asked: list[Any] = []
        ask = throttle._ask_redis

        def counting(*given: Any) -> list[int]:
            asked.append(given)
            return ask(*given)

        monkeypatch.setattr(throttle, "_ask_redis", counting)
        monkeypatch.setitem(redis().connection_pool.connection_kwargs, "socket_timeout", 0.1)
        throttle._connections._idle.clear()
        own_redis.control("pause", "redis")
        try:
            decisions = take(10, (MINUTE, "a"))
        finally:
            own_redis.control("resume", "redis")

        assert len(asked) == 3
        assert [decision.limit for decision in decisions] == [1] * 10

    def test_a_redis_that_refuses_the_command_is_as_good_as_away(
        self, own_redis: servers.Servers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(throttle, "_PREFIX", b"elsewhere:")

        assert hit([(MINUTE, "a")]).limit == 1

    def test_without_redis_in_the_settings_the_whole_limit_applies_in_the_one_process(
        self, settings: Any
    ) -> None:
        settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

        decisions = take(6, (MINUTE, "a"))

        assert [decision.allowed for decision in decisions] == [True] * 5 + [False]
        assert decisions[0].limit == 5


class TestLocalLimiter:
    def test_it_forgets_the_key_used_longest_ago_and_stays_bounded(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(throttle, "_LOCAL_KEYS", 3)
        local = throttle._LocalLimiter(Clock())
        once = Limit("once", 1, 60)
        for whom in ("a", "b", "c"):
            local.hit([(once, whom)], 1, stricter=1)
        assert not local.hit([(once, "a")], 1, stricter=1).allowed

        local.hit([(once, "d")], 1, stricter=1)

        assert len(local._whole_at) == 3
        assert local.hit([(once, "a")], 1, stricter=1).allowed
        assert not local.hit([(once, "d")], 1, stricter=1).allowed

    def test_a_key_that_is_used_again_is_not_the_oldest_any_more(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(throttle, "_LOCAL_KEYS", 2)
        local = throttle._LocalLimiter(Clock())
        for whom in ("a", "b", "a", "c"):
            local.hit([(MINUTE, whom)], 1, stricter=1)

        assert [whom for _name, whom in local._whole_at] == ["a", "c"]

    @pytest.mark.parametrize(("rested", "told"), [(0.0, 12), (0.5, 12), (11.2, 1), (11.9999, 1)])
    def test_a_wait_is_told_in_whole_seconds_that_are_enough(self, rested: float, told: int) -> None:
        clock = Clock()
        local = throttle._LocalLimiter(clock)
        local.hit([(MINUTE, "a")], 5, stricter=1)
        clock.move(rested)

        assert local.hit([(MINUTE, "a")], 1, stricter=1).retry_after == told

    def test_the_bound_is_ten_thousand_keys(self) -> None:
        local = throttle._LocalLimiter(Clock())
        for number in range(10_050):
            local.hit([(MINUTE, str(number))], 1, stricter=4)

        assert len(local._whole_at) == 10_000

    def test_refused_strangers_do_not_fill_the_memory(self) -> None:
        local = throttle._LocalLimiter(Clock())
        for number in range(50):
            local.hit([(MINUTE, str(number))], 9, stricter=1)

        assert not local._whole_at

    @given(
        limit=st.integers(1, 40),
        window=st.integers(1, 100),
        steps=st.lists(st.tuples(st.floats(0, 20), st.integers(1, 3)), max_size=60),
    )
    def test_no_window_ever_holds_more_than_twice_the_limit_nor_refuses_the_first(
        self, limit: int, window: int, steps: list[tuple[float, int]]
    ) -> None:
        clock = Clock()
        local = throttle._LocalLimiter(clock)
        tested = Limit("any", limit, window)
        taken: list[tuple[int, int]] = []
        for pause, cost in steps:
            clock.move(pause)
            if local.hit([(tested, "a")], cost, stricter=1).allowed:
                taken.append((clock.now, cost))

        for start, _cost in taken:
            inside = sum(cost for at, cost in taken if start <= at < start + window * 10**9)
            assert inside <= 2 * limit
        if steps and steps[0][1] <= limit:
            assert taken

    @given(
        limit=st.integers(1, 30), window=st.integers(1, 60), costs=st.lists(st.integers(1, 4), max_size=20)
    )
    def test_it_decides_as_redis_does(self, limit: int, window: int, costs: list[int]) -> None:
        tested = Limit(f"twin {os.urandom(8).hex()}", limit, window * 1_000)
        local = throttle._LocalLimiter(Clock())

        for cost in costs:
            here, there = local.hit([(tested, "a")], cost, stricter=1), hit([(tested, "a")], cost=cost)
            assert here.allowed == there.allowed
            assert abs(here.remaining - there.remaining) <= 1
            assert abs(here.retry_after - there.retry_after) <= 30

    def test_waiting_as_long_as_told_is_enough_and_a_moment_less_is_not(self) -> None:
        clock = Clock()
        local = throttle._LocalLimiter(clock)
        for _ in range(5):
            local.hit([(MINUTE, "a")], 1, stricter=1)
        wait = local.hit([(MINUTE, "a")], 1, stricter=1).retry_after

        clock.move(wait - 0.001)
        assert not local.hit([(MINUTE, "a")], 1, stricter=1).allowed
        clock.move(0.001)
        assert local.hit([(MINUTE, "a")], 1, stricter=1).allowed

    def test_threads_together_get_the_limit_and_not_more(self) -> None:
        local = throttle._LocalLimiter()
        limit = Limit("threads", 50, 3600)
        allowed: list[bool] = []

        def work() -> None:
            allowed.extend(local.hit([(limit, "a")], 1, stricter=1).allowed for _ in range(20))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sum(allowed) == 50
