"""Which status each thing of money may move to. Pure tables; the database enforces the same ones.

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


class ItemStatus(StrEnum):
    """How far a vendor is with its line of an order. Lower case on the wire."""

    PENDING = "pending"
    PREPARING = "preparing"
    READY_TO_SHIP = "ready_to_ship"


class RuleStatus(StrEnum):
    """Where a commission rule stands."""

    PROPOSED = "PROPOSED"
    ACTIVE = "ACTIVE"
    WITHDRAWN = "WITHDRAWN"


class RefundStatus(StrEnum):
    """Where a refund stands: in our books, with the buyer, or given up by the provider."""

    POSTED = "posted"
    PAID = "paid"
    FAILED = "failed"


class BankAccountType(StrEnum):
    """Which kind of account. Upper case on the wire."""

    SAVINGS = "AHORROS"
    CHECKING = "CORRIENTE"


class PayoutOrigin(StrEnum):
    """How a payout came about."""

    API = "api"
    LEGACY = "legacy"
    CONSOLE = "console"
    BATCH = "batch"


class PayoutState(StrEnum):
    """Where a payout stands. Lower case on the wire; `LEGACY_PAYOUT` has the old words."""

    REQUESTED = "requested"
    SCREENED = "screened"
    HELD = "held"
    APPROVED = "approved"
    SUBMITTING = "submitting"
    IN_TRANSIT = "in_transit"
    UNKNOWN = "unknown"
    PAID = "paid"
    RETURNED = "returned"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


class DisputeStatus(StrEnum):
    """Where a dispute stands. The words of the contract."""

    OPEN = "ABIERTO"
    IN_REVIEW = "EN_REVISION"
    RESOLVED = "RESUELTO"
    REFUSED = "RECHAZADO"


class ReportKind(StrEnum):
    """Whose report it is."""

    PROVIDER = "provider"
    BANK = "bank"


class RecordKind(StrEnum):
    """What a line of a report tells."""

    PAYMENT = "payment"
    REFUND = "refund"
    CHARGEBACK = "chargeback"
    PAYOUT = "payout"
    RETURN = "return"
    FEE = "fee"
    SWEEP = "sweep"


class CaseKind(StrEnum):
    """Which difference a reconciliation case is about."""

    MISSING_IN_LEDGER = "missing_in_ledger"
    MISSING_AT_PROVIDER = "missing_at_provider"
    MISSING_AT_BANK = "missing_at_bank"
    AMOUNT_DIFFERS = "amount_differs"
    CURRENCY_DIFFERS = "currency_differs"
    STATE_DIFFERS = "state_differs"
    REPORTED_TWICE = "reported_twice"


class CaseState(StrEnum):
    """Where a reconciliation case stands."""

    OPEN = "open"
    EXPLAINED = "explained"
    CORRECTED = "corrected"
    VANISHED = "vanished"


class DeliveryState(StrEnum):
    """Where the delivery of an event stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


ACTIVE_DISPUTES: Final = (DisputeStatus.OPEN, DisputeStatus.IN_REVIEW)

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

ITEM_TRANSITIONS: Final[Transitions] = {
    ItemStatus.PENDING: frozenset({ItemStatus.PREPARING, ItemStatus.READY_TO_SHIP}),
    ItemStatus.PREPARING: frozenset({ItemStatus.READY_TO_SHIP}),
    ItemStatus.READY_TO_SHIP: frozenset({ItemStatus.PREPARING}),
}

RULE_TRANSITIONS: Final[Transitions] = {
    RuleStatus.PROPOSED: frozenset({RuleStatus.ACTIVE, RuleStatus.WITHDRAWN}),
    RuleStatus.ACTIVE: frozenset({RuleStatus.WITHDRAWN}),
    RuleStatus.WITHDRAWN: frozenset(),
}

REFUND_TRANSITIONS: Final[Transitions] = {
    RefundStatus.POSTED: frozenset({RefundStatus.PAID, RefundStatus.FAILED}),
    RefundStatus.PAID: frozenset(),
    RefundStatus.FAILED: frozenset(),
}

PAYOUT_TRANSITIONS: Final[Transitions] = {
    PayoutState.REQUESTED: frozenset(
        {PayoutState.SCREENED, PayoutState.HELD, PayoutState.REJECTED, PayoutState.CANCELLED}
    ),
    PayoutState.SCREENED: frozenset(
        {PayoutState.APPROVED, PayoutState.HELD, PayoutState.REJECTED, PayoutState.CANCELLED}
    ),
    PayoutState.HELD: frozenset({PayoutState.SCREENED, PayoutState.REJECTED, PayoutState.CANCELLED}),
    # Back to screened when its approvals are too old or no longer those of people who may.
    PayoutState.APPROVED: frozenset(
        {
            PayoutState.SUBMITTING,
            PayoutState.SCREENED,
            PayoutState.HELD,
            PayoutState.REJECTED,
            PayoutState.CANCELLED,
        }
    ),
    PayoutState.SUBMITTING: frozenset({PayoutState.IN_TRANSIT, PayoutState.UNKNOWN, PayoutState.REJECTED}),
    PayoutState.IN_TRANSIT: frozenset({PayoutState.PAID, PayoutState.RETURNED, PayoutState.UNKNOWN}),
    PayoutState.UNKNOWN: frozenset(
        {PayoutState.IN_TRANSIT, PayoutState.PAID, PayoutState.RETURNED, PayoutState.REJECTED}
    ),
    PayoutState.PAID: frozenset({PayoutState.RETURNED}),
    PayoutState.RETURNED: frozenset(),
    PayoutState.REJECTED: frozenset(),
    PayoutState.CANCELLED: frozenset(),
}
#: The old contract's four words.
LEGACY_PAYOUT: Final[Mapping[PayoutState, str]] = {
    PayoutState.REQUESTED: "SOLICITADO",
    PayoutState.SCREENED: "SOLICITADO",
    PayoutState.HELD: "SOLICITADO",
    PayoutState.APPROVED: "PROCESANDO",
    PayoutState.SUBMITTING: "PROCESANDO",
    PayoutState.IN_TRANSIT: "PROCESANDO",
    PayoutState.UNKNOWN: "PROCESANDO",
    PayoutState.PAID: "PAGADO",
    PayoutState.RETURNED: "RECHAZADO",
    PayoutState.REJECTED: "RECHAZADO",
    PayoutState.CANCELLED: "RECHAZADO",
}

DISPUTE_TRANSITIONS: Final[Transitions] = {
    DisputeStatus.OPEN: frozenset({DisputeStatus.IN_REVIEW, DisputeStatus.RESOLVED, DisputeStatus.REFUSED}),
    DisputeStatus.IN_REVIEW: frozenset({DisputeStatus.RESOLVED, DisputeStatus.REFUSED}),
    DisputeStatus.RESOLVED: frozenset(),
    DisputeStatus.REFUSED: frozenset(),
}


def may_move(transitions: Transitions, before: str, after: str) -> bool:
    """Return whether a row in state `before` may be set to `after`; unknown states may go nowhere."""
    return before in transitions and (before == after or after in transitions[before])
