"""The guards of the trail, hour by hour, in the trail itself: was capture on, and as the migrations made it?

That the trail tells of no change proves something only if a change would have been told. So each hour has one
event that says how the guards were when they were looked at; an hour without one shows. Who owns the database
may still switch a guard between two looks: that is for `guard_watch`, the rows for `row_reconciliation`.

The hour is the event's target, so it is found by an index, and one event of ours is enough for it: a second
worker or a job that is done again finds it there. An event without our MAC, or whose bytes say something else
than its columns, is none: nobody else speaks for an hour.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mestore.lib import crypto, sql
from mestore.lib.actor import Actor
from monitoring import alerts, audit, events, guards, leaves, readiness, verified_trail

TARGET: Final = "audit_guards"
HOUR: Final = dt.timedelta(hours=1)
HOURS: Final = 24
"""How many whole hours, up to the one before this one, are looked through for one that is missing."""
NAMED: Final = 20
SHOWN: Final = 5
MOST: Final = 200
"""How many events about these hours are read: there is one for each, and what somebody put there."""

UNSEEN: Final = alerts.declare(
    alerts.Rule(
        "audit.guards_unseen",
        _("For an hour or more nobody saw whether the guards of the audit trail stand"),
        alerts.Severity.MEDIUM,
        "audit-guards-unseen",
    )
)

log = structlog.get_logger("mestore.audit")

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('mestore.audit.guards_seen'))"
# When looks began: with the release of this migration. Found by their target: nobody is to go back through
# a day of sales for the newest of them.
_SAID = """
SELECT began.at, s.id, s.target_id, s.occurred_at, s.canon, s.writer_mac FROM (
    SELECT min(applied) AS at FROM django_migrations
    WHERE app = 'monitoring' AND name = '0018_forget_reconciliations'
) AS began LEFT JOIN (
    SELECT e.id, e.target_id, e.occurred_at, e.canon, e.writer_mac FROM audit_event e
    WHERE e.target_type = 'audit_guards' AND e.target_id = ANY(%s) AND e.occurred_at >= %s
      AND e.writer_mac IS NOT NULL
    OFFSET 0) AS s ON true
ORDER BY s.occurred_at DESC, s.id DESC LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Look:
    """What the trail says of the guards in one hour."""

    hour: dt.datetime
    at: dt.datetime
    is_whole: bool
    tables: int
    first: tuple[str, ...]
    """What was wrong, in words: the first of it."""


@dataclass(frozen=True, slots=True)
class Day:
    """The last `HOURS` whole hours and this one.

    `missing`: those, since looks began, that have no look; the oldest first.
    """

    newest: Look | None
    missing: tuple[dt.datetime, ...]


def look(*, by: Actor, now: dt.datetime | None = None) -> UUID | None:
    """Look at the guards and record how they are, unless this hour's event is there; return its id or None.

    Two at once make one. Next to a newer release there is nothing to do: its own worker knows what it made.
    Raises as `audit.record` does.
    """
    with transaction.atomic():
        sql.execute(_LOCK)
        now = now or timezone.now()
        if _said([_hour(now)])[1]:
            return None
        if guards.is_of_a_later_release():
            log.warning("audit_guards_left_to_a_later_release")
            return None
        code, data = _seen()
        return audit.record(code, by=by, target=(TARGET, _name(_hour(now))), data=data)


def day(*, now: dt.datetime | None = None) -> Day:
    """Return what the trail says of the last day's hours; one statement."""
    this = _hour(now or timezone.now())
    hours = [this - HOUR * ago for ago in range(HOURS, 0, -1)]
    began, found = _said([*hours, this])
    # The hour in which looks began is no whole one.
    missing = (hour for hour in hours if hour not in found and (began is None or hour >= began))
    return Day(found[max(found)] if found else None, tuple(missing))


def watch(*, now: dt.datetime | None = None) -> int:
    """Raise the signal when the hour before this one is missing; return how many were raised.

    Only then: of hours that are over for longer it was told, or no worker was there to tell. Raises
    django.db.Error.
    """
    now = now or timezone.now()
    found = day(now=now)
    if _hour(now) - HOUR not in found.missing:
        return 0
    told = alerts.raise_signal(
        UNSEEN,
        entity=("audit_log", "guards"),
        evidence={
            "hours": len(found.missing), "first": found.missing[0], "until": _hour(now),
            "newest": found.newest.at if found.newest is not None else None,
        },
        using="audit",
    )  # fmt: skip
    return int(told is not None)


def _seen() -> tuple[str, dict[str, Any]]:
    """How the guards are now: an event's code and data."""
    captured = guards.captured()
    broken = sorted(table for table, one in captured.items() if not one.is_whole)
    faults = [one.what for one in verified_trail.check_guards().faults]
    data: dict[str, Any] = {
        "tables": len(captured), "captured": len(captured) - len(broken),
        "append_only": len(readiness.append_only()), "functions": len(guards.expected_bodies()),
        "digest": guards.digest(), "faults": len(faults),
    }  # fmt: skip
    if not (broken or faults):
        return events.AUDIT_GUARDS_SEEN, data
    data |= {"not_captured": broken[:NAMED], "first": faults[:SHOWN]}
    return events.AUDIT_GUARDS_NOT_WHOLE, data


def _said(hours: Sequence[dt.datetime]) -> tuple[dt.datetime | None, dict[dt.datetime, Look]]:
    """When looks began, and what events of ours say of these hours, the newest of each; one statement."""
    names = {_name(hour): hour for hour in hours}
    found: dict[dt.datetime, Look] = {}
    rows = sql.fetch_all(_SAID, (list(names), min(hours), MOST))
    for _began, event_id, name, at, canon, mac in rows:
        if event_id is not None and crypto.verify_mac(bytes(canon), mac, purpose=audit.WRITER_PURPOSE):
            said = leaves.read_canon(bytes(canon))
            if (said["id"], said.get("target")) == (str(event_id), {"type": TARGET, "id": name}):
                found.setdefault(names[name], _look(names[name], at, said))
    return rows[0][0], found


def _look(hour: dt.datetime, at: dt.datetime, said: Mapping[str, Any]) -> Look:
    data = said["data"]
    is_whole = said["event"] == events.AUDIT_GUARDS_SEEN
    return Look(hour, at, is_whole, int(data["tables"]), tuple(data.get("first", ())))


def _hour(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)


def _name(hour: dt.datetime) -> str:
    return f"{hour:%Y-%m-%dT%H}Z"
