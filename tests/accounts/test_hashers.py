from __future__ import annotations

import base64
import threading
from typing import Any

import pytest
from argon2.low_level import ARGON2_VERSION, Type, hash_secret_raw
from django.contrib.auth.hashers import check_password, identify_hasher, make_password
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st

from accounts import hashers, passwords
from accounts.hashers import Capacity, HashingBusy, PepperedArgon2Hasher, UnhashablePasswordError
from mestore.lib import crypto

PASSWORD = "correct horse battery staple"
HASHER = PepperedArgon2Hasher()


def _encoded(password: str = PASSWORD) -> str:
    return HASHER.encode(password, HASHER.salt())


@pytest.mark.parametrize(
    "wrong", ["", "correct horse battery stapl", PASSWORD + " ", PASSWORD.upper(), "\x00", PASSWORD + "\x00"]
)
def test_other_password_does_not_verify(wrong: str) -> None:
    assert not HASHER.verify(wrong, _encoded())


@pytest.mark.parametrize("odd", ["\ud800", "a" * 4097, "\U0001f600" * 1025])
def test_what_cannot_be_a_password_never_verifies_and_never_breaks(odd: str) -> None:
    assert not HASHER.verify(odd, _encoded())
    HASHER.burn(odd)
    with pytest.raises(UnhashablePasswordError):
        HASHER.encode(odd, HASHER.salt())


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "!",
        "plain",
        "argon2id-peppered$",
        "argon2id-peppered$k$v=19$m=1024,t=1,p=1$A$A",
        "argon2id-peppered$k$v=19$m=1024,t=1,p=1$AAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAA",
        "pbkdf2_sha256$1$salt$hash",
    ],
)
def test_stored_text_that_is_not_ours_never_verifies(stored: str) -> None:
    assert not HASHER.verify(PASSWORD, stored)
    assert HASHER.must_update(stored)
    with pytest.raises(ValueError, match="not an argon2id"):
        HASHER.decode(stored)


def test_hash_of_a_removed_pepper_key_does_not_verify(settings: Any) -> None:
    stored = _encoded()

    settings.MESTORE_PEPPER_KEYS = {"other": bytes(range(32))}

    assert not HASHER.verify(PASSWORD, stored)


def test_another_pepper_makes_another_hash(settings: Any) -> None:
    key_id, _key = next(iter(settings.MESTORE_PEPPER_KEYS.items()))
    stored = _encoded()

    settings.MESTORE_PEPPER_KEYS = {key_id: bytes(range(32))}

    assert not HASHER.verify(PASSWORD, stored)


@run(max_examples=20, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_verifies_against_its_own_hash(password: str) -> None:
    assert HASHER.verify(password, _encoded(password))


def test_old_pepper_key_verifies_and_asks_for_renewal(settings: Any) -> None:
    stored = _encoded()
    assert not HASHER.must_update(stored)

    settings.MESTORE_PEPPER_KEYS = {"newer": bytes(range(32)), **settings.MESTORE_PEPPER_KEYS}

    assert HASHER.verify(PASSWORD, stored)
    assert HASHER.must_update(stored)
    renewed = passwords.renewed(PASSWORD, stored)
    assert renewed is not None
    assert renewed.split("$")[1] == "newer"
    assert passwords.renewed(PASSWORD, renewed) is None


@pytest.mark.parametrize("name", ["ARGON2_TIME_COST", "ARGON2_MEMORY_KIB", "ARGON2_PARALLELISM"])
def test_other_cost_verifies_and_asks_for_renewal(settings: Any, name: str) -> None:
    stored = _encoded()

    setattr(settings, name, getattr(settings, name) * 2)

    assert HASHER.verify(PASSWORD, stored)
    assert HASHER.must_update(stored)


def test_stored_form_is_argon2id_of_the_keyed_digest() -> None:
    parts = HASHER.decode(_encoded())
    salt = base64.b64decode(str(parts["salt"]) + "==")

    expected = hash_secret_raw(
        secret=crypto.pepper(PASSWORD)[1],
        salt=salt,
        time_cost=1,
        memory_cost=1024,
        parallelism=1,
        hash_len=32,
        type=Type.ID,
        version=ARGON2_VERSION,
    )

    assert base64.b64decode(str(parts["hash"]) + "=") == expected


def test_two_hashes_of_one_password_differ() -> None:
    assert _encoded() != _encoded()


def test_framework_uses_this_hasher_and_fits_the_column() -> None:
    stored = make_password(PASSWORD)

    assert isinstance(identify_hasher(stored), PepperedArgon2Hasher)
    assert check_password(PASSWORD, stored)
    assert len(stored) <= 255


def test_summary_shows_no_whole_hash() -> None:
    stored = _encoded()
    digest = stored.rsplit("$", 1)[1]

    assert digest not in str(HASHER.safe_summary(stored))
    HASHER.harden_runtime(PASSWORD, stored)


def test_unusable_password_matches_nothing_and_costs_a_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    derived: list[int] = []
    original = hashers._derive

    def counted(*arguments: Any) -> bytes:
        derived.append(1)
        return original(*arguments)

    monkeypatch.setattr(hashers, "_derive", counted)

    assert not passwords.matches("", "!")
    assert not passwords.matches(PASSWORD, "!imported")
    passwords.burn(PASSWORD)

    assert len(derived) == 3


def test_surplus_beyond_the_queue_is_refused_at_once() -> None:
    capacity = Capacity(1)
    entered, leave = threading.Event(), threading.Event()
    results: list[str] = []

    def hold() -> None:
        with capacity.slot():
            entered.set()
            leave.wait(10)

    def queue() -> None:
        with capacity.slot():
            results.append("served")

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(10)
    waiting = [threading.Thread(target=queue) for _ in range(4)]
    for thread in waiting:
        thread.start()
    while capacity.waiting < 4:
        pass

    with pytest.raises(HashingBusy) as refused, capacity.slot():
        pass
    leave.set()
    for thread in [holder, *waiting]:
        thread.join()

    assert refused.value.status == 503
    assert int(refused.value.headers["Retry-After"]) >= 1
    assert results == ["served"] * 4
    with capacity.slot():
        assert capacity.waiting == 0


def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashers, "WAIT_SECONDS", 0.01)
    capacity = Capacity(1)

    with capacity.slot(), pytest.raises(HashingBusy), capacity.slot():
        pass

    assert capacity.waiting == 0


def test_slots_follow_the_setting(settings: Any) -> None:
    settings.HASH_CONCURRENCY = 3

    assert hashers.capacity().slots == 3
    assert hashers.capacity() is hashers.capacity()
