"""Rows of the ledger in any number, and a settlement in plain SQL: what the points about money start from.

Filled as a superuser with the triggers switched off: entries are balanced and add up with what they belong
to, but nobody signed them and the trail does not tell of them. What is measured runs with everything on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

Connection = psycopg.Connection[Any]
TABLES = (
    "finance_order", "finance_orderitem", "finance_orderpayment", "finance_commission", "ledger_account",
    "ledger_entry", "ledger_transfer", "ledger_guarded_balance", "ledger_statement_line",
    "finance_commissionrule",
)  # fmt: skip
PROVIDER = "benchpay"

_TRIGGERS = """
SELECT tgrelid::regclass::text, tgname FROM pg_trigger
WHERE NOT tgisinternal AND tgenabled = 'A' AND tgrelid = ANY(%s::regclass[])"""
_ACCOUNTS = """
INSERT INTO ledger_account (book_id, kind, provider, currency)
SELECT v.id, k.kind, k.provider, %(currency)s
FROM unnest(%(books)s::uuid[]) AS v (id),
     (VALUES ('psp_clearing', %(provider)s), ('vendor_pending', ''), ('vendor_available', ''),
             ('platform_fee', ''), ('tax_payable:fee', ''), ('shipping_payable', ''),
             ('tax_payable:goods', '')) AS k (kind, provider)
ON CONFLICT ON CONSTRAINT ledger_account_once DO NOTHING"""
_GUARDED = """
INSERT INTO ledger_guarded_balance (book_id, account_id)
SELECT a.book_id, a.id FROM ledger_account a
WHERE a.book_id = ANY(%(books)s::uuid[]) AND a.kind = 'vendor_available' AND a.currency = %(currency)s
ON CONFLICT DO NOTHING"""
# Ids in the order of their numbers, as ours are (RFC 9562, version 7).
_ID = """(lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint + n / 1000), 12, '0') || '7'
          || substr(md5(n::text), 1, 3) || 'a' || substr(md5(random()::text), 1, 15))::uuid"""
_MADE = sql.SQL("""
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT n, {run} || n AS name, {books}[1 + n % cardinality({books})] AS book, {id} AS entry,
       {other} AS commission, nextval('finance_order_id_seq') AS sale,
       now() - interval '30 days' - n * interval '1 millisecond' AS at
FROM generate_series(1, {count}) AS n""")
_SALES = """
INSERT INTO finance_order (id, order_number, source, external_reference, buyer_reference, currency, status,
    subtotal_minor, tax_minor, shipping_minor, total_minor, tracking_number, placed_at, confirmed_at,
    shipped_at, delivered_at)
SELECT sale, name, 'bench', name, 'buyer', 'COP', 'delivered', 10000000, 1900000, 1500000, 13400000, name, at,
    at, at, at FROM made;
INSERT INTO finance_orderitem (order_id, line, product_id, vendor_id, name, unit_price_minor, quantity,
    line_total_minor, shipping_minor, commission_minor, rate_ppm, rule_hash, rounding)
SELECT sale, 1, 'product', book, 'A thing', 10000000, 1, 10000000, 1500000, 500000, 50000, sha256('rule'),
    'half_up' FROM made;
INSERT INTO finance_orderpayment (order_id, sequence, method, installments, amount_minor, provider, reference,
    status)
SELECT sale, 1, 'credit_card', 1, 13400000, 'benchpay', name, 'approved' FROM made;
INSERT INTO finance_commission (id, commission_number, order_id, vendor_id, currency, order_amount_minor,
    rate_ppm, commission_amount_minor, vendor_amount_minor, commission_type, status, entry_id, rule_hash,
    rule_snapshot, rounding, fee_tax_minor, calculated_at)
SELECT commission, name, sale, book, 'COP', 10000000, 50000, 500000, 9500000, 'STANDARD', 'PENDING', entry,
    sha256('terms'), '{"by_hand":""' || repeat(',"terms":"of usual length"', 26) || '}', 'half_up', 95000, at
FROM made;
INSERT INTO ledger_entry (book_id, id, kind, source_event, occurred_at, recorded_at, actor_kind, actor_id,
    transfer_count, control_total, mac)
SELECT book, entry, 'sale', 'order/' || sale || '/sale', at, at, 'system', 'bench', 5, 13400000, sha256('mac')
FROM made;
INSERT INTO ledger_transfer (book_id, entry_id, seq, debit, credit, currency, amount)
SELECT m.book, m.entry, p.seq, d.id, c.id, 'COP', p.amount
FROM made m
CROSS JOIN (VALUES (1, 'vendor_pending', 9405000), (2, 'platform_fee', 500000),
                   (3, 'tax_payable:fee', 95000), (4, 'shipping_payable', 1500000),
                   (5, 'tax_payable:goods', 1900000)) AS p (seq, kind, amount)
