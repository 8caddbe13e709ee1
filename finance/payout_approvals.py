"""Agreeing to payouts, and making them wait. Who asks, gets it or entered the account never agrees to it.

An approval names the exact content and counts for a day, as long as who gave it may still give it: that is
read again when the payout is sent, and a payout whose approvals do not count any more goes back.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import grants, hierarchy
from accounts.models import User
from finance import payout_screening, payout_states, transactions
from finance.models import Payout, PayoutApproval
from finance.payout_rules import APPROVALS_LIVE
from finance.payout_states import AccountNotUsable, DebtOpen, VendorNotPayable, WrongState
from finance.states import PayoutState
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import audit, events

APPROVING: Final = "payments.approve.global"
#: A finance lead: this scope is handed out by a superuser with a second person's yes only.
LEADING: Final = "payments.approve.system"
STEP_UP: Final = "payout.approve"


class OwnPayout(errors.Forbidden):
    """Who asked for it, gets it or entered its account. The database refuses it too."""

    code = "SECOND_PERSON_REQUIRED"
    message = _("Somebody else has to approve this payout: you asked for it, get it, or entered its account.")


class ApprovedAlready(errors.Conflict):
    code = "APPROVED_ALREADY"
    message = _("You have approved this payout already; one more person has to.")


class ContentChanged(errors.Conflict):
    code = "PAYOUT_CHANGED"
    message = _("The payout is not what you saw. Look again.")


_REFUSED: Final[dict[str | None, type[errors.MeStoreError]]] = {
    "payout_approval_by_another": OwnPayout,
    "payout_approval_of_content": ContentChanged,
    "payout_approval_once": ApprovedAlready,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """Which approvals count now: of how many people, and how many of them are finance leads."""

    approvals: int
    leads: int

    def suffices(self, payout: Payout) -> bool:
        return self.approvals >= payout.approvals_needed and (self.leads > 0 or not payout.needs_lead)

    def missing(self, payout: Payout) -> int:
        """How many people still have to agree."""
        lead = 1 if payout.needs_lead and not self.leads else 0
        return max(payout.approvals_needed - self.approvals, lead)


def approve(payout_id: UUID, *, by: Actor, reason: str = "", content: bytes | None = None) -> Payout:
    """Agree to a payout; with the last approval that it needs it is approved.

    `content` is the hash of what the approver saw, where they say so. The caller asked for a fresh factor.
    Raises hierarchy.NotAllowed, PayoutNotFound, WrongState, OwnPayout, ApprovedAlready, ContentChanged,
    AccountNotUsable, VendorNotPayable, DebtOpen.
    """
    authority = hierarchy.authority_of(by)
    approver = authority.user
    if approver is None:
        # A command agrees to nothing.
        raise hierarchy.refused("no_person", by)
    hierarchy.demand_right(authority, APPROVING, by)
    try:
        return transactions.run(lambda: _approve(payout_id, approver, reason, content, by))
    except (OwnPayout, ContentChanged) as refused:
        audit.record_refusal(
            events.PAYOUT_APPROVAL_REFUSED,
            by=by,
            target=("payout", str(payout_id)),
            data={"why": refused.code},
        )
        raise


def standing(payout: Payout) -> Standing:
    """Return which approvals of exactly this content count now; who may not approve any more is left out."""
    return standings([payout])[payout.pk]


def standings(payouts: Sequence[Payout]) -> dict[UUID, Standing]:
    """Return what `standing` says of each, by the payout's id, with two statements for all of them."""
    since, contents = timezone.now() - APPROVALS_LIVE, {row.pk: bytes(row.content_hash) for row in payouts}
    rows = [
        row
        for row in PayoutApproval.objects.filter(payout__in=contents, approved_at__gt=since).select_related(
            "approver"
        )
        if bytes(row.content_hash) == contents[row.payout_id]
    ]
    held = grants.held_by({row.approver_id: row.approver for row in rows}.values())
    good: dict[UUID, set[UUID]] = {pk: set() for pk in contents}
    leads: dict[UUID, set[UUID]] = {pk: set() for pk in contents}
    for row in rows:
        names = held.get(row.approver_id, frozenset())
        if APPROVING in names:
            good[row.payout_id].add(row.approver_id)
            if row.as_lead and LEADING in names:
                leads[row.payout_id].add(row.approver_id)
    return {pk: Standing(len(good[pk]), len(leads[pk])) for pk in contents}


def hold(payout_id: UUID, *, reason: str, by: Actor) -> Payout:
    """Make a payout wait until somebody lets it go on.

    Raises PayoutNotFound, WrongState, hierarchy.ReasonMissing.
    """
    return _moved(payout_id, (PayoutState.REQUESTED, PayoutState.SCREENED, PayoutState.APPROVED),
                  PayoutState.HELD, reason, by)  # fmt: skip


