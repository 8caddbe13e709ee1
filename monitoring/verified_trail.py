"""What the log cannot say of itself: events that never reached it, guards that are off, missing partitions.

An event and its place in the queue are written by one statement, and the sequencer takes it out of the queue
and gives it a leaf in one transaction. So at no moment can anybody see an event that has neither: whoever
finds one has found a queue from which somebody deleted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from django.db import connections, transaction

from mestore.lib import sql
from mestore.lib.actor import Actor
from monitoring import archives, audit, events, guards, readiness, retired
from monitoring.verification import MOST, Findings

DAY: Final = dt.timedelta(days=1)
WAITING: Final = dt.timedelta(seconds=60)

_MISSING = """
SELECT e.id FROM audit_event e
WHERE e.occurred_at >= %s AND e.occurred_at < %s
  AND NOT EXISTS (SELECT FROM audit_leaf l WHERE l.event_id = e.id)
  AND NOT EXISTS (SELECT FROM audit_pending p WHERE p.id = e.id)
ORDER BY e.occurred_at, e.id LIMIT %s
"""
# Two counts instead of ten million look-ups; every leaf was found to have its one event by then.
_DAYS = """
WITH recorded AS (
    SELECT date_trunc('day', occurred_at, 'UTC') AS day, count(*) AS events FROM audit_event GROUP BY 1
), placed AS (
    SELECT date_trunc('day', occurred_at, 'UTC') AS day, count(*) AS events
    FROM (SELECT occurred_at FROM audit_leaf
          UNION ALL
          SELECT p.occurred_at FROM audit_pending p
          JOIN audit_event e ON e.id = p.id AND e.occurred_at = p.occurred_at
          WHERE NOT EXISTS (SELECT FROM audit_leaf l WHERE l.event_id = p.id)) AS known
    GROUP BY 1
)
SELECT r.day FROM recorded r LEFT JOIN placed p USING (day)
WHERE r.events > coalesce(p.events, 0) ORDER BY r.day
"""
# A sign of life a minute after the event came: by then it should have been taken.
_WAITING = """
SELECT p.id FROM audit_pending p, audit_tree t
WHERE greatest(t.sequenced_at, t.published_at) > p.occurred_at + %(waiting)s
ORDER BY p.id LIMIT %(most)s
"""
_STILL = "SELECT id FROM audit_pending WHERE id = ANY(%s) ORDER BY id"
# Functions of ours that guard or capture are called audit_…; none of their triggers may be off, or fire only
# for some. Then the tables that nobody may change: their guards must be there at all.
_SILENCED = """
SELECT c.relname, t.tgname FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc f ON f.oid = t.tgfoid
WHERE NOT t.tgisinternal AND t.tgenabled <> 'A' AND c.relnamespace = 'public'::regnamespace
  AND f.proname LIKE 'audit\\_%%' ORDER BY 1, 2 LIMIT %s
"""
_UNGUARDED = """
SELECT named.name FROM unnest(%s::text[]) AS named (name)
LEFT JOIN pg_class c ON c.relname = named.name AND c.relnamespace = 'public'::regnamespace
LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled = 'A'
                      AND t.tgtype & 2 = 2
GROUP BY 1 HAVING coalesce(bit_or(t.tgtype::int) & 56, 0) <> 56 ORDER BY 1
"""
_GROWING = ["audit_tile", "audit_tree", "audit_verification"]
_MONTHS = """
WITH there AS (
    SELECT to_date(substring(c.relname FROM '^audit_event_([0-9]{6})$'), 'YYYYMM') AS month
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'public.audit_event'::regclass
), wanted AS (
    SELECT generate_series(least(min(month), date_trunc('month', now() AT TIME ZONE 'UTC'),
                                 (SELECT date_trunc('month', occurred_at AT TIME ZONE 'UTC') FROM audit_leaf
                                  ORDER BY epoch, leaf_index LIMIT 1)),
                           date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month',
                           interval '1 month')::date AS month FROM there
)
SELECT month FROM wanted
WHERE month NOT IN (SELECT month FROM there WHERE month IS NOT NULL)
ORDER BY month
"""
# People whose key is destroyed though no event says that they were erased.
_UNEXPLAINED = """
SELECT k.subject FROM subject_key k
WHERE k.wrapped IS NULL AND k.subject > %(after)s AND NOT EXISTS (
    SELECT FROM audit_event e
    WHERE e.target_type = 'person' AND e.target_id = k.subject AND e.type = %(type)s)
