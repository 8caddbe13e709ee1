"""When a failing service is asked, and when it is left alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from mestore.lib import breaker


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guarded(clock: Clock) -> breaker.Breaker:
    return breaker.Breaker("test", failures=3, reset_seconds=30, counted=(OSError,), clock=clock)


def fail() -> None:
    raise OSError("away")


def fail_times(guarded: breaker.Breaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(OSError, match="away"):
            guarded.call(fail)


def state_of(guarded: breaker.Breaker) -> str:
    return guarded.state


def refused(guarded: breaker.Breaker) -> int:
    """That the service is not asked; how long it will not be."""

    def must_not_run() -> None:
        pytest.fail("the service was asked")

    with pytest.raises(breaker.Open) as caught:
        guarded.call(must_not_run)
    assert caught.value.name == "test"
    return caught.value.retry_after


def test_two_failures_do_not_open_it_and_the_third_does(guarded: breaker.Breaker) -> None:
    fail_times(guarded, 2)
    assert state_of(guarded) == "closed"

    fail_times(guarded, 1)
    assert state_of(guarded) == "open"
    assert refused(guarded) == 30


def test_a_success_in_between_starts_the_count_again(guarded: breaker.Breaker) -> None:
    fail_times(guarded, 2)
    assert guarded.call(lambda: "answer") == "answer"
    fail_times(guarded, 2)

    assert state_of(guarded) == "closed"


def test_an_exception_that_is_not_counted_is_an_answer(guarded: breaker.Breaker) -> None:
    fail_times(guarded, 2)
    for _ in range(5):
        with pytest.raises(LookupError):
            guarded.call({}.__getitem__, "missing")
    fail_times(guarded, 2)

    assert state_of(guarded) == "closed"


def test_retry_after_counts_down_and_is_never_nothing(guarded: breaker.Breaker, clock: Clock) -> None:
    fail_times(guarded, 3)

    clock.now += 12.5
    assert refused(guarded) == 18
    clock.now += 17.4
    assert refused(guarded) == 1


def test_after_the_pause_one_good_trial_closes_it(guarded: breaker.Breaker, clock: Clock) -> None:
    fail_times(guarded, 3)
    clock.now += 30

    states = [guarded.call(lambda: guarded.state), guarded.state]

    assert states == ["half-open", "closed"]
    fail_times(guarded, 2)
    assert state_of(guarded) == "closed"


def test_after_the_pause_one_bad_trial_opens_it_for_another_pause(
    guarded: breaker.Breaker, clock: Clock
) -> None:
    fail_times(guarded, 3)
    clock.now += 30
    fail_times(guarded, 1)

    assert state_of(guarded) == "open"
    assert refused(guarded) == 30
    clock.now += 30
    assert guarded.call(lambda: 1) == 1
    assert state_of(guarded) == "closed"


def test_an_interrupted_trial_counts_as_failed_and_can_be_tried_again(
    guarded: breaker.Breaker, clock: Clock
) -> None:
    fail_times(guarded, 3)
    clock.now += 30

    with pytest.raises(KeyboardInterrupt), guarded:
        raise KeyboardInterrupt

    assert state_of(guarded) == "open"
    clock.now += 30
    assert guarded.call(lambda: 1) == 1


def test_an_uncounted_exception_in_the_trial_closes_it(guarded: breaker.Breaker, clock: Clock) -> None:
    fail_times(guarded, 3)
    clock.now += 30

    with pytest.raises(LookupError), guarded:
        raise LookupError

    assert state_of(guarded) == "closed"


def test_while_the_trial_runs_others_are_refused_without_waiting(
    guarded: breaker.Breaker, clock: Clock
) -> None:
    fail_times(guarded, 3)
    clock.now += 30

    with guarded:
        assert refused(guarded) == 1

    assert state_of(guarded) == "closed"


def in_thread(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_a_slow_call_does_not_hold_up_the_others(guarded: breaker.Breaker) -> None:
    started, release = threading.Event(), threading.Event()

    def slow() -> None:
        started.set()
        release.wait(120)

    thread = in_thread(lambda: guarded.call(slow))
    assert started.wait(120)

    assert guarded.call(lambda: "at once") == "at once"
    release.set()
    thread.join(120)


@pytest.mark.parametrize("outcome", ["failure", "success"])
def test_a_call_that_began_before_it_opened_changes_nothing_when_it_ends(
    outcome: str, guarded: breaker.Breaker, clock: Clock
) -> None:
    started, release = threading.Event(), threading.Event()

    def slow() -> None:
        started.set()
        release.wait(120)
        if outcome == "failure":
            fail()

    def run() -> None:
        try:
            guarded.call(slow)
        except OSError:
            return

    thread = in_thread(run)
    assert started.wait(120)
    fail_times(guarded, 3)
    clock.now += 10
    release.set()
    thread.join(120)

    assert state_of(guarded) == "open"
    assert refused(guarded) == 20


def test_many_threads_failing_at_once_open_it_once_and_lose_no_error(
    guarded: breaker.Breaker, clock: Clock, race: Any
) -> None:
    together = threading.Barrier(8)

    def failing() -> None:
        together.wait(120)
        fail()

    results = race([lambda: guarded.call(failing)] * 8)

    assert [type(result) for result in results] == [OSError] * 8
    assert state_of(guarded) == "open"
    clock.now += 30
    assert guarded.call(lambda: 1) == 1


def test_the_states_of_all_breakers_are_listed_by_name(guarded: breaker.Breaker) -> None:
    assert breaker.states()["test"] == "closed"
    fail_times(guarded, 3)

    assert breaker.states()["test"] == "open"
    assert breaker.states()["throttle"] in {"closed", "open", "half-open"}


def test_the_real_clock_does_not_go_back() -> None:
    real = breaker.Breaker("real", failures=1, reset_seconds=0.0)
    with pytest.raises(OSError, match="away"):
        real.call(fail)

    assert real.call(lambda: "tried again") == "tried again"
