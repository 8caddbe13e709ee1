"""How far each destination of exported events has come. One exporter at a time holds a destination.

Holding is a lease in the row itself, not a lock of the connection: sending takes longer than a transaction
may stay open, and a pooler between us and the database keeps no session. Whoever holds it and dies is
followed by the next after `LEASE`. What was sent and not noted is sent again: at least once, never less.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from django.db import transaction

from mestore.lib import ids, sql
from mestore.lib.actor import Actor
from monitoring import audit, events
from monitoring.export import Place

LEASE: Final = dt.timedelta(seconds=90)
LONGEST_ERROR: Final = 200

_MAKE = """
INSERT INTO audit_export_cursor (destination, epoch, next_index) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING
"""
_TAKE = """
UPDATE audit_export_cursor SET holder = %(holder)s, held_until = now() + %(lease)s
WHERE destination = %(destination)s AND held_until < now() RETURNING epoch, next_index
"""
_ADVANCE = """
UPDATE audit_export_cursor SET epoch = %(epoch)s, next_index = %(index)s, delivered_at = now(), failures = 0,
       last_error = '', held_until = now() + %(lease)s
WHERE destination = %(destination)s AND holder = %(holder)s
  AND epoch = %(from_epoch)s AND next_index = %(from)s
"""
_FAIL = """
UPDATE audit_export_cursor SET failures = least(failures + 1, 1000000), last_error = %(error)s
WHERE destination = %(destination)s AND holder = %(holder)s
"""
_RELEASE = """
UPDATE audit_export_cursor SET held_until = '-infinity' WHERE destination = %s AND holder = %s
"""
# What waits: the rest of the log it is in, and every log after that one.
_EVERY = """
SELECT c.destination, c.epoch, c.next_index,
       coalesce((SELECT sum(size) FROM audit_ended_log WHERE epoch >= c.epoch), 0) + t.size - c.next_index,
       (SELECT l.occurred_at FROM audit_leaf l WHERE l.epoch = c.epoch AND l.leaf_index = c.next_index),
       c.delivered_at, c.failures, c.last_error
FROM audit_export_cursor c, audit_tree t ORDER BY c.destination
"""


class Lost(RuntimeError):
    """Somebody else holds the destination by now, or its cursor was moved by hand."""


@dataclass(frozen=True, slots=True)
class Held:
    """A destination that this process may send to, and where it goes on."""

    destination: str
    place: Place
    holder: UUID


@dataclass(frozen=True, slots=True)
class Kept:
    """How a destination stands: how many leaves wait, and when the first of them happened.

    `behind` below zero says that the log is shorter than what was delivered of it.
    """

    destination: str
    place: Place
    behind: int
    waiting_since: dt.datetime | None
    delivered_at: dt.datetime | None
    failures: int
    last_error: str


def take(destination: str, *, by: Actor, begin: Place | None = None) -> Held | None:
    """Return the destination, held; None while another process holds it. A new one begins at `begin`."""
    first = begin or Place()
    with transaction.atomic():
        if sql.execute(_MAKE, (destination, first.epoch, first.index)):
            audit.record(
                events.AUDIT_DESTINATION_ADDED,
                by=by,
                target=("audit_destination", destination),
                data={"from": str(first)},
            )
    holder = ids.uuid7()
    row = sql.fetch_one(_TAKE, {"destination": destination, "holder": holder, "lease": LEASE})
    return Held(destination, Place(row[0], row[1]), holder) if row is not None else None


def advance(held: Held, to: Place) -> Held:
    """Note that everything before `to` has arrived, and hold on. Raises Lost."""
    values = {
        "destination": held.destination, "holder": held.holder, "lease": LEASE, "epoch": to.epoch,
        "index": to.index, "from_epoch": held.place.epoch, "from": held.place.index,
    }  # fmt: skip
    if sql.execute(_ADVANCE, values) != 1:
        raise Lost(held.destination)
    return replace(held, place=to)


def fail(held: Held, error: str) -> None:
    """Note that nothing arrived, and why in few words; no address and no secret belongs there."""
    values = {"destination": held.destination, "holder": held.holder, "error": error[:LONGEST_ERROR]}
    sql.execute(_FAIL, values)


def release(held: Held) -> None:
    """Let others hold it."""
    sql.execute(_RELEASE, (held.destination, held.holder))


def every() -> list[Kept]:
    """Return how each destination stands; one statement."""
    return [
        Kept(name, Place(epoch, index), int(behind), since, delivered_at, failures, error)
        for name, epoch, index, behind, since, delivered_at, failures, error in sql.fetch_all(_EVERY)
    ]
