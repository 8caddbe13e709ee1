"""What a buyer is still to get back: an order's claim, and the money of refunds that their provider gave up.

A refund that failed leaves its money where it waited for the buyer (`refund_clearing`): it is not the
vendor's again because a card was closed. A new attempt takes it back first and takes anew; and two people of
the staff may give the claim up, whereupon it is the vendor's. Until then settlement leaves the claim out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import approvals, hierarchy
from accounts.models import ApprovalRequest
from finance import ledger, order_locks, refund_postings, refund_sales, transactions, vendor_money
from finance.models import Order
from finance.postings import VENDOR_AVAILABLE, VENDOR_PENDING, VENDOR_RECEIVABLE, Posting
from finance.refund_postings import Event
from finance.refund_sales import VendorSold
from mestore.lib import errors, ids, sql
from mestore.lib.actor import Actor
from monitoring import audit, events

PROCEDURE: Final = "refunds.give_up"
#: What who asks holds, and what the second person holds.
ASKING: Final = "orders.manage.global"
APPROVING: Final = "orders.approve.global"
_OF_VENDOR: Final = frozenset({VENDOR_PENDING, VENDOR_AVAILABLE, VENDOR_RECEIVABLE})

# Parts of refunds that failed, whose entries nobody undid: from which accounts they hold how much.
_HELD = """
SELECT p.refund_id, p.vendor_id, p.entry_id, d.kind, t.amount
FROM finance_refund r
JOIN finance_refundpart p ON p.refund_id = r.id
JOIN ledger_transfer t ON t.book_id = p.vendor_id AND t.entry_id = p.entry_id
JOIN ledger_account d ON d.book_id = t.book_id AND d.id = t.debit
WHERE r.order_id = %s AND r.status = 'failed'
  AND NOT EXISTS (SELECT FROM ledger_entry u WHERE u.book_id = p.vendor_id
                  AND u.source_event = 'refund/' || p.refund_id || '/failed')
ORDER BY p.refund_id, p.id, t.seq
"""


class NothingDue(errors.Conflict):
    """The buyer has everything back, or nobody said that it is to go back."""

    code = "NOTHING_DUE"
    message = _("Nothing of this order is still to be refunded.")


class Held(list[tuple[UUID, UUID, UUID, str, int]]):
    """What refunds of one order that failed still hold: (refund, vendor, entry, account, minor units)."""

    @property
    def vendors(self) -> set[UUID]:
        """Whose books hold it."""
        return {row[1] for row in self}

    def of_vendor(self, vendor: UUID) -> int:
        """What of it was the vendor's, in minor units."""
        return sum(minor for _r, whose, _e, kind, minor in self if whose == vendor and kind in _OF_VENDOR)


def held(order_id: int) -> Held:
    """Return what refunds of this order that failed still hold."""
    return Held((row[0], row[1], row[2], row[3], int(row[4])) for row in sql.fetch_all(_HELD, [order_id]))


def claim(order: Order, minor: int) -> None:
    """Say that `minor` of a locked order is to go back; refunds that are posted take it on from there."""
    Order.objects.filter(pk=order.pk).update(refund_due_minor=minor, updated_at=Now())
    order.refund_due_minor = minor


def undo(order: Order, sales: Sequence[VendorSold], found: Held, *, by: Actor) -> None:
    """Post the mirror of every part in `found`, and set free what was settled meanwhile.

    The caller holds the order, its commissions and the money of `found.vendors`.
    """
    settled = {sold.vendor for sold in sales if sold.is_settled}
    by_refund: dict[UUID, list[tuple[UUID, UUID, str, int]]] = defaultdict(list)
    for refund_id, vendor, entry_id, kind, minor in found:
        by_refund[refund_id].append((vendor, entry_id, kind, minor))
    for refund_id, rows in by_refund.items():
        _undo_one(Event(refund_id, timezone.now(), order.currency), rows, settled, by)


def _undo_one(
    event: Event, rows: Iterable[tuple[UUID, UUID, str, int]], settled: set[UUID], by: Actor
) -> None:
    taken: dict[tuple[UUID, UUID], list[tuple[str, int]]] = defaultdict(list)
    for vendor, entry_id, kind, minor in rows:
        taken[vendor, entry_id].append((kind, minor))
    ledger.post_many(
        [
            refund_postings.mirror(event, vendor, parts, of_entry=entry_id, entry_id=ids.uuid7())
            for (vendor, entry_id), parts in taken.items()
        ],
        by=by,
    )
    releases: list[Posting] = []
    for (vendor, _entry), parts in taken.items():
        from_pending = sum(minor for kind, minor in parts if kind == VENDOR_PENDING)
        from_debt = any(kind == VENDOR_RECEIVABLE for kind, _minor in parts)
        if (vendor in settled and from_pending) or from_debt:
            release = refund_postings.releasing(
                event, vendor, pending=from_pending if vendor in settled else 0,
                owed=ledger.owed(vendor, event.currency), entry_id=ids.uuid7(),
            )  # fmt: skip
            releases += [release] if release else []
    ledger.post_many(releases, by=by)


def ask_to_give_up(order_id: int, *, reason: str, by: Actor) -> ApprovalRequest:
    """Ask a second person that a buyer's claim is given up: what is due becomes the vendors' again.

    Raises `order_locks.OrderNotFound`, `NothingDue`, hierarchy.NotAllowed, hierarchy.ReasonMissing and
    approvals.AskedAlready.
    """
    hierarchy.demand_right(hierarchy.authority_of(by), ASKING, by)
    order = order_locks.find(order_id)
    if not order.refund_due_minor:
        raise NothingDue
    details = {"amount_minor": order.refund_due_minor, "currency": order.currency}
    return approvals.ask(PROCEDURE, target=("order", str(order_id)), reason=reason, details=details, by=by)


def register() -> None:
    """Make the procedure known; called when Django starts."""
    approvals.register(approvals.Procedure(PROCEDURE, APPROVING, _carry_out))


def _carry_out(request: ApprovalRequest, by: Actor) -> None:
    """Give up what was asked for, if it is still that amount. Raises `NothingDue` where it is another one."""
    asker = request.asker
    hierarchy.demand_right(hierarchy.authority_of(asker), ASKING, asker)
    told: dict[str, Any] = request.details
    transactions.run(lambda: _give_up(int(request.target_id), int(told["amount_minor"]), asker, by))


def _give_up(order_id: int, minor: int, asker: Actor, by: Actor) -> None:
    order = order_locks.lock(order_id)
    if order.refund_due_minor != minor:
        raise NothingDue
    sales, found = refund_sales.of_order(order, lock=True), held(order_id)
    vendor_money.hold(found.vendors)
    undo(order, sales, found, by=by)
    claim(order, 0)
    audit.record(
        events.REFUND_CLAIM_GIVEN_UP, by=by, target=("order", str(order_id)),
        data={"currency": order.currency, "amount_minor": minor, "asked_by": asker.id},
    )  # fmt: skip
