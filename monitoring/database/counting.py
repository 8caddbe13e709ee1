"""Counting the statements of a piece of code, for query budgets and benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections


class Statements(list[str]):
    """The SQL texts sent, in order. BEGIN, COMMIT and savepoints are not among them."""


@contextmanager
def count_statements(*aliases: str) -> Iterator[Statements]:
    """Collect the statements this thread sends on `aliases` (all of them when none is named)."""
    sent = Statements()

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        sent.append(str(sql))
        return execute(sql, params, many, context)

    with ExitStack() as stack:
        for alias in aliases or connections.settings:
            stack.enter_context(connections[alias].execute_wrapper(note))
        yield sent
