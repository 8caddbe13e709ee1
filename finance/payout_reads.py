"""Reads of payouts: whose they are is part of every question. Bounded, and by an index."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from django.db.models import QuerySet

from accounts.models import User
from accounts.roles import STAFF
from finance.models import BankAccount, Payout, PayoutApproval, PayoutChange
from finance.payout_states import PayoutNotFound
from finance.states import LEGACY_PAYOUT, PayoutState

MOST_CHANGES: Final = 200


def readable(reader: User) -> QuerySet[Payout]:
    """Return the payouts that `reader` may see: all for the staff, a vendor's own, nobody's for others."""
    rows = Payout.objects.select_related("bank_account")
    return rows if reader.role in STAFF else rows.filter(vendor_id=reader.pk)


def find(payout_id: UUID, *, reader: User) -> Payout:
    """Return one payout. Raises PayoutNotFound, also about another vendor's."""
    payout = readable(reader).filter(pk=payout_id).first()
    if payout is None:
        raise PayoutNotFound
    return payout


def page(
    reader: User, *, state: str | None, before: UUID | None, limit: int
) -> tuple[list[Payout], UUID | None]:
    """Return up to `limit` payouts, newest first, and the cursor of the next page (None on the last)."""
    rows = readable(reader).order_by("-id")
    if state:
        rows = rows.filter(state=state)
    if before:
        rows = rows.filter(pk__lt=before)
    found = list(rows[: limit + 1])
    return found[:limit], found[limit - 1].pk if len(found) > limit else None


def changes_of(payout: Payout) -> Sequence[PayoutChange]:
    """Return how a payout came to where it stands, oldest first."""
    return list(PayoutChange.objects.filter(payout=payout).order_by("id")[:MOST_CHANGES])


def approvals_of(payout: Payout) -> Sequence[PayoutApproval]:
    """Return who agreed, oldest first, whether or not it counts now."""
    rows = PayoutApproval.objects.filter(payout=payout).select_related("approver")
    return list(rows.order_by("id")[:MOST_CHANGES])


def changes_in(
    vendor_id: UUID, *, since: dt.datetime | None, until: dt.datetime | None, word: str | None, limit: int,
    offset: int,
) -> Sequence[PayoutChange]:  # fmt: skip
    """Return the changes of a vendor's payouts, newest first, in the words of the first system.

    A step that those words do not know (screening, being put into a file) is not one of them.
    """
    rows = PayoutChange.objects.filter(payout__vendor_id=vendor_id, after__in=told_states(word))
    if since:
        rows = rows.filter(changed_at__gte=since)
    if until:
        rows = rows.filter(changed_at__lt=until)
    return list(rows.select_related("payout").order_by("-id")[offset : offset + limit])


def told(changes: Iterable[PayoutChange]) -> list[PayoutChange]:
    """Return the changes that the old words can tell: those that change the word, and the first."""
    return [change for change in changes if change.after in told_states(None)]


def told_states(word: str | None) -> list[str]:
    """Return the states whose beginning is a change of the old word, or of one of them."""
    first = {
        "SOLICITADO": [PayoutState.REQUESTED],
        "PROCESANDO": [PayoutState.APPROVED],
        "PAGADO": [PayoutState.PAID],
        "RECHAZADO": [PayoutState.REJECTED, PayoutState.CANCELLED, PayoutState.RETURNED],
    }
    words = [word] if word else list(first)
    return [state.value for one in words for state in first[one]]


def legacy_word(state: str) -> str:
    """Return the old word of a state; empty for no state."""
    return LEGACY_PAYOUT[PayoutState(state)] if state else ""


def accounts(vendor_id: UUID) -> Sequence[BankAccount]:
    """Return the bank accounts that a vendor has now, newest first."""
    return list(BankAccount.objects.filter(vendor_id=vendor_id, removed_at=None).order_by("-id")[:50])
