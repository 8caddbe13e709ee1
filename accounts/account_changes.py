"""What an administrator changes about another person's account: names, clearance, locks, verification.

Passwords and addresses are not among them: an administrator starts a reset (`accounts.password_reset`) and
never learns or chooses a password, and an e-mail address is changed by its owner, who proves the new one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import freezes, hierarchy
from accounts.hierarchy import Authority
from accounts.models import User
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import events

PERSON = ("nombre", "apellido", "telefono", "ciudad", "empresa", "direccion", "department_id", "employee_id")
"""Columns that say who somebody is."""
MARKS = ("account_verified", "email_verified", "phone_verified")
"""Columns that say what counts as verified."""
MANAGING = "users.manage.global"
LOCK = dt.timedelta(hours=24)


class UserNotFound(errors.NotFound):
    message = _("User not found.")


class AccountDeleted(errors.Conflict):
    """A deleted account is restored before anything else is done to it."""

    message = _("This account is deleted. Restore it first.")


def find(user_id: UUID) -> User:
    """Return an account, deleted or not, with its shop. Raises UserNotFound."""
    user = User.objects.select_related("vendor_profile").filter(pk=user_id).first()
    if user is None:
        raise UserNotFound
    return user


def update(user_id: UUID, changes: Mapping[str, Any], *, by: Actor, strictly: bool = False) -> User:
    """Change columns of PERSON and MARKS; what is as it was is not written. Return the account.

    Another telephone number is not a verified one. Raises UserNotFound, AccountDeleted,
    hierarchy.NotAllowed, and KeyError for a column that is not named above: a mistake in the calling code.
    """
    if not set(changes) <= {*PERSON, *MARKS}:
        raise KeyError("only columns of PERSON and MARKS")
    with changing(user_id, by, strictly=strictly) as (_authority, user):
        changed = _different(user, changes)
        freezes.demand_columns_unfrozen(user, changed, by=by)
        if "telefono" in changed and "phone_verified" not in changed and user.phone_verified:
            changed["phone_verified"] = False
        write(user, changed)
        person = {name: changed[name] for name in PERSON if name in changed}
        marks = {name: changed[name] for name in MARKS if name in changed}
        if person:
            hierarchy.record(events.USER_UPDATED, user, by, data={"fields": sorted(person)}, personal=person)
        if marks:
            hierarchy.record(events.USER_CONTACT_MARKED, user, by, data=marks)
    return user


def change_clearance(
    user_id: UUID, clearance: int, *, reason: str, by: Actor, strictly: bool = False
) -> User:
    """Give an account another clearance, at most one's own; its sessions end. Raises as `update`."""
    with changing(user_id, by, strictly=strictly) as (authority, user):
        hierarchy.demand_right(authority, MANAGING, by, user)
        hierarchy.demand_rank(authority, user.role, clearance, by, user, strictly=strictly)
        was = user.security_clearance_level
        if clearance != was:
            write(user, {"security_clearance_level": clearance})
            data = {"from": was, "to": clearance, "reason": reason}
            hierarchy.record(events.USER_CLEARANCE_CHANGED, user, by, data=data)
    return read_again(user)


def lock(user_id: UUID, *, reason: str, by: Actor, until: dt.datetime | None = None) -> User:
    """Keep somebody out for a day, or until `until`; their sessions end. Raises as `update`."""
    end = until or timezone.now() + LOCK
    with changing(user_id, by) as (_authority, user):
        User.objects.filter(pk=user.pk).update(
            locked_until=end, auth_epoch=F("auth_epoch") + 1, updated_at=timezone.now()
        )
        hierarchy.record(events.USER_LOCKED, user, by, data={"until": end, "reason": reason})
    return read_again(user)


def unlock(user_id: UUID, *, reason: str, by: Actor) -> User:
    """End the lock of an account; one that is not locked stays as it is. Raises as `update`."""
    with changing(user_id, by) as (_authority, user):
        if user.locked_until is not None:
            write(user, {"locked_until": None})
            hierarchy.record(events.USER_UNLOCKED, user, by, data={"reason": reason})
    return user


def read_details(user_id: UUID, *, by: Actor) -> User:
    """Return an account as `find` does, and record that it was read."""
    user = find(user_id)
    with transaction.atomic():
        hierarchy.record(events.USER_DETAILS_READ, user, by)
    return user


@contextmanager
def changing(user_id: UUID, by: Actor, *, strictly: bool = False) -> Iterator[tuple[Authority, User]]:
    """Hold the account, once everything that does not depend on the change was checked."""
    with transaction.atomic():
        held = hierarchy.hold(by, [user_id])
        user = held.users.get(user_id)
        if user is None:
            raise UserNotFound
        hierarchy.demand_over(held.authority, user, by, strictly=strictly)
        if user.deleted_at is not None:
            raise AccountDeleted
        yield held.authority, user


def _different(user: User, changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if getattr(user, name) != value}


def write(user: User, changed: Mapping[str, Any]) -> None:
    """Set and save exactly these columns."""
    if not changed:
        return
    for name, value in changed.items():
        setattr(user, name, value)
    user.save(update_fields=[*changed, "updated_at"])


def read_again(user: User) -> User:
    """Return the account as the database has it now."""
    # A trigger moved the epoch: the object must not carry the old one.
    user.refresh_from_db()
    return user
