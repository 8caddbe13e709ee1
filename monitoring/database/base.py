"""The engine `monitoring.database`: the stock backend, measured at the two ends of a checkout."""

from __future__ import annotations

import threading
import time
from typing import Any

from django.db.backends.postgresql import base
from django.db.backends.utils import debug_transaction
from psycopg.pq import Format, TransactionStatus

from monitoring import context, receipts
from monitoring.database import liveness, prepared, statistics
from monitoring.database.acting import ActingCursor, ReceiptingCursor, commit
from monitoring.database.exhaustion import is_pool_exhausted

# Members of an enumeration are looked up by a function of Python's at each use.
_IDLE, _INTRANS = TransactionStatus.IDLE, TransactionStatus.INTRANS
# The aliases whose transactions change rows that are captured; what `audit` writes says itself who acts.
CAPTURED = frozenset({"default", "owner"})
# The one whose captured rows the service answers for; what the owner of the tables does names its role.
RECEIPTED = "default"


class DatabaseWrapper(base.DatabaseWrapper):
    """One thread's handle on a database.

    psycopg's own `usage_ms` never moves under Django (connections do not come back through its context
    manager), so the time between taking and giving back is measured here.
    """

    _taken_at: float | None = None

    def get_connection_params(self) -> dict[str, Any]:
        """Return how to connect, with the cursor that says who acts."""
        params = super().get_connection_params()
        if self.alias in CAPTURED:
            params["cursor_factory"] = ReceiptingCursor if self.alias == RECEIPTED else ActingCursor
        return params

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Take a connection from the pool, or open one, and note how long that took."""
        started = time.perf_counter()
        try:
            connection = self._live_connection(conn_params)
        except Exception as error:
            if is_pool_exhausted(error):
                statistics.EXHAUSTED.labels(alias=self.alias).inc()
            raise
        self._taken_at = time.perf_counter()
        statistics.WAIT.labels(alias=self.alias).observe(self._taken_at - started)
        return connection

    def _live_connection(self, conn_params: dict[str, Any]) -> Any:
        """Take connections until one is alive; a dead one is given back closed, and the pool replaces it.

        After the server restarted all idle ones are dead: they are passed over at once. psycopg's own check
        asks the server each time, and waits longer and longer between dead ones.
        """
        pool: Any = self.pool
        connection = super().get_new_connection(conn_params)
        for _ in range(pool.max_size if pool else 0):
            if liveness.is_alive(connection):
                break
            connection.close()
            pool.putconn(connection)
            connection = super().get_new_connection(conn_params)
        return connection

    def _configure_connection(self, connection: Any) -> bool:
        # Runs once for each connection to the server: from the pool when it opens one, else from Django.
        statistics.OPENED.labels(alias=self.alias).inc()
        prepared.install(connection)
        return bool(super()._configure_connection(connection))  # type: ignore[misc]  # not in the stubs

    def _set_autocommit(self, autocommit: bool) -> None:
        # Django turns autocommit off where a transaction begins, and psycopg would send its BEGIN with the
        # first statement: it is sent here, with who acts in the same message.
        connection: Any = self.connection
        if connection.pgconn.transaction_status == _IDLE and connection._pipeline is None:
            connection._autocommit = autocommit  # what psycopg's setter comes to after asking the same
        else:
            super()._set_autocommit(autocommit)  # type: ignore[misc]  # not in the stubs
        if not autocommit and self.alias in CAPTURED:
            with self.wrap_database_errors:
                context.begin(self.connection)

    def _commit(self) -> None:
        # What triggers wrote in this transaction is asked for in the message that commits it: who takes it
        # away a moment later cannot take the receipt.
        connection = self.connection
        if (
            self.alias != RECEIPTED
            or connection is None
            or not receipts.are_wanted()
            or connection.pgconn.transaction_status != _INTRANS
        ):
            super()._commit()  # type: ignore[misc]  # not in the stubs
            return
        with debug_transaction(self, "COMMIT"), self.wrap_database_errors:
            found = commit(connection)
        receipts.emit([*self._promised(), *found])

    def _promised(self) -> list[str]:
        # What the service itself wrote in the transaction goes into the same line, before any other work that
        # waits for the commit.
        hooks: list[Any] = self.run_on_commit
        self.run_on_commit = [hook for hook in hooks if not isinstance(hook[1], receipts.Promise)]
        return [
            leaf for _sids, hook, *_ in hooks if isinstance(hook, receipts.Promise) for leaf in hook.leaves
        ]

    def run_prepared(self, query: str, params: Any, *, binary: bool) -> tuple[list[Any] | None, int]:
        """Run a statement that the server prepares; return its rows, None for none by nature, and how many.

        Counted, logged and checked like any other; `binary` is how its rows travel.
        """
        if self.connection is None:
            self.ensure_connection()
        cursor = prepared.PreparedCursor(self.connection, Format.BINARY if binary else Format.TEXT)
        if self.execute_wrappers or self.queries_logged:
            with self._prepare_cursor(cursor) as watched:  # type: ignore[attr-defined]  # not in the stubs
                watched.execute(query, params)
        else:
            # Nobody watches: these are the checks of Django's cursor, whose layers cost more than they are.
            if self._thread_ident != threading.get_ident():  # type: ignore[attr-defined]  # not in the stubs
                self.validate_thread_sharing()
            self.validate_no_broken_transaction()
            with self.wrap_database_errors:
                cursor.execute(query, params)
        return cursor.rows, cursor.rowcount

    def _close(self) -> None:
        if self.connection is not None and self._taken_at is not None:
            statistics.CHECKOUT.labels(alias=self.alias).observe(time.perf_counter() - self._taken_at)
            self._taken_at = None
        super()._close()  # type: ignore[misc]  # not in the stubs
