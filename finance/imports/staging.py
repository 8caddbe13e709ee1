"""The files' good lines in temporary tables: what is known about them as a whole is asked by SQL.

Python never holds more than a chunk of lines, so memory does not grow with the files; PostgreSQL sorts and
joins on disk when it must. The tables live on a connection of their own, which ends with the import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import psycopg
from django.db import connections

from .files import Kind, SourceFile, fields, lines
from .reasons import LineRefused
from .rows import Validator, Value

CHUNK_LINES = 5_000
LOCK_PATIENCE = "5s"

# Session-wide numbers: one import at a time, and one batch being written at a time. The second is held by the
# writing connection: after a kill, an orphaned batch may still be on its way to its commit.
RUN_LOCK = 7_203_114_001
BATCH_LOCK = 7_203_114_002

_SETTINGS = (
    "SET timezone = 'UTC'",
    "SET datestyle = 'ISO, YMD'",
    "SET work_mem = '32MB'",
    "SET maintenance_work_mem = '64MB'",
    "SET jit = off",
    # A killed import must not go on in the server: its locks would refuse the next one.
    "SET client_connection_check_interval = '1s'",
)

_TABLES = (
    "CREATE TEMP TABLE import_reject (file text, line bigint, reason text, detail text)",
    """CREATE TEMP TABLE import_order (line bigint, order_id text COLLATE "C", customer_id text COLLATE "C",
         status text COLLATE "C", purchased_at timestamptz, approved_at timestamptz, carrier_at timestamptz,
         delivered_at timestamptz)""",
    """CREATE TEMP TABLE import_item (line bigint, order_id text COLLATE "C", number int, product_id text,
         seller_id text COLLATE "C", price_minor bigint, freight_minor bigint)""",
    """CREATE TEMP TABLE import_payment (line bigint, order_id text COLLATE "C", sequence int, method text,
         installments int, amount_minor bigint)""",
    """CREATE TEMP TABLE import_seller (line bigint, seller_id text COLLATE "C", postal_code text, city text,
         state text)""",
)

_COPY: dict[Kind, str] = {
    "orders": "COPY import_order FROM STDIN",
    "items": "COPY import_item FROM STDIN",
    "payments": "COPY import_payment FROM STDIN",
    "sellers": "COPY import_seller FROM STDIN",
}

_UNIQUE_SELLERS = """
    WITH ranked AS (SELECT line, first_value(line) OVER (PARTITION BY seller_id ORDER BY line) AS first
                    FROM import_seller),
         gone AS (DELETE FROM import_seller s USING ranked r WHERE s.line = r.line AND r.line <> r.first
                  RETURNING s.line, r.first)
    INSERT INTO import_reject SELECT 'sellers', line, 'duplicate', first::text FROM gone"""
_UNIQUE_ORDERS = """
    WITH ranked AS (SELECT line, first_value(line) OVER (PARTITION BY order_id ORDER BY line) AS first
                    FROM import_order),
         gone AS (DELETE FROM import_order o USING ranked r WHERE o.line = r.line AND r.line <> r.first
                  RETURNING o.line, r.first)
    INSERT INTO import_reject SELECT 'orders', line, 'duplicate', first::text FROM gone"""
_ITEMS_OF_KNOWN_ORDERS = """
    WITH gone AS (DELETE FROM import_item i
                  WHERE NOT EXISTS (SELECT FROM import_order o WHERE o.order_id = i.order_id)
                  RETURNING line, order_id)
    INSERT INTO import_reject SELECT 'items', line, 'unknown_order', order_id FROM gone"""
_ITEMS_OF_KNOWN_SELLERS = """
    WITH gone AS (DELETE FROM import_item i
                  WHERE NOT EXISTS (SELECT FROM import_seller s WHERE s.seller_id = i.seller_id)
                  RETURNING line, seller_id)
    INSERT INTO import_reject SELECT 'items', line, 'unknown_seller', seller_id FROM gone"""
_UNIQUE_ITEMS = """
    WITH ranked AS (SELECT line, first_value(line) OVER (PARTITION BY order_id, number ORDER BY line) AS first
                    FROM import_item),
         gone AS (DELETE FROM import_item i USING ranked r WHERE i.line = r.line AND r.line <> r.first
                  RETURNING i.line, r.first)
    INSERT INTO import_reject SELECT 'items', line, 'duplicate', first::text FROM gone"""
_PAYMENTS_OF_KNOWN_ORDERS = """
    WITH gone AS (DELETE FROM import_payment p
                  WHERE NOT EXISTS (SELECT FROM import_order o WHERE o.order_id = p.order_id)
                  RETURNING line, order_id)
    INSERT INTO import_reject SELECT 'payments', line, 'unknown_order', order_id FROM gone"""
_UNIQUE_PAYMENTS = """
    WITH ranked AS (SELECT line, first_value(line) OVER (PARTITION BY order_id, sequence ORDER BY line)
                           AS first FROM import_payment),
         gone AS (DELETE FROM import_payment p USING ranked r WHERE p.line = r.line AND r.line <> r.first
                  RETURNING p.line, r.first)
    INSERT INTO import_reject SELECT 'payments', line, 'duplicate', first::text FROM gone"""

_CHECKS = (
    _UNIQUE_SELLERS,
    _UNIQUE_ORDERS,
    "ANALYZE import_order",
    "ANALYZE import_seller",
    _ITEMS_OF_KNOWN_ORDERS,
    _ITEMS_OF_KNOWN_SELLERS,
    _UNIQUE_ITEMS,
    _PAYMENTS_OF_KNOWN_ORDERS,
    _UNIQUE_PAYMENTS,
    "ANALYZE import_item",
    "ANALYZE import_payment",
)

# What the files say about one order, as one digest: PostgreSQL writes a row as quoted, unambiguous text.
_CONTENTS = """
    CREATE TEMP TABLE import_content AS
    SELECT o.line, o.order_id, coalesce(i.items, 0) AS items, coalesce(i.total_minor, 0) AS items_minor,
           coalesce(p.total_minor, 0) AS paid_minor,
           sha256(convert_to(concat(
               ROW('v1', %s::text, o.customer_id, o.status, o.purchased_at, o.approved_at, o.carrier_at,
                   o.delivered_at)::text, i.text, p.text), 'UTF8')) AS digest
    FROM import_order o
    LEFT JOIN (SELECT order_id, count(*) AS items, sum(price_minor + freight_minor)::bigint AS total_minor,
                      string_agg(ROW('i', number, product_id, seller_id, price_minor, freight_minor)::text, ''
                                 ORDER BY number) AS text
               FROM import_item GROUP BY order_id) i USING (order_id)
    LEFT JOIN (SELECT order_id, sum(amount_minor)::bigint AS total_minor,
                      string_agg(ROW('p', sequence, method, installments, amount_minor)::text, ''
                                 ORDER BY sequence) AS text
               FROM import_payment GROUP BY order_id) p USING (order_id)"""
_NEW_ORDERS = """
    CREATE TEMP TABLE import_new AS
    SELECT row_number() OVER (ORDER BY o.line) AS seq, o.*, c.digest
    FROM import_order o JOIN import_content c USING (line)
    LEFT JOIN finance_order f ON f.source = %s AND f.external_reference = o.order_id
    WHERE f.id IS NULL"""
_OTHER_CONTENTS = """
    INSERT INTO import_reject
    SELECT 'orders', c.line, 'already_imported_with_other_contents', c.order_id
    FROM import_content c JOIN finance_order f ON f.source = %s AND f.external_reference = c.order_id
    WHERE f.source_digest IS DISTINCT FROM c.digest"""
_NEW_LINES = (
    "CREATE INDEX ON import_new (seq)",
    "CREATE INDEX ON import_new (order_id)",
    "ANALYZE import_new",
    """CREATE TEMP TABLE import_new_item AS
         SELECT n.seq, i.* FROM import_item i JOIN import_new n USING (order_id)""",
    "CREATE INDEX ON import_new_item (seq)",
    """CREATE TEMP TABLE import_new_payment AS
         SELECT n.seq, p.* FROM import_payment p JOIN import_new n USING (order_id)""",
    "CREATE INDEX ON import_new_payment (seq)",
    "ANALYZE import_new_item",
    "ANALYZE import_new_payment",
)


class Busy(Exception):
    """Another import is running on this database."""


class Staging:
    """The temporary tables of one import; a context manager that takes the import lock and ends with it.

    Entering raises Busy when another import holds the lock for longer than a few seconds.
    """

    def __init__(self) -> None:
        # Outside the pool: the connection's temporary tables and locks must end with it.
        parameters = connections["default"].get_connection_params()
        self.connection: psycopg.Connection[tuple[Any, ...]] = psycopg.connect(**parameters, autocommit=True)

    def __enter__(self) -> Self:
        try:
            for statement in _SETTINGS:
                self.connection.execute(statement)
            self._lock()
            for statement in _TABLES:
                self.connection.execute(statement)
        except BaseException:
            self.connection.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.connection.close()

    def take(self, source: SourceFile, check: Validator, advance: Callable[[int], None]) -> None:
        """Read one file into its table, refused lines into import_reject; `advance` gets the bytes read."""
        good: list[tuple[Value, ...]] = []
        refused: list[tuple[str, int, str, str]] = []
        read = 0
        for number, raw in lines(source):
            read += len(raw) + 1
            try:
                good.append((number, *check(fields(source, raw))))
            except LineRefused as error:
                refused.append((source.kind, number, error.reason.value, error.detail))
            if len(good) + len(refused) >= CHUNK_LINES:
                self._copy(_COPY[source.kind], good)
                self.refuse(refused)
                advance(read)
                good, refused, read = [], [], 0
        self._copy(_COPY[source.kind], good)
        self.refuse(refused)
        advance(read)

    def refuse(self, rows: Sequence[tuple[str, int, str, str]]) -> None:
        """Note refused lines: (file, line, reason, detail)."""
        self._copy("COPY import_reject FROM STDIN", rows)

    def check(self) -> None:
        """Refuse, among the good lines, duplicates and lines of unknown orders or sellers."""
        for statement in _CHECKS:
            self.connection.execute(statement)

    def compare(self, *, source: str, currency: str) -> None:
        """Tell apart new orders, orders already stored with the same contents, and those that differ."""
        self.connection.execute(_CONTENTS, [currency])
        self.connection.execute("ANALYZE import_content")
        self.connection.execute(_NEW_ORDERS, [source])
        self.connection.execute(_OTHER_CONTENTS, [source])
        for statement in _NEW_LINES:
            self.connection.execute(statement)

    def present_and_new(self) -> tuple[int, int]:
        """How many of the files' orders were stored before, and how many are new."""
        known, new = self.one(
            "SELECT (SELECT count(*) FROM import_content), (SELECT count(*) FROM import_new)"
        )
        return int(known) - int(new), int(new)

    def one(self, query: Any, parameters: Sequence[object] = ()) -> tuple[Any, ...]:
        """The single row of a query on this connection."""
        (row,) = self.all(query, parameters)
        return row

    def all(self, query: Any, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query on this connection; for queries whose answer is bounded."""
        return self.connection.execute(query, parameters).fetchall()

    def stream(
        self, query: Any, parameters: Sequence[object] = (), *, size: int
    ) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a query in lists of `size`, through a server-side cursor."""
        with self.connection.transaction(), self.connection.cursor(name="import_stream") as cursor:
            cursor.execute(query, parameters)
            while rows := cursor.fetchmany(size):
                yield rows

    def wait_for_orphaned_batch(self) -> None:
        """Wait until a batch of a killed import has been committed or given up by the server."""
        self.connection.execute("SELECT pg_advisory_lock(%s)", [BATCH_LOCK])
        self.connection.execute("SELECT pg_advisory_unlock(%s)", [BATCH_LOCK])

    def _lock(self) -> None:
        self.connection.execute("SELECT set_config('lock_timeout', %s, false)", [LOCK_PATIENCE])
        try:
            self.connection.execute("SELECT pg_advisory_lock(%s)", [RUN_LOCK])
        except psycopg.errors.LockNotAvailable:
            raise Busy from None
        self.connection.execute("SELECT set_config('lock_timeout', '60s', false)")

    def _copy(self, statement: Any, rows: Sequence[Sequence[Value]]) -> None:
        if rows:
            with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)
