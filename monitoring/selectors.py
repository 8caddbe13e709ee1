"""Reading the audit trail: pages, counts for charts, one event in full."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from django.db.models import Count, DateTimeField, DurationField, F, Func, Q, QuerySet, Value
from django.db.models.functions import TruncHour
from django.utils import timezone

from mestore.lib import crypto
from monitoring import leaves, subjects
from monitoring.models import AuditEvent

MAX_PAGE = 200
MAX_HOURS = 31 * 24

# How far an event's moment may be from the one inside its time-ordered id.
_ID_TOLERANCE = dt.timedelta(minutes=5)
_TIME_ORDERED = 7
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# The end of the year 9999, in milliseconds: Python's clock goes no further.
_LAST_MOMENT = 253_402_214_400_000

PersonalState = Literal["none", "hidden", "shown", "erased", "unreadable"]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ends: the next one begins after it."""

    occurred_at: dt.datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class Page:
    """Events, newest first, and where the next (older) page begins; None at the end."""

    events: list[AuditEvent]
    next: Position | None


@dataclass(frozen=True, slots=True)
class HourCount:
    """How many events of one code happened in the hour that began at `hour`."""

    hour: dt.datetime
    code: str
    count: int


@dataclass(frozen=True, slots=True)
class EventDetail:
    """One event in full. `personal` is filled only when the state is "shown"."""

    event: AuditEvent
    document: dict[str, Any]
    personal: dict[str, Any]
    personal_state: PersonalState


class EventNotFound(LookupError):
    """There is no such event."""


def events_page(
    *,
    after: Position | None = None,
    limit: int = 50,
    codes: Collection[str] = (),
    actor_id: str | None = None,
    target: tuple[str, str] | None = None,
) -> Page:
    """Return up to `limit` events, newest first, that come after `after`. No OFFSET, no count."""
    limit = max(1, min(limit, MAX_PAGE))
    chosen = AuditEvent.objects.defer("canon", "pii_ct", "writer_mac")
    if codes:
        chosen = chosen.filter(type__in=list(codes))
    if actor_id is not None:
        chosen = chosen.filter(actor_id=actor_id)
    if target is not None:
        chosen = chosen.filter(target_type=target[0], target_id=target[1])
    rows = list(_older_than(chosen, after).order_by("-occurred_at", "-id")[: limit + 1])
    page = rows[:limit]
    is_last = len(rows) <= limit
    return Page(page, None if is_last else Position(page[-1].occurred_at, page[-1].id))


def session_events(
    session_id: UUID, *, since: dt.datetime, after: Position | None = None, limit: int = 50
) -> Page:
    """Return what happened in a session or to it, newest first: two walks of an index, each a page long.

    `since` is when the session began, with room for a clock that lags: earlier months are not searched.
    """
    limit = max(1, min(limit, MAX_PAGE))
    wanted = str(session_id)
    everything = AuditEvent.objects.filter(occurred_at__gte=since - _ID_TOLERANCE)
    parts = [
        _older_than(everything.filter(**one), after)
        .order_by("-occurred_at", "-id")
        .values_list("occurred_at", "pk")[: limit + 1]
        for one in ({"session_id": wanted}, {"target_type": "session", "target_id": wanted})
    ]
    found = list(parts[0].union(parts[1]).order_by("-occurred_at", "-pk")[: limit + 1])
    page = [Position(occurred_at, pk) for occurred_at, pk in found[:limit]]
    is_last = len(found) <= limit
    return Page(_events_at(page), None if is_last else page[-1])


def _events_at(places: list[Position]) -> list[AuditEvent]:
    """The events at these places, in their order; one statement over the months they lie in."""
    if not places:
        return []
    chosen = AuditEvent.objects.filter(
        pk__in=[place.id for place in places],
        occurred_at__range=(places[-1].occurred_at, places[0].occurred_at),
    )
    found = {event.pk: event for event in chosen.defer("canon", "pii_ct", "writer_mac", "leaf_hash")}
    return [found[place.id] for place in places if place.id in found]


