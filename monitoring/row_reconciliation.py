"""Reconciling the rows of watched tables with the trail: did any come, go or change that it does not tell of?

A trigger that was off for a moment, a row changed meanwhile and the trigger on again leave guards as they
were, and no event. What they cannot leave as it was is the table: since the last reconciliation it must have
gained and lost exactly the rows that the trail tells, and kept every value that the trail does not tell of.

Three comparisons, in one snapshot and without a lock that anybody waits for but who alters a table:

* rows now = rows at the last reconciliation + captured inserts - captured deletes since, in 1,024 buckets;
* where the trail tells of nothing, the digest over all columns but the ignored ones is as it was;
* rows that were written since, and some at random, have the values that the trail last told.

What is found is said in five ways, none of which depends on another: to the caller, in the table, in the log,
as an event and as a critical signal. The next reconciliation begins from the rows as they are.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import DatabaseError, InterfaceError, transaction
from django.utils.translation import gettext_lazy as _

from mestore.lib import errors, ids, sql
from mestore.lib.actor import Actor
from monitoring import alerts, audit, row_counts, row_records, row_values
from monitoring.row_counts import Counted, Declared
from monitoring.row_records import Before, Moment, Record

UNTOLD: Final = alerts.declare(
    alerts.Rule(
        "audit.rows_untold",
        _("Rows of watched tables came, went or changed, and the trail does not tell of it"),
        alerts.Severity.CRITICAL,
        "audit-rows-untold",
    )
)
OLD: Final = dt.timedelta(hours=36)
"""When the newest reconciliation asks for a person: one night was left out."""
DIFFERING_ROWS: Final = 20
"""How many rows of a table with other values than the trail told are named."""

logger = structlog.get_logger("mestore.audit")

_ONE_MOMENT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
# A moment's text, and with it the digest, is the same whoever asks.
_UTC = "SET LOCAL timezone = 'UTC'"


@dataclass(frozen=True, slots=True)
class Difference:
    """What the trail does not tell of one table; `rows` names as many as are known, by their keys."""

    table: str
    what: str
    more: int = 0
    fewer: int = 0
    rows: tuple[str, ...] = ()


@dataclass(slots=True)
class Result:
    """One reconciliation. `since`: when the one was taken that it compares with; None for a first one."""

    id: UUID
    taken_at: dt.datetime
    since: dt.datetime | None
    tables: int = 0
    rows: int = 0
    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_kept: bool = True

    @property
    def is_good(self) -> bool:
        return not self.differences


def reconcile(*, by: Actor) -> Result:
    """Compare every watched table with the trail since the last time; what is found is kept and told.

    May run twice at once: both compare with the same one before. Raises row_counts.LaterRelease,
    django.db.Error when it cannot run, RuntimeError within a transaction.
    """
    counted: dict[str, Counted] = {}
    present = row_counts.present()
    with transaction.atomic(durable=True):
        sql.execute(_ONE_MOMENT)
        sql.execute(_UTC)
        # Before the snapshot, which the first question takes: TRUNCATE is seen whatever a snapshot says.
        row_counts.lock(present)
        moment, tables = row_records.now(), row_counts.declared()
        before = row_records.before(moment)
        result = _begun(moment, before)
        snapshot = before.last.snapshot if before.last is not None else None
        row_counts.collect(tables, since=before.since, snapshot=snapshot or moment.snapshot)
        truncated = row_counts.truncated()
        for table in tables:
            counted[table.table] = _reconciled(table, before, result, is_truncated=table.table in truncated)
        _missing(before, counted, result)
    _keep(result, moment, before.last, counted, by)
    _tell(result, by)
    return result


def _begun(moment: Moment, before: Before) -> Result:
    result = Result(ids.uuid7(), moment.at, before.last.taken_at if before.last is not None else None)
    result.differences = [Difference(row_records.TARGET, what) for what in before.faults]
    if before.note:
        result.notes.append(before.note)
    return result


def _reconciled(table: Declared, before: Before, result: Result, *, is_truncated: bool) -> Counted:
    """Compare one table, and return what to compare it with next time."""
    then = before.tables.get(table.table)
    is_digested = then is None or then.rows <= row_counts.DIGESTED_ROWS
    now = row_counts.count(table, table.digested, is_digested=is_digested)
    snapshot = before.last.snapshot if before.last is not None else None
    if then is None:
        if before.last is not None:
            result.notes.append(f"{table.table}: counted for the first time")
    elif snapshot is not None:
        alike = _alike(table, then, now, result, is_digested=is_digested)
        told = row_counts.moved(table, is_truncated=is_truncated)
        _note_gap(table, row_counts.gap(then, alike, told), snapshot, result)
    compared, differing = row_values.differing(table, now.rows, snapshot=snapshot)
    for key, columns in sorted(differing.items())[:DIFFERING_ROWS]:
        what = f"{', '.join(columns)}: not what the trail last told"
        result.differences.append(Difference(table.table, what, rows=(key,)))
    if len(differing) > DIFFERING_ROWS:
        what = f"{len(differing) - DIFFERING_ROWS} more rows that are not what the trail last told"
        result.differences.append(Difference(table.table, what))
    result.tables, result.rows = result.tables + 1, result.rows + now.rows
    result.compared += compared
    return now


def _alike(table: Declared, then: Counted, now: Counted, result: Result, *, is_digested: bool) -> Counted:
    """Return the table's count with digests over the columns of last time, where they are there still."""
    if then.columns == now.columns:
        return now
    if set(then.columns) <= set(now.columns):
        return row_counts.count(table, then.columns, is_digested=is_digested)
    result.notes.append(f"{table.table}: columns went; values are digested anew from here")
    return now


