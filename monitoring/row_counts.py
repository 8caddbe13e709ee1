"""Counting the rows of a watched table, and what the trail tells of them since a snapshot.

Both are read in one REPEATABLE READ transaction, so they speak of the same moment. An event knows its
transaction (`xid`), and so whether an earlier snapshot saw it: a transaction that was open then counts once,
in whichever reconciliation first sees it, however long it took.

Rows are counted in 1,024 buckets by their key, each with a digest over its rows, so that one row put in the
place of another is seen, and a value that changed where the trail says that nothing did. What is kept of a
table does not grow with it; sorting a table goes to disk where it must.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mestore.lib import sql
from monitoring import guards
from monitoring.capture import CaptureTable

BUCKETS: Final = 1_024
DIGESTED_ROWS: Final = 2_000_000
"""A table that had more rows at the last reconciliation is counted and sampled, not digested."""
SHOWN: Final = 20

Bucket = tuple[int, bytes]
"""How many rows, and the first eight bytes of SHA-256 over theirs; no bytes where nothing was digested."""

# Columns in the order of their names; those of a table that is not there are none.
_COLUMNS = """
SELECT c.relname, array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C") FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname = ANY(%s) GROUP BY 1
"""
_LOCK = "LOCK TABLE {table} IN ACCESS SHARE MODE"
_TOLD = """
CREATE TEMPORARY TABLE audit_row_told (
    watched text NOT NULL, key text, bucket int, kind text NOT NULL, xid xid8 NOT NULL,
    at timestamptz NOT NULL
) ON COMMIT DROP
"""
_COLLECT = """
INSERT INTO audit_row_told (watched, key, bucket, kind, xid, at)
SELECT n.watched, e.target_id, (get_byte(h.hash, 0) * 256 + get_byte(h.hash, 1)) %% 1024,
       n.kind, e.xid, e.occurred_at
FROM audit_event e
JOIN unnest(%(types)s::text[], %(targets)s::text[], %(watched)s::text[], %(kinds)s::text[])
    AS n (type, target, watched, kind) ON n.type = e.type AND n.target = e.target_type
CROSS JOIN LATERAL (SELECT sha256(convert_to(e.target_id, 'UTF8')) AS hash) AS h
WHERE e.occurred_at >= %(since)s AND (n.kind <> 'told' OR e.writer_mac IS NOT NULL)
  AND NOT pg_visible_in_snapshot(e.xid, %(snapshot)s::pg_snapshot)
"""
_INDEX = "CREATE INDEX ON audit_row_told (watched, key)"
_ANALYZE = "ANALYZE audit_row_told"
# Of one row and transaction: every insert that was captured, else the one that the service itself told.
_MOVED = """
SELECT bucket, sum(CASE WHEN inserts > 0 THEN inserts WHEN is_told THEN 1 ELSE 0 END)::bigint,
       sum(deletes)::bigint
FROM (
    SELECT bucket, count(*) FILTER (WHERE kind = 'insert') AS inserts, bool_or(kind = 'told') AS is_told,
           count(*) FILTER (WHERE kind = 'delete') AS deletes
    FROM audit_row_told WHERE watched = %(table)s AND kind <> 'truncate' AND at > coalesce(
        (SELECT max(at) FROM audit_row_told WHERE watched = %(table)s AND kind = 'truncate'), '-infinity')
    GROUP BY bucket, key, xid
) AS rows GROUP BY bucket
"""
_TRUNCATED = "SELECT DISTINCT watched FROM audit_row_told WHERE kind = 'truncate'"
_COUNT = """
SELECT bucket, count(*), CASE WHEN %(digested)s THEN
       substring(sha256(string_agg(hash, ''::bytea ORDER BY key COLLATE "C")) FROM 1 FOR 8) ELSE ''::bytea END
