from __future__ import annotations

import base64
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
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


class Crowd:
    """Threads that ask for a slot of one capacity; the one that holds it lets go when told."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self.served: list[str] = []
        self.leave = threading.Event()
        self._threads: list[threading.Thread] = []
        entered = threading.Event()
        self._begin(self._hold, entered)
        assert entered.wait(120)

    def queue(self, name: str, *, known: bool = False) -> None:
        """One more waits; comes back when it does."""
        before = self.capacity.waiting
        self._begin(self._ask, name, known)
        deadline = time.monotonic() + 120
        while self.capacity.waiting == before:
            assert time.monotonic() < deadline

    def end(self) -> list[str]:
        """Let go and return who was served, in order."""
        self.leave.set()
        for thread in self._threads:
            thread.join(120)
        return self.served

    def _begin(self, work: Callable[..., None], *given: Any) -> None:
        self._threads.append(threading.Thread(target=work, args=given, daemon=True))
        self._threads[-1].start()

    def _hold(self, entered: threading.Event) -> None:
        with self.capacity.slot():
            entered.set()
            self.leave.wait(120)

    def _ask(self, name: str, known: bool) -> None:
        with self.capacity.admitted(known=known), self.capacity.slot():
            self.served.append(name)


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashers, "WAIT_SECONDS", 120.0)


@pytest.mark.usefixtures("_patient")
def test_surplus_is_refused_at_once() -> None:
    crowd = Crowd(Capacity(1))
    crowd.queue("second")

    with pytest.raises(HashingBusy) as refused, crowd.capacity.slot():
        pass
    with pytest.raises(HashingBusy), crowd.capacity.admitted():
        pass

    assert refused.value.status == 503
    assert int(refused.value.headers["Retry-After"]) >= 1
    assert crowd.end() == ["second"]
    with crowd.capacity.slot():
        assert crowd.capacity.waiting == 0


@pytest.mark.usefixtures("_patient")
def test_known_device_has_a_place_that_strangers_cannot_take_and_is_served_first() -> None:
    crowd = Crowd(Capacity(1))
    crowd.queue("stranger")
    with pytest.raises(HashingBusy), crowd.capacity.admitted():
        pass

    crowd.queue("known device", known=True)

    with pytest.raises(HashingBusy), crowd.capacity.admitted(known=True):
        pass
    assert crowd.end() == ["known device", "stranger"]


def test_who_has_a_place_needs_no_second_one() -> None:
    capacity = Capacity(1)

    with capacity.admitted(), capacity.admitted(), capacity.slot():
        pass
    with capacity.admitted():
        for _ in range(5):
            assert capacity.run(lambda: b"done") == b"done"


def test_failed_work_gives_its_slot_back() -> None:
    capacity = Capacity(1)

    def broken() -> bytes:
        raise MemoryError

    for _ in range(4):
        with pytest.raises(MemoryError):
            capacity.run(broken)
    with capacity.slot():
        assert capacity.waiting == 0


@pytest.mark.usefixtures("_patient")
def test_no_more_than_the_slots_run_at_once(race: Callable[..., list[Any]]) -> None:
    capacity, watch, running, most = Capacity(2), threading.Lock(), [0], [0]

    def work() -> bytes:
        with watch:
            running[0] += 1
            most[0] = max(most[0], running[0])
        with watch:
            running[0] -= 1
        return b"done"

    outcomes = race([partial(capacity.run, work)] * 24)

    assert most[0] <= 2
    assert {type(outcome) for outcome in outcomes} <= {bytes, HashingBusy}
    assert b"done" in outcomes
    with capacity.slot(), capacity.slot():
        assert capacity.waiting == 0


@pytest.mark.skipif(sys.platform != "linux", reason="priorities belong to threads on Linux alone")
def test_hashing_yields_the_processor_and_nothing_else_does() -> None:
    here, there = [], []

    def priority() -> bytes:
        there.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return b""

    Capacity(1).run(priority)
    here.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    assert there == [10]
    assert here[0] < 10


def test_priority_that_cannot_be_lowered_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_given: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refused)

    assert Capacity(1).run(lambda: b"done") == b"done"


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
