"""Statements that the server plans once per connection, not at each call.

Django binds parameters on the client, so that PostgreSQL parses and plans every statement anew; for a join of
four tables that costs several times what running it does. A cursor of this module binds on the server and
prepares (protocol-level, as PgBouncer 1.21 and later follow it in transaction mode).

Two things can make a prepared statement unusable: a migration that changed a column's type ("cached plan must
not change result type"), and a pooler that hands the session to a connection that never saw the statement.
Outside of a transaction it is then run once more, unprepared. Inside, nothing can be repeated: the caller
gets an OperationalError, and the rollback makes psycopg forget what was prepared.
"""

from __future__ import annotations

import hashlib
from typing import Any, Self

from psycopg import Cursor, OperationalError, errors
from psycopg._preparing import Prepare, PrepareManager
from psycopg.pq import TransactionStatus

_UNUSABLE = (
    errors.FeatureNotSupported,  # the plan's columns changed
    errors.InvalidSqlStatementName,  # prepared elsewhere
    errors.DuplicatePreparedStatement,  # prepared here by somebody else
)


class NamedStatements(PrepareManager):
    """Names a prepared statement after its text, and remembers nothing about statements that are not.

    psycopg numbers its statements. Behind a pooler that does not follow them, number 3 of one client may meet
    number 3 of another and run it; a name made from the text can only be the same statement, or none.
    """

    def get(self, query: Any, prepare: bool | None = None) -> tuple[Prepare, bytes]:
        """Return whether to prepare `query`, and under which name."""
        action, name = super().get(query, prepare)
        if action is Prepare.SHOULD:
            text = query.query + b"\x00" + repr(query.types).encode()
            name = b"mestore_" + hashlib.sha256(text).hexdigest()[:40].encode()
        return action, name

    def maybe_add_to_cache(self, query: Any, prep: Prepare, name: bytes) -> Any:
        """Keep what was prepared; counting the others would only be work."""
        return None if prep is Prepare.NO else super().maybe_add_to_cache(query, prep, name)

    def validate(self, key: Any, prep: Prepare, name: bytes, results: Any) -> None:  # noqa: ARG002 - psycopg's
        """Remember what was prepared though its first execution failed: the server does, under that name."""
        if not self._should_discard(prep, results):
            self._rotate()


class PreparedCursor(Cursor[Any]):
    """A cursor whose statements are prepared on first use of the connection."""

    def execute(self, query: Any, params: Any = None, **_: Any) -> Self:
        """Run `query`. Raises OperationalError where a stale plan cannot be replaced."""
        try:
            return super().execute(query, params, prepare=True)
        except _UNUSABLE as error:
            connection = self.connection
            if connection.info.transaction_status != TransactionStatus.IDLE:
                raise OperationalError("a prepared statement is out of date; try again") from error
            connection.execute("DEALLOCATE ALL")  # which psycopg takes as a sign to forget its own list
            return super().execute(query, params, prepare=False)

    def _send_query_prepared(self, name: bytes, query: Any, *, binary: bool | None = None) -> None:
        self._query = query  # which Django reads for its log of statements
        super()._send_query_prepared(name, query, binary=binary)


def install(connection: Any) -> None:
    """Give a new connection to the server its register of prepared statements."""
    register = NamedStatements()
    register.prepare_threshold = connection.prepare_threshold
    register.prepared_max = PrepareManager.prepared_max
    connection._prepared = register
