"""pgbench: 16 clients that write the rows of one sale in one transaction each, in plain SQL.

The same rows as a sale of ours: idempotency key with its answer, order, item, payment, commission with its
terms, ledger entry with five transfers, three audit events with their places in the queue; with the
same indexes, foreign keys and triggers, to which the events tell of order and commission as ours do; over
TLS, durable. A test holds the tables and their numbers of rows together.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psycopg

from mestore.servers import postgres

CLIENTS = 16
THREADS = 2

# The vendors that are given, with the ledger accounts that a first sale would open and a later one finds.
ACCOUNTS = """
INSERT INTO ledger_account (book_id, kind, provider, currency)
SELECT v.id, k.kind, k.provider, 'COP'
FROM unnest(%s::uuid[]) AS v (id),
     (VALUES ('psp_clearing', 'bench'), ('vendor_pending', ''), ('platform_fee', ''), ('tax_payable:fee', ''),
             ('shipping_payable', ''), ('tax_payable:goods', '')) AS k (kind, provider)
ON CONFLICT ON CONSTRAINT ledger_account_once DO NOTHING"""
VENDORS = """
CREATE TABLE bench_vendor AS
SELECT row_number() OVER (ORDER BY b.book_id)::int AS n, b.*
FROM (SELECT book_id, max(id) FILTER (WHERE kind = 'psp_clearing' AND provider = 'bench') AS clearing,
             max(id) FILTER (WHERE kind = 'vendor_pending') AS pending,
             max(id) FILTER (WHERE kind = 'platform_fee') AS fee,
             max(id) FILTER (WHERE kind = 'tax_payable:fee') AS fee_tax,
             max(id) FILTER (WHERE kind = 'shipping_payable') AS shipping,
             max(id) FILTER (WHERE kind = 'tax_payable:goods') AS tax
      FROM ledger_account WHERE currency = 'COP' GROUP BY book_id) b
WHERE b.clearing IS NOT NULL"""

SALE = """
\\set n random(1, :vendors)
\\set r random(1, 9000000000000000000)
SELECT book_id AS vendor, clearing, pending, fee, fee_tax, shipping, tax, gen_random_uuid() AS entry,
       gen_random_uuid() AS commission, gen_random_uuid() AS recorded, gen_random_uuid() AS calculated
FROM bench_vendor WHERE n = :n \\gset
BEGIN;
SELECT set_config('mestore.ctx', '{"kind": "system", "id": "pgbench", "address": "203.0.113.7"}', true),
       set_config('timezone', 'UTC', true);
INSERT INTO finance_idempotencykey (scope, key, request_hash, status, body)
VALUES ('pgbench', :r::text, sha256('request'), 201,
    decode(repeat('0102030405060708090a0b0c0d0e0f', 80), 'hex'));
WITH placed AS (
    INSERT INTO finance_order (order_number, source, external_reference, buyer_reference, currency, status,
        subtotal_minor, tax_minor, shipping_minor, total_minor, shipping_name, shipping_phone,
        shipping_address, shipping_city, shipping_state, placed_at, confirmed_at)
    VALUES ('P' || :r, 'pgbench', :r::text, 'buyer', 'COP', 'confirmed', 10000000, 1900000, 1500000,
        13400000, 'A buyer', '+573001234567', 'Calle 1 2-3', 'Bogota', 'DC', now(), now())
    RETURNING *
), said AS (
    SELECT p.id, jsonb_strip_nulls(
        to_jsonb(p) - '{source_digest,buyer_reference,shipping_name,shipping_phone,shipping_email,'
        'shipping_address,shipping_city,shipping_state,shipping_postal_code,shipping_country,notes,'
        'shipping_events,cancellation_reason,updated_at}'::text[]) AS row
    FROM placed p
), queued AS (
    INSERT INTO audit_pending (id, occurred_at, told)
    SELECT :recorded::uuid, now(), sha256(convert_to(
        jsonb_build_array('order.recorded', 'order', id::text, row)::text, 'UTF8')) FROM said
), told AS (
    INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, target_type, target_id,
        canon, writer_mac, leaf_hash)
    SELECT :recorded::uuid, now(), 'order.recorded', 'SUCCESS', 'system', 'pgbench', 'order', id::text,
           canon, sha256('mac'), sha256('\\x00'::bytea || canon)
    FROM said, convert_to(jsonb_build_object('data', jsonb_build_object('row', row))::text, 'UTF8') AS canon
)
SELECT id AS sale FROM placed \\gset
INSERT INTO finance_orderitem (order_id, line, product_id, vendor_id, name, unit_price_minor, quantity,
    line_total_minor, shipping_minor, commission_minor, rate_ppm, rule_hash, rounding)
VALUES (:sale, 1, 'product', :vendor::uuid, 'A thing', 10000000, 1, 10000000, 1500000, 500000, 50000,
    sha256('rule'), 'half_up');
INSERT INTO finance_orderpayment (order_id, sequence, method, installments, amount_minor, provider, reference,
    status)
