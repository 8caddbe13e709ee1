"""The one place that composes SQL, and the short way to run it on one of Django's connections.

A query is a constant. What varies goes into parameters (``%s``); names of tables, columns and functions go
through `compose`, which quotes them with psycopg's own `sql.Identifier`. Nothing else in the code base builds
SQL from text.

`prepare=True` is for the few statements that nearly every request sends: the server keeps their plan for as
long as the connection lives. Their parameters are bound by the server, so each needs a type that PostgreSQL
can tell from where it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, LiteralString, TypeVar

from django.db import ProgrammingError, connections, models, transaction
from psycopg import sql

Query = LiteralString | sql.Composable
Params = Sequence[Any] | Mapping[str, Any] | None
Row = tuple[Any, ...]
Model = TypeVar("Model", bound=models.Model)


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
    if prepare:
        return _rows(_run_prepared(query, params, using)[0])
    with connections[using].cursor() as cursor:
        cursor.execute(_text(query, using), params)
        rows: list[Row] = cursor.fetchall()
        return rows


def fetch_one(
    query: Query,
    params: Params = None,
    using: str = "default",
    *,
    prepare: bool = False,
    binary: bool = False,
) -> Row | None:
    """The first row, or None when there is none.

    `binary`, for large bytes: as text they are twice as long. Such a statement is prepared.
    """
    if prepare or binary:
        rows = _rows(_run_prepared(query, params, using, binary=binary)[0])
        return rows[0] if rows else None
    with connections[using].cursor() as cursor:
        cursor.execute(_text(query, using), params)
        row: Row | None = cursor.fetchone()
        return row


def execute(query: Query, params: Params = None, using: str = "default", *, prepare: bool = False) -> int:
    """Run a statement; how many rows it touched (-1 when it touches none by nature)."""
    if prepare:
        return _run_prepared(query, params, using)[1]
    with connections[using].cursor() as cursor:
        cursor.execute(_text(query, using), params)
        return int(cursor.rowcount)


def array(values: Iterable[object]) -> str:
    """Return a parameter that is an array of UUIDs, numbers or texts, for a place that names its type.

    As the text that PostgreSQL reads: it is what psycopg makes of a list, too, in Python and for each call.
    Raises ValueError for a text with a NUL, which PostgreSQL cannot hold.
    """
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: object) -> str:
    if not isinstance(value, str):
        return str(value)
    if "\x00" in value:
        raise ValueError("a text in the database has no NUL")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def get(model: type[Model], key: object, using: str = "default") -> Model | None:
    """The row with primary key `key`, or None: `objects.get` for reads that nearly every request makes.

    The statement is built once per process and planned once per connection. Raises TypeError for a model
    with a field that must be decoded first (`from_db_value`), which this does not do.
    """
    query, names = _by_key(model)
    row = fetch_one(query, (key,), using, prepare=True)
    return None if row is None else model.from_db(using, names, row)


@cache
def _by_key(model: type[models.Model]) -> tuple[str, list[str]]:
    fields = model._meta.concrete_fields
    if any(hasattr(field, "from_db_value") for field in fields):
        raise TypeError(f"{model.__name__} has fields that must be decoded: use its manager")
    columns: list[sql.Composable] = [sql.Identifier(str(field.column)) for field in fields]
    query = sql.SQL("SELECT {columns} FROM {table} WHERE {key} = %s").format(
        columns=sql.SQL(", ").join(columns),
        table=sql.Identifier(model._meta.db_table),
        key=sql.Identifier(str(model._meta.pk.column)),
    )
    return query.as_string(), [field.attname for field in fields]


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


def _run_prepared(
    query: Query, params: Params, using: str, *, binary: bool = False
) -> tuple[list[Row] | None, int]:
    """Rows, None where there are none by nature, and how many rows the statement touched."""
    connection: Any = connections[using]
    found: tuple[list[Row] | None, int] = connection.run_prepared(_text(query, using), params, binary=binary)
    return found


def _rows(rows: list[Row] | None) -> list[Row]:
    if rows is None:
        raise ProgrammingError("the statement returns no rows")
    return rows


def _text(query: Query, using: str) -> str:
    # Django's cursor wrappers (timing, logging, metrics) expect text.
    if isinstance(query, str):
        return query
    connection = connections[using]
    connection.ensure_connection()
    return query.as_string(connection.connection)
