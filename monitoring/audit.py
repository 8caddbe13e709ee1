"""Recording what happened: the write side of the audit trail.

`record` and `record_many` write inside the transaction of the change they speak about: both are kept or
neither. `record_refusal` writes on a connection of its own, at once, because what it tells about (a refusal,
a failure) usually rolls everything else back.

All three send one statement: the event and its place in the queue of what is not in the signed log yet.
There is no chain head and no counter to wait for, so writers never wait for each other.

When the trail cannot be written, nothing is done behind its back:
* `record`, `record_many`: the database's error reaches the caller's transaction, which rolls back; where the
  table of the trail refuses the row it is `NotRecorded` (503);
* `record_refusal`: `SecurityServiceFailure` (503) leaves the function. A caller about to refuse refuses with
  that error; nobody may go on as if the refusal had been recorded. The one exception are refused sign-ins at
  the public entrance (monitoring/spool.py).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import structlog
from django.db import Error as DatabaseError
from django.db import (
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connections,
    transaction,
)

from mestore.lib import crypto, errors, ids, json_text, sql
from mestore.lib.actor import Actor
from monitoring import events, leaves, receipts, spool, subjects
from monitoring.leaves import Entry, Target

__all__ = [
    "Batch",
    "Entry",
    "NotInTransaction",
    "NotRecorded",
    "Target",
    "batch",
    "batch_refusals_named",
    "is_refused",
    "record",
    "record_many",
    "record_refusal",
    "record_through",
    "replay_spool",
    "together",
]

log = structlog.get_logger("mestore.audit")

WRITER_PURPOSE = "audit-writer"
# Where a prepared row has its canonical bytes; sealed values, MAC and subject follow.
_CANON = 11
# What waits for the end of the block of `together` that runs in this thread.
_gathered: ContextVar[list[tuple[Any, ...]] | None] = ContextVar("gathered", default=None)


# Personal values of a person whose key was destroyed are not written: the count tells, and the event is
# written without them. `subject` NULL: nothing personal, nothing to look up. One look per event by its key,
# as a subquery: an anti-join reads the whole table of keys where the planner takes it for small.
_INSERT_ONE = """
WITH event AS (
    INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, actor_role, target_type,
                             target_id, session_id, request_id, canon, pii_ct, writer_mac, leaf_hash)
    SELECT id, occurred_at, type, outcome, actor_kind, actor_id, actor_role, target_type,
           target_id, session_id, request_id, canon, pii_ct, writer_mac, sha256('\\x00'::bytea || canon)
    FROM (VALUES (%s::uuid, %s::timestamptz, %s, %s, %s, %s::text, %s::text, %s::text, %s::text, %s::text,
                  %s::text, %s::bytea, %s::bytea, %s::bytea, %s::text))
      AS new(id, occurred_at, type, outcome, actor_kind, actor_id, actor_role, target_type, target_id,
             session_id, request_id, canon, pii_ct, writer_mac, subject)
    WHERE (SELECT k.wrapped IS NULL FROM subject_key k WHERE k.subject = new.subject) IS NOT TRUE
    RETURNING id, occurred_at
)
INSERT INTO audit_pending (id, occurred_at) SELECT id, occurred_at FROM event
"""
# All events in one parameter: fifteen arrays take psycopg and PostgreSQL twice as long. The function leaves
# in the queue what they tell of new rows, which the runtime role may not (migration 0019).
_INSERT_MANY = "SELECT public.audit_write(%(events)s::json)"
_COLUMNS = (
    "id", "occurred_at", "type", "outcome", "actor_kind", "actor_id", "actor_role", "target_type",
    "target_id", "session_id", "request_id", "canon", "pii_ct", "writer_mac", "subject",
)  # fmt: skip

_WRITTEN = "SELECT id FROM audit_event WHERE id = ANY(%s) AND occurred_at = ANY(%s)"
_IS_THERE = "SELECT 1 FROM audit_event WHERE id = %s AND occurred_at = %s"


class NotRecorded(errors.SecurityServiceFailure):
    """The trail does not take the event, so what it tells about does not happen either."""


class NotInTransaction(RuntimeError):
    """An event was to be recorded outside of the transaction of its change: a mistake in the calling code."""


def record(
    event: str,
    *,
    by: Actor,
    target: Target | None = None,
    data: Mapping[str, Any] | None = None,
    personal: Mapping[str, Any] | None = None,
    subject: str | None = None,
) -> UUID:
    """Record `event` in the current transaction and return the event's id.

    `data` is kept in clear for ever: no name, address or other personal value belongs there. `personal` is
    sealed under the key of `subject` (else of the actor); of a person who was erased it is left out. Raise
    `NotInTransaction`, `events.UnknownEvent` and `django.db.Error`.
    """
    _demand_transaction()
    entry = Entry(event, by, target, data, personal, subject)
    gathered = _gathered.get()
    if gathered is None:
        with _refusals_named():
            return UUID(str(_write_one(entry, using="default")[0]))
    (row,) = _prepare([entry])
    gathered.append(row)
    event_id: UUID = row[0]
    return event_id


def record_many(rows: Sequence[Entry]) -> None:
    """Record many events in the current transaction with one statement; raise as `record` does."""
    _demand_transaction()
    if not rows:
        return
    prepared, gathered = _prepare(rows), _gathered.get()
    if gathered is None:
        _write_many(prepared)
    else:
        gathered.extend(prepared)


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that a statement of the caller's own writes, beside the change they tell about.

    For the few changes that are made so often that one statement less counts. The statement calls
    `audit_write`, or another function of the database's that does the same, with `text` as its parameter, and
    tells `complete` how many were written.
    """

    rows: tuple[tuple[Any, ...], ...]

    def text(self) -> str:
        """Return the events as the statement takes them: a JSON array."""
        return f"[{','.join([_as_json(row) for row in self.rows])}]"

    def complete(self, written: int) -> None:
        """End what the statement began: of people who were erased it left out the events, then receipts.

        In the same transaction; raise as `record` does.
        """
        rows: Sequence[tuple[Any, ...]] = self.rows
        if not rows:
            return
        if written != len(rows):
            with _refusals_named():
                rows = _rest_without_personal(rows)
        receipts.promise([(row[0], row[_CANON]) for row in rows], using="default")