VALUES (:sale, 1, 'credit_card', 1, 13400000, 'pgbench', :r::text, 'approved');
INSERT INTO ledger_entry (book_id, id, kind, source_event, occurred_at, recorded_at, actor_kind, actor_id,
    transfer_count, control_total, mac)
VALUES (:vendor::uuid, :entry::uuid, 'sale', 'pgbench/' || :r, now(), now(), 'system', 'pgbench', 5, 13400000,
    sha256('mac'));
INSERT INTO ledger_transfer (book_id, entry_id, seq, debit, credit, currency, amount)
VALUES (:vendor::uuid, :entry::uuid, 1, :clearing::bigint, :pending::bigint, 'COP', 9405000),
       (:vendor::uuid, :entry::uuid, 2, :clearing::bigint, :fee::bigint, 'COP', 500000),
       (:vendor::uuid, :entry::uuid, 3, :clearing::bigint, :fee_tax::bigint, 'COP', 95000),
       (:vendor::uuid, :entry::uuid, 4, :clearing::bigint, :shipping::bigint, 'COP', 1500000),
       (:vendor::uuid, :entry::uuid, 5, :clearing::bigint, :tax::bigint, 'COP', 1900000);
WITH earned AS (
    INSERT INTO finance_commission (id, commission_number, order_id, vendor_id, currency, order_amount_minor,
        rate_ppm, commission_amount_minor, vendor_amount_minor, commission_type, entry_id, rule_hash,
        rule_snapshot, rounding, fee_tax_minor, calculated_at)
    VALUES (:commission::uuid, 'P' || :r, :sale, :vendor::uuid, 'COP', 10000000, 50000, 500000, 9500000,
        'STANDARD', :entry::uuid, sha256('terms'), repeat('{"terms of usual length"}', 28), 'half_up', 95000,
        now())
    RETURNING *
), said AS (
    SELECT id, jsonb_strip_nulls(to_jsonb(c) - '{notes,admin_notes,rule_snapshot,updated_at}'::text[]) AS row
    FROM earned c
), queued AS (
    INSERT INTO audit_pending (id, occurred_at, leaf, told)
    SELECT :calculated::uuid, now(), NULL, sha256(convert_to(
        jsonb_build_array('commission.calculated', 'commission', id::text, row)::text, 'UTF8')) FROM said
    UNION ALL SELECT :entry::uuid, now(), sha256('leaf'), NULL
)
INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, target_type, target_id, canon,
    writer_mac, leaf_hash)
SELECT told.id, now(), told.type, 'SUCCESS', 'system', 'pgbench', told.target, told.key, told.canon,
       sha256('mac'), sha256('\\x00'::bytea || told.canon)
FROM (
    SELECT :calculated::uuid, 'commission.calculated', 'commission', id::text, convert_to(
        jsonb_build_object('data', jsonb_build_object('row', row))::text, 'UTF8')
    FROM said
    UNION ALL
    SELECT :entry::uuid, 'finance.ledger_entry.posted', 'ledger_entry', :r::text,
           convert_to(repeat('{"pgbench": "a leaf of usual length"}', 20), 'UTF8')
) AS told (id, type, target, key, canon);
COMMIT;
"""


def prepare(url: str, folder: Path, vendors: Sequence[str]) -> tuple[Path, int]:
    """Write the script and the table of vendors, as a superuser; the script and their number."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS bench_vendor")
        connection.execute(ACCOUNTS, [list(vendors)])
        connection.execute(VENDORS)
        connection.execute("ALTER TABLE bench_vendor ADD PRIMARY KEY (n)")
        connection.execute("ANALYZE bench_vendor")
        connection.execute("GRANT SELECT ON bench_vendor TO PUBLIC")
        row = connection.execute("SELECT count(*) FROM bench_vendor").fetchone()
    script = folder / "sale.sql"
    script.write_text(SALE, encoding="utf-8")
    return script, int(row[0]) if row else 0


def run(url: str, script: Path, vendors: int, *, seconds: int) -> float:
    """Sales per second of an owner's clients. Raises RuntimeError when pgbench fails or a transaction did."""
    return _run(url, script, vendors, "-c", str(CLIENTS), "-j", str(THREADS), "-T", str(seconds))


def once(url: str, script: Path, vendors: int) -> None:
    """Write the rows of one sale. Raises RuntimeError when that fails."""
    _run(url, script, vendors, "-c", "1", "-t", "1")


def _run(url: str, script: Path, vendors: int, *options: str) -> float:
    binary = postgres.find_binaries() / "pgbench"
    program = str(binary) if binary.exists() else shutil.which("pgbench") or "pgbench"
    done = subprocess.run(
        [program, "-n", "-M", "prepared", *options, "-D", f"vendors={vendors}", "-f", str(script), url],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    if done.returncode or not found or "aborted" in done.stderr:
        raise RuntimeError(f"pgbench failed:\n{done.stdout}{done.stderr}")
    return float(found.group(1))
