"""Adding and removing authenticator applications: pending for a while, a few tries, bound to one account."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from accounts import backup_codes, factors, totp
from accounts.models import BackupCodeSet, LockoutCounter, TotpDevice, User
from accounts.tasks import purge_recovery
from mestore.lib import crypto, errors
from mestore.lib.actor import Actor
from monitoring.outbox import OutboxMessage
from tests.factories.accounts import AdminFactory, BuyerFactory, TotpDeviceFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
committed = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

SESSION = "0198c0de-0000-7000-8000-000000000001"
BY = Actor(kind="user", id="x", address="203.0.113.7", session_id=SESSION)
NOW = 59_000_000


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totp, "current_step", lambda: NOW)


def enrolled(user: User | None = None, name: str = "phone") -> tuple[TotpDevice, str]:
    device, secret = totp.enrol(user or AdminFactory.create(), name, by=BY)
    return device, totp.code_at(secret, NOW)


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06d}"


def age(device: TotpDevice, seconds: int) -> None:
    TotpDevice.objects.filter(pk=device.pk).update(expires_at=F("expires_at") - timedelta(seconds=seconds))


# Not confirmed


def test_secret_that_waited_too_long_is_over() -> None:
    device, code = enrolled()
    age(device, 601)

    with pytest.raises(totp.EnrolmentOver) as refused:
        totp.confirm(device, code, by=BY)

    assert refused.value.status == 409
    assert not TotpDevice.objects.get(pk=device.pk).confirmed


def test_sixth_try_is_refused_even_if_right() -> None:
    device, code = enrolled()
    for _attempt in range(5):
        with pytest.raises(totp.WrongCode):
            totp.confirm(device, wrong(code), by=BY)

    with pytest.raises(totp.EnrolmentOver):
        totp.confirm(device, code, by=BY)


def test_tries_of_an_enrolment_cost_nothing_of_the_sign_in() -> None:
    device, code = enrolled()

    with pytest.raises(totp.WrongCode):
        totp.confirm(device, wrong(code), by=BY)

    assert not LockoutCounter.objects.using("audit").exists()


def test_malformed_code_uses_no_try() -> None:
    device, _code = enrolled()

    with pytest.raises(totp.MalformedCode):
        totp.confirm(device, "１２３４５６", by=BY)

    assert TotpDevice.objects.get(pk=device.pk).attempts == 0


def test_newer_enrolment_replaces_one_that_waits() -> None:
    user = AdminFactory.create()
    first, code = enrolled(user)
    second, _code = enrolled(user)

    with pytest.raises(totp.EnrolmentOver):
        totp.confirm(first, code, by=BY)
    assert list(TotpDevice.objects.filter(user=user)) == [second]


def test_confirmed_device_is_not_confirmed_again() -> None:
    device, code = enrolled()
    totp.confirm(device, code, by=BY)

    with pytest.raises(totp.EnrolmentOver):
        totp.confirm(device, code, by=BY)


@committed
def test_one_of_twenty_confirmations_counts(race: Callable[..., list[Any]], settings: Any) -> None:
    settings.TOTP_ENROLMENT_ATTEMPTS = 100
    device, code = enrolled()

    outcomes = race([partial(totp.confirm, device, code, by=BY)] * 20)

    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, totp.EnrolmentOver) for outcome in outcomes) == 19


@committed
def test_parallel_guesses_have_five_tries(race: Callable[..., list[Any]]) -> None:
    device, code = enrolled()

    outcomes = race([partial(totp.try_enrolment, device, wrong(code), by=BY)] * 20)

    assert sum(isinstance(outcome, totp.WrongCode) for outcome in outcomes) == 5


@pytest.mark.parametrize("name", ["", "   ", "x" * 65, "a\nb", "a\x00b", "a\u202eb", "\ud800"])
def test_name_must_be_short_plain_text(name: str) -> None:
    with pytest.raises(totp.InvalidName) as refused:
        enrolled(name=name)

    assert refused.value.status == 422


def test_sixth_device_is_refused() -> None:
    user = AdminFactory.create()
    TotpDeviceFactory.create_batch(5, user=user)

    with pytest.raises(totp.TooManyDevices):
        enrolled(user)


# What is kept


def test_device_keeps_where_it_was_bound_and_owner_is_told() -> None:
    device, code = enrolled(name="  work phone ")
    totp.confirm(device, code, by=BY)

    kept = TotpDevice.objects.get(pk=device.pk)
    assert (kept.name, str(kept.bound_session), kept.bound_address) == ("work phone", SESSION, "203.0.113.7")
    assert kept.expires_at is None
    assert OutboxMessage.objects.get().template == "factor_added"
    with pytest.raises(totp.WrongCode):
        totp.verify(device.user, code, by=BY)


def test_device_handed_to_another_account_by_sql_is_dead() -> None:
    device = TotpDeviceFactory.create()
    own = TotpDeviceFactory.create()
    code = totp.code_at(device.secret, NOW)

    TotpDevice.objects.filter(pk=device.pk).update(user=own.user)

    with pytest.raises(totp.WrongCode):
        totp.verify(own.user, code, by=BY)
    assert totp.verify(own.user, totp.code_at(own.secret, NOW), by=BY) == own


def test_seeds_move_under_the_new_binding_and_back() -> None:
    binding = importlib.import_module("accounts.migrations._totp_binding")
    device = TotpDeviceFactory.create()
    secret = device.secret

    class Editor:
        pass

    editor = Editor()
    editor.connection = connection  # type: ignore[attr-defined] # all that the migration asks of it
    binding.to_row(None, editor)
    with pytest.raises(crypto.Unreadable):
        str(TotpDevice.objects.get(pk=device.pk).secret)
    binding.to_row_and_account(None, editor)

    assert TotpDevice.objects.get(pk=device.pk).secret == secret


# Removing


def test_staff_keep_their_last_factor() -> None:
    device = TotpDeviceFactory.create()
    backup_codes.regenerate(device.user, by=BY)

    with pytest.raises(factors.LastFactor):
        totp.remove(device, by=BY)

    assert TotpDevice.objects.filter(pk=device.pk).exists()


def test_removed_device_proves_nothing() -> None:
    device, other = TotpDeviceFactory.create(), None
    other = TotpDeviceFactory.create(user=device.user)

    totp.remove(device, by=BY)

    with pytest.raises(totp.WrongCode):
        totp.verify(device.user, totp.code_at(device.secret, NOW), by=BY)
    assert totp.verify(device.user, totp.code_at(other.secret, NOW), by=BY) == other
    with pytest.raises(errors.NotFound):
        totp.remove(device, by=BY)


def test_backup_codes_go_with_the_last_factor_of_a_buyer() -> None:
    device = TotpDeviceFactory.create(user=BuyerFactory.create())
    backup_codes.regenerate(device.user, by=BY)

    totp.remove(device, by=BY)

    assert not BackupCodeSet.objects.exists()
    assert factors.methods_of(device.user) == ()


@committed
def test_two_last_devices_cannot_both_go(race: Callable[..., list[Any]]) -> None:
    user = AdminFactory.create()
    devices = TotpDeviceFactory.create_batch(2, user=user)

    outcomes = race([partial(totp.remove, device, by=BY) for device in devices])

    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, factors.LastFactor) for outcome in outcomes) == 1


def test_secrets_nobody_confirmed_are_deleted() -> None:
    device, _code = enrolled()
    kept, _other = enrolled()
    age(device, 601)

    assert purge_recovery(0) == 1
    assert list(TotpDevice.objects.all()) == [kept]


def test_what_was_there_before_a_moment_is_told_apart() -> None:
    now = timezone.now()
    device = TotpDeviceFactory.create(confirmed_at=now)
    before = now - timedelta(seconds=1)
    backup_codes.regenerate(device.user, by=BY)

    assert factors.methods_of(device.user) == ("totp", "backup_code")
    assert factors.methods_of(device.user, bound_before=before) == ()
