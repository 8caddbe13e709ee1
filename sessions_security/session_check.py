"""Is this session alive? One indexed statement answers it, for cookies and tokens alike.

The statement joins the session with its account (and its machine client), so that ending a session, closing
an account, changing a password or a role, and the passing of time take effect on the very next request.
Nothing of it is cached. When the database cannot be asked the answer is 503, never "let through".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from types import TracebackType
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, models
from django.db.models.base import ModelState
from django.db.models.fields.related_descriptors import ForeignKeyDeferredAttribute
from django.db.models.query_utils import DeferredAttribute

from accounts import grants
from accounts.conditions import Access
from accounts.models import User
from mestore.lib import actor, errors, sql
from sessions_security import policy, sessions
from sessions_security.models import UserSession

Model = TypeVar("Model", bound=models.Model)

BELOW = "below_assurance"
"""Why a session ended in which less was proved than its account's role asks for."""

LIVE = """
    s.revoked_at IS NULL AND s.absolute_expires_at > statement_timestamp()
    AND (s.idle_expires_at IS NULL OR s.idle_expires_at > statement_timestamp())
    AND u.is_active AND u.deleted_at IS NULL AND u.auth_epoch = s.auth_epoch
    AND s.created_at > coalesce((SELECT max(c.at) FROM sessions_security_sessioncutoff c), '-infinity')
"""
"""What must hold for session `s` of account `u`. Every statement that asks for a live session repeats these
words (SQL is not glued together here); a test compares them."""

