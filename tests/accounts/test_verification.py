"""Proving an address: the code, its tries, its hour, and what it is bound to."""

from __future__ import annotations

import datetime as dt
import json
import re
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts import lockout, tasks, verification
from accounts.models import User, VerificationCode
from accounts.verification import Kind
from mestore.lib.actor import Actor
from monitoring import events
from monitoring.models import AuditEvent, OutboxMessage
from tests.factories.accounts import BuyerFactory, VendorFactory

# Tries are counted on a second connection: what it shall see must be committed.
pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

PHONE = "+573001234567"


def by(user: User, session: str = "session-1", address: str = "192.0.2.1") -> Actor:
    return Actor(kind="user", id=str(user.pk), address=address, session_id=session)


def last_code() -> str:
    """The code in the message that waits."""
    message = OutboxMessage.objects.latest("created_at")
    found = re.search(r"\b[0-9]{6}\b", json.loads(message.payload or "{}")["text"])
    assert found
    return found.group()


def ask(user: User, kind: Kind = Kind.EMAIL, **options: Any) -> str:
    verification.send_code(user, kind, by=options.pop("by", None) or by(user), **options)
    return last_code()


def other_than(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06d}"


def is_verified(user: User) -> bool:
    return User.objects.get(pk=user.pk).email_verified


# Wrong cases


@pytest.mark.parametrize(
    "code", ["", "12345", "1234567", "１２３４５６", "+12345", "12_345", " 12345", "12345\n", "x" * 6]
)
def test_what_is_not_six_digits_costs_no_try(code: str) -> None:
    user = BuyerFactory.create()
    right = ask(user)

    with pytest.raises(verification.MalformedCode):
        verification.verify(user, Kind.EMAIL, code, by=by(user))

    assert VerificationCode.objects.get().attempts == 0
    verification.verify(user, Kind.EMAIL, right, by=by(user))