def _note_gap(table: Declared, found: row_counts.Gap, snapshot: str, result: Result) -> None:
    if not found:
        return
    named = tuple(row_counts.untold(table, found.buckets, snapshot=snapshot))
    words = [
        f"{many} {noun if many == 1 else noun + 's'} {rest}"
        for many, noun, rest in (
            (found.more, "row", "more than the trail tells"),
            (found.fewer, "row", "fewer than the trail tells"),
            (found.changed, "place", "where values changed and the trail tells of nothing"),
        )
        if many
    ]
    result.differences.append(Difference(table.table, "; ".join(words), found.more, found.fewer, named))


def _missing(before: Before, counted: dict[str, Counted], result: Result) -> None:
    """A table that was counted and is not there any more; one that a release gave up is watched no longer."""
    watched = row_counts.watched_names()
    for name in sorted(before.tables.keys() - counted.keys()):
        if name in watched:
            rows = before.tables[name].rows
            result.differences.append(Difference(name, "the table is gone", fewer=rows))
        else:
            result.notes.append(f"{name}: not watched any more")


def _keep(
    result: Result, moment: Moment, last: Record | None, counted: dict[str, Counted], by: Actor
) -> None:
    """Write to the table; a table that cannot be written hides nothing."""
    said = {
        "v": 1, "id": str(result.id), "taken_at": moment.at.isoformat(), "cluster": moment.cluster,
        "snapshot": moment.snapshot, "xid": moment.xid,
        "compared_with": str(last.id) if last is not None else None,
        "since": result.since.isoformat() if result.since is not None else None, "tables": result.tables,
        "rows": result.rows, "compared": result.compared, "differences": as_json(result.differences),
        "notes": result.notes, "actor": by.label or by.id or by.kind,
    }  # fmt: skip
    try:
        row_records.keep(Record(result.id, moment.at, is_ours=True, said=said), counted)
    except (DatabaseError, InterfaceError) as error:
        logger.critical("audit_reconciliation_not_kept", error=type(error).__name__)
        result.is_kept = False


def _tell(result: Result, by: Actor) -> None:
    said: dict[str, Any] = {
        "tables": result.tables, "rows": result.rows, "compared": result.compared,
        "differences": len(result.differences), "notes": len(result.notes),
        "since": result.since.isoformat() if result.since is not None else None,
    }  # fmt: skip
    if not result.is_good:
        named = sorted({one.table for one in result.differences})
        first = result.differences[0]
        said |= {"first": f"{first.table}: {first.what}", "named": named, "rows_named": list(first.rows)}
        logger.critical("audit_rows_untold", run=str(result.id), **said)
        alerts.raise_signal(UNTOLD, entity=("audit_log", "rows"), evidence=said, using="audit")
    # An event names its record: one that could not be kept must not be missed later.
    target = (row_records.TARGET, str(result.id)) if result.is_kept else (row_records.TARGET, "")
    try:
        audit.record_refusal(row_records.code(is_good=result.is_good), by=by, target=target, data=said)
    except errors.SecurityServiceFailure:
        logger.critical("audit_reconciliation_not_recorded", run=str(result.id))


def as_json(differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """Return differences as the table and `--json` hold them."""
    return [{**asdict(one), "rows": list(one.rows)} for one in differences]
