"""Statements that the server plans once per connection, not at each call.

Django binds parameters on the client, so that PostgreSQL parses and plans every statement anew; for a join of
four tables that costs several times what running it does. A cursor of this module binds on the server and
prepares (protocol-level, as PgBouncer 1.21 and later follow it in transaction mode).

What psycopg makes of a text (its form for the server, how values of its parameters are written and its rows
read) is kept for each connection beside the server's plan: to make it anew at each call, in a cursor of its
own, costs five times as much as to send the statement.

Two things can make a prepared statement unusable: a migration that changed a column's type ("cached plan must
not change result type"), and a pooler that hands the session to a connection that never saw the statement.
Outside of a transaction it is then run once more, unprepared. Inside, nothing can be repeated: the caller
gets an OperationalError, and the rollback makes psycopg forget what was prepared.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from psycopg import Cursor, OperationalError, errors, generators
from psycopg._preparing import Prepare, PrepareManager
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, Format, TransactionStatus

Row = tuple[Any, ...]
Kept = tuple[Any, PostgresQuery]  # psycopg's Transformer, which it gives no type, and the statement

# Members of an enumeration are looked up by a function of Python's at each use.
_IDLE: Final = TransactionStatus.IDLE
_TUPLES_OK: Final = ExecStatus.TUPLES_OK
_FATAL_ERROR: Final = ExecStatus.FATAL_ERROR

_UNUSABLE: Final = (
    errors.FeatureNotSupported,  # the plan's columns changed
    errors.InvalidSqlStatementName,  # prepared elsewhere
    errors.DuplicatePreparedStatement,  # prepared here by somebody else
)


class NamedStatements(PrepareManager):
    """What one connection has prepared: each statement is named after its text, no other is remembered.

    psycopg numbers its statements. Behind a pooler that does not follow them, number 3 of one client may meet
    number 3 of another and run it; a name made from the text can only be the same statement, or none.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[tuple[str, bool], Kept] = {}

    def maybe_add_to_cache(self, query: Any, prep: Prepare, name: bytes) -> Any:  # noqa: ARG002 - psycopg's
        """Keep nothing of what psycopg's own cursors send: counting it would only be work."""
        return None

    def kept(self, connection: Any, query: str, params: Any) -> Kept:
        """Return what psycopg makes of a statement, with these parameters in it."""
        key = (query, params is None)  # without parameters a percent sign is written once
        found = self._kept.get(key)
        if found is None:
            transformer = Transformer(connection)
            found = transformer, PostgresQuery(transformer)
            found[1].convert(query, params)
            if len(self._kept) >= self.prepared_max:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = found
        else:
            found[1].dump(params)
        return found

    def name_of(self, query: PostgresQuery) -> bytes | None:
        """Return under which name the server has a statement for parameters of these types."""
        key = self.key(query)
        name = self._names.get(key)
        if name is not None:
            self._names.move_to_end(key)
        return name

    def add(self, query: PostgresQuery, name: bytes) -> None:
        """Remember what the server has prepared, also where running it fails afterwards."""
        self._names[self.key(query)] = name
        self._rotate()

    def forget(self) -> None:
        """Forget what the server has forgotten."""
        self._names.clear()
        self._to_flush.clear()

    def maintain(self, connection: Any) -> None:
        """Tell the server which statements are not used any more, if there are any."""
        if self._to_flush:
            connection.wait(self.maintain_gen(connection))


class PreparedCursor:
    """What runs prepared statements on a psycopg connection; Django's wrappers take it for a cursor.

    After `execute` it has read the `rows`, None where the statement returns none by nature.
    """

    def __init__(self, connection: Any, result_format: Format = Format.TEXT) -> None:
        self._connection = connection
        self._format = result_format
        self._query: Any = None  # which Django reads for its log of statements
        self.rows: list[Row] | None = None
        self.rowcount = -1

    def execute(self, query: str, params: Any = None) -> None:
        """Run `query`. Raises OperationalError where a stale plan cannot be replaced."""
        connection = self._connection
        if connection.prepare_threshold is None:
            self._run_unprepared(query, params)
            return
        try:
            with connection.lock:
                self._run(query, params)
        except _UNUSABLE as error:
            if connection.info.transaction_status != _IDLE:
                raise OperationalError("a prepared statement is out of date; try again") from error
            connection.execute("DEALLOCATE ALL")
            connection._prepared.forget()
            self._run_unprepared(query, params)

    def close(self) -> None:
        """Nothing is held."""

    def _run(self, query: str, params: Any) -> None:
        connection, register = self._connection, self._connection._prepared
        pgconn = connection.pgconn
        transformer, statement = register.kept(connection, query, params)
        self._query = statement
        if not connection.autocommit and pgconn.transaction_status == _IDLE:
            connection.wait(connection._start_query())
        name = register.name_of(statement)
        if name is None:
            name = _name(statement)
            pgconn.send_prepare(name, statement.query, param_types=statement.types)
            self._only_result()
            register.add(statement, name)
        pgconn.send_query_prepared(
            name, statement.params, param_formats=statement.formats, result_format=self._format
        )
        statement.params = None  # what is kept for long holds no values
        result = self._only_result()
        if result.status == _TUPLES_OK:
            transformer.set_pgresult(result)
            self.rows, self.rowcount = transformer.load_rows(0, result.ntuples, tuple), result.ntuples
            transformer.set_pgresult(None)  # nor rows
        else:
            touched = result.command_tuples
            self.rows, self.rowcount = None, -1 if touched is None else touched
        register.maintain(connection)

    def _only_result(self) -> Any:
        pgconn = self._connection.pgconn
        return only_good(self._connection.wait(generators.execute(pgconn)), pgconn)[0]

    def _run_unprepared(self, query: str, params: Any) -> None:
        with Cursor(self._connection) as cursor:
            cursor.format = self._format
            cursor.execute(query, params, prepare=False)
            self._query = cursor._query
            self.rows, self.rowcount = cursor.fetchall() if cursor.description else None, cursor.rowcount


def only_good(results: list[Any], pgconn: Any) -> list[Any]:
    """Return the results of one message. Raises psycopg's error for what the server refused."""
    if not results:
        raise errors.InternalError("got no result from the query")
    for result in results:
        if result.status == _FATAL_ERROR:
            raise errors.error_from_result(result, encoding=pgconn._encoding)
    return results


def _name(statement: PostgresQuery) -> bytes:
    text = statement.query + b"\x00" + repr(statement.types).encode()
    return b"mestore_" + hashlib.sha256(text).hexdigest()[:40].encode()


def install(connection: Any) -> None:
    """Give a new connection to the server its register of prepared statements."""
    register = NamedStatements()
    register.prepare_threshold = connection.prepare_threshold
    register.prepared_max = PrepareManager.prepared_max
    connection._prepared = register