FROM (
    SELECT k.key, (get_byte(h.hash, 0) * 256 + get_byte(h.hash, 1)) %% 1024 AS bucket,
           CASE WHEN %(digested)s THEN
               sha256(convert_to((r.row - %(without)s::text[])::text, 'UTF8')) END AS hash
    FROM (SELECT to_jsonb(t) AS row FROM {table} t OFFSET 0) AS r
    CROSS JOIN LATERAL (SELECT CASE WHEN cardinality(%(key)s::text[]) = 1 THEN r.row ->> (%(key)s::text[])[1]
        ELSE (SELECT string_agg(r.row ->> n.name, '/' ORDER BY n.place)
              FROM unnest(%(key)s::text[]) WITH ORDINALITY AS n (name, place)) END AS key OFFSET 0) AS k
    CROSS JOIN LATERAL (SELECT sha256(convert_to(k.key, 'UTF8')) AS hash) AS h
    OFFSET 0
) AS rows GROUP BY bucket
"""
# A row knows which transaction wrote it, by the lower half of its number: those since the snapshot, or later.
_UNTOLD = """
SELECT k.key FROM (
    SELECT to_jsonb(t) AS row FROM {table} t
    WHERE (t.xmin::text::bigint - pg_snapshot_xmin(%(snapshot)s::pg_snapshot)::text::bigint %% 4294967296
           + 4294967296) %% 4294967296
        < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
          - pg_snapshot_xmin(%(snapshot)s::pg_snapshot)::text::bigint
    OFFSET 0
) AS r
CROSS JOIN LATERAL (SELECT CASE WHEN cardinality(%(key)s::text[]) = 1 THEN r.row ->> (%(key)s::text[])[1]
    ELSE (SELECT string_agg(r.row ->> n.name, '/' ORDER BY n.place)
          FROM unnest(%(key)s::text[]) WITH ORDINALITY AS n (name, place)) END AS key OFFSET 0) AS k
CROSS JOIN LATERAL (SELECT sha256(convert_to(k.key, 'UTF8')) AS hash) AS h
WHERE (get_byte(h.hash, 0) * 256 + get_byte(h.hash, 1)) %% 1024 = ANY(%(buckets)s)
  AND NOT EXISTS (
    SELECT FROM audit_row_told o WHERE o.watched = %(table)s AND o.key = k.key AND o.kind <> 'delete')
ORDER BY k.key LIMIT %(most)s
"""


class LaterRelease(RuntimeError):
    """The database was migrated by newer code, which alone knows how it watches its tables."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A table as this release watches it, and the columns that it has here."""

    table: str
    key: tuple[str, ...]
    classes: Mapping[str, str]
    present: tuple[str, ...]
    told: tuple[str, str] | None = None
    """Event and target by which the service itself tells of an insert, in place of the trigger."""

    @property
    def digested(self) -> tuple[str, ...]:
        """The columns whose every change is an event: all but those that are ignored."""
        return tuple(name for name in self.present if self.classes.get(name) != "ignored")

    @property
    def comparable(self) -> list[str]:
        """The columns whose values the trail tells."""
        return [name for name in self.present if self.classes.get(name) in {"plain", "personal"}]


@dataclass(frozen=True, slots=True)
class Counted:
    """A table at one moment."""

    rows: int
    columns: tuple[str, ...]
    buckets: Mapping[int, Bucket] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moved:
    """What the trail tells of one table since: by bucket, rows that came and went; updates are (0, 0)."""

    buckets: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    is_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """What the trail does not tell: rows more and fewer than it says, and where."""

    more: int = 0
    fewer: int = 0
    changed: int = 0
    """In how many buckets a value changed though the trail tells of nothing there."""
    buckets: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.buckets)


def watched_names() -> frozenset[str]:
    """Return the names of the tables that this release watches, whether they are here or not."""
    return frozenset(guards.captures())


def present() -> list[str]:
    """Return the names of those that are here. Raises LaterRelease."""
    if guards.is_of_a_later_release():
        raise LaterRelease
    return sorted(str(name) for name, _columns in sql.fetch_all(_COLUMNS, (sorted(watched_names()),)))


def lock(tables: Iterable[str]) -> None:
    """Let nobody truncate or alter a table until the transaction ends: what that does ignores snapshots.

    For the beginning of a transaction, before its snapshot. Who reads and writes rows does not wait; reading
    a table keeps the same lock. Raises django.db.Error when somebody has one for longer than `lock_timeout`.
    """
    for table in tables:
        sql.execute(sql.compose(_LOCK, table=("public", table)))


