"""The one place that composes SQL, and the short way to run it on one of Django's connections.

A query is a constant. What varies goes into parameters (``%s``); names of tables, columns and functions go
through `compose`, which quotes them with psycopg's own `sql.Identifier`. Nothing else in the code base builds
SQL from text.

`prepare=True` is for the few statements that nearly every request sends: the server keeps their plan for as
long as the connection lives. Their parameters are bound by the server, so each needs a type that PostgreSQL
can tell from where it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, LiteralString

from django.db import connections, transaction
from psycopg import sql

Query = LiteralString | sql.Composable
Params = Sequence[Any] | Mapping[str, Any] | None
Row = tuple[Any, ...]


def compose(template: LiteralString, **names: str | Sequence[str]) -> sql.Composed:
    """A query with its ``{placeholders}`` filled by quoted identifiers.

    A name may be a sequence for a qualified one: ``compose("SELECT 1 FROM {t}", t=("public", "order"))``.
    """
    identifiers = {
        key: sql.Identifier(name) if isinstance(name, str) else sql.Identifier(*name)
        for key, name in names.items()
    }
    return sql.SQL(template).format(**identifiers)


def fetch_all(
    query: Query, params: Params = None, using: str = "default", *, prepare: bool = False
) -> list[Row]:
    """All rows, as tuples."""
    with _cursor(using, prepare) as cursor:
        cursor.execute(_text(query, using), params)
        rows: list[Row] = cursor.fetchall()
        return rows


def fetch_one(
    query: Query, params: Params = None, using: str = "default", *, prepare: bool = False
) -> Row | None:
    """The first row, or None when there is none."""
    with _cursor(using, prepare) as cursor:
        cursor.execute(_text(query, using), params)
        row: Row | None = cursor.fetchone()
        return row


def execute(query: Query, params: Params = None, using: str = "default", *, prepare: bool = False) -> int:
    """Run a statement; how many rows it touched (-1 when it touches none by nature)."""
    with _cursor(using, prepare) as cursor:
        cursor.execute(_text(query, using), params)
        return int(cursor.rowcount)


def stream(
    query: Query, params: Params = None, using: str = "default", *, batch_rows: int = 2000
) -> Iterator[list[Row]]:
    """Rows in batches from a server-side cursor: memory does not grow with the table.

    Must run inside a transaction, in which the cursor lives; raises TransactionManagementError otherwise.
    """
    connection = connections[using]
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("stream() needs a transaction for its cursor to live in")
    with connection.chunked_cursor() as cursor:
        cursor.execute(_text(query, using), params)
        while rows := cursor.fetchmany(batch_rows):
            yield rows


def _cursor(using: str, prepare: bool) -> Any:
    connection: Any = connections[using]
    return connection.prepared_cursor() if prepare else connection.cursor()


def _text(query: Query, using: str) -> str:
    # Django's cursor wrappers (timing, logging, metrics) expect text.
    if isinstance(query, str):
        return query
    connection = connections[using]
    connection.ensure_connection()
    return query.as_string(connection.connection)
