"""Which roles come to a method of a view, and what the staff among them needs besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import User
from accounts.permissions import HasPermission, HasRole
from accounts.roles import STAFF, Role

READING = frozenset({"HEAD", "OPTIONS"})


class RoleView(APIView):
    """A view whose methods are open to the roles in `roles`; `needs` names what the staff has to hold.

    A method without roles is open to nobody. Both are looked up by method.
    """

    roles: Mapping[str, frozenset[Role]] = {}
    needs: Mapping[str, str] = {}

    def get_permissions(self) -> list[BasePermission]:
        """The role first, then the row of the permission table."""
        method = self.request.method or ""
        method = "GET" if method in READING else method
        rules: list[BasePermission] = [HasRole(*self.roles.get(method, ()))]
        name = self.needs.get(method)
        return [*rules, StaffHolds(name)] if name else rules


class StaffHolds(HasPermission):
    """What the staff has to hold; others were let in, or not, by their role.

    Who calls is asked when it is judged, not before: the description of the API is made without a caller.
    """

    def allows(self, request: Request) -> bool:
        return getattr(request.user, "user_type", None) not in STAFF or super().allows(request)


def reader_of(request: Request) -> User:
    """Return the account behind a request that was let in."""
    user: Any = request.user
    assert isinstance(user, User)  # noqa: S101 - the permissions of these views let nobody else in
    return user


def is_staff(request: Request) -> bool:
    """Say whether the caller is of the staff."""
    return reader_of(request).user_type in STAFF