def declared() -> list[Declared]:
    """Return the tables that this release watches and that are here, whatever triggers say now; by name."""
    operations = guards.captures()
    columns: dict[str, list[str]] = dict(sql.fetch_all(_COLUMNS, (sorted(operations),)))
    return [_declared(operations[table], columns[table]) for table in sorted(columns)]


def collect(tables: Iterable[Declared], *, since: dt.datetime | None, snapshot: str) -> None:
    """Gather, in a table of this transaction, what the trail tells since a snapshot; nothing for None."""
    sql.execute(_TOLD)
    if since is not None:
        named = [one for table in tables for one in _names(table)]
        types, targets, watched, kinds = (list(column) for column in zip(*named, strict=True))
        values = {"types": types, "targets": targets, "watched": watched, "kinds": kinds}
        sql.execute(_COLLECT, values | {"since": since, "snapshot": snapshot})
    sql.execute(_INDEX)
    sql.execute(_ANALYZE)


def truncated() -> frozenset[str]:
    """Return the tables of which the trail tells a TRUNCATE since."""
    return frozenset(str(name) for (name,) in sql.fetch_all(_TRUNCATED))


def moved(table: Declared, *, is_truncated: bool) -> Moved:
    """Return what the trail tells of one table since; after a TRUNCATE, since that."""
    rows = sql.fetch_all(_MOVED, {"table": table.table})
    return Moved({int(bucket): (int(came), int(went)) for bucket, came, went in rows}, is_truncated)


def count(table: Declared, columns: Sequence[str], *, is_digested: bool) -> Counted:
    """Count the rows of a table, and digest these columns of them."""
    wanted = set(columns)
    values = {
        "key": list(table.key), "digested": is_digested,
        "without": [name for name in table.present if name not in wanted],
    }  # fmt: skip
    found = sql.fetch_all(sql.compose(_COUNT, table=("public", table.table)), values)
    buckets = {int(bucket): (int(rows), bytes(digest)) for bucket, rows, digest in found}
    return Counted(sum(rows for rows, _digest in buckets.values()), tuple(columns), buckets)


def gap(before: Counted, now: Counted, told: Moved) -> Gap:
    """Return what of the change from `before` to `now` the trail does not tell.

    Digests are compared where the trail tells of nothing and both were made of the same columns.
    """
    more = fewer = changed = 0
    where = []
    is_alike = before.columns == now.columns
    for bucket in sorted(before.buckets.keys() | now.buckets.keys() | told.buckets.keys()):
        then, digest_then = (0, b"") if told.is_truncated else before.buckets.get(bucket, (0, b""))
        rows, digest = now.buckets.get(bucket, (0, b""))
        came, went = told.buckets.get(bucket, (0, 0))
        over = rows - (then + came - went)
        more, fewer = more + max(over, 0), fewer + max(-over, 0)
        is_quiet = is_alike and bucket not in told.buckets and digest_then and digest
        is_changed = not over and is_quiet and digest != digest_then
        changed += int(bool(is_changed))
        if over or is_changed:
            where.append(bucket)
    return Gap(more, fewer, changed, tuple(where))


def untold(table: Declared, where: Sequence[int], *, snapshot: str) -> list[str]:
    """Return keys of rows in these buckets that were written since, without an event; at most SHOWN."""
    values: dict[str, Any] = {
        "table": table.table, "key": list(table.key), "buckets": list(where), "snapshot": snapshot,
        "most": SHOWN,
    }  # fmt: skip
    return [str(key) for (key,) in sql.fetch_all(sql.compose(_UNTOLD, table=("public", table.table)), values)]


def _declared(operation: CaptureTable, present: Sequence[str]) -> Declared:
    said = operation.declaration
    return Declared(operation.table, tuple(said["key"]), said["columns"], tuple(present), operation.told)


def _names(table: Declared) -> list[tuple[str, str, str, str]]:
    """Type and target of each event that tells of this table, the table, and what it tells."""
    kinds = ("insert", "update", "delete", "truncate")
    named = [(f"capture.{kind}", table.table, table.table, kind) for kind in kinds]
    return named if table.told is None else [*named, (*table.told, table.table, "told")]
