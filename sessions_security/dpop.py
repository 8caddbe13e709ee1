"""Proofs of possession (DPoP, RFC 9449): a token that is useless to whoever stole it without its key.

A caller that sends a `DPoP` header where it signs in binds the session to the key of that proof: the row
holds the key's thumbprint, the access token names it, and from then on every request and every exchange of a
refresh token brings a new proof, made for that method and that address, at most a minute old, used once.

There are no server nonces (RFC 9449 section 8): the age of a proof is judged by our clock, and each is
accepted once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from mestore.lib import actor, crypto, errors
from monitoring import audit, events
from sessions_security import jws, used_proofs
from sessions_security.models import UserSession

HEADER: Final = "HTTP_DPOP"
SCHEME: Final = "DPoP"
TYPE: Final = "dpop+jwt"
MAX_AGE_SECONDS: Final = 60
"""How far the moment of a proof may lie from ours, either way (RFC 9449 section 11.1)."""
MAX_ID_LENGTH: Final = 128
_ALGORITHMS = " ".join(jws.ALGORITHMS)
_KIND = "dpop"
_DEFAULT_PORTS = {"https": 443, "http": 80}


class InvalidProof(errors.BadRequest):
    """At an entrance: the proof is wrong, used before, or missing where one is demanded."""

    code = "INVALID_DPOP_PROOF"
    message = _("The proof of possession (DPoP) is missing or not valid.")


class ProofRefused(errors.Unauthorized):
    """With a token: the proof is wrong, used before, missing, or another key's."""

    code = "INVALID_DPOP_PROOF"
    message = InvalidProof.message

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": _challenge("invalid_dpop_proof")})


class WrongScheme(errors.Unauthorized):
    """A bound token came as a bearer token, an unbound one as a bound one, or only bound ones are let in."""

    message = _("Invalid token")

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": _challenge("invalid_token")})


class _Wrong(ValueError):
    """Why a proof is not accepted, in a word for the audit trail; the caller is not told."""


@dataclass(frozen=True, slots=True)
class _Proof:
    thumbprint: bytes
    token_id: str
    issued_at: int


def offered(request: Any) -> bytes | None:
    """Return the thumbprint of the key that a caller at an entrance proves to hold; None when none is shown.

    The proof is used up. Raises `InvalidProof`: also for a missing one when `REQUIRE_DPOP` is set.
    """
    if HEADER not in request.META:
        if settings.REQUIRE_DPOP:
            raise InvalidProof
        return None
    try:
        return verify(request, access_token=None)
    except ProofRefused:
        raise InvalidProof from None


def demand(session: UserSession, request: HttpRequest, *, scheme: str, access_token: str) -> None:
    """Return when the request may use `session` with this token, presented under this scheme.

    Raises `WrongScheme` for a bound session without the DPoP scheme and the reverse, and for every unbound
    one when `REQUIRE_DPOP` is set; `ProofRefused` for a wrong, repeated or foreign proof.
    """
    is_bound = session.bound_key is not None
    if is_bound != (scheme.lower() == SCHEME.lower()) or (settings.REQUIRE_DPOP and not is_bound):
        raise WrongScheme
    if session.bound_key is None:
        return
    if not crypto.equal(verify(request, access_token=access_token), bytes(session.bound_key)):
        _record(request, "another_key")
        raise ProofRefused


def verify(request: Any, *, access_token: str | None) -> bytes:
    """Check the `DPoP` header of `request`, use the proof up and return its key's thumbprint (32 bytes).

    With `access_token` the proof must be about that token. Raises `ProofRefused`; every refusal is recorded.
    """
    now = int(time.time())
    try:
        proof = _read(request, access_token, now)
        _use_up(proof)
    except _Wrong as wrong:
        _record(request, str(wrong))
        raise ProofRefused from None
    return proof.thumbprint


def _read(request: Any, access_token: str | None, now: int) -> _Proof:
    """Return what the proof says. Raises `_Wrong`. The signature is looked at before any claim is."""
    try:
        unverified = jws.split(request.META.get(HEADER, ""))
        header = unverified.header
        if header.keys() != {"typ", "alg", "jwk"} or header["typ"] != TYPE:
            raise _Wrong("header")
        key, algorithm = jws.public_key(header["jwk"])
        claims = unverified.verified(key, algorithm)
        issued_at = jws.moment(claims, "iat")
    except jws.BadKey:
        raise _Wrong("key") from None
    except jws.BadSignature:
        raise _Wrong("signature") from None
    except jws.Malformed:
        raise _Wrong("malformed") from None
    if abs(now - issued_at) > MAX_AGE_SECONDS:
        raise _Wrong("age")
    _check_ends(claims, now)
    if claims.get("htm") != request.method or not _is_here(claims.get("htu"), request.path):
        raise _Wrong("address")
    expected = jws.base64url(crypto.digest(access_token.encode())) if access_token is not None else None
    if access_token is not None and claims.get("ath") != expected:
        raise _Wrong("token")
    token_id = claims.get("jti")
    if not isinstance(token_id, str) or not 0 < len(token_id) <= MAX_ID_LENGTH:
        raise _Wrong("id")
    return _Proof(jws.thumbprint(key), token_id, issued_at)


def _use_up(proof: _Proof) -> None:
    # Remembered longer than any clock of ours would still find it fresh.
    until = proof.issued_at + 2 * MAX_AGE_SECONDS
    if not used_proofs.use(_KIND, proof.thumbprint, proof.token_id, until=until):
        raise _Wrong("replayed")


def _check_ends(claims: dict[str, Any], now: int) -> None:
    """An `exp` or `nbf` is not asked for; one that is there holds."""
    try:
        if "exp" in claims and jws.moment(claims, "exp") <= now:
            raise _Wrong("age")
        if "nbf" in claims and jws.moment(claims, "nbf") > now + MAX_AGE_SECONDS:
            raise _Wrong("age")
    except jws.Malformed:
        raise _Wrong("malformed") from None


def _is_here(address: object, path: str) -> bool:
    """Whether `address` names this service and `path`; query and fragment do not count (section 4.3).

    Our own name is the setting's, never the `Host` header's.
    """
    if not isinstance(address, str):
        return False
    try:
        given, ours = urlsplit(address), urlsplit(settings.PUBLIC_URL)
        return _origin(given) == _origin(ours) and unquote(given.path, errors="strict") == path
    except ValueError:
        return False


def _origin(parts: Any) -> tuple[str, str | None, int | None, str | None]:
    scheme = parts.scheme.lower()
    return scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(scheme), parts.username


def _challenge(error: str) -> str:
    return f'{SCHEME} error="{error}", algs="{_ALGORITHMS}"'


def _record(request: Any, why: str) -> None:
    audit.record_refusal(events.PROOF_REFUSED, by=actor.of(request), data={"why": why})
