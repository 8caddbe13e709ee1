"""Who may call an API view. Deny by default; an authenticated caller who is refused leaves an audit line."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts import decisions, grants
from accounts.models import User
from accounts.roles import STAFF, Role
from mestore.lib import actor
from monitoring import audit, events


class _Recorded(BasePermission):
    """A rule whose "no" to somebody who is signed in is recorded. Strangers are simply asked to sign in."""

    def has_permission(self, request: Request, view: Any) -> bool:  # noqa: ARG002  # DRF's signature
        user: Any = request.user
        if not user.is_authenticated:
            return False
        if self.allows(request):
            return True
        route = request.resolver_match.view_name if request.resolver_match else ""
        by = actor.of(request)
        kept = decisions.record(self.needs(), self.verdict(user), by=by, route=route, method=request.method)
        audit.record_refusal(
            events.PERMISSION_DENIED, by=by,
            data={"needs": self.needs(), "route": route, "method": request.method, "decision": kept},
        )  # fmt: skip
        return False

    def allows(self, request: Request) -> bool:
        """Decide for a caller who is signed in."""
        raise NotImplementedError

    def needs(self) -> str:
        """Say what was missing, for the audit trail."""
        raise NotImplementedError

    def verdict(self, user: User) -> decisions.Verdict:
        """Say which rule refused, for support."""
        return decisions.Verdict("role", {"role": user.user_type}, {"roles": self.needs()})


class HasPermission(_Recorded):
    """A row of the permission table: `permission_classes = [HasPermission("orders.read.global")]`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self) -> HasPermission:
        """Let DRF, which calls each entry of `permission_classes`, take an instance for a class."""
        return self

    def allows(self, request: Request) -> bool:
        user: Any = request.user
        allowed = grants.has_perm(user, self.name)
        if allowed:
            grants.note_use(user, self.name)
        return allowed

    def needs(self) -> str:
        return self.name

    def verdict(self, user: User) -> decisions.Verdict:
        return decisions.explain(user, self.name)


class _HasRole(_Recorded):
    roles: frozenset[Role]

    def allows(self, request: Request) -> bool:
        return getattr(request.user, "user_type", None) in self.roles

    def needs(self) -> str:
        return " or ".join(sorted(self.roles))


class HasRole(_HasRole):
    """One of the roles named: `HasRole(Role.BUYER, Role.SYSTEM)`."""

    def __init__(self, *roles: Role) -> None:
        self.roles = frozenset(roles)

    def __call__(self) -> HasRole:
        """Let DRF, which calls each entry of `permission_classes`, take an instance for a class."""
        return self


class IsPerson(_HasRole):
    """Everybody but machine accounts: they have no password, no addresses and no profile to look after."""

    roles = frozenset(Role) - {Role.SYSTEM}


class IsVendor(_HasRole):
    """Vendors only."""

    roles = frozenset({Role.VENDOR})


class IsStaff(_HasRole):
    """Administrators and superusers."""

    roles = frozenset(STAFF)


class IsSuperuser(_HasRole):
    """Superusers only."""

    roles = frozenset({Role.SUPERUSER})


class IsMachine(_HasRole):
    """Machine accounts only."""

    roles = frozenset({Role.SYSTEM})


class IsVendorOrStaff(_HasRole):
    """Vendors (who see their own), administrators and superusers (who see all)."""

    roles = frozenset({Role.VENDOR, *STAFF})
