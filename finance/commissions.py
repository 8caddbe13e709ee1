"""What people do with commissions: have one calculated, approve it. Each change is in the audit trail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import simplejson
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from finance import ledger, periods, sales, transactions
from finance.charging import Override
from finance.models import Commission, Order, OrderPayment
from finance.money import PPM
from finance.states import CommissionStatus, CommissionType, OrderStatus, PaymentStatus
from mestore.lib import errors, sql
from mestore.lib.actor import Actor
from mestore.lib.errors import FieldError
from monitoring import audit, events

#: Orders whose commission may be calculated: their payment was accepted and nothing was taken back.
ELIGIBLE: Final = (
    OrderStatus.CONFIRMED,
    OrderStatus.PROCESSING,
    OrderStatus.SHIPPED,
    OrderStatus.DELIVERED,
)
LONGEST_NOTES: Final = 500

_APPROVE = """
UPDATE finance_commission
SET status = 'APPROVED', approved_by = %(by)s, approved_at = %(now)s, updated_at = %(now)s,
    admin_notes = CASE WHEN %(notes)s = '' THEN admin_notes ELSE %(notes)s END
WHERE id = %(id)s AND status = 'PENDING'
RETURNING commission_number, vendor_id, commission_amount_minor, currency, rule_snapshot
"""


class OrderUnknown(errors.NotFound):
    code = "ORDER_NOT_FOUND"
    message = _("There is no such order.")


class CalculationRefused(errors.BadRequest):
    code = "COMMISSION_CALCULATION_ERROR"
    message = _("No commission can be calculated for this order.")


class VendorAmbiguous(errors.Unprocessable):
    message = _("This order has several vendors: name one.")


class AlreadyCharged(errors.Conflict):
    message = _("What was charged and posted never changes: open a dispute, or refund.")


class CommissionUnknown(errors.NotFound):
    message = _("Commission not found.")


class NotPending(errors.BadRequest):
    message = _("Only a pending commission can be approved.")


class OwnRate(errors.Forbidden):
    message = _("Who chose a rate or a type by hand does not approve the commission: another person does.")


@dataclass(frozen=True, slots=True)
class Request:
    """Which commission is asked for. `rate_ppm` is a rate of one's own, None for the rules and defaults."""

    order_id: int
    kind: str = CommissionType.STANDARD
    rate_ppm: int | None = None
    vendor_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Processed:
    """What came of processing an order: its commissions, and how many of them are new."""

    order_id: int
    commissions: Sequence[Commission]
    created: int


def rate_ppm_of(rate: Decimal) -> int:
    """Return a fraction of 1 in parts per million. Raises ValueError for one outside 0 to 1 or too fine."""
    scaled = rate.scaleb(6)
    if not rate.is_finite() or scaled != scaled.to_integral_value() or not 0 <= scaled <= PPM:
        raise ValueError("a rate is between 0 and 1, with at most six decimals")
    return int(scaled)


def calculate(wanted: Request, *, by: Actor) -> tuple[Commission, bool]:
    """Return the commission of a vendor on an order, and whether it was made now.

    One that exists is returned as it is: what was posted never changes. Else the order must be confirmed and
    have items; the sale is posted with it. Raises `OrderUnknown`, `VendorAmbiguous`, `CalculationRefused`.
    """
    return transactions.run(lambda: _calculate(wanted, by))


def _calculate(wanted: Request, by: Actor) -> tuple[Commission, bool]:
    order = _locked(wanted.order_id)
    vendor = _vendor_of(order, wanted.vendor_id)
    found = Commission.objects.filter(order=order, vendor_id=vendor).first()
    if found is not None:
        return found, False
    override = None
    if wanted.rate_ppm is not None or wanted.kind != CommissionType.STANDARD:
        override = Override(wanted.kind, wanted.rate_ppm, by.id or by.label)
    _post(order, {vendor}, override, by)
    return Commission.objects.get(order=order, vendor_id=vendor), True


