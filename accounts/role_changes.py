"""Giving an account another role. A place among the staff, or a higher one, needs a second person."""

from __future__ import annotations

from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import approvals, devices, grants, hierarchy, password_reset, roles
from accounts.account_changes import MANAGING, changing, read_again, write
from accounts.hierarchy import Authority
from accounts.models import ApprovalRequest, Grant, User, VendorProfile
from accounts.roles import STAFF, Role
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import events

PROCEDURE = "users.set_role"
APPROVING = "permissions.grant.global"


class RoleMovedOn(errors.Conflict):
    """The approval speaks of a role that the account does not have any more."""

    message = _("The account's role has changed since this was asked for.")


def change(user_id: UUID, role: Role, *, reason: str, by: Actor) -> User | ApprovalRequest:
    """Give an account another role, or ask the second person whom that needs. The role it has: no change.

    Its sessions end with the statement. Somebody who loses power loses every grant with it; a vendor gets a
    shop in draft. Raises account_changes.UserNotFound, AccountDeleted, hierarchy.NotAllowed, and where a
    second person is asked hierarchy.ReasonMissing and approvals.AskedAlready.
    """
    with changing(user_id, by) as (authority, user):
        _check(authority, user, role, by)
        if by.kind != "system" and _rises_to_staff(user.role, role):
            details = {"from": user.user_type, "to": str(role)}
            return approvals.ask(
                PROCEDURE, target=("user", str(user.pk)), about=user, details=details, reason=reason, by=by
            )
        _write(user, role, reason, by)
    return read_again(user)


def register() -> None:
    """Make the procedure known; called when Django starts."""
    approvals.register(approvals.Procedure(PROCEDURE, APPROVING, carry_out))


def carry_out(request: ApprovalRequest, by: Actor) -> None:
    """Do what a second person approved, in the name of who asked, if they may still ask for it.

    `by`, who approved, must be one who could administer the account with its new role: nobody helps somebody
    past themselves. Whoever was invited to that place and has no password yet receives the link to set one.
    """
    asker, role = request.asker, Role(request.details["to"])
    with changing(UUID(request.target_id), asker) as (authority, user):
        _check(authority, user, role, asker)
        approver = hierarchy.authority_of(by)
        hierarchy.demand_rank(approver, role, user.security_clearance_level, by, user)
        if user.user_type != request.details["from"]:
            raise RoleMovedOn
        _write(user, role, request.reason, asker)
        invited = read_again(user)
        if not invited.has_usable_password() and invited.email_key is not None:
            password_reset.start(invited, reason=request.reason, by=asker)


def _check(authority: Authority, user: User, role: Role, by: Actor) -> None:
    if Role.SYSTEM in {role, user.role}:
        # Machine accounts are made with their key and are nothing else before or after.
        raise hierarchy.refused("machine_role", by, user)
    hierarchy.demand_right(authority, MANAGING, by, user)
    hierarchy.demand_rank(authority, role, user.security_clearance_level, by, user)


def _rises_to_staff(was: Role, role: Role) -> bool:
    return role in STAFF and roles.level(role) > roles.level(was)


def _write(user: User, role: Role, reason: str, by: Actor) -> None:
    was = user.role
    if role is was:
        return
    write(user, {"user_type": str(role)})
    if role is Role.VENDOR:
        VendorProfile.objects.get_or_create(user=user)
    devices.distrust(user, by=by, keep_own=False)
    ended = _end_grants(user, by) if roles.level(role) < roles.level(was) else 0
    data = {"from": str(was), "to": str(role), "grants_ended": ended, "reason": reason}
    hierarchy.record(events.USER_ROLE_CHANGED, user, by, data=data)


def _end_grants(user: User, by: Actor) -> int:
    ended = Grant.objects.filter(user=user, revoked_at__isnull=True).update(
        revoked_at=timezone.now(), revoked_by_label=by.label or by.kind, revoked_why="role_changed"
    )
    grants.forget(user)
    return ended
