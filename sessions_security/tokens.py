"""Access tokens (signed, 15 minutes) and refresh tokens (opaque, one use): how they are made and checked.

An access token names a session; it proves nothing beyond that. Whether the session lives, what the account
may do and which factors were proved is asked of the database on every request (`session_check`).

A session has one chain of refresh tokens, whose end was fixed at sign-in. Exchanging one claims it by a
single conditional UPDATE, so that of two simultaneous exchanges one wins; a used one that comes back after
a short grace ends the session, for then two parties hold it.
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import jwt
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from mestore.lib import crypto, errors, ids, sql
from mestore.lib.actor import Actor
from monitoring import audit, events
from sessions_security import continuity, jws, keys, refresh_reuse, session_check, sessions
from sessions_security.models import RefreshToken, UserSession

MAX_LENGTH = jws.MAX_LENGTH
ALGORITHM = "EdDSA"
TYPE = "at+jwt"
CLAIMS = ("sub", "sid", "iat", "exp", "jti", "iss", "aud")
BOUND = "cnf"
"""The claim of a token that is bound to a key (RFC 9449 section 6.1); no token has any other claim."""
LONGEST_LIFE_SECONDS = 3_600
"""No token of ours ever lives longer (the largest value of ACCESS_TOKEN_SECONDS), so none is accepted."""
CLOCK_LEEWAY_SECONDS = 5
"""How far ahead of ours the clock of another of our machines may be. An end has no leeway."""


class InvalidToken(errors.Unauthorized):
    """The token is malformed, forged, expired or its session is over: the caller is told no more than that.

    `forged` says that no honest client could have sent it; that is worth an audit line.
    """

    message = _("Invalid token")

    def __init__(self, *, forged: bool = False, scheme: str = "Bearer") -> None:
        super().__init__(headers={"WWW-Authenticate": f'{scheme} error="invalid_token"'})
        self.forged = forged


class RefreshTokenJustUsed(errors.Conflict):
    """The refresh token was exchanged moments ago, by another tab or a repeated request; nothing changed."""

    code = "REFRESH_TOKEN_JUST_USED"
    message = _("This refresh token was used a moment ago. Use the newest one.")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid access token says."""

    user_id: UUID
    session_id: UUID
    token_id: str
    kid: str
    expires_at: int
    audience: str
    bound_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a client receives. Machine clients get no refresh token: they ask again with their key."""

    access_token: str
    refresh_token: str | None
    expires_in: int
    is_bound: bool = False  # to a key of the caller: then its type is "DPoP", else "bearer"


def issue_pair(session: UserSession) -> TokenPair:
    """Return an access token and the first refresh token of `session`. Runs in the sign-in's transaction."""
    return _pair(session, parent=None)


def issue_access(session: UserSession) -> TokenPair:
    """Return an access token alone."""
    token, expires_in = _sign(session)
    return TokenPair(token, None, expires_in, session.bound_key is not None)


def verify_access(token: str) -> Claims:
    """Return what `token` says, or raise `InvalidToken`. The caller must still ask whether the session lives.

    The result of the signature check is remembered per process (the token's hash is the key); its expiry and
    the standing of its key are looked at every time.
    """
    if len(token) > MAX_LENGTH or not token.isascii():
        raise InvalidToken(forged=True)
    key = crypto.digest(token.encode())
    claims = _verified.get(key)
    if claims is None:
        claims = _verify(token)
        _verified.put(key, claims)
    if claims.expires_at <= time.time() or claims.kid not in keys.ring(wanted=claims.kid).public_keys:
        raise InvalidToken
    return claims


def session_of(claims: Claims, *, address: str | None) -> UserSession:
    """Return the live session that an access token names. Raises `InvalidToken`, `SecurityServiceFailure`.

    A token is good for the kind of session that it was made for and bound to the key that the session is.
    """
    session = session_check.by_token(claims.session_id, claims.user_id, address=address)
    if session is None or claims.audience != _audience(session) or claims.bound_key != _bound_key(session):
        raise InvalidToken
    return session


