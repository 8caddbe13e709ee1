"""What the accounts of a book hold: the last snapshot and what was posted since.

Nothing here is kept by the sale: `ledger_take_snapshots` sums up from time to time what had ended by then,
and a balance is that sum and the few transfers after it. What may leave is read from the guarded rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from finance.postings import VENDOR_RECEIVABLE
from mestore.lib import sql

_BALANCES = """
SELECT a.kind, a.provider, a.currency,
       coalesce(s.debit, 0) + (
           SELECT coalesce(sum(t.amount), 0) FROM ledger_transfer t
           WHERE t.book_id = a.book_id AND t.debit = a.id AND t.xid >= coalesce(s.horizon, '0'::xid8)
             AND t.phase IN ('single', 'post')),
       coalesce(s.credit, 0) + (
           SELECT coalesce(sum(t.amount), 0) FROM ledger_transfer t
           WHERE t.book_id = a.book_id AND t.credit = a.id AND t.xid >= coalesce(s.horizon, '0'::xid8)
             AND t.phase IN ('single', 'post'))
FROM ledger_account a
LEFT JOIN LATERAL (
    SELECT s.debit, s.credit, s.horizon FROM ledger_snapshot s
    WHERE s.book_id = a.book_id AND s.account_id = a.id ORDER BY s.horizon DESC LIMIT 1) s ON true
WHERE a.book_id = %(book)s AND (%(kind)s::text IS NULL OR a.kind = %(kind)s)
ORDER BY a.currency, a.kind, a.provider
"""

# Recorded before: the newest snapshot that was taken by then, and what was recorded since. Occurred before:
# less what occurred later. Each part reads what lies between then and now, not the whole book.
_AS_OF = """
WITH late AS MATERIALIZED (
    SELECT t.debit, t.credit, t.amount FROM ledger_entry e
    JOIN ledger_transfer t ON t.book_id = e.book_id AND t.entry_id = e.id
    WHERE e.book_id = %(book)s AND e.occurred_at >= %(occurred)s::timestamptz
      AND t.phase IN ('single', 'post')
      AND (%(recorded)s::timestamptz IS NULL OR e.recorded_at < %(recorded)s::timestamptz))
SELECT a.kind, a.provider, a.currency,
       coalesce(s.debit, 0) + d.amount
           - (SELECT coalesce(sum(l.amount), 0) FROM late l WHERE l.debit = a.id),
       coalesce(s.credit, 0) + c.amount
           - (SELECT coalesce(sum(l.amount), 0) FROM late l WHERE l.credit = a.id)
FROM ledger_account a
LEFT JOIN LATERAL (
    SELECT s.debit, s.credit, s.horizon FROM ledger_snapshot s
    WHERE s.book_id = a.book_id AND s.account_id = a.id
      AND (%(recorded)s::timestamptz IS NULL OR s.taken_at <= %(recorded)s::timestamptz)
    ORDER BY s.horizon DESC LIMIT 1) s ON true
CROSS JOIN LATERAL (
    SELECT coalesce(sum(t.amount), 0) AS amount FROM ledger_transfer t
    JOIN ledger_entry e ON e.book_id = t.book_id AND e.id = t.entry_id
    WHERE t.book_id = a.book_id AND t.debit = a.id AND t.xid >= coalesce(s.horizon, '0'::xid8)
      AND t.phase IN ('single', 'post')
      AND (%(recorded)s::timestamptz IS NULL OR e.recorded_at < %(recorded)s::timestamptz)) d
CROSS JOIN LATERAL (
    SELECT coalesce(sum(t.amount), 0) AS amount FROM ledger_transfer t
    JOIN ledger_entry e ON e.book_id = t.book_id AND e.id = t.entry_id
    WHERE t.book_id = a.book_id AND t.credit = a.id AND t.xid >= coalesce(s.horizon, '0'::xid8)
      AND t.phase IN ('single', 'post')
      AND (%(recorded)s::timestamptz IS NULL OR e.recorded_at < %(recorded)s::timestamptz)) c
