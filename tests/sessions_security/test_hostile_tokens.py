"""Tokens that somebody made up: none opens anything, neither at the function nor over HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.test import Client
from jwt.algorithms import get_default_algorithms

from sessions_security import jws, keys, tokens
from sessions_security.models import UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

ME = "/api/v1/auth/me"
BIG = 5_000_000


@pytest.fixture(autouse=True)
def _fresh_keys() -> None:
    keys.forget()


@pytest.fixture
def session() -> UserSession:
    return made.session_of(people.BuyerFactory.create())


def claims_of(session: UserSession, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {
        "sub": str(session.user_id),
        "sid": str(session.pk),
        "iat": now,
        "exp": now + 60,
        "jti": "j",
        "iss": settings.TOKEN_ISSUER,
        "aud": settings.TOKEN_AUDIENCE,
    } | changes


def header_of(**changes: Any) -> dict[str, Any]:
    return {"alg": "EdDSA", "typ": "at+jwt", "kid": keys.ring().current_kid} | changes


def text(part: Any) -> bytes:
    return part if isinstance(part, bytes) else json.dumps(part).encode()


def signed(header: Any, payload: Any, sign: Any = None) -> str:
    """A token with our own good signature, unless `sign` makes another, over whatever the parts are."""
    body = f"{jws.base64url(text(header))}.{jws.base64url(text(payload))}"
    signature = (sign or keys.ring().private_key.sign)(body.encode())
    return f"{body}.{jws.base64url(signature)}"


def good(session: UserSession) -> str:
    return signed(header_of(), claims_of(session))


def never(token: str) -> None:
    """Refused by the function, and over HTTP with the one answer that there is."""
    with pytest.raises(tokens.InvalidToken):
        tokens.verify_access(token)
    answer = Client().get(ME, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert answer.json()["error_code"] == "UNAUTHORIZED"


def test_the_token_that_the_others_differ_from_is_good(session: UserSession) -> None:
    token = good(session)

    assert tokens.verify_access(token).session_id == session.pk
    assert Client().get(ME, headers={"Authorization": f"Bearer {token}"}).status_code == 200


# Algorithms


def public_bytes() -> list[bytes]:
    public = keys.ring().public_keys[keys.ring().current_kid]
    return [
        public.public_bytes(Encoding.Raw, PublicFormat.Raw),
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ]


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, 7, ["EdDSA"], "eddsa", "Ed25519"])
@pytest.mark.parametrize("signature", ["none", "ours"])
def test_algorithm_of_another_name_is_refused(session: UserSession, name: Any, signature: str) -> None:
    token = signed(header_of(alg=name), claims_of(session))

    never(token if signature == "ours" else token.rsplit(".", 1)[0] + ".")


@pytest.mark.parametrize("written", range(3), ids=["raw", "pem", "der"])
@pytest.mark.parametrize(("name", "digest"), [("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")])
@pytest.mark.parametrize("claimed", ["itself", "EdDSA"])
def test_public_key_is_no_secret_of_an_hmac(
    session: UserSession, written: int, name: str, digest: str, claimed: str
) -> None:
    secret = public_bytes()[written]
    header = header_of(alg=name if claimed == "itself" else "EdDSA")

    never(signed(header, claims_of(session), lambda body: hmac.digest(secret, body, digest)))


@pytest.mark.parametrize("name", ["ES256", "RS256", "PS256"])
@pytest.mark.parametrize("claimed", ["itself", "EdDSA"])
def test_key_of_another_kind_is_refused(session: UserSession, name: str, claimed: str) -> None:
    key: Any = (
        ec.generate_private_key(ec.SECP256R1())
        if name == "ES256"
        else rsa.generate_private_key(65_537, 2_048)
    )
    header = header_of(alg=name if claimed == "itself" else "EdDSA")

    never(signed(header, claims_of(session), lambda body: get_default_algorithms()[name].sign(body, key)))


def test_key_of_the_attacker_is_not_taken_from_the_token(session: UserSession) -> None:
    attacker = Ed25519PrivateKey.generate()
    own = jws.canonical_jwk(attacker.public_key())
    for extra in (
        {"jwk": own},
        {"jku": "https://attacker.example/keys"},
        {"x5u": "https://attacker.example/cert"},
        {"x5c": ["MII"]},
        {"x5t": "AAAA"},
        {},
    ):
        never(signed(header_of(**extra), claims_of(session), attacker.sign))


# Headers with our own good signature: a mistake of ours must not open anything either


@pytest.mark.parametrize(
    "change",
    [
        {"crit": []},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
        {"jwk": {}},
        {"jku": ""},
        {"x5u": ""},
        {"x5c": []},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"typ": "JWT"},
        {"typ": "at+JWT"},
        {"typ": "application/at+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": None},
        {"typ": ["at+jwt"]},
        {"kid": ""},
        {"kid": None},
        {"kid": 7},
        {"kid": ["a"]},
        {"kid": {"a": 1}},
        {"kid": "unknown"},
        {"kid": "k" * 3_000},
        {"kid": "../../dev/null"},
        {"kid": "' OR 1=1 --"},
        {"kid": "\x00"},
        {"kid": "\ud800"},
        {"new": 1},
    ],
    ids=lambda change: "-".join(f"{name}={value!r}"[:24] for name, value in change.items()),
)
def test_header_that_we_did_not_write_is_refused(session: UserSession, change: dict[str, Any]) -> None:
    never(signed(header_of(**change), claims_of(session)))


@pytest.mark.parametrize("member", ["alg", "typ", "kid"])
def test_header_without_a_member_is_refused(session: UserSession, member: str) -> None:
    header = header_of()
    del header[member]

    never(signed(header, claims_of(session)))


@pytest.mark.parametrize("part", ["header", "payload"])
@pytest.mark.parametrize("order", ["first", "last"])
def test_member_that_stands_twice_is_refused(session: UserSession, part: str, order: str) -> None:
    parts = {"header": text(header_of()), "payload": text(claims_of(session))}
    twice = b'"typ": "JWT"' if part == "header" else b'"sub": "00000000-0000-0000-0000-000000000000"'
    whole = parts[part]
    parts[part] = b"{" + twice + b", " + whole[1:] if order == "first" else whole[:-1] + b", " + twice + b"}"

    never(signed(parts["header"], parts["payload"]))


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b'"x"', b"null", b"7", b"{", b"{}{}", b"\xff\xfe", b"[" * 2_900, b'{"exp": NaN}'],
    ids=lambda payload: repr(payload[:12]),
)
def test_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    never(signed(header_of(), payload))
    never(signed(payload, b"{}"))


# Claims with our own good signature

NOW = int(time.time())


@pytest.mark.parametrize("name", ["exp", "iat"])
@pytest.mark.parametrize(
    "value",
    [str(NOW + 30), NOW + 30.5, float(NOW), True, False, None, "", [], {}, -1, -(10**30), 10**30, 2**63],
    ids=[f"value{number}" for number in range(13)],  # the clock is in some: names must not be
)
def test_moment_that_is_no_plain_integer_is_refused(session: UserSession, name: str, value: Any) -> None:
    never(signed(header_of(), claims_of(session, **{name: value})))


@pytest.mark.parametrize(
    "literal", [b"1e400", b"Infinity", b"NaN", b"9" * 2_000], ids=lambda text: repr(text[:9])
)
def test_number_beyond_all_numbers_is_refused(session: UserSession, literal: bytes) -> None:
    whole = text(claims_of(session, exp=0)).replace(b'"exp": 0', b'"exp": ' + literal)

    never(signed(header_of(), whole))


@pytest.mark.parametrize(
    "changes",
    [
        {"iat": NOW + 86_400, "exp": NOW + 86_460},
        {"exp": NOW + 86_400 * 365},
        {"iat": NOW - 7_200, "exp": NOW - 3_600},
        {"iat": NOW, "exp": NOW},
        {"iat": 0, "exp": 0},
        {"nbf": NOW + 86_400},
        {"nbf": NOW - 3_600},
        {"aud": [settings.TOKEN_AUDIENCE]},
        {"aud": [settings.TOKEN_AUDIENCE, "other"]},
        {"aud": settings.TOKEN_AUDIENCE.upper()},
        {"aud": ""},
        {"aud": None},
        {"aud": {"a": 1}},
        {"iss": [settings.TOKEN_ISSUER]},
        {"iss": "other"},
        {"iss": None},
        {"jti": None},
        {"jti": 5},
        {"sub": None},
        {"sub": 1},
        {"sub": "x"},
        {"sid": None},
        {"sid": ["x"]},
        {"sid": "x"},
        {"role": "SUPERUSER"},
        {"cnf": None},
        {"cnf": {}},
        {"cnf": {"jkt": "AAAA"}},
        {"cnf": {"jkt": 7}},
        {"cnf": {"jwk": {}}},
    ],
)
def test_claims_that_we_would_not_have_written_are_refused(
    session: UserSession, changes: dict[str, Any]
) -> None:
    never(signed(header_of(), claims_of(session, **changes)))


@pytest.mark.parametrize(
    "changes",
    [{"aud": settings.MACHINE_TOKEN_AUDIENCE}, {"cnf": {"jkt": "A" * 43}}],
    ids=["audience", "key"],
)
def test_token_for_another_kind_of_session_opens_none(session: UserSession, changes: dict[str, Any]) -> None:
    claims = tokens.verify_access(signed(header_of(), claims_of(session, **changes)))

    with pytest.raises(tokens.InvalidToken):
        tokens.session_of(claims, address="127.0.0.1")


@pytest.mark.parametrize("claim", tokens.CLAIMS)
def test_missing_claim_is_refused(session: UserSession, claim: str) -> None:
    payload = claims_of(session)
    del payload[claim]

    never(signed(header_of(), payload))


def test_clock_of_another_machine_may_be_a_little_ahead(session: UserSession) -> None:
    soon = int(time.time()) + tokens.CLOCK_LEEWAY_SECONDS - 2

    assert tokens.verify_access(signed(header_of(), claims_of(session, iat=soon, exp=soon + 60))).token_id


# One text, one reading


def test_stray_bits_padding_and_spaces_are_refused(session: UserSession) -> None:
    token = good(session)
    head, payload, signature = token.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    stray = signature[:-1] + alphabet[alphabet.index(signature[-1]) ^ 1]
    assert base64.urlsafe_b64decode(stray + "==") == base64.urlsafe_b64decode(signature + "==")

    for altered in (
        f"{head}.{payload}.{stray}",
        f"{head}.{payload}.{signature}==",
        f"{head}=.{payload}.{signature}",
        f"{head}.{payload}.{signature}.",
        f".{head}.{payload}.{signature}",
        f"{head}..{payload}.{signature}",
        f"{head}.{payload}",
        f"{head}.{payload}.",
        f"{head}. {payload}.{signature}",
        f"{head}.{payload}.{signature}\t",
        f" {token}",
        f"{token} ",
        f"{token},{token}",
        f"{head}.{payload}.{signature[:-2]}",
        f"{head}.{payload}.{signature.replace('-', '+').replace('_', '/')}+",
        f'"{token}"',
    ):
        with pytest.raises(tokens.InvalidToken):
            tokens.verify_access(altered)
        assert Client().get(ME, headers={"Authorization": f"Bearer {altered}"}).status_code == 401


def test_other_serialisations_are_refused(session: UserSession) -> None:
    head, payload, signature = good(session).split(".")

    for token in (
        json.dumps({"protected": head, "payload": payload, "signature": signature}),
        json.dumps({"payload": payload, "signatures": [{"protected": head, "signature": signature}]}),
        f"{head}.{payload}.{signature}.{payload}.{signature}",  # five parts: encrypted (JWE)
        f"{head}..{signature}",  # detached
    ):
        never(token)


# Size alone decides


class CountingKey(Ed25519PublicKey):
    """The public key in force, counting how often it is asked to verify."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self.key, self.asked = key, 0

    def verify(self, signature: Any, data: Any) -> None:
        self.asked += 1
        self.key.verify(signature, data)

    def public_bytes(self, *args: Any, **kwargs: Any) -> bytes:
        return self.key.public_bytes(*args, **kwargs)

    def public_bytes_raw(self) -> bytes:
        return self.key.public_bytes_raw()

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = Ed25519PublicKey.__hash__

    def __copy__(self) -> CountingKey:
        return self

    def __deepcopy__(self, memo: Any) -> CountingKey:
        return self


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> CountingKey:
    ring = keys.ring()
    key = CountingKey(ring.public_keys[ring.current_kid])
    monkeypatch.setitem(ring.public_keys, ring.current_kid, key)
    monkeypatch.setattr("sessions_security.keys.ring", lambda **_wanted: ring)
    return key


