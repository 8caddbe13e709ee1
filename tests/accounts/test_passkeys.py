"""Proving a passkey, signing in with one alone, budgets. The authenticator is ours, byte by byte."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from accounts import backup_codes, factors, lockout, passkeys, totp
from accounts.challenges import ChallengeOver, Purpose
from accounts.models import LockoutCounter, Passkey, User
from accounts.passkeys import WrongPasskey
from mestore.lib import errors
from mestore.lib.actor import Actor
from tests.accounts.passkey_house import BY, HERE, LIES, alone, events_of, options, prove, sign_in
from tests.factories.accounts import AdminFactory, BuyerFactory, TotpDeviceFactory
from tests.factories.passkeys import passkey_of
from tests.harness.authenticator import Authenticator, b64

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


@pytest.fixture
def user() -> User:
    return AdminFactory.create()


# Proving one


def test_options_without_a_passkey_are_refused(user: User) -> None:
    with pytest.raises(passkeys.NoPasskey):
        options(user)


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_lies_is_refused(user: User, lie: dict[str, Any]) -> None:
    _passkey, authenticator = passkey_of(user)
    asked = options(user)
    for name, value in lie.items():
        setattr(authenticator, name, value)
    answer = authenticator.get(asked)

    with pytest.raises(WrongPasskey):
        prove(user, answer)
    with pytest.raises(ChallengeOver):
        prove(user, answer)


def test_an_answer_counts_once(user: User) -> None:
    _passkey, authenticator = passkey_of(user)
    answer = authenticator.get(options(user))
    prove(user, answer)

    with pytest.raises(ChallengeOver):
        prove(user, answer)
    assert not LockoutCounter.objects.using("audit").exists()  # whoever repeats an answer did not guess it


def test_a_registration_is_no_proof_and_a_proof_no_registration(user: User) -> None:
    _passkey, authenticator = passkey_of(user)
    creating = passkeys.registration_options(user, bound_to=HERE)
    asked = options(user)

    with pytest.raises(ChallengeOver):
        prove(user, authenticator.get(creating | {"allowCredentials": []}))
    answer = authenticator.create(creating | {"challenge": asked["challenge"]})
    with pytest.raises(passkeys.RegistrationOver):
        passkeys.check_registration(user, "laptop", answer, bound_to=HERE, by=BY)


@pytest.mark.parametrize(
    ("purpose", "bound_to"),
    [
        (Purpose.SECOND_FACTOR, HERE),
        (Purpose.SIGN_IN, HERE),
        (Purpose.STEP_UP, "session:2"),
        (Purpose.STEP_UP, "pending:1"),
    ],
)
def test_an_answer_of_another_flow_proves_nothing(user: User, purpose: Purpose, bound_to: str) -> None:
    _passkey, authenticator = passkey_of(user)
    answer = authenticator.get(options(user, purpose, bound_to))

    with pytest.raises(ChallengeOver):
        prove(user, answer)


def test_the_passkey_of_somebody_else_proves_nothing(user: User) -> None:
    _mine, _authenticator = passkey_of(user)
    _theirs, other = passkey_of(BuyerFactory.create())

    with pytest.raises(WrongPasskey):
        prove(user, other.get(options(user), key=other.keys[0]))


def test_a_signature_of_another_key_proves_nothing(user: User) -> None:
    passkey, _authenticator = passkey_of(user)
    forger = Authenticator()
    forger.create(passkeys.registration_options(user, bound_to=HERE))
    forger.keys[0].id = bytes(passkey.credential_id)

    with pytest.raises(WrongPasskey):
        prove(user, forger.get(options(user)))


def test_a_user_handle_of_somebody_else_is_refused(user: User) -> None:
    _passkey, authenticator = passkey_of(user)
    authenticator.keys[0].user_handle = secrets.token_bytes(16)

    with pytest.raises(WrongPasskey):
        prove(user, authenticator.get(options(user)))


def test_an_authenticator_need_not_name_its_user_when_we_know_him(user: User) -> None:
    _passkey, authenticator = passkey_of(user)
    authenticator.names_user = False

    assert prove(user, authenticator.get(options(user))).pk


# Signing in with nothing else


def test_a_passkey_alone_signs_its_owner_in(user: User) -> None:
    passkey, authenticator = passkey_of(user)

    assert sign_in(authenticator.get(alone())).user == passkey.user


def test_the_options_for_a_stranger_name_nobody(user: User) -> None:
    passkey_of(user)

    made = alone()

    assert made["allowCredentials"] == []
    assert made["userVerification"] == "required"


def test_an_authenticator_has_to_name_its_user_when_nobody_else_did(user: User) -> None:
    _passkey, authenticator = passkey_of(user)
    authenticator.names_user = False

    with pytest.raises(WrongPasskey):
        sign_in(authenticator.get(alone()))


def test_an_unknown_passkey_gets_the_same_answer(user: User) -> None:
    stranger = Authenticator()
    stranger.create(passkeys.registration_options(user, bound_to=HERE))

    with pytest.raises(WrongPasskey) as unknown:
        sign_in(stranger.get(alone()))

    assert str(unknown.value) == str(WrongPasskey())


@pytest.mark.parametrize("state", [{"is_active": False}, {"is_active": False, "deleted_at": timezone.now()}])
def test_a_closed_account_is_not_signed_in(user: User, state: dict[str, Any]) -> None:
    _passkey, authenticator = passkey_of(user)
    User.objects.filter(pk=user.pk).update(**state)

    with pytest.raises(WrongPasskey):
        sign_in(authenticator.get(alone()))


def test_an_answer_made_in_another_browser_or_for_a_second_step_signs_nobody_in(user: User) -> None:
    _passkey, authenticator = passkey_of(user)
    elsewhere = passkeys.assertion_options(Purpose.SIGN_IN, bound_to="console:other")

    for asked in (elsewhere, options(user, Purpose.SECOND_FACTOR, "pending:1"), options(user)):
        with pytest.raises(ChallengeOver):
            sign_in(authenticator.get(asked))


# Budgets


def failing(user: User, authenticator: Authenticator) -> object:
    answer = authenticator.get(options(user))
    answer["response"]["signature"] = b64(b"wrong")
    return answer


def test_failures_have_a_budget_of_their_own(user: User) -> None:
    TotpDeviceFactory.create(user=user)
    _passkey, authenticator = passkey_of(user)
    budget = settings.LOGIN_LIMITS["passkey"]["account"]

    for _failure in range(budget):
        with pytest.raises(WrongPasskey):
            prove(user, failing(user, authenticator))
    with pytest.raises(lockout.LockedOut):
        prove(user, authenticator.get(options(user)))

    assert set(LockoutCounter.objects.using("audit").values_list("kind", flat=True)) == {
        "passkey:account",
        "passkey:network",
        "passkey:pair",
    }
    assert factors.open_attempt(user, factors.TOTP, by=BY).kind == lockout.FACTOR


def test_a_locked_network_uses_up_the_challenge_and_nothing_else(user: User) -> None:
    passkey, authenticator = passkey_of(user)
    asked = alone()
    for _failure in range(settings.LOGIN_LIMITS["passkey"]["account"]):
        answer = authenticator.get(alone())
        answer["response"]["signature"] = b64(b"wrong")
        with pytest.raises(WrongPasskey):
            sign_in(answer)
    answer = authenticator.get(asked)

    with pytest.raises(lockout.LockedOut):
        sign_in(answer)
    with pytest.raises(ChallengeOver):
        sign_in(answer)
    passkey.refresh_from_db()
    assert passkey.last_used_at is None


def test_strangers_cannot_lock_an_owner_out_of_a_passkey(user: User) -> None:
    _passkey, authenticator = passkey_of(user)
    stranger = Actor(kind="anonymous", address="198.51.100.9")
    answers = []
    for _failure in range(12):
        answers.append(authenticator.get(alone()))
        answers[-1]["response"]["signature"] = b64(b"wrong")

    outcomes = []
    for answer in answers:
        try:
            passkeys.sign_in(answer, bound_to="api", by=stranger)
        except errors.MeStoreError as error:
            outcomes.append(type(error))

    assert outcomes[0] is WrongPasskey
    assert outcomes[-1] is lockout.LockedOut
    assert sign_in(authenticator.get(alone())).pk
    assert prove(user, authenticator.get(options(user))).pk


# What an account has


def test_the_only_factor_of_the_staff_stays(user: User) -> None:
    passkey, _authenticator = passkey_of(user)

    with pytest.raises(factors.LastFactor):
        passkeys.remove(passkey, by=BY)

    TotpDeviceFactory.create(user=user)
    passkeys.remove(passkey, by=BY)
    assert not Passkey.objects.exists()
    assert events_of("auth.factor.removed") >= 1
    with pytest.raises(errors.NotFound):
        passkeys.remove(passkey, by=BY)


def test_a_suspended_key_is_removed_once_the_staff_have_another_factor(user: User) -> None:
    passkey, _authenticator = passkey_of(user)
    passkey.suspend(Passkey.Reason.COUNTER)
    passkey.refresh_from_db()

    # Without it a password alone would add the next factor.
    with pytest.raises(factors.LastFactor):
        passkeys.remove(passkey, by=BY)

    TotpDeviceFactory.create(user=user)
    passkeys.remove(passkey, by=BY)

    assert not Passkey.objects.exists()


def test_a_suspended_key_still_is_a_factor_of_its_account_and_the_staff_need_one_that_works(
    user: User,
) -> None:
    passkey, _authenticator = passkey_of(user)
    device = TotpDeviceFactory.create(user=user)
    passkey.suspend(Passkey.Reason.COUNTER)

    with pytest.raises(factors.LastFactor):
        totp.remove(device, by=BY)

    device.delete()
    assert factors.has_factor(user)
    assert not User.objects.filter(factors.proved(), pk=user.pk).exists()


def test_a_buyers_backup_codes_stay_as_long_as_a_suspended_key_asks_for_them() -> None:
    buyer = BuyerFactory.create()
    passkey, _authenticator = passkey_of(buyer)
    device = TotpDeviceFactory.create(user=buyer)
    backup_codes.regenerate(buyer, by=BY)
    passkey.suspend(Passkey.Reason.COUNTER)

    totp.remove(device, by=BY)
    assert factors.methods_of(buyer) == ("passkey", "backup_code")

    passkeys.remove(passkey, by=BY)
    assert factors.methods_of(buyer) == ()
    assert backup_codes.remaining(buyer) == 0


def test_passkeys_come_first_among_the_methods(user: User) -> None:
    TotpDeviceFactory.create(user=user)
    before = timezone.now()
    passkey_of(user)

    assert factors.methods_of(user) == ("passkey", "totp")
    assert "passkey" not in factors.methods_of(user, bound_before=before)
    assert User.objects.filter(factors.proved()).get() == user
