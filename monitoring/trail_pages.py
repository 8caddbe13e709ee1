"""The audit trail in pages, newest first, for programs: by keyset, never counted, never a personal value."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mestore.lib import errors, sql
from mestore.lib.actor import Actor
from monitoring import audit, checkpoints, events
from monitoring.events import Category
from monitoring.models import AuditEvent

LARGEST: Final = 200
UNINDEXED: Final = dt.timedelta(days=30)
"""How far back is searched for what no index leads to, unless the question says since when."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LONGEST_CURSOR = 120
_PLACES = "SELECT event_id, epoch, leaf_index FROM audit_leaf WHERE event_id = ANY(%s)"


class CursorInvalid(errors.Unprocessable):
    """The cursor is none of ours."""

    message = _("The cursor is not one that was given out.")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events. `since` is inside, `until` outside."""

    actor: str | None = None
    target_type: str | None = None
    target_id: str | None = None
    code: str | None = None
    outcome: str | None = None
    category: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One event, and its place in the signed log; None while it waits to be sealed."""

    event: AuditEvent
    has_personal: bool
    log: str | None
    leaf_index: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """Events, newest first, and the cursor of the next (older) page; None at the end."""

    lines: list[Line]
    next: str | None


def read(wanted: Wanted, *, limit: int, cursor: str | None, by: Actor) -> Page:
    """Return one page, and record that it was read: one SELECT by index, one for places, one event.

    Raises CursorInvalid.
    """
    size = max(1, min(limit, LARGEST))
    found = list(question(wanted, size, cursor))
    shown = found[:size]
    places = _places([event.pk for event in shown])
    with transaction.atomic():
        audit.record(events.AUDIT_READ, by=by, data={"asked": _asked(wanted), "events": len(shown)})
    lines = [_line(event, places) for event in shown]
    return Page(lines, _cursor(shown[-1]) if len(found) > size else None)


def question(wanted: Wanted, size: int, cursor: str | None = None) -> QuerySet[AuditEvent]:
    """Return the one statement of a page: `size` events and one more. Raises CursorInvalid."""
    rows = _narrowed(wanted)
    if cursor:
        rows = rows.filter(_after(cursor))
    return rows.order_by("-occurred_at", "-id")[: size + 1]


def record_read(event_id: UUID, *, by: Actor) -> None:
    """Record that one event was read in full."""
    with transaction.atomic():
        audit.record(events.AUDIT_READ, by=by, target=("audit_event", str(event_id)))


def record_proof(event_id: UUID, *, by: Actor) -> None:
    """Record that the proof of one event leaves."""
    with transaction.atomic():
        audit.record(events.AUDIT_PROOF_DOWNLOADED, by=by, target=("audit_event", str(event_id)))


def _narrowed(wanted: Wanted) -> QuerySet[AuditEvent]:
    rows = AuditEvent.objects.defer("canon", "pii_ct", "writer_mac").annotate(
        sealed=ExpressionWrapper(Q(pii_ct__isnull=False), output_field=BooleanField())
    )
    given: Mapping[str, Any] = {
        "actor_id": wanted.actor, "target_type": wanted.target_type, "target_id": wanted.target_id,
        "type": wanted.code, "outcome": wanted.outcome, "occurred_at__gte": _since(wanted),
        "occurred_at__lt": wanted.until,
    }  # fmt: skip
    rows = rows.filter(**{name: value for name, value in given.items() if value is not None})
    if wanted.category is not None:
        category = Category(wanted.category)
        rows = rows.filter(type__in=[one.code for one in events.catalogue() if one.category is category])
    return rows


def _since(wanted: Wanted) -> dt.datetime | None:
    """What no index leads to is not searched for through all years: something rare would read every row."""
    has_index = wanted.actor is not None or (wanted.target_type is not None and wanted.target_id is not None)
    is_narrowed = any((wanted.code, wanted.outcome, wanted.category, wanted.target_type, wanted.target_id))
    if wanted.since is not None or has_index or not is_narrowed:
        return wanted.since
    return (wanted.until or timezone.now()) - UNINDEXED


def _line(event: AuditEvent, places: Mapping[UUID, tuple[int, int]]) -> Line:
    epoch, index = places.get(event.pk, (None, None))
    sealed = bool(getattr(event, "sealed", False))
    return Line(event, sealed, checkpoints.origin(epoch) if epoch is not None else None, index)


def _places(ids: list[UUID]) -> dict[UUID, tuple[int, int]]:
    rows = sql.fetch_all(_PLACES, (ids,)) if ids else []
    return {event_id: (epoch, index) for event_id, epoch, index in rows}


def _asked(wanted: Wanted) -> dict[str, str]:
    given = {name: getattr(wanted, name) for name in wanted.__dataclass_fields__}
    return {name: str(value) for name, value in given.items() if value is not None}


def _cursor(event: AuditEvent) -> str:
    # Whole microseconds: a float would round the moment, and the row would come twice or never.
    moment = (event.occurred_at - _EPOCH) // dt.timedelta(microseconds=1)
    return base64.urlsafe_b64encode(f"{moment}.{event.pk.hex}".encode()).rstrip(b"=").decode("ascii")


def _after(cursor: str) -> Q:
    moment, key = _read(cursor)
    # The first condition alone would do; it lets the planner leave newer partitions alone.
    return Q(occurred_at__lte=moment) & (Q(occurred_at__lt=moment) | Q(id__lt=key))


def _read(cursor: str) -> tuple[dt.datetime, UUID]:
    try:
        given = cursor[:_LONGEST_CURSOR].encode("ascii")
        text = base64.b64decode(given + b"=" * (-len(given) % 4), b"-_", validate=True).decode("ascii")
        moment, _dot, key = text.partition(".")
        return _EPOCH + dt.timedelta(microseconds=int(moment)), UUID(hex=key)
    except (ValueError, OverflowError, binascii.Error):
        raise CursorInvalid(
            details=[errors.FieldError("query -> cursor", CursorInvalid.message, "cursor_invalid")]
        ) from None
