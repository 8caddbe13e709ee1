"""Lists of signals in pages: the worst first, by keyset, never counted."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from mestore.lib import errors
from monitoring.signals import Signal, SignalState

LARGEST = 100
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LONGEST = 120


class CursorInvalid(errors.Unprocessable):
    """The cursor is none of ours."""

    message = _("The cursor is not one that was given out.")


@dataclass(frozen=True, slots=True)
class Page:
    """Signals, the worst first, and the cursor of the next page; None at the end."""

    signals: list[Signal]
    next: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to list. Without a state: what is not archived."""

    state: str | None = None
    severity: int | None = None
    rule: str | None = None
    owner: UUID | None = None


def page(wanted: Wanted, *, limit: int, cursor: str | None = None) -> Page:
    """Return up to `limit` (at most `LARGEST`) signals after `cursor`. Raises `CursorInvalid`."""
    size = max(1, min(limit, LARGEST))
    rows = _narrowed(wanted)
    if cursor:
        rows = rows.filter(_after(cursor))
    found = list(rows.order_by("-severity", "-last_seen_at", "-id")[: size + 1])
    return Page(found[:size], _cursor(found[size - 1]) if len(found) > size else None)


def _narrowed(wanted: Wanted) -> QuerySet[Signal]:
    rows = Signal.objects.all()
    rows = rows.filter(state=wanted.state) if wanted.state else rows.exclude(state=SignalState.ARCHIVED)
    if wanted.severity is not None:
        rows = rows.filter(severity=wanted.severity)
    if wanted.rule:
        rows = rows.filter(rule=wanted.rule)
    if wanted.owner is not None:
        rows = rows.filter(owner_id=wanted.owner)
    return rows


def _cursor(signal: Signal) -> str:
    # Whole microseconds: a float would round the moment, and the row would come twice or never.
    moment = (signal.last_seen_at - _EPOCH) // dt.timedelta(microseconds=1)
    text = f"{signal.severity}.{moment}.{signal.pk.hex}"
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _after(cursor: str) -> Q:
    severity, seen, key = _read(cursor)
    return Q(severity__lte=severity) & (
        Q(severity__lt=severity)
        | Q(last_seen_at__lt=seen)
        | Q(last_seen_at=seen, id__lt=key)
    )  # fmt: skip


def _read(cursor: str) -> tuple[int, dt.datetime, UUID]:
    try:
        given = cursor[:_LONGEST].encode("ascii")
        text = base64.urlsafe_b64decode(given + b"=" * (-len(given) % 4)).decode("ascii")
        severity, moment, key = text.split(".")
        seen = _EPOCH + dt.timedelta(microseconds=int(moment))
        return int(severity[:2]), seen, UUID(hex=key)
    except (ValueError, OverflowError, UnicodeError, binascii.Error):
        raise CursorInvalid(
            details=[errors.FieldError("query -> cursor", CursorInvalid.message, "cursor_invalid")]
        ) from None