def process(order_id: int, *, again: bool, by: Actor) -> Processed:
    """Charge every vendor of an order that is not charged yet; repeated, it changes nothing.

    `again` asks to recalculate: `AlreadyCharged` where anything is posted. Raises as `calculate` besides.
    """
    return transactions.run(lambda: _process(order_id, again, by))


def _process(order_id: int, again: bool, by: Actor) -> Processed:
    order = _locked(order_id)
    found = list(Commission.objects.filter(order=order).order_by("commission_number"))
    if again and found:
        raise AlreadyCharged
    missing = {part.vendor for part in sales.parts_of(order)} - {row.vendor_id for row in found}
    if not missing and not found:
        raise CalculationRefused(_("The order has no items."))
    if missing:
        _post(order, missing, None, by)
        found = list(Commission.objects.filter(order=order).order_by("commission_number"))
    return Processed(order.pk, found, len(missing))


def approve(commission_id: UUID, *, notes: str = "", by: Actor) -> Commission:
    """Approve a pending commission: one conditional update, so that two approvals are one.

    Raises `CommissionUnknown`, `NotPending`, and `OwnRate` where `by` chose the rate or the type by hand.
    """
    return transactions.run(lambda: _approve(commission_id, notes, by))


def _approve(commission_id: UUID, notes: str, by: Actor) -> Commission:
    now = timezone.now()
    values = {"id": commission_id, "by": by.id, "now": now, "notes": notes}
    moved = sql.fetch_one(_APPROVE, values)
    if moved is None:
        known = Commission.objects.filter(pk=commission_id).exists()
        raise NotPending if known else CommissionUnknown
    number, vendor_id, minor, currency, snapshot = moved
    if by_hand(snapshot) == by.id:
        raise OwnRate
    audit.record(
        events.COMMISSION_APPROVED,
        by=by,
        target=("commission", str(commission_id)),
        data={
            "number": number, "vendor_id": str(vendor_id), "commission_minor": minor, "currency": currency,
            "before": CommissionStatus.PENDING.value, "after": CommissionStatus.APPROVED.value,
        },
    )  # fmt: skip
    return Commission.objects.get(pk=commission_id)


def by_hand(snapshot: str) -> str:
    """Return who chose the rate or the type of a commission by hand, empty when the rules did."""
    kept: Mapping[str, Any] = simplejson.loads(snapshot) if snapshot else {}
    return str(kept.get("by_hand", ""))


def _locked(order_id: int) -> Order:
    order = Order.objects.select_for_update(no_key=True).filter(pk=order_id).first()
    if order is None:
        raise OrderUnknown
    return order


def _vendor_of(order: Order, named: UUID | None) -> UUID:
    vendors = list(dict.fromkeys(part.vendor for part in sales.parts_of(order)))
    if not vendors:
        raise CalculationRefused(_("The order has no items."))
    if named is None and len(vendors) > 1:
        detail = FieldError("body -> vendor_id", VendorAmbiguous.message, "vendor_ambiguous")
        raise VendorAmbiguous(details=[detail])
    if named is not None and named not in vendors:
        raise CalculationRefused(_("This vendor has no items in the order."))
    return named or vendors[0]


def _post(order: Order, vendors: set[UUID], override: Override | None, by: Actor) -> None:
    if order.status not in ELIGIBLE:
        raise CalculationRefused(_("The order is not confirmed."))
    paid = (
        OrderPayment.objects.filter(order=order, status=PaymentStatus.APPROVED).order_by("sequence").first()
    )
    if paid is None:
        raise CalculationRefused(_("No payment of the order was approved."))
    at = order.confirmed_at or order.placed_at
    # A sale that is found out about after its books were closed is posted now; it counts as of then.
    posted_at = periods.posted_at(at, closed=periods.closed_until(), now=timezone.now())
    try:
        sales.post_sale(
            order, provider=paid.provider, at=at, by=by, only=vendors, override=override, posted_at=posted_at
        )
    except ledger.AlreadyPosted as error:
        # Only what bypassed this function leaves a sale without its commission.
        raise CalculationRefused(_("The sale is in the ledger without its commission.")) from error
