"""Which views can come to a function: a walk over the names in the code, generous rather than exact."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

from django.urls import resolve

from tests.contract.routes import Route, every_route

_OURS = ("accounts", "sessions_security", "monitoring", "finance", "mestore")


def routes_to(*wanted: Callable[..., Any]) -> set[str]:
    """Return the names of the routes whose code can come to one of the functions."""
    targets = frozenset(inspect.unwrap(function) for function in wanted)
    return {route.name for route in every_route() if any(_comes(f, targets) for f in _entries(route))}


def _entries(route: Route) -> list[FunctionType]:
    view = resolve(route.path).func
    cls = getattr(view, "cls", None) or getattr(view, "view_class", None)
    if cls is None:
        plain = _plain(view)
        return [] if plain is None else [plain]
    return list(_methods(cls))


def _methods(cls: type) -> Iterator[FunctionType]:
    for base in cls.__mro__:
        if base.__module__.startswith(_OURS):
            yield from (found for value in vars(base).values() if (found := _plain(value)) is not None)


def _plain(value: Any) -> FunctionType | None:
    value = inspect.unwrap(getattr(value, "__func__", value)) if callable(value) else value
    return value if isinstance(value, FunctionType) and value.__module__.startswith(_OURS) else None


def _comes(function: FunctionType, targets: frozenset[Any]) -> bool:
    seen: set[FunctionType] = set()
    open_ends = [function]
    while open_ends:
        here = open_ends.pop()
        if here in targets:
            return True
        if here not in seen:
            seen.add(here)
            open_ends += _called(here)
    return False


@cache
def _called(function: FunctionType) -> tuple[FunctionType, ...]:
    names = set(_names(function.__code__))
    spaces = [function.__globals__]
    spaces += [
        vars(value) for name in names if isinstance(value := function.__globals__.get(name), ModuleType)
    ]
    found: list[FunctionType] = []
    for name in names:
        for space in spaces:
            value = space.get(name)
            if isinstance(value, type) and value.__module__.startswith(_OURS):
                continue
            if (plain := _plain(value)) is not None:
                found.append(plain)
    return tuple(found)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