JOIN ledger_account d ON d.book_id = m.book AND d.kind = 'psp_clearing' AND d.provider = 'benchpay'
                         AND d.currency = 'COP'
JOIN ledger_account c ON c.book_id = m.book AND c.kind = p.kind AND c.provider = '' AND c.currency = 'COP'
"""
_MOVEMENTS = """
INSERT INTO ledger_entry (book_id, id, kind, source_event, occurred_at, recorded_at, actor_kind, actor_id,
    transfer_count, control_total, mac)
SELECT book, entry, 'settlement', 'bench/' || name, at, at, 'system', 'bench', 1, 1000 + n, sha256('mac')
FROM made;
INSERT INTO ledger_transfer (book_id, entry_id, seq, debit, credit, currency, amount)
SELECT m.book, m.entry, 1, d.id, c.id, 'USD', 1000 + n FROM made m
JOIN ledger_account d ON d.book_id = m.book AND d.kind = 'psp_clearing' AND d.currency = 'USD'
JOIN ledger_account c ON c.book_id = m.book AND c.kind = 'vendor_available' AND c.currency = 'USD';
INSERT INTO ledger_statement_line (book_id, account_id, currency, seq, entry_id, occurred_at, recorded_at,
    amount, balance)
SELECT m.book, c.id, 'USD', n, m.entry, m.at, m.at, 1000 + n, sum(1000 + n) OVER (ORDER BY n) FROM made m
JOIN ledger_account c ON c.book_id = m.book AND c.kind = 'vendor_available' AND c.currency = 'USD';
UPDATE ledger_guarded_balance g SET posted = s.posted, seq = s.seq
FROM (SELECT book_id, account_id, sum(amount) AS posted, max(seq) AS seq FROM ledger_statement_line
      WHERE currency = 'USD' GROUP BY 1, 2) s
WHERE g.book_id = s.book_id AND g.account_id = s.account_id
"""
_TRANSFERS = """
INSERT INTO ledger_entry (book_id, id, kind, source_event, occurred_at, recorded_at, actor_kind, actor_id,
    transfer_count, control_total, mac)
SELECT book, entry, 'sale', 'bench/' || name, at, at, 'system', 'bench', 4, 10000, sha256('mac') FROM made;
INSERT INTO ledger_transfer (book_id, entry_id, seq, debit, credit, currency, amount)
SELECT m.book, m.entry, p.seq, d.id, c.id, 'COP', p.amount
FROM made m
CROSS JOIN (VALUES (1, 'vendor_pending', 7000), (2, 'platform_fee', 1000), (3, 'tax_payable:fee', 500),
                   (4, 'shipping_payable', 1500)) AS p (seq, kind, amount)
JOIN ledger_account d ON d.book_id = m.book AND d.kind = 'psp_clearing' AND d.currency = 'COP'
JOIN ledger_account c ON c.book_id = m.book AND c.kind = p.kind AND c.currency = 'COP'
"""
_RULES = """
INSERT INTO finance_commissionrule (id, name, currency, product_id, commission_type, rate_ppm, valid, status,
    rule_hash, proposed_by, approved_by)
SELECT gen_random_uuid(), 'bench ' || n, 'COP', CASE n WHEN 1 THEN 'bench' ELSE 'product ' || n END,
       'STANDARD', 40000 + n, tstzrange(now() - interval '1 day', NULL), 'ACTIVE', sha256(n::text::bytea),
       gen_random_uuid(), gen_random_uuid()
FROM generate_series(1, %s::int) AS n"""

# The same rows as our settlement of everything that is due in pesos, set-based, in one transaction.
PLAIN_SETTLEMENT = """
SELECT set_config('mestore.ctx', '{"kind": "system", "id": "bench"}', true);
CREATE TEMP TABLE earned ON COMMIT DROP AS
SELECT c.id, c.vendor_id AS book, c.vendor_amount_minor - c.fee_tax_minor - c.withheld_minor AS amount
FROM finance_commission c JOIN finance_order o ON o.id = c.order_id
WHERE c.status = 'PENDING' AND c.currency = 'COP' AND c.calculated_at < now() - interval '7 days'
    AND o.delivered_at < now() - interval '7 days';
