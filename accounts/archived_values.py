"""Opening the personal values of an archived event: who may ask, and who agrees.

`manage.py audit_reveal` asks in the name of an account; somebody else who may read the trail approves in the
console, seeing which event of which file; then the command, run again, uses the approval up, once.
"""

from __future__ import annotations

from uuid import UUID

from django.utils.translation import gettext_lazy as _

from accounts import approvals, grants, hierarchy
from accounts.exports import AUDIT_READING
from accounts.models import ApprovalRequest
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import archive_revealing


class MayNotAsk(errors.Forbidden):
    message = _("Only staff who may read the audit trail can open an archived event.")


def standing(event_id: UUID, *, by: Actor) -> ApprovalRequest | None:
    """Return the request of `by` for this event that is approved, else the one that waits.

    Raises MayNotAsk, archive_revealing.NotArchived, hierarchy.NotAllowed.
    """
    _demand_may(by)
    month = archive_revealing.month_of(event_id)
    return approvals.standing(
        archive_revealing.PROCEDURE,
        by=by,
        target=archive_revealing.target(event_id),
        details=archive_revealing.details(event_id, month),
    )


def ask(event_id: UUID, *, reason: str, by: Actor) -> ApprovalRequest:
    """Ask a second person to let `by` see the personal values of this event.

    Raises MayNotAsk, archive_revealing.NotArchived, approvals.AskedAlready, hierarchy.ReasonMissing.
    """
    _demand_may(by)
    month = archive_revealing.month_of(event_id)
    return approvals.ask(
        archive_revealing.PROCEDURE,
        target=archive_revealing.target(event_id),
        details=archive_revealing.details(event_id, month),
        reason=reason,
        by=by,
    )


def register() -> None:
    """Make the procedure known; called when Django starts."""
    approvals.register(approvals.Procedure(archive_revealing.PROCEDURE, approver=AUDIT_READING))


def _demand_may(by: Actor) -> None:
    user = hierarchy.authority_of(by).user
    if user is None or not user.is_staff or not user.may_sign_in or not grants.has_perm(user, AUDIT_READING):
        raise MayNotAsk