ORDER BY k.subject LIMIT %(page)s
"""
_PAGE = 10_000
_REQUEUE = """
INSERT INTO audit_pending (id, occurred_at)
SELECT e.id, e.occurred_at FROM audit_event e
WHERE e.id = %s AND NOT EXISTS (SELECT FROM audit_leaf l WHERE l.event_id = e.id)
ON CONFLICT (id) DO NOTHING
"""


class NothingToRequeue(Exception):
    """There is no such event, or it has its leaf, or it waits in the queue."""


def check_missing(begin: dt.datetime, end: dt.datetime) -> Findings:
    """Name events of a stretch of time that have no leaf and wait in no queue, day by day."""
    found = Findings()
    while begin < end and len(found.faults) < MOST:
        until = min(begin + DAY, end)
        for (event_id,) in sql.fetch_all(_MISSING, (begin, until, MOST)):
            found.fault("an event was taken out of the queue before it got its leaf", None, event_id)
        begin = until
    return found


def check_all_missing() -> Findings:
    """Name events of all time that have no leaf and wait in no queue: days that do not add up are searched.

    Belongs after every leaf was compared with its event: leaves that stand for none would hide others.
    """
    found = Findings()
    for (day,) in sql.fetch_all(_DAYS):
        found.add(check_missing(day, day + DAY))
        if len(found.faults) >= MOST:
            break
    return found


def overdue() -> list[UUID]:
    """Return events that a sequencer has left waiting for more than a minute, at most ten.

    A long transaction that has only just ended looks the same: what is `still_waiting` a moment later counts.
    """
    return [row[0] for row in sql.fetch_all(_WAITING, {"waiting": WAITING, "most": MOST})]


def still_waiting(seen: list[UUID]) -> Findings:
    """Return which of the events that were overdue wait even now."""
    found = Findings()
    for (event_id,) in sql.fetch_all(_STILL, (seen,)) if seen else []:
        found.fault("an event waits for its leaf though a sequencer is at work", None, event_id)
    return found


def check_guards() -> Findings:
    """Check triggers and grants of the trail and the log, triggers of capture, and the months to come.

    Then the guards themselves (`guards.wrong`), unless newer code made them.
    """
    found = Findings()
    for what in _unguarded():
        found.fault(what)
    if guards.is_of_a_later_release():
        found.note("the database was migrated by a newer release, which alone knows its guards")
        return found
    for what in guards.wrong():
        found.fault(what)
    return found


def check_erasures() -> Findings:
    """Name people whose data key was destroyed by somebody else than the erasure, which leaves its event.

    That event may have been archived with its month.
    """
    found, after = Findings(), ""
    archived = retired.load().erased()
    values: dict[str, object] = {"type": events.AUDIT_SUBJECT_ERASED, "page": _PAGE}
    while page := [str(row[0]) for row in sql.fetch_all(_UNEXPLAINED, values | {"after": after})]:
        for subject in page:
            if subject not in archived:
                found.fault(f"the data key of {subject} is destroyed, and no event says that it was erased")
        after = page[-1]
    return found


def requeue(event_id: UUID, *, reason: str, by: Actor) -> None:
    """Put an event that somebody took out of the queue back into it. Raises NothingToRequeue.

    Only a person decides that: the event may be the trace of an attack, and its new place tells when it was
    found.
    """
    with transaction.atomic():
        if sql.execute(_REQUEUE, (event_id,)) != 1:
            raise NothingToRequeue
        audit.record(
            events.AUDIT_REQUEUED, by=by, target=("audit_event", str(event_id)), data={"reason": reason}
        )


def _unguarded() -> Iterator[str]:
    with connections["default"].cursor() as cursor:
        if why := readiness.protection(cursor):
            yield why
    for table, trigger in sql.fetch_all(_SILENCED, (MOST,)):
        yield f"the trigger {trigger} of {table} does not always fire"
    for (table,) in sql.fetch_all(_UNGUARDED, (_GROWING,)):
        yield f"{table} is not protected by triggers that always fire"
    missing = [month for (month,) in sql.fetch_all(_MONTHS)]
    gone = retired.load()
    yield from gone.wrong
    given_up = {one.month for one in gone.months}
    for month in [one for one in missing if one not in given_up][:MOST]:
        yield f"there is no partition for events of {archives.named(month)}"
