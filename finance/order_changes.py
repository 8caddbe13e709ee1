"""Moving an order: confirmed, processed, shipped, delivered, cancelled. Each move at most once.

Whoever finds the order in the wanted state already changes nothing. Of two different moves at the same moment
one happens; the other is told that the state does not allow it any more.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.approvals import AskedAlready
from finance import (
    order_events,
    order_locks,
    refund_approvals,
    refund_claims,
    refund_sales,
    refunds,
    sales,
    transactions,
)
from finance.models import Order, OrderItem, OrderPayment, Refund
from finance.order_locks import OrderNotFound, OrderTransitionRefused
from finance.refunds import Wish
from finance.states import ITEM_TRANSITIONS, ItemStatus, OrderStatus, PaymentStatus, may_move
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import audit, events

#: From here a buyer may cancel; what is under way is stopped by the staff or the storefront.
BUYER_CANCELS: Final = frozenset({OrderStatus.PENDING, OrderStatus.CONFIRMED, OrderStatus.PROCESSING})
_VENDOR_WORKS: Final = frozenset({OrderStatus.CONFIRMED, OrderStatus.PROCESSING})
_MOMENTS: Final = {
    OrderStatus.CONFIRMED: "confirmed_at",
    OrderStatus.SHIPPED: "shipped_at",
    OrderStatus.DELIVERED: "delivered_at",
    OrderStatus.CANCELLED: "cancelled_at",
}


class TrackingMissing(errors.Unprocessable):
    code = "TRACKING_NUMBER_REQUIRED"
    message = _("A shipped order needs a tracking number.")

    def __init__(self) -> None:
        super().__init__(
            details=[errors.FieldError("body -> tracking_number", TrackingMissing.message, "missing")]
        )


class PaymentMissing(errors.Unprocessable):
    code = "PAYMENT_REQUIRED"
    message = _("An order is confirmed with the payment that a provider approved.")

    def __init__(self) -> None:
        super().__init__(details=[errors.FieldError("body -> payment", PaymentMissing.message, "missing")])


class RefundInstead(errors.Conflict):
    code = "REFUND_REQUIRED"
    message = _("An order becomes refunded by refunding all of it.")


class ItemNotFound(errors.NotFound):
    message = _("There is no such item in this order.")


class ItemTransitionRefused(errors.Conflict):
    code = "ITEM_TRANSITION_REFUSED"
    message = _("The order or the item is not in a state that allows this.")


class RefundState(StrEnum):
    """What a cancellation means for the buyer's money. The words of the contract."""

    PROCESSING = "processing"
    NOT_REQUIRED = "not_required"
    NOT_REQUESTED = "not_requested"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Shipment:
    """How a parcel can be followed."""

    tracking_number: str = ""
    courier: str = ""
    estimated_delivery: dt.date | None = None

    def columns(self) -> dict[str, Any]:
        """The columns to set: what is empty stays as it is."""
        given = {
            "tracking_number": self.tracking_number, "courier": self.courier,
            "estimated_delivery": self.estimated_delivery,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True, slots=True)
class Paid:
    """What the provider that took the buyer's money said."""

    provider: str
    reference: str
    method: str = ""
    installments: int = 1


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A cancelled order, and what happens to the buyer's money."""

    order: Order
    refund_status: RefundState
    refund: Refund | None = None
    approval_id: UUID | None = None


def change(
    order_id: int, status: OrderStatus, *, note: str = "", shipment: Shipment | None = None,
    paid: Paid | None = None, by: Actor,
) -> Order:  # fmt: skip
    """Move an order to `status` and return it as it is then; one that is there already stays as it is.

    `paid` confirms: the sale and its commissions are posted in the same transaction. Cancelling is `cancel`,
    refunding `refunds.post`. Raises `OrderNotFound`, `OrderTransitionRefused`, `TrackingMissing`,
    `PaymentMissing` and `RefundInstead`.
    """

    def work() -> Order:
        order = order_locks.lock(order_id)
        if order.status == status:
            return order
        if status in {OrderStatus.CANCELLED, OrderStatus.REFUNDED}:
            raise RefundInstead
        before = order.status
        columns = _columns(order, status, shipment or Shipment())
        order_locks.move(order, status, **columns)
        told: dict[str, Any] = {}
        if status == OrderStatus.CONFIRMED:
            told = _sell(order, paid, by)
        order_events.moved(order, before=before, by=by, note=note, told=told)
        return order

    return transactions.run(work)