@pytest.mark.parametrize("code", ["123456", "000000", "111111"])
def test_no_code_always_works(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.verification.secrets.randbelow", lambda _limit: 481_516)
    user = BuyerFactory.create(email="a@test.com")
    ask(user)

    with pytest.raises(verification.WrongCode):
        verification.verify(user, Kind.EMAIL, code, by=by(user))

    assert not is_verified(user)


def test_code_nobody_asked_for_is_wrong() -> None:
    user = BuyerFactory.create()

    with pytest.raises(verification.WrongCode):
        verification.verify(user, Kind.EMAIL, "123456", by=by(user))

    assert AuditEvent.objects.using("audit").filter(type=events.VERIFICATION_REFUSED).count() == 1


def test_code_of_another_account_is_wrong() -> None:
    mine, other = BuyerFactory.create(), BuyerFactory.create()
    code = ask(mine)
    ask(other)

    with pytest.raises(verification.WrongCode):
        verification.verify(other, Kind.EMAIL, code, by=by(other))


def test_code_of_another_session_is_wrong() -> None:
    user = BuyerFactory.create()
    code = ask(user)

    with pytest.raises(verification.WrongCode):
        verification.verify(user, Kind.EMAIL, code, by=by(user, session="session-2"))


def test_code_for_mail_does_not_prove_a_telephone() -> None:
    user = BuyerFactory.create(telefono=PHONE)
    code = ask(user)
    ask(user, Kind.SMS)

    with pytest.raises(verification.WrongCode):
        verification.verify(user, Kind.SMS, code, by=by(user))


def test_code_sent_to_the_former_address_proves_nothing_about_the_new_one() -> None:
    user = BuyerFactory.create()
    code = ask(user)
    User.objects.filter(pk=user.pk).update(email="new@example.com", email_key="new@example.com")

    with pytest.raises(verification.WrongCode):
        verification.verify(User.objects.get(pk=user.pk), Kind.EMAIL, code, by=by(user))
    with pytest.raises(verification.WrongCode):
        verification.verify(user, Kind.EMAIL, code, by=by(user))  # read before the change

    assert not is_verified(user)


def test_closed_account_is_not_verified() -> None:
    user = BuyerFactory.create()
    code = ask(user)
    User.objects.filter(pk=user.pk).update(is_active=False)

    with pytest.raises(verification.WrongCode):
        verification.verify(user, Kind.EMAIL, code, by=by(user))


def test_row_moved_to_another_account_by_sql_opens_nothing() -> None:
    mine, other = BuyerFactory.create(), BuyerFactory.create()
    code = ask(mine)
    VerificationCode.objects.filter(user=mine).update(user=other)

    with pytest.raises(verification.WrongCode):
        verification.verify(other, Kind.EMAIL, code, by=by(other))


def test_code_works_until_ten_minutes_are_over() -> None:
    user, late = BuyerFactory.create(), BuyerFactory.create()
    begin = timezone.now()
    code = ask(user, now=begin)
    verification.verify(user, Kind.EMAIL, code, by=by(user), now=begin + dt.timedelta(seconds=599))

    code = ask(late, now=begin)
    with pytest.raises(verification.WrongCode):
        verification.verify(late, Kind.EMAIL, code, by=by(late), now=begin + dt.timedelta(seconds=600))
    assert not is_verified(late)


def test_code_is_used_once() -> None:
    user = BuyerFactory.create()
    code = ask(user)
    verification.verify(user, Kind.EMAIL, code, by=by(user))

    with pytest.raises(verification.WrongCode):
        verification.verify(user, Kind.EMAIL, code, by=by(user))


def test_right_code_sent_many_times_at_once_counts_once(race: Any) -> None:
    user = BuyerFactory.create()
    code = ask(user)

    outcomes = race(
        [partial(verification.verify, User.objects.get(pk=user.pk), Kind.EMAIL, code, by=by(user))] * 20
    )

    assert sum(isinstance(outcome, verification.Status) for outcome in outcomes) == 1
    assert all(
        isinstance(outcome, verification.Status | verification.WrongCode | lockout.LockedOut)
        for outcome in outcomes
    )
    assert is_verified(user)


def test_sixth_guess_is_refused_however_right() -> None:
    user = BuyerFactory.create()
    code = ask(user)
    for _guess in range(5):
        with pytest.raises(verification.WrongCode):
            verification.verify(user, Kind.EMAIL, other_than(code), by=by(user))

    with pytest.raises(lockout.LockedOut):
        verification.verify(user, Kind.EMAIL, code, by=by(user))

    assert not is_verified(user)


def test_new_code_brings_no_new_guesses() -> None:
    user = BuyerFactory.create()
    begin = timezone.now()
    code = ask(user, now=begin)
    for _guess in range(3):
        with pytest.raises(verification.WrongCode):
            verification.verify(user, Kind.EMAIL, other_than(code), by=by(user), now=begin)
    later = begin + dt.timedelta(seconds=61)
    code = ask(user, now=later)
    for _guess in range(2):
        with pytest.raises(verification.WrongCode):
            verification.verify(user, Kind.EMAIL, other_than(code), by=by(user), now=later)

    with pytest.raises(lockout.LockedOut):
        verification.verify(user, Kind.EMAIL, code, by=by(user), now=later)


def test_dead_code_stays_dead_when_the_lock_is_over() -> None:
    user = BuyerFactory.create()
    code = ask(user)
    VerificationCode.objects.update(attempts=settings.VERIFICATION["attempts"])

    with pytest.raises(verification.WrongCode):
        verification.verify(user, Kind.EMAIL, code, by=by(user))

    status = verification.status(user, Kind.EMAIL)
    assert (status.is_otp_blocked, status.has_active_otp, status.otp_expires_at) == (True, False, None)


def test_guesses_survive_a_rollback() -> None:
    user = BuyerFactory.create()
    code = ask(user)

    def request_that_fails() -> None:
        with transaction.atomic():
            with pytest.raises(verification.WrongCode):
                verification.verify(user, Kind.EMAIL, other_than(code), by=by(user))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        request_that_fails()

    assert VerificationCode.objects.get().attempts == 1


def test_second_code_waits_a_minute_and_the_first_goes_on_counting() -> None:
    user = BuyerFactory.create()
    begin = timezone.now()
    code = ask(user, now=begin)

    with pytest.raises(verification.TooSoon) as caught:
        ask(user, now=begin + dt.timedelta(seconds=20))

    assert caught.value.retry_after == 40
    assert OutboxMessage.objects.count() == ProcrastinateJob.objects.count() == 1
    verification.verify(user, Kind.EMAIL, code, by=by(user), now=begin)


def test_codes_asked_for_at_once_are_one(race: Any) -> None:
    user = BuyerFactory.create()

    outcomes = race([partial(verification.send_code, user, Kind.EMAIL, by=by(user))] * 8)

    assert sum(isinstance(outcome, verification.Status) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, verification.TooSoon) for outcome in outcomes) == 7
    assert OutboxMessage.objects.count() == 1


