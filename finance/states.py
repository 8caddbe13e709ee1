"""Which status an order and a commission may move to. Pure tables; the database enforces the same ones.

Staying in a state is no move and is always allowed, so that a repeated request changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class OrderStatus(StrEnum):
    """Where an order stands. Lower case on the wire."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    PROCESSING = "processing"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"


class PaymentStatus(StrEnum):
    """What a payment provider said about a payment. Lower case on the wire."""

    PENDING = "pending"
    PROCESSING = "processing"
    APPROVED = "approved"
    DECLINED = "declined"
    ERROR = "error"
    CANCELLED = "cancelled"


class CommissionStatus(StrEnum):
    """Where a commission stands. Upper case on the wire."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    PAID = "PAID"
    DISPUTED = "DISPUTED"
    REFUNDED = "REFUNDED"
    CANCELLED = "CANCELLED"


class CommissionType(StrEnum):
    """Which rate a commission was charged at. Upper case on the wire."""

    STANDARD = "STANDARD"
    PREMIUM = "PREMIUM"
    PROMOTIONAL = "PROMOTIONAL"
    CATEGORY_BASED = "CATEGORY_BASED"


Transitions = Mapping[str, frozenset[str]]

ORDER_TRANSITIONS: Final[Transitions] = {
    OrderStatus.PENDING: frozenset({OrderStatus.CONFIRMED, OrderStatus.CANCELLED}),
    OrderStatus.CONFIRMED: frozenset({OrderStatus.PROCESSING, OrderStatus.CANCELLED}),
    OrderStatus.PROCESSING: frozenset({OrderStatus.SHIPPED, OrderStatus.CANCELLED}),
    OrderStatus.SHIPPED: frozenset({OrderStatus.DELIVERED, OrderStatus.CANCELLED}),
    OrderStatus.DELIVERED: frozenset({OrderStatus.REFUNDED}),
    OrderStatus.CANCELLED: frozenset(),
    OrderStatus.REFUNDED: frozenset(),
}

COMMISSION_TRANSITIONS: Final[Transitions] = {
    CommissionStatus.PENDING: frozenset(
        {CommissionStatus.APPROVED, CommissionStatus.CANCELLED, CommissionStatus.DISPUTED}
    ),
    CommissionStatus.APPROVED: frozenset(
        {CommissionStatus.PAID, CommissionStatus.DISPUTED, CommissionStatus.CANCELLED}
    ),
    CommissionStatus.DISPUTED: frozenset({CommissionStatus.APPROVED, CommissionStatus.CANCELLED}),
    CommissionStatus.PAID: frozenset({CommissionStatus.REFUNDED}),
    CommissionStatus.REFUNDED: frozenset(),
    CommissionStatus.CANCELLED: frozenset(),
}


def may_move(transitions: Transitions, before: str, after: str) -> bool:
    """Return whether a row in state `before` may be set to `after`; unknown states may go nowhere."""
    return before in transitions and (before == after or after in transitions[before])
