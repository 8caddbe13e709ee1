"""What an account may do: the views of its role and its open grants. Deny by default.

Permissions are read from the database on every request, in one statement, and remembered on that request's
user object only; no token, session or cache carries them. `see` tells under which circumstances they are
asked for (address, second factor). Django's own permission names (`app.view_model`),
which the console asks for, are translated through a register that each app fills in `ready()`; a model that
nobody registered is closed.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from accounts import conditions as condition_rules
from accounts import roles
from accounts.conditions import Access
from mestore.lib import sql

if TYPE_CHECKING:
    from accounts.models import User

USE_EVERY = dt.timedelta(hours=1)

_MEMORY = "_effective_permissions"
_ACCESS = "_access"
_UNKNOWN = Access()
_NOTE_USE = """
    INSERT INTO accounts_grantuse (grant_id, last_used_at) VALUES (%s, statement_timestamp())
    ON CONFLICT (grant_id) DO UPDATE SET last_used_at = excluded.last_used_at
    WHERE accounts_grantuse.last_used_at < excluded.last_used_at - interval '1 hour'
"""
_HELD_BY = """
    SELECT g.user_id, p.name FROM accounts_grant g JOIN accounts_permission p ON p.id = g.permission_id
    WHERE g.user_id = ANY(%s) AND g.revoked_at IS NULL AND (g.expires_at IS NULL OR g.expires_at > %s)
"""
_model_permissions: dict[tuple[str, str], str] = {}


@dataclass(frozen=True, slots=True)
class Line:
    """One open grant, as far as a decision needs it."""

    grant_id: UUID
    name: str
    clearance: int
    needs_factor: bool
    conditions: tuple[Any, ...]
    last_used_at: dt.datetime | None


def register_model_permission(
    model: str,
    *,
    view: str | None = None,
    change: str | None = None,
    add: str | None = None,
    delete: str | None = None,
) -> None:
    """Say which permission opens what the console does with `model` ("accounts.user").

    What is not named stays closed. Raises roles.UnknownPermissionError for a name outside the table.
    """
    app_label, model_name = model.lower().split(".")
    for verb, name in {"view": view, "change": change, "add": add, "delete": delete}.items():
        if name is not None:
            roles.parts_of(name)
            _model_permissions[(app_label, f"{verb}_{model_name}")] = name


def effective(user: User) -> frozenset[str]:
    """Return every permission name that counts for `user` now: one statement, then remembered on the object.

    A grant counts while it is open, the holder's clearance suffices and its conditions hold under the
    circumstances that `see` told; a permission that needs a second factor counts only where one was proved.
    """
    return frozenset(_remembered(user))


def held(user: User) -> frozenset[str]:
    """Return every permission that `user` has in force, whatever the circumstances: for reviews and lists."""
    if not user.is_active or user.deleted_at is not None:
        return frozenset()
    return roles.inherited(user.user_type) | {line.name for line in _lines(user)}


def held_by(users: Iterable[User]) -> dict[UUID, frozenset[str]]:
    """Return what `held` says of each of these people, by their id, with one statement."""
    people = {user.pk: user for user in users if user.is_active and user.deleted_at is None}
    given: dict[UUID, set[str]] = defaultdict(set)
    for user_id, name in sql.fetch_all(_HELD_BY, [list(people), timezone.now()]):
        given[user_id].add(name)
    return {pk: roles.inherited(user.user_type) | given[pk] for pk, user in people.items()}


def see(user: User, access: Access) -> None:
    """Tell under which circumstances permissions of this object are asked for, from now on."""
    # By attribute, not through __dict__: the account of a request is a lazy wrapper with its own.
    setattr(user, _ACCESS, access)
    forget(user)


def seen(user: User) -> Access:
    """Return what `see` told about this object."""
    access: Access = getattr(user, _ACCESS, _UNKNOWN)
    return access


def note_use(user: User, name: str) -> None:
    """Keep that a grant of `user` let them through, at most once an hour; views of a role leave no trace."""
    wanted = _ours(name)
    line = _remembered(user).get(wanted) if wanted else None
    if line is None or (line.last_used_at and line.last_used_at > timezone.now() - USE_EVERY):
        return
    sql.execute(_NOTE_USE, (line.grant_id,))


def obstacle(line: Line, user: User, access: Access, now: dt.datetime) -> str:
    """Return in one word why an open grant does not count under `access`; an empty text when it does."""
    # Somebody whose clearance was lowered keeps the row and loses its effect.
    if line.clearance > user.security_clearance_level:
        return "clearance"
    if line.needs_factor and access.second_factor is False:
        return "second_factor"
    if access.limit is not None and line.name not in access.limit:
        return "impersonator"
    for conditions in line.conditions:
        why = condition_rules.obstacle(
            conditions, now=now, address=access.address, department=user.department_id
        )
        if why:
            return why
    return ""


def open_lines(user: User) -> list[Line]:
    """Return the open grants of `user`, whether or not they count now."""
    return _lines(user)


def forget(user: User) -> None:
    """Drop what `effective` remembered on this object."""
    if hasattr(user, _MEMORY):
        delattr(user, _MEMORY)


def has_perm(user: User, name: str, obj: object | None = None) -> bool:
    """Say whether `user` holds `name`, ours (`users.read.read_only`) or Django's (`accounts.view_user`).

    Permissions here are about kinds of things: asked about one object, the answer is no, and the question
    belongs to the policy of that object.
    """
    if obj is not None:
        return False
    wanted = _ours(name)
    return wanted is not None and wanted in effective(user)


def has_module_perms(user: User, app_label: str) -> bool:
    """Say whether any registered model of the app is open to `user`."""
    names = {name for (app, _codename), name in _model_permissions.items() if app == app_label}
    return bool(names) and not names.isdisjoint(effective(user))


def _ours(name: str) -> str | None:
    app_label, separator, codename = name.partition(".")
    if not separator:
        return None
    return name if "." in codename else _model_permissions.get((app_label, codename))


def _remembered(user: User) -> dict[str, Line | None]:
    """Return the names that count, each with its grant; None where the role alone gives it."""
    known: dict[str, Line | None] | None = getattr(user, _MEMORY, None)
    if known is None:
        known = _read(user) if user.is_active and user.deleted_at is None else {}
        setattr(user, _MEMORY, known)
    return known


def _read(user: User) -> dict[str, Line | None]:
    now, access = timezone.now(), seen(user)
    names: dict[str, Line | None] = dict.fromkeys(roles.inherited(user.user_type))
    if access.limit is not None:
        names = {name: None for name in names if name in access.limit}
    for line in _lines(user):
        if line.name not in names and not obstacle(line, user, access, now):
            names[line.name] = line
    return names


def _lines(user: User) -> list[Line]:
    rows = user.grants.filter(
        Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now()), revoked_at__isnull=True
    ).values_list(
        "pk",
        "permission__name",
        "permission__required_clearance",
        "permission__requires_mfa",
        "permission__conditions",
        "conditions",
        "use__last_used_at",
    )
    return [
        Line(pk, name, level, mfa, (general, own), used) for pk, name, level, mfa, general, own, used in rows
    ]
