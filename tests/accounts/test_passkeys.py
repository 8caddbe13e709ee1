"""Passkeys: what is refused, what is used up, what is noticed. The authenticator is ours, byte by byte."""

from __future__ import annotations

import copy
import datetime as dt
import json
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.core import mail
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts import challenges, factors, lockout, passkey_answers, passkeys
from accounts.challenges import ChallengeOver, Purpose
from accounts.models import LockoutCounter, Passkey, PasskeyChallenge, User
from accounts.passkeys import MalformedPasskey, WrongPasskey
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import delivery
from monitoring.models import AuditEvent
from monitoring.outbox import OutboxMessage
from tests.factories.accounts import AdminFactory, BuyerFactory, TotpDeviceFactory
from tests.factories.passkeys import passkey_of
from tests.harness import authenticator as device
from tests.harness.authenticator import Authenticator, b64, unb64

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)
committed = pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])

BY = Actor(kind="anonymous", address="203.0.113.7")
HERE = "session:1"
Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]


@pytest.fixture
def user() -> User:
    return AdminFactory.create()


def options(user: User, purpose: Purpose = Purpose.STEP_UP, bound_to: str = HERE) -> dict[str, Any]:
    return passkeys.assertion_options(purpose, bound_to=bound_to, user=user)


def prove(user: User, answer: object, purpose: Purpose = Purpose.STEP_UP, bound_to: str = HERE) -> Passkey:
    return passkeys.prove(user, answer, purpose, bound_to=bound_to, by=BY)


def register(user: User, authenticator: Authenticator, **client_data: Any) -> Passkey:
    answer = authenticator.create(passkeys.registration_options(user, bound_to=HERE), **client_data)
    return passkeys.check_registration(user, "laptop", answer, bound_to=HERE, by=BY)


def alone() -> dict[str, Any]:
    return passkeys.assertion_options(Purpose.SIGN_IN, bound_to="api")


def sign_in(answer: object, bound_to: str = "api") -> Passkey:
    return passkeys.sign_in(answer, bound_to=bound_to, by=BY)


def events_of(code: str) -> int:
    return (
        AuditEvent.objects.using("audit").filter(type=code).count()
        + AuditEvent.objects.filter(type=code).count()
    )


# Challenges


def test_ten_thousand_challenges_have_32_bytes_and_never_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PasskeyChallenge, "save", lambda self, **_how: None)

    made = {challenges.issue(Purpose.SIGN_IN, bound_to="") for _number in range(10_000)}

    assert len(made) == 10_000
    assert {len(challenge) for challenge in made} == {32}


def test_the_table_does_not_hold_the_challenge() -> None:
    challenge = challenges.issue(Purpose.SIGN_IN, bound_to="")

    row = PasskeyChallenge.objects.get()

    assert challenge not in b"".join(
        bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
        for value in (row.challenge_hash, row.bound_to, row.id)
    )


def test_a_challenge_is_used_up_once() -> None:
    challenge = challenges.issue(Purpose.STEP_UP, bound_to=HERE)

    challenges.consume(challenge, Purpose.STEP_UP, bound_to=HERE)

    with pytest.raises(ChallengeOver):
        challenges.consume(challenge, Purpose.STEP_UP, bound_to=HERE)


@pytest.mark.parametrize(
    ("purpose", "bound_to"), [(Purpose.SIGN_IN, HERE), (Purpose.STEP_UP, "session:2"), (Purpose.STEP_UP, "")]
)
def test_a_challenge_of_another_purpose_or_flow_is_refused_and_used_up(
    purpose: Purpose, bound_to: str
) -> None:
    challenge = challenges.issue(Purpose.STEP_UP, bound_to=HERE)

    with pytest.raises(ChallengeOver):
        challenges.consume(challenge, purpose, bound_to=bound_to)
    with pytest.raises(ChallengeOver):
        challenges.consume(challenge, Purpose.STEP_UP, bound_to=HERE)


def test_a_challenge_ends_after_five_minutes() -> None:
    challenge = challenges.issue(Purpose.STEP_UP, bound_to=HERE)
    row = PasskeyChallenge.objects.get()
    assert row.expires_at - row.created_at == dt.timedelta(minutes=5)
    PasskeyChallenge.objects.update(
        created_at=timezone.now() - dt.timedelta(minutes=6),
        expires_at=timezone.now() - dt.timedelta(seconds=1),
    )

    with pytest.raises(ChallengeOver):
        challenges.consume(challenge, Purpose.STEP_UP, bound_to=HERE)
    assert challenges.remove_ended() == 1