CREATE TEMP TABLE due ON COMMIT DROP AS
SELECT e.book, gen_random_uuid() AS entry, p.id AS pending, a.id AS available, e.amount
FROM (SELECT book, sum(amount)::bigint AS amount FROM earned GROUP BY book) e
JOIN ledger_account p ON p.book_id = e.book AND p.kind = 'vendor_pending' AND p.currency = 'COP'
JOIN ledger_account a ON a.book_id = e.book AND a.kind = 'vendor_available' AND a.currency = 'COP';
ANALYZE earned, due;
UPDATE finance_commission c SET status = 'APPROVED', approved_at = now(), updated_at = now()
FROM earned e WHERE c.id = e.id;
UPDATE finance_commission c
SET status = 'PAID', paid_at = now(), settled_entry_id = d.entry, updated_at = now()
FROM earned e JOIN due d USING (book) WHERE c.id = e.id;
INSERT INTO ledger_entry (book_id, id, kind, source_event, occurred_at, recorded_at, actor_kind, actor_id,
    transfer_count, control_total, mac)
SELECT book, entry, 'settlement', 'plain/' || entry, now(), now(), 'system', 'bench', 1, amount, sha256('mac')
FROM due;
INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, target_type, target_id, canon,
    leaf_hash)
SELECT entry, now(), 'finance.ledger_entry.posted', 'SUCCESS', 'system', 'bench', 'ledger_entry', entry::text,
       canon, sha256('\\x00'::bytea || canon)
FROM due, convert_to(repeat('{"bench": "a leaf of usual length"}', 12), 'UTF8') AS canon;
INSERT INTO audit_pending (id, occurred_at, leaf) SELECT entry, now(), sha256('leaf') FROM due;
INSERT INTO ledger_transfer (book_id, entry_id, seq, debit, credit, currency, amount)
SELECT book, entry, 1, pending, available, 'COP', amount FROM due;
UPDATE ledger_guarded_balance g SET posted = g.posted + d.amount, seq = g.seq + 1
FROM due d WHERE g.book_id = d.book AND g.account_id = d.available;
INSERT INTO ledger_statement_line (book_id, account_id, currency, seq, entry_id, occurred_at, recorded_at,
    amount, balance)
SELECT d.book, d.available, 'COP', g.seq, d.entry, now(), now(), d.amount, g.posted
FROM due d JOIN ledger_guarded_balance g ON g.book_id = d.book AND g.account_id = d.available
"""


def fill_sales(connection: Connection, run: str, books: Sequence[str], count: int) -> None:
    """Add so many sales of a month ago, spread over the books, their commissions not yet settled."""
    with _filling(connection, run, books, count, "COP"):
        connection.execute(_SALES.encode())


def fill_statement(connection: Connection, book: str, count: int) -> None:
    """Add so many movements of what a vendor has available in dollars, where nothing moved before."""
    with _filling(connection, "statement", [book], count, "USD"):
        connection.execute(_MOVEMENTS.encode())


def fill_transfers(connection: Connection, book: str, count: int) -> None:
    """Add so many transfers to one book, four to an entry."""
    with _filling(connection, "transfers", [book], count // 4, "COP"):
        connection.execute(_TRANSFERS.encode())


def set_rules(connection: Connection, count: int) -> None:
    """Have so many rules in force in pesos, one of which is for the product that is sold."""
    with untriggered(connection):
        connection.execute("DELETE FROM finance_commissionrule WHERE name LIKE 'bench %'")
        connection.execute(_RULES, [count])
    connection.execute("ANALYZE finance_commissionrule")


@contextmanager
def untriggered(connection: Connection) -> Iterator[None]:
    """One transaction without triggers and foreign keys; they are there again when it ends."""
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        triggers = connection.execute(_TRIGGERS, [list(TABLES)]).fetchall()
        for table, name in triggers:
            connection.execute(_switch("DISABLE", table, name))
        yield
        for table, name in triggers:
            connection.execute(_switch("ENABLE ALWAYS", table, name))


@contextmanager
def _filling(
    connection: Connection, run: str, books: Sequence[str], count: int, currency: str
) -> Iterator[None]:
    with untriggered(connection):
        values = {"books": list(books), "currency": currency, "provider": PROVIDER}
        connection.execute(_ACCOUNTS, values)
        connection.execute(_GUARDED, values)
        given = sql.SQL("(ARRAY[{}]::uuid[])").format(sql.SQL(", ").join(map(sql.Literal, books)))
        identifier = sql.SQL(_ID)
        connection.execute(
            _MADE.format(
                run=sql.Literal(f"{run}-"), books=given, id=identifier, other=identifier, count=count
            )
        )
        connection.execute("ANALYZE made")
        yield


def _switch(what: str, table: str, name: str) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} {} TRIGGER {}").format(
        sql.Identifier(table),
        sql.SQL(what),
        sql.Identifier(name),
    )
