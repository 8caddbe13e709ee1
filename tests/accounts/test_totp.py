from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django_otp import devices_for_user, match_token

from accounts import lockout, totp
from accounts.models import LockoutCounter, TotpDevice
from accounts.totp import MalformedCode, WrongCode
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from tests.factories.accounts import AdminFactory, BuyerFactory, TotpDeviceFactory, code_of

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

BY = Actor(kind="anonymous", address="203.0.113.7")
NOW = 59_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Hold the server's time still at a step, so that no code changes between two lines of a test."""

    def at(step: int) -> None:
        monkeypatch.setattr(totp, "current_step", lambda: step)

    at(NOW)
    return at


# RFC 6238, appendix B, SHA-1: eight digits there, of which ours are the last six.
@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_vectors_of_the_rfc(seconds: int, code: str) -> None:
    secret = base64.b32encode(b"12345678901234567890").decode()

    assert totp.code_at(secret, seconds // totp.STEP_SECONDS) == code[-6:]


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "12345",
        "1234567",
        "12 456",
        " 123456",
        "123456\n",
        "+12345",
        "12_345",
        "１２３４５６",
        "١٢٣٤٥٦",
        "12345a",
        "0x1234",
        "1e5000",
        "123456\x00",
        123456,
        None,
        b"123456",
    ],
)
def test_anything_but_six_ascii_digits_is_malformed_and_costs_no_attempt(malformed: Any) -> None:
    device = TotpDeviceFactory.create()

    with pytest.raises(MalformedCode) as refused:
        totp.verify(device.user, malformed, by=BY)

    assert refused.value.status == 400
    assert not LockoutCounter.objects.using("audit").exists()


def _wrong(device: TotpDevice) -> str:
    return f"{(int(totp.code_at(device.secret, NOW)) + 1) % 1_000_000:06d}"


@pytest.mark.usefixtures("clock")
def test_wrong_code_is_refused_and_recorded() -> None:
    device = TotpDeviceFactory.create()

    with pytest.raises(WrongCode) as refused:
        totp.verify(device.user, _wrong(device), by=BY)

    assert refused.value.status == 401
    event = AuditEvent.objects.using("audit").get(type="auth.factor.refused")
    assert json.loads(bytes(event.canon))["data"] == {"factor": "totp", "reason": "wrong"}


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("steps", [-3, -2, 1, 2])
def test_code_of_another_step_is_refused(steps: int) -> None:
    device = TotpDeviceFactory.create()

    with pytest.raises(WrongCode):
        totp.verify(device.user, totp.code_at(device.secret, NOW + steps), by=BY)


@pytest.mark.usefixtures("clock")
def test_step_before_is_accepted_only_with_the_setting(settings: Any) -> None:
    device = TotpDeviceFactory.create()
    late = totp.code_at(device.secret, NOW - 1)

    settings.TOTP_DRIFT_STEPS = 0
    with pytest.raises(WrongCode):
        totp.verify(device.user, late, by=BY)
    settings.TOTP_DRIFT_STEPS = 1
    assert totp.verify(device.user, late, by=BY) == device


@pytest.mark.usefixtures("clock")
def test_no_setting_opens_more_than_one_step_back(settings: Any) -> None:
    settings.TOTP_DRIFT_STEPS = 9
    device = TotpDeviceFactory.create()

    with pytest.raises(WrongCode):
        totp.verify(device.user, totp.code_at(device.secret, NOW - 2), by=BY)


@pytest.mark.usefixtures("clock")
def test_code_works_once_and_a_replay_locks_nobody() -> None:
    device = TotpDeviceFactory.create()
    code = totp.code_at(device.secret, NOW)
    totp.verify(device.user, code, by=BY)

    for _ in range(6):
        with pytest.raises(WrongCode):
            totp.verify(device.user, code, by=BY)

    assert not LockoutCounter.objects.using("audit").exists()


def test_earlier_code_does_not_work_after_a_later_one(clock: Callable[[int], None]) -> None:
    device = TotpDeviceFactory.create()
    totp.verify(device.user, totp.code_at(device.secret, NOW), by=BY)

    with pytest.raises(WrongCode):
        totp.verify(device.user, totp.code_at(device.secret, NOW - 1), by=BY)
    clock(NOW + 1)
    assert totp.verify(device.user, totp.code_at(device.secret, NOW + 1), by=BY) == device


@pytest.mark.usefixtures("clock")
def test_code_of_somebody_else_is_refused() -> None:
    device = TotpDeviceFactory.create()
    other = TotpDeviceFactory.create()

    with pytest.raises(WrongCode):
        totp.verify(other.user, totp.code_at(device.secret, NOW), by=BY)
    with pytest.raises(WrongCode):
        totp.verify(BuyerFactory.create(), totp.code_at(device.secret, NOW), by=BY)


