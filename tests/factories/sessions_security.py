"""Sessions and tokens for tests, made by the same use cases as real ones."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db import transaction
from jwt.algorithms import get_default_algorithms

from accounts.models import User
from mestore.lib import crypto
from mestore.lib.actor import Actor
from sessions_security import clients, jws, sessions, tokens
from sessions_security.models import MachineClient, UserSession
from sessions_security.store import SessionStore

HERE = Actor(kind="anonymous", address="127.0.0.1", request_id="req_00000000")


def session_of(
    user: User,
    *,
    kind: Literal["cookie", "token"] = "token",
    amr: Sequence[str] | None = None,
    by: Actor = HERE,
) -> UserSession:
    """A live session of `user`, in which its role's least was proved unless `amr` says otherwise."""
    least = ("pwd", "otp") if user.is_staff else ("pwd",)
    return sessions.start(user, kind=kind, amr=least if amr is None else amr, by=by)


def tokens_of(user: User) -> tuple[UserSession, tokens.TokenPair]:
    """A live token session of `user` and its first tokens."""
    with transaction.atomic():
        session = session_of(user)
        return session, tokens.issue_pair(session)


def bearer(user: User) -> dict[str, str]:
    """The header of a request by `user`: `client.get(path, headers=bearer(user))`."""
    return {"Authorization": f"Bearer {tokens_of(user)[1].access_token}"}


def cookie_of(user: User) -> tuple[UserSession, str]:
    """A live browser session of `user` and the value of its cookie."""
    store = SessionStore()
    with transaction.atomic():
        session = session_of(user, kind="cookie", amr=("pwd", "otp"))
        store.open(session)
    assert store.session_key is not None
    return session, store.session_key


def cookies(value: str) -> dict[str, str]:
    """The cookie jar of a browser with that session."""
    return {settings.SESSION_COOKIE_NAME: value}


def machine(*networks: str) -> tuple[MachineClient, str]:
    """A machine account, by default allowed from this machine, and its key."""
    return clients.create("storefront", networks=networks or ("127.0.0.0/8",), by=HERE)


def machine_bearer(client: MachineClient) -> dict[str, str]:
    """The header of a request by a machine account."""
    session = sessions.start(client.user, kind="token", amr=("key",), by=HERE, client=client)
    return {"Authorization": f"Bearer {tokens.issue_access(session).access_token}"}


@dataclass
class Holder:
    """A program's own key pair: it signs assertions and proofs of possession."""

    private: Any = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def algorithm(self) -> str:
        return "EdDSA" if isinstance(self.private, Ed25519PrivateKey) else "ES256"

    @property
    def jwk(self) -> dict[str, str]:
        return jws.canonical_jwk(self.private.public_key())

    @property
    def thumbprint(self) -> bytes:
        return jws.thumbprint(self.private.public_key())

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """`claims` signed whatever they are, under this header; None leaves a member of either out."""
        whole = {"alg": self.algorithm} | header
        signed = ".".join(
            jws.base64url(
                json.dumps({name: value for name, value in part.items() if value is not None}).encode()
            )
            for part in (whole, claims)
        )
        signature = get_default_algorithms()[self.algorithm].sign(signed.encode(), self.private)
        return f"{signed}.{jws.base64url(signature)}"

    def proof(self, method: str, path: str, *, token: str | None = None, **changes: Any) -> str:
        """A proof of possession (RFC 9449) for one request."""
        claims: dict[str, Any] = {
            "jti": secrets.token_urlsafe(8),
            "htm": method,
            "htu": settings.PUBLIC_URL + path,
            "iat": int(time.time()),
        }
        if token is not None:
            claims["ath"] = jws.base64url(crypto.digest(token.encode()))
        return self.sign(claims | changes, typ="dpop+jwt", jwk=self.jwk)

    def assertion(self, client: MachineClient, *, kid: str = "k1", **changes: Any) -> str:
        """A client assertion (RFC 7523)."""
        now = int(time.time())
        claims = {
            "iss": client.client_id,
            "sub": client.client_id,
            "aud": settings.TOKEN_ISSUER,
            "jti": secrets.token_urlsafe(8),
            "iat": now,
            "exp": now + 60,
        }
        return self.sign(claims | changes, kid=kid)


def signing_machine(*networks: str, holder: Holder | None = None) -> tuple[MachineClient, Holder]:
    """A machine account that signs assertions with a key of its own, `k1`."""
    holder = holder or Holder()
    made = clients.create_with(
        "relay", networks=networks or ("127.0.0.0/8",), public_jwk=holder.jwk, kid="k1", by=HERE
    )
    return made.client, holder