_ACCOUNT: Any = UserSession._meta.get_field("user")
_USER_FIELDS = (
    "id", "email", "user_type", "nombre", "is_active", "account_verified", "email_verified", "phone_verified",
    "security_clearance_level", "department_id", "auth_epoch", "force_password_change", "source",
    "deleted_at", "external_reference",
)  # fmt: skip
_SESSION_FIELDS = (
    "id", "user_id", "kind", "amr", "created_at", "last_seen_at", "idle_expires_at", "absolute_expires_at",
    "address", "network", "agent", "country", "confirmed_networks", "bound_key", "auth_epoch", "client_id",
    "risk", "revoked_at",
)  # fmt: skip
# The columns stand in the order of the two lists above; each statement ends with the words of `LIVE`.
# They are planned once per connection, by the counts of that moment. "OFFSET 0" leaves the server no way to a
# session and an account but their keys: the index on accounts looked as good while there were few sessions,
# and then read thousands of one machine account at each of its requests.
_SELECT_BEARER = """
    SELECT
    u.id, u.email, u.user_type, u.nombre, u.is_active, u.account_verified, u.email_verified, u.phone_verified,
    u.security_clearance_level, u.department_id, u.auth_epoch, u.force_password_change,
    u.source, u.deleted_at, u.external_reference,
    s.id, s.user_id, s.kind, s.amr, s.created_at, s.last_seen_at, s.idle_expires_at, s.absolute_expires_at,
    s.address, s.network, s.agent, s.country, s.confirmed_networks, s.bound_key, s.auth_epoch, s.client_id,
    s.risk, s.revoked_at,
    i.impersonator_id, i.origin_id,
    c.networks
    FROM (SELECT * FROM sessions_security_usersession WHERE id = %s OFFSET 0) s
    JOIN LATERAL (SELECT * FROM accounts_user WHERE id = s.user_id OFFSET 0) u ON u.id = %s
    LEFT JOIN sessions_security_machineclient c ON c.id = s.client_id
    LEFT JOIN sessions_security_impersonation i ON i.session_id = s.id
    WHERE s.kind = 'token' AND (s.client_id IS NULL OR c.is_active)
    AND s.revoked_at IS NULL AND s.absolute_expires_at > statement_timestamp()
    AND (s.idle_expires_at IS NULL OR s.idle_expires_at > statement_timestamp())
    AND u.is_active AND u.deleted_at IS NULL AND u.auth_epoch = s.auth_epoch
    AND s.created_at > coalesce((SELECT max(c.at) FROM sessions_security_sessioncutoff c), '-infinity')
"""
_SELECT_COOKIE = """
    SELECT
    u.id, u.email, u.user_type, u.nombre, u.is_active, u.account_verified, u.email_verified, u.phone_verified,
    u.security_clearance_level, u.department_id, u.auth_epoch, u.force_password_change,
    u.source, u.deleted_at, u.external_reference,
    s.id, s.user_id, s.kind, s.amr, s.created_at, s.last_seen_at, s.idle_expires_at, s.absolute_expires_at,
    s.address, s.network, s.agent, s.country, s.confirmed_networks, s.bound_key, s.auth_epoch, s.client_id,
    s.risk, s.revoked_at,
    i.impersonator_id, i.origin_id,
    k.payload
    FROM sessions_security_sessionsecret k
    JOIN LATERAL (SELECT * FROM sessions_security_usersession WHERE id = k.session_id OFFSET 0) s ON true
    JOIN LATERAL (SELECT * FROM accounts_user WHERE id = s.user_id OFFSET 0) u ON true
    LEFT JOIN sessions_security_impersonation i ON i.session_id = s.id
    WHERE k.key_hash = %s AND s.kind = 'cookie'
    AND s.revoked_at IS NULL AND s.absolute_expires_at > statement_timestamp()
    AND (s.idle_expires_at IS NULL OR s.idle_expires_at > statement_timestamp())
    AND u.is_active AND u.deleted_at IS NULL AND u.auth_epoch = s.auth_epoch
    AND s.created_at > coalesce((SELECT max(c.at) FROM sessions_security_sessioncutoff c), '-infinity')
"""
# The administrator's own session, behind an impersonated one: it must be alive as well.
_SELECT_ORIGIN = """
    SELECT
    u.id, u.email, u.user_type, u.nombre, u.is_active, u.account_verified, u.email_verified, u.phone_verified,
    u.security_clearance_level, u.department_id, u.auth_epoch, u.force_password_change,
    u.source, u.deleted_at, u.external_reference,
    s.amr
    FROM (SELECT * FROM sessions_security_usersession WHERE id = %s OFFSET 0) s
    JOIN LATERAL (SELECT * FROM accounts_user WHERE id = s.user_id OFFSET 0) u ON u.id = %s
    WHERE s.revoked_at IS NULL AND s.absolute_expires_at > statement_timestamp()
    AND (s.idle_expires_at IS NULL OR s.idle_expires_at > statement_timestamp())
    AND u.is_active AND u.deleted_at IS NULL AND u.auth_epoch = s.auth_epoch
    AND s.created_at > coalesce((SELECT max(c.at) FROM sessions_security_sessioncutoff c), '-infinity')
"""


@dataclass(frozen=True, slots=True)
class CookieSession:
    """A live browser session and its payload, still sealed."""

    session: UserSession
    sealed: bytes


def by_token(session_id: UUID, user_id: UUID, *, address: str | None) -> UserSession | None:
    """Return the live token session (its `user` loaded), or None when it ended or never was.

    A machine client's session answers only to the client's networks. Raises `SecurityServiceFailure`.
    """
    with database_guard():
        row = sql.fetch_one(_SELECT_BEARER, (session_id, user_id), prepare=True)
    if row is None:
        return None
    session, networks = _admitted(row, address=address), row[-1]
    if session is None:
        return None
    if session.client_id is not None and not address_allowed(address, networks):
        return None
    return session


def by_cookie(key_hash: bytes) -> CookieSession | None:
    """Return the live browser session behind a cookie's hash, or None. Raises `SecurityServiceFailure`."""
    with database_guard():
        row = sql.fetch_one(_SELECT_COOKIE, (key_hash,), prepare=True)
    session = _admitted(row) if row is not None else None
    return CookieSession(session, bytes(row[-1])) if row is not None and session is not None else None


def seen_from(session: UserSession, address: str | None) -> None:
    """Tell from where the session is used: permissions may depend on it."""
    grants.see(session.user, replace(grants.seen(session.user), address=address))


def address_allowed(address: str | None, networks: Sequence[str]) -> bool:
    """Say whether `address` lies in one of `networks`; no address and no network are both a no."""
    return _lies_in(address or "", tuple(networks))