@pytest.mark.usefixtures("clock")
def test_unconfirmed_device_does_not_count_until_confirmed() -> None:
    user = AdminFactory.create()
    device, secret = totp.enrol(user, "phone", by=BY)
    code = totp.code_at(secret, NOW)
    assert list(devices_for_user(user)) == []

    with pytest.raises(WrongCode):
        totp.verify(user, code, by=BY)
    with pytest.raises(WrongCode):
        totp.confirm(device, _wrong(device), by=BY)
    totp.confirm(device, code, by=BY)

    assert list(devices_for_user(user)) == [device]
    with pytest.raises(WrongCode):
        totp.verify(user, code, by=BY)
    types = set(AuditEvent.objects.filter(target_id=str(user.pk)).values_list("type", flat=True))
    assert {"auth.factor.enrolled", "auth.factor.confirmed"} <= types


@pytest.mark.usefixtures("clock")
def test_factor_has_its_own_budget() -> None:
    device = TotpDeviceFactory.create()
    for _ in range(5):
        with pytest.raises(WrongCode):
            totp.verify(device.user, _wrong(device), by=BY)

    with pytest.raises(lockout.LockedOut):
        totp.verify(device.user, totp.code_at(device.secret, NOW), by=BY)

    assert TotpDevice.objects.get(pk=device.pk).last_step == 0
    kinds = LockoutCounter.objects.using("audit").values_list("kind", flat=True)
    assert set(kinds) == {"factor:account", "factor:network", "factor:pair"}
    assert AuditEvent.objects.using("audit").filter(type="auth.locked").count() == 1


@pytest.mark.usefixtures("clock")
def test_wrong_code_that_settles_after_the_lock_learns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    device = TotpDeviceFactory.create()
    monkeypatch.setattr(lockout, "refuse_locked", lambda attempt: None)
    for _ in range(5):
        with pytest.raises(WrongCode):
            totp.verify(device.user, _wrong(device), by=BY)

    with pytest.raises(lockout.LockedOut):
        totp.verify(device.user, _wrong(device), by=BY)


@pytest.mark.usefixtures("clock")
def test_success_resets_the_factor_budget() -> None:
    device = TotpDeviceFactory.create()
    for _ in range(4):
        with pytest.raises(WrongCode):
            totp.verify(device.user, _wrong(device), by=BY)

    totp.verify(device.user, totp.code_at(device.secret, NOW), by=BY)

    assert not LockoutCounter.objects.using("audit").filter(kind="factor:account").exists()


@pytest.mark.usefixtures("clock")
def test_every_device_of_a_user_works() -> None:
    user = AdminFactory.create()
    first, second = TotpDeviceFactory.create(user=user), TotpDeviceFactory.create(user=user)

    assert totp.verify(user, totp.code_at(second.secret, NOW), by=BY) == second
    assert totp.verify(user, totp.code_at(first.secret, NOW), by=BY) == first


def test_framework_itself_cannot_prove_a_code() -> None:
    device = TotpDeviceFactory.create()

    assert match_token(device.user, code_of(device)) is None
    assert TotpDevice.from_persistent_id(device.persistent_id) == device
    assert str(device.pk) in str(device)


def test_seed_is_not_in_the_database_in_clear() -> None:
    device = TotpDeviceFactory.create()

    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM accounts_totpdevice WHERE id = %s", [device.pk])
        stored = bytes(cursor.fetchone()[0])

    assert device.secret.encode() not in stored
    assert base64.b32decode(device.secret) not in stored
    assert TotpDevice.objects.get(pk=device.pk).secret == device.secret


def test_address_for_applications_carries_what_they_need() -> None:
    device, secret = totp.enrol(AdminFactory.create(email="ana+1@example.com"), "phone", by=BY)

    parts = urlsplit(totp.otpauth_uri(device))

    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert parts.path == "/MeStore:ana%2B1@example.com"
    assert parse_qs(parts.query) == {
        "secret": [secret],
        "issuer": ["MeStore"],
        "algorithm": ["SHA1"],
        "digits": ["6"],
        "period": ["30"],
    }
    assert len(base64.b32decode(secret)) == 20


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
@pytest.mark.usefixtures("clock")
def test_one_of_twenty_at_once_uses_a_code(race: Callable[..., list[Any]]) -> None:
    device = TotpDeviceFactory.create()
    code = totp.code_at(device.secret, NOW)

    outcomes = race([partial(totp.verify, device.user, code, by=BY)] * 20)

    assert [outcome for outcome in outcomes if isinstance(outcome, TotpDevice)] == [device]
    assert sum(isinstance(outcome, WrongCode) for outcome in outcomes) == 19
