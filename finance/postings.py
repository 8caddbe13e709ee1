"""What is posted when something happens to money. Pure: the ledger (`ledger.py`) writes what is built here.

A posting is one entry in one book: the vendor whose business it is. Each transfer moves an amount from its
debit account to its credit account, so a posting cannot be out of balance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

#: The platform's own book; a vendor's book has the vendor's user id.
PLATFORM_BOOK: Final = UUID(int=0)

# Kinds of accounts. What others owe us or hold for us is debited, what we owe is credited.
PSP_CLEARING: Final = "psp_clearing"
PLATFORM_BANK: Final = "platform_bank"
VENDOR_PENDING: Final = "vendor_pending"
VENDOR_AVAILABLE: Final = "vendor_available"
#: What a vendor owes: money that went back to buyers after it had been paid out.
VENDOR_RECEIVABLE: Final = "vendor_receivable"
PAYOUT_IN_TRANSIT: Final = "payout_in_transit"
PLATFORM_FEE: Final = "platform_fee"
SHIPPING_PAYABLE: Final = "shipping_payable"
TAX_PAYABLE_GOODS: Final = "tax_payable:goods"
TAX_PAYABLE_FEE: Final = "tax_payable:fee"
TAX_PAYABLE_WITHHOLDING: Final = "tax_payable:withholding"
REFUND_CLEARING: Final = "refund_clearing"
CHARGEBACK: Final = "chargeback"
ROUNDING: Final = "rounding"
SUSPENSE: Final = "suspense"

# Phases of a transfer: at once, or reserved first and then posted or given up.
SINGLE: Final = "single"
PENDING: Final = "pending"
POST: Final = "post"
VOID: Final = "void"

SALE: Final = "sale"


class Transfer(NamedTuple):
    """So many minor units from one kind of account to another. `provider` says whose clearing account.

    `phase` "pending" reserves; "post" moves at most what the entry `reserved_by` reserved between the same
    accounts and frees the rest of it; "void" frees all of it. A reservation ends once.
    """

    debit: str
    credit: str
    provider: str
    currency: str
    amount: int
    phase: str = SINGLE
    reserved_by: UUID | None = None


@dataclass(frozen=True, slots=True)
class Posting:
    """One ledger entry to be: `source` is the natural key of what happened, once per book.

    `reverses` names an entry of the same book that this one takes back, wholly (once) or in part; the ledger
    refuses to take back more than that entry moved.
    """

    book: UUID
    entry_id: UUID
    kind: str
    occurred_at: datetime
    source: str
    transfers: Sequence[Transfer]
    reverses: UUID | None = None
    whole: bool = False

    @property
    def control_total(self) -> int:
        """The sum of all amounts: what the database compares at commit."""
        return sum(transfer.amount for transfer in self.transfers)
