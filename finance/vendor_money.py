"""One at a time: whoever divides a vendor's money by what is there now keeps others from it until commit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from mestore.lib import sql

# The first half of the lock's key: what these locks are about, among all advisory locks of the database.
_SPACE: Final = 7016002
_HOLD = """
SELECT pg_advisory_xact_lock(%s, k)
FROM (SELECT hashtext(v) AS k FROM unnest(%s::text[]) AS v ORDER BY 1) AS keys
"""


def hold(vendor_ids: Iterable[UUID]) -> None:
    """Lock the money of these vendors until the transaction ends, in one order for everybody.

    Taken after the rows of orders and commissions and before the ledger, by everything that reads what a
    vendor has or owes and posts by it: settlement, refunds of settled sales, refunds that failed, payouts.
    The lock is of the name only: two vendors may share one, which costs a moment and nothing else.
    """
    names = sorted({str(vendor_id) for vendor_id in vendor_ids})
    if names:
        sql.fetch_all(_HOLD, [_SPACE, names])
