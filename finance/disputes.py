"""Disputes: a vendor disagrees with a commission, the staff looks at it and decides.

A commission that is not settled yet stands still meanwhile (`DISPUTED`): it is neither approved nor settled.
One that was paid keeps its status; only its money has gone. Deciding moves no money by itself: what the
vendor is to get back is an adjustment, which takes two people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.roles import STAFF
from finance import commissions, outbound, transactions
from finance.models import Commission, Dispute
from finance.states import ACTIVE_DISPUTES, CommissionStatus, DisputeStatus
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import audit, events

LONGEST_SUBJECT: Final = 100
SHORTEST_DESCRIPTION: Final = 10
LONGEST_DESCRIPTION: Final = 2_000
_STANDS_STILL: Final = (CommissionStatus.PENDING, CommissionStatus.APPROVED)
_OVER: Final = (CommissionStatus.CANCELLED, CommissionStatus.REFUNDED)
_EVENTS: Final[Mapping[DisputeStatus, str]] = {
    DisputeStatus.IN_REVIEW: events.DISPUTE_REVIEWED,
    DisputeStatus.RESOLVED: events.DISPUTE_RESOLVED,
    DisputeStatus.REFUSED: events.DISPUTE_REFUSED,
}


class DisputeNotFound(errors.NotFound):
    message = _("There is no such dispute.")


class DisputeOpen(errors.BadRequest):
    code = "DISPUTE_ALREADY_OPEN"
    message = _("There is an active dispute about this transaction already.")


class NotDisputable(errors.BadRequest):
    code = "NOT_DISPUTABLE"
    message = _("This commission was cancelled or refunded: there is nothing to dispute.")


class DisputeDecided(errors.Conflict):
    code = "DISPUTE_DECIDED"
    message = _("This dispute was decided before.")


def open_dispute(commission_id: UUID, *, subject: str, description: str, by: Actor) -> Dispute:
    """Open a dispute about a commission, in the vendor's name; one that waits for payment stands still.

    Lengths are the caller's check. Raises DisputeOpen when one is active, NotDisputable.
    """
    try:
        with transaction.atomic():
            commission = Commission.objects.select_for_update().get(pk=commission_id)
            if commission.status in _OVER:
                raise NotDisputable
            dispute = Dispute(
                commission=commission, vendor_id=commission.vendor_id, subject=subject,
                description=description, commission_status=commission.status, opened_at=timezone.now(),
            )  # fmt: skip
            dispute.save(force_insert=True)
            if commission.status in _STANDS_STILL:
                _move(commission, CommissionStatus.DISPUTED, disputed_at=dispute.opened_at)
            _tell("dispute.opened", events.DISPUTE_OPENED, dispute, by)
    except IntegrityError as error:
        if transactions.constraint_of(error) == "dispute_one_active_per_commission":
            raise DisputeOpen from error
        raise
    return dispute


def review(dispute: Dispute, *, by: Actor, reason: str = "") -> Dispute:
    """Say that somebody looks at it. Raises DisputeDecided."""
    return _decide(dispute, DisputeStatus.IN_REVIEW, reason=reason, by=by)


def resolve(dispute: Dispute, *, reason: str, by: Actor) -> Dispute:
    """Decide for the vendor; the commission is approved again. `reason` is told to the vendor.

    Raises DisputeDecided, and commissions.OwnRate for who gave the rate by hand.
    """
    return _decide(dispute, DisputeStatus.RESOLVED, reason=reason, by=by)


def refuse(dispute: Dispute, *, reason: str, by: Actor) -> Dispute:
    """Decide against the vendor; the commission is approved again. Raises as `resolve` does."""
    return _decide(dispute, DisputeStatus.REFUSED, reason=reason, by=by)


def readable(reader: User) -> QuerySet[Dispute]:
    """Return the disputes that `reader` may see: a vendor's own, all for the staff."""
    rows = Dispute.objects.select_related("commission")
    return rows if reader.user_type in STAFF else rows.filter(vendor=reader)


def find(dispute_id: UUID, *, reader: User) -> Dispute:
    """Return one dispute. Raises DisputeNotFound, also for another vendor's."""
    found = readable(reader).filter(pk=dispute_id).first()
    if found is None:
        raise DisputeNotFound
    return found


def _decide(dispute: Dispute, after: DisputeStatus, *, reason: str, by: Actor) -> Dispute:
    now = timezone.now()
    with transaction.atomic():
        # The commission first: the order of locks that settlement and refunds keep.
        commission = Commission.objects.select_for_update().get(pk=dispute.commission_id)
        before = ACTIVE_DISPUTES if after is not DisputeStatus.IN_REVIEW else (DisputeStatus.OPEN,)
        is_end = after is not DisputeStatus.IN_REVIEW
        changed = Dispute.objects.filter(pk=dispute.pk, status__in=before).update(
            status=after, resolution=reason[:1_000] if is_end else "", updated_at=now,
            decided_by=by.id if is_end else None, decided_at=now if is_end else None,
        )  # fmt: skip
        if not changed:
            raise DisputeDecided
        dispute.refresh_from_db()
        if is_end and commission.status == CommissionStatus.DISPUTED:
            # To decide is to approve, too: it is no way around the second person.
            if commissions.by_hand(commission.rule_snapshot) == by.id:
                raise commissions.OwnRate
            _move(commission, CommissionStatus.APPROVED, resolved_at=now, approved_at=now, approved_by=by.id)
        _tell("dispute.decided" if is_end else "", _EVENTS[after], dispute, by, reason=reason)
    return dispute


def _move(commission: Commission, after: CommissionStatus, **values: object) -> None:
    """Change the status of a row that is locked, and say so."""
    Commission.objects.filter(pk=commission.pk).update(status=after, updated_at=timezone.now(), **values)


def _tell(kind: str, event: str, dispute: Dispute, by: Actor, *, reason: str = "") -> None:
    data = {
        "dispute_id": str(dispute.pk), "commission_id": str(dispute.commission_id),
        "vendor_id": str(dispute.vendor_id), "status": str(dispute.status),
    }  # fmt: skip
    audit.record(event, by=by, target=("dispute", str(dispute.pk)), data={**data, "reason": reason})
    if kind:
        outbound.emit(kind, subject=("dispute", str(dispute.pk)), data=data)
