from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import hashers, login, passwords
from accounts.login import InvalidCredentials, LockedOut, check_credentials
from accounts.models import LockoutCounter, User
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from sessions_security import sessions
from tests.factories.accounts import (
    PASSWORD,
    AdminFactory,
    BuyerFactory,
    ImportedVendorFactory,
    MachineFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

BY = Actor(kind="anonymous", address="203.0.113.7", agent="test")


def _check(email: str, password: str = PASSWORD, purpose: login.Purpose = "api") -> User:
    return check_credentials(email, password, by=BY, purpose=purpose)


@pytest.mark.parametrize("password", ["", "wrong", PASSWORD + " ", "\x00", "\ud800", "a" * 5_000])
def test_wrong_password_is_refused(password: str) -> None:
    user = BuyerFactory.create()

    with pytest.raises(InvalidCredentials) as refused:
        _check(user.email, password)

    assert refused.value.status == 401
    assert refused.value.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("email", ["nobody@example.com", "", "\x00", "\udfff", "not an address", "x" * 5_000])
def test_unknown_name_is_refused_in_the_same_words(email: str) -> None:
    with pytest.raises(InvalidCredentials) as refused:
        _check(email)

    assert str(refused.value) == str(InvalidCredentials.message)


@pytest.mark.parametrize(
    "values",
    [
        {"is_active": False},
        {"is_active": False, "deleted_at": timezone.now()},
        {"user_type": "SYSTEM"},
        {"password": "!imported", "source": "marketplace", "external_reference": "s1"},
        {"password": ""},
    ],
)
def test_right_password_of_an_account_that_may_not_sign_in_is_refused(values: dict[str, Any]) -> None:
    user = UserFactory.create(**values)

    with pytest.raises(InvalidCredentials):
        _check(user.email)


@pytest.mark.parametrize("make", [ImportedVendorFactory, MachineFactory])
def test_account_without_address_cannot_be_named(make: Any) -> None:
    user = make.create()

    for name in ("", str(user), "None", str(user.pk)):
        with pytest.raises(InvalidCredentials):
            _check(name, "!imported")


def test_right_password_opens_in_any_spelling_of_the_address() -> None:
    user = BuyerFactory.create(email="ana@example.com")

    found = _check(" ANA@example.com")

    assert found.pk == user.pk
    assert User.objects.get(pk=user.pk).last_login is None  # nobody is signed in yet
    assert User.objects.get(pk=user.pk).auth_epoch == user.auth_epoch


@pytest.mark.parametrize(("purpose", "budget"), [("api", 5), ("admin", 3), ("console", 3)])
@pytest.mark.parametrize("is_known", [True, False])
def test_account_locks_whether_it_exists_or_not(purpose: login.Purpose, budget: int, is_known: bool) -> None:
    email = AdminFactory.create().email if is_known else "nobody@example.com"
    for _ in range(budget):
        with pytest.raises(InvalidCredentials):
            _check(email, "wrong", purpose)

    with pytest.raises(LockedOut) as refused:
        _check(email, PASSWORD, purpose)

    assert refused.value.status == 429
    assert "Retry-After" in refused.value.headers
    assert AuditEvent.objects.using("audit").filter(type="auth.locked").count() == 1


def test_success_resets_the_account() -> None:
    user = BuyerFactory.create()
    for _ in range(4):
        with pytest.raises(InvalidCredentials):
            _check(user.email, "wrong")

    _check(user.email)

    assert not LockoutCounter.objects.using("audit").filter(kind="login:account").exists()


def test_spelling_buys_no_second_budget() -> None:
    user = BuyerFactory.create(email="ana@example.com")
    for email in (
        "ana@example.com",
        "ANA@example.com",
        " ana@example.com",
        "Ana@Example.com",
        "ａna@example.com",
    ):
        with pytest.raises(InvalidCredentials):
            _check(email, "wrong")

    with pytest.raises(LockedOut):
        _check(user.email)


def test_right_password_that_settles_after_the_lock_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    user = BuyerFactory.create()
    original = passwords.matches

    def others_fail_meanwhile(password: str, encoded: str) -> bool:
        monkeypatch.setattr(passwords, "matches", original)
        for _ in range(5):
            with pytest.raises(InvalidCredentials):
                _check(user.email, "wrong")
        return original(password, encoded)

    monkeypatch.setattr(passwords, "matches", others_fail_meanwhile)

    with pytest.raises(LockedOut):
        _check(user.email)


def test_wrong_password_that_settles_after_the_lock_learns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    user = BuyerFactory.create()
    original = passwords.matches

    def others_fail_meanwhile(password: str, encoded: str) -> bool:
        monkeypatch.setattr(passwords, "matches", original)
        for _ in range(5):
            with pytest.raises(InvalidCredentials):
                _check(user.email, "wrong")
        return original(password, encoded)

    monkeypatch.setattr(passwords, "matches", others_fail_meanwhile)

    with pytest.raises(LockedOut):
        _check(user.email, "also wrong")


@pytest.mark.parametrize("change", [{"is_active": False}, {"password": "!changed"}])
def test_account_that_changed_while_hashing_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    user = BuyerFactory.create()
    original = passwords.matches

    def changed_meanwhile(password: str, encoded: str) -> bool:
        User.objects.filter(pk=user.pk).update(**change)
        return original(password, encoded)

    monkeypatch.setattr(passwords, "matches", changed_meanwhile)

    with pytest.raises(sessions.AccountChanged), transaction.atomic():
        sessions.start(_check(user.email), kind="token", amr=("pwd",), by=BY)

    assert User.objects.get(pk=user.pk).last_login is None


def test_old_hash_is_renewed_and_signs_nobody_out(settings: Any) -> None:
    user = BuyerFactory.create()
    settings.MESTORE_PEPPER_KEYS = {"newer": bytes(range(32)), **settings.MESTORE_PEPPER_KEYS}

    found = _check(user.email)

    stored = User.objects.get(pk=user.pk)
    assert stored.password == found.password
    assert stored.password.split("$")[1] == "newer"
    assert stored.password != user.password
    assert stored.auth_epoch == user.auth_epoch
    assert stored.password_changed_at == user.password_changed_at
    assert _check(user.email).password == stored.password


def test_refusal_names_the_account_by_id_and_unknown_text_by_mac_only() -> None:
    user = BuyerFactory.create()
    for email in (user.email, "My Secret Password 123"):
        with pytest.raises(InvalidCredentials):
            _check(email, "wrong")

    known, unknown = (
        AuditEvent.objects.using("audit").filter(type="auth.sign_in.failed").order_by("occurred_at")
    )

    assert (known.target_type, known.target_id) == ("user", str(user.pk))
    assert unknown.target_type == "unknown_name"
    assert "secret" not in bytes(unknown.canon).decode().lower()
    assert json.loads(bytes(known.canon))["data"] == {"purpose": "api", "reason": "wrong_credentials"}


def test_closed_account_is_told_apart_in_the_trail_only() -> None:
    user = BuyerFactory.create(is_active=False)

    with pytest.raises(InvalidCredentials):
        _check(user.email)

    event = AuditEvent.objects.using("audit").get(type="auth.sign_in.refused")
    assert json.loads(bytes(event.canon))["data"]["reason"] == "closed_account"


def test_full_queue_is_refused_alike_for_known_and_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    user = BuyerFactory.create()
    monkeypatch.setattr(hashers, "WAIT_SECONDS", 0.001)
    only = hashers.Capacity(1)
    monkeypatch.setattr(hashers, "capacity", lambda: only)

    answers = []
    with hashers.capacity().slot():
        for email in (user.email, "nobody@example.com"):
            with pytest.raises(hashers.HashingBusy) as refused:
                _check(email)
            answers.append((refused.value.status, dict(refused.value.headers)))

    assert answers[0] == answers[1]
    assert answers[0][0] == 503
    assert not LockoutCounter.objects.using("audit").exists()


def test_surplus_is_refused_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    user = BuyerFactory.create()
    only = hashers.Capacity(1)
    monkeypatch.setattr(hashers, "capacity", lambda: only)
    taken, leave = threading.Barrier(3), threading.Event()

    def take_a_place() -> None:
        with only.admitted():
            taken.wait(120)
            leave.wait(120)

    holders = [threading.Thread(target=take_a_place) for _ in range(2)]
    for holder in holders:
        holder.start()
    taken.wait(120)

    with (
        CaptureQueriesContext(connections["default"]) as default,
        CaptureQueriesContext(connections["audit"]) as separate,
    ):
        for email in (user.email, "nobody@example.com"):
            with pytest.raises(hashers.HashingBusy):
                _check(email)
    leave.set()
    for holder in holders:
        holder.join()

    assert not [*default, *separate]
    assert _check(user.email) == user


@pytest.mark.parametrize(("is_right", "most"), [(True, 4), (False, 5)])
def test_statement_budget(is_right: bool, most: int) -> None:
    user = BuyerFactory.create()
    _check(user.email)
    with pytest.raises(InvalidCredentials):
        _check(user.email, "wrong")

    with (
        CaptureQueriesContext(connections["default"]) as default,
        CaptureQueriesContext(connections["audit"]) as separate,
        suppress(InvalidCredentials),
    ):
        _check(user.email, PASSWORD if is_right else "wrong")

    assert len(default) + len(separate) <= most


def test_known_and_unknown_take_the_same_time(settings: Any) -> None:
    settings.ARGON2_TIME_COST = 2
    settings.ARGON2_MEMORY_KIB = 8_192
    settings.LOGIN_LIMITS = {
        kind: {"network": 10_000, "account": 10_000, "window_seconds": 60, "lock_seconds": 60}
        for kind in ("login", "admin_login", "factor")
    }
    user = BuyerFactory.create(password=passwords.hash_new(PASSWORD))
    times: dict[str, list[float]] = {user.email: [], "nobody@example.com": []}

    for _ in range(25):
        for email, spent in times.items():
            begin = time.process_time()  # of the processor: the clock on the wall measures the neighbours
            with pytest.raises(InvalidCredentials):
                _check(email, "wrong")
            spent.append(time.process_time() - begin)

    known, unknown = (statistics.median(spent) for spent in times.values())
    assert abs(known - unknown) / max(known, unknown) < 0.35  # without the hash it would be 0.8


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_guesses_at_once_get_no_more_answers_than_the_budget(race: Callable[..., list[Any]]) -> None:
    user = BuyerFactory.create()

    outcomes = race([partial(_check, user.email, f"guess {number}") for number in range(16)])

    told = [outcome for outcome in outcomes if isinstance(outcome, InvalidCredentials)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, LockedOut | hashers.HashingBusy)]
    assert len(told) <= 5
    assert len(told) + len(refused) == 16
