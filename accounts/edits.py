"""What the administration's forms do to one account: open it by invitation, change any part of it at once.

An administrator who opens an account chooses no password: the owner receives a link and sets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from accounts import (
    account_changes,
    administration,
    delegation,
    grant_sets,
    hierarchy,
    password_reset,
    role_changes,
    users,
)  # fmt: skip
from accounts.account_changes import MARKS, PERSON
from accounts.models import ApprovalRequest, Grant, User
from accounts.roles import STAFF, Role
from mestore.lib import errors
from mestore.lib.actor import Actor

Confirm = Callable[[str], None]
RANK = "users.change_role"
"""What must be confirmed freshly before rank is given or taken."""


class PasswordIsOwners(errors.Forbidden):
    """Nobody sets another person's password."""

    code = "PASSWORD_IS_THE_OWNERS"
    message = _("Administrators do not set passwords. Start a reset: the owner receives a link.")


class AddressIsOwners(errors.Unprocessable):
    message = _("An e-mail address is changed by its owner, who proves the new one.")

    def __init__(self) -> None:
        super().__init__(details=[errors.FieldError("body -> email", self.message, "owner_only")])


class SuperuserKept(errors.Forbidden):
    message = _("A superuser cannot be suspended here.")


@dataclass(frozen=True, slots=True)
class Edited:
    """The account as it is now, and what waits for a second person."""

    user: User
    waiting: list[ApprovalRequest] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Invitation:
    """An account to be opened for somebody. `strictly`: with less clearance than whoever opens it."""

    email: str
    role: Role
    clearance: int = 3
    fields: Mapping[str, Any] = field(default_factory=dict)
    permissions: Sequence[str] = ()
    strictly: bool = False


@dataclass(frozen=True, slots=True)
class Invited:
    """The new account, and the first permissions (and the rank): given, or waiting for a second person.

    `link_sent`: whether its owner has the link already; for the staff the second person's yes sends it.
    """

    user: User
    permissions: list[Grant | ApprovalRequest]
    link_sent: bool = True


def invite(given: Invitation, *, reason: str, by: Actor, confirm: Confirm) -> Invited:
    """Open an account for somebody and mail them the link with which they set their password.

    Whoever is to be on the staff begins as a buyer, who may nothing here, and waits for a second person, as
    on every other way to that rank. `confirm` is asked before a place among the staff or a permission is
    given. Raises what administration.create_user, grant_sets.give and role_changes.change raise.
    """
    waits = given.role in STAFF and by.kind != "system"
    if given.role in STAFF:
        confirm(RANK)
    if given.permissions:
        confirm(delegation.PROCEDURE)
    with transaction.atomic():
        user = administration.create_user(
            email=given.email,
            password=None,
            role=Role.BUYER if waits else given.role,
            clearance=given.clearance,
            fields=given.fields,
            by=by,
            strictly=given.strictly,
        )
        given_or_asked = grant_sets.give(user, given.permissions, reason=reason, by=by)
        if waits:
            # The second person's yes sends the link: one that was sent now would end with the change of rank.
            asked = role_changes.change(user.pk, given.role, reason=reason, by=by)
            given_or_asked += [asked] if isinstance(asked, ApprovalRequest) else []
        else:
            password_reset.start(user, reason=reason, by=by)
    return Invited(user, given_or_asked, link_sent=not waits)


def apply(
    user_id: UUID,
    given: Mapping[str, Any],
    *,
    reason: str,
    by: Actor,
    confirm: Confirm,
    strictly: bool = False,
) -> Edited:
    """Change what `given` names and what differs: all of it, or, when one part is refused, nothing.

    Besides the columns of account_changes: `user_type`, `security_clearance_level`, `is_active`. `email` may
    come along unchanged. `confirm` is asked before rank changes. Raises PasswordIsOwners, AddressIsOwners,
    and what the single changes raise.
    """
    user = account_changes.find(user_id)
    _refuse_what_is_the_owners(user, given)
    role = Role(given.get("user_type", user.user_type))
    clearance = int(given.get("security_clearance_level", user.security_clearance_level))
    if role is not user.role or clearance != user.security_clearance_level:
        confirm(RANK)
    waiting: list[ApprovalRequest] = []
    with transaction.atomic():
        if role is not user.role:
            done = role_changes.change(user_id, role, reason=reason, by=by)
            if isinstance(done, ApprovalRequest):
                waiting.append(done)
        if clearance != user.security_clearance_level:
            account_changes.change_clearance(user_id, clearance, reason=reason, by=by, strictly=strictly)
        plain = {name: given[name] for name in (*PERSON, *MARKS) if name in given}
        account_changes.update(user_id, plain, by=by, strictly=strictly)
        is_active = given.get("is_active", user.is_active)
        if is_active is not user.is_active:
            change = administration.reactivate if is_active else administration.deactivate
            change(user, reason=reason, by=by)
    return Edited(account_changes.read_again(user), waiting)


def suspend(user: User, *, reason: str, by: Actor) -> User:
    """Close an account that is not a superuser's. Raises as administration.deactivate, and SuperuserKept."""
    if user.user_type == Role.SUPERUSER:
        hierarchy.refused("superuser", by, user)
        raise SuperuserKept
    return administration.deactivate(user, reason=reason, by=by)


def _refuse_what_is_the_owners(user: User, given: Mapping[str, Any]) -> None:
    if given.get("password"):
        raise PasswordIsOwners
    if "email" in given and users.identifier(given["email"]) != users.identifier(user.email):
        raise AddressIsOwners
