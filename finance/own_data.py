"""What is kept about what a person bought, sold and was paid, for the archive that they may ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from django.db.models import Prefetch

from finance.models import (
    BankAccount,
    Commission,
    Order,
    OrderItem,
    OrderPayment,
    Payout,
    PayoutChange,
    Refund,
    RefundPart,
    StatementLine,
)
from finance.money import Money
from mestore.lib.own_data import Row, Section, register

PAGE = 200
_ORDER = (
    "id", "order_number", "currency", "status", "shipping_name", "shipping_phone", "shipping_email",
    "shipping_address", "shipping_city", "shipping_state", "shipping_postal_code", "shipping_country",
    "notes", "placed_at", "confirmed_at", "shipped_at", "delivered_at", "cancelled_at", "subtotal_minor",
    "tax_minor", "shipping_minor", "discount_minor", "total_minor",
)  # fmt: skip
_ITEM = ("line", "product_id", "name", "category", "quantity", "unit_price_minor")
_PAYMENT = ("method", "installments", "amount_minor", "provider", "reference", "status")
_SALE = (
    "id", "commission_number", "currency", "order_amount_minor", "rate_ppm", "commission_amount_minor",
    "vendor_amount_minor", "commission_type", "status", "calculated_at", "paid_at",
)  # fmt: skip

_ACCOUNT = (
    "id", "currency", "bank_name", "bank_code", "account_type", "holder_name", "holder_document_type",
    "created_at", "usable_from", "removed_at",
)  # fmt: skip
_PAYOUT = (
    "id", "payout_number", "currency", "amount_minor", "state", "origin", "observations", "requested_at",
    "approved_at", "submitted_at", "paid_at", "closed_at",
)  # fmt: skip
_REFUND = (
    "refund_number", "currency", "amount_minor", "status", "reason", "provider", "provider_reference",
    "created_at", "paid_at",
)  # fmt: skip
_REFUND_PART = (
    "goods_minor", "tax_minor", "shipping_minor", "commission_minor", "fee_tax_minor", "withheld_minor",
    "owed_minor",
)  # fmt: skip
_MOVEMENT = ("currency", "entry_id", "occurred_at", "recorded_at", "amount_minor", "balance_minor")
_CHANGES = Prefetch("changes", PayoutChange.objects.order_by("id"))


def orders(person_id: UUID) -> Iterator[Row]:
    """Yield what the person bought, oldest first, with lines and payments: three statements a page."""
    after = 0
    while True:
        page = list(Order.objects.filter(buyer_id=person_id, id__gt=after).order_by("id")[:PAGE])
        if not page:
            return
        keys = [order.pk for order in page]
        items = _by_order(OrderItem.objects.filter(order_id__in=keys).order_by("order_id", "line"))
        payments = _by_order(OrderPayment.objects.filter(order_id__in=keys).order_by("order_id", "sequence"))
        for order in page:
            lines = [_told(line, _ITEM, order.currency) for line in items.get(order.pk, [])]
            paid = [_told(line, _PAYMENT, order.currency) for line in payments.get(order.pk, [])]
            yield {**_told(order, _ORDER, order.currency), "items": lines, "payments": paid}
        after = keys[-1]


def sales(person_id: UUID) -> Iterator[Row]:
    """Yield what the person sold: of each order the amount, the commission and what is theirs; no buyer."""
    rows = Commission.objects.filter(vendor_id=person_id).order_by("id").select_related("order")
    for row in rows.iterator(chunk_size=PAGE):
        yield {"order_number": row.order.order_number, **_told(row, _SALE, row.currency)}


def bank_accounts(person_id: UUID) -> Iterator[Row]:
    """Yield the accounts that the person is or was paid to: of a number the last four digits, as everywhere.

    Whole numbers leave the house in a bank file only (docs/security-policy.md); the person knows theirs.
    """
    rows = BankAccount.objects.filter(vendor_id=person_id).order_by("id")
    for row in rows.iterator(chunk_size=PAGE):
        document = row.holder_document or ""
        yield {
            "account_number": f"****{row.last_four}",
            "holder_document": f"****{document[-4:]}" if document else "",
            **{name: getattr(row, name) for name in _ACCOUNT},
        }


def payouts(person_id: UUID) -> Iterator[Row]:
    """Yield what the person was or is to be paid, oldest first, with each step; two statements a page."""
    last = UUID(int=0)
    while True:
        rows = Payout.objects.filter(vendor_id=person_id, id__gt=last).select_related("bank_account")
        page = list(rows.prefetch_related(_CHANGES).order_by("id")[:PAGE])
        if not page:
            return
        for row in page:
            steps = [{"state": one.after, "changed_at": one.changed_at} for one in row.changes.all()]
            account = {
                "bank_name": row.bank_account.bank_name,
                "account": f"****{row.bank_account.last_four}",
            }
            yield {**_told(row, _PAYOUT, row.currency), "paid_to": account, "changes": steps}
        last = page[-1].pk


def refunds_received(person_id: UUID) -> Iterator[Row]:
    """Yield what the person got back as a buyer, or is to get back."""
    rows = Refund.objects.filter(order__buyer_id=person_id).order_by("id").select_related("order")
    for row in rows.iterator(chunk_size=PAGE):
        yield {"order_number": row.order.order_number, **_told(row, _REFUND, row.currency)}


def refunds_given(person_id: UUID) -> Iterator[Row]:
    """Yield what went back of the person's own sales: their part of each refund; no buyer."""
    rows = RefundPart.objects.filter(vendor_id=person_id).order_by("id").select_related("refund__order")
    for row in rows.iterator(chunk_size=PAGE):
        refund = row.refund
        yield {
            "order_number": refund.order.order_number, "refund_number": refund.refund_number,
            "currency": refund.currency, "status": refund.status, "created_at": refund.created_at,
            **_told(row, _REFUND_PART, refund.currency),
        }  # fmt: skip


def statement_lines(person_id: UUID) -> Iterator[Row]:
    """Yield every numbered movement of what the person has available, by currency and number."""
    rows = StatementLine.objects.filter(book_id=person_id).order_by("account_id", "seq")
    for row in rows.iterator(chunk_size=PAGE):
        yield {"number": row.seq, **_told(row, _MOVEMENT, row.currency)}


def register_sections() -> None:
    """Make the sections known; called when Django starts."""
    register(Section("bank_accounts", "where money is paid to; numbers are masked", bank_accounts))
    register(Section("payouts", "what was asked to be paid, and each step of it", payouts))
    register(Section("refunds_given", "what went back of what was sold", refunds_given))
    register(Section("refunds_received", "what came back of what was bought", refunds_received))
    register(Section("statement_lines", "every numbered movement of what is available", statement_lines))
    register(Section("orders", "what was bought, with delivery data and payments", orders))
    register(Section("sales", "what was sold: amounts and commissions", sales))


def _by_order(rows: Iterable[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for row in rows:
        found.setdefault(row.order_id, []).append(row)
    return found


def _told(row: Any, names: tuple[str, ...], currency: str) -> dict[str, Any]:
    """Read columns by attribute, so that sealed ones are opened; amounts leave in the currency's own unit."""
    return {
        name.removesuffix("_minor"): (
            Money(getattr(row, name), currency).decimal if name.endswith("_minor") else getattr(row, name)
        )
        for name in names
    }
