"""Registering a passkey: what is kept, what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.core import mail

from accounts import passkeys
from accounts.models import Passkey, PasskeyChallenge, User
from monitoring import delivery
from monitoring.outbox import OutboxMessage
from tests.accounts.passkey_house import BY, HERE, LIES, alone, events_of, options, prove, register
from tests.factories.accounts import AdminFactory, BuyerFactory
from tests.factories.passkeys import passkey_of
from tests.harness import authenticator as device
from tests.harness.authenticator import Authenticator, b64, unb64

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)
committed = pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])

Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]


@pytest.fixture
def user() -> User:
    return AdminFactory.create()


def test_options_name_the_domain_of_the_settings_and_ask_for_verification(user: User) -> None:
    made = passkeys.registration_options(user, bound_to=HERE)

    assert made["rp"] == {"id": settings.WEBAUTHN_RP_ID, "name": "MeStore"}
    assert made["authenticatorSelection"]["userVerification"] == "required"
    assert made["attestation"] == "none"
    assert made["timeout"] == 300_000
    assert len(unb64(made["challenge"])) == 32


@pytest.mark.parametrize("algorithm", [device.ES256, device.EDDSA, device.RS256])
@pytest.mark.parametrize("attestation", ["none", "packed"])
def test_a_passkey_is_registered_and_proved(user: User, algorithm: int, attestation: str) -> None:
    passkey, authenticator = passkey_of(user, Authenticator(algorithm=algorithm, attestation=attestation))

    proved = prove(user, authenticator.get(options(user)))

    assert proved.pk == passkey.pk
    passkey.refresh_from_db()
    assert passkey.last_used_at is not None
    assert passkey.sign_count == authenticator.keys[0].counter


def test_what_is_known_of_a_passkey_is_kept(user: User) -> None:
    synchronised = Authenticator(flags=Authenticator.flags | device.BACKUP_ELIGIBLE | device.BACKED_UP)
    passkey, _authenticator = passkey_of(user, synchronised, name="  phone  ")

    passkey = Passkey.objects.get(pk=passkey.pk)

    assert (passkey.name, passkey.aaguid) == ("phone", device.AAGUID)
    assert (passkey.backup_eligible, passkey.backed_up, passkey.is_device_bound) == (True, True, False)
    assert passkey.transports == ["internal"]
    assert passkey.bound_address == "203.0.113.7"
    assert "passkey" in str(passkey)
    assert PasskeyChallenge.objects.first() is not None
    assert "register" in str(PasskeyChallenge.objects.first())


def test_the_owner_is_told_and_the_trail_knows(user: User) -> None:
    passkey_of(user)

    assert events_of("auth.factor.enrolled") == 1
    for message in OutboxMessage.objects.all():
        delivery.send(message.pk)
    assert "laptop" in mail.outbox[-1].body


@pytest.mark.parametrize(
    "lie", [*LIES, {"attestation": "android-safetynet"}, {"algorithm": device.RS256, "rsa_bits": 1_024}]
)
def test_a_registration_that_lies_is_refused_and_uses_its_challenge_up(
    user: User, lie: dict[str, Any]
) -> None:
    authenticator = Authenticator()
    for name, value in lie.items():
        setattr(authenticator, name, value)
    answer = authenticator.create(passkeys.registration_options(user, bound_to=HERE))

    with pytest.raises(passkeys.RegistrationRefused):
        passkeys.check_registration(user, "laptop", answer, bound_to=HERE, by=BY)
    with pytest.raises(passkeys.RegistrationOver):
        passkeys.check_registration(user, "laptop", answer, bound_to=HERE, by=BY)
    assert not Passkey.objects.exists()


@pytest.mark.parametrize(
    "client_data", [{"type": "webauthn.get"}, {"topOrigin": "https://evil.example"}, {"origin": None}]
)
def test_a_registration_with_strange_client_data_is_refused(user: User, client_data: dict[str, Any]) -> None:
    with pytest.raises(passkeys.RegistrationRefused):
        register(user, Authenticator(), **client_data)


def test_a_registration_for_another_session_is_refused(user: User) -> None:
    answer = Authenticator().create(passkeys.registration_options(user, bound_to="session:2"))

    with pytest.raises(passkeys.RegistrationOver):
        passkeys.check_registration(user, "laptop", answer, bound_to=HERE, by=BY)


def test_another_credential_than_the_one_named_is_refused(user: User) -> None:
    answer = Authenticator().create(passkeys.registration_options(user, bound_to=HERE))
    answer["id"] = answer["rawId"] = b64(b"x" * 32)

    with pytest.raises(passkeys.RegistrationRefused):
        passkeys.check_registration(user, "laptop", answer, bound_to=HERE, by=BY)


def test_a_credential_id_that_is_too_long_is_refused(user: User) -> None:
    answer = Authenticator().create(passkeys.registration_options(user, bound_to=HERE))
    answer["id"] = answer["rawId"] = b64(b"x" * 1_024)

    with pytest.raises(passkeys.RegistrationRefused):
        passkeys.check_registration(user, "laptop", answer, bound_to=HERE, by=BY)


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\nb", "a\x00b", "\ud800"])
def test_a_bad_name_costs_nothing(user: User, name: str) -> None:
    answer = Authenticator().create(passkeys.registration_options(user, bound_to=HERE))

    with pytest.raises(passkeys.InvalidName):
        passkeys.check_registration(user, name, answer, bound_to=HERE, by=BY)
    passkeys.check_registration(user, "laptop", answer, bound_to=HERE, by=BY)


def test_a_known_credential_cannot_be_registered_again_by_anybody(user: User) -> None:
    passkey = register(user, Authenticator())
    passkeys.add(passkey, by=BY)
    stolen = copy.copy(passkey)
    stolen.pk, stolen.user = passkey.pk + 1, BuyerFactory.create()

    with pytest.raises(passkeys.AlreadyRegistered):
        passkeys.add(stolen, by=BY)


def test_an_account_has_ten_passkeys_at_most(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PASSKEYS", 1)
    passkey_of(user)

    with pytest.raises(passkeys.TooManyPasskeys):
        passkey_of(user)


@committed
def test_the_limit_holds_when_many_come_at_once(monkeypatch: pytest.MonkeyPatch, race: Race) -> None:
    user = AdminFactory.create()
    monkeypatch.setattr(settings, "PASSKEYS", 2)
    waiting = [register(user, Authenticator()) for _number in range(6)]

    outcomes = race([partial(passkeys.add, passkey, by=BY) for passkey in waiting])

    assert outcomes.count(None) == 2
    assert Passkey.objects.filter(user=user).count() == 2


def test_own_passkeys_are_excluded_from_a_new_registration(user: User) -> None:
    passkey, _authenticator = passkey_of(user)

    made = passkeys.registration_options(user, bound_to=HERE)

    assert [one["id"] for one in made["excludeCredentials"]] == [b64(bytes(passkey.credential_id))]


@pytest.mark.parametrize("missing", ["WEBAUTHN_RP_ID", "WEBAUTHN_ORIGINS"])
def test_without_a_domain_there_are_no_passkeys(
    user: User, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(settings, missing, type(getattr(settings, missing))())

    with pytest.raises(passkeys.PasskeysOff):
        passkeys.registration_options(user, bound_to=HERE)
    with pytest.raises(passkeys.PasskeysOff):
        alone()
