"""Money back to a buyer: posted in our books, then confirmed or given up by the provider.

Locks come in one order: the order, its commissions by id, the vendors' money (`vendor_money`), the ledger.
The sums are bounded three times: here under the order's lock, by the rows of order and commission, and by
the ledger, which takes no more back than the sale's entry holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from finance import (
    ledger,
    numbers,
    order_locks,
    outbound,
    refund_claims,
    refund_postings,
    refund_sales,
    refund_split,
    transactions,
    vendor_money,
)
from finance.models import Order, Refund, RefundPart
from finance.money import Money
from finance.refund_postings import Event, Owner
from finance.refund_sales import VendorSold
from finance.refund_split import Part
from finance.states import OrderStatus
from mestore.lib import errors, ids
from mestore.lib.actor import Actor
from monitoring import audit, events

#: How often a posting is tried anew when a payout took what a vendor had available in between.
_ATTEMPTS: Final = 3
_REFUNDABLE: Final = frozenset(OrderStatus) - {OrderStatus.PENDING}


class NothingToRefund(errors.Conflict):
    """Nothing was sold, or all of it went back already."""

    code = "NOTHING_TO_REFUND"
    message = _("There is nothing left of this order to refund.")


class RefundTooLarge(errors.Conflict):
    """More than remains of the order, or of the sale of the vendor whose items were named."""

    code = "REFUND_TOO_LARGE"
    message = _("The refund is larger than what remains of the order.")

    @classmethod
    def beyond(cls, rest: Money) -> RefundTooLarge:
        """Return the refusal that says how much it can be."""
        sentence = _("At most %(rest)s can be refunded here.") % {"rest": rest}
        return cls(details=[errors.FieldError("body -> amount", sentence, "refund_too_large")])


class RefundCurrencyDiffers(errors.Unprocessable):
    code = "REFUND_CURRENCY_DIFFERS"
    message = _("A refund is in the currency of its order.")


class RefundReferenceKnown(errors.Conflict):
    """The provider's reference belongs to another refund."""

    code = "REFUND_REFERENCE_KNOWN"
    message = _("This reference of the provider belongs to another refund.")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. `amount` None is all that remains; `by_vendor` says whose sale gives how much."""

    order_id: int
    reason: str
    amount: int | None = None
    currency: str | None = None
    by_vendor: Mapping[UUID, int] | None = None
    provider: str = ""
    provider_reference: str | None = None


def post(wish: Wish, *, by: Actor) -> Refund:
    """Post a refund in a transaction of its own, or in the current one. Amounts are minor units.

    A provider's reference that is known for this order and amount is the refund that it names: the provider's
    word was here first. What earlier attempts that failed still hold is taken back before. Raises
    `order_locks.OrderNotFound`, `NothingToRefund`, `RefundTooLarge`, `RefundCurrencyDiffers` and
    `RefundReferenceKnown`.
    """
    return transactions.run(lambda: _post(wish, by))


def preview(wish: Wish) -> list[Part]:
    """Return what each vendor's sale would give now, without doing it. Raises as `post` does."""
    order = order_locks.find(wish.order_id)
    sales = refund_sales.of_order(order)
    return _split(wish, order, sales, _amount(wish, order, sales))


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one vendor's sale would give to a refund, and what of it the vendor would owe."""

    part: Part
    owed: int


def forecast(order: Order) -> list[Forecast]:
    """Return what each vendor would bear if all that remains of an order went back now."""
    sales, wish = refund_sales.of_order(order), Wish(order_id=order.pk, reason="")
    try:
        parts = _split(wish, order, sales, _amount(wish, order, sales))
    except NothingToRefund:
        return []
    settled = {sold.vendor for sold in sales if sold.is_settled}
    found = refund_claims.held(order.pk)
    return [
        Forecast(part, _would_owe(part, order.currency, found) if part.vendor in settled else 0)
        for part in parts
    ]


def _would_owe(part: Part, currency: str, found: refund_claims.Held) -> int:
    free = max(ledger.available(part.vendor, currency).free, 0) + found.of_vendor(part.vendor)
    return max(part.figures.vendor - free, 0)


def _post(wish: Wish, by: Actor) -> Refund:
    order = order_locks.lock(wish.order_id)
    if known := _known(wish, order):
        return known
    sales = refund_sales.of_order(order, lock=True)
    amount = _amount(wish, order, sales)
    parts = _split(wish, order, sales, amount)
    _hold_money(parts, sales, refund_claims.held(order.pk), order, by)
    refund = _write(wish, order, amount, by)
    _post_parts(refund, parts, {sold.vendor: sold for sold in sales}, by)
    tell(events.REFUND_POSTED, "refund.posted", refund, by)
    return refund


def _known(wish: Wish, order: Order) -> Refund | None:
    """Return the refund that the reference names. Raises `RefundReferenceKnown` for one of something else."""
    if wish.provider_reference is None:
        return None
    found = Refund.objects.filter(provider=wish.provider, provider_reference=wish.provider_reference).first()
    if found is None:
        return None
    if found.order_id != order.pk or (wish.amount is not None and found.amount_minor != wish.amount):
        raise RefundReferenceKnown
    return found


