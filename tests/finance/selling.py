"""Sold orders with their ledger entries, made as settlements, statements and verification find them."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from accounts.models import User
from finance import ledger
from finance.models import Commission
from finance.postings import (
    PAYOUT_IN_TRANSIT,
    PENDING,
    POST,
    PSP_CLEARING,
    VENDOR_AVAILABLE,
    VENDOR_PENDING,
    Posting,
    Transfer,
)
from mestore.lib import actor, ids
from mestore.lib.actor import Actor
from tests.factories.finance import CommissionFactory, OrderFactory, sale

BY = actor.system("test")
#: What one of these sales leaves pending: goods less commission, in minor units.
NET = 9_500_000


def sold(vendor: User, *, days_ago: int = 30, status: str = "APPROVED", **changes: Any) -> Commission:
    """One confirmed order of COP 100,000.00 with its entry and its commission of 5 %."""
    at = changes.pop("at", None) or timezone.now() - dt.timedelta(days=days_ago)
    currency = changes.pop("currency", "COP")
    order = OrderFactory.create(
        placed_at=at, confirmed_at=at, currency=currency, delivered_at=changes.pop("delivered_at", None)
    )
    posting = sale(vendor.pk, order.pk, occurred_at=at, currency=currency)
    with transaction.atomic():
        ledger.post_many([posting], by=BY)
        return CommissionFactory.create(
            order=order, vendor=vendor, entry_id=posting.entry_id, calculated_at=at, status=status,
            currency=currency, **changes,
        )  # fmt: skip


def fund(book: UUID, amount: int, *, source: str = "", currency: str = "COP", by: Actor = BY) -> Posting:
    """Put money into what a vendor has available, in an entry of its own."""
    return move(book, PSP_CLEARING, VENDOR_AVAILABLE, amount, source=source, currency=currency, by=by)


def move(
    book: UUID, debit: str, credit: str, amount: int, *, source: str = "", kind: str = "test",
    currency: str = "COP", occurred_at: dt.datetime | None = None, by: Actor = BY, **values: Any,
) -> Posting:  # fmt: skip
    """Post one transfer; keywords go to the posting."""
    provider = "testpay" if PSP_CLEARING in {debit, credit} else ""
    posting = Posting(
        book, ids.uuid7(), kind, occurred_at or timezone.now(), source or f"test/{ids.uuid7()}",
        (Transfer(debit, credit, provider, currency, amount),), **values,
    )  # fmt: skip
    with transaction.atomic():
        ledger.post_many([posting], by=by)
    return posting


def refund(commission: Commission, amount: int, *, debit: str = VENDOR_PENDING) -> Posting:
    """Take a part of a sale back, as a refund does."""
    return move(
        commission.vendor_id, debit, "refund_clearing", amount, kind="refund", reverses=commission.entry_id
    )


def reserve(book: UUID, amount: int, *, currency: str = "COP") -> Posting:
    """Hold an amount of what a vendor has available back, as a payout does."""
    return _available_to_transit(book, amount, currency, PENDING, None)


def resolve(book: UUID, held: Posting, amount: int, *, phase: str = POST) -> Posting:
    """Post so much of a reservation, or give it up (`phase` "void")."""
    return _available_to_transit(book, amount, held.transfers[0].currency, phase, held.entry_id)


def _available_to_transit(
    book: UUID, amount: int, currency: str, phase: str, reserved_by: UUID | None
) -> Posting:
    transfer = Transfer(VENDOR_AVAILABLE, PAYOUT_IN_TRANSIT, "", currency, amount, phase, reserved_by)
    posting = Posting(book, ids.uuid7(), "test", timezone.now(), f"test/{ids.uuid7()}", (transfer,))
    with transaction.atomic():
        ledger.post_many([posting], by=BY)
    return posting