def cancel(
    order_id: int, *, reason: str, refund_requested: bool, allowed_from: frozenset[OrderStatus] | None = None,
    by: Actor,
) -> Cancelled:  # fmt: skip
    """Cancel an order; a paid one gives all of its money back when asked to.

    `allowed_from` narrows the states from which this caller may. An order that is cancelled already is told
    as it is; where money is still to go back and no refund is under way (it failed, or was not wanted before)
    and it is asked for, a new refund begins; who is narrowed begins one only for what is due. A refund above
    what one person may decide waits for a second one. Raises `OrderNotFound` and `OrderTransitionRefused`.
    """

    def work() -> Cancelled:
        order = order_locks.lock(order_id)
        if order.status == OrderStatus.CANCELLED:
            may_begin = allowed_from is None or order.refund_due_minor
            if refund_requested and may_begin and _left(order):
                return _refund_cancelled(order, reason, refund_requested, by)
            return Cancelled(order, state_of_refund(order))
        if allowed_from is not None and order.status not in allowed_from:
            raise OrderTransitionRefused(order.status, OrderStatus.CANCELLED)
        before = order.status
        moment = timezone.now()
        order_locks.move(
            order, OrderStatus.CANCELLED, cancelled_at=moment, cancellation_reason=reason,
            shipping_events=[*order.shipping_events, _happened(moment, OrderStatus.CANCELLED)],
        )  # fmt: skip
        done = _refund_cancelled(order, reason, refund_requested, by)
        order_events.moved(
            order, before=before, by=by, note=reason, told={"refund_status": done.refund_status.value}
        )
        return done

    return transactions.run(work)


def state_of_refund(order: Order) -> RefundState:
    """Return what a cancelled order's money is doing now: pending where somebody has to act."""
    if order.refund_due_minor:
        return RefundState.PENDING
    if order.refunded_minor:
        return RefundState.PROCESSING
    sold = sum(sale.rest.total for sale in refund_sales.of_order(order))
    return RefundState.NOT_REQUESTED if sold else RefundState.NOT_REQUIRED


def advance_item(
    order_id: int, item_id: int, status: ItemStatus, *, vendor_id: UUID, by: Actor
) -> tuple[Order, OrderItem]:
    """Say how far a vendor is with its own line of an order that is paid and not shipped.

    The same word twice changes nothing. Raises `OrderNotFound` for an order without items of this vendor,
    `ItemNotFound`, `ItemTransitionRefused`.
    """

    def work() -> tuple[Order, OrderItem]:
        if not has_items(order_id, vendor_id):
            raise OrderNotFound
        order = order_locks.lock(order_id)
        found = OrderItem.objects.filter(order_id=order_id, vendor_id=vendor_id, pk=item_id)
        item = found.select_for_update(no_key=True).first() if item_id <= order_locks.LARGEST_ID else None
        if item is None:
            raise ItemNotFound
        if item.vendor_status == status:
            return order, item
        if order.status not in _VENDOR_WORKS or not may_move(ITEM_TRANSITIONS, item.vendor_status, status):
            raise ItemTransitionRefused
        told = {"order_id": order_id, "line": item.line, "before": item.vendor_status, "after": status.value}
        found.update(vendor_status=status.value)
        item.vendor_status = status.value
        audit.record(events.ORDER_ITEM_MOVED, by=by, target=("order", str(order_id)), data=told)
        return order, item

    return transactions.run(work)


