"""Who stands above whom: the checks that every change to another account begins with, by whatever door.

The acting person is read from the database, not from what a session or a request says. Nobody acts on
themselves, nobody reaches their own level or above except a superuser, and nobody touches an account with
more clearance than their own. A command on the server (`actor.system`) is above the hierarchy: whoever can
run it can read the keys. Each "no" is recorded before it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from accounts import grants, roles
from accounts.conditions import Access
from accounts.models import User
from accounts.roles import Role
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import audit, events

REASON_LENGTH = 10


class NotAllowed(errors.Forbidden):
    """The hierarchy says no."""

    message = _("You may not do this to this account.")


class ReasonMissing(errors.Unprocessable):
    message = _("A reason of at least ten characters is needed.")


@dataclass(frozen=True, slots=True)
class Authority:
    """The acting party as the database knows it; `user` is None for a command of the system."""

    user: User | None


def authority_of(by: Actor) -> Authority:
    """Return who acts. Raises NotAllowed for a stranger, a machine, an account that is closed, and whoever
    looks through another person's eyes.
    """
    if by.kind == "system":
        return Authority(user=None)
    acting_id = _acting_id(by)
    acting = User.objects.filter(pk=acting_id).first() if acting_id is not None else None
    return _standing(acting, by)


@dataclass(frozen=True, slots=True)
class Held:
    """Who acts, and the accounts it is about, none of which changes before the transaction ends."""

    authority: Authority
    users: Mapping[UUID, User]


def hold(by: Actor, user_ids: Iterable[UUID]) -> Held:
    """Lock the acting person and the accounts, in one statement and one order; unknown ids are left out.

    Two superusers who close each other at the same moment wait here, and the second finds their own account
    closed. Raises as `authority_of` does.
    """
    wanted = set(user_ids)
    acting_id = _acting_id(by)
    both = wanted if acting_id is None else wanted | {acting_id}
    # In the order of the ids, so that two who hold cannot wait for each other.
    rows = User.objects.select_for_update(no_key=True).filter(pk__in=both).order_by("pk")
    found = {user.pk: user for user in rows}
    if by.kind == "system":
        return Held(Authority(user=None), found)
    authority = _standing(found.get(acting_id) if acting_id is not None else None, by)
    return Held(authority, {pk: user for pk, user in found.items() if pk in wanted})


def _acting_id(by: Actor) -> UUID | None:
    if by.kind != "user" or by.id is None:
        return None
    try:
        return UUID(by.id)
    except ValueError:
        return None


def _standing(acting: User | None, by: Actor) -> Authority:
    if by.impersonator is not None:
        # Whoever looks through another person's eyes changes nobody with that person's rank.
        raise refused("impersonated", by)
    if acting is None or not acting.is_active or acting.deleted_at is not None:
        raise refused("nobody", by)
    grants.see(acting, Access(address=by.address, second_factor=by.second_factor))
    return Authority(user=acting)


def demand_rank(
    authority: Authority,
    role: Role,
    clearance: int,
    by: Actor,
    user: User | None = None,
    *,
    strictly: bool = False,
) -> None:
    """Raise NotAllowed unless `authority` may administer an account of that role and clearance."""
    why = obstacle(authority, role, clearance, strictly=strictly)
    if why:
        raise refused(why, by, user)


def demand_over(authority: Authority, user: User, by: Actor, *, strictly: bool = False) -> None:
    """Raise NotAllowed unless `authority` may administer `user`; `strictly`: only with less clearance."""
    why = obstacle_over(authority, user, strictly=strictly)
    if why:
        raise refused(why, by, user)


def obstacle_over(authority: Authority, user: User, *, strictly: bool = False) -> str:
    """Say in one word why `authority` may not administer `user`; an empty text when it may."""
    if authority.user is not None and authority.user.pk == user.pk:
        return "oneself"
    return obstacle(authority, user.role, user.security_clearance_level, strictly=strictly)


def obstacle(authority: Authority, role: Role, clearance: int, *, strictly: bool = False) -> str:
    """As `obstacle_over`, for an account that need not exist yet."""
    acting = authority.user
    if acting is None:
        return ""
    if not roles.may_manage(acting.user_type, role):
        return "rank"
    own = acting.security_clearance_level
    if clearance > own or (strictly and clearance == own):
        return "clearance"
    return ""


def demand_reason(reason: str) -> None:
    """Raise ReasonMissing for less than ten characters."""
    if len(reason.strip()) < REASON_LENGTH:
        raise ReasonMissing(details=[errors.FieldError("reason", ReasonMissing.message, "too_short")])


def demand_right(authority: Authority, permission: str, by: Actor, user: User | None = None) -> None:
    """Raise NotAllowed unless the acting person holds `permission`; a command of the system needs none."""
    if authority.user is not None and not grants.has_perm(authority.user, permission):
        raise refused("not_held", by, user)


def refused(why: str, by: Actor, user: User | None = None) -> NotAllowed:
    """Record the refusal at once and return the error to raise."""
    audit.record_refusal(
        events.ADMINISTRATION_REFUSED,
        by=by,
        target=("user", str(user.pk)) if user is not None else None,
        data={"why": why},
    )
    return NotAllowed()


def record(
    event: str,
    user: User,
    by: Actor,
    *,
    data: Mapping[str, Any] | None = None,
    personal: Mapping[str, Any] | None = None,
) -> None:
    """Record what happened to `user`, in the transaction of the change."""
    audit.record(
        event, by=by, target=("user", str(user.pk)), data=data, personal=personal, subject=str(user.pk)
    )
