"""Fifty wrong answers in a row suspend a kind of factor, whatever the windows say; the others go on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.conf import settings

from accounts import backup_codes, devices, factors, lockout, suspension, totp
from accounts.factors import FactorSuspended
from accounts.models import FactorStreak, KnownDevice, LockoutCounter, TotpDevice
from mestore import settings as shipped
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent, OutboxMessage
from tests.factories.accounts import TotpDeviceFactory, code_of

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

BY = Actor(kind="anonymous", address="203.0.113.9")
MOST = 4


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "FACTOR_WRONG_IN_A_ROW", MOST)


@pytest.fixture
def device() -> TotpDevice:
    made: TotpDevice = TotpDeviceFactory.create()
    return made


def wrong(device: TotpDevice, by: Actor = BY) -> None:
    code = next(
        f"{n:06d}" for n in range(9) if f"{n:06d}" not in {code_of(device, steps=s) for s in (-1, 0, 1)}
    )
    with pytest.raises(totp.WrongCode):
        totp.verify(device.user, code, by=by)


def suspend(device: TotpDevice) -> None:
    for _guess in range(MOST):
        wrong(device)
        LockoutCounter.objects.using("audit").all().delete()  # as if hours had passed


def test_number_is_fifty() -> None:
    assert shipped.FACTOR_WRONG_IN_A_ROW == 50


def test_right_code_of_a_suspended_factor_is_refused_and_the_answer_names_the_others(
    device: TotpDevice,
) -> None:
    codes = backup_codes.regenerate(device.user, by=BY)
    suspend(device)

    with pytest.raises(FactorSuspended) as refused:
        totp.verify(device.user, code_of(device), by=BY)

    assert (refused.value.status, refused.value.code) == (403, "FACTOR_SUSPENDED")
    assert refused.value.extra == {"methods": ["backup_code"]}
    assert suspension.suspended(device.user) == {"totp"}
    assert backup_codes.check(device.user, codes[0], by=BY).user == device.user


def test_suspended_factor_is_still_a_factor(device: TotpDevice) -> None:
    suspend(device)

    assert factors.has_factor(device.user)


def test_owner_is_told_once_and_it_is_recorded(device: TotpDevice) -> None:
    suspend(device)
    with pytest.raises(FactorSuspended):
        totp.verify(device.user, code_of(device), by=BY)

    assert OutboxMessage.objects.count() == 1
    events = AuditEvent.objects.using("audit").filter(type="auth.factor.suspended")
    assert [event.target_id for event in events] == [str(device.user_id)]


def test_right_answer_begins_the_row_anew(device: TotpDevice) -> None:
    for _guess in range(MOST - 1):
        wrong(device)

    totp.verify(device.user, code_of(device), by=BY)

    assert not FactorStreak.objects.using("audit").exists()
    wrong(device)
    assert not suspension.suspended(device.user)


def test_known_devices_guess_in_the_same_row(device: TotpDevice) -> None:
    devices.remember(device.user, by=BY)
    digest = bytes(KnownDevice.objects.get().token_hash)
    known = Actor(kind="anonymous", address="203.0.113.1", device=digest.hex())

    for by in (known, BY) * (MOST // 2):
        wrong(device, by)

    assert suspension.suspended(device.user) == {"totp"}


def test_right_answer_that_settles_after_the_suspension_is_refused(device: TotpDevice) -> None:
    attempt = factors.open_attempt(device.user, factors.TOTP, by=BY)
    suspend(device)

    with pytest.raises(FactorSuspended):
        factors.accept(factors.TOTP, attempt)

    assert suspension.suspended(device.user) == {"totp"}


def test_other_accounts_are_not_touched(device: TotpDevice) -> None:
    other = TotpDeviceFactory.create()
    suspend(device)

    assert totp.verify(other.user, code_of(other), by=BY) == other


def test_administrator_resumes_it_with_a_record(device: TotpDevice) -> None:
    suspend(device)

    assert suspension.resume(device.user, factors.TOTP, reason="spoke to him", by=BY)
    assert not suspension.resume(device.user, factors.TOTP, reason="again", by=BY)

    assert totp.verify(device.user, code_of(device), by=BY) == device
    assert AuditEvent.objects.filter(type="auth.factor.resumed").count() == 1


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
@pytest.mark.parametrize("change", ["another device removed", "new codes", "all removed"])
def test_whoever_proved_another_factor_begins_anew(device: TotpDevice, change: str) -> None:
    spare = TotpDeviceFactory.create(user=device.user, name="spare")
    suspend(device)

    if change == "another device removed":
        totp.remove(spare, by=BY)
    elif change == "new codes":
        backup_codes.regenerate(device.user, by=BY)
    else:
        factors.remove_all(device.user)

    assert not suspension.suspended(device.user)


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_wrong_answers_at_once_are_all_counted_and_suspend_once(race: Callable[..., list[Any]]) -> None:
    attempt = lockout.attempt(lockout.FACTOR, account="x", address=None)

    outcomes = race([partial(suspension.note_wrong, attempt, factors.TOTP)] * 12)

    assert sum(outcome is True for outcome in outcomes) == 1
    assert FactorStreak.objects.get().wrong == 12
