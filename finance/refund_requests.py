"""Asking for a refund: once per idempotency key, for items or for the whole order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from finance import idempotency, order_locks, refund_approvals, refunds, transactions
from finance.idempotency import Answer
from finance.models import Order, OrderItem, Refund
from finance.money import Money
from finance.refunds import (
    NothingToRefund,
    RefundCurrencyDiffers,
    RefundReferenceKnown,
    RefundTooLarge,
    Wish,
)
from mestore.lib import crypto, errors
from mestore.lib.actor import Actor
from mestore.lib.http import dumps

ROUTE: Final = "POST /api/v1/orders/refunds"
CREATED: Final = 201
ACCEPTED: Final = 202
_KEPT: Final = (NothingToRefund, RefundTooLarge, RefundCurrencyDiffers, RefundReferenceKnown)


class AmountUnreadable(errors.Unprocessable):
    message = _("This must be an amount in plain digits, with no more decimals than its currency has.")


class SecondPersonAsked(errors.Conflict):
    """Nothing went wrong: what was asked for waits for somebody else."""

    code = "SECOND_PERSON_ASKED"
    message = _("A second person was asked: the refund is posted when they agree.")


Items = Sequence[tuple[int, int]]


class RefundItemsWrong(errors.Unprocessable):
    """The items are not this order's, stand there twice, or do not add up to the amount."""

    code = "REFUND_ITEMS_WRONG"
    message = _("The items of a refund are items of the order, each once, and add up to the amount.")


def request(
    wish: Wish, *, items: Items = (), key: str, tell: Callable[[Refund], Mapping[str, Any]], by: Actor
) -> Answer:
    """Post a refund once per key and return the answer to send: 201 with the refund as `tell` says it.

    Above what one person decides alone: 202 with the request that waits for a second one. `items` are pairs
    of an item's id and what of the amount is for it. Raises as `refunds.post` does (stored, and told again
    for the same key), `RefundItemsWrong`, `idempotency.KeyReused` and `idempotency.TwinInFlight`.
    """

    def work() -> tuple[int, bytes]:
        order_locks.lock(wish.order_id)
        wanted = replace(wish, by_vendor=_by_vendor(wish, items)) if items else wish
        if refund_approvals.needs_second_person(wanted, by=by):
            refunds.preview(wanted)
            asked = refund_approvals.ask(wanted, by=by)
            return ACCEPTED, dumps({"status": "waiting_for_approval", "approval_id": asked})
        return CREATED, dumps(tell(refunds.post(wanted, by=by)))

    return idempotency.once(ROUTE, key=key, identity=_identity(wish, items), by=by, work=work, kept=_KEPT)


def post_or_ask(wish: Wish, *, by: Actor) -> Refund | None:
    """Post a refund, or ask a second person where one alone may not: None then.

    For the console, where a form is sent once; an amount that is not named is all that remains. Raises as
    `refunds.post` does.
    """

    def work() -> Refund | None:
        order_locks.lock(wish.order_id)
        amount = sum(part.figures.total for part in refunds.preview(wish))
        wanted = replace(wish, amount=amount)
        if refund_approvals.needs_second_person(wanted, by=by):
            refund_approvals.ask(wanted, by=by)
            return None
        return refunds.post(wanted, by=by)

    return transactions.run(work)


def _identity(wish: Wish, items: Items) -> bytes:
    parts: list[str | int] = [
        wish.order_id, wish.amount or 0, wish.currency or "", wish.reason, wish.provider,
        wish.provider_reference or "", len(items),
    ]  # fmt: skip
    for item_id, minor in items:
        parts += (item_id, minor)
    return crypto.row_binding(*parts)


def _by_vendor(wish: Wish, items: Items) -> dict[UUID, int]:
    """Add the items up by vendor. No item gives more than it cost with its tax and shipping."""
    order = order_locks.find(wish.order_id)
    known = {row.pk: row for row in OrderItem.objects.filter(order=order)}
    if len({item_id for item_id, _minor in items}) != len(items) or not {item for item, _m in items} <= set(
        known
    ):
        raise RefundItemsWrong
    if sum(minor for _item, minor in items) != wish.amount:
        raise RefundItemsWrong
    found: dict[UUID, int] = {}
    for item_id, minor in items:
        row = known[item_id]
        cost = row.line_total_minor + row.shipping_minor + _tax_of(row, order)
        if minor > cost:
            raise RefundTooLarge.beyond(Money(cost, order.currency))
        found[row.vendor_id] = found.get(row.vendor_id, 0) + minor
    return found


def _tax_of(row: OrderItem, order: Order) -> int:
    """The item's share of the order's tax, rounded up: a bound, not a split."""
    return -(-order.tax_minor * row.line_total_minor // order.subtotal_minor) if order.subtotal_minor else 0
