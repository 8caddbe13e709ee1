"""Moving one payout from state to state: the row is held, the step is one of the table, the ledger follows.

Whoever moves a payout holds its row first and the balance last, as everybody does, so two who decide at the
same moment come one after the other and the second sees what the first did.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import override

from accounts.models import VendorProfile
from accounts.roles import Role
from finance import ledger, outbound, payout_postings, transactions
from finance.ledger_balances import debtors, owed
from finance.models import Payout
from finance.postings import Posting
from finance.states import PAYOUT_TRANSITIONS, PayoutState, may_move
from mestore.lib import errors, ids, sql
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events

#: Until then a payout can be given up and nothing has left.
UNSENT: Final = (PayoutState.REQUESTED, PayoutState.SCREENED, PayoutState.HELD, PayoutState.APPROVED)
#: What the storefront is told when a payout comes to a state.
TOLD: Final = {
    PayoutState.APPROVED: "payout.approved", PayoutState.IN_TRANSIT: "payout.sent",
    PayoutState.PAID: "payout.paid", PayoutState.RETURNED: "payout.returned",
    PayoutState.REJECTED: "payout.rejected", PayoutState.CANCELLED: "payout.cancelled",
    PayoutState.UNKNOWN: "payout.unknown",
}  # fmt: skip
_LONGEST_REASON: Final = 500
_MOVE_ALL: Final = """
UPDATE finance_payout p
SET state = %(state)s, state_reason = '', updated_at = %(now)s, post_entry_id = k.entry
FROM unnest(%(ids)s::uuid[], %(entries)s::uuid[]) AS k (id, entry) WHERE p.id = k.id
"""


class PayoutNotFound(errors.NotFound):
    """There is none, or it is somebody else's: never told apart."""

    message = _("Payout not found.")


class WrongState(errors.Conflict):
    """The payout has moved on, or has not come so far."""

    code = "PAYOUT_STATE"
    message = _("The payout is not in a state in which this can be done.")

    def __init__(self, state: str) -> None:
        super().__init__(extra={"state": state})


class AccountNotUsable(errors.Conflict):
    code = "BANK_ACCOUNT_NOT_USABLE"
    message = _("No money goes to this bank account: it was removed, or its cooling-off is not over.")


class ApprovalsMissing(errors.Conflict):
    code = "APPROVALS_MISSING"
    message = _("The payout lacks approvals that count.")


class VendorNotPayable(errors.Conflict):
    code = "VENDOR_NOT_PAYABLE"
    message = _("The vendor is not active or not approved.")


class DebtOpen(errors.Conflict):
    code = "VENDOR_OWES"
    message = _("The vendor owes the platform; payouts go on when that is settled.")


_REFUSED: Final[dict[str | None, type[errors.MeStoreError]]] = {
    "payout_approved_by_enough": ApprovalsMissing,
    "payout_account_usable": AccountNotUsable,
}


def locked(payout_id: UUID) -> Payout:
    """Return the payout with its row held until the end of the transaction. Raises PayoutNotFound."""
    rows = Payout.objects.select_for_update(of=("self",), no_key=True).select_related(
        "bank_account", "vendor"
    )
    payout = rows.filter(pk=payout_id).first()
    if payout is None:
        raise PayoutNotFound
    return payout


def move(payout: Payout, to: PayoutState, *, reason: str = "", **values: Any) -> None:
    """Set the state, in the transaction that holds the row.

    Raises WrongState for a step that is none, and what the database refuses: ApprovalsMissing,
    AccountNotUsable.
    """
    if payout.state == to or not may_move(PAYOUT_TRANSITIONS, payout.state, to):
        raise WrongState(payout.state)
    before, told_as = payout.state, TOLD.get(to)
    changes = {
        "state": to.value,
        "state_reason": reason[:_LONGEST_REASON],
        "updated_at": timezone.now(),
        **values,
    }
    for name, value in changes.items():
        setattr(payout, name, value)
    try:
        with transaction.atomic():
            payout.save(update_fields=list(changes))
    except IntegrityError as error:
        payout.state = before
        raised = _REFUSED.get(transactions.constraint_of(error))
        if raised is None:
            raise
        raise raised from error
    if told_as is not None:
        emit(payout, told_as)


def move_all(payouts: Sequence[Payout], to: PayoutState, *, entries: Mapping[UUID, UUID]) -> None:
    """Set the state of several payouts whose rows are held, each with the entry that sends it; tell of all.

    As many statements for many as for one. Raises WrongState for the first that cannot go there.
    """
    for payout in payouts:
        if payout.state == to or not may_move(PAYOUT_TRANSITIONS, payout.state, to):
            raise WrongState(payout.state)
    now = timezone.now()
    sql.execute(
        _MOVE_ALL,
        {"ids": [row.pk for row in payouts], "entries": [entries[row.pk] for row in payouts],
         "state": to.value, "now": now},
    )  # fmt: skip
    for payout in payouts:
        payout.state, payout.state_reason, payout.updated_at = to.value, "", now
        payout.post_entry_id = entries[payout.pk]
    if (kind := TOLD.get(to)) is not None:
        outbound.emit_many(kind, [(("payout", str(row.pk)), _outward(row)) for row in payouts])


