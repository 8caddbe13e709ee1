"""Reconciliations as they are kept: what was counted and found, under a MAC that the database cannot make.

The one that counts as the last is the newest of ours, of this cluster, whose snapshot is not in the future: a
dump that was restored elsewhere brings records of other transactions. That none was taken away is told by the
trail: each reconciliation is an event that names its record.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from django.utils.translation import gettext_noop

from mestore.lib import crypto, sql
from monitoring import events
from monitoring.row_counts import Bucket, Counted

MAC_PURPOSE: Final = "audit-reconciliation"
TARGET: Final = "audit_reconciliation"
LOOKED_AT: Final = 60
CLOCKS: Final = dt.timedelta(hours=1)
"""How far the moment of an event may be before that of its transaction."""
LONGEST_OPEN: Final = dt.timedelta(days=7)
"""How far back events of an open transaction are looked for where no earlier record says when it began."""
OLDEST: Final = dt.timedelta(days=300)
"""The trail holds a year; what is older is not compared any more."""
FORGOTTEN_AT_ONCE: Final = 100
"""One comes each night: what piled up in years is gone after some nights."""

_BUCKET = struct.Struct(">HI8s")
_NOW = """
SELECT clock_timestamp(), pg_current_snapshot()::text,
       (SELECT system_identifier::text FROM pg_control_system()), pg_current_xact_id()::text::bigint
"""
_NEWEST = "SELECT id, taken_at, said, mac FROM audit_reconciliation ORDER BY taken_at DESC LIMIT %s"
_COUNTED = "SELECT counted FROM audit_reconciliation WHERE id = %s"
_TOLD = """
SELECT e.target_id, EXISTS (SELECT FROM audit_reconciliation r WHERE r.id::text = e.target_id)
FROM audit_event e
WHERE e.type IN ('audit.reconciled', 'audit.reconciliation_failed') AND e.target_id <> ''
ORDER BY e.occurred_at DESC, e.id DESC LIMIT 1
"""
_FORGET = "SELECT audit_forget_reconciliations(%s)"
_KEEP = """
INSERT INTO audit_reconciliation (id, taken_at, differences, said, counted, mac)
VALUES (%s, %s, %s, %s, %s, %s)
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a transaction looks: by the database's clock, by its snapshot, and in which cluster."""

    at: dt.datetime
    snapshot: str
    cluster: str
    xid: int
    """The transaction itself: one with a higher number began to write after this moment."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is said of a reconciliation. `is_ours`: its MAC is right, and it is as it was written."""

    id: UUID
    taken_at: dt.datetime
    is_ours: bool
    said: Mapping[str, Any]

    @property
    def snapshot(self) -> str:
        return str(self.said["snapshot"])


@dataclass(slots=True)
class Before:
    """The reconciliation to compare with; `since`: the earliest moment of an event that it did not see."""

    last: Record | None = None
    since: dt.datetime | None = None
    tables: Mapping[str, Counted] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    note: str = ""


def now() -> Moment:
    """Return where this transaction stands; its snapshot stays, when it is REPEATABLE READ."""
    row = sql.fetch_one(_NOW)
    if row is None:
        raise LookupError("the database does not say when it is")
    return Moment(*row)


def newest(most: int = LOOKED_AT) -> list[Record]:
    """Return the newest records, newest first; one statement."""
    return [_record(*row) for row in sql.fetch_all(_NEWEST, (most,))]


def before(moment: Moment) -> Before:
    """Return what to compare with, and what is wrong with what is kept."""
    records, found = newest(), Before()
    found.faults = [
        f"the reconciliation {one.id} of {one.taken_at.isoformat()} was not written by this service"
        for one in records
        if not one.is_ours
    ]
    told = sql.fetch_one(_TOLD)
    if told is not None and not told[1]:
        found.faults.append(f"the reconciliation {told[0]} is gone, of which the trail tells")
    ours = [one for one in records if one.is_ours]
    here = [one for one in ours if _is_of(one, moment)]
    if not here:
        found.note = (
            gettext_noop("the last reconciliation is of another cluster: rows are counted anew from here")
            if ours
            else gettext_noop("the first reconciliation: from here on rows are compared")
        )
    elif moment.at - here[0].taken_at > OLDEST:
        found.note = gettext_noop(
            "the last reconciliation is too old to be compared with: rows are counted anew from here"
        )
    else:
        _compare_with(here, found)
    return found