def release(payout_id: UUID, *, reason: str, by: Actor) -> Payout:
    """Let a held payout go on to its approvals. That an account still cools off is for the database to say.

    Raises PayoutNotFound, WrongState, hierarchy.ReasonMissing, hierarchy.NotAllowed for who asked for it.
    """
    if by.id is not None and Payout.objects.filter(pk=payout_id, requested_by=by.id).exists():
        raise hierarchy.refused("own_payout", by)
    return _moved(payout_id, (PayoutState.HELD,), PayoutState.SCREENED, reason, by)


def screen_again(limit: int, *, by: Actor) -> int:
    """Let up to `limit` payouts go on that screening held and does not hold any more; return how many."""
    waiting = Payout.objects.filter(
        state=PayoutState.HELD.value, state_reason__startswith=payout_screening.FOUND,
        bank_account__usable_from__lte=timezone.now(),
    )  # fmt: skip
    return sum(_screen_again(payout_id, by) for payout_id in waiting.values_list("id", flat=True)[:limit])


def check_again(payout: Payout, *, by: Actor) -> bool:
    """Look at an approved payout once more before it is sent, its row held; say whether it may go.

    One that may not goes back to its approvals, or waits, with the reason.
    """
    try:
        payout_states.demand_usable(payout)
        payout_states.demand_payable(payout.vendor_id, payout.currency)
    except (AccountNotUsable, VendorNotPayable, DebtOpen) as obstacle:
        payout_states.move(payout, PayoutState.HELD, reason=obstacle.code.lower())
    else:
        if standing(payout).suffices(payout):
            return True
        payout_states.move(
            payout, PayoutState.SCREENED, reason="approvals do not count any more", approved_at=None
        )
    payout_states.note(payout, by=by, reason=payout.state_reason)
    return False


def _approve(payout_id: UUID, approver: User, reason: str, content: bytes | None, by: Actor) -> Payout:
    payout = payout_states.locked(payout_id)
    if payout.state != PayoutState.SCREENED:
        raise WrongState(payout.state)
    if content is not None and content != bytes(payout.content_hash):
        raise ContentChanged
    as_lead = payout.needs_lead and grants.has_perm(approver, LEADING)
    _write(payout, approver, as_lead=as_lead, reason=reason)
    payout_states.demand_usable(payout)
    payout_states.demand_payable(payout.vendor_id, payout.currency)
    now_stands = standing(payout)
    payout_states.note(
        payout, by=by, reason=reason, event=events.PAYOUT_APPROVAL_GIVEN, as_lead=as_lead,
        approvals=now_stands.approvals, needed=payout.approvals_needed,
    )  # fmt: skip
    if now_stands.suffices(payout):
        payout_states.move(payout, PayoutState.APPROVED, approved_at=timezone.now())
        payout_states.note(payout, by=by, event=events.PAYOUT_APPROVED)
        payout_states.tell(payout, by=by)
    grants.note_use(approver, APPROVING)
    return payout


def _write(payout: Payout, approver: User, *, as_lead: bool, reason: str) -> None:
    try:
        with transaction.atomic():
            PayoutApproval.objects.create(
                payout=payout, approver=approver, as_lead=as_lead, content_hash=bytes(payout.content_hash),
                reason=reason.strip()[:500],
            )  # fmt: skip
    except IntegrityError as error:
        refused = _REFUSED.get(transactions.constraint_of(error))
        if refused is None:
            raise
        raise refused from error


def _moved(
    payout_id: UUID, earlier: tuple[PayoutState, ...], to: PayoutState, reason: str, by: Actor
) -> Payout:
    hierarchy.demand_reason(reason)

    def work() -> Payout:
        payout = payout_states.locked(payout_id)
        if payout.state not in earlier:
            raise WrongState(payout.state)
        payout_states.move(payout, to, reason=reason.strip(), approved_at=None)
        payout_states.note(payout, by=by, reason=reason.strip())
        return payout

    return transactions.run(work)


def _screen_again(payout_id: UUID, by: Actor) -> bool:
    def work() -> bool:
        payout = payout_states.locked(payout_id)
        is_ours = payout.state == PayoutState.HELD and payout.state_reason.startswith(payout_screening.FOUND)
        found = payout_screening.screen(payout, payout.bank_account)
        if not is_ours or payout.expires_at <= timezone.now() or found.holds:
            return False
        reason = payout_screening.FOUND + found.text if found.reasons else ""
        payout_states.move(payout, PayoutState.SCREENED, reason=reason)
        payout_states.note(payout, by=by, reason=reason)
        return True

    return transactions.run(work)


def lives_until(approval: PayoutApproval) -> dt.datetime:
    """The moment from which an approval does not count any more."""
    return approval.approved_at + APPROVALS_LIVE