@committed
def test_of_many_answers_at_once_one_uses_the_challenge_up(race: Race) -> None:
    challenge = challenges.issue(Purpose.STEP_UP, bound_to=HERE)

    outcomes = race([partial(challenges.consume, challenge, Purpose.STEP_UP, bound_to=HERE)] * 20)

    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, ChallengeOver) for outcome in outcomes) == 19


@committed
def test_a_challenge_cannot_be_used_inside_of_a_transaction_that_could_revive_it() -> None:
    challenge = challenges.issue(Purpose.STEP_UP, bound_to=HERE)

    with pytest.raises(RuntimeError), transaction.atomic():
        challenges.consume(challenge, Purpose.STEP_UP, bound_to=HERE)


# Registration


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


LIES: list[dict[str, Any]] = [
    {"origin": "https://evil.example"},
    {"origin": "http://testserver"},
    {"origin": "https://testserver.evil.example"},
    {"origin": "https://testserver:444"},
    {"rp_id": "evil.example"},
    {"flags": device.USER_PRESENT},
    {"flags": device.USER_VERIFIED},
    {"flags": 0},
    {"flags": Authenticator.flags | device.BACKED_UP},
    {"cross_origin": True},
]


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


# Copies


def test_a_counter_that_goes_back_suspends_the_key_ends_all_sessions_and_tells(user: User) -> None:
    passkey, authenticator = passkey_of(user)
    clone = authenticator.copied()
    for _use in range(3):
        prove(user, authenticator.get(options(user)))
    epoch = User.objects.get(pk=user.pk).auth_epoch

    with pytest.raises(WrongPasskey):
        prove(user, clone.get(options(user)))

    passkey.refresh_from_db()
    assert (passkey.suspended_why, passkey.confirmed) == (Passkey.Reason.COUNTER, False)
    assert User.objects.get(pk=user.pk).auth_epoch == epoch + 1
    assert events_of("auth.passkey.suspended") >= 1
    assert OutboxMessage.objects.count() == 2  # added, suspended
    assert not factors.has_factor(user)
    with pytest.raises(passkeys.NoPasskey):
        options(user)


def test_a_suspended_key_opens_nothing_any_more(user: User) -> None:
    passkey, authenticator = passkey_of(user)
    asked, by_itself = options(user), alone()
    assert passkey.suspend(Passkey.Reason.COUNTER)
    assert not passkey.suspend(Passkey.Reason.COUNTER)

    with pytest.raises(WrongPasskey):
        prove(user, authenticator.get(asked))
    with pytest.raises(WrongPasskey):
        sign_in(authenticator.get(by_itself))


def test_a_counter_that_nobody_signed_suspends_nothing(user: User) -> None:
    passkey, authenticator = passkey_of(user)
    prove(user, authenticator.get(options(user)))
    authenticator.keys[0].counter = 0
    answer = authenticator.get(options(user))
    answer["response"]["signature"] = b64(b"\x30\x06\x02\x01\x01\x02\x01\x01")

    with pytest.raises(WrongPasskey):
        prove(user, answer)

    passkey.refresh_from_db()
    assert passkey.suspended_at is None


def test_an_authenticator_that_does_not_count_is_no_copy(user: User) -> None:
    passkey, authenticator = passkey_of(user, Authenticator(counts=False))

    for _use in range(2):
        prove(user, authenticator.get(options(user)))

    passkey.refresh_from_db()
    assert (passkey.sign_count, passkey.suspended_at) == (0, None)


def test_a_counter_that_falls_to_zero_is_a_copy(user: User) -> None:
    passkey, authenticator = passkey_of(user)
    authenticator.counts, authenticator.keys[0].counter = False, 0

    with pytest.raises(WrongPasskey):
        prove(user, authenticator.get(options(user)))

    passkey.refresh_from_db()
    assert passkey.suspended_why == Passkey.Reason.COUNTER


def test_a_key_that_becomes_one_that_can_be_copied_is_suspended(user: User) -> None:
    passkey, authenticator = passkey_of(user)
    authenticator.flags |= device.BACKUP_ELIGIBLE

    with pytest.raises(WrongPasskey):
        prove(user, authenticator.get(options(user)))

    passkey.refresh_from_db()
    assert passkey.suspended_why == Passkey.Reason.NATURE


