"""Creating and closing accounts. Each use case begins with the checks of `accounts.hierarchy`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import approvals, delegation, freezes, hierarchy, passwords, role_changes, users
from accounts.models import User, VendorProfile
from accounts.roles import STAFF, Role
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import events

NotAllowed = hierarchy.NotAllowed
ReasonMissing = hierarchy.ReasonMissing
give_grant = delegation.give_now
revoke_grant = delegation.revoke


class EmailTaken(errors.Conflict):
    """Another account has this address."""

    message = _("The e-mail address is already registered.")


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
    `strictly`: the new account has less clearance than whoever creates it. One person alone creates nobody of
    the staff (`accounts.edits.invite` asks the second). Raises NotAllowed, approvals.SecondPersonRequired,
    users.InvalidEmail, passwords.UnacceptablePassword, EmailTaken, hashers.HashingBusy.
    """
    role = Role(role)
    authority = hierarchy.authority_of(by)
    if role is Role.SYSTEM:
        # Machine accounts have no password; they are made with their key.
        raise hierarchy.refused("machine_role", by)
    hierarchy.demand_rank(authority, role, clearance, by, strictly=strictly)
    if role in STAFF and authority.user is not None:
        raise approvals.SecondPersonRequired(role_changes.PROCEDURE)
    users.normalise_email(email)
    names = [str((fields or {}).get(name, "")) for name in ("nombre", "apellido", "empresa")]
    words = passwords.context(email, *names)
    stored = (
        make_password(None)
        if password is None
        else passwords.hash_new(password, with_factor=with_factor, context=words)
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
    freezes.demand_unfrozen(user, by=by)
    if user.user_type == Role.SYSTEM or user.email_key is not None:
        raise hierarchy.refused("has_credentials", by, user)
    key = users.normalise_email(email)
    words = passwords.context(email, user.nombre, user.apellido, user.empresa)
    stored = passwords.hash_new(password, with_factor=with_factor, context=words)
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


def _switch(user: User, *, active: bool, event: str, reason: str, by: Actor) -> User:
    hierarchy.demand_reason(reason)
    with transaction.atomic():
        held = hierarchy.hold(by, [user.pk])
        hierarchy.demand_over(held.authority, held.users.get(user.pk, user), by)
        changed = User.objects.filter(pk=user.pk, is_active=not active, deleted_at__isnull=True).update(
            is_active=active, updated_at=timezone.now()
        )
        if changed:
            hierarchy.record(event, user, by, data={"reason": reason})
    user.refresh_from_db(fields=["is_active", "auth_epoch", "deleted_at", "updated_at"])
    return user


def _record_created(user: User, by: Actor) -> None:
    event = events.ADMINISTRATOR_CREATED if user.is_staff else events.USER_CREATED
    hierarchy.record(event, user, by, data={"role": user.user_type}, personal={"email": user.email})
