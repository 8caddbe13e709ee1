"""Roles, levels and the rules of permissions: pure tables, no database, no clock.

A permission is `resource.action.scope` in lower case. What a role holds without a grant is only the view
(`*.read.read_only`) that `inherited` names; everything else needs a grant of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    BUYER = "BUYER"
    VENDOR = "VENDOR"
    ADMIN = "ADMIN"
    SUPERUSER = "SUPERUSER"
    SYSTEM = "SYSTEM"


class Resource(StrEnum):
    USERS = "USERS"
    VENDORS = "VENDORS"
    ORDERS = "ORDERS"
    PRODUCTS = "PRODUCTS"
    INVENTORY = "INVENTORY"
    TRANSACTIONS = "TRANSACTIONS"
    COMMISSIONS = "COMMISSIONS"
    REPORTS = "REPORTS"
    SETTINGS = "SETTINGS"
    AUDIT_LOGS = "AUDIT_LOGS"
    NOTIFICATIONS = "NOTIFICATIONS"
    PAYMENTS = "PAYMENTS"
    STORAGE = "STORAGE"
    ANALYTICS = "ANALYTICS"
    PERMISSIONS = "PERMISSIONS"


class Action(StrEnum):
    CREATE = "CREATE"
    READ = "READ"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    APPROVE = "APPROVE"
    REJECT = "REJECT"
    MANAGE = "MANAGE"
    AUDIT = "AUDIT"
    EXPORT = "EXPORT"
    IMPORT = "IMPORT"
    CONFIGURE = "CONFIGURE"
    MONITOR = "MONITOR"
    GRANT = "GRANT"
    REVOKE = "REVOKE"


class Scope(StrEnum):
    SYSTEM = "SYSTEM"
    GLOBAL = "GLOBAL"
    DEPARTMENT = "DEPARTMENT"
    TEAM = "TEAM"
    USER = "USER"
    READ_ONLY = "READ_ONLY"


class Risk(StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


STAFF = frozenset({Role.ADMIN, Role.SUPERUSER})
HIGHEST_PERSON_LEVEL = 4
HIGHEST_CLEARANCE = 5

_LEVELS = {Role.BUYER: 1, Role.VENDOR: 2, Role.ADMIN: 3, Role.SUPERUSER: 4, Role.SYSTEM: 5}

# What an action asks for before its scope is added: (role level, clearance).
_DEFAULT_REQUIREMENT = (3, 3)
_REQUIREMENTS = {
    (Resource.USERS, Action.CREATE): (4, 3),
    (Resource.USERS, Action.MANAGE): (5, 4),
    (Resource.USERS, Action.DELETE): (5, 5),
    (Resource.VENDORS, Action.APPROVE): (4, 3),
    (Resource.VENDORS, Action.MANAGE): (5, 4),
    (Resource.SETTINGS, Action.CONFIGURE): (5, 5),
    (Resource.AUDIT_LOGS, Action.READ): (4, 3),
    (Resource.TRANSACTIONS, Action.AUDIT): (5, 4),
    (Resource.PERMISSIONS, Action.GRANT): (5, 5),
    (Resource.PERMISSIONS, Action.REVOKE): (5, 5),
}
_SCOPE_LEVEL = {Scope.SYSTEM: 3, Scope.GLOBAL: 2, Scope.DEPARTMENT: 0}
_SCOPE_CLEARANCE = {Scope.SYSTEM: 2, Scope.GLOBAL: 1, Scope.READ_ONLY: -1}

# Powers that no role, hierarchy or delegation ever hands on: (resource, action, scope), None = any scope.
_NEVER_INHERITED: tuple[tuple[Resource, Action, Scope | None], ...] = (
    (Resource.USERS, Action.DELETE, Scope.GLOBAL),
    (Resource.USERS, Action.MANAGE, Scope.SYSTEM),
    (Resource.SETTINGS, Action.CONFIGURE, Scope.SYSTEM),
    (Resource.AUDIT_LOGS, Action.DELETE, None),
    (Resource.TRANSACTIONS, Action.UPDATE, None),
    (Resource.PERMISSIONS, Action.GRANT, None),
)


class UnknownPermissionError(ValueError):
    """The text is not `resource.action.scope` of known words."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """`level`: the role that may hand a permission out. `clearance`: what its holder needs at least."""

    level: int
    clearance: int


def level(role: Role | str) -> int:
    """Return the level of `role`, 1 (buyer) to 5 (machine). Raises ValueError for an unknown role."""
    return _LEVELS[Role(role)]


def may_manage(actor: Role | str, target: Role | str) -> bool:
    """Say whether somebody with role `actor` may administer an account with role `target`.

    Nobody reaches their own level or above, except a superuser, who administers everybody. A machine
    account administers nobody, however high its level. Oneself is the caller's check: roles know no people.
    """
    actor = Role(actor)
    if actor is Role.SUPERUSER:
        return True
    return actor in STAFF and level(actor) > level(target)


def name_of(resource: Resource | str, action: Action | str, scope: Scope | str) -> str:
    """Return the permission's name. Raises ValueError for a word outside the three lists."""
    return f"{Resource(resource)}.{Action(action)}.{Scope(scope)}".lower()


def parts_of(name: str) -> tuple[Resource, Action, Scope]:
    """Return the three parts of `name`. Raises UnknownPermissionError."""
    words = name.split(".")
    if len(words) != 3 or name != name.lower():
        raise UnknownPermissionError(name)
    try:
        return Resource(words[0].upper()), Action(words[1].upper()), Scope(words[2].upper())
    except ValueError as error:
        raise UnknownPermissionError(name) from error


def requirement(name: str) -> Requirement:
    """Return what `name` asks for: the table plus its scope, clamped to what people can have."""
    resource, action, scope = parts_of(name)
    base_level, base_clearance = _REQUIREMENTS.get((resource, action), _DEFAULT_REQUIREMENT)
    wanted_level = base_level + _SCOPE_LEVEL.get(scope, -1)
    wanted_clearance = base_clearance + _SCOPE_CLEARANCE.get(scope, 0)
    return Requirement(
        level=max(1, min(wanted_level, HIGHEST_PERSON_LEVEL)),
        clearance=max(1, min(wanted_clearance, HIGHEST_CLEARANCE)),
    )


def is_inheritable(name: str) -> bool:
    """Say whether `name` may ever be held without a grant of its own. Raises UnknownPermissionError."""
    resource, action, scope = parts_of(name)
    return not any(
        (resource, action) == (kept_resource, kept_action) and kept_scope in {None, scope}
        for kept_resource, kept_action, kept_scope in _NEVER_INHERITED
    )


def inherited(role: Role | str) -> frozenset[str]:
    """Return the permissions that come with `role`: the views of staff, nothing for anybody else.

    The audit trail is kept from ADMIN: who watches the watchers is decided by a grant.
    """
    role = Role(role)
    if role not in STAFF:
        return frozenset()
    views = (
        name_of(resource, Action.READ, Scope.READ_ONLY)
        for resource in Resource
        if role is Role.SUPERUSER or resource is not Resource.AUDIT_LOGS
    )
    return frozenset(name for name in views if is_inheritable(name))
