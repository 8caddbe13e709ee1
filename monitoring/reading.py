"""Reads of personal values in the console: one event for each page that shows them."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import Error as DatabaseError
from django.db import transaction
from django.http import HttpRequest

from mestore.lib import actor, errors
from monitoring import audit, events


def note(request: HttpRequest, kind: str, key: str, classes: Sequence[str]) -> None:
    """Record who is shown personal values of these classes, of which thing. One statement.

    Raises `errors.SecurityServiceFailure` when the trail refuses.
    """
    try:
        with transaction.atomic():
            audit.record(
                events.SENSITIVE_PAGE_VIEWED,
                by=actor.of(request),
                target=(kind, key),
                data={"classes": sorted(classes)},
            )
    except DatabaseError as error:
        raise errors.SecurityServiceFailure from error
