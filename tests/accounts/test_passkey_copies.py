"""Passkeys that were copied, and rows that were changed."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from accounts import factors, passkeys
from accounts.models import Passkey, User
from accounts.passkeys import WrongPasskey
from monitoring.outbox import OutboxMessage
from tests.accounts.passkey_house import HERE, alone, events_of, options, prove, sign_in
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
    # It proves nothing any more, and still is owed: a copied key opens no account by its password alone.
    assert factors.has_factor(user)
    assert not User.objects.filter(factors.proved(), pk=user.pk).exists()
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
