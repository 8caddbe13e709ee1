"""What the ledger is told about a payout. Pure; `ledger.post_many` writes what is built here.

Asked for: the amount is reserved in the vendor's book (pending, available to in transit). Sent: the
reservation is posted. Given up before: it is voided. Paid: the platform's own book moves it from in transit
to the bank. Returned: what was posted is taken back, wholly, so that the vendor has it available again.
"""

from __future__ import annotations

import datetime as dt
from typing import Final
from uuid import UUID

from finance.money import Money
from finance.postings import (
    PAYOUT_IN_TRANSIT,
    PENDING,
    PLATFORM_BANK,
    PLATFORM_BOOK,
    POST,
    SINGLE,
    VENDOR_AVAILABLE,
    VOID,
    Posting,
    Transfer,
)

RESERVE: Final = "payout_reserve"
SENT: Final = "payout_sent"
VOIDED: Final = "payout_void"
PAID: Final = "payout_paid"
RETURNED: Final = "payout_returned"


def source_of(payout: UUID, step: str) -> str:
    """The natural key of one step of a payout: the ledger takes each once."""
    return f"payout/{payout}/{step}"


def reserve(*, payout: UUID, vendor: UUID, amount: Money, entry_id: UUID, at: dt.datetime) -> Posting:
    """Hold the amount back; the ledger refuses what the vendor does not have free."""
    return _vendor(payout, vendor, amount, entry_id, at, RESERVE, "reserve", PENDING, None)


def sent(
    *, payout: UUID, vendor: UUID, amount: Money, entry_id: UUID, at: dt.datetime, reserved_by: UUID
) -> Posting:
    """The reservation left: it is posted."""
    return _vendor(payout, vendor, amount, entry_id, at, SENT, "sent", POST, reserved_by)


def void(
    *, payout: UUID, vendor: UUID, amount: Money, entry_id: UUID, at: dt.datetime, reserved_by: UUID
) -> Posting:
    """The reservation is given up: the whole amount is free again."""
    return _vendor(payout, vendor, amount, entry_id, at, VOIDED, "void", VOID, reserved_by)


def paid(*, payout: UUID, amount: Money, entry_id: UUID, at: dt.datetime) -> Posting:
    """The bank carried it out: in the platform's own book it left the bank."""
    return _single(
        PLATFORM_BOOK, PAYOUT_IN_TRANSIT, PLATFORM_BANK, payout, amount, entry_id, at, PAID, "paid"
    )


def returned(
    *, payout: UUID, vendor: UUID, amount: Money, entry_id: UUID, at: dt.datetime, sent: UUID
) -> Posting:
    """It came back: takes the entry `sent` back, so the vendor has the amount available again."""
    made = _single(
        vendor, PAYOUT_IN_TRANSIT, VENDOR_AVAILABLE, payout, amount, entry_id, at, RETURNED, "returned"
    )
    return Posting(
        made.book, made.entry_id, made.kind, made.occurred_at, made.source, made.transfers, sent, whole=True
    )


def unpaid(*, payout: UUID, amount: Money, entry_id: UUID, at: dt.datetime, paid: UUID) -> Posting:
    """It came back after the bank had carried it out: takes `paid` back in the platform's own book."""
    made = _single(
        PLATFORM_BOOK, PLATFORM_BANK, PAYOUT_IN_TRANSIT, payout, amount, entry_id, at, RETURNED, "returned"
    )
    return Posting(
        made.book, made.entry_id, made.kind, made.occurred_at, made.source, made.transfers, paid, whole=True
    )


def _vendor(
    payout: UUID, vendor: UUID, amount: Money, entry_id: UUID, at: dt.datetime, kind: str, step: str,
    phase: str, reserved_by: UUID | None,
) -> Posting:  # fmt: skip
    transfer = Transfer(
        VENDOR_AVAILABLE, PAYOUT_IN_TRANSIT, "", amount.currency, amount.minor, phase, reserved_by
    )
    return Posting(vendor, entry_id, kind, at, source_of(payout, step), (transfer,))


def _single(
    book: UUID, debit: str, credit: str, payout: UUID, amount: Money, entry_id: UUID, at: dt.datetime,
    kind: str, step: str,
) -> Posting:  # fmt: skip
    transfer = Transfer(debit, credit, "", amount.currency, amount.minor, SINGLE, None)
    return Posting(book, entry_id, kind, at, source_of(payout, step), (transfer,))