@pytest.fixture
def _no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def oversize(session: UserSession, length: int) -> list[str]:
    """Tokens of that many characters: random ones, and one with a good header whose payload is the size."""
    token = signed(header_of(), claims_of(session, jti="j" * length))
    return ["a" * length, "." * length, "a.b." + "c" * length, token]


@pytest.mark.usefixtures("_no_socket")
@pytest.mark.parametrize("length", [jws.MAX_LENGTH + 1, BIG])
def test_huge_token_costs_neither_a_signature_nor_a_request(
    session: UserSession, counting: CountingKey, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    made_up = oversize(session, length)
    monkeypatch.setattr("sessions_security.jws.base64.b64decode", None)  # nothing is even decoded
    monkeypatch.setattr("sessions_security.tokens.crypto.digest", hashlib.sha256)

    for token in made_up:
        with pytest.raises(tokens.InvalidToken):
            tokens.verify_access(token)

    assert counting.asked == 0


@pytest.mark.parametrize("length", [jws.MAX_LENGTH + 1, BIG])
def test_huge_token_is_refused_over_http(session: UserSession, counting: CountingKey, length: int) -> None:
    for token in oversize(session, length):
        answer = Client().get(ME, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401

    assert counting.asked == 0


@pytest.mark.usefixtures("_no_socket")
def test_good_token_costs_one_signature_and_nothing_named_in_a_token_is_fetched(
    session: UserSession, counting: CountingKey
) -> None:
    assert tokens.verify_access(good(session)).token_id
    assert counting.asked == 1

    for header in (
        {"jku": "https://attacker.example/k"},
        {"x5u": "https://attacker.example/c"},
        {"kid": "new"},
    ):
        with pytest.raises(tokens.InvalidToken):
            tokens.verify_access(signed(header_of(**header), claims_of(session)))
    assert counting.asked == 1
