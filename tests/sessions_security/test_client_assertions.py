"""Machine accounts that sign assertions (`private_key_jwt`): nothing that we store signs anybody in."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as ec_key
from django.conf import settings
from django.test import Client

from monitoring.models import AuditEvent
from sessions_security import client_assertions, clients
from sessions_security.models import ClientKey, MachineClient
from tests.factories import sessions_security as made

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)
racing = pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])

Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]
TOKEN = "/api/v1/auth/token"


def ask(assertion: str, **more: str) -> Any:
    body = {
        "grant_type": "client_credentials",
        "client_assertion_type": client_assertions.TYPE,
        "client_assertion": assertion,
    }
    return Client().post(TOKEN, urlencode(body | more), "application/x-www-form-urlencoded")


def ask_with_key(client_id: str, key: str, **more: str) -> Any:
    basic = base64.b64encode(f"{client_id}:{key}".encode()).decode()
    body = urlencode({"grant_type": "client_credentials"} | more)
    return Client().post(
        TOKEN, body, "application/x-www-form-urlencoded", headers={"Authorization": f"Basic {basic}"}
    )


def refused(answer: Any, why: str | None = None) -> None:
    assert (answer.status_code, answer.json()["error_code"]) == (401, "INVALID_CLIENT"), answer.content
    if why is not None:
        recorded = AuditEvent.objects.using("audit").filter(type="client.refused").latest("id")
        assert json.loads(bytes(recorded.canon))["data"]["why"] == why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"aud": "https://other.example"}, "audience"),
        ({"aud": [settings.TOKEN_ISSUER]}, "audience"),
        ({"aud": settings.PUBLIC_URL}, "audience"),
        ({"aud": None}, "audience"),
        ({"iss": "somebody"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"iss": []}, "issuer"),
        ({"iss": {}}, "issuer"),
        ({"exp": int(time.time()) - 1}, "expiry"),
        # Tests are collected long before the last of them runs: what is ahead is ahead by a day.
        ({"exp": int(time.time()) + 86_400}, "expiry"),
        ({"exp": str(int(time.time()) + 60)}, "assertion"),
        ({"exp": time.time() + 60.5}, "assertion"),
        ({"exp": 10**40}, "assertion"),
        ({"exp": None}, "assertion"),
        ({"iat": int(time.time()) + 86_400}, "issued_at"),
        ({"iat": int(time.time()) - 86_400}, "issued_at"),
        ({"iat": None}, "assertion"),
        ({"iat": True}, "assertion"),
        ({"nbf": int(time.time()) + 86_400}, "not_before"),
        ({"jti": None}, "id"),
        ({"jti": ""}, "id"),
        ({"jti": "x" * 129}, "id"),
        ({"jti": 5}, "id"),
    ],
)
def test_assertion_that_says_something_else_is_refused(change: dict[str, Any], why: str) -> None:
    client, holder = made.signing_machine()

    refused(ask(holder.assertion(client, **change)), why)


@pytest.mark.parametrize("sub", [None, 7, ["x"], "", "nobody", "x" * 65, "a\x00b", "\ud800"], ids=ascii)
def test_unknown_client_reads_like_a_wrong_signature(sub: Any) -> None:
    client, holder = made.signing_machine()

    unknown = ask(holder.assertion(client, sub=sub))
    wrong = ask(made.Holder().assertion(client))

    refused(unknown)
    refused(wrong)
    assert unknown.json()["detail"] == wrong.json()["detail"]


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "k2"},
        {"kid": 7},
        {"kid": ""},
        {"kid": "x" * 65},
        {"kid": None},
        {"kid": "\ud800"},
        {"typ": "at+jwt"},
        {"typ": []},
        {"typ": {}},
        {"crit": ["exp"]},
        {"jku": "https://attacker.example/keys"},
        {"jwk": {"kty": "OKP"}},
        {"b64": False},
    ],
    ids=lambda header: "-".join(ascii(f"{name}={value}")[1:21] for name, value in header.items()),
)
def test_header_of_another_kind_is_refused(header: dict[str, Any]) -> None:
    client, holder = made.signing_machine()
    good = json.loads(base64.urlsafe_b64decode(holder.assertion(client).split(".")[1] + "=="))

    refused(ask(holder.sign(good, **({"kid": "k1"} | header))))


@pytest.mark.parametrize("assertion", ["x", "a.b.c", "e30.e30.e30", "é"])
def test_nonsense_is_refused(assertion: str) -> None:
    refused(ask(assertion))


def test_huge_assertion_is_refused_before_any_work() -> None:
    assert ask("x" * 4_097).status_code == 413
    assert ask("x" * 5_000_000).status_code == 413


def test_assertion_is_accepted_once() -> None:
    client, holder = made.signing_machine()
    assertion = holder.assertion(client)

    assert ask(assertion).status_code == 200
    refused(ask(assertion), "replayed")


@racing
def test_one_assertion_sent_twenty_times_at_once_signs_in_once(race: Race) -> None:
    client, holder = made.signing_machine()
    assertion = holder.assertion(client)

    answers = race([partial(ask, assertion)] * 20)

    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19


def test_assertion_for_another_client_is_refused() -> None:
    client, holder = made.signing_machine()
    other, _holder = made.signing_machine(holder=holder)

    refused(ask(holder.assertion(client), client_id=other.client_id), "issuer")
    assert ask(holder.assertion(client), client_id=client.client_id).status_code == 200


def test_assertion_from_another_network_is_refused_and_not_used_up() -> None:
    client, holder = made.signing_machine("192.0.2.0/24")
    assertion = holder.assertion(client)

    assert ask(assertion).json()["error_code"] == "CLIENT_NETWORK_NOT_ALLOWED"

    MachineClient.objects.filter(pk=client.pk).update(networks=["127.0.0.0/8"])
    assert ask(assertion).status_code == 200


def test_client_that_signs_cannot_use_a_key_and_the_reverse() -> None:
    signing, holder = made.signing_machine()
    keyed, key = made.machine()
    clients.add_key(keyed, holder.jwk, kid="k1", by=made.HERE)

    refused(ask_with_key(signing.client_id, "x" * 43), "credentials")
    refused(ask(holder.assertion(keyed)), "method")
    assert ask_with_key(keyed.client_id, key).status_code == 200


def test_two_proofs_in_one_request_are_refused() -> None:
    client, key = made.machine()
    _signing, holder = made.signing_machine()

    refused(
        ask_with_key(
            client.client_id,
            key,
            client_assertion_type=client_assertions.TYPE,
            client_assertion=holder.assertion(client),
        )
    )


@pytest.mark.parametrize("missing", ["client_assertion", "client_assertion_type"])
def test_assertion_and_its_type_come_together(missing: str) -> None:
    body = {
        "grant_type": "client_credentials",
        "client_assertion_type": client_assertions.TYPE,
        "client_assertion": "x",
    }
    del body[missing]

    answer = Client().post(TOKEN, urlencode(body), "application/x-www-form-urlencoded")

    assert answer.status_code == 422
    assert missing in answer.json()["details"][0]["field"]


@pytest.mark.parametrize("audience", sorted(client_assertions.audiences()))
@pytest.mark.parametrize("curve", ["EdDSA", "ES256"])
def test_good_assertion_signs_in(audience: str, curve: str) -> None:
    holder = made.Holder() if curve == "EdDSA" else made.Holder(ec_key(SECP256R1()))
    client, _holder = made.signing_machine(holder=holder)

    answer = ask(holder.assertion(client, aud=audience))

    assert answer.status_code == 200, answer.content
    assert set(answer.json()) == {"access_token", "token_type", "expires_in"}


def test_key_of_another_algorithm_under_the_same_id_is_refused() -> None:
    client, _holder = made.signing_machine()

    refused(ask(made.Holder(ec_key(SECP256R1())).assertion(client)))


def test_withdrawn_key_signs_nobody_in() -> None:
    client, holder = made.signing_machine()
    spare = made.Holder()
    clients.add_key(client, spare.jwk, kid="k2", by=made.HERE)
    assert ask(holder.assertion(client)).status_code == 200

    clients.remove_key(client, "k1", by=made.HERE)

    refused(ask(holder.assertion(client)))
    assert ask(spare.assertion(client, kid="k2")).status_code == 200
    assert ClientKey.objects.get(client=client, kid="k1").revoked_at is not None