@contextmanager
def batch_refusals_named() -> Iterator[None]:
    """Around the statement that writes a `Batch`: raise `NotRecorded` where the trail does not take it.

    What the trail's own table refused is told by name; a right that the statement lacks, or an error that a
    function raises, is taken for one as well, for the statement is nothing without its events.
    """
    try:
        yield
    except (IntegrityError, ProgrammingError, InternalError) as error:
        if isinstance(error, IntegrityError) and not is_refused(error):
            raise
        log.critical("audit_event_not_written", error=type(error).__name__)
        raise NotRecorded from error


def batch(rows: Sequence[Entry]) -> Batch:
    """Prepare events for a statement of the caller's own, in the current transaction; raise as `record`."""
    _demand_transaction()
    return Batch(tuple(_prepare(rows)))


def record_through(alias: str, entry: Entry) -> tuple[UUID, bytes]:
    """Record `entry` in the transaction of another connection; return its id and leaf hash.

    For what the owner of the tables does. Raise as `record` does.
    """
    if not connections[alias].in_atomic_block:
        raise NotInTransaction("the event belongs inside the transaction of the change it tells about")
    row = _write_one(entry, using=alias)
    return row[0], leaves.leaf_hash(row[_CANON])


@contextmanager
def together() -> Iterator[None]:
    """Write everything that is recorded inside with one statement, at the end of the block.

    For a transaction in which several modules record one step of one person. Nothing inside may be rolled
    back alone and gone on from: its events would be written. What fails fails at the end, before the commit.
    Raise `NotInTransaction`, and at the end as `record` does.
    """
    _demand_transaction()
    if _gathered.get() is not None:
        yield  # the outermost block writes
        return
    rows: list[tuple[Any, ...]] = []
    before = _gathered.set(rows)
    try:
        yield
    finally:
        _gathered.reset(before)
    if rows:
        _write_many(rows)