def has_items(order_id: int, vendor_id: UUID) -> bool:
    """Say whether a vendor sold anything in this order."""
    if not 0 < order_id <= order_locks.LARGEST_ID:
        return False
    return OrderItem.objects.filter(order_id=order_id, vendor_id=vendor_id).exists()


def _columns(order: Order, status: OrderStatus, shipment: Shipment) -> dict[str, Any]:
    """The columns that change with the status. Raises `TrackingMissing`."""
    if status == OrderStatus.SHIPPED and not (shipment.tracking_number or order.tracking_number):
        raise TrackingMissing
    moment = timezone.now()
    columns: dict[str, Any] = shipment.columns() if status == OrderStatus.SHIPPED else {}
    columns["shipping_events"] = [*order.shipping_events, _happened(moment, status)]
    if status in _MOMENTS:
        columns[_MOMENTS[status]] = moment
    return columns


def _happened(moment: dt.datetime, status: OrderStatus) -> Mapping[str, str]:
    """One line of what happened to the parcel, as the buyer reads it."""
    return {"at": moment.astimezone(dt.UTC).isoformat(timespec="seconds"), "status": status.value}


def _sell(order: Order, paid: Paid | None, by: Actor) -> dict[str, Any]:
    """Note the payment and post the sale. Raises `PaymentMissing`."""
    known = order.payments.filter(status=PaymentStatus.APPROVED.value).order_by("sequence").first()
    if paid is None and known is None:
        raise PaymentMissing
    if paid is not None:
        known = _note_payment(order, paid)
    provider = known.provider if known is not None else ""
    sales.post_sale(order, provider=provider, at=order.confirmed_at or timezone.now(), by=by)
    return {"provider": provider, "total_minor": order.total_minor, "currency": order.currency}


def _note_payment(order: Order, paid: Paid) -> OrderPayment:
    """Approve the payment that was reported before under this reference, or write a new one."""
    same = (
        order.payments.filter(provider=paid.provider, reference=paid.reference).order_by("sequence").first()
    )
    if same is not None:
        same.status = PaymentStatus.APPROVED.value
        same.save(update_fields=["status"])
        return same
    last = order.payments.aggregate(last=Max("sequence"))["last"] or 0
    return OrderPayment.objects.create(
        order=order, sequence=last + 1, method=paid.method, installments=paid.installments,
        amount_minor=order.total_minor, provider=paid.provider, reference=paid.reference,
        status=PaymentStatus.APPROVED.value,
    )  # fmt: skip


def _left(order: Order, *, lock: bool = False) -> int:
    """What of an order has not gone back; with `lock`, no sale of it is settled until the caller ended."""
    sold = sum(sale.rest.total for sale in refund_sales.of_order(order, lock=lock))
    return min(order.total_minor - order.refunded_minor, sold)


def _refund_cancelled(order: Order, reason: str, refund_requested: bool, by: Actor) -> Cancelled:
    rest = _left(order, lock=True)
    if not rest:
        return Cancelled(order, RefundState.NOT_REQUIRED)
    if not refund_requested:
        return Cancelled(order, RefundState.NOT_REQUESTED)
    # Before anybody else decides: from here on the sale is not settled, whatever becomes of the refund.
    refund_claims.claim(order, rest)
    wish = Wish(order_id=order.pk, reason=reason, amount=rest, currency=order.currency)
    if refund_approvals.needs_second_person(wish, by=by):
        return Cancelled(order, RefundState.PENDING, approval_id=_asked(wish, by))
    refund = refunds.post(wish, by=by)
    return Cancelled(order, RefundState.PROCESSING, refund)


def _asked(wish: Wish, by: Actor) -> UUID | None:
    """Ask a second person, once; None where the caller may not ask, or has asked already."""
    if not refund_approvals.may_ask(by):
        return None
    try:
        return refund_approvals.ask(wish, by=by)
    except AskedAlready:
        return None
