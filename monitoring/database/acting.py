"""A single statement that writes outside of a transaction: it too says who acts.

There is no BEGIN that the context could ride on, so it goes in front of the statement, in the same message:
the server runs both in one transaction of their own, and the setting ends with it.
"""

from __future__ import annotations

import re
from typing import Any

from django.db.backends.postgresql.base import Cursor
from psycopg import sql

from monitoring import context

_WRITES = re.compile(r"\s*(?:INSERT|UPDATE|DELETE|MERGE|TRUNCATE|WITH)\b", re.IGNORECASE)


class ActingCursor(Cursor):
    """Django's cursor, which binds parameters on the client and may send two statements at once."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Run `query`; what it returns is its own, as if nothing had been sent in front of it."""
        stock: Any = super()  # psycopg's methods are not in the stubs of Django's cursor
        if not stock.connection.autocommit or not isinstance(query, str) or not _WRITES.match(query):
            return stock.execute(query, params, **options)
        told = context.setting(within_parameters=params is not None)
        stock.execute(sql.SQL("{}; {}").format(told, sql.SQL(query)), params, **options)
        stock.nextset()
        return self
