"""Run things at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from django.db import connections

T = TypeVar("T")
START_SECONDS = 120


def race(runners: Sequence[Callable[[], T]]) -> list[T | BaseException]:
    """Start every runner in a thread of its own behind one barrier; return results and exceptions in order.

    Give callables: `race([partial(refresh, token)] * 8)`. Every thread has its own database connections and
    gives them back at the end. The test must be transactional: threads see only what is committed.
    """
    barrier = threading.Barrier(len(runners))
    outcomes: list[T | BaseException] = [RuntimeError("did not finish")] * len(runners)

    def run(number: int, runner: Callable[[], T]) -> None:
        try:
            barrier.wait(START_SECONDS)
            outcomes[number] = runner()
        except BaseException as error:  # noqa: BLE001 - whatever happened is the outcome
            outcomes[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=item) for item in enumerate(runners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
