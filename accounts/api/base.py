"""What the views of the administration share: who may call which method, how often, how freshly confirmed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import lists
from accounts.hierarchy import REASON_LENGTH
from accounts.models import User
from accounts.permissions import HasPermission, IsStaff, IsSuperuser
from mestore.lib import errors, guard, throttle
from mestore.lib.throttle import Limit

READING = frozenset({"GET", "HEAD", "OPTIONS"})
Role = type[BasePermission]
Method = TypeVar("Method", bound=Callable[..., Response])


class AdministrationView(APIView):
    """A view for `role`, whose methods need the permissions that `needs` names; a method without one is
    open to the role alone. `step_up` names what must be confirmed freshly, by method."""

    role: Role = IsStaff
    needs: Mapping[str, str] = {}
    step_up: Mapping[str, str] = {}

    def get_permissions(self) -> list[Any]:
        """The role first, then the row of the permission table."""
        method = "GET" if self.request.method == "HEAD" else self.request.method or ""
        name = self.needs.get(method)
        return [self.role(), *([HasPermission(name)] if name else [])]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check who calls, how often, and last how freshly they confirmed that it is them."""
        super().initial(request, *args, **kwargs)
        self.limit(request)
        action = self.step_up.get(request.method or "")
        if action:
            guard.require(action, request)

    def limit(self, request: Request) -> None:
        """Bound what this caller does here; the role's own limit was applied before."""


class SuperuserView(AdministrationView):
    """A view of the user administration: superusers only, ten changes a minute each."""

    role = IsSuperuser

    def limit(self, request: Request) -> None:
        if request.method not in READING:
            charge(request, "administration", settings.ADMINISTRATION_WRITES)


def charge(request: Request, name: str, table: list[tuple[int, int]]) -> None:
    """Count one request of this account. Raises errors.TooManyRequests."""
    limits = [Limit(f"{name}-{seconds}s", count, seconds) for count, seconds in table]
    decision = throttle.hit([(limit, str(person(request).pk)) for limit in limits])
    # The headers of the answer speak of the tightest limit: this one.
    request.rate_limit = decision  # type: ignore[attr-defined]  # part of what a request carries here
    request._request.rate_limit = decision  # type: ignore[attr-defined]
    if not decision.allowed:
        raise errors.TooManyRequests(retry_after=decision.retry_after)


def charge_bulk(request: Request) -> None:
    """Count one action on many accounts. Raises errors.TooManyRequests."""
    charge(request, "bulk", settings.BULK_ACTIONS)


def describe(
    operation_id: str, summary: str, *, request: Any = None, code: int = 200
) -> Callable[[Method], Method]:
    """Describe a method for the API's reference."""
    described: Callable[[Method], Method] = extend_schema(
        operation_id=operation_id, summary=summary, request=request, responses={code: OpenApiTypes.OBJECT}
    )
    return described


def confirmation(request: Request) -> Callable[[str], None]:
    """Return how a use case demands a fresh factor of this caller."""
    return partial(_confirm, request)


def stated(reason: str) -> str:
    """Return the reason as it is recorded: clients of the first API need not give one."""
    text = reason.strip()
    return text if len(text) >= REASON_LENGTH else f"in the user administration: {text or 'no reason given'}"


def query_reason(request: Request) -> str:
    """Return the reason that the query gives. Raises lists.QueryInvalid."""
    reader = lists.Reader(request.query_params)
    reason = reader.text("reason")
    reader.raise_if_wrong()
    return stated(reason)


def _confirm(request: Request, action: str) -> None:
    guard.require(action, request)


def person(request: Request) -> User:
    """Return the account behind a request that was let in."""
    user: Any = request.user
    assert isinstance(user, User)  # noqa: S101 - the permissions of these views let nobody else in
    return user
