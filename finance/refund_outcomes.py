"""What became of a refund at its provider: paid, or given up. In whatever order the news arrives.

The provider's reference is unique for ever. A report that comes before our own request committed waits at the
order's row or makes the refund itself; the request that comes second finds it by the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db import IntegrityError
from django.db.models import Sum
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from finance import (
    ledger,
    order_events,
    order_locks,
    refund_postings,
    refund_sales,
    refunds,
    transactions,
)
from finance.models import Commission, Order, Refund, RefundPart
from finance.refunds import RefundReferenceKnown, Wish, event_of, tell
from finance.states import CommissionStatus, OrderStatus, RefundStatus
from mestore.lib import errors, ids, sql
from mestore.lib.actor import Actor
from monitoring import alerts, audit, events

#: The reason of a refund that a provider made without being asked by us.
REPORTED: Final = "reported by the provider"
GIVEN_UP: Final = alerts.declare(
    alerts.Rule(
        "refund.given_up", _("A provider gave a refund up"), alerts.Severity.MEDIUM, "a-refund-was-given-up"
    )
)

# What a commission's base lost to refunds that reached the buyer.
_PAID_BACK = """
SELECT p.commission_id FROM finance_refundpart p
JOIN finance_refund r ON r.id = p.refund_id
JOIN finance_commission c ON c.id = p.commission_id
WHERE c.order_id = %s AND r.status = 'paid' AND c.status <> ALL(%s)
GROUP BY p.commission_id, c.order_amount_minor HAVING sum(p.base_minor) = c.order_amount_minor
"""
# What each state becomes when all of the sale is back with the buyer.
_GIVEN_BACK: Final = {
    CommissionStatus.PENDING: CommissionStatus.CANCELLED,
    CommissionStatus.APPROVED: CommissionStatus.CANCELLED,
    CommissionStatus.DISPUTED: CommissionStatus.CANCELLED,
    CommissionStatus.PAID: CommissionStatus.REFUNDED,
}


class RefundNotFound(errors.NotFound):
    code = "REFUND_NOT_FOUND"
    message = _("Refund not found.")


class RefundEnded(errors.Conflict):
    """It was paid under another reference, or it failed."""

    code = "REFUND_ENDED"
    message = _("The outcome of this refund is known already, and it is another one.")


@dataclass(frozen=True, slots=True)
class Report:
    """What a provider says of a refund of an order. `amount` is in minor units of `currency`."""

    order_id: int
    provider: str
    provider_reference: str
    amount: int
    currency: str


def mark_paid(
    refund_id: UUID, *, provider: str = "", provider_reference: str, note: str = "", by: Actor
) -> Refund:
    """Note that the buyer has the money; the same word twice changes nothing.

    Without `provider` it is the one that took the buyer's payment; `note` is kept sealed in the trail.
    Raises `RefundNotFound`, `RefundEnded`, `RefundReferenceKnown`.
    """

    def work() -> Refund:
        refund = _locked(refund_id)
        if refund.status == RefundStatus.PAID:
            if provider_reference != refund.provider_reference or provider not in {"", refund.provider}:
                raise RefundEnded
            return refund
        if refund.status != RefundStatus.POSTED:
            raise RefundEnded
        if refund.provider_reference not in {None, provider_reference}:
            raise RefundEnded
        return _pay(refund, provider, provider_reference, note, by)

    return transactions.run(work)


def reported(report: Report, *, by: Actor) -> Refund:
    """Take a provider's word that it refunded: the refund it names is paid, and exists if it did not.

    It is matched by reference, else with the oldest refund of that amount that waits without one, else it is
    posted now: the money is gone, whether we knew or not. Raises as `refunds.post` and `mark_paid` do.
    """

    def work() -> Refund:
        order = order_locks.lock(report.order_id)
        known = Refund.objects.filter(
            provider=report.provider, provider_reference=report.provider_reference
        ).first()
        if known is None:
            known = (
                Refund.objects.filter(
                    order=order, status=RefundStatus.POSTED.value, provider_reference__isnull=True,
                    amount_minor=report.amount, currency=report.currency,
                ).order_by("id").first()
            )  # fmt: skip
        if known is None:
            known = refunds.post(_wish_of(report), by=by)
        elif known.order_id != order.pk or known.amount_minor != report.amount:
            raise RefundReferenceKnown
        return mark_paid(
            known.pk, provider=report.provider, provider_reference=report.provider_reference, by=by
        )

    return transactions.run(work)


def mark_failed(refund_id: UUID, *, failure: str, by: Actor) -> Refund:
    """Note that the provider gave it up: the buyer is still to get it, by another refund of the order.

    Its money stays where it waits for the buyer, and what it was of is due again on the order, until a new
    attempt takes it on or two people give the claim up (`refund_claims`); a signal says that somebody has to
    decide. The same word twice changes nothing. Raises `RefundNotFound` and `RefundEnded`.
    """

    def work() -> Refund:
        refund = _locked(refund_id)
        if refund.status == RefundStatus.FAILED:
            return refund
        if refund.status != RefundStatus.POSTED:
            raise RefundEnded
        return _fail(refund, failure, by)

    return transactions.run(work)


def _wish_of(report: Report) -> Wish:
    return Wish(
        order_id=report.order_id, reason=REPORTED, amount=report.amount, currency=report.currency,
        provider=report.provider, provider_reference=report.provider_reference,
    )  # fmt: skip


def _locked(refund_id: UUID) -> Refund:
    """Lock the refund, its order first, as everybody does."""
    order_id = Refund.objects.filter(pk=refund_id).values_list("order_id", flat=True).first()
    if order_id is None:
        raise RefundNotFound
    order_locks.lock(order_id)
    return Refund.objects.select_for_update(no_key=True).get(pk=refund_id)


def _pay(refund: Refund, provider: str, reference: str, note: str, by: Actor) -> Refund:
    order = refund.order
    sales = refund_sales.of_order(order, lock=True)
    providers = {sold.vendor: sold.provider for sold in sales}
    moment = timezone.now()
    refund.provider = provider or refund.provider or next(iter(providers.values()), "")
    refund.provider_reference, refund.status, refund.paid_at = reference, RefundStatus.PAID.value, moment
    try:
        Refund.objects.filter(pk=refund.pk).update(
            provider=refund.provider, provider_reference=reference, status=refund.status, paid_at=moment,
            updated_at=Now(),
        )  # fmt: skip
    except IntegrityError as error:
        if transactions.constraint_of(error) == "refund_known_once_per_provider":
            raise RefundReferenceKnown from error
        raise
    event = event_of(refund, moment)
    paying = [
        refund_postings.paying(
            event, part.vendor_id, total_of(part), provider=providers[part.vendor_id], entry_id=ids.uuid7()
        )
        for part in refund.parts.order_by("id")
    ]
    ledger.post_many(paying, by=by)
    _give_back(order.pk, by)
    tell(events.REFUND_PAID, "refund.paid", refund, by, note=note)
    _end_order(order, by)
    return refund


def _end_order(order: Order, by: Actor) -> None:
    """Move a delivered order on when the buyer has all of it back: not while anything is only on its way."""
    paid = order.refunds.filter(status=RefundStatus.PAID.value).aggregate(minor=Sum("amount_minor"))["minor"]
    if order.status == OrderStatus.DELIVERED and paid == order.total_minor:
        order_locks.move(order, OrderStatus.REFUNDED)
        order_events.moved(order, before=OrderStatus.DELIVERED, by=by)


def total_of(part: RefundPart) -> int:
    """Return what the buyer gets back of this vendor's sale."""
    return part.goods_minor + part.tax_minor + part.shipping_minor


