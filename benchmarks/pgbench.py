"""pgbench: 16 clients that write the rows of one sale in one transaction each, in plain SQL.

The same rows as a sale of ours: order, item, payment, commission, ledger entry with its transfers, audit
events and their places in the queue; with the same indexes, foreign keys and triggers; over TLS, durable.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.house import House

CLIENTS = 16
THREADS = 2

# The vendors that exist, with their ledger accounts: what a sale finds by itself.
PREPARE = """
DROP TABLE IF EXISTS bench_vendor;
CREATE TABLE bench_vendor AS
SELECT row_number() OVER (ORDER BY b.book_id)::int AS n, b.*
FROM (SELECT book_id, max(id) FILTER (WHERE kind = 'psp_clearing' AND provider = 'marketplace') AS clearing,
             max(id) FILTER (WHERE kind = 'vendor_pending') AS pending,
             max(id) FILTER (WHERE kind = 'platform_fee') AS fee,
             max(id) FILTER (WHERE kind = 'shipping_payable') AS shipping
      FROM ledger_account WHERE currency = 'BRL' GROUP BY book_id) b
WHERE b.clearing IS NOT NULL AND b.pending IS NOT NULL AND b.fee IS NOT NULL AND b.shipping IS NOT NULL;
ALTER TABLE bench_vendor ADD PRIMARY KEY (n);
ANALYZE bench_vendor"""

SALE = """
\\set n random(1, :vendors)
\\set r random(1, 9000000000000000000)
SELECT book_id AS vendor, clearing, pending, fee, shipping, gen_random_uuid() AS entry,
       gen_random_uuid() AS commission, gen_random_uuid() AS recorded, gen_random_uuid() AS calculated
FROM bench_vendor WHERE n = :n \\gset
BEGIN;
INSERT INTO finance_order (order_number, source, external_reference, buyer_reference, currency, status,
    subtotal_minor, tax_minor, shipping_minor, total_minor, placed_at, confirmed_at)
VALUES ('P' || :r, 'pgbench', :r::text, 'buyer', 'BRL', 'confirmed', 10000, 0, 950, 10950, now(), now())
RETURNING id AS sale \\gset
INSERT INTO finance_orderitem (order_id, line, product_id, vendor_id, unit_price_minor, quantity,
    line_total_minor, shipping_minor) VALUES (:sale, 1, 'product', :vendor::uuid, 10000, 1, 10000, 950);
INSERT INTO finance_orderpayment (order_id, sequence, method, installments, amount_minor, provider, status)
VALUES (:sale, 1, 'credit_card', 1, 10950, 'pgbench', 'approved');
INSERT INTO ledger_entry (book_id, id, kind, source_event, occurred_at, actor_kind, actor_id, transfer_count,
    control_total, mac)
VALUES (:vendor::uuid, :entry::uuid, 'sale', 'pgbench/' || :r, now(), 'system', 'pgbench', 3, 10950,
    sha256('mac'));
INSERT INTO ledger_transfer (book_id, entry_id, seq, debit, credit, currency, amount)
VALUES (:vendor::uuid, :entry::uuid, 1, :clearing::bigint, :pending::bigint, 'BRL', 9500),
       (:vendor::uuid, :entry::uuid, 2, :clearing::bigint, :fee::bigint, 'BRL', 500),
       (:vendor::uuid, :entry::uuid, 3, :clearing::bigint, :shipping::bigint, 'BRL', 950);
INSERT INTO finance_commission (id, commission_number, order_id, vendor_id, currency, order_amount_minor,
    rate_ppm, commission_amount_minor, vendor_amount_minor, commission_type, entry_id, calculated_at)
VALUES (:commission::uuid, 'P' || :r, :sale, :vendor::uuid, 'BRL', 10000, 50000, 500, 9500, 'STANDARD',
    :entry::uuid, now());
INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, target_type, target_id, canon,
    writer_mac, leaf_hash)
SELECT id, now(), type, 'SUCCESS', 'system', 'pgbench', target, :r::text, canon, sha256('mac'),
       sha256('\\x00'::bytea || canon)
FROM (VALUES (:entry::uuid, 'finance.ledger_entry.posted', 'ledger_entry'),
             (:recorded::uuid, 'order.recorded', 'order'),
             (:calculated::uuid, 'commission.calculated', 'commission')) AS e (id, type, target),
     convert_to(repeat('{"pgbench": "a leaf of usual length"}', 10), 'UTF8') AS canon;
INSERT INTO audit_pending (id, occurred_at)
VALUES (:entry::uuid, now()), (:recorded::uuid, now()), (:calculated::uuid, now());
COMMIT;
"""


def prepare(house: House, folder: Path) -> tuple[Path, int]:
    """Write the script and the table of vendors; the script and how many vendors there are."""
    with house.admin() as connection:
        for statement in PREPARE.split(";"):
            connection.execute(statement.encode())
        connection.execute("GRANT SELECT ON bench_vendor TO PUBLIC")
        row = connection.execute("SELECT count(*) FROM bench_vendor").fetchone()
    script = folder / "sale.sql"
    script.write_text(SALE, encoding="utf-8")
    return script, int(row[0]) if row else 0


def run(house: House, script: Path, vendors: int, *, seconds: int) -> float:
    """Sales per second. Raises RuntimeError when pgbench fails or a transaction did."""
    binary = house.servers.cluster.binaries / "pgbench"
    program = str(binary) if binary.exists() else shutil.which("pgbench") or "pgbench"
    done = subprocess.run(
        [
            program, "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", str(THREADS), "-T", str(seconds),
            "-D", f"vendors={vendors}", "-f", str(script), house.servers.owner_database_url(),
        ],
        capture_output=True, text=True, check=False, timeout=seconds + 60,
    )  # fmt: skip
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    if done.returncode or not found or "aborted" in done.stderr:
        raise RuntimeError(f"pgbench failed:\n{done.stdout}{done.stderr}")
    return float(found.group(1))
