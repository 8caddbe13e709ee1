"""Bytes of strangers: whatever comes in place of an answer ends in a refusal of ours."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts import passkey_answers
from accounts.models import LockoutCounter, User
from accounts.passkeys import MalformedPasskey
from tests.accounts.passkey_house import options, prove, sign_in
from tests.factories.accounts import AdminFactory
from tests.factories.passkeys import passkey_of
from tests.harness import authenticator as device
from tests.harness.authenticator import Authenticator, b64, unb64

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


@pytest.fixture
def user() -> User:
    return AdminFactory.create()


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=40).map(b64),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "malformed",
    [
        None, 1, [], {}, "", "{", "null", "[" * 20_000, "x" * 20_000, "\ud800", {"rawId": "AA"},
        {"rawId": "AA", "response": {}}, {"rawId": "AA", "response": []},
        {"rawId": 1, "response": {"clientDataJSON": "AA"}},
        {"rawId": "A*A=", "response": {"clientDataJSON": b64(b'{"challenge":"AA"}')}},
        {"rawId": "A", "response": {"clientDataJSON": b64(b'{"challenge":"AA"}')}},
        {"rawId": "AA", "response": {"clientDataJSON": b64(b"[]")}},
        {"rawId": "AA", "response": {"clientDataJSON": b64(b'{"challenge":1}')}},
        {"rawId": "AA", "response": {"clientDataJSON": b64(b"\xff")}},
        {"rawId": "AA", "response": {"clientDataJSON": b64(b"[" * 3_000)}},
        {"rawId": "AA", "response": {"clientDataJSON": b64(b'{"challenge":"AA"}'), "userHandle": 7}},
    ],
)  # fmt: skip
def test_what_is_no_answer_at_all_costs_nothing(user: User, malformed: Any) -> None:
    for ask in (partial(prove, user), sign_in, passkey_answers.read):
        with pytest.raises(MalformedPasskey):
            ask(malformed)
    assert not LockoutCounter.objects.using("audit").exists()


def test_an_answer_may_come_as_text(user: User) -> None:
    _passkey, authenticator = passkey_of(user)

    assert prove(user, json.dumps(authenticator.get(options(user)))).pk


WANTED = {"challenge": b64(b"c" * 32), "user": {"id": b64(b"somebody")}}
MADE = Authenticator(attestation="packed")
REGISTRATION, ASSERTION = MADE.create(WANTED), MADE.get(WANTED)
PUBLIC_KEY = device.cbor(MADE.keys[0].cose())


def ask_everything(answer: dict[str, Any]) -> bool:
    """Whether an answer proves anything. Whatever else it is must end in a refusal of ours."""
    try:
        read = passkey_answers.read(answer)
        if "attestationObject" in answer["response"]:
            passkey_answers.registration(read)
        else:
            passkey_answers.assertion(read, public_key=PUBLIC_KEY, owner=b"somebody")
    except (MalformedPasskey, passkey_answers.Disproved):
        return False
    return True


def test_the_samples_are_right() -> None:
    assert ask_everything(REGISTRATION)
    assert ask_everything(ASSERTION)


@hypothesis_settings(max_examples=150)
@given(
    sample=st.sampled_from([REGISTRATION, ASSERTION]),
    field=st.sampled_from(
        ["attestationObject", "authenticatorData", "signature", "userHandle", "transports"]
    ),
    junk=JUNK,
)
def test_no_junk_in_an_answer_breaks_anything(sample: dict[str, Any], field: str, junk: Any) -> None:
    ask_everything({**sample, "response": {**sample["response"], field: junk}})


@hypothesis_settings(max_examples=300)
@given(
    field=st.sampled_from(["attestationObject", "authenticatorData", "signature"]),
    place=st.floats(0, 1, exclude_max=True),
    cut=st.integers(0, 3),
    put=st.binary(max_size=4),
)
def test_no_changed_bytes_prove_anything(field: str, place: float, cut: int, put: bytes) -> None:
    sample = REGISTRATION if field in REGISTRATION["response"] else ASSERTION
    raw = bytearray(unb64(sample["response"][field]))
    start = int(place * len(raw))
    before = bytes(raw)
    raw[start : start + cut] = put
    assume(bytes(raw) != before)

    assert not ask_everything({**sample, "response": {**sample["response"], field: b64(bytes(raw))}})


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x9b" + b"\xff" * 8,
        b"\x5b\x7f" + b"\xff" * 7,
        b"\x81" * 3_000,
        b"\xbb\x00\x00\x00\xff\xff\xff\xff\xff",
        b"\xd8\x24" * 500,
    ],
)
def test_cbor_that_claims_to_be_huge_is_refused_at_once(bomb: bytes) -> None:
    answer = Authenticator().create({"challenge": b64(b"c" * 32), "user": {"id": b64(b"somebody")}})
    answer["response"]["attestationObject"] = b64(bomb)

    with pytest.raises(passkey_answers.Disproved):
        passkey_answers.registration(passkey_answers.read(answer))