def _give_back(order_id: int, by: Actor) -> None:
    """End the commissions of sales that are wholly back with the buyer."""
    ended = [CommissionStatus.CANCELLED.value, CommissionStatus.REFUNDED.value]
    found = [row[0] for row in sql.fetch_all(_PAID_BACK, [order_id, ended])]
    for row in Commission.objects.filter(pk__in=found).order_by("pk"):
        after = _GIVEN_BACK[CommissionStatus(row.status)]
        Commission.objects.filter(pk=row.pk, status=row.status).update(status=after.value, updated_at=Now())
        audit.record(
            events.COMMISSION_GIVEN_BACK, by=by, target=("commission", str(row.pk)),
            data={"before": row.status, "after": after.value, "order_id": order_id},
        )  # fmt: skip


def _fail(refund: Refund, failure: str, by: Actor) -> Refund:
    refund.status, refund.failure = RefundStatus.FAILED.value, failure
    Refund.objects.filter(pk=refund.pk).update(status=refund.status, failure=failure, updated_at=Now())
    tell(events.REFUND_FAILED, "refund.failed", refund, by)
    alerts.raise_signal(
        GIVEN_UP, entity=("order", str(refund.order_id)),
        evidence={
            "refund": refund.refund_number, "amount_minor": refund.amount_minor, "currency": refund.currency,
        },
    )  # fmt: skip
    return refund
