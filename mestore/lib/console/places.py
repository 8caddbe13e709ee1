"""Pages of the console that are not the list of one model: where the sidebar has them, and who sees them."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.functional import Promise


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One entry of the sidebar. `permission` is the Django name of the right to see the page."""

    group: str
    position: int
    label: str | Promise
    url_name: str
    permission: str


_places: dict[str, Place] = {}


def register(place: Place) -> None:
    """Put a page into the sidebar; the same page twice is there once."""
    _places[place.url_name] = place


def places() -> tuple[Place, ...]:
    return tuple(_places.values())
