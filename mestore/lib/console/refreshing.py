"""Pages that load themselves anew, for who asks for it: a link, a number in the address, no script.

Such a load is nobody's doing: the session guard reads the same parameter and does not take it for use, so a
screen left alone ends as it would have, and then shows the sign-in.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest

PARAMETER = "refresh"
CHOICES = (30, 60)  # seconds
CURSORS = ("newer", "older")


@dataclass(frozen=True, slots=True)
class Refresh:
    """After how many seconds the page loads itself anew (0: never), and the links to choose."""

    seconds: int
    links: tuple[tuple[int, str], ...]
    off: str


def of(request: HttpRequest) -> Refresh:
    """Read what was asked for; any value but those offered is no request for it."""
    asked = request.GET.get(PARAMETER, "")
    seconds = int(asked) if asked in {str(choice) for choice in CHOICES} else 0
    return Refresh(
        seconds, tuple((choice, _address(request, choice)) for choice in CHOICES), _address(request)
    )


def _address(request: HttpRequest, seconds: int | None = None) -> str:
    """The same list from its newest row on: what is watched is what comes in."""
    query = request.GET.copy()
    for name in (PARAMETER, *CURSORS):
        query.pop(name, None)
    if seconds is not None:
        query[PARAMETER] = str(seconds)
    return f"?{query.urlencode()}"
