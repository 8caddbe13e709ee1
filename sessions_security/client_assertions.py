"""Machine accounts that sign in with an assertion signed by a key of their own (`private_key_jwt`, RFC 7523).

We know only the public keys, so nothing that we store signs anybody in. An assertion is short-lived, made for
this service alone, and accepted once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.urls import reverse

from mestore.lib.actor import Actor
from sessions_security import clients, jws, session_check, used_proofs
from sessions_security.models import ClientKey, MachineClient

TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST_LIFE_SECONDS: Final = 300
CLOCK_LEEWAY_SECONDS: Final = 5
"""How far ahead of ours a client's clock may be. An end has no leeway."""
MAX_ID_LENGTH: Final = 128
_TYPES = frozenset({"JWT", "client-authentication+jwt"})
_KIND = "client assertion"
# Verified with when client or key are unknown, so that every refusal does the same work.
_NOBODY = Ed25519PrivateKey.generate().public_key()


class _Wrong(ValueError):
    """Why an assertion is not accepted, in a word for the audit trail; the caller is not told."""


def authenticate(assertion: str, *, by: Actor, client_id: str | None = None) -> MachineClient:
    """Return the client whose assertion this is, having used it up.

    `client_id` is what the request says beside the assertion, if anything; it must agree. Raises
    `clients.InvalidClient` and `clients.NetworkNotAllowed`, both recorded. Belongs outside of a transaction.
    """
    found: ClientKey | None = None
    try:
        unverified = jws.split(assertion)
        kid = _key_id(unverified.header)
        claimed = unverified.claimed().get("sub")
        found = _key_of(claimed, kid)
        key, algorithm = _public(found, str(unverified.header.get("alg")))
        claims = unverified.verified(key, algorithm)
        client = _proved(found)
        until = _check(claims, client, client_id)
        clients.demand_open(client, by=by)
        _use_up(client, claims["jti"], until)
    except (jws.Malformed, jws.BadSignature, _Wrong) as wrong:
        why = str(wrong) if isinstance(wrong, _Wrong) else "assertion"
        clients.refuse(found.client if found else None, why, by)
        raise clients.InvalidClient from None
    return client


def audiences() -> frozenset[str]:
    """Return what an assertion may be made out to: the address of the token endpoint, or our name."""
    return frozenset({settings.PUBLIC_URL + reverse("auth-token"), settings.TOKEN_ISSUER})


def _key_id(header: Mapping[str, Any]) -> str:
    """Return the id of the key of a header that says nothing beyond what it must. Raises `_Wrong`."""
    kid = header.get("kid")
    if not {"alg", "kid"} <= header.keys() <= {"alg", "kid", "typ"} or header.get("typ", "JWT") not in _TYPES:
        raise _Wrong("header")
    if not isinstance(kid, str) or not 0 < len(kid) <= 64 or "\x00" in kid:
        raise _Wrong("header")
    return kid


def _key_of(client_id: object, kid: str) -> ClientKey | None:
    if not isinstance(client_id, str) or not 0 < len(client_id) <= 64 or "\x00" in client_id:
        return None
    with session_check.database_guard():
        return (
            ClientKey.objects.select_related("client__user")
            .filter(client__client_id=client_id, kid=kid, revoked_at=None)
            .first()
        )


def _public(found: ClientKey | None, algorithm: str) -> tuple[Any, str]:
    """Return the registered key and its own algorithm; the header's must be the same."""
    if found is None or found.algorithm != algorithm:
        return _NOBODY, "EdDSA"
    return jws.public_key(found.public_jwk)


def _proved(found: ClientKey | None) -> MachineClient:
    if found is None:
        raise _Wrong("assertion")
    return found.client


def _check(claims: Mapping[str, Any], client: MachineClient, client_id: str | None) -> int:
    """Return until when the assertion would be good. Raises `_Wrong`, `jws.Malformed`."""
    now = int(time.time())
    issued, expires = jws.moment(claims, "iat"), jws.moment(claims, "exp")
    who = {claims.get("iss"), claims.get("sub"), client_id or client.client_id}
    if client.method != MachineClient.Method.ASSERTION:
        raise _Wrong("method")
    if who != {client.client_id}:
        raise _Wrong("issuer")
    if not isinstance(claims.get("aud"), str) or claims["aud"] not in audiences():
        raise _Wrong("audience")
    if not now < expires <= now + LONGEST_LIFE_SECONDS + CLOCK_LEEWAY_SECONDS:
        raise _Wrong("expiry")
    if not expires - LONGEST_LIFE_SECONDS <= issued <= now + CLOCK_LEEWAY_SECONDS:
        raise _Wrong("issued_at")
    if "nbf" in claims and jws.moment(claims, "nbf") > now + CLOCK_LEEWAY_SECONDS:
        raise _Wrong("not_before")
    token_id = claims.get("jti")
    if not isinstance(token_id, str) or not 0 < len(token_id) <= MAX_ID_LENGTH:
        raise _Wrong("id")
    return expires


def _use_up(client: MachineClient, token_id: str, until: int) -> None:
    if not used_proofs.use(_KIND, client.pk.bytes, token_id, until=until):
        raise _Wrong("replayed")