def rotate(
    refresh_token: str, *, by: Actor, bound_key: bytes | None = None, in_background: bool = False
) -> TokenPair:
    """Exchange a refresh token for a new pair; what a program does `in_background` is no use of the session.

    `bound_key` is the thumbprint of the key that the caller proved to hold (`dpop.offered`): the token of a
    bound session is exchanged with that key only, and one of a free session without any.

    Should the process die between the claim and the answer, the token is spent and its child unknown to
    anybody: a repeated exchange answers `RefreshTokenJustUsed` within the grace, and afterwards the account
    must sign in again.

    Raises `RefreshTokenJustUsed` when it was exchanged within the grace period (nothing changes), and
    `InvalidToken` otherwise; a used token that comes back later has ended its session when this raises.
    """
    if not refresh_token.isascii() or len(refresh_token) > 128:
        raise InvalidToken
    token_hash = crypto.digest(refresh_token.encode())
    keys.ring()  # outside the transaction: a key made on first use must not be rolled back with it
    with session_check.database_guard(), transaction.atomic():
        row = sql.fetch_one(_CLAIM, (token_hash, bound_key))
        if row is not None:
            session = _refreshed(row)
            if continuity.may_refresh(session, by=by):
                return _next_pair(session, row[0], by, in_background=in_background)
    if row is not None:
        # Ended above, and kept so: only now is it said.
        raise InvalidToken
    raise _refusal(token_hash, by)


# --- Access tokens ----------------------------------------------------------------------------------------


def _sign(session: UserSession) -> tuple[str, int]:
    now = int(time.time())
    left = int(session.absolute_expires_at.timestamp()) - now
    lifetime = min(settings.ACCESS_TOKEN_SECONDS, left)
    ring = keys.ring()
    bound_key = _bound_key(session)
    token = jwt.encode(
        {
            "sub": str(session.user_id),
            "sid": str(session.pk),
            "iat": now,
            "exp": now + lifetime,
            "jti": secrets.token_urlsafe(16),
            "iss": settings.TOKEN_ISSUER,
            "aud": _audience(session),
            **({BOUND: {"jkt": jws.base64url(bound_key)}} if bound_key is not None else {}),
        },
        ring.private_key,
        algorithm=ALGORITHM,
        headers={"typ": TYPE, "kid": ring.current_kid},
    )
    return token, lifetime


def _verify(token: str) -> Claims:
    try:
        unverified = jws.split(token)
        kid = _key_id(unverified.header)
        public_key = keys.ring(wanted=kid).public_keys.get(kid)
        if public_key is None:
            raise InvalidToken
        return _claims(unverified.verified(public_key, ALGORITHM), kid)
    except (jws.Malformed, jws.BadSignature):
        raise InvalidToken(forged=True) from None


def _key_id(header: Mapping[str, Any]) -> str:
    """Return the key id of a header that is exactly what we write; anything else in it is a forgery."""
    kid = header.get("kid")
    if not isinstance(kid, str) or len(kid) > keys.MAX_KID_LENGTH:
        raise InvalidToken(forged=True)
    if header != {"alg": ALGORITHM, "typ": TYPE, "kid": kid}:
        raise InvalidToken(forged=True)
    return kid


def _claims(payload: Mapping[str, Any], kid: str) -> Claims:
    """Return what a payload that we signed says; one that we would not have written is refused."""
    issued, expires = jws.moment(payload, "iat"), jws.moment(payload, "exp")
    audience, token_id = payload.get("aud"), payload.get("jti")
    if (
        not {*CLAIMS} <= payload.keys() <= {*CLAIMS, BOUND}
        or payload["iss"] != settings.TOKEN_ISSUER
        or audience not in (settings.TOKEN_AUDIENCE, settings.MACHINE_TOKEN_AUDIENCE)
        or not isinstance(token_id, str)
        or not 0 < expires - issued <= LONGEST_LIFE_SECONDS
        or issued > time.time() + CLOCK_LEEWAY_SECONDS
    ):
        raise InvalidToken(forged=True)
    try:
        user_id, session_id = UUID(payload["sub"]), UUID(payload["sid"])
        bound_key = _confirmed(payload[BOUND]) if BOUND in payload else None
    except (ValueError, AttributeError, TypeError, KeyError):
        raise InvalidToken(forged=True) from None
    return Claims(user_id, session_id, token_id, kid, expires, str(audience), bound_key)


def _confirmed(confirmation: Mapping[str, str]) -> bytes:
    """Return the thumbprint of a `cnf` claim. Raises ValueError, KeyError, TypeError, AttributeError."""
    ((name, text),) = confirmation.items()
    thumbprint = base64.urlsafe_b64decode(text + "=")
    if name != "jkt" or len(thumbprint) != 32:
        raise ValueError
    return thumbprint


def _audience(session: UserSession) -> str:
    """Return for whom the tokens of `session` are: machines have an audience of their own."""
    is_machine = session.client_id is not None
    return settings.MACHINE_TOKEN_AUDIENCE if is_machine else settings.TOKEN_AUDIENCE


def _bound_key(session: UserSession) -> bytes | None:
    return bytes(session.bound_key) if session.bound_key is not None else None


