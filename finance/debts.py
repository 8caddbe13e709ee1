"""What a vendor owes is paid with what the same vendor has available.

A refund after a payout is owed. When that payout comes back, or one that only held the money is given up, the
vendor has something and owes something at once, and as nobody is paid who owes, neither would move until the
next sale. After every settlement what both have in common is taken off both.
"""

from __future__ import annotations

import datetime as dt
from typing import Final
from uuid import UUID

import structlog
from django.db import OperationalError
from django.utils import timezone

from finance import ledger, transactions, vendor_money
from finance.postings import VENDOR_AVAILABLE, VENDOR_RECEIVABLE, Posting, Transfer
from mestore.lib import errors, ids, sql
from mestore.lib.actor import Actor

DEBT_NETTED: Final = "debt_netted"
PAGE: Final = 500

# Few books owe at any time; of those, the ones with something that is free.
_BOTH: Final = """
SELECT g.book_id, a.currency FROM ledger_guarded_balance g
JOIN ledger_account a ON a.book_id = g.book_id AND a.id = g.account_id
JOIN ledger_account r ON r.book_id = g.book_id AND r.kind = 'vendor_receivable' AND r.currency = a.currency
WHERE g.posted - g.reserved > g.floor AND (g.book_id, a.currency) > (%(book)s, %(currency)s)
  AND (SELECT coalesce(sum(t.amount), 0) FROM ledger_transfer t
       WHERE t.book_id = r.book_id AND t.debit = r.id AND t.phase IN ('single', 'post'))
    > (SELECT coalesce(sum(t.amount), 0) FROM ledger_transfer t
       WHERE t.book_id = r.book_id AND t.credit = r.id AND t.phase IN ('single', 'post'))
ORDER BY g.book_id, a.currency LIMIT %(page)s
"""

log = structlog.get_logger("mestore.finance")


def net_all(*, by: Actor) -> int:
    """Take off what vendors both have and owe, one transaction each; return for how many.

    A vendor whose money somebody else takes at the same moment is left for the next time.
    """
    book, currency, done = UUID(int=0), "", 0
    while True:
        values = {"book": book, "currency": currency, "page": PAGE}
        page: list[tuple[UUID, str]] = [(row[0], row[1]) for row in sql.fetch_all(_BOTH, values)]
        done += sum(_net_or_leave(*one, by=by) for one in page)
        if len(page) < PAGE:
            return done
        book, currency = page[-1]


def _net_or_leave(book: UUID, currency: str, *, by: Actor) -> bool:
    try:
        return transactions.run(lambda: net(book, currency, by=by))
    except (errors.MeStoreError, OperationalError) as error:
        log.warning("debt_not_netted", vendor=str(book), error=type(error).__name__)
        return False


def net(book: UUID, currency: str, *, by: Actor) -> bool:
    """Take off what one vendor both has free and owes, in the caller's transaction; say whether it was any.

    Raises `ledger.InsufficientFunds` when it was taken in between.
    """
    vendor_money.hold([book])
    common = min(ledger.available(book, currency).free, ledger.owed(book, currency))
    if common <= 0:
        return False
    ledger.post_many([netting(book, currency, common, entry_id=ids.uuid7(), at=timezone.now())], by=by)
    return True


def netting(book: UUID, currency: str, amount: int, *, entry_id: UUID, at: dt.datetime) -> Posting:
    """Return the entry that pays `amount` minor units of a vendor's debt with what is available."""
    transfer = Transfer(VENDOR_AVAILABLE, VENDOR_RECEIVABLE, "", currency, amount)
    return Posting(book, entry_id, DEBT_NETTED, at, f"debt/{entry_id}", (transfer,))
