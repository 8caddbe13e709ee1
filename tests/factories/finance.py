"""Orders, commissions and postings for tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from factory.declarations import LazyAttribute, Sequence, SubFactory
from factory.django import DjangoModelFactory

from finance import numbers, sale_postings
from finance.models import Commission, Order, OrderItem
from finance.models.orders import STOREFRONT
from finance.money import commission_of
from finance.postings import Posting
from mestore.lib.ids import uuid7
from tests.factories.accounts import VendorFactory

MOMENT = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)
PROVIDER = "testpay"


class OrderFactory(DjangoModelFactory[Order]):
    class Meta:
        model = Order

    order_number = LazyAttribute(lambda made: numbers.order_number(made.placed_at))
    source = STOREFRONT
    external_reference = Sequence(lambda n: f"cart-{n}")
    currency = "COP"
    status = "confirmed"
    subtotal_minor = 10_000_000
    tax_minor = 1_900_000
    shipping_minor = 1_500_000
    total_minor = LazyAttribute(lambda made: made.subtotal_minor + made.tax_minor + made.shipping_minor)
    placed_at = MOMENT


class OrderItemFactory(DjangoModelFactory[OrderItem]):
    class Meta:
        model = OrderItem

    order = SubFactory(OrderFactory)
    line = 1
    product_id = Sequence(lambda n: f"product-{n}")
    vendor = SubFactory(VendorFactory)
    unit_price_minor = 10_000_000
    quantity = 1
    line_total_minor = LazyAttribute(lambda made: made.unit_price_minor * made.quantity)


class CommissionFactory(DjangoModelFactory[Commission]):
    class Meta:
        model = Commission

    commission_number = LazyAttribute(lambda made: numbers.commission_number(made.calculated_at))
    order = SubFactory(OrderFactory)
    vendor = SubFactory(VendorFactory)
    currency = "COP"
    order_amount_minor = 10_000_000
    rate_ppm = 50_000
    commission_amount_minor = 500_000
    vendor_amount_minor = LazyAttribute(lambda made: made.order_amount_minor - made.commission_amount_minor)
    calculated_at = MOMENT


def sale(book: UUID, order_id: int = 1, **changes: Any) -> Posting:
    """The posting of a sale of COP 100,000.00 with 5 % commission, shipping and IVA."""
    amounts: dict[str, Any] = {
        "goods": 10_000_000,
        "shipping": 1_500_000,
        "tax": 1_900_000,
        "rate_ppm": 50_000,
    }
    amounts |= {name: changes.pop(name) for name in list(changes) if name in amounts}
    amounts["commission"] = commission_of(amounts["goods"], amounts["rate_ppm"])
    figures = sale_postings.VendorSale(
        vendor=book, currency=changes.pop("currency", "COP"), base=amounts["goods"], **amounts
    )
    values: dict[str, Any] = {
        "entry_id": uuid7(), "order_id": order_id, "occurred_at": MOMENT, "provider": PROVIDER,
    }  # fmt: skip
    return sale_postings.sale_posting(figures, **(values | changes))