WHERE a.book_id = %(book)s ORDER BY a.currency, a.kind, a.provider
"""

_DEBTORS = """
SELECT a.book_id FROM ledger_account a
LEFT JOIN LATERAL (
    SELECT s.debit, s.credit, s.horizon FROM ledger_snapshot s
    WHERE s.book_id = a.book_id AND s.account_id = a.id ORDER BY s.horizon DESC LIMIT 1) s ON true
WHERE a.book_id = ANY(%s) AND a.kind = 'vendor_receivable' AND a.currency = %s
  AND coalesce(s.debit, 0) + (
          SELECT coalesce(sum(t.amount), 0) FROM ledger_transfer t
          WHERE t.book_id = a.book_id AND t.debit = a.id AND t.xid >= coalesce(s.horizon, '0'::xid8)
            AND t.phase IN ('single', 'post'))
    > coalesce(s.credit, 0) + (
          SELECT coalesce(sum(t.amount), 0) FROM ledger_transfer t
          WHERE t.book_id = a.book_id AND t.credit = a.id AND t.xid >= coalesce(s.horizon, '0'::xid8)
            AND t.phase IN ('single', 'post'))
"""

_AVAILABLE = """
SELECT g.posted, g.reserved, g.floor FROM ledger_account a
JOIN ledger_guarded_balance g ON g.book_id = a.book_id AND g.account_id = a.id
WHERE a.book_id = %s AND a.kind = 'vendor_available' AND a.provider = '' AND a.currency = %s
"""


@dataclass(frozen=True, slots=True)
class Balance:
    """What went in and out of one account of a book. Amounts are minor units."""

    kind: str
    provider: str
    currency: str
    debit: int
    credit: int

    @property
    def net(self) -> int:
        """Credits less debits: what is owed, for an account of something owed."""
        return self.credit - self.debit


@dataclass(frozen=True, slots=True)
class Available:
    """What a vendor has available: posted, and how much of it is reserved. Minor units."""

    posted: int = 0
    reserved: int = 0
    floor: int = 0

    @property
    def free(self) -> int:
        """What may leave now."""
        return self.posted - self.reserved - self.floor


def balances(book: UUID) -> list[Balance]:
    """Return every account of one book with its sums, in one statement."""
    return _balances(_BALANCES, {"book": book, "kind": None})


def balances_as_of(
    book: UUID, *, occurred_before: dt.datetime | None = None, recorded_before: dt.datetime | None = None
) -> list[Balance]:
    """Return the accounts of one book as of a day, on either axis of time, or both.

    `occurred_before`: without what happened at that moment or later; `recorded_before`: as we knew it then.
    """
    return _balances(_AS_OF, {"book": book, "occurred": occurred_before, "recorded": recorded_before})


def available(book: UUID, currency: str) -> Available:
    """Return what the vendor may be paid in one currency; nothing where there never was anything."""
    found = sql.fetch_one(_AVAILABLE, [book, currency])
    return Available() if found is None else Available(*found)


def owed(book: UUID, currency: str) -> int:
    """Return what the vendor owes us in one currency, in minor units: refunds after a payout."""
    rows = _balances(_BALANCES, {"book": book, "kind": VENDOR_RECEIVABLE})
    return -sum(row.net for row in rows if row.currency == currency)


def debtors(books: Iterable[UUID], currency: str) -> set[UUID]:
    """Return those of these vendors who owe us anything in one currency, with one statement."""
    return {row[0] for row in sql.fetch_all(_DEBTORS, [list(books), currency])}


def _balances(query: LiteralString, parameters: dict[str, object]) -> list[Balance]:
    return [
        Balance(kind, provider, currency, int(debit), int(credit))
        for kind, provider, currency, debit, credit in sql.fetch_all(query, parameters)
    ]
