"""Where ledger, provider and bank differ, as sets: one query per pair, each reads what a report is about.

Every query answers rows of (kind, reference, currency, ledger amount, report's amount, target type, target
id); amounts are minor units, signed as in the report, and NULL where that side knows nothing.
"""

from __future__ import annotations

from typing import Final

# A sort instead of a join: of a report that was just taken in the planner knows no numbers of rows, and would
# work one side out anew for each line of the other. What the ledger holds of a payment is what its orders'
# sales debited to the provider's clearing account. An order that was paid in several parts is compared by
# what was recorded of each part.
PAYMENTS: Final = """
WITH said AS (
    SELECT r.reference, r.currency, sum(r.amount_minor)::bigint AS minor FROM finance_providerrecord r
    WHERE r.report_id = %(report)s AND r.kind = 'payment' GROUP BY 1, 2
), posted AS MATERIALIZED (
    SELECT p.reference, o.currency, o.id AS order_id,
           CASE WHEN (SELECT count(*) FROM finance_orderpayment x WHERE x.order_id = o.id) = 1
                THEN (SELECT sum(e.control_total)::bigint FROM finance_commission c
                      JOIN ledger_entry e ON e.book_id = c.vendor_id AND e.id = c.entry_id
                      WHERE c.order_id = o.id)
                WHEN EXISTS (SELECT FROM finance_commission c
                             WHERE c.order_id = o.id AND c.entry_id IS NOT NULL)
                THEN p.amount_minor END AS minor
    FROM finance_orderpayment p JOIN finance_order o ON o.id = p.order_id
    WHERE p.provider = %(provider)s AND p.reference IN (SELECT s.reference FROM said s)
), held AS (
    SELECT reference, min(currency) AS currency, sum(minor)::bigint AS minor, min(order_id) AS order_id,
           count(minor) AS posted FROM posted GROUP BY reference
), side AS (
    SELECT reference, currency, minor, NULL::text AS held_currency, NULL::bigint AS held_minor,
           NULL::bigint AS order_id, NULL::bigint AS posted, true AS is_said FROM said
    UNION ALL
    SELECT reference, NULL, NULL, currency, minor, order_id, posted, false FROM held
), both_sides AS (
    SELECT reference, currency, minor, is_said, max(held_currency) OVER r AS held_currency,
           max(held_minor) OVER r AS held_minor, max(order_id) OVER r AS order_id,
           max(posted) OVER r AS posted
    FROM side WINDOW r AS (PARTITION BY reference)
)
SELECT CASE WHEN b.posted IS NULL THEN 'missing_in_ledger'
            WHEN b.posted = 0 THEN 'state_differs'
            WHEN b.held_currency <> b.currency THEN 'currency_differs'
            ELSE 'amount_differs' END,
       b.reference, b.currency, b.held_minor, b.minor,
       CASE WHEN b.order_id IS NULL THEN '' ELSE 'order' END, coalesce(b.order_id::text, '')
FROM both_sides b
WHERE b.is_said AND (b.posted IS NULL OR b.posted = 0 OR b.held_currency <> b.currency
                     OR b.held_minor <> b.minor)
"""

REFUNDS: Final = """
WITH said AS (
    SELECT r.reference, r.currency, sum(r.amount_minor)::bigint AS minor FROM finance_providerrecord r
    WHERE r.report_id = %(report)s AND r.kind = 'refund' GROUP BY 1, 2
)
SELECT CASE WHEN f.id IS NULL THEN 'missing_in_ledger' WHEN f.currency <> s.currency THEN 'currency_differs'
            WHEN -f.amount_minor <> s.minor THEN 'amount_differs' ELSE 'state_differs' END,
       s.reference, s.currency, -f.amount_minor, s.minor,
       CASE WHEN f.id IS NULL THEN '' ELSE 'refund' END, coalesce(f.id::text, '')
FROM said s LEFT JOIN finance_refund f ON f.provider = %(provider)s AND f.provider_reference = s.reference
WHERE f.id IS NULL OR f.currency <> s.currency OR -f.amount_minor <> s.minor OR f.status <> 'paid'
"""

# A chargeback is always a person's business: nothing of ours answers it by itself.
CHARGEBACKS: Final = """
SELECT 'missing_in_ledger', r.reference, r.currency, NULL::bigint, sum(r.amount_minor)::bigint, '', ''
FROM finance_providerrecord r WHERE r.report_id = %(report)s AND r.kind = 'chargeback' GROUP BY 2, 3
"""