def test_whether_a_key_is_synchronised_now_is_followed(user: User) -> None:
    passkey, authenticator = passkey_of(
        user, Authenticator(flags=Authenticator.flags | device.BACKUP_ELIGIBLE)
    )
    assert not passkey.backed_up
    authenticator.flags |= device.BACKED_UP

    prove(user, authenticator.get(options(user)))

    passkey.refresh_from_db()
    assert passkey.backed_up


@committed
def test_one_counter_value_counts_once_when_two_come_at_once(race: Race) -> None:
    user = AdminFactory.create()
    _passkey, authenticator = passkey_of(user)
    clone = authenticator.copied()
    answers = [authenticator.get(options(user)), clone.get(options(user))]

    outcomes = race([partial(prove, user, answer) for answer in answers])

    assert sum(isinstance(outcome, Passkey) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, WrongPasskey) for outcome in outcomes) == 1
    assert Passkey.objects.get().suspended_at is not None


# Rows that were changed


def _sql(statement: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def test_an_exchanged_public_key_is_noticed_and_refused(user: User) -> None:
    passkey, _authenticator = passkey_of(user)
    intruder = Authenticator()
    intruder.create(passkeys.registration_options(user, bound_to=HERE))
    intruder.keys[0].id = bytes(passkey.credential_id)
    intruder.keys[0].user_handle = unb64(passkeys.registration_options(user, bound_to=HERE)["user"]["id"])
    _sql(
        "UPDATE accounts_passkey SET public_key = %s WHERE id = %s",
        device.cbor(intruder.keys[0].cose()),
        passkey.pk,
    )

    with pytest.raises(WrongPasskey):
        prove(user, intruder.get(options(user)))
    with pytest.raises(WrongPasskey):
        sign_in(intruder.get(alone()))

    assert events_of("auth.passkey.altered") >= 2


def test_a_row_that_was_handed_to_another_account_opens_nothing(user: User) -> None:
    victim = BuyerFactory.create()
    passkey, authenticator = passkey_of(user)
    _sql("UPDATE accounts_passkey SET user_id = %s WHERE id = %s", victim.pk, passkey.pk)
    authenticator.keys[0].user_handle = victim.pk.bytes

    with pytest.raises(WrongPasskey):
        prove(victim, authenticator.get(options(victim)))
    with pytest.raises(WrongPasskey):
        sign_in(authenticator.get(alone()))


def test_a_synchronised_key_cannot_be_made_device_bound_by_sql(user: User) -> None:
    flags = Authenticator.flags | device.BACKUP_ELIGIBLE
    passkey, authenticator = passkey_of(user, Authenticator(flags=flags))
    bound, _other = passkey_of(user)
    _sql("UPDATE accounts_passkey SET backup_eligible = false WHERE id = %s", passkey.pk)

    assert passkeys.device_bound(user) == {bound.persistent_id}
    with pytest.raises(WrongPasskey):
        prove(user, authenticator.get(options(user), key=authenticator.keys[0]))


def test_seals_move_to_the_current_key(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    used, authenticator = passkey_of(user)
    unused, _other = passkey_of(user)
    altered, _third = passkey_of(user)
    _sql("UPDATE accounts_passkey SET aaguid = %s WHERE id = %s", "0" * 32, altered.pk)
    ring = settings.MESTORE_MASTER_KEYS
    fresh = {"fresh": secrets.token_bytes(32)}
    monkeypatch.setattr(settings, "MESTORE_MASTER_KEYS", fresh | ring)

    prove(user, authenticator.get(options(user), key=authenticator.keys[0]))
    assert passkeys.reseal() == 1
    assert passkeys.reseal() == 0

    monkeypatch.setattr(settings, "MESTORE_MASTER_KEYS", fresh)
    assert [Passkey.objects.get(pk=one.pk).is_intact() for one in (used, unused, altered)] == [
        True,
        True,
        False,
    ]


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


def test_a_suspended_key_can_always_be_removed(user: User) -> None:
    passkey, _authenticator = passkey_of(user)
    passkey.suspend(Passkey.Reason.COUNTER)
    passkey.refresh_from_db()

    passkeys.remove(passkey, by=BY)

    assert not Passkey.objects.exists()


def test_passkeys_come_first_among_the_methods(user: User) -> None:
    TotpDeviceFactory.create(user=user)
    before = timezone.now()
    passkey_of(user)

    assert factors.methods_of(user) == ("passkey", "totp")
    assert "passkey" not in factors.methods_of(user, bound_before=before)
    assert User.objects.filter(factors.proved()).get() == user


# Bytes of strangers


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
