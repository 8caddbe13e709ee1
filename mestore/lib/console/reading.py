"""Noting who looked at personal values: asked before a page that shows them is made.

`mestore.lib` knows no audit trail: the package that keeps one registers itself when Django starts. As long as
nobody has, such pages are closed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.http import HttpRequest

from mestore.lib import errors

# Called with the request, the kind of thing, its key and the classes of personal values that the page shows.
Recorder = Callable[[HttpRequest, str, str, Sequence[str]], None]


@dataclass(slots=True)
class _Registered:
    recorder: Recorder | None = None


_registered = _Registered()


def register(recorder: Recorder) -> None:
    """Make `recorder` the one that notes. Raises RuntimeError when another is registered already."""
    if _registered.recorder is not None and _registered.recorder is not recorder:
        raise RuntimeError("a recorder of reading is registered already")
    _registered.recorder = recorder


def note(request: HttpRequest, kind: str, key: str, classes: Sequence[str]) -> None:
    """Note that the caller is shown personal values of these classes.

    Raises `errors.SecurityServiceFailure` when it cannot be noted: the page is not shown then.
    """
    if _registered.recorder is None:
        raise errors.SecurityServiceFailure
    _registered.recorder(request, kind, key, classes)