def keep(record: Record, tables: Mapping[str, Counted]) -> None:
    """Write a record; `said` is completed by the hash of what was counted. Raises django.db.Error."""
    counted = _packed(tables)
    said = _canonical({**record.said, "counted": hashlib.sha256(counted).hexdigest()})
    tag = crypto.mac(said, purpose=MAC_PURPOSE)
    sql.execute(_KEEP, (record.id, record.taken_at, len(record.said["differences"]), said, counted, tag))


def forget() -> int:
    """Remove the oldest of the records that nobody needs any more; return how many, some at a time.

    Which those are the database says (migration 0018): never one that the next comparison looks at. Raises
    django.db.Error.
    """
    row = sql.fetch_one(_FORGET, (FORGOTTEN_AT_ONCE,))
    return int(row[0]) if row is not None else 0


def code(*, is_good: bool) -> str:
    """Return the event that tells of a reconciliation."""
    return events.AUDIT_RECONCILED if is_good else events.AUDIT_RECONCILIATION_FAILED


def _compare_with(here: list[Record], found: Before) -> None:
    last = here[0]
    row = sql.fetch_one(_COUNTED, (last.id,))
    counted = bytes(row[0]) if row is not None else b""
    if hashlib.sha256(counted).hexdigest() != last.said["counted"]:
        found.faults.append(f"what the reconciliation {last.id} counted was changed")
        found.note = "rows are counted anew from here"
        return
    # Whoever was open then began after an earlier one, if that had its own number before all of them.
    oldest = _ends(last.snapshot)[0]
    known = next((one for one in here if int(one.said["xid"]) <= oldest), None)
    found.since = (last.taken_at - LONGEST_OPEN) if known is None else (known.taken_at - CLOCKS)
    found.last, found.tables = last, _unpacked(counted)


def _is_of(record: Record, moment: Moment) -> bool:
    """Whether the record speaks of transactions of this cluster, which have begun by now."""
    is_here = record.said["cluster"] == moment.cluster
    return is_here and _ends(record.snapshot)[1] <= _ends(moment.snapshot)[1]


def _ends(snapshot: str) -> tuple[int, int]:
    """The first transaction that was open, and the first after all that had ended."""
    first, last, *_open = snapshot.split(":")
    return int(first), int(last)


def _record(record_id: UUID, taken_at: dt.datetime, said: Any, tag: Any) -> Record:
    is_ours = crypto.verify_mac(bytes(said), tag, purpose=MAC_PURPOSE)
    read: Mapping[str, Any] = json.loads(bytes(said)) if is_ours else {}
    if is_ours and (read["id"], read["taken_at"]) != (str(record_id), taken_at.isoformat()):
        return Record(record_id, taken_at, is_ours=False, said={})
    return Record(record_id, taken_at, is_ours, read)


def _canonical(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _packed(tables: Mapping[str, Counted]) -> bytes:
    said = {
        name: {"rows": one.rows, "columns": list(one.columns), "buckets": _text(one.buckets)}
        for name, one in tables.items()
    }
    return zlib.compress(_canonical(said))


def _unpacked(counted: bytes) -> dict[str, Counted]:
    said: dict[str, Any] = json.loads(zlib.decompress(counted))
    return {
        name: Counted(one["rows"], tuple(one["columns"]), _buckets(base64.b64decode(one["buckets"])))
        for name, one in said.items()
    }


def _text(buckets: Mapping[int, Bucket]) -> str:
    packed = (_BUCKET.pack(number, rows, digest) for number, (rows, digest) in sorted(buckets.items()))
    return base64.b64encode(b"".join(packed)).decode()


def _buckets(packed: bytes) -> dict[int, Bucket]:
    found: dict[int, Bucket] = {}
    for number, rows, digest in _BUCKET.iter_unpack(packed):
        found[number] = (rows, b"" if digest == bytes(8) else digest)
    return found