class database_guard:  # noqa: N801 -- used like a function; as a generator it would cost twice as much
    """Turn "the database cannot be asked" into the 503 that this means for a security decision."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if isinstance(error, OperationalError | InterfaceError):
            raise errors.SecurityServiceFailure from error


@lru_cache(maxsize=4_096)
def _lies_in(address: str, networks: tuple[str, ...]) -> bool:
    # Arithmetic of its two arguments alone: which networks a client has is read from its row each time.
    try:
        asked = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(asked, ipaddress.IPv6Address) and asked.ipv4_mapped is not None:
        asked = asked.ipv4_mapped
    return any(asked in network for network in _parsed(networks))


@lru_cache(maxsize=256)
def _parsed(networks: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(network, strict=False) for network in networks)


def _admitted(row: Sequence[Any], *, address: str | None = None) -> UserSession | None:
    """Return the session of `row` with what its account may do in it; None when it stands on a dead one.

    `address` is where it is used from, as far as that is known yet (`seen_from`).
    """
    session = _session(row)
    end = len(_USER_FIELDS) + len(_SESSION_FIELDS)
    session.impersonator_id, origin_id = row[end], row[end + 1]
    limit = None
    if session.impersonator_id is None and not _is_assured(session):
        return None
    if session.impersonator_id is not None:
        with database_guard():
            behind = sql.fetch_one(_SELECT_ORIGIN, (origin_id, session.impersonator_id))
            if behind is None:
                return None
            impersonator = load(User, _USER_FIELDS, behind[:-1])
            if not policy.is_assured(settings.SESSION_POLICY, impersonator.user_type, behind[-1]):
                return None
            grants.see(impersonator, Access(second_factor=True, address=session.address or None))
            limit = grants.effective(impersonator)
    factor = session.proved_second_factor()
    grants.see(session.user, Access(address=address, second_factor=factor, limit=limit))
    return session


def _is_assured(session: UserSession) -> bool:
    """Say whether enough was proved in `session` for its account's role; one below that is ended, once."""
    if policy.is_assured(settings.SESSION_POLICY, session.user.user_type, session.amr):
        return True
    with database_guard():
        sessions.end(session, by=actor.system("session policy"), why=BELOW)
    return False


def _session(row: Sequence[Any]) -> UserSession:
    split = len(_USER_FIELDS)
    user = load(User, _USER_FIELDS, row[:split])
    session = load(UserSession, _SESSION_FIELDS, row[split : split + len(_SESSION_FIELDS)])
    _ACCOUNT.set_cached_value(session, user)  # what `session.user = user` does once it has checked the kind
    return session


def load(model: type[Model], names: tuple[str, ...], values: Sequence[Any]) -> Model:
    """Build a saved instance from some of its columns; the others load when asked for.

    What `from_db` does, without its walk over every field of the model, which took a fifth of the check.
    Raises TypeError for a model or a column of which it would do more.
    """
    _demand_plain(model, names)
    made = model.__new__(model)
    made.__dict__.update(zip(names, values, strict=True), _state=ModelState())
    made._state.adding, made._state.db = False, "default"
    return made


@cache
def _demand_plain(model: type[models.Model], names: tuple[str, ...]) -> None:
    """Raise TypeError unless instances of `model` keep these columns as the database gives them.

    A model that makes its instances in a way of its own, or a field that is decoded first, would be passed
    over by `load`.
    """
    stock: Any = models.Model
    made_by: Any = model
    is_stock = made_by.__init__ is stock.__init__ and made_by.from_db.__func__ is stock.from_db.__func__
    if not is_stock or not all(_is_plain(model, name) for name in names):
        raise TypeError(f"{model.__name__} is made of more than these columns: use its manager")


def _is_plain(model: type[models.Model], name: str) -> bool:
    is_decoded = hasattr(model._meta.get_field(name), "from_db_value")
    return not is_decoded and type(getattr(model, name)) in (DeferredAttribute, ForeignKeyDeferredAttribute)
