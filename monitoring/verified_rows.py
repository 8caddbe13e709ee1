"""Does each event's row say what its sealed bytes say, and did the application write it?

The tree proves the canonical bytes. People search and read the columns beside them, which nothing seals: here
both are compared. So are the application's own seal (`writer_mac`, which a database administrator cannot
make), whether personal values are there exactly when the bytes commit to some, and the order of moments.

The rows of one range pass through this process in batches: memory does not grow with the log. With `stream`
each leaf is hashed here as well, for those who do not want to believe the database's own `sha256`.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import transaction

from mestore.lib import crypto, sql
from monitoring import audit, events, retired, verified_values
from monitoring.verification import Fault, Findings, Span

SKEW_SECONDS: Final = 30.0
_COLUMNS: Final = (
    "id", "occurred_at", "type", "outcome", "actor_kind", "actor_id", "actor_role", "target_type",
    "target_id", "session_id", "request_id",
)  # fmt: skip
BATCH_ROWS: Final = 2_000
WRITTEN_BY_THE_DATABASE: Final = "capture."
"""Types that begin so, and entries of the ledger, are written by triggers and functions: without a MAC."""

_ROWS = """
SELECT p.leaf_index, e.id, to_char(e.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       extract(epoch FROM e.occurred_at)::float8, e.type, e.outcome, e.actor_kind, e.actor_id, e.actor_role,
       e.target_type, e.target_id, e.session_id, e.request_id, e.canon, e.writer_mac, e.pii_ct IS NOT NULL
FROM audit_leaf p JOIN audit_event e ON e.id = p.event_id AND e.occurred_at = p.occurred_at
WHERE p.epoch = %s AND p.leaf_index >= %s AND p.leaf_index < %s ORDER BY p.leaf_index
"""
# A cursor is planned for its first rows; these are all wanted, and each row of the log has one event.
_PLAN = "SELECT set_config('cursor_tuple_fraction', '1', true)"
_SIGNED = """
SELECT size, extract(epoch FROM signed_at)::float8 FROM audit_checkpoint
WHERE epoch = %s AND size > %s ORDER BY size LIMIT 65537
"""
_EVENT = "SELECT event_id FROM audit_leaf WHERE epoch = %s AND leaf_index = %s"
_ERASED = "SELECT subject FROM subject_key WHERE subject = ANY(%s) AND wrapped IS NULL"


class Row(NamedTuple):
    """One leaf's event as the trail shows it."""

    leaf_index: int
    event_id: UUID
    occurred_at: str
    """As canonical bytes write it: UTC, six digits, Z."""
    moment: float
    """The same in seconds since 1970."""
    type: str
    outcome: str
    actor_kind: str
    actor_id: str | None
    actor_role: str | None
    target_type: str | None
    target_id: str | None
    session_id: str | None
    request_id: str | None
    canon: bytes
    writer_mac: bytes | None
    has_personal: bool

    @property
    def is_of_the_database(self) -> bool:
        return self.type.startswith(WRITTEN_BY_THE_DATABASE) or self.type == events.LEDGER_ENTRY_POSTED


@dataclass(slots=True)
class _Order:
    """Moments of one range in the order of the log: who comes late, and who is ahead of the signature."""

    signed: deque[tuple[int, float]]
    newest: float | None = None
    late: list[int] = field(default_factory=lambda: [0, 0])
    ahead: list[int] = field(default_factory=lambda: [0, 0])

    def see(self, row: Row) -> None:
        while self.signed and self.signed[0][0] <= row.leaf_index:
            self.signed.popleft()
        if self.signed and row.moment - self.signed[0][1] > SKEW_SECONDS:
            self.ahead = _count(self.ahead, row.leaf_index)
        if self.newest is not None and self.newest - row.moment > SKEW_SECONDS:
            self.late = _count(self.late, row.leaf_index)
        if self.newest is None or row.moment > self.newest:
            self.newest = row.moment

    def notes(self) -> Iterator[Fault]:
        if self.late[0]:
            yield Fault(f"{self.late[0]} events are more than 30 s older than one before them", self.late[1])
        if self.ahead[0]:
            yield Fault(
                f"{self.ahead[0]} events are more than 30 s later than the signature on them", self.ahead[1]
            )


def check_rows(span: Span, *, stored: bytes | None = None) -> Findings:
    """Go through the events of one range; with its `stored` leaf hashes each leaf is hashed here, too.

    Without them, what is missing altogether is found by `verification.check_span`.
    """
    found = Findings()
    order = _Order(deque(sql.fetch_all(_SIGNED, (span.epoch, span.begin))))
    erased: list[int] = [0, 0]
    expected = span.begin
    with transaction.atomic():
        sql.execute(_PLAN)
        for batch in sql.stream(_ROWS, (span.epoch, span.begin, span.end), batch_rows=BATCH_ROWS):
            rows = [_row(values) for values in batch]
            said = [_document(row.canon) for row in rows]
            gone = _erased(said)
            captured = [
                (row.leaf_index, row.event_id, document)
                for row, document in zip(rows, said, strict=True)
                if document is not None and row.is_of_the_database
            ]
            verified_values.check(captured, found)
            for row, document in zip(rows, said, strict=True):
                order.see(row)
                if stored is not None and row.leaf_index != expected:
                    _missing(span, expected, row.leaf_index, found)
                expected = row.leaf_index + 1
                subject = str(document.get("subject")) if document and "subject" in document else None
                if subject in gone:
                    erased = _count(erased, row.leaf_index)
                for what in _wrong(row, document, is_erased=subject in gone):
                    found.fault(what, row.leaf_index, row.event_id)
                if stored is not None and _differs(row, stored, span):
                    found.fault("an event is not what the log says", row.leaf_index, row.event_id)
    if stored is not None and expected != span.end:
        _missing(span, expected, span.end, found)
    found.notes.extend(order.notes())
    if erased[0]:
        found.note(f"the personal content of {erased[0]} events is erased: the key was destroyed", erased[1])
    return found


def _wrong(row: Row, document: Mapping[str, Any] | None, *, is_erased: bool) -> Iterator[str]:
    if document is None:
        yield "the sealed bytes of an event are no JSON object"
        return
    if "v" not in document and _mapping(document.get("actor")).get("kind") == "database":
        yield "an entry of the ledger was written around its posting function"
        return
    said = _said(document)
    if said != row[1:3] + row[4:13]:
        for name, column, value in zip(_COLUMNS, row[1:3] + row[4:13], said, strict=True):
            if column != value:
                yield f"the column {name} is not what the event's sealed bytes say"
    if not row.is_of_the_database:
        yield from _wrong_beside(row, document, is_erased=is_erased)


def _wrong_beside(row: Row, document: Mapping[str, Any], *, is_erased: bool) -> Iterator[str]:
    """What the application adds to the sealed bytes: its MAC, and personal values that they commit to."""
    if row.writer_mac is None:
        yield "an event was written outside the application: it has no MAC"
    elif not crypto.verify_mac(row.canon, row.writer_mac, purpose=audit.WRITER_PURPOSE):
        yield "an event was written outside the application: its MAC is wrong"
    if row.has_personal and "pii_commit" not in document:
        yield "an event has personal content that its sealed bytes do not commit to"
    elif "pii_commit" in document and not row.has_personal and not is_erased:
        yield "the personal content of an event is gone, and nobody erased it"


def _said(document: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what the sealed bytes say of `_COLUMNS`."""
    actor = _mapping(document.get("actor"))
    by = (actor.get("kind"), actor.get("id"), actor.get("role") or None)
    at = document.get("at", document.get("recorded_at"))
    if "v" not in document:  # an entry of the ledger: it is its own target, its actor carries the rest
        return (
            _uuid(document.get("id")), at, document.get("type"), "SUCCESS", *by,
            "ledger_entry", document.get("id"), actor.get("session"), actor.get("request"),
        )  # fmt: skip
    target = _mapping(document.get("target"))
    return (
        _uuid(document.get("id")), at, document.get("event"), document.get("outcome"), *by,
        target.get("type"), target.get("id"), document.get("session"), document.get("request"),
    )  # fmt: skip


def _document(canon: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(canon)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _uuid(text: object) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None


def _erased(said: list[Mapping[str, Any] | None]) -> set[str]:
    subjects = {str(document["subject"]) for document in said if document and "subject" in document}
    return {row[0] for row in sql.fetch_all(_ERASED, (sorted(subjects),))} if subjects else set()


def _missing(span: Span, begin: int, end: int, found: Findings) -> None:
    """Name the first of these leaves whose event is gone and did not go with its month."""
    for at, _until in retired.load().kept(span.epoch, begin, end)[:1]:
        found.fault("the event of a leaf is gone", at, _event_of(span, at))


def _differs(row: Row, stored: bytes, span: Span) -> bool:
    at = (row.leaf_index - span.begin) * 32
    return hashlib.sha256(b"\x00" + row.canon).digest() != stored[at : at + 32]


def _count(seen: list[int], leaf_index: int) -> list[int]:
    """Count one more; remember the first."""
    return [seen[0] + 1, seen[1] if seen[0] else leaf_index]


def _event_of(span: Span, leaf_index: int) -> UUID | None:
    row = sql.fetch_one(_EVENT, (span.epoch, leaf_index))
    return row[0] if row is not None else None


def _row(values: sql.Row) -> Row:
    *columns, canon, mac, has_personal = values
    return Row._make((*columns, bytes(canon), None if mac is None else bytes(mac), has_personal))
