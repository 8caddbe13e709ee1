"""Creating and closing accounts, giving and taking back permissions.

Each begins with the checks of `accounts.hierarchy`; besides, nobody hands out what they do not hold.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import grants, hierarchy, passwords, roles, users
from accounts.hierarchy import Authority
from accounts.models import Grant, Permission, User, VendorProfile
from accounts.roles import Role
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import events

NotAllowed = hierarchy.NotAllowed
ReasonMissing = hierarchy.ReasonMissing
GRANTING = "permissions.grant.global"
REVOKING = "permissions.revoke.global"


class EmailTaken(errors.Conflict):
    """Another account has this address."""

    message = _("The e-mail address is already registered.")


class UnknownPermission(errors.NotFound):
    message = _("There is no such permission.")


class AlreadyGranted(errors.Conflict):
    message = _("This permission is already granted.")


class NotGranted(errors.Conflict):
    message = _("This permission is not granted.")


def create_user(
    *,
    email: str,
    password: str | None,
    role: Role,
    by: Actor,
    with_factor: bool = False,
    clearance: int = 3,
    fields: Mapping[str, Any] | None = None,
    strictly: bool = False,
) -> User:
    """Create an account for a person. `with_factor` allows the shorter password of a two-factor account.

    Without a password nobody can sign in until the owner has set one. A vendor gets an empty shop in draft.
    `strictly`: the new account has less clearance than whoever creates it. Raises NotAllowed,
    users.InvalidEmail, passwords.UnacceptablePassword, EmailTaken, hashers.HashingBusy.
    """
    role = Role(role)
    authority = hierarchy.authority_of(by)
    if role is Role.SYSTEM:
        # Machine accounts have no password; they are made with their key.
        raise hierarchy.refused("machine_role", by)
    hierarchy.demand_rank(authority, role, clearance, by, strictly=strictly)
    users.normalise_email(email)
    stored = (
        make_password(None) if password is None else passwords.hash_new(password, with_factor=with_factor)
    )
    values = {"security_clearance_level": clearance, "password_changed_at": timezone.now(), **(fields or {})}
    try:
        with transaction.atomic():
            user = User.objects.create_account(email=email, role=role, password_hash=stored, fields=values)
            if role is Role.VENDOR:
                VendorProfile.objects.create(user=user)
            _record_created(user, by)
    except IntegrityError as error:
        if "email_key" in str(error):
            raise EmailTaken from error
        raise
    return user


def give_credentials(user: User, *, email: str, password: str, by: Actor, with_factor: bool = False) -> User:
    """Give an imported account an address and a password, so that its owner can sign in.

    Raises NotAllowed, also for a machine account or one that has an address already.
    """
    hierarchy.demand_over(hierarchy.authority_of(by), user, by)
    if user.user_type == Role.SYSTEM or user.email_key is not None:
        raise hierarchy.refused("has_credentials", by, user)
    key = users.normalise_email(email)
    stored = passwords.hash_new(password, with_factor=with_factor)
    try:
        with transaction.atomic():
            user.email, user.email_key = email.strip(), key
            user.password, user.password_changed_at = stored, timezone.now()
            user.save(update_fields=["email", "email_key", "password", "password_changed_at", "updated_at"])
            hierarchy.record(events.CREDENTIALS_GIVEN, user, by, personal={"email": user.email})
    except IntegrityError as error:
        if "email_key" in str(error):
            raise EmailTaken from error
        raise
    user.refresh_from_db(fields=["auth_epoch"])
    return user


def deactivate(user: User, *, reason: str, by: Actor) -> User:
    """Close an account. Its sessions are dead with this statement, whatever kind they are.

    Closing a closed account changes nothing. Raises NotAllowed, ReasonMissing.
    """
    return _switch(user, active=False, event=events.USER_DEACTIVATED, reason=reason, by=by)


def reactivate(user: User, *, reason: str, by: Actor) -> User:
    """Open a closed account again; its old sessions stay dead. Raises NotAllowed, ReasonMissing."""
    return _switch(user, active=True, event=events.USER_REACTIVATED, reason=reason, by=by)


def give_grant(
    user: User, permission: str, *, by: Actor, reason: str, expires_at: dt.datetime | None = None
) -> Grant:
    """Give `user` one permission, until `expires_at` if given.

    Raises UnknownPermission, AlreadyGranted, ReasonMissing, errors.Unprocessable for an end in the past, and
    NotAllowed when the hierarchy, the clearance or what the giver holds forbids it.
    """
    hierarchy.demand_reason(reason)
    wanted = Permission.objects.filter(name=permission).first()
    if wanted is None:
        raise UnknownPermission
    now = timezone.now()
    if expires_at is not None and expires_at <= now:
        raise errors.Unprocessable(
            details=[errors.FieldError("expires_at", _("The end must be in the future."), "past")]
        )
    authority = hierarchy.authority_of(by)
    hierarchy.demand_over(authority, user, by)
    _demand_may_grant(authority, user, wanted, by)
    try:
        with transaction.atomic():
            # An expired row keeps its place in the history and frees the one open slot.
            Grant.objects.filter(
                user=user, permission=wanted, revoked_at__isnull=True, expires_at__lte=now
            ).update(revoked_at=now, revoked_by_label="system", revoked_why="expired")
            grant = Grant.objects.create(
                user=user,
                permission=wanted,
                granted_by=authority.user,
                granted_by_label=by.label or by.kind,
                granted_at=now,
                expires_at=expires_at,
                reason=reason,
            )
            hierarchy.record(events.GRANT_GIVEN, user, by, data=_grant_data(grant, wanted.name))
    except IntegrityError as error:
        if "grant_one_open" in str(error):
            raise AlreadyGranted from error
        raise
    grants.forget(user)
    return grant


def revoke_grant(user: User, permission: str, *, by: Actor, reason: str) -> Grant:
    """Take one permission back, from the next request on. Raises NotGranted, NotAllowed, ReasonMissing."""
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
        grant.revoked_at, grant.revoked_by_label, grant.revoked_why = now, by.label or by.kind, reason
        grant.save(update_fields=["revoked_at", "revoked_by_label", "revoked_why"])
        hierarchy.record(events.GRANT_REVOKED, user, by, data={"permission": permission, "reason": reason})
    grants.forget(user)
    return grant


def _switch(user: User, *, active: bool, event: str, reason: str, by: Actor) -> User:
    hierarchy.demand_reason(reason)
    hierarchy.demand_over(hierarchy.authority_of(by), user, by)
    with transaction.atomic():
        changed = User.objects.filter(pk=user.pk, is_active=not active, deleted_at__isnull=True).update(
            is_active=active, updated_at=timezone.now()
        )
        if changed:
            hierarchy.record(event, user, by, data={"reason": reason})
    user.refresh_from_db(fields=["is_active", "auth_epoch", "deleted_at", "updated_at"])
    return user


def _demand_may_grant(authority: Authority, user: User, permission: Permission, by: Actor) -> None:
    if user.user_type == Role.SYSTEM:
        raise hierarchy.refused("machine", by, user)
    if user.security_clearance_level < permission.required_clearance:
        raise hierarchy.refused("clearance", by, user)
    acting = authority.user
    if acting is None:
        return
    # SYSTEM scope begins with a command on the server; from there on it needs a second person.
    if permission.scope == roles.Scope.SYSTEM:
        raise hierarchy.refused("system_scope", by, user)
    if roles.level(acting.user_type) < roles.requirement(permission.name).level:
        raise hierarchy.refused("level", by, user)
    held = grants.effective(acting)
    if GRANTING not in held or permission.name not in held:
        raise hierarchy.refused("not_held", by, user)


def _record_created(user: User, by: Actor) -> None:
    event = events.ADMINISTRATOR_CREATED if user.is_staff else events.USER_CREATED
    hierarchy.record(event, user, by, data={"role": user.user_type}, personal={"email": user.email})


def _grant_data(grant: Grant, name: str) -> dict[str, Any]:
    return {"permission": name, "reason": grant.reason, "expires_at": grant.expires_at}
