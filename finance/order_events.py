"""What is recorded, and told to the storefront, when an order moves."""

from __future__ import annotations

from typing import Any, Final

from finance import outbound
from finance.models import Order
from finance.states import OrderStatus
from mestore.lib.actor import Actor
from monitoring import audit, events

#: Which event the storefront gets for the state that an order comes to.
OUTWARD: Final = {
    OrderStatus.CONFIRMED: "order.confirmed",
    OrderStatus.PROCESSING: "order.processing",
    OrderStatus.SHIPPED: "order.shipped",
    OrderStatus.DELIVERED: "order.delivered",
    OrderStatus.CANCELLED: "order.cancelled",
    OrderStatus.REFUNDED: "order.refunded",
}


def moved(
    order: Order, *, before: str, by: Actor, note: str = "", told: dict[str, Any] | None = None
) -> None:
    """Record in the current transaction that `order` came from `before` to the state it has now.

    `note` is free text and kept sealed; `told` is kept in clear.
    """
    audit.record(
        events.ORDER_MOVED, by=by, target=("order", str(order.pk)),
        data={"before": before, "after": order.status, **(told or {})},
        personal={"note": note} if note else None,
    )  # fmt: skip
    outbound.emit(
        OUTWARD[OrderStatus(order.status)],
        subject=("order", str(order.pk)),
        data={
            "order_id": order.pk, "order_number": order.order_number, "status": order.status,
            "external_reference": order.external_reference, "tracking_number": order.tracking_number or None,
            "courier": order.courier or None,
        },
    )  # fmt: skip
