"""The way back in that two administrators open: one asks, one approves, and the person brings a mailed code.

The approval is one of the two proofs of a recovery. The other is the code that goes to the address of the
account at the moment of the approval; what follows is the same reset, with the same hold.
"""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from accounts import approvals, factors, freezes, grants, hierarchy, recovery
from accounts.models import ApprovalRequest, User
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events

PROCEDURE: Final = "users.factor_reset"
PERMISSION: Final = "users.manage.global"


class NothingToReset(errors.Conflict):
    """The account has no second factor."""

    message = _("This account has no second factor.")


def ask(user: User, *, reason: str, by: Actor) -> ApprovalRequest:
    """Ask a second person to let `user` back in.

    Raises hierarchy.NotAllowed, hierarchy.ReasonMissing, NothingToReset, approvals.AskedAlready.
    """
    hierarchy.demand_reason(reason)
    _demand_may(user, by)
    freezes.demand_unfrozen(user, by=by)
    if not factors.has_factor(user):
        raise NothingToReset
    return approvals.ask(PROCEDURE, target=("user", str(user.pk)), about=user, reason=reason, by=by)


def carry_out(request: ApprovalRequest, by: Actor) -> None:
    """Open the case and mail its owner a link and a code; runs in the transaction of the approval.

    Raises hierarchy.NotAllowed when who asked may not do so any more.
    """
    user = request.about
    if user is None:
        raise approvals.NoSuchRequest
    _demand_may(user, request.asker)
    freezes.demand_unfrozen(user, by=by)
    opened = recovery.open_case(user, [recovery.APPROVAL], code_seconds=settings.RECOVERY_SECONDS)
    audit.record(
        events.RECOVERY_BEGUN,
        by=by,
        target=("user", str(user.pk)),
        subject=str(user.pk),
        data={"case": str(opened.case.pk), "proofs": opened.case.proofs, "approval": str(request.pk)},
    )
    context = {
        "code": opened.code,
        "minutes": settings.RECOVERY_SECONDS // 60,
        "link": _link(user, opened.token),
    }
    delivery.notify(user, "recovery_approved", context, by=by, expires_at=opened.case.expires_at)


def register() -> None:
    """Make the procedure known, when Django starts."""
    approvals.register(approvals.Procedure(PROCEDURE, approver=PERMISSION, carry_out=carry_out))


def _demand_may(user: User, by: Actor) -> None:
    authority = hierarchy.authority_of(by)
    hierarchy.demand_over(authority, user, by)
    if authority.user is not None and not grants.has_perm(authority.user, PERMISSION):
        raise hierarchy.refused("not_held", by, user)


def _link(user: User, token: str) -> str:
    if user.is_staff:
        return f"{settings.PUBLIC_URL}/admin/recovery/{token}/"
    return f"{settings.FRONTEND_URL}/recovery?token={token}"
