"""The environment of processes whose lines are not counted: a tracer would take half of their time again.

For those that end by SIGKILL, which leaves nothing to count, those whose speed or memory is what is looked
at, and those that only do again what other tests of the same lines do.
"""

from __future__ import annotations

import os


def environment() -> dict[str, str]:
    """This process's environment without what makes coverage begin in a child."""
    return {name: value for name, value in os.environ.items() if not is_measuring(name)}


def is_measuring(name: str) -> bool:
    """Whether a variable of this name makes coverage begin in a child."""
    return name.startswith("COVERAGE_PROCESS_")
