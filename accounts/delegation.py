"""Giving and taking back permissions: nobody hands out what they do not hold, to themselves, or alone.

A permission that can do much harm (settings: GRANTS_NEED_SECOND_PERSON; besides, every one of SYSTEM scope
and every one marked so) is given by two people: one asks, another approves, and at that moment the one who
asked must still be allowed to give it. A command of the server gives alone: it can read the keys.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from accounts import approvals, conditions, grants, hierarchy, roles
from accounts.hierarchy import Authority
from accounts.models import ApprovalRequest, Grant, Permission, User
from accounts.roles import Role, Scope
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import events

GRANTING = "permissions.grant.global"
REVOKING = "permissions.revoke.global"
PROCEDURE = "permissions.grant"


class UnknownPermission(errors.NotFound):
    message = _("There is no such permission.")


class AlreadyGranted(errors.Conflict):
    message = _("This permission is already granted.")


class NotGranted(errors.Conflict):
    message = _("This permission is not granted.")


def needs_second_person(permission: Permission) -> bool:
    """Whether one person alone may not give `permission`."""
    return (
        permission.requires_approval
        or permission.scope == Scope.SYSTEM
        or permission.risk in settings.GRANTS_NEED_SECOND_PERSON
    )


def give(
    user: User,
    permission: str,
    *,
    by: Actor,
    reason: str,
    expires_at: dt.datetime | None = None,
    given: Mapping[str, Any] | None = None,
) -> Grant | ApprovalRequest:
    """Give a permission, or ask the second person whom it needs; `given` are its conditions.

    Raises what `give_now` raises, and approvals.AskedAlready.
    """
    wanted, kept = _checked(user, permission, by, reason, expires_at, given)
    if by.kind == "system" or not needs_second_person(wanted):
        return _write(user, wanted, by=by, reason=reason, expires_at=expires_at, kept=kept)
    if any(line.name == wanted.name for line in grants.open_lines(user)):
        raise AlreadyGranted
    details = {
        "permission": wanted.name,
        "expires_at": expires_at.isoformat() if expires_at else None,
        "conditions": kept,
    }
    return approvals.ask(
        PROCEDURE, target=("user", str(user.pk)), about=user, details=details, reason=reason, by=by
    )


def give_now(
    user: User,
    permission: str,
    *,
    by: Actor,
    reason: str,
    expires_at: dt.datetime | None = None,
    given: Mapping[str, Any] | None = None,
) -> Grant:
    """Give `user` one permission at once, until `expires_at` if given, under the conditions `given`.

    Raises UnknownPermission, AlreadyGranted, hierarchy.ReasonMissing, approvals.SecondPersonRequired,
    errors.Unprocessable for an end in the past or conditions without meaning, and hierarchy.NotAllowed when
    the hierarchy, the clearance or what the giver holds forbids it.
    """
    wanted, kept = _checked(user, permission, by, reason, expires_at, given)
    if by.kind != "system" and needs_second_person(wanted):
        raise approvals.SecondPersonRequired(PROCEDURE)
    return _write(user, wanted, by=by, reason=reason, expires_at=expires_at, kept=kept)


def revoke(user: User, permission: str, *, by: Actor, reason: str) -> Grant:
    """Take one permission back, from the next request on. One person is enough to make things safer.

    Raises NotGranted, hierarchy.NotAllowed, hierarchy.ReasonMissing.
    """
    hierarchy.demand_reason(reason)
    authority = hierarchy.authority_of(by)
    hierarchy.demand_over(authority, user, by)
    if authority.user is not None and not grants.has_perm(authority.user, REVOKING):
        raise hierarchy.refused("cannot_revoke", by, user)
    now = timezone.now()
    with transaction.atomic():
        grant = (
            Grant.objects.select_for_update()
            .filter(user=user, permission__name=permission, revoked_at__isnull=True)
            .first()
        )
        if grant is None:
            raise NotGranted
        grant.revoked_at, grant.revoked_by_label, grant.revoked_why = now, by.label or by.kind, reason[:500]
        grant.save(update_fields=["revoked_at", "revoked_by_label", "revoked_why"])
        hierarchy.record(events.GRANT_REVOKED, user, by, data={"permission": permission, "reason": reason})
    grants.forget(user)
    return grant


def carry_out(request: ApprovalRequest, by: Actor) -> None:
    """Give what was approved, in the name of who asked and only if they still may. Raises as `give_now`."""
    user = request.about
    if user is None:
        raise approvals.NoSuchRequest
    details = request.details
    expires_at = parse_datetime(details["expires_at"]) if details["expires_at"] else None
    asker = request.asker
    wanted, kept = _checked(
        user, details["permission"], asker, request.reason, expires_at, details["conditions"]
    )
    _write(
        user, wanted, by=by, reason=request.reason, expires_at=expires_at, kept=kept, giver=request.asked_by
    )


def demand_may_give(user: User, names: Iterable[str], *, by: Actor, reason: str) -> None:
    """Raise as `give` does unless `by` may give `user` every one of `names`; nothing is given."""
    for name in names:
        _checked(user, name, by, reason, None, None)


def give_approved(user: User, names: Iterable[str], *, asker: Actor, by: Actor, reason: str) -> list[Grant]:
    """Give every one of `names` in the name of `asker`, which the second person `by` has just approved.

    One that the account holds meanwhile stays as it is. `asker` must still be allowed to give each. Raises as
    `give_now`.
    """
    held = {line.name for line in grants.open_lines(user)}
    giver = hierarchy.authority_of(asker).user
    rows = []
    for name in names:
        wanted, kept = _checked(user, name, asker, reason, None, None)
        if name not in held:
            rows.append(_write(user, wanted, by=by, reason=reason, expires_at=None, kept=kept, giver=giver))
    return rows


def register() -> None:
    """Make the procedure known, when Django starts."""
    approvals.register(approvals.Procedure(PROCEDURE, approver=GRANTING, carry_out=carry_out))


def _checked(
    user: User,
    permission: str,
    by: Actor,
    reason: str,
    expires_at: dt.datetime | None,
    given: Mapping[str, Any] | None,
) -> tuple[Permission, dict[str, Any] | None]:
    hierarchy.demand_reason(reason)
    wanted = Permission.objects.filter(name=permission).first()
    if wanted is None:
        raise UnknownPermission
    if expires_at is not None and expires_at <= timezone.now():
        raise errors.Unprocessable(
            details=[errors.FieldError("expires_at", _("The end must be in the future."), "past")]
        )
    kept = _conditions(given)
    authority = hierarchy.authority_of(by)
    hierarchy.demand_over(authority, user, by)
    why = _obstacle(authority, user, wanted)
    if why:
        raise hierarchy.refused(why, by, user)
    return wanted, kept


def _conditions(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not given:
        return None
    try:
        return conditions.check(given)
    except conditions.BadCondition as error:
        raise errors.Unprocessable(
            details=[errors.FieldError("conditions", _("These conditions have no meaning."), str(error))]
        ) from error


def _obstacle(authority: Authority, user: User, permission: Permission) -> str:
    """Say in one word why the permission may not be given; an empty text when it may."""
    if user.user_type == Role.SYSTEM:
        return "machine"
    if not user.is_active or user.deleted_at is not None:
        return "closed"
    if user.security_clearance_level < permission.required_clearance:
        return "clearance"
    acting = authority.user
    if acting is None:
        return ""
    if roles.level(acting.user_type) < roles.requirement(permission.name).level:
        return "level"
    if permission.scope == Scope.DEPARTMENT and (
        not acting.department_id or acting.department_id != user.department_id
    ):
        return "department"
    held = grants.effective(acting)
    return "" if GRANTING in held and permission.name in held else "not_held"


def _write(
    user: User,
    permission: Permission,
    *,
    by: Actor,
    reason: str,
    expires_at: dt.datetime | None,
    kept: dict[str, Any] | None,
    giver: User | None = None,
) -> Grant:
    """`giver` is who asked, where `by` is the second person."""
    now = timezone.now()
    giver = giver or hierarchy.authority_of(by).user
    try:
        with transaction.atomic():
            # An expired row keeps its place in the history and frees the one open slot.
            Grant.objects.filter(
                user=user, permission=permission, revoked_at__isnull=True, expires_at__lte=now
            ).update(revoked_at=now, revoked_by_label="system", revoked_why="expired")
            grant = Grant.objects.create(
                user=user, permission=permission, granted_by=giver,
                granted_by_label=giver.email if giver else by.label or by.kind,
                granted_at=now, expires_at=expires_at, reason=reason[:500], conditions=kept,
            )  # fmt: skip
            data: dict[str, Any] = {"permission": permission.name, "reason": reason, "expires_at": expires_at}
            data |= {"conditions": kept} if kept else {}
            data |= {"granted_by": str(giver.pk)} if giver is not None else {}
            hierarchy.record(events.GRANT_GIVEN, user, by, data=data)
    except IntegrityError as error:
        if "grant_one_open" in str(error):
            raise AlreadyGranted from error
        raise
    grants.forget(user)
    return grant
