"""What a sale of ours is compared with writes the same rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from benchmarks import pgbench, points
from finance import order_form, orders
from mestore.lib import actor
from mestore.lib.http import parse_json
from monitoring import context
from tests.factories.accounts import VendorFactory

MACHINE = actor.Actor(
    kind="machine", id="0190a0a0-0000-7000-8000-000000000001", role="SYSTEM", address="203.0.113.7"
)


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_pgbench_writes_the_rows_that_a_sale_writes(
    superuser_dsn: str, owner_dsn: str, tmp_path: Path
) -> None:
    vendor = str(VendorFactory.create().pk)
    script, vendors = pgbench.prepare(superuser_dsn, tmp_path, [vendor])
    try:
        # The storefront's first sale of a vendor opens accounts, and its first one today a partition.
        _sell(vendor, "first")
        before = _rows(superuser_dsn)
        _sell(vendor, "second")
        between = _rows(superuser_dsn)
        pgbench.once(owner_dsn, script, vendors)
        after = _rows(superuser_dsn)
    finally:
        with psycopg.connect(superuser_dsn, autocommit=True) as connection:
            connection.execute("DROP TABLE bench_vendor")

    ours, plain = between - before, after - between
    assert vendors == 1
    assert ours["ledger_transfer"] == 5
    assert ours["audit_event"] == 3  # what happened to order and commission, and the entry: nothing twice
    assert plain == ours


def _sell(vendor: str, key: str) -> None:
    request = points._sale({"vendors": [{"id": vendor}], "address": "203.0.113.7", "machine": {"token": "t"}})
    body = request(0, 0).partition(b"\r\n\r\n")[2]
    with context.acting(MACHINE):
        orders.place(order_form.read(parse_json(body)), key=key, by=MACHINE)


def _rows(dsn: str) -> Counter[str]:
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(
            "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace"
            " AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        ).fetchall()
        found: Counter[str] = Counter()
        for (table,) in tables:
            row = connection.execute(
                sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
            ).fetchone()
            found[table] = int(row[0]) if row else 0
        return found
