"""How far an import has come: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Advance = Callable[[int], None]
Phase = Callable[[str, int], Advance]


def silent(_label: str, _total: int) -> Advance:
    """A phase that shows nothing."""
    return lambda _amount: None


@contextmanager
def shown() -> Iterator[Phase]:
    """Phases with a bar each on standard error while it is a terminal; silent ones otherwise."""
    if not sys.stderr.isatty():
        yield silent
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def begin(label: str, total: int) -> Advance:
            task = bars.add_task(label, total=max(total, 1))
            return lambda amount: bars.advance(task, amount)

        yield begin