def record_refusal(
    event: str,
    *,
    by: Actor,
    target: Target | None = None,
    data: Mapping[str, Any] | None = None,
    personal: Mapping[str, Any] | None = None,
    subject: str | None = None,
    may_wait: bool = False,
) -> UUID:
    """Record a refusal or failure at once, whatever becomes of the current transaction; return its id.

    With `may_wait`, for an event of `spool.MAY_WAIT`: should the table of the trail refuse it while the
    database answers, it waits on this machine's disk. Raise `errors.SecurityServiceFailure` when it cannot be
    written: the caller answers with that.
    """
    entry = Entry(event, by, target, data, personal, subject)
    row: tuple[Any, ...] | None = None
    try:
        (row,) = _prepare([entry])
        return UUID(str(_write_row(row, using="audit")[0]))
    except (DatabaseError, crypto.Unreadable) as error:
        if may_wait and row is not None and _waits(row):
            log.critical("audit_event_spooled", audit_event=event, error=type(error).__name__)
            return UUID(str(row[0]))
        log.critical("audit_refusal_not_written", audit_event=event, error=type(error).__name__)
        raise errors.SecurityServiceFailure from error


def replay_spool() -> int:
    """Write to the trail what waits on this machine's disk; return how many. For a worker.

    An event that the trail has already (a worker was killed, or another one was faster) is only taken off the
    disk. Raises django.db.Error when the trail still refuses: then the rest waits on.
    """
    replayed = 0
    for file, row in spool.every():
        try:
            with transaction.atomic():
                _write_row(row, using="default")
        except IntegrityError:
            if not sql.fetch_one(_IS_THERE, (row[0], row[1])):
                raise
        spool.forget(file)
        replayed += 1
    return replayed


def _waits(row: tuple[Any, ...]) -> bool:
    """Put an event onto the disk if the database answers; say whether it is there."""
    try:
        sql.fetch_one("SELECT 1", using="audit")
        spool.keep(row)
    except (DatabaseError, OSError) as error:
        log.critical("audit_event_not_spooled", error=type(error).__name__)
        return False
    return True


def _write_many(rows: Sequence[tuple[Any, ...]]) -> None:
    with _refusals_named():
        Batch(tuple(rows)).complete(_insert_many(rows))


def _insert_many(rows: Sequence[tuple[Any, ...]]) -> int:
    # Nearly every change of ours sends it.
    found = sql.fetch_one(_INSERT_MANY, {"events": Batch(tuple(rows)).text()}, prepare=True)
    return int(found[0]) if found else 0


def _as_json(row: tuple[Any, ...]) -> str:
    """Return a prepared row as the statements take it: an object, bytes in it as hexadecimal digits.

    Only the canonical bytes stand in it as they are. They are JSON, and what a member of type `json` holds
    reaches the database byte for byte: as a text within the text they would be escaped, and read back.
    """
    found = dict(zip(_COLUMNS, row, strict=True))
    canon, sealed = found.pop("canon"), found["pii_ct"]
    found["id"], found["occurred_at"] = str(found["id"]), found["occurred_at"].isoformat()
    found["pii_ct"] = None if sealed is None else sealed.hex()
    found["writer_mac"] = found["writer_mac"].hex()
    return f'{_write(found)[:-1]}, "canon": {canon.decode()}}}'


_write = json_text.writer()


