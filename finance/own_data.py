"""What is kept about what a person bought and sold, for the archive that they may ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from finance.models import Commission, Order, OrderItem, OrderPayment
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


def register_sections() -> None:
    """Make the sections known; called when Django starts."""
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
