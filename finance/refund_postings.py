"""What refunds post. Pure: the ledger writes what is built here.

A refund takes back part of the sale's entry in the same book: from whoever's the money is now, to
`refund_clearing`, where it waits for the buyer. The provider's word moves it on to the clearing account the
buyer's money had come from; a refund that failed is taken back whole, mirror-wise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from finance.postings import (
    PLATFORM_FEE,
    PSP_CLEARING,
    REFUND_CLEARING,
    SHIPPING_PAYABLE,
    TAX_PAYABLE_FEE,
    TAX_PAYABLE_GOODS,
    TAX_PAYABLE_WITHHOLDING,
    VENDOR_AVAILABLE,
    VENDOR_PENDING,
    VENDOR_RECEIVABLE,
    Posting,
    Transfer,
)
from finance.refund_split import Part

REFUND: Final = "refund"
REFUND_PAID: Final = "refund_paid"
REFUND_FAILED: Final = "refund_failed"
REFUND_RELEASED: Final = "refund_released"


@dataclass(frozen=True, slots=True)
class Event:
    """Which refund, when, in which currency."""

    refund_id: UUID
    occurred_at: datetime
    currency: str


@dataclass(frozen=True, slots=True)
class Owner:
    """Where a vendor's money of a sale stands: `free` is None while it is pending, else what is available."""

    sale_entry: UUID
    free: int | None = None


def taking_back(event: Event, part: Part, owner: Owner, *, entry_id: UUID) -> tuple[Posting, int]:
    """Return the entry that takes `part` back, and what of it the vendor owes from now on.

    A settled sale is taken from what the vendor has available as far as it goes; the rest is owed.
    """
    figures = part.figures
    owed = 0 if owner.free is None else max(figures.vendor - max(owner.free, 0), 0)
    source = VENDOR_PENDING if owner.free is None else VENDOR_AVAILABLE
    parts = (
        (source, figures.vendor - owed),
        (VENDOR_RECEIVABLE, owed),
        (PLATFORM_FEE, figures.commission),
        (TAX_PAYABLE_FEE, figures.fee_tax),
        (TAX_PAYABLE_WITHHOLDING, figures.withheld),
        (SHIPPING_PAYABLE, figures.shipping),
        (TAX_PAYABLE_GOODS, figures.tax),
    )
    transfers = tuple(
        Transfer(debit, REFUND_CLEARING, "", event.currency, amount) for debit, amount in parts if amount
    )
    posting = Posting(
        part.vendor, entry_id, REFUND, event.occurred_at, f"refund/{event.refund_id}", transfers,
        reverses=owner.sale_entry,
    )  # fmt: skip
    return posting, owed


def paying(event: Event, vendor: UUID, amount: int, *, provider: str, entry_id: UUID) -> Posting:
    """Return the entry of one book for a refund that reached the buyer through `provider`."""
    transfer = Transfer(REFUND_CLEARING, PSP_CLEARING, provider, event.currency, amount)
    return Posting(
        vendor, entry_id, REFUND_PAID, event.occurred_at, f"refund/{event.refund_id}/paid", (transfer,)
    )


def mirror(
    event: Event, vendor: UUID, taken: Iterable[tuple[str, int]], *, of_entry: UUID, entry_id: UUID
) -> Posting:
    """Return the entry that undoes a refund that failed: `taken` is from which accounts it took how much."""
    transfers = tuple(Transfer(REFUND_CLEARING, kind, "", event.currency, amount) for kind, amount in taken)
    return Posting(
        vendor, entry_id, REFUND_FAILED, event.occurred_at, f"refund/{event.refund_id}/failed", transfers,
        reverses=of_entry, whole=True,
    )  # fmt: skip


def releasing(event: Event, vendor: UUID, *, pending: int, owed: int, entry_id: UUID) -> Posting | None:
    """Return what a refund that failed sets free besides, or nothing.

    `pending` came back to a sale that was settled meanwhile: it goes the way of a settlement. `owed` is what
    the vendor owes after the mirror entry: below zero, a debt was given back that later sales had paid off,
    and that much is the vendor's.
    """
    netted = min(pending, max(owed, 0))
    parts = (
        (VENDOR_PENDING, VENDOR_RECEIVABLE, netted),
        (VENDOR_PENDING, VENDOR_AVAILABLE, pending - netted),
        (VENDOR_RECEIVABLE, VENDOR_AVAILABLE, max(-owed, 0)),
    )
    transfers = tuple(
        Transfer(debit, credit, "", event.currency, amount) for debit, credit, amount in parts if amount
    )
    if not transfers:
        return None
    return Posting(
        vendor, entry_id, REFUND_RELEASED, event.occurred_at, f"refund/{event.refund_id}/released", transfers
    )
