"""The row of an order, locked, and the one place that moves its status.

The database's guard has the last word: the status is set by one statement whose condition is the status that
was seen, and a move that the state machine does not have is refused by its trigger as well.
"""

from __future__ import annotations

from typing import Any, Final

from django.db.models import F
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from finance.models import Order
from finance.states import ORDER_TRANSITIONS, OrderStatus, may_move
from mestore.lib import errors

LARGEST_ID: Final = 2**63 - 1


class OrderNotFound(errors.NotFound):
    code = "ORDER_NOT_FOUND"
    message = _("Order not found.")


class OrderTransitionRefused(errors.Conflict):
    """The state machine has no such move, or somebody else moved the order first."""

    code = "ORDER_TRANSITION_REFUSED"
    message = _("The order's state does not allow this.")

    def __init__(self, before: str, after: str) -> None:
        super().__init__(extra={"from": before, "to": after, "allowed": allowed_from(before)})


def allowed_from(status: str) -> list[str]:
    """Return the states to which an order in `status` may move."""
    return sorted(ORDER_TRANSITIONS.get(status, ()))


def lock(order_id: int) -> Order:
    """Return the order, locked until the transaction ends: the first lock of everything that moves its money.

    Raises `OrderNotFound`.
    """
    order = None
    if 0 < order_id <= LARGEST_ID:
        order = Order.objects.select_for_update(no_key=True).filter(pk=order_id).first()
    if order is None:
        raise OrderNotFound
    return order


def find(order_id: int) -> Order:
    """Return the order as it is, for looking only. Raises `OrderNotFound`."""
    found = Order.objects.filter(pk=order_id).first() if 0 < order_id <= LARGEST_ID else None
    if found is None:
        raise OrderNotFound
    return found


def move(order: Order, status: OrderStatus, **fields: Any) -> None:
    """Move a locked order to `status` and set `fields` with it. Raises `OrderTransitionRefused`."""
    before = order.status
    if before == status or not may_move(ORDER_TRANSITIONS, before, status):
        raise OrderTransitionRefused(before, status)
    rows = Order.objects.filter(pk=order.pk, status=before)
    if not rows.update(status=status.value, updated_at=Now(), **fields):
        raise OrderTransitionRefused(before, status)
    order.status = status.value
    for name, value in fields.items():
        if not isinstance(value, F):
            setattr(order, name, value)