def emit(payout: Payout, kind: str) -> None:
    """Tell the storefront, in the transaction of the change: ids, state and amount, nothing of a person."""
    outbound.emit(kind, subject=("payout", str(payout.pk)), data=_outward(payout))


def _outward(payout: Payout) -> dict[str, str]:
    return {
        "id": str(payout.pk), "payout_number": payout.payout_number, "vendor_id": str(payout.vendor_id),
        "amount": payout.amount.text, "currency": payout.currency, "state": payout.state,
    }  # fmt: skip


def give_up(
    payout: Payout, to: PayoutState, *, reason: str, by: Actor, at: dt.datetime | None = None
) -> Posting:
    """Reject or cancel a payout that was not sent; return the posting that frees its reservation.

    The caller posts it last. Raises WrongState.
    """
    now = at or timezone.now()
    move(payout, to, reason=reason, closed_at=now)
    note(payout, reason=reason, by=by)
    tell(payout, by=by, reason=reason)
    return payout_postings.void(
        payout=payout.pk, vendor=payout.vendor_id, amount=payout.amount, entry_id=ids.uuid7(), at=now,
        reserved_by=payout.reserve_entry_id,
    )  # fmt: skip


def note(
    payout: Payout, *, by: Actor, reason: str = "", event: str = events.PAYOUT_MOVED, **data: Any
) -> None:
    """Record where the payout stands now and why."""
    audit.record(
        event,
        by=by,
        target=("payout", str(payout.pk)),
        subject=str(payout.vendor_id),
        data={
            "state": payout.state,
            "reason": reason[:_LONGEST_REASON],
            "content": bytes(payout.content_hash).hex(),
            **data,
        },
    )


def tell(payout: Payout, *, by: Actor, reason: str = "") -> None:
    """Tell the vendor where the payout stands now."""
    delivery.notify(payout.vendor, "payout_told", _told(payout, reason), by=by, at_once=False)


def tell_all(payouts: Sequence[Payout], *, by: Actor) -> None:
    """Tell each vendor where its payout stands now, with as many statements for many as for one."""
    delivery.notify_many([(row.vendor, _told(row, "")) for row in payouts], "payout_told", by=by)


def _told(payout: Payout, reason: str) -> dict[str, str]:
    with override(payout.vendor.language or settings.LANGUAGE_CODE):
        state = str(WORDS[PayoutState(payout.state)])
    return {
        "number": payout.payout_number, "amount": str(payout.amount), "reason": reason, "state": state,
        "last_four": payout.bank_account.last_four,
    }  # fmt: skip


def post(postings: Sequence[Posting], *, by: Actor) -> None:
    """Post them, last in the transaction: the balances that they move are held until its end only."""
    ledger.post_many(postings, by=by)


def demand_payable(vendor_id: UUID, currency: str) -> None:
    """Raise VendorNotPayable or DebtOpen for a vendor to whom nothing is paid now."""
    if not _payable().filter(user_id=vendor_id).exists():
        raise VendorNotPayable
    if owed(vendor_id, currency) > 0:
        raise DebtOpen


def are_payable(vendor_ids: Collection[UUID], currency: str) -> bool:
    """Say what `demand_payable` says of all these vendors, with two statements."""
    wanted = set(vendor_ids)
    if set(_payable().filter(user_id__in=wanted).values_list("user_id", flat=True)) != wanted:
        return False
    return not debtors(wanted, currency)


def _payable() -> QuerySet[VendorProfile]:
    return VendorProfile.objects.filter(
        vendor_status=VendorProfile.Status.APPROVED, user__is_active=True, user__deleted_at=None,
        user__user_type=Role.VENDOR,
    )  # fmt: skip


def demand_usable(payout: Payout) -> None:
    """Raise AccountNotUsable for an account that is removed or still cools off."""
    if not is_usable(payout):
        raise AccountNotUsable


def is_usable(payout: Payout) -> bool:
    """Say whether money may go to the payout's account: it is there, and its cooling-off is over."""
    account = payout.bank_account
    return account.removed_at is None and account.usable_from <= timezone.now()


WORDS: Final = {
    PayoutState.REQUESTED: _("requested"),
    PayoutState.SCREENED: _("waiting for approval"),
    PayoutState.HELD: _("held"),
    PayoutState.APPROVED: _("approved"),
    PayoutState.SUBMITTING: _("in a file for the bank"),
    PayoutState.IN_TRANSIT: _("sent to the bank"),
    PayoutState.UNKNOWN: _("outcome unknown"),
    PayoutState.PAID: _("paid"),
    PayoutState.RETURNED: _("returned by the bank"),
    PayoutState.REJECTED: _("rejected"),
    PayoutState.CANCELLED: _("cancelled"),
}
"""The states as people read them."""
