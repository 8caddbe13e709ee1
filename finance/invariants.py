"""What must always hold of money, each as one query for the rows of which it does not.

The database refuses nearly all of this as it is written (constraints, triggers, `ledger_post`); these queries
believe none of that, for whoever is allowed to switch triggers off is allowed to write. Each gives the name
of a broken row and what is wrong with it, at most `most` of them; `vendor` narrows it to one book.
"""

from __future__ import annotations

from typing import Final, LiteralString, NamedTuple


class Invariant(NamedTuple):
    """One rule: its name, what it says, and the query for what breaks it."""

    name: str
    says: str
    query: LiteralString


LEDGER: Final = (
    Invariant(
        "transfer_accounts",
        "both accounts of a transfer are of its book and currency, so that debits equal credits",
        """
SELECT t.id::text, 'currency ' || t.currency || ', book ' || t.book_id
FROM ledger_transfer t
LEFT JOIN ledger_account d ON d.book_id = t.book_id AND d.id = t.debit AND d.currency = t.currency
LEFT JOIN ledger_account c ON c.book_id = t.book_id AND c.id = t.credit AND c.currency = t.currency
WHERE (%(vendor)s::uuid IS NULL OR t.book_id = %(vendor)s::uuid)
  AND (d.id IS NULL OR c.id IS NULL OR t.debit = t.credit OR t.amount NOT BETWEEN 1 AND 1000000000000000)
LIMIT %(most)s
""",
    ),
    Invariant(
        "control_totals",
        "an entry has as many transfers, and of as much, as it says",
        """
SELECT coalesce(e.id, t.entry_id)::text,
       CASE WHEN e.id IS NULL THEN 'transfers without their entry'
            ELSE 'says ' || e.transfer_count || ' of ' || e.control_total || ', has ' || coalesce(t.many, 0)
                 || ' of ' || coalesce(t.total, 0) END
FROM (SELECT * FROM ledger_entry WHERE %(vendor)s::uuid IS NULL OR book_id = %(vendor)s::uuid) e
FULL JOIN (
    SELECT book_id, entry_id, count(*) AS many, sum(amount) AS total FROM ledger_transfer
    WHERE %(vendor)s::uuid IS NULL OR book_id = %(vendor)s::uuid GROUP BY 1, 2) t
  ON t.book_id = e.book_id AND t.entry_id = e.id
WHERE e.id IS NULL OR t.entry_id IS NULL OR t.many <> e.transfer_count OR t.total <> e.control_total
LIMIT %(most)s
""",
    ),
    Invariant(
        "reservations",
        "a reservation ends at most once, between its own accounts, by no more than it holds",
        """
SELECT r.id::text, 'resolves transfer ' || r.pending_id
FROM ledger_transfer r
LEFT JOIN ledger_transfer p ON p.book_id = r.book_id AND p.id = r.pending_id
WHERE r.phase IN ('post', 'void') AND (%(vendor)s::uuid IS NULL OR r.book_id = %(vendor)s::uuid)
  AND (p.id IS NULL OR p.phase <> 'pending'
       OR (p.debit, p.credit, p.currency) <> (r.debit, r.credit, r.currency)
       OR r.amount > p.amount OR (r.phase = 'void' AND r.amount <> p.amount)
       OR EXISTS (SELECT FROM ledger_transfer o WHERE o.book_id = r.book_id AND o.pending_id = r.pending_id
                  AND o.id <> r.id))
LIMIT %(most)s
""",
    ),
    Invariant(
        "reversals",
        "no more is taken back of an entry than it moved, and a reversal is as large as its entry",
        """
SELECT x.id, x.what FROM (
    SELECT o.id::text,
           'taken back ' || sum(r.amount - coalesce(u.undone, 0)) || ' of ' || o.control_total AS what
    FROM ledger_reversal r
    JOIN ledger_entry o ON o.book_id = r.book_id AND o.id = r.of_entry
    LEFT JOIN (SELECT book_id, of_entry, sum(amount) AS undone FROM ledger_reversal GROUP BY 1, 2) u
      ON u.book_id = r.book_id AND u.of_entry = r.entry_id
    WHERE %(vendor)s::uuid IS NULL OR r.book_id = %(vendor)s::uuid
    GROUP BY o.book_id, o.id, o.control_total
    HAVING sum(r.amount - coalesce(u.undone, 0)) > o.control_total
    UNION ALL
    SELECT r.entry_id::text, 'takes back ' || r.amount || ', its entry moves ' || coalesce(e.control_total, 0)
    FROM ledger_reversal r
    LEFT JOIN ledger_entry e ON e.book_id = r.book_id AND e.id = r.entry_id
    LEFT JOIN ledger_entry o ON o.book_id = r.book_id AND o.id = r.of_entry
    WHERE (%(vendor)s::uuid IS NULL OR r.book_id = %(vendor)s::uuid)
      AND (e.id IS NULL OR o.id IS NULL OR e.control_total <> r.amount)
    UNION ALL
    SELECT e.id::text, 'reverses ' || e.reverses || ', which the ledger has no reversal of'
    FROM ledger_entry e
    LEFT JOIN ledger_reversal r ON r.book_id = e.book_id AND r.entry_id = e.id AND r.of_entry = e.reverses
    WHERE e.reverses IS NOT NULL AND r.entry_id IS NULL
      AND (%(vendor)s::uuid IS NULL OR e.book_id = %(vendor)s::uuid)) x
LIMIT %(most)s
""",
    ),
    Invariant(
        "guarded_balances",
        "what may leave is what came in less what went out, less what is reserved, and never below its floor",
        """
SELECT a.id::text, 'book ' || a.book_id || ' ' || a.currency || ': kept ' || coalesce(g.posted, 0) || ' less '
       || coalesce(g.reserved, 0) || ', moved ' || m.posted || ' less ' || m.reserved
FROM ledger_account a
LEFT JOIN ledger_guarded_balance g ON g.book_id = a.book_id AND g.account_id = a.id
CROSS JOIN LATERAL (
    SELECT coalesce((SELECT sum(t.amount) FROM ledger_transfer t
                     WHERE t.book_id = a.book_id AND t.credit = a.id AND t.phase IN ('single', 'post')), 0)
           - coalesce((SELECT sum(t.amount) FROM ledger_transfer t
                       WHERE t.book_id = a.book_id AND t.debit = a.id AND t.phase IN ('single', 'post')), 0)
               AS posted,
           coalesce((SELECT sum(t.amount) FROM ledger_transfer t
                     LEFT JOIN ledger_transfer r ON r.book_id = t.book_id AND r.pending_id = t.id
                     WHERE t.book_id = a.book_id AND t.debit = a.id AND t.phase = 'pending'
                       AND r.id IS NULL), 0) AS reserved) m
WHERE a.kind = 'vendor_available' AND (%(vendor)s::uuid IS NULL OR a.book_id = %(vendor)s::uuid)
  AND (coalesce(g.posted, 0) <> m.posted OR coalesce(g.reserved, 0) <> m.reserved
       OR coalesce(g.posted - g.reserved < g.floor, false))
LIMIT %(most)s
""",
    ),
    Invariant(
        "statements",
        "a statement's numbers have no gap, each line is its entry's movement, each balance the sum so far",
        """
WITH lines AS (
    SELECT l.*, row_number() OVER w AS expected, sum(l.amount) OVER w AS running
    FROM ledger_statement_line l WHERE %(vendor)s::uuid IS NULL OR l.book_id = %(vendor)s::uuid
    WINDOW w AS (PARTITION BY l.book_id, l.account_id ORDER BY l.seq)),
moved AS (
    SELECT s.book_id, s.entry_id, s.account_id, sum(s.amount) AS amount FROM (
        SELECT t.book_id, t.entry_id, t.credit AS account_id, t.amount FROM ledger_transfer t
        WHERE t.phase IN ('single', 'post') AND (%(vendor)s::uuid IS NULL OR t.book_id = %(vendor)s::uuid)
        UNION ALL
        SELECT t.book_id, t.entry_id, t.debit, -t.amount FROM ledger_transfer t
        WHERE t.phase IN ('single', 'post') AND (%(vendor)s::uuid IS NULL OR t.book_id = %(vendor)s::uuid)) s
    JOIN ledger_account a ON a.book_id = s.book_id AND a.id = s.account_id AND a.kind = 'vendor_available'
    GROUP BY 1, 2, 3 HAVING sum(s.amount) <> 0)
SELECT x.id, x.what FROM (
    SELECT coalesce(l.id::text, 'entry ' || m.entry_id) AS id,
           CASE WHEN l.id IS NULL THEN 'moved ' || m.amount || ' and has no line'
                WHEN m.entry_id IS NULL THEN 'line ' || l.seq || ' of an entry that did not move it'
                ELSE 'line ' || l.seq || ' of book ' || l.book_id || ': number ' || l.expected || ', amount '
                     || m.amount || ', balance ' || l.running || ' expected; it says ' || l.amount || ', '
                     || l.balance END AS what
    FROM lines l FULL JOIN moved m
      ON m.book_id = l.book_id AND m.entry_id = l.entry_id AND m.account_id = l.account_id
    WHERE l.id IS NULL OR m.entry_id IS NULL OR l.amount <> m.amount OR l.seq <> l.expected
       OR l.balance <> l.running
    UNION ALL
    SELECT g.account_id::text, 'counts ' || g.seq || ' lines, there are ' || coalesce(n.many, 0)
    FROM ledger_guarded_balance g
    LEFT JOIN (SELECT book_id, account_id, count(*) AS many FROM lines GROUP BY 1, 2) n
      ON n.book_id = g.book_id AND n.account_id = g.account_id
    WHERE (%(vendor)s::uuid IS NULL OR g.book_id = %(vendor)s::uuid) AND g.seq <> coalesce(n.many, 0)) x
LIMIT %(most)s
""",
    ),
    Invariant(
        "snapshots",
        "a snapshot is the sum of what had ended before it, and its horizon is not in the future",
        """
SELECT s.id::text, 'account ' || s.account_id || ': says ' || s.debit || '/' || s.credit || ', moved '
       || m.debit || '/' || m.credit
       || CASE WHEN s.horizon > pg_snapshot_xmin(pg_current_snapshot())
               THEN '; its horizon is in the future: the database was restored' ELSE '' END
FROM ledger_snapshot s
CROSS JOIN LATERAL (
    SELECT coalesce((SELECT sum(t.amount) FROM ledger_transfer t
                     WHERE t.book_id = s.book_id AND t.debit = s.account_id AND t.xid < s.horizon
                       AND t.phase IN ('single', 'post')), 0) AS debit,
           coalesce((SELECT sum(t.amount) FROM ledger_transfer t
                     WHERE t.book_id = s.book_id AND t.credit = s.account_id AND t.xid < s.horizon
                       AND t.phase IN ('single', 'post')), 0) AS credit) m
WHERE (%(vendor)s::uuid IS NULL OR s.book_id = %(vendor)s::uuid)
  AND NOT EXISTS (SELECT FROM ledger_snapshot n WHERE n.book_id = s.book_id AND n.account_id = s.account_id
                  AND n.horizon > s.horizon)
  AND (s.debit <> m.debit OR s.credit <> m.credit OR s.horizon > pg_snapshot_xmin(pg_current_snapshot()))
LIMIT %(most)s
""",
    ),
    Invariant(
        "closed_periods",
        "nothing was recorded after a close for a time before it",
        """
SELECT e.id::text, 'occurred ' || e.occurred_at || ', recorded ' || e.recorded_at || ', closed until '
       || p.closed_until
FROM ledger_period_close p
JOIN ledger_entry e ON e.occurred_at < p.closed_until AND e.recorded_at > p.closed_at
WHERE %(vendor)s::uuid IS NULL OR e.book_id = %(vendor)s::uuid
LIMIT %(most)s
""",
    ),
)

