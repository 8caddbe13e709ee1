"""The master key changes under live sessions, and nobody notices."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction
from django.test import Client

from accounts.models import TotpDevice
from mestore.lib import crypto, resealing
from monitoring import subjects
from monitoring.models import AuditEvent
from sessions_security import keys, sealed
from sessions_security.models import SessionSecret, SigningKey
from sessions_security.store import SessionStore
from tests.factories import accounts as people
from tests.factories import sessions_security as made

# The owner changes people's data keys: what it sees must be committed.
pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]


@pytest.fixture
def new_key(settings: Any) -> Iterator[None]:
    """From now on a new key is current; the old ones stay in the ring."""

    def begin() -> None:
        settings.MESTORE_MASTER_KEYS = {"next": b"n" * 32} | settings.MESTORE_MASTER_KEYS

    yield begin  # type: ignore[misc]
    keys.forget()
    subjects.forget_cached_keys()


def rotate(*options: str) -> dict[str, Any]:
    out = io.StringIO()
    call_command("rotate_keys", "--purpose", "session", "--json", *options, stdout=out, stderr=io.StringIO())
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def exit_code(*options: str) -> int:
    try:
        rotate(*options)
    except CommandError as error:
        return error.returncode
    return 0


# What is refused


@pytest.mark.parametrize("key_id", ["", "a b", "x" * 33, "é"])
def test_new_key_needs_a_plain_new_name(key_id: str) -> None:
    assert exit_code("--new", key_id) == 2


def test_new_key_is_printed_once_and_changes_nothing() -> None:
    assert rotate("--new", "k2027")["entry"].startswith("k2027:")


def test_value_that_does_not_open_is_told_and_left_as_it_is(new_key: Callable[[], None]) -> None:
    session, _cookie = made.cookie_of(people.AdminFactory.create())
    other, _cookie = made.cookie_of(people.SuperuserFactory.create())
    SessionSecret.objects.filter(session=session).update(
        payload=SessionSecret.objects.get(session=other).payload
    )
    before = bytes(SessionSecret.objects.get(session=session).payload)
    new_key()

    assert exit_code() == 2

    assert bytes(SessionSecret.objects.get(session=session).payload) == before
    assert crypto.key_id_of(SessionSecret.objects.get(session=other).payload) == "next"


def test_key_that_was_taken_out_too_early_is_told(settings: Any, new_key: Callable[[], None]) -> None:
    made.cookie_of(people.AdminFactory.create())
    settings.MESTORE_MASTER_KEYS = {"next": b"n" * 32}

    assert exit_code("--dry-run") == 2


# What is moved


def test_everything_sealed_moves_and_nobody_is_signed_out(new_key: Callable[[], None]) -> None:
    admin = people.AdminFactory.create()
    device = people.TotpDeviceFactory.create(user=admin)
    seed = TotpDevice.objects.get(pk=device.pk).secret
    _session, cookie = made.cookie_of(admin)
    store = SessionStore(cookie)
    store["kept"] = "as it was"
    store.save()
    _token_session, pair = made.tokens_of(people.BuyerFactory.create())
    new_key()

    assert exit_code("--dry-run") == 1
    moved = {one["place"]: one["moved"] for one in rotate()["resealed"]}

    assert moved["sessions_security_sessionsecret.payload"] == 1
    assert moved["sessions_security_signingkey.sealed_private_key"] == 1
    assert moved["accounts_totpdevice.secret"] == 1
    assert moved["subject_key.wrapped"] >= 1
    assert all(one.is_current for one in resealing.census())
    keys.forget()
    subjects.forget_cached_keys()
    assert SessionStore(cookie)["kept"] == "as it was"
    headers = {"Authorization": f"Bearer {pair.access_token}"}
    assert Client().get("/api/v1/auth/me", headers=headers).status_code == 200
    assert TotpDevice.objects.get(pk=device.pk).secret == seed
    assert AuditEvent.objects.filter(type="keys.resealed").count() == 1


def test_second_run_changes_nothing(new_key: Callable[[], None]) -> None:
    made.cookie_of(people.AdminFactory.create())
    new_key()
    rotate()

    assert {one["moved"] for one in rotate()["resealed"]} == {0}


def test_after_it_the_old_key_may_go_from_what_is_sealed(settings: Any, new_key: Callable[[], None]) -> None:
    _session, cookie = made.cookie_of(people.AdminFactory.create())
    new_key()
    rotate()
    settings.MESTORE_MASTER_KEYS = {"next": b"n" * 32}

    assert SessionStore(cookie).user_session is not None
    assert SigningKey.objects.count() <= 1


def test_many_values_move_in_batches(new_key: Callable[[], None]) -> None:
    for _number in range(5):
        made.cookie_of(people.SuperuserFactory.create())
    new_key()
    seen: list[int] = []

    done = resealing.reseal(sealed.PAYLOADS, batch=2, progress=lambda _place, moved: seen.append(moved))

    assert (done.moved, seen) == (5, [2, 4, 5])


# Meanwhile


def test_save_during_the_rotation_is_not_lost(
    new_key: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    _session, cookie = made.cookie_of(people.AdminFactory.create())
    new_key()
    rewrap = crypto.rewrap

    def after_a_save(value: bytes, **options: Any) -> bytes | None:
        monkeypatch.setattr(crypto, "rewrap", rewrap)
        sealed_again = rewrap(value, **options)
        store = SessionStore(cookie)
        store["written"] = "in between"
        store.save()
        return sealed_again

    monkeypatch.setattr(crypto, "rewrap", after_a_save)
    resealing.reseal(sealed.PAYLOADS)

    assert SessionStore(cookie)["written"] == "in between"


def test_new_cookie_during_the_rotation_stays_good(
    new_key: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    _session, cookie = made.cookie_of(people.AdminFactory.create())
    new_key()
    rewrap, browser = crypto.rewrap, SessionStore(cookie)

    def after_a_new_cookie(value: bytes, **options: Any) -> bytes | None:
        monkeypatch.setattr(crypto, "rewrap", rewrap)
        sealed_again = rewrap(value, **options)
        browser.cycle_key()
        return sealed_again

    monkeypatch.setattr(crypto, "rewrap", after_a_new_cookie)
    resealing.reseal(sealed.PAYLOADS)

    assert SessionStore(browser.session_key).user_session is not None


def test_two_rotations_at_once_and_people_at_work(new_key: Callable[[], None], race: Race) -> None:
    cookies = [made.cookie_of(people.SuperuserFactory.create())[1] for _number in range(6)]
    new_key()

    def work(cookie: str) -> None:
        for number in range(5):
            with transaction.atomic():
                store = SessionStore(cookie)
                store["count"] = number
                store.save()

    reseal = partial(resealing.reseal, sealed.PAYLOADS, batch=1)
    outcomes = race([reseal, reseal, *(partial(work, cookie) for cookie in cookies)])

    assert not [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert [SessionStore(cookie)["count"] for cookie in cookies] == [4] * 6
    standing = [one for one in resealing.census() if one.place == sealed.PAYLOADS.name]
    assert [(one.key_id, one.values) for one in standing] == [("next", 6)]
