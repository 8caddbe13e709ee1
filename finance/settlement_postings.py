"""What a settlement posts. Pure: from pending to what the vendor owes first, and the rest to available."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from finance.money import MoneyError
from finance.postings import VENDOR_AVAILABLE, VENDOR_PENDING, VENDOR_RECEIVABLE, Posting, Transfer

SETTLEMENT: Final = "settlement"


def settlement_posting(
    *, book: UUID, currency: str, amount: int, owed: int, run: UUID, entry_id: UUID, occurred_at: datetime
) -> Posting:
    """Return the one entry of a vendor, a currency and a run: `amount` minor units stop being pending.

    What the vendor owes (`owed`, zero or more) is taken first. Raises `MoneyError` where nothing would move.
    """
    if amount <= 0 or owed < 0:
        raise MoneyError(
            "settlement_invalid", "A settlement moves something, and nobody owes less than zero."
        )
    netted = min(amount, owed)
    parts = ((VENDOR_RECEIVABLE, netted), (VENDOR_AVAILABLE, amount - netted))
    transfers = tuple(Transfer(VENDOR_PENDING, credit, "", currency, part) for credit, part in parts if part)
    return Posting(book, entry_id, SETTLEMENT, occurred_at, settlement_source(run, currency), transfers)


def settlement_source(run: UUID, currency: str) -> str:
    """The natural key in each vendor's book: a vendor is settled once per run and currency."""
    return f"settlement/{run}/{currency}"