def test_an_hour_has_five_codes() -> None:
    user = BuyerFactory.create(telefono=PHONE)
    begin = timezone.now()
    minutes = [begin + dt.timedelta(minutes=2 * number) for number in range(6)]
    for moment in minutes[:5]:
        ask(user, Kind.SMS, now=moment)

    with pytest.raises(verification.TooSoon) as caught:
        ask(user, Kind.SMS, now=minutes[5])
    assert caught.value.retry_after == 50 * 60
    assert not verification.status(user, Kind.SMS, now=minutes[5]).can_request_new_otp

    assert verification.status(user, Kind.SMS, now=begin + dt.timedelta(hours=1)).can_request_new_otp


def test_one_number_is_not_flooded_through_many_accounts() -> None:
    for _account in range(5):
        ask(BuyerFactory.create(telefono=PHONE), Kind.SMS)
    sixth = BuyerFactory.create(telefono=PHONE)

    with pytest.raises(verification.TooSoon):
        ask(sixth, Kind.SMS)

    assert not VerificationCode.objects.filter(user=sixth).exists()


def test_nothing_is_sent_where_nothing_is_to_be_verified(settings: Any) -> None:
    user = BuyerFactory.create(email_verified=True)

    with pytest.raises(verification.AlreadyVerified):
        verification.send_code(user, Kind.EMAIL, by=by(user))
    with pytest.raises(verification.NothingToVerify):
        verification.send_code(user, Kind.SMS, by=by(user))
    settings.SMS_BACKEND = ""
    user.telefono = PHONE
    with pytest.raises(verification.TextMessagesOff):
        verification.send_code(user, Kind.SMS, by=by(user))

    assert not OutboxMessage.objects.exists()


def test_code_is_nowhere_in_the_database() -> None:
    user = BuyerFactory.create()
    code = ask(user)

    with connection.cursor() as cursor:
        for table in ("accounts_verificationcode", "monitoring_outboxmessage", "procrastinate_jobs"):
            cursor.execute(f"SELECT string_agg(t::text, '') FROM {table} t")  # noqa: S608 # names from above
            words = re.split(r"[^0-9]+", cursor.fetchone()[0])
            # Six digits may stand inside a longer number by chance; alone they may not.
            assert code not in words, table


# What it is for


def test_code_verifies_mail_and_with_it_a_buyer() -> None:
    user = BuyerFactory.create()
    code = ask(user)

    status = verification.verify(user, Kind.EMAIL, code, by=by(user))

    stored = User.objects.get(pk=user.pk)
    assert status.email_verified
    assert (stored.email_verified, stored.account_verified, stored.phone_verified) == (True, True, False)
    assert stored.auth_epoch == user.auth_epoch, "nobody is signed out"
    event = AuditEvent.objects.get(type=events.CONTACT_VERIFIED)
    assert event.target_id == str(user.pk)


def test_vendor_is_verified_by_a_person_not_by_a_code() -> None:
    user = VendorFactory.create()

    verification.verify(user, Kind.EMAIL, ask(user), by=by(user))

    assert is_verified(user)
    assert not User.objects.get(pk=user.pk).account_verified


def test_code_verifies_a_telephone() -> None:
    user = BuyerFactory.create(telefono=PHONE)

    status = verification.verify(user, Kind.SMS, ask(user, Kind.SMS), by=by(user))

    assert (status.phone_verified, status.email_verified) == (True, False)
    assert User.objects.get(pk=user.pk).phone_verified


def test_right_code_gives_the_guesses_back() -> None:
    user = BuyerFactory.create()
    code = ask(user)
    with pytest.raises(verification.WrongCode):
        verification.verify(user, Kind.EMAIL, other_than(code), by=by(user))

    verification.verify(user, Kind.EMAIL, code, by=by(user))

    assert AuditEvent.objects.using("audit").filter(type=events.VERIFICATION_REFUSED).count() == 1


def test_old_codes_are_deleted_and_the_present_hour_is_kept() -> None:
    old, new = BuyerFactory.create(), BuyerFactory.create()
    ask(old, now=timezone.now() - dt.timedelta(hours=2))
    ask(new)

    assert tasks.purge_codes() == 1

    assert [row.user_id for row in VerificationCode.objects.all()] == [new.pk]