SALES: Final = (
    Invariant(
        "commissions",
        "a commission's entry is there, and moved what the commission says",
        """
SELECT c.id::text, CASE WHEN e.id IS NULL THEN 'its entry is gone'
       ELSE 'entry moved fee ' || m.fee || ', tax ' || m.tax || ', withheld ' || m.withheld || ', vendor '
            || m.pending END
FROM finance_commission c
LEFT JOIN ledger_entry e ON e.book_id = c.vendor_id AND e.id = c.entry_id
                        AND e.source_event = 'order/' || c.order_id || '/sale'
CROSS JOIN LATERAL (
    SELECT coalesce(sum(t.amount) FILTER (WHERE a.kind = 'platform_fee'), 0) AS fee,
           coalesce(sum(t.amount) FILTER (WHERE a.kind = 'tax_payable:fee'), 0) AS tax,
           coalesce(sum(t.amount) FILTER (WHERE a.kind = 'tax_payable:withholding'), 0) AS withheld,
           coalesce(sum(t.amount) FILTER (WHERE a.kind = 'vendor_pending'), 0) AS pending,
           coalesce(bool_and(t.currency = c.currency), true) AS is_one_currency
    FROM ledger_transfer t JOIN ledger_account a ON a.book_id = t.book_id AND a.id = t.credit
    WHERE t.book_id = c.vendor_id AND t.entry_id = c.entry_id) m
CROSS JOIN LATERAL (
    SELECT coalesce(sum(i.line_total_minor), 0) AS minor FROM finance_orderitem i
    WHERE i.order_id = c.order_id AND i.vendor_id = c.vendor_id) goods
WHERE c.entry_id IS NOT NULL AND (%(vendor)s::uuid IS NULL OR c.vendor_id = %(vendor)s::uuid)
  AND (e.id IS NULL OR NOT m.is_one_currency OR m.fee <> c.commission_amount_minor OR m.tax <> c.fee_tax_minor
       OR m.withheld <> c.withheld_minor
       OR m.pending <> goods.minor - c.commission_amount_minor - c.fee_tax_minor - c.withheld_minor)
LIMIT %(most)s
""",
    ),
    Invariant(
        "sales",
        "an order that counts as sold has one sale and one commission per vendor; one that waits has none",
        """
SELECT x.id, x.what FROM (
    SELECT o.id::text, o.status || ', vendor ' || i.vendor_id || ': no sale or no commission' AS what
    FROM finance_order o JOIN finance_orderitem i ON i.order_id = o.id
    WHERE o.status IN ('confirmed', 'processing', 'shipped', 'delivered', 'refunded')
      AND (%(vendor)s::uuid IS NULL OR i.vendor_id = %(vendor)s::uuid)
      AND (NOT EXISTS (SELECT FROM ledger_entry e WHERE e.book_id = i.vendor_id
                       AND e.source_event = 'order/' || o.id || '/sale')
           OR NOT EXISTS (SELECT FROM finance_commission c
                          WHERE c.order_id = o.id AND c.vendor_id = i.vendor_id))
    GROUP BY o.id, o.status, i.vendor_id
    UNION ALL
    SELECT o.id::text, 'pending, vendor ' || i.vendor_id || ': sold all the same'
    FROM finance_order o JOIN finance_orderitem i ON i.order_id = o.id
    WHERE o.status = 'pending' AND (%(vendor)s::uuid IS NULL OR i.vendor_id = %(vendor)s::uuid)
      AND (EXISTS (SELECT FROM ledger_entry e WHERE e.book_id = i.vendor_id
                   AND e.source_event = 'order/' || o.id || '/sale')
           OR EXISTS (SELECT FROM finance_commission c WHERE c.order_id = o.id AND c.vendor_id = i.vendor_id))
    GROUP BY o.id, i.vendor_id
    UNION ALL
    SELECT e.id::text, 'sale ' || e.source_event || ' without its commission'
    FROM ledger_entry e
    LEFT JOIN finance_commission c ON c.vendor_id = e.book_id AND c.entry_id = e.id
    WHERE e.kind = 'sale' AND c.id IS NULL AND (%(vendor)s::uuid IS NULL OR e.book_id = %(vendor)s::uuid)) x
LIMIT %(most)s
""",
    ),
    Invariant(
        "settlements",
        "a commission that was settled has the entry that paid it, which moved what its sales had left",
        """
WITH entries AS (
    SELECT e.book_id, e.id, e.control_total, e.recorded_at FROM ledger_entry e
    WHERE e.kind = 'settlement' AND (%(vendor)s::uuid IS NULL OR e.book_id = %(vendor)s::uuid)),
family AS (
    SELECT s.id AS settled, s.book_id, c.entry_id AS entry, s.recorded_at FROM entries s
    JOIN finance_commission c ON c.settled_entry_id = s.id AND c.vendor_id = s.book_id
    UNION ALL
    SELECT s.id, s.book_id, r.entry_id, s.recorded_at FROM entries s
    JOIN finance_commission c ON c.settled_entry_id = s.id AND c.vendor_id = s.book_id
    JOIN ledger_reversal r ON r.book_id = s.book_id AND r.of_entry = c.entry_id
    UNION ALL
    SELECT s.id, s.book_id, u.entry_id, s.recorded_at FROM entries s
    JOIN finance_commission c ON c.settled_entry_id = s.id AND c.vendor_id = s.book_id
    JOIN ledger_reversal r ON r.book_id = s.book_id AND r.of_entry = c.entry_id
    JOIN ledger_reversal u ON u.book_id = r.book_id AND u.of_entry = r.entry_id),
had AS (
    SELECT f.settled, sum(CASE WHEN k.kind = 'vendor_pending' THEN t.amount ELSE 0 END
                          - CASE WHEN d.kind = 'vendor_pending' THEN t.amount ELSE 0 END) AS amount
    FROM family f
    JOIN ledger_entry e ON e.book_id = f.book_id AND e.id = f.entry AND e.recorded_at < f.recorded_at
    JOIN ledger_transfer t ON t.book_id = f.book_id AND t.entry_id = f.entry
    JOIN ledger_account d ON d.book_id = t.book_id AND d.id = t.debit
    JOIN ledger_account k ON k.book_id = t.book_id AND k.id = t.credit
    GROUP BY f.settled)
SELECT x.id, x.what FROM (
    SELECT s.id::text, 'settled ' || s.control_total || ', its sales had ' || coalesce(h.amount, 0) AS what
    FROM entries s LEFT JOIN had h ON h.settled = s.id WHERE s.control_total <> coalesce(h.amount, 0)
    UNION ALL
    SELECT c.id::text, 'settled by ' || c.settled_entry_id || ', which is no settlement of its vendor'
    FROM finance_commission c
    LEFT JOIN entries s ON s.id = c.settled_entry_id AND s.book_id = c.vendor_id
    WHERE c.settled_entry_id IS NOT NULL AND s.id IS NULL
      AND (%(vendor)s::uuid IS NULL OR c.vendor_id = %(vendor)s::uuid)
    UNION ALL
    SELECT c.id::text, c.status || ' with settlement ' || c.settled_entry_id
    FROM finance_commission c
    WHERE c.settled_entry_id IS NOT NULL AND c.status NOT IN ('PAID', 'REFUNDED')
      AND (%(vendor)s::uuid IS NULL OR c.vendor_id = %(vendor)s::uuid)) x
LIMIT %(most)s
""",
    ),
)

