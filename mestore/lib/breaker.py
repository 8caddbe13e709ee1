"""Stop asking a service that does not answer, and try it again after a while.

A thin shell over pybreaker, which alone would hold one lock during every call (one slow answer would then
stop all threads) and measure the pause on the wall clock (a clock set back would keep the circuit open).
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, TypeVar, cast

import pybreaker

T = TypeVar("T")
State = Literal["closed", "open", "half-open"]

_all: dict[str, Breaker] = {}


class Open(Exception):
    """The service is not being asked. `retry_after` says in how many seconds it will be."""

    def __init__(self, name: str, retry_after: int) -> None:
        super().__init__(f"{name} is not being asked for another {retry_after} s")
        self.name = name
        self.retry_after = retry_after


class Breaker:
    """Opens after `failures` failed calls in a row; after `reset_seconds` one trial call decides.

    Use `call(function, ...)` or ``with breaker:`` around the call. Both raise `Open` instead of asking, and
    pass on what the call raises. Only exceptions of `counted` types are failures: another exception is an
    answer. Calls run side by side; while the trial runs, others get `Open` without waiting.
    """

    def __init__(
        self,
        name: str,
        failures: int = 3,
        reset_seconds: float = 30,
        *,
        counted: tuple[type[BaseException], ...] = (Exception,),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._counted = counted
        self._clock = clock
        self._reset_seconds = reset_seconds
        self._reopens_at = 0.0
        self._trial = threading.Lock()
        self._trying: int | None = None  # the thread that makes the trial call
        self._circuit = pybreaker.CircuitBreaker(
            fail_max=failures, reset_timeout=reset_seconds, name=name, throw_new_error_on_trip=False
        )
        _all[name] = self

    @property
    def state(self) -> State:
        """What metrics show: ``closed`` is the healthy state."""
        return cast(State, self._circuit.current_state)

    def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """``function(*args, **kwargs)`` under the breaker."""
        with self:
            return function(*args, **kwargs)

    def __enter__(self) -> Breaker:
        if self._circuit.current_state == pybreaker.STATE_CLOSED:
            return self
        left = self._reopens_at - self._clock()
        if left > 0 or not self._trial.acquire(blocking=False):
            raise Open(self.name, max(1, math.ceil(left)))
        self._trying = threading.get_ident()
        if self._circuit.current_state != pybreaker.STATE_CLOSED:
            self._circuit.half_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # A call that began before the circuit opened says nothing about now.
            if self._circuit.current_state != pybreaker.STATE_OPEN:
                self._count(error)
        finally:
            if self._trying == threading.get_ident():
                self._trying = None
                self._trial.release()

    def _count(self, error: BaseException | None) -> None:
        if error is None or (isinstance(error, Exception) and not isinstance(error, self._counted)):
            if self._circuit.current_state == pybreaker.STATE_HALF_OPEN or self._circuit.fail_counter:
                self._circuit.call(_nothing)
            return
        with contextlib.suppress(type(error), pybreaker.CircuitBreakerError):
            self._circuit.call(_raise, error)
        if self._circuit.current_state == pybreaker.STATE_OPEN:
            self._reopens_at = self._clock() + self._reset_seconds


def states() -> dict[str, State]:
    """The state of every breaker of this process, by name."""
    return {name: breaker.state for name, breaker in _all.items()}


def _nothing() -> None:
    return None


def _raise(error: BaseException) -> None:
    raise error