def _amount(wish: Wish, order: Order, sales: Sequence[VendorSold]) -> int:
    if wish.currency is not None and wish.currency != order.currency:
        raise RefundCurrencyDiffers
    rest = min(order.total_minor - order.refunded_minor, sum(sold.rest.total for sold in sales))
    if rest <= 0 or order.status not in _REFUNDABLE:
        raise NothingToRefund
    amount = rest if wish.amount is None else wish.amount
    if amount > rest:
        raise RefundTooLarge.beyond(Money(rest, order.currency))
    return amount


def _split(wish: Wish, order: Order, sales: Sequence[VendorSold], amount: int) -> list[Part]:
    rests = {sold.vendor: sold.rest.total for sold in sales}
    for vendor, minor in (wish.by_vendor or {}).items():
        if minor > rests.get(vendor, 0):
            raise RefundTooLarge.beyond(Money(rests.get(vendor, 0), order.currency))
    return refund_split.split(amount, sales, wish.by_vendor)


def _hold_money(
    parts: Sequence[Part], sales: Sequence[VendorSold], found: refund_claims.Held, order: Order, by: Actor
) -> None:
    """Lock what is taken from settled sales, and take back what earlier attempts that failed still hold."""
    settled = {sold.vendor for sold in sales if sold.is_settled}
    vendor_money.hold({part.vendor for part in parts if part.vendor in settled} | found.vendors)
    refund_claims.undo(order, sales, found, by=by)


def _write(wish: Wish, order: Order, amount: int, by: Actor) -> Refund:
    try:
        with transaction.atomic():
            return Refund.objects.create(
                refund_number=numbers.refund_number(timezone.now()), order=order, currency=order.currency,
                amount_minor=amount, reason=wish.reason, provider=wish.provider,
                provider_reference=wish.provider_reference, requested_by=UUID(by.id) if by.id else None,
                created_at=timezone.now(),
            )  # fmt: skip
    except IntegrityError as error:
        constraint = transactions.constraint_of(error)
        if constraint == "order_refunds_within_total":
            raise RefundTooLarge from error
        if constraint == "refund_known_once_per_provider":
            raise RefundReferenceKnown from error
        raise


def _post_parts(refund: Refund, parts: Sequence[Part], sales: Mapping[UUID, VendorSold], by: Actor) -> None:
    """Write the parts and post them; anew when what a vendor had available went away in between."""
    event = event_of(refund, refund.created_at)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with transaction.atomic():
                _post_once(event, refund, parts, sales, by)
        except ledger.InsufficientFunds:
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def _post_once(
    event: Event, refund: Refund, parts: Sequence[Part], sales: Mapping[UUID, VendorSold], by: Actor
) -> None:
    rows, postings = [], []
    for part in parts:
        sold, figures = sales[part.vendor], part.figures
        free = ledger.available(part.vendor, refund.currency).free if sold.is_settled else None
        posting, owed = refund_postings.taking_back(
            event, part, Owner(sold.entry_id, free), entry_id=ids.uuid7()
        )
        postings.append(posting)
        rows.append(
            RefundPart(
                refund=refund,
                vendor_id=part.vendor,
                commission_id=sold.commission_id,
                goods_minor=figures.goods,
                tax_minor=figures.tax,
                shipping_minor=figures.shipping,
                base_minor=sold.base_of(figures),
                commission_minor=figures.commission,
                fee_tax_minor=figures.fee_tax,
                withheld_minor=figures.withheld,
                owed_minor=owed,
                entry_id=posting.entry_id,
            )
        )
    RefundPart.objects.bulk_create(rows)
    ledger.post_many(postings, by=by)


def event_of(refund: Refund, moment: datetime) -> Event:
    """Return what the postings of a refund are told of it."""
    return Event(refund.pk, moment, refund.currency)


def tell(event: str, outward: str, refund: Refund, by: Actor, *, note: str = "") -> None:
    """Record what happened to a refund, and tell the storefront, in the current transaction."""
    told = {
        "number": refund.refund_number, "order_id": refund.order_id, "currency": refund.currency,
        "amount_minor": refund.amount_minor, "status": refund.status,
    }  # fmt: skip
    audit.record(event, by=by, target=("refund", str(refund.pk)), data=told,
                 personal={"note": note} if note else None)  # fmt: skip
    outbound.emit(outward, subject=("refund", str(refund.pk)), data=outward_figures(refund))


def outward_figures(refund: Refund) -> dict[str, object]:
    """Return what the storefront is told of a refund; an amount is a string with its currency."""
    return {
        "refund_number": refund.refund_number, "order_id": refund.order_id, "status": refund.status,
        "amount": refund.amount.text, "currency": refund.currency,
        "provider": refund.provider or None, "provider_reference": refund.provider_reference,
    }  # fmt: skip
