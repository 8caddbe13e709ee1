"""Many cases of one rule in one test, where what a test costs would be more than what it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from tests.harness import caches

Case = TypeVar("Case")


def judge(
    cases: Iterable[Case], check: Callable[[Case], None], *, name: Callable[[Case], object] = str
) -> None:
    """Call `check` with every case; afterwards raise all that went wrong, each with the case's name.

    Every case finds Redis and the process as a test of its own would, and the rows as the cases before it
    left them: for checks that only look. Raises AssertionError when there is no case.
    """
    judged, errors = 0, []
    for case in cases:
        judged += 1
        caches.forget()
        try:
            check(case)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one case, the others are judged too
            error.add_note(f"case: {name(case)}")
            errors.append(error)
    assert judged, "no case"
    if errors:
        raise ExceptionGroup(f"{len(errors)} of {judged} cases", errors)