class _VerifiedTokens:
    """The last tokens whose signature was found good, bounded, safe between threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._claims: OrderedDict[bytes, Claims] = OrderedDict()

    def get(self, key: bytes) -> Claims | None:
        with self._lock:
            claims = self._claims.get(key)
            if claims is not None:
                self._claims.move_to_end(key)
            return claims

    def put(self, key: bytes, claims: Claims) -> None:
        with self._lock:
            self._claims[key] = claims
            if len(self._claims) > self._size:
                self._claims.popitem(last=False)


_verified = _VerifiedTokens(4_096)


# --- Refresh tokens ---------------------------------------------------------------------------------------

_CLAIM = """
    UPDATE sessions_security_refreshtoken r SET used_at = statement_timestamp()
    FROM sessions_security_usersession s JOIN accounts_user u ON u.id = s.user_id
    WHERE r.token_hash = %s AND r.used_at IS NULL AND r.expires_at > statement_timestamp()
    AND s.id = r.session_id AND s.kind = 'token' AND s.bound_key IS NOT DISTINCT FROM %s
    AND s.revoked_at IS NULL AND s.absolute_expires_at > statement_timestamp()
    AND (s.idle_expires_at IS NULL OR s.idle_expires_at > statement_timestamp())
    AND u.is_active AND u.deleted_at IS NULL AND u.auth_epoch = s.auth_epoch
    AND s.created_at > coalesce((SELECT max(c.at) FROM sessions_security_sessioncutoff c), '-infinity')
    RETURNING r.id, s.id, s.user_id, s.absolute_expires_at, s.last_seen_at, s.idle_expires_at,
        s.bound_key, s.amr, s.network, s.country, s.agent, s.confirmed_networks, u.user_type, u.email
"""
_USED = """
    SELECT s.id, s.user_id, statement_timestamp() - r.used_at, s.address, s.agent
    FROM sessions_security_refreshtoken r
    JOIN sessions_security_usersession s ON s.id = r.session_id
    JOIN accounts_user u ON u.id = s.user_id
    WHERE r.token_hash = %s AND r.used_at IS NOT NULL
    AND s.revoked_at IS NULL AND s.absolute_expires_at > statement_timestamp()
    AND (s.idle_expires_at IS NULL OR s.idle_expires_at > statement_timestamp())
    AND u.is_active AND u.deleted_at IS NULL AND u.auth_epoch = s.auth_epoch
    AND s.created_at > coalesce((SELECT max(c.at) FROM sessions_security_sessioncutoff c), '-infinity')
"""


_REFRESHED_FIELDS = (
    "id", "user_id", "absolute_expires_at", "last_seen_at", "idle_expires_at", "bound_key", "amr", "network",
    "country", "agent", "confirmed_networks",
)  # fmt: skip


def _refreshed(row: tuple[Any, ...]) -> UserSession:
    """Return the session of a claimed token: what `_CLAIM` returns of it, between token and account."""
    _parent, *values, role, email = row
    session = UserSession(**dict(zip(_REFRESHED_FIELDS, values, strict=True)))
    session.user = User(id=session.user_id, user_type=role, email=email)
    return session


def _next_pair(session: UserSession, parent: UUID, by: Actor, *, in_background: bool) -> TokenPair:
    pair = _pair(session, parent=parent)
    if not in_background:
        sessions.touch(session)
    audit.record(
        events.TOKEN_REFRESHED, by=sessions.acting(by, session), target=("session", str(session.pk)),
        subject=str(session.user_id),
    )  # fmt: skip
    return pair


def _pair(session: UserSession, *, parent: UUID | None) -> TokenPair:
    access_token, expires_in = _sign(session)
    refresh_token = secrets.token_urlsafe(32)
    RefreshToken(
        id=ids.uuid7(),
        session=session,
        parent_id=parent,
        token_hash=crypto.digest(refresh_token.encode()),
        created_at=timezone.now(),
        expires_at=_family_end(session),
    ).save(force_insert=True)
    return TokenPair(access_token, refresh_token, expires_in, session.bound_key is not None)


def _family_end(session: UserSession) -> datetime:
    """Every child ends when the session does: exchanging tokens never prolongs a sign-in."""
    return session.absolute_expires_at


def _refusal(token_hash: bytes, by: Actor) -> errors.MeStoreError:
    """Say why nothing was claimed; a used token that comes back late ends its session first."""
    with session_check.database_guard():
        row = sql.fetch_one(_USED, (token_hash,))
        if row is None:
            return InvalidToken()
        session_id, user_id, age, address, agent = row
        if age.total_seconds() <= settings.REFRESH_REUSE_GRACE_SECONDS:
            return RefreshTokenJustUsed()
        # A client that kept its first token looks like this too: same place, same program.
        same_place = address == (by.address or "") and agent == (by.agent or "")[:256]
        refresh_reuse.end_family(UserSession(id=session_id, user_id=user_id), same_place=same_place, by=by)
    return InvalidToken()
