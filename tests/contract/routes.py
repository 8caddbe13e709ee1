"""A walk over every address the service answers to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from django.urls import URLPattern, URLResolver, get_resolver

SAMPLES = {"uuid": "01890a5d-ac96-774b-bcce-b302099a8057", "int": "1", "str": "x", "path": "x", "slug": "x"}
CONVERTER = re.compile(r"<(?:(\w+):)?\w+>")
NAMED_GROUP = re.compile(r"\(\?P<\w+>(?:[^()]|\([^()]*\))*\)")


@dataclass(frozen=True)
class Route:
    """One address: its full name, and a path that reaches it."""

    name: str
    path: str


def every_route() -> list[Route]:
    """Return all routes of the root URL configuration, with sample values in place of parameters."""
    return list(_walk(get_resolver().url_patterns, "/", ""))


def _walk(patterns: list[URLPattern | URLResolver], prefix: str, namespace: str) -> Iterator[Route]:
    for pattern in patterns:
        path = prefix + _sample(str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from _walk(pattern.url_patterns, path, inner)
        else:
            yield Route(f"{namespace}{pattern.name or path}", path)


def _sample(pattern: str) -> str:
    text = CONVERTER.sub(lambda match: SAMPLES[match.group(1) or "str"], pattern)
    text = NAMED_GROUP.sub(SAMPLES["uuid"], text)
    return text.replace("^", "").replace("/?", "").replace("$", "").replace(r"\Z", "").replace("\\", "")
