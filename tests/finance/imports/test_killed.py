"""An import that is killed, or that meets another one, and its memory: with real processes and signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from finance.imports.run import Files
from finance.imports.staging import RUN_LOCK
from tests.finance.imports import marketplace
from tests.harness import databases, unmeasured

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit"])

ORDERS = 900
MEMORY_ORDERS = 8_000
MEMORY_BYTES = 300 * 1024 * 1024

# What one clean run leaves, without ids, random numbers and the moments of writing.
STATE = (
    """SELECT external_reference, source, buyer_reference, currency, status, subtotal_minor, shipping_minor,
              total_minor, placed_at, confirmed_at, shipped_at, delivered_at, source_digest
       FROM finance_order ORDER BY 1""",
    """SELECT o.external_reference, i.line, i.product_id, i.vendor_id, i.unit_price_minor, i.quantity,
              i.line_total_minor, i.shipping_minor
       FROM finance_orderitem i JOIN finance_order o ON o.id = i.order_id ORDER BY 1, 2""",
    """SELECT o.external_reference, p.sequence, p.method, p.installments, p.amount_minor, p.provider, p.status
       FROM finance_orderpayment p JOIN finance_order o ON o.id = p.order_id ORDER BY 1, 2""",
    """SELECT o.external_reference, c.vendor_id, c.currency, c.order_amount_minor, c.rate_ppm,
              c.commission_amount_minor, c.vendor_amount_minor, c.status, c.calculated_at
       FROM finance_commission c JOIN finance_order o ON o.id = c.order_id ORDER BY 1, 2""",
    """SELECT e.book_id, e.kind, e.occurred_at, o.external_reference, d.kind, c.kind, d.provider, t.currency,
              t.amount
       FROM ledger_entry e JOIN ledger_transfer t ON t.book_id = e.book_id AND t.entry_id = e.id
       JOIN ledger_account d ON d.id = t.debit JOIN ledger_account c ON c.id = t.credit
       JOIN finance_order o ON e.source_event = 'order/' || o.id || '/sale' ORDER BY 1, 2, 3, 4, 5, 6""",
    "SELECT id, email, user_type, ciudad, source, external_reference FROM accounts_user ORDER BY 1",
    "SELECT user_id, vendor_status, city, state FROM accounts_vendorprofile ORDER BY 1",
    "SELECT type, outcome, count(*) FROM audit_event GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT count(*) FROM audit_event e JOIN audit_pending p USING (id)",
)


def options(files: Files) -> list[str]:
    named = {
        "orders": files.orders,
        "items": files.items,
        "payments": files.payments,
        "sellers": files.sellers,
    }
    parts = [part for name, path in named.items() for part in (f"--{name}", str(path))]
    return ["import_orders", "--skip-checks", *parts, "--currency", "BRL"]


def start(files: Files, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    rejects = str(folder / "rejects.csv")
    return subprocess.Popen(
        [sys.executable, "manage.py", *options(files), "--json", "--rejects", rejects, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def said(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def state(dsn: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        connection.execute("SET timezone = 'UTC'")
        return [connection.execute(query).fetchall() for query in STATE]


def count(connection: psycopg.Connection[Any], table: str) -> int:
    queries = {
        "orders": "SELECT count(*) FROM finance_order",
        "vendors": "SELECT count(*) FROM accounts_user",
        "imports": "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted",
    }
    row = connection.execute(queries[table]).fetchone()
    return int(row[0]) if row else 0


def kill_when(process: subprocess.Popen[bytes], dsn: str, table: str, reached: int) -> None:
    """SIGKILL as soon as so many rows are committed (or the process was quicker than we)."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        while process.poll() is None and count(connection, table) < reached:
            pass
    process.kill()
    process.communicate()


@pytest.fixture
def market(tmp_path: Path) -> Files:
    return marketplace.generated(ORDERS).write(tmp_path / "in")


@pytest.fixture
def clean(market: Files, tmp_path: Path, app_dsn: str) -> tuple[list[Any], dict[str, Any]]:
    """What one clean run leaves and says; the database is empty again afterwards."""
    report = said(start(market, tmp_path))
    left = state(app_dsn)
    databases.empty()
    return left, report


def test_killed_import_and_its_repetition_end_like_one_clean_run(
    market: Files, clean: tuple[list[Any], dict[str, Any]], tmp_path: Path, app_dsn: str
) -> None:
    wanted, report = clean

    kills = [("imports", 1), ("vendors", 1), ("orders", 1), ("orders", 200), ("orders", 600)]
    for table, reached in kills:
        process = start(market, tmp_path, "--batch-size", "40")
        kill_when(process, app_dsn, table, reached)
        assert process.returncode == -signal.SIGKILL, f"too quick to be killed at {reached} {table}"
    last = said(start(market, tmp_path, "--batch-size", "40"))

    assert state(app_dsn) == wanted
    for name in ("orders", "items", "vendors", "sold", "gross", "commission", "vendor_net", "rejected"):
        assert last[name] == report[name]
    assert last["already_present"] >= 600
    assert last["new_orders"] + last["already_present"] == ORDERS


def test_import_while_another_runs_exits_4(market: Files, tmp_path: Path, app_dsn: str) -> None:
    with psycopg.connect(app_dsn) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [RUN_LOCK])
        process = start(market, tmp_path)
        process.communicate(timeout=300)

    assert process.returncode == 4


def test_interrupted_import_stops_at_once_and_is_completed_later(
    market: Files, tmp_path: Path, app_dsn: str
) -> None:
    process = start(market, tmp_path, "--batch-size", "40")
    with psycopg.connect(app_dsn, autocommit=True) as connection:
        while process.poll() is None and not count(connection, "orders"):
            pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)

    assert process.returncode == 130
    assert said(start(market, tmp_path))["orders"] == ORDERS


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    files = marketplace.generated(MEMORY_ORDERS).write(tmp_path / "in")
    script = (
        "import sys; from django.core.management import execute_from_command_line as run;"
        "run(sys.argv[1:]); print(open('/proc/self/status').read())"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, "manage.py", *options(files)],
        env=unmeasured.environment() | {"DJANGO_SETTINGS_MODULE": "mestore.settings"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )

    # Not ru_maxrss: that of a child begins with the memory of the process that started it.
    (peak,) = (int(line.split()[1]) * 1024 for line in done.stdout.splitlines() if line.startswith("VmHWM:"))
    assert peak < MEMORY_BYTES
