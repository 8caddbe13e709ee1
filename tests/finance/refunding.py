"""Sold orders for tests of refunds: placed as the storefront places them, settled as the job settles them."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any
from uuid import UUID

import simplejson
from django.db import transaction
from django.utils import timezone

from finance import ledger, orders
from finance.models import Commission, Order, Refund
from finance.postings import VENDOR_AVAILABLE, VENDOR_PENDING, Posting, Transfer
from mestore.lib import actor, ids, sql
from tests.finance.conftest import ADDRESS, MACHINE, form, item, payment

BY = actor.system("test")
_NUMBERS = iter(range(1, 10**9))
_SUMS = """
SELECT d.kind, c.kind, t.amount FROM ledger_transfer t
JOIN ledger_account d ON d.book_id = t.book_id AND d.id = t.debit
JOIN ledger_account c ON c.book_id = t.book_id AND c.id = t.credit
WHERE t.book_id = %s AND t.phase IN ('single', 'post')
"""


def place(*vendors: UUID, unit_price: str = "100000.00", status: str = "", **changes: Any) -> Order:
    """A paid order with one item per vendor; `status` moves it on as the state machine would."""
    body = {
        "currency": "COP", "items": [item(vendor, unit_price) for vendor in vendors], "payment": payment(),
        **ADDRESS, **changes,
    }  # fmt: skip
    body = {name: value for name, value in body.items() if value is not ...}
    answer = orders.place(form(body), key=f"place-{next(_NUMBERS)}", by=MACHINE)
    order = Order.objects.get(pk=simplejson.loads(answer.body)["data"]["id"])
    path = ["processing", "shipped", "delivered"]
    for step in path[: path.index(status) + 1] if status in path else []:
        Order.objects.filter(pk=order.pk).update(status=step, tracking_number="T-1")
    order.refresh_from_db()
    return order


def settle(order: Order) -> None:
    """Make the money of an order's sales available, one entry per vendor."""
    with transaction.atomic():
        for row in Commission.objects.filter(order=order).order_by("pk"):
            amount = net(row.vendor_id)[VENDOR_PENDING]
            posting = Posting(
                row.vendor_id, ids.uuid7(), "settlement", timezone.now(), f"test-settlement/{row.pk}",
                (Transfer(VENDOR_PENDING, VENDOR_AVAILABLE, "", row.currency, amount),),
            )  # fmt: skip
            if amount:
                ledger.post_many([posting], by=BY)
            Commission.objects.filter(pk=row.pk).update(status="APPROVED")
            Commission.objects.filter(pk=row.pk).update(status="PAID", settled_entry_id=posting.entry_id)


def spend(book: UUID, amount: int, currency: str = "COP") -> None:
    """Pay some of what a vendor has available out."""
    posting = Posting(
        book, ids.uuid7(), "payout", timezone.now(), f"test-payout/{ids.uuid7()}",
        (Transfer(VENDOR_AVAILABLE, "payout_in_transit", "", currency, amount),),
    )  # fmt: skip
    with transaction.atomic():
        ledger.post_many([posting], by=BY)


def net(book: UUID) -> Counter[str]:
    """What each kind of account of a book holds, credits less debits, summed up transfer by transfer."""
    found: Counter[str] = Counter()
    for debit, credit, amount in sql.fetch_all(_SUMS, [book]):
        found[debit] -= amount
        found[credit] += amount
    return found


def fresh(row: Any) -> Any:
    """The row as it is now."""
    return type(row)._default_manager.get(pk=row.pk)


def refunds_of(order: Order) -> list[Refund]:
    return list(Refund.objects.filter(order=order).order_by("id"))


def hours_ago(hours: int) -> dt.datetime:
    return timezone.now() - dt.timedelta(hours=hours)
