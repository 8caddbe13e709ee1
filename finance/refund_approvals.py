"""Refunds that one person alone may not decide: above an amount somebody else of the staff has to agree.

The storefront's machine account is bound by its orders alone: it refunds what its own customers paid.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db.models import Sum

from accounts import approvals, hierarchy
from accounts.models import ApprovalRequest
from accounts.roles import STAFF
from finance import refunds
from finance.models import Refund
from finance.refunds import Wish
from finance.states import RefundStatus
from mestore.lib.actor import Actor
from monitoring import audit, events

PROCEDURE: Final = "refunds.post"
#: What who refunds holds, and what the second person holds.
REFUNDING: Final = "orders.manage.global"
APPROVING: Final = "orders.approve.global"


def register() -> None:
    """Make the procedure known; called when Django starts."""
    approvals.register(approvals.Procedure(PROCEDURE, APPROVING, carry_out))


def needs_second_person(wish: Wish, *, by: Actor) -> bool:
    """Say whether a refund of a known amount is more than this caller may decide alone.

    What the same person gave back of the order before counts with it: a large refund in small pieces is a
    large refund. In a currency that the setting does not name, a person decides nothing alone. Two pieces at
    once are told apart where the caller holds the order's row.
    """
    if by.kind != "user":
        return False
    limits: dict[str, int] = settings.REFUND_ALONE_UP_TO
    before = Refund.objects.filter(order_id=wish.order_id, requested_by=by.id, currency=wish.currency)
    given = before.exclude(status=RefundStatus.FAILED.value).aggregate(minor=Sum("amount_minor"))["minor"]
    return (wish.amount or 0) + (given or 0) > limits.get(wish.currency or "", 0)


def may_ask(by: Actor) -> bool:
    """Say whether this caller may ask a second person: the staff may, a buyer's wish waits for the staff."""
    return by.role in STAFF


def ask(wish: Wish, *, by: Actor) -> UUID:
    """Ask a second person in the current transaction; return the id of the request.

    Raises what `approvals.ask` raises: the same question waits already, or the reason is too short.
    """
    details: dict[str, Any] = {
        "amount_minor": wish.amount, "currency": wish.currency, "reason": wish.reason,
        "by_vendor": {str(vendor): minor for vendor, minor in sorted((wish.by_vendor or {}).items())},
    }  # fmt: skip
    request = approvals.ask(
        PROCEDURE, target=("order", str(wish.order_id)), reason=wish.reason, by=by, details=details
    )
    audit.record(
        events.REFUND_ASKED, by=by, target=("order", str(wish.order_id)),
        data={"approval": str(request.pk), "currency": wish.currency, "amount_minor": wish.amount},
    )  # fmt: skip
    return UUID(str(request.pk))


def carry_out(request: ApprovalRequest, by: Actor) -> None:
    """Post what was approved, in the name of who asked and still may. Raises as `refunds.post` does."""
    asker = request.asker
    hierarchy.demand_right(hierarchy.authority_of(asker), REFUNDING, by)
    told = request.details
    by_vendor = {UUID(vendor): int(minor) for vendor, minor in told["by_vendor"].items()}
    refunds.post(
        Wish(
            order_id=int(request.target_id), reason=told["reason"], amount=int(told["amount_minor"]),
            currency=told["currency"], by_vendor=by_vendor or None,
        ),
        by=asker,
    )  # fmt: skip
