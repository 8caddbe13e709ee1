"""What a vendor has: available, reserved, pending, in transit, owed. Now, or as of a day on either axis."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from finance import ledger
from finance.postings import PAYOUT_IN_TRANSIT, VENDOR_AVAILABLE, VENDOR_PENDING, VENDOR_RECEIVABLE
from mestore.lib import sql

# Reserved, and not resolved, by entries of that time; NULL is no limit.
_RESERVED: Final = """
SELECT t.currency, sum(t.amount)
FROM ledger_account a
JOIN ledger_transfer t ON t.book_id = a.book_id AND t.debit = a.id AND t.phase = 'pending'
JOIN ledger_entry e ON e.book_id = t.book_id AND e.id = t.entry_id
WHERE a.book_id = %(vendor)s AND a.kind = 'vendor_available'
  AND (%(occurred)s::timestamptz IS NULL OR e.occurred_at < %(occurred)s::timestamptz)
  AND (%(recorded)s::timestamptz IS NULL OR e.recorded_at < %(recorded)s::timestamptz)
  AND NOT EXISTS (
      SELECT FROM ledger_transfer r JOIN ledger_entry x ON x.book_id = r.book_id AND x.id = r.entry_id
      WHERE r.book_id = t.book_id AND r.pending_id = t.id AND r.phase IN ('post', 'void')
        AND (%(occurred)s::timestamptz IS NULL OR x.occurred_at < %(occurred)s::timestamptz)
        AND (%(recorded)s::timestamptz IS NULL OR x.recorded_at < %(recorded)s::timestamptz))
GROUP BY t.currency
"""
_RESERVED_NOW: Final = """
SELECT a.currency, g.reserved FROM ledger_account a
JOIN ledger_guarded_balance g ON g.book_id = a.book_id AND g.account_id = a.id
WHERE a.book_id = %(vendor)s AND a.kind = 'vendor_available'
"""
# What the bank has confirmed of a vendor's payouts stands in the platform's book, less what came back.
_CONFIRMED: Final = """
SELECT p.currency, sum(CASE WHEN e.kind = 'payout_paid' THEN p.amount_minor ELSE -p.amount_minor END)
FROM finance_payout p
JOIN ledger_entry e ON e.book_id = '00000000-0000-0000-0000-000000000000'
 AND e.source_event IN ('payout/' || p.id || '/paid', 'payout/' || p.id || '/returned')
WHERE p.vendor_id = %(vendor)s AND p.post_entry_id IS NOT NULL
  AND (%(occurred)s::timestamptz IS NULL OR e.occurred_at < %(occurred)s::timestamptz)
  AND (%(recorded)s::timestamptz IS NULL OR e.recorded_at < %(recorded)s::timestamptz)
GROUP BY p.currency
"""


@dataclass(frozen=True, slots=True)
class VendorBalance:
    """One currency, in minor units. `available` may be asked for now: what is reserved is not in it."""

    currency: str
    available: int = 0
    reserved: int = 0
    pending: int = 0
    in_transit: int = 0
    owed: int = 0


def balances(
    vendor: UUID, *, occurred_before: dt.datetime | None = None, recorded_before: dt.datetime | None = None
) -> Sequence[VendorBalance]:
    """Return a vendor's balances by currency, in three statements.

    `occurred_before`: without what happened at that moment or later; `recorded_before`: as it was known then.
    """
    values = {"vendor": vendor, "occurred": occurred_before, "recorded": recorded_before}
    is_now = occurred_before is None and recorded_before is None
    rows = (
        ledger.balances(vendor)
        if is_now
        else ledger.balances_as_of(vendor, occurred_before=occurred_before, recorded_before=recorded_before)
    )
    net: dict[str, dict[str, int]] = {}
    for row in rows:
        kinds = net.setdefault(row.currency, {})
        kinds[row.kind] = kinds.get(row.kind, 0) + row.net
    reserved = _sums(_RESERVED_NOW if is_now else _RESERVED, values)
    confirmed = _sums(_CONFIRMED, values)
    return [
        VendorBalance(
            currency,
            available=kinds.get(VENDOR_AVAILABLE, 0) - reserved.get(currency, 0),
            reserved=reserved.get(currency, 0),
            pending=kinds.get(VENDOR_PENDING, 0),
            in_transit=kinds.get(PAYOUT_IN_TRANSIT, 0) - confirmed.get(currency, 0),
            owed=-kinds.get(VENDOR_RECEIVABLE, 0),
        )
        for currency, kinds in sorted(net.items())
    ]


def _sums(query: str, values: Mapping[str, object]) -> dict[str, int]:
    return {currency: int(minor) for currency, minor in sql.fetch_all(query, values)}