def counts_by_hour(codes: Collection[str], *, hours: int = 24) -> list[HourCount]:
    """Return the number of events per code in each of the last `hours` hours; empty hours are absent."""
    since = timezone.now() - dt.timedelta(hours=max(1, min(hours, MAX_HOURS)))
    rows = (
        AuditEvent.objects.filter(occurred_at__gte=since, type__in=list(codes))
        .annotate(hour=TruncHour("occurred_at", tzinfo=dt.UTC))
        .values_list("hour", "type")
        .annotate(count=Count("pk"))
        .order_by("hour", "type")
    )
    return [HourCount(hour, code, count) for hour, code, count in rows]


def counts_by_step(
    codes: Collection[str], *, since: dt.datetime, step: dt.timedelta
) -> dict[tuple[dt.datetime, str], int]:
    """Return how many events of each code began in each step since `since`; empty steps are absent.

    Steps are counted from the epoch (`step_of`). `since` is at most a day ago. One statement.
    """
    since = max(since, timezone.now() - dt.timedelta(days=1))
    binned = Func(
        Value(step, DurationField()), F("occurred_at"), Value(_EPOCH), function="date_bin",
        output_field=DateTimeField(),
    )  # fmt: skip
    rows = (
        AuditEvent.objects.filter(occurred_at__gte=since, type__in=list(codes))
        .annotate(step=binned)
        .values_list("step", "type")
        .annotate(count=Count("pk"))
        .order_by()
    )
    return {(at, code): count for at, code, count in rows}


def step_of(moment: dt.datetime, step: dt.timedelta) -> dt.datetime:
    """Return when the step began in which `moment` lies."""
    return moment - (moment - _EPOCH) % step


def event_detail(event_id: UUID, *, reveal_personal: bool) -> EventDetail:
    """Return one event; with `reveal_personal` its personal values too, for those whose right was checked.

    Raise `EventNotFound`.
    """
    event = find(event_id)
    document = json.loads(bytes(event.canon))
    if event.pii_ct is None:
        return EventDetail(event, document, {}, "none")
    if not reveal_personal:
        return EventDetail(event, document, {}, "hidden")
    personal, state = _open(event, str(document.get("subject", "")))
    return EventDetail(event, document, personal, state)


def _older_than(chosen: QuerySet[AuditEvent], after: Position | None) -> QuerySet[AuditEvent]:
    if after is None:
        return chosen
    # The first condition alone would do; it lets the planner leave newer partitions alone.
    return chosen.filter(occurred_at__lte=after.occurred_at).filter(
        Q(occurred_at__lt=after.occurred_at) | Q(id__lt=after.id)
    )


def find(event_id: UUID) -> AuditEvent:
    """Return an event by its id. Raise `EventNotFound`."""
    # The id tells the month, so that one partition is searched and not all of them.
    if event_id.version == _TIME_ORDERED and event_id.int >> 80 < _LAST_MOMENT:
        moment = dt.datetime.fromtimestamp((event_id.int >> 80) / 1000, dt.UTC)
        near = (moment - _ID_TOLERANCE, moment + _ID_TOLERANCE)
        found = AuditEvent.objects.filter(id=event_id, occurred_at__range=near).first()
        if found is not None:
            return found
    found = AuditEvent.objects.filter(id=event_id).first()
    if found is None:
        raise EventNotFound(str(event_id))
    return found


def _open(event: AuditEvent, subject: str) -> tuple[dict[str, Any], PersonalState]:
    key = subjects.read_keys([subject]).get(subject)
    if key is None:
        return {}, "erased"
    try:
        plaintext = leaves.open_personal(bytes(event.pii_ct or b""), key=key, event_id=event.id)
    except crypto.Unreadable:
        return {}, "unreadable"
    return json.loads(plaintext[leaves.NONCE_BYTES :]), "shown"
