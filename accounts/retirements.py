"""Giving up a month of the audit trail: who may ask, and who agrees.

`manage.py audit_retire` asks in the name of an account; somebody else who may read the trail approves in the
console, seeing the archive's digest; then the command, run again, uses the approval up.
"""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from accounts import approvals, grants, hierarchy
from accounts.exports import AUDIT_READING
from accounts.models import ApprovalRequest
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import retirement
from monitoring.archiving import Archived


class MayNotAsk(errors.Forbidden):
    message = _("Only staff who may read the audit trail can give up one of its months.")


def standing(archived: Archived, *, by: Actor) -> ApprovalRequest | None:
    """Return the request of `by` for this archive that is approved, else the one that waits.

    Raises MayNotAsk, hierarchy.NotAllowed.
    """
    _demand_may(by)
    return approvals.standing(
        retirement.PROCEDURE,
        by=by,
        target=retirement.target(archived.month),
        details=retirement.details(archived),
    )


def ask(archived: Archived, *, reason: str, by: Actor) -> ApprovalRequest:
    """Ask a second person to give the archived month up.

    Raises MayNotAsk, approvals.AskedAlready, hierarchy.ReasonMissing.
    """
    _demand_may(by)
    return approvals.ask(
        retirement.PROCEDURE,
        target=retirement.target(archived.month),
        details=retirement.details(archived),
        reason=reason,
        by=by,
    )


def register() -> None:
    """Make the procedure known; called when Django starts."""
    approvals.register(approvals.Procedure(retirement.PROCEDURE, approver=AUDIT_READING))


def _demand_may(by: Actor) -> None:
    user = hierarchy.authority_of(by).user
    if user is None or not user.is_staff or not user.may_sign_in or not grants.has_perm(user, AUDIT_READING):
        raise MayNotAsk
