"""What the tests of orders and commissions share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from accounts.models import User
from finance import order_form
from mestore.lib import actor
from mestore.lib.http import dumps, parse_json
from tests.factories.accounts import VendorFactory

ADDRESS = {
    "shipping_name": "Ana Gómez",
    "shipping_phone": "+573001234567",
    "shipping_address": "Calle 10 # 5-51",
    "shipping_city": "Medellín",
    "shipping_state": "Antioquia",
}
MACHINE = actor.Actor(kind="machine", id="0190a0a0-0000-7000-8000-000000000001", role="SYSTEM")


@pytest.fixture
def vendor(db: None) -> User:
    return VendorFactory.create()


@pytest.fixture
def order_body(vendor: User) -> Callable[..., dict[str, Any]]:
    """Make the body of an order of one item for COP 100,000, paid; keywords replace members."""

    def make(**changes: Any) -> dict[str, Any]:
        body = {"currency": "COP", "items": [item(vendor.pk)], "payment": payment(), **ADDRESS, **changes}
        return {name: value for name, value in body.items() if value is not ...}

    return make


def item(vendor_id: UUID, unit_price: Any = "100000.00", quantity: Any = 1, **changes: Any) -> dict[str, Any]:
    """One item of an order's body."""
    return {
        "product_id": "sku-1",
        "vendor_id": str(vendor_id),
        "unit_price": unit_price,
        "quantity": quantity,
    } | changes


def payment(**changes: Any) -> dict[str, Any]:
    """An approved payment."""
    return {"provider": "testpay", "reference": "tx-1", "status": "approved"} | changes


def form(body: dict[str, Any]) -> order_form.OrderForm:
    """Read a body as it would be read from the wire."""
    return order_form.read(parse_json(dumps(body)))
