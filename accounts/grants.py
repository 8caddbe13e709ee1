"""What an account may do: the views of its role and its open grants. Deny by default.

Permissions are read from the database on every request, in one statement, and remembered on that request's
user object only; no token, session or cache carries them. Django's own permission names (`app.view_model`),
which the console asks for, are translated through a register that each app fills in `ready()`; a model that
nobody registered is closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import F, Q
from django.utils import timezone

from accounts import roles

if TYPE_CHECKING:
    from accounts.models import User

_MEMORY = "_effective_permissions"
_model_permissions: dict[tuple[str, str], str] = {}


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
    """Return every permission name that `user` holds now: one statement, then remembered on the object."""
    known: frozenset[str] | None = user.__dict__.get(_MEMORY)
    if known is None:
        known = _read(user) if user.is_active and user.deleted_at is None else frozenset()
        user.__dict__[_MEMORY] = known
    return known


def forget(user: User) -> None:
    """Drop what `effective` remembered on this object."""
    user.__dict__.pop(_MEMORY, None)


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


def _read(user: User) -> frozenset[str]:
    now = timezone.now()
    granted = user.grants.filter(
        Q(expires_at__isnull=True) | Q(expires_at__gt=now),
        revoked_at__isnull=True,
        # Somebody whose clearance was lowered keeps the row and loses its effect.
        permission__required_clearance__lte=F("user__security_clearance_level"),
    ).values_list("permission__name", flat=True)
    return roles.inherited(user.user_type) | frozenset(granted)
