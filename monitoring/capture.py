"""Watching a table: which of its columns may be shown, and how, when a row of it changes.

A migration of the table's own app declares it:

    CaptureTable("accounts_grant", subject="user_id", plain=["id", "user_id", …], personal=["reason"])

From then on the database itself records every row that is inserted, changed or deleted, and every TRUNCATE,
whatever did it: a model, `update()`, a bulk operation, SQL from the application or from a person.

* `plain`: the values before and after, with their JSON types;
* `personal`: SHA-256 of a nonce and the value; the value itself can be erased with its person;
* `secret`: only that it changed;
* `ignored`: nothing: columns that change with every use. A change of these alone records nothing.

A column that is not declared counts as secret; a test asks that all are declared.

`told`: for tables whose new rows an event of the service tells of. In its data, under `row`, stand all plain
columns that are not NULL, as the database writes them (moments: `moment`); the database compares, and
captures the row itself where the event of the same transaction is missing or says anything else. Only events
of `audit.record_many` (before the row) and `audit.batch` (beside it) tell of one: what they say is left in
the queue, which a single `audit.record` does not do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.state import ProjectState

from mestore.lib import sql

Class = Literal["plain", "personal", "secret", "ignored"]

_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"
_WATCH = "SELECT public.audit_watch(%s::regclass, %s::jsonb)"
_UNWATCH = "SELECT public.audit_unwatch(%s::regclass)"
# A trigger's arguments end with a zero byte each.
_WATCHED = """
SELECT c.relname, convert_from(substring(t.tgargs FROM 1 FOR length(t.tgargs) - 1), 'UTF8')::jsonb,
       array_agg(t.tgname::text) OVER watched, bool_and(t.tgenabled = 'A') OVER watched
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgfoid = 'public.audit_capture()'::regprocedure
WINDOW watched AS (PARTITION BY c.oid) ORDER BY c.relname
"""
TRIGGERS = frozenset(f"audit_capture_{operation}" for operation in ("insert", "update", "delete", "truncate"))


class CaptureTable(Operation):
    """Put a table under watch: four ENABLE ALWAYS triggers.

    CREATE TRIGGER keeps writers of the table out for a moment: each table has a transaction of its own (set
    `atomic = False` on the migration), and one that does not get its lock within five seconds gives up.
    A later declaration of the same table replaces this one; it names this one as `instead_of`, to go back to.
    """

    atomic = True
    reversible = True
    category = OperationCategory.SQL

    def __init__(  # one keyword per class of column
        self,
        table: str,
        *,
        key: str | Sequence[str] = "id",
        subject: str | None = None,
        plain: Iterable[str] = (),
        personal: Iterable[str] = (),
        secret: Iterable[str] = (),
        ignored: Iterable[str] = (),
        told: tuple[str, str] | None = None,
        instead_of: CaptureTable | None = None,
    ) -> None:
        """`key`: the columns that name a row; `subject`: the column that says whose the personal values are.

        `told`: code and type of target of the event that tells of a new row. Raise ValueError for a column
        that is declared twice, for a key that people may not see, and for a told table with a key of several
        columns or with personal values, which that event could not keep.
        """
        self.table = table
        self.told = told
        self.instead_of = instead_of
        self.declaration = _declaration(
            table, [key] if isinstance(key, str) else list(key), subject,
            {"plain": plain, "personal": personal, "secret": secret, "ignored": ignored}, told,
        )  # fmt: skip

    def state_forwards(self, _app_label: str, _state: ProjectState) -> None:
        """Django's models stay as they are."""

    def database_forwards(self, _app_label: str, schema_editor: Any, *_states: ProjectState) -> None:
        _watch(schema_editor, self)

    def database_backwards(self, _app_label: str, schema_editor: Any, *_states: ProjectState) -> None:
        if self.instead_of is not None:
            _watch(schema_editor, self.instead_of)
            return
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(_LOCK_TIMEOUT)
            cursor.execute(_UNWATCH, [f"public.{self.table}"])

    def describe(self) -> str:
        """Return what `migrate` says."""
        return f"Capture changes of {self.table}"


@dataclass(frozen=True, slots=True)
class Watched:
    """A table as the database watches it."""

    table: str
    key: tuple[str, ...]
    subject: str | None
    columns: Mapping[str, Class]
    told: Mapping[str, str] | None
    # All four triggers are there, and no setting silences them.
    is_whole: bool


def watched(using: str = "default") -> dict[str, Watched]:
    """Return every table under watch by its name, as the database has it now."""
    found = {}
    for table, declared, triggers, always in sql.fetch_all(_WATCHED, using=using):
        said = json.loads(declared) if isinstance(declared, str) else declared
        found[table] = Watched(
            table, tuple(said["key"]), said.get("subject"), said["columns"], said.get("told"),
            is_whole=always and set(triggers) >= TRIGGERS,
        )  # fmt: skip
    return found


def moment(at: datetime) -> str:
    """Return a moment as the database writes it in JSON: in UTC, without zeros at the end of a fraction.

    For the events that tell of rows of tables that are declared `told`.
    """
    whole, _point, rest = at.astimezone(UTC).isoformat().partition(".")
    return f"{whole}.{rest[:6].rstrip('0')}{rest[6:]}" if rest else whole


def _watch(schema_editor: Any, operation: CaptureTable) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(_LOCK_TIMEOUT)
        cursor.execute(_WATCH, [f"public.{operation.table}", json.dumps(operation.declaration)])


def _declaration(
    table: str,
    key: list[str],
    subject: str | None,
    classes: Mapping[str, Iterable[str]],
    told: tuple[str, str] | None,
) -> dict[str, Any]:
    columns: dict[str, str] = {}
    for name, members in classes.items():
        for column in members:
            if column in columns:
                raise ValueError(f"column {column} of {table} is declared twice")
            columns[column] = name
    if any(columns.get(column) != "plain" for column in key):
        raise ValueError(f"the key of {table} is part of every event: declare it plain")
    declared: dict[str, Any] = {"key": key, "subject": subject, "columns": columns}
    if told is not None:
        if len(key) != 1 or "personal" in columns.values():
            raise ValueError(f"an event cannot tell of a new row of {table}")
        hidden = sorted(name for name, kind in columns.items() if kind != "plain")
        # As PostgreSQL writes an array: names of columns need no quotes.
        event, target = told
        declared["told"] = {"event": event, "target": target, "hidden": f"{{{','.join(hidden)}}}"}
    return declared
