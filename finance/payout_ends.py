"""The ways in which a payout ends before anything left: cancelled, rejected, too old, its account removed."""

from __future__ import annotations

from uuid import UUID

from django.utils import timezone

from accounts import hierarchy
from finance import payout_states, transactions
from finance.models import BankAccount, Payout
from finance.payout_states import UNSENT, PayoutNotFound, WrongState
from finance.states import PayoutState
from mestore.lib.actor import Actor


def cancel(payout_id: UUID, *, vendor_id: UUID, by: Actor, reason: str = "") -> Payout:
    """Take a vendor's own request back; the amount is free again.

    Raises PayoutNotFound, also for another vendor's, and WrongState for what was sent or ended.
    """

    def work() -> Payout:
        payout = payout_states.locked(payout_id)
        if payout.vendor_id != vendor_id:
            raise PayoutNotFound
        return _end(payout, PayoutState.CANCELLED, reason or "by the vendor", by)

    return transactions.run(work)


def reject(payout_id: UUID, *, reason: str, by: Actor) -> Payout:
    """Say no to a payout that was not sent, and why; the amount is free again.

    The caller has asked for permission and a fresh factor. Raises PayoutNotFound, WrongState,
    hierarchy.ReasonMissing.
    """
    hierarchy.demand_reason(reason)
    return transactions.run(
        lambda: _end(payout_states.locked(payout_id), PayoutState.REJECTED, reason.strip(), by)
    )


def cancel_all_to(account: BankAccount, *, by: Actor) -> int:
    """Cancel what was asked for to an account that goes; return how many. Belongs inside a transaction."""
    waiting = Payout.objects.filter(bank_account=account, state__in=[state.value for state in UNSENT])
    ids = list(waiting.order_by("id").values_list("id", flat=True))
    # All rows first, the balance last: whoever has a later row may wait for the balance.
    held = [payout_states.locked(payout_id) for payout_id in ids]
    postings = [
        payout_states.give_up(payout, PayoutState.CANCELLED, reason="the bank account was removed", by=by)
        for payout in held
        if payout.state in UNSENT
    ]
    payout_states.post(postings, by=by)
    return len(postings)


def expire(limit: int, *, by: Actor) -> int:
    """Give up to `limit` payouts up whose time is over and that were not sent; return how many."""
    over = Payout.objects.filter(state__in=[state.value for state in UNSENT], expires_at__lte=timezone.now())
    return sum(
        _expire(payout_id, by) for payout_id in over.order_by("id").values_list("id", flat=True)[:limit]
    )


def _expire(payout_id: UUID, by: Actor) -> bool:
    def work() -> bool:
        payout = payout_states.locked(payout_id)
        if payout.state not in UNSENT or payout.expires_at > timezone.now():
            return False
        _end(payout, PayoutState.CANCELLED, "expired", by)
        return True

    return transactions.run(work)


def _end(payout: Payout, to: PayoutState, reason: str, by: Actor) -> Payout:
    if payout.state not in UNSENT:
        raise WrongState(payout.state)
    posting = payout_states.give_up(payout, to, reason=reason, by=by)
    payout_states.post([posting], by=by)
    return payout