REFUNDS_AND_PAYOUTS: Final = (
    Invariant(
        "refunds",
        "what orders and commissions count as refunded is the sum of their refunds, each with its entry; "
        "what a refund that failed still holds is due",
        """
SELECT x.id, x.what FROM (
    SELECT 'order ' || o.id AS id,
           'counts ' || o.refunded_minor || ', refunds ' || coalesce(r.minor, 0) AS what
    FROM finance_order o
    LEFT JOIN (SELECT order_id, sum(amount_minor) AS minor FROM finance_refund WHERE status <> 'failed'
               GROUP BY order_id) r ON r.order_id = o.id
    WHERE %(vendor)s::uuid IS NULL AND o.refunded_minor <> coalesce(r.minor, 0)
    UNION ALL
    SELECT 'order ' || o.id,
           'says that ' || o.refund_due_minor || ' is due, refunds that failed hold ' || h.minor
    FROM finance_order o
    JOIN (SELECT r.order_id, sum(p.goods_minor + p.tax_minor + p.shipping_minor) AS minor
          FROM finance_refund r JOIN finance_refundpart p ON p.refund_id = r.id
          WHERE r.status = 'failed' AND NOT EXISTS (
              SELECT FROM ledger_reversal u WHERE u.book_id = p.vendor_id AND u.of_entry = p.entry_id)
          GROUP BY r.order_id) h ON h.order_id = o.id
    WHERE %(vendor)s::uuid IS NULL AND o.refund_due_minor < h.minor
    UNION ALL
    SELECT 'commission ' || c.id, 'counts ' || c.refunded_minor || '/' || c.reversed_minor || ', refunds '
           || coalesce(p.base, 0) || '/' || coalesce(p.commission, 0)
    FROM finance_commission c
    LEFT JOIN (SELECT p.commission_id, sum(p.base_minor) AS base, sum(p.commission_minor) AS commission
               FROM finance_refundpart p JOIN finance_refund r ON r.id = p.refund_id AND r.status <> 'failed'
               GROUP BY p.commission_id) p ON p.commission_id = c.id
    WHERE (%(vendor)s::uuid IS NULL OR c.vendor_id = %(vendor)s::uuid)
      AND (c.refunded_minor <> coalesce(p.base, 0) OR c.reversed_minor <> coalesce(p.commission, 0))
    UNION ALL
    SELECT 'refund ' || p.refund_id, 'part of vendor ' || p.vendor_id || ': its entry is gone or moved '
           || coalesce(e.control_total, 0)
    FROM finance_refundpart p
    JOIN finance_refund r ON r.id = p.refund_id
    LEFT JOIN ledger_entry e ON e.book_id = p.vendor_id AND e.id = p.entry_id
    WHERE (%(vendor)s::uuid IS NULL OR p.vendor_id = %(vendor)s::uuid)
      AND (e.id IS NULL OR e.control_total <> p.goods_minor + p.tax_minor + p.shipping_minor)
    UNION ALL
    SELECT 'refund ' || r.id, 'its parts are ' || coalesce(p.minor, 0) || ' of ' || r.amount_minor
    FROM finance_refund r
    LEFT JOIN (SELECT refund_id, sum(goods_minor + tax_minor + shipping_minor) AS minor
               FROM finance_refundpart GROUP BY refund_id) p ON p.refund_id = r.id
    WHERE %(vendor)s::uuid IS NULL AND r.amount_minor <> coalesce(p.minor, 0)) x
LIMIT %(most)s
""",
    ),
    Invariant(
        "payouts",
        "a payout's entries are those of its state, each of its amount",
        """
SELECT p.id::text, p.state || ' of ' || p.amount_minor || ', entries: '
       || coalesce(nullif(concat_ws(', ', 'reserve ' || v.control_total, 'sent ' || s.control_total,
                                    'void ' || g.control_total, 'returned ' || b.control_total,
                                    'paid ' || k.control_total, 'unpaid ' || u.control_total), ''), 'none')
FROM finance_payout p
LEFT JOIN ledger_entry v ON v.book_id = p.vendor_id AND v.source_event = 'payout/' || p.id || '/reserve'
LEFT JOIN ledger_entry s ON s.book_id = p.vendor_id AND s.source_event = 'payout/' || p.id || '/sent'
LEFT JOIN ledger_entry g ON g.book_id = p.vendor_id AND g.source_event = 'payout/' || p.id || '/void'
LEFT JOIN ledger_entry b ON b.book_id = p.vendor_id AND b.source_event = 'payout/' || p.id || '/returned'
LEFT JOIN ledger_entry k ON k.book_id = '00000000-0000-0000-0000-000000000000'
                        AND k.source_event = 'payout/' || p.id || '/paid'
LEFT JOIN ledger_entry u ON u.book_id = '00000000-0000-0000-0000-000000000000'
                        AND u.source_event = 'payout/' || p.id || '/returned'
WHERE (%(vendor)s::uuid IS NULL OR p.vendor_id = %(vendor)s::uuid)
  AND (v.id IS DISTINCT FROM p.reserve_entry_id OR v.id IS NULL OR s.id IS DISTINCT FROM p.post_entry_id
       OR EXISTS (SELECT FROM (VALUES (v.control_total), (s.control_total), (g.control_total),
                                      (b.control_total), (k.control_total), (u.control_total)) AS n (total)
                  WHERE n.total <> p.amount_minor)
       OR NOT CASE
           WHEN p.state IN ('requested', 'screened', 'held', 'approved', 'submitting')
               THEN s.id IS NULL AND g.id IS NULL
           WHEN p.state = 'unknown' THEN g.id IS NULL AND k.id IS NULL AND b.id IS NULL
           WHEN p.state = 'in_transit' THEN s.id IS NOT NULL AND k.id IS NULL AND b.id IS NULL
           WHEN p.state = 'paid' THEN s.id IS NOT NULL AND k.id IS NOT NULL AND b.id IS NULL AND u.id IS NULL
           WHEN p.state = 'returned'
               THEN s.id IS NOT NULL AND b.id IS NOT NULL AND (k.id IS NULL) = (u.id IS NULL)
           ELSE s.id IS NULL AND g.id IS NOT NULL AND k.id IS NULL END)
LIMIT %(most)s
""",
    ),
)

EVERY: Final = (*LEDGER, *SALES, *REFUNDS_AND_PAYOUTS)
