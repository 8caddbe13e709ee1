"""A single statement that writes outside of a transaction: it too says who acts.

There is no BEGIN that the context could ride on, so it goes in front of the statement, in the same message:
the server runs both in one transaction of their own, and the setting ends with it. Behind it, in the same
message too, the service asks what triggers wrote for it, for a receipt.
"""

from __future__ import annotations

import re
from typing import Any

from django.db.backends.postgresql.base import Cursor
from psycopg import generators, sql

from monitoring import context, receipts
from monitoring.database import prepared

# Tells of the transaction that it is sent in what the database itself wrote to the trail.
CAPTURED = "SELECT public.audit_captured()"
_COMMIT = f"{CAPTURED}; COMMIT".encode()
_WRITES = re.compile(r"\s*(?:INSERT|UPDATE|DELETE|MERGE|TRUNCATE|WITH)\b", re.IGNORECASE)


def captured(cursor: Any) -> list[str]:
    """Return what triggers wrote in the transaction, as receipts name it, from the answer to `CAPTURED`."""
    ((found,),) = cursor.fetchall()
    return found.split(",") if found else []


def commit(connection: Any) -> list[str]:
    """Commit the transaction of a psycopg connection and return what triggers wrote in it.

    One message for both; sent without a cursor, which would cost more than the message.
    """
    pgconn = connection.pgconn
    with connection.lock:
        pgconn.send_query(_COMMIT)
        results = prepared.only_good(connection.wait(generators.execute(pgconn)), pgconn)
    found: bytes | None = results[0].get_value(0, 0)
    return found.decode().split(",") if found else []


class ActingCursor(Cursor):
    """Django's cursor, which binds parameters on the client and may send two statements at once."""

    leaves_receipts = False

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Run `query`; what it returns is its own, as if nothing had been sent in front of it."""
        stock: Any = super()  # psycopg's methods are not in the stubs of Django's cursor
        if not stock.connection.autocommit or not isinstance(query, str) or not _WRITES.match(query):
            return stock.execute(query, params, **options)
        told = context.setting(within_parameters=params is not None)
        if not (self.leaves_receipts and receipts.are_wanted()):
            stock.execute(sql.SQL("{}; {}").format(told, sql.SQL(query)), params, **options)
            stock.nextset()
            return self
        # On a line of its own: the statement may end with a remark.
        stock.execute(
            sql.SQL("{}; {}\n; {}").format(told, sql.SQL(query), sql.SQL(CAPTURED)), params, **options
        )
        found = captured(stock.set_result(-1))
        stock.set_result(1)
        receipts.emit(found)
        return self


class ReceiptingCursor(ActingCursor):
    """An acting cursor that also leaves the receipt of what triggers wrote for such a statement."""

    leaves_receipts = True