UNREPORTED: Final = """
SELECT 'missing_at_provider', p.reference, o.currency, sum(p.amount_minor)::bigint, NULL::bigint, 'order',
       min(o.id)::text
FROM finance_order o JOIN finance_orderpayment p ON p.order_id = o.id
WHERE p.provider = %(provider)s AND p.reference <> '' AND p.status = 'approved'
  AND o.confirmed_at >= %(since)s AND o.confirmed_at < %(until)s
  AND NOT EXISTS (SELECT FROM finance_providerrecord r JOIN finance_providerreport t ON t.id = r.report_id
                  WHERE r.reference = p.reference AND r.kind = 'payment' AND t.provider = p.provider
                    AND t.kind = 'provider')
GROUP BY p.reference, o.currency
"""

# What the provider says that it sent, and what the bank says that came.
SWEEPS: Final = """
WITH said AS (
    SELECT r.reference, r.currency, sum(r.amount_minor)::bigint AS minor FROM finance_providerrecord r
    WHERE r.report_id = %(report)s AND r.kind = 'sweep' GROUP BY 1, 2
)
SELECT CASE WHEN b.minor IS NULL THEN %(sweep_missing)s WHEN b.currency <> s.currency THEN 'currency_differs'
            ELSE 'amount_differs' END,
       s.reference, s.currency, -b.minor, s.minor, '', ''
FROM said s LEFT JOIN LATERAL (
    SELECT min(r.currency) AS currency, sum(r.amount_minor)::bigint AS minor FROM finance_providerrecord r
    JOIN finance_providerreport t ON t.id = r.report_id
    WHERE r.reference = s.reference AND r.kind = 'sweep' AND t.kind = %(other)s) b ON true
WHERE b.minor IS NULL OR b.currency <> s.currency OR b.minor <> -s.minor
"""

# The bank names a payout by its number, or by the reference that it gave it itself.
PAYOUTS: Final = """
WITH said AS (
    SELECT r.reference, r.currency, r.kind, sum(r.amount_minor)::bigint AS minor FROM finance_providerrecord r
    WHERE r.report_id = %(report)s AND r.kind IN ('payout', 'return') GROUP BY 1, 2, 3
)
SELECT CASE WHEN p.id IS NULL THEN 'missing_in_ledger' WHEN p.currency <> s.currency THEN 'currency_differs'
            WHEN p.amount_minor <> abs(s.minor) THEN 'amount_differs' ELSE 'state_differs' END,
       s.reference, s.currency, CASE s.kind WHEN 'payout' THEN -p.amount_minor ELSE p.amount_minor END,
       s.minor,
       CASE WHEN p.id IS NULL THEN '' ELSE 'payout' END, coalesce(p.id::text, '')
FROM said s LEFT JOIN LATERAL (
    SELECT p.id, p.currency, p.amount_minor, p.state FROM finance_payout p WHERE p.payout_number = s.reference
    UNION ALL
    SELECT p.id, p.currency, p.amount_minor, p.state FROM finance_payout p
    WHERE p.provider_reference = s.reference AND p.provider_reference <> '' LIMIT 1) p ON true
WHERE p.id IS NULL OR p.currency <> s.currency OR p.amount_minor <> abs(s.minor)
   OR (s.kind = 'payout' AND p.state NOT IN ('paid', 'returned'))
   OR (s.kind = 'return' AND p.state <> 'returned')
"""

UNPAID: Final = """
SELECT 'missing_at_bank', p.payout_number, p.currency, -p.amount_minor, NULL::bigint, 'payout', p.id::text
FROM finance_payout p
WHERE p.state IN ('in_transit', 'paid') AND p.submitted_at >= %(since)s AND p.submitted_at < %(until)s
  AND NOT EXISTS (SELECT FROM finance_providerrecord r JOIN finance_providerreport t ON t.id = r.report_id
                  WHERE r.kind = 'payout' AND t.kind = 'bank'
                    AND (r.reference = p.payout_number
                         OR (p.provider_reference <> '' AND r.reference = p.provider_reference)))
"""

TWICE: Final = """
SELECT 'reported_twice', r.reference, r.currency, NULL::bigint, sum(r.amount_minor)::bigint, '', ''
FROM finance_providerrecord r WHERE r.report_id = %(report)s AND r.kind IN ('payment', 'refund', 'payout')
GROUP BY r.kind, r.reference, r.currency HAVING count(*) > 1
"""

# Imported orders: what was paid for them against what was sold. A difference is a case, not a posting.
ORDERS: Final = """
SELECT 'amount_differs', o.order_number, o.currency, o.total_minor, p.minor, 'order', o.id::text
FROM finance_order o CROSS JOIN LATERAL (
    SELECT coalesce(sum(x.amount_minor), 0)::bigint AS minor FROM finance_orderpayment x
    WHERE x.order_id = o.id) p
WHERE o.source = %(source)s AND o.id > %(after)s AND o.id <= %(until)s AND p.minor <> o.total_minor
  AND EXISTS (SELECT FROM finance_commission c WHERE c.order_id = o.id AND c.entry_id IS NOT NULL)
"""