def _rest_without_personal(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Write those of `rows` that were not: their people were erased. Return all rows as they are now."""
    asked = ([row[0] for row in rows], sorted({row[1] for row in rows}))
    written = {found[0] for found in sql.fetch_all(_WRITTEN, asked)}
    rest = {row[0]: _without_personal(row) for row in rows if row[0] not in written}
    _insert_many(list(rest.values()))
    return [rest.get(row[0], row) for row in rows]


@contextmanager
def _refusals_named() -> Iterator[None]:
    try:
        yield
    except (IntegrityError, ProgrammingError, InternalError) as error:
        log.critical("audit_event_not_written", error=type(error).__name__)
        raise NotRecorded from error


def is_refused(error: BaseException) -> bool:
    """Whether a statement failed because the database's own triggers could not write to the trail."""
    cause = error.__cause__
    return isinstance(cause, psycopg.Error) and cause.diag.table_name == "audit_event"


def _demand_transaction() -> None:
    if not connections["default"].in_atomic_block:
        raise NotInTransaction("audit.record belongs inside the transaction of the change it tells about")


def _write_one(entry: Entry, *, using: str) -> tuple[Any, ...]:
    (row,) = _prepare([entry])
    return _write_row(row, using=using)


def _write_row(row: tuple[Any, ...], *, using: str) -> tuple[Any, ...]:
    """Write a prepared row and return it as it was written: of an erased person without personal values."""
    if _insert_one(row, using) != 1:
        row = _without_personal(row)
        _insert_one(row, using)
    receipts.promise([(row[0], row[_CANON])], using=using)
    return row


def _insert_one(row: tuple[Any, ...], using: str) -> int:
    try:
        return sql.execute(_INSERT_ONE, row, using=using, prepare=True)
    except (OperationalError, InterfaceError):
        connection = connections[using]
        if using == "default" or connection.in_atomic_block:
            raise
        return _write_again(row, using)


def _without_personal(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a prepared row without its personal values, and forget the key that they were sealed under."""
    subjects.forget(row[-1])
    canon = leaves.without_personal(row[_CANON])
    return (*row[:_CANON], canon, None, crypto.mac(canon, purpose=WRITER_PURPOSE), None)


def _write_again(row: tuple[Any, ...], using: str) -> int:
    """Send the row once more on a fresh connection: the old one may have died of age, or of a failover."""
    connections[using].close()
    try:
        return sql.execute(_INSERT_ONE, row, using=using)
    except IntegrityError:
        return 1  # the first attempt was committed; only its answer was lost


def _prepare(rows: Sequence[Entry]) -> list[tuple[Any, ...]]:
    """Return one tuple of column values per entry."""
    now = dt.datetime.now(dt.UTC)
    at = leaves.moment(now)
    columns, owners, before = list[leaves.Columns](), list[str | None](), None
    for entry in rows:
        before = leaves.columns(entry, before)
        columns.append(before)
        owners.append(leaves.subject_of(entry, before, now))
    wanted = {owner for owner in owners if owner is not None}
    keys = subjects.keys_for(wanted) if wanted else {}
    owners = [owner if owner in keys else None for owner in owners]
    return [
        _row(entry, texts, owner, now, at, keys)
        for entry, texts, owner in zip(rows, columns, owners, strict=True)
    ]


def _row(
    entry: Entry, columns: leaves.Columns, owner: str | None, now: dt.datetime, at: str,
    keys: Mapping[str, bytes],
) -> tuple[Any, ...]:  # fmt: skip
    event, event_id, speaker = events.get(entry.event), ids.uuid7(), columns.speaker
    personal = leaves.personal_bytes(entry, columns) if owner is not None else None
    canon = leaves.canon(entry, columns, event_id=event_id, at=at, subject=owner, personal=personal)
    sealed = None
    if owner is not None and personal is not None:
        sealed = leaves.seal_personal(personal, key=keys[owner], event_id=event_id)
    return (
        event_id, now, event.code, str(event.outcome),
        speaker.by.kind, speaker.id, speaker.role, columns.target_type, columns.target_id,
        speaker.session_id, speaker.request_id,
        canon, sealed, crypto.mac(canon, purpose=WRITER_PURPOSE), owner,
    )  # fmt: skip
