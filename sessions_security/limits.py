"""How many requests a caller may send: strangers by network, accounts by role, in one question to Redis.

Every request is counted once: as the account that proved itself, else as a stranger from its network. A
wrong credential counts as a stranger, so that guessing has the strangers' budget. These limits bound load;
what locks an account after failures is `accounts.lockout`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from django.conf import settings

from accounts import devices, users
from mestore.lib import actor, errors, throttle
from mestore.lib.request import client_address, network_of
from mestore.lib.throttle import Limit
from sessions_security.models import UserSession

UNLIMITED_PATHS = frozenset({"/readyz", "/metrics"})
"""Asked by our own machines every few seconds, from one address."""


def limit_anonymous(request: Any) -> None:
    """Count one request of a stranger; raise `TooManyRequests` above the limit of their network."""
    if _is_counted(request):
        return
    _charge(request, _anonymous(_network(request)))


def limit_signed_in(request: Any, session: UserSession) -> None:
    """Count one request of an account in its role's bucket; machine accounts are counted per client."""
    if _is_counted(request):
        return
    role = session.user.user_type
    whom = session.client_id or session.user_id
    _charge(request, [(limit, str(whom)) for limit in _limits(role, settings.RATE_LIMITS[role])])


def limit_sign_in(request: Any, account: str) -> None:
    """Count an attempt to sign in before a password is hashed: per network and per account named.

    A known device of that account is counted in its place: strangers cannot use up its owner's share.
    A request that was not counted yet counts as a stranger's too, in the same question.
    """
    network = _network(request)
    table = settings.SIGN_IN_RATE_LIMITS
    name = users.identifier(account)
    device = devices.lane_of(by=actor.of(request), email_key=name) if account else None
    whom = f"device {device}" if device is not None else name if account else network
    _charge(
        request,
        [
            *([] if _is_counted(request) else _anonymous(network)),
            *((limit, network) for limit in _limits("sign_in_network", table["network"])),
            *((limit, whom) for limit in _limits("sign_in_account", table["account"])),
        ],
    )


def _anonymous(network: str) -> list[tuple[Limit, str]]:
    return [(limit, network) for limit in _limits("anonymous", settings.RATE_LIMITS["anonymous"])]


def _limits(bucket: str, table: Iterable[tuple[int, int]]) -> Sequence[Limit]:
    return _made(bucket, tuple((limit, seconds) for limit, seconds in table))


@lru_cache(maxsize=64)
def _made(bucket: str, table: tuple[tuple[int, int], ...]) -> tuple[Limit, ...]:
    return tuple(Limit(f"{bucket}-{seconds}s".lower(), limit, seconds) for limit, seconds in table)


def _network(request: Any) -> str:
    base = getattr(request, "_request", request)
    return network_of(getattr(base, "client_address", None) or client_address(base))


def _is_counted(request: Any) -> bool:
    return getattr(getattr(request, "_request", request), "rate_limit", None) is not None


def _charge(request: Any, limits: Sequence[tuple[Limit, str]]) -> None:
    decision = throttle.hit(limits)
    request.rate_limit = decision
    base = getattr(request, "_request", request)
    base.rate_limit = decision
    if not decision.allowed:
        raise errors.TooManyRequests(retry_after=decision.retry_after)
