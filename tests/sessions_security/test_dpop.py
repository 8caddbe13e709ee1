"""Proofs of possession: a stolen token is of no use without its key."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as ec_key
from django.conf import settings as django_settings
from django.test import Client

from mestore.lib import crypto
from monitoring.models import AuditEvent
from sessions_security import clients, dpop, jws, signin
from sessions_security.models import UsedProof, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)
racing = pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])

Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]
AUTH = "/api/v1/auth/"
ME = AUTH + "me"
DAY = 86_400  # tests are collected long before the last of them runs: what is ahead is ahead by a day


@pytest.fixture
def holder() -> made.Holder:
    return made.Holder()


def post(path: str, body: dict[str, Any], proof: str | None = None) -> Any:
    headers = {"DPoP": proof} if proof is not None else {}
    return Client().post(AUTH + path, json.dumps(body), "application/json", headers=headers)


def sign_in(holder: made.Holder) -> dict[str, Any]:
    user = people.BuyerFactory.create()
    answer = post(
        "login", {"email": user.email, "password": people.PASSWORD}, holder.proof("POST", AUTH + "login")
    )
    assert answer.status_code == 200, answer.content
    body: dict[str, Any] = answer.json()
    return body


def me(token: str, proof: str | None, *, scheme: str = "DPoP", path: str = ME) -> Any:
    headers = {"Authorization": f"{scheme} {token}"} | ({"DPoP": proof} if proof is not None else {})
    return Client().get(path, headers=headers)


def claims_of(token: str) -> dict[str, Any]:
    """What a good proof of a read of `ME` says."""
    return {
        "jti": "j",
        "htm": "GET",
        "htu": django_settings.PUBLIC_URL + ME,
        "iat": int(time.time()),
        "ath": jws.base64url(crypto.digest(token.encode())),
    }


def refused(answer: Any, error: str = "invalid_dpop_proof") -> None:
    assert answer.status_code == 401, answer.content
    assert f'DPoP error="{error}", algs="EdDSA ES256"' in answer["WWW-Authenticate"]


# What a thief has


def test_stolen_token_of_a_bound_session_is_useless_as_a_bearer_token(holder: made.Holder) -> None:
    token = sign_in(holder)["access_token"]

    refused(me(token, None, scheme="Bearer"), "invalid_token")
    refused(me(token, holder.proof("GET", ME, token=token), scheme="Bearer"), "invalid_token")
    refused(me(token, None))


def test_thief_with_a_key_of_his_own_is_refused(holder: made.Holder) -> None:
    token = sign_in(holder)["access_token"]

    refused(me(token, made.Holder().proof("GET", ME, token=token)))

    assert json.loads(bytes(AuditEvent.objects.using("audit").get(type="auth.proof.refused").canon))[
        "data"
    ] == {"why": "another_key"}


def test_proof_is_accepted_once(holder: made.Holder) -> None:
    token = sign_in(holder)["access_token"]
    proof = holder.proof("GET", ME, token=token)

    assert me(token, proof).status_code == 200
    refused(me(token, proof))


def test_unbound_token_with_a_proof_is_refused(holder: made.Holder) -> None:
    token = made.tokens_of(people.BuyerFactory.create())[1].access_token

    refused(me(token, holder.proof("GET", ME, token=token)), "invalid_token")


def test_stolen_refresh_token_needs_the_key_and_the_owner_is_not_disturbed(holder: made.Holder) -> None:
    refresh = sign_in(holder)["refresh_token"]

    assert post("refresh-token", {"refresh_token": refresh}).status_code == 401
    thief = made.Holder().proof("POST", AUTH + "refresh-token")
    assert post("refresh-token", {"refresh_token": refresh}, thief).status_code == 401

    mine = post("refresh-token", {"refresh_token": refresh}, holder.proof("POST", AUTH + "refresh-token"))
    assert (mine.status_code, mine.json()["token_type"]) == (200, "DPoP")
    token = mine.json()["access_token"]
    assert me(token, holder.proof("GET", ME, token=token)).status_code == 200


def test_free_refresh_token_cannot_be_bound_by_whoever_found_it(holder: made.Holder) -> None:
    _session, pair = made.tokens_of(people.BuyerFactory.create())

    answer = post(
        "refresh-token", {"refresh_token": pair.refresh_token}, holder.proof("POST", AUTH + "refresh-token")
    )

    assert answer.status_code == 401


@racing
def test_one_proof_sent_twenty_times_at_once_is_accepted_once(race: Race, holder: made.Holder) -> None:
    token = sign_in(holder)["access_token"]
    proof = holder.proof("GET", ME, token=token)

    answers = race([partial(me, token, proof)] * 20)

    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19


# Proofs that prove nothing


@pytest.mark.parametrize(
    "change",
    [
        {"htm": "POST"},
        {"htm": "get"},
        {"htm": None},
        {"htu": "https://attacker.example" + ME},
        {"htu": django_settings.PUBLIC_URL + AUTH + "logout"},
        {"htu": django_settings.PUBLIC_URL + ME + "/.."},
        {"htu": ME},
        {"htu": 7},
        {"htu": "https://[broken"},
        {"iat": int(time.time()) - 3_600},
        {"iat": int(time.time()) + DAY},
        {"iat": str(int(time.time()))},
        {"iat": time.time()},
        {"iat": True},
        {"iat": -1},
        {"iat": 10**40},
        {"iat": None},
        {"exp": int(time.time()) - 1},
        {"nbf": int(time.time()) + DAY},
        {"jti": ""},
        {"jti": 7},
        {"jti": None},
        {"jti": "x" * 129},
        {"jti": "\ud800"},
        {"ath": "wrong"},
        {"ath": None},
    ],
    ids="-".join,
)
def test_proof_of_something_else_is_refused(holder: made.Holder, change: dict[str, Any]) -> None:
    token = sign_in(holder)["access_token"]

    refused(me(token, holder.proof("GET", ME, token=token, **change)))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "at+jwt"},
        {"kid": "k"},
        {"crit": ["exp"]},
        {"jku": "https://attacker.example/keys"},
        {"x5c": ["MII"]},
        {"jwk": None},
        {"jwk": {"kty": "oct", "k": "c2VjcmV0"}},
        {"jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}},
        {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}},
        {"jwk": {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}},
        {"jwk": made.Holder().jwk | {"alg": []}},
        {"jwk": made.Holder().jwk | {"use": []}},
    ],
    ids="-".join,
)
def test_header_of_another_kind_is_refused(holder: made.Holder, header: dict[str, Any]) -> None:
    token = sign_in(holder)["access_token"]
    claims = claims_of(token)
    whole = {"typ": "dpop+jwt", "jwk": holder.jwk} | header

    refused(me(token, holder.sign(claims, **whole)))


def test_private_key_in_a_proof_is_refused(holder: made.Holder) -> None:
    token = sign_in(holder)["access_token"]
    leaked = holder.jwk | {"d": jws.base64url(holder.private.private_bytes_raw())}
    claims = claims_of(token)

    refused(me(token, holder.sign(claims, typ="dpop+jwt", jwk=leaked)))


@pytest.mark.parametrize("proof", ["", "x", "a.b.c", "e30.e30.e30", "x" * 5_000_000, "é"], ids=len)
def test_nonsense_is_refused_at_the_entrance_and_with_a_token(holder: made.Holder, proof: str) -> None:
    token = sign_in(holder)["access_token"]

    refused(me(token, proof))
    answer = post("login", {"email": "a@example.com", "password": "x"}, proof)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_DPOP_PROOF")


def test_wrong_proof_at_the_entrance_costs_nobody_an_attempt(holder: made.Holder) -> None:
    user = people.BuyerFactory.create()

    answer = post("login", {"email": user.email, "password": "wrong"}, holder.proof("GET", AUTH + "login"))

    assert answer.status_code == 400
    assert not AuditEvent.objects.using("audit").filter(type="auth.sign_in.failed").exists()


# What its owner has


@pytest.mark.parametrize("curve", ["EdDSA", "ES256"])
def test_bound_session_works_with_its_key(curve: str) -> None:
    holder = made.Holder() if curve == "EdDSA" else made.Holder(ec_key(SECP256R1()))

    body = sign_in(holder)
    token = body["access_token"]

    assert body["token_type"] == "DPoP"
    assert bytes(UserSession.objects.get().bound_key or b"") == holder.thumbprint
    assert me(token, holder.proof("GET", ME, token=token)).status_code == 200
    assert me(token, holder.proof("GET", ME + "?a=b#c", token=token), path=ME + "?q=1").status_code == 200


def test_thumbprint_is_that_of_rfc_7638() -> None:
    key, _algorithm = jws.public_key(
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    )

    # RFC 8037, appendix A.3
    assert jws.base64url(jws.thumbprint(key)) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


# Machines, and the strict mode


def test_client_that_must_be_bound_gets_nothing_without_a_proof(holder: made.Holder) -> None:
    client, key = made.machine()
    clients.change_method(client, method="key", requires_dpop=True, by=made.HERE)

    with pytest.raises(dpop.InvalidProof):
        signin.with_client_key(client.client_id, key, by=made.HERE)

    assert signin.with_client_key(
        client.client_id, key, by=made.HERE, bound_key=holder.thumbprint
    ).tokens.is_bound


def test_strict_mode_issues_and_accepts_bound_tokens_only(settings: Any, holder: made.Holder) -> None:
    loose = made.tokens_of(people.BuyerFactory.create())[1].access_token
    assert me(loose, None, scheme="Bearer").status_code == 200

    settings.REQUIRE_DPOP = True

    refused(me(loose, None, scheme="Bearer"), "invalid_token")
    user = people.BuyerFactory.create()
    answer = post("login", {"email": user.email, "password": people.PASSWORD})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_DPOP_PROOF")
    token = sign_in(holder)["access_token"]
    assert me(token, holder.proof("GET", ME, token=token)).status_code == 200


def test_used_proofs_are_remembered_longer_than_they_are_fresh(holder: made.Holder) -> None:
    before = int(time.time())
    sign_in(holder)

    assert UsedProof.objects.get().expires_at.timestamp() >= before + 60 + 60
