"""What is kept about what a person bought and sold, for the archive that they may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from finance.models import Commission, Order, OrderItem, OrderPayment
from finance.money import Money
from mestore.lib.own_data import Row, Section, register

PAGE = 200
_ORDER = (
    "id", "order_number", "currency", "status", "shipping_name", "shipping_phone", "shipping_email",
    "shipping_address", "shipping_city", "shipping_state", "shipping_postal_code", "shipping_country",
    "notes", "placed_at", "confirmed_at", "shipped_at", "delivered_at", "cancelled_at",
)  # fmt: skip
_AMOUNTS = ("subtotal", "tax", "shipping", "discount", "total")
_SALE = (
    "id", "commission_number", "order__order_number", "currency", "order_amount_minor", "rate_ppm",
    "commission_amount_minor", "vendor_amount_minor", "commission_type", "status", "calculated_at", "paid_at",
)  # fmt: skip


def orders(person_id: UUID) -> Iterator[Row]:
    """Yield what the person bought, oldest first, with lines and payments: three statements a page."""
    after = 0
    while True:
        chosen = Order.objects.filter(buyer_id=person_id, id__gt=after).order_by("id")
        page = list(chosen.values(*_ORDER, *(f"{name}_minor" for name in _AMOUNTS))[:PAGE])
        if not page:
            return
        keys = [row["id"] for row in page]
        items, payments = _items(keys), _payments(keys)
        for row in page:
            currency = row["currency"]
            for name in _AMOUNTS:
                row[name] = Money(row.pop(f"{name}_minor"), currency).decimal
            lines = [_priced(line, currency) for line in items.get(row["id"], [])]
            paid = [_priced(line, currency) for line in payments.get(row["id"], [])]
            yield {**row, "items": lines, "payments": paid}
        after = keys[-1]


def sales(person_id: UUID) -> Iterator[Row]:
    """Yield what the person sold: of each order the amount, the commission and what is theirs; no buyer."""
    rows = Commission.objects.filter(vendor_id=person_id).order_by("id").values(*_SALE)
    for row in rows.iterator(chunk_size=PAGE):
        row["order_number"] = row.pop("order__order_number")
        yield _priced(row, row["currency"])


def register_sections() -> None:
    """Make the sections known; called when Django starts."""
    register(Section("orders", "what was bought, with delivery data and payments", orders))
    register(Section("sales", "what was sold: amounts and commissions", sales))


def _items(order_ids: list[int]) -> dict[int, list[dict[str, Any]]]:
    rows = OrderItem.objects.filter(order_id__in=order_ids).order_by("order_id", "line")
    return _by_order(
        rows.values("order_id", "line", "product_id", "name", "category", "quantity", "unit_price_minor")
    )


def _payments(order_ids: list[int]) -> dict[int, list[dict[str, Any]]]:
    rows = OrderPayment.objects.filter(order_id__in=order_ids).order_by("order_id", "sequence")
    return _by_order(
        rows.values("order_id", "method", "installments", "amount_minor", "provider", "reference", "status")
    )


def _by_order(rows: Any) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row.pop("order_id"), []).append(row)
    return found


def _priced(row: dict[str, Any], currency: str) -> dict[str, Any]:
    """Amounts in the currency's own unit instead of minor units."""
    return {
        name.removesuffix("_minor"): Money(value, currency).decimal if name.endswith("_minor") else value
        for name, value in row.items()
    }
