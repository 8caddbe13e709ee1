"""Reading for the audit explorer: what happens per hour, who does most, and how far one event is proved.

Everything here is bounded: a page about two hundred million events asks for no more rows than one about a
thousand.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

from mestore.lib import sql
from monitoring import events
from monitoring.events import Category

HOURS: Final = 24
COUNTED: Final = 20_000  # events at most behind the charts
ACTORS: Final = 8

# The newest events by their index, and only then what they are: never more rows than COUNTED are read.
_ACTIVITY = """
WITH newest AS MATERIALIZED (
    SELECT occurred_at, type, actor_kind, actor_id FROM audit_event
    WHERE occurred_at >= %(since)s AND occurred_at <= %(until)s
    ORDER BY occurred_at DESC, id DESC LIMIT %(most)s
)
SELECT date_trunc('hour', occurred_at, 'UTC'), type, NULL, NULL, count(*) FROM newest GROUP BY 1, 2
UNION ALL
(SELECT NULL, NULL, actor_kind, actor_id, count(*) FROM newest GROUP BY 3, 4 ORDER BY 5 DESC LIMIT %(actors)s)
"""
_STANDING = """
SELECT l.epoch, l.leaf_index, c.size, c.signed_at, w.size, w.names
FROM (SELECT %s::uuid AS id) AS e
LEFT JOIN audit_leaf l ON l.event_id = e.id
LEFT JOIN LATERAL (
    SELECT size, signed_at FROM audit_checkpoint
    WHERE epoch = l.epoch AND size > l.leaf_index ORDER BY size LIMIT 1) AS c ON true
LEFT JOIN LATERAL (
    SELECT size, array_agg(witness ORDER BY witness) AS names FROM audit_cosignature
    WHERE epoch = l.epoch AND size > l.leaf_index GROUP BY size ORDER BY size LIMIT 1) AS w ON true
"""

Area = Literal["access", "money", "other"]
_AREAS: dict[Category, Area] = {
    Category.AUTHENTICATION: "access",
    Category.SECURITY: "access",
    Category.USER_MANAGEMENT: "access",
    Category.EMERGENCY: "access",
    Category.FINANCIAL: "money",
}


@dataclass(frozen=True, slots=True)
class Doer:
    """Who did how much; `actor_id` is None for what has no account."""

    kind: str
    actor_id: str | None
    count: int


@dataclass(frozen=True, slots=True)
class Activity:
    """Events per hour and area (hours in UTC, oldest first), and who did most.

    `is_cut` says that there was more in the window than was counted: then hours before the oldest counted
    one are absent, and that one is not whole.
    """

    hours: Sequence[dt.datetime]
    by_area: dict[Area, list[int]]
    actors: list[Doer] = field(default_factory=list)
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one event is proved. None means: not yet."""

    epoch: int | None
    leaf_index: int | None
    sealed_size: int | None
    sealed_at: dt.datetime | None
    cosigned_size: int | None
    witnesses: tuple[str, ...]

    @property
    def is_sealed(self) -> bool:
        return self.sealed_size is not None


@dataclass(frozen=True, slots=True)
class Change:
    """One field of a captured row: what it was and what it became. `note` stands for what is not shown."""

    name: str
    before: str
    after: str
    note: Literal["", "personal", "secret"] = ""


def area_of(code: str) -> Area:
    """Return the area of the charts that an event belongs to."""
    try:
        return _AREAS.get(events.get(code).category, "other")
    except events.UnknownEvent:
        return "other"


def activity(now: dt.datetime) -> Activity:
    """Return what happened in the last day; one statement over at most COUNTED events."""
    last = now.replace(minute=0, second=0, microsecond=0)
    since = last - dt.timedelta(hours=HOURS - 1)
    rows = sql.fetch_all(_ACTIVITY, {"since": since, "until": now, "most": COUNTED, "actors": ACTORS})
    counted: Counter[tuple[dt.datetime, Area]] = Counter()
    for hour, code, _kind, _actor, many in rows:
        if hour is not None:
            counted[hour.astimezone(dt.UTC), area_of(code)] += many
    is_cut = sum(counted.values()) >= COUNTED
    first = min(hour for hour, _area in counted) if is_cut else since.astimezone(dt.UTC)
    hours = [first + dt.timedelta(hours=n) for n in range(int((last - first).total_seconds() // 3600) + 1)]
    areas: tuple[Area, ...] = ("access", "money", "other")
    return Activity(
        hours,
        {area: [counted[hour, area] for hour in hours] for area in areas},
        [Doer(kind, actor, many) for hour, _code, kind, actor, many in rows if hour is None],
        is_cut,
    )


def standing(event_id: UUID) -> Standing:
    """Return where an event stands in the log; one statement."""
    row = sql.fetch_one(_STANDING, (event_id,))
    epoch, leaf, size, signed_at, cosigned, names = row or (None,) * 6
    return Standing(epoch, leaf, size, signed_at, cosigned, tuple(names or ()))


def changes_in(document: dict[str, Any]) -> list[Change]:
    """Return what an event says about the fields of a row, for people: personal and secret ones masked.

    The shape is that of captured events: `changes` has fields with what they were and became, `personal`
    those of which a commitment alone is kept here, `secret` the names of those that only changed.
    """
    data = document.get("data")
    if not isinstance(data, dict) or not str(document.get("event", "")).startswith("capture."):
        return []
    found = [Change(name, *_pair(value)) for name, value in _items(data.get("changes"))]
    # Each side of a personal field is committed to by itself: "email.before", "email.after".
    personal = {name.rpartition(".")[0] or name for name, _value in _items(data.get("personal"))}
    found += [Change(name, "", "", "personal") for name in personal]
    found += [Change(name, "", "", "secret") for name, _value in _items(data.get("secret"))]
    return sorted(found, key=lambda change: change.name)


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(str(name), one) for name, one in value.items()]
    if isinstance(value, list):
        return [(str(name), None) for name in value]
    return []


def _pair(value: Any) -> tuple[str, str]:
    """Before and after; a value alone is what the field became."""
    if isinstance(value, dict) and value and value.keys() <= {"before", "after"}:
        return _text(value.get("before")), _text(value.get("after"))
    return "", _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
