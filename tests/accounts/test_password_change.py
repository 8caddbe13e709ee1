"""Changing a password, and when it must change."""

from __future__ import annotations

import datetime as dt
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from accounts import breached, lockout, login, password_change, passwords, tasks
from accounts.models import PasswordReset, User
from mestore.lib import actor
from mestore.lib.actor import Actor
from monitoring import delivery, events
from monitoring.models import AuditEvent, OutboxMessage
from tests.factories.accounts import PASSWORD, AdminFactory, BuyerFactory, TotpDeviceFactory, VendorFactory

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

NEW = "un caballo que canta boleros"


def by(user: User) -> Actor:
    return Actor(kind="user", id=str(user.pk), label=user.email, address="192.0.2.1")


def change(user: User, current: str = PASSWORD, new: str = NEW) -> User:
    return password_change.change(user, current=current, new=new, by=by(user))


def opens(user: User, password: str) -> bool:
    return passwords.matches(password, User.objects.get(pk=user.pk).password)


def with_password(user: User, password: str) -> User:
    stored = passwords.hashed(password)
    User.objects.filter(pk=user.pk).update(password=stored, password_changed_at=timezone.now())
    return User.objects.get(pk=user.pk)


def sign_in(user: User, password: str) -> User:
    return login.check_credentials(user.email, password, by=by(user), purpose="api")


# Wrong cases


@pytest.mark.parametrize(
    "current", ["", "wrong", PASSWORD.upper(), PASSWORD + " ", "x" * 100_000, "\ud800" * 20]
)
def test_without_the_present_password_nothing_changes(current: str) -> None:
    user = BuyerFactory.create()

    with pytest.raises(password_change.WrongPassword) as refused:
        change(user, current=current)

    assert refused.value.status == 400
    assert opens(user, PASSWORD)
    assert AuditEvent.objects.using("audit").filter(type=events.PASSWORD_CHANGE_REFUSED).count() == 1
    assert not OutboxMessage.objects.exists()


def test_present_password_is_not_guessed_through_a_session() -> None:
    user = BuyerFactory.create()
    for _guess in range(5):
        with pytest.raises(password_change.WrongPassword):
            change(user, current="a wrong guess")

    with pytest.raises(lockout.LockedOut):
        change(user)

    assert opens(user, PASSWORD)
    assert sign_in(user, PASSWORD) == user, "the owner still signs in"


def test_guesses_survive_a_rollback() -> None:
    user = BuyerFactory.create()

    def request_that_fails() -> None:
        with transaction.atomic():
            with pytest.raises(password_change.WrongPassword):
                change(user, current="a wrong guess")
            raise ZeroDivisionError

    for _guess in range(5):
        with pytest.raises(ZeroDivisionError):
            request_that_fails()

    with pytest.raises(lockout.LockedOut):
        change(user)


@pytest.mark.parametrize(
    ("new", "error_type"),
    [
        ("short", "too_short"),
        ("passwordpassword", "known"),
        ("restrepo.restrepo.77", "guessable"),
        (PASSWORD, "same"),
    ],
)
def test_new_password_that_breaks_a_rule_is_refused_with_the_reason(new: str, error_type: str) -> None:
    user = VendorFactory.create(apellido="Restrepo")

    with pytest.raises(passwords.UnacceptablePassword) as refused:
        change(user, new=new)

    assert refused.value.details is not None
    assert refused.value.details[0].field == "body -> new_password"
    assert refused.value.details[0].error_type == error_type
    assert opens(user, PASSWORD)


def test_shop_of_a_vendor_is_a_word_that_anybody_guesses() -> None:
    user = VendorFactory.create(profile__business_name="Zapatos Elegantes")

    with pytest.raises(passwords.UnacceptablePassword):
        change(user, new="Zapatos-Elegantes-2026")


def test_of_changes_at_once_one_wins(race: Any) -> None:
    user = BuyerFactory.create()

    outcomes = race([partial(change, user, PASSWORD, f"{NEW} {number}") for number in range(6)])

    winners = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, User)]
    assert len(winners) == 1
    assert opens(user, f"{NEW} {winners[0]}")
    expected = password_change.ChangedMeanwhile | password_change.WrongPassword | lockout.LockedOut
    assert all(isinstance(outcome, User | expected) for outcome in outcomes), outcomes


def test_account_that_was_closed_meanwhile_keeps_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    user = BuyerFactory.create()
    hashed = passwords.hashed

    def close_while_hashing(password: str) -> str:
        User.objects.filter(pk=user.pk).update(is_active=False)
        return hashed(password)

    monkeypatch.setattr(passwords, "hashed", close_while_hashing)
    with pytest.raises(password_change.ChangedMeanwhile):
        change(user)

    assert opens(user, PASSWORD)


def test_mail_that_cannot_be_written_leaves_the_old_password(monkeypatch: pytest.MonkeyPatch) -> None:
    user = BuyerFactory.create()

    def fail(*_args: Any, **_options: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(delivery, "notify", fail)
    with pytest.raises(ZeroDivisionError):
        change(user)

    assert opens(user, PASSWORD)
    assert not AuditEvent.objects.filter(type=events.PASSWORD_CHANGED).exists()


# What it is for


def test_new_password_replaces_the_old_and_ends_everything() -> None:
    user = BuyerFactory.create(recovery_email="second@example.org", force_password_change=True)
    PasswordReset.objects.create(
        user=user, token_hash=b"x" * 32, auth_epoch=1, expires_at=timezone.now() + dt.timedelta(hours=1)
    )

    changed = change(user)

    assert opens(user, NEW)
    assert not opens(user, PASSWORD)
    assert changed.auth_epoch > user.auth_epoch
    assert not changed.force_password_change
    assert not PasswordReset.objects.filter(used_at=None).exists()
    assert OutboxMessage.objects.filter(template="password_changed").count() == 2
    assert AuditEvent.objects.get(type=events.PASSWORD_CHANGED).target_id == str(user.pk)


def test_eight_characters_are_enough_beside_a_factor() -> None:
    user = AdminFactory.create()
    with pytest.raises(passwords.UnacceptablePassword):
        change(user, new="k7-verde")
    TotpDeviceFactory.create(user=user)

    change(user, new="k7-verde")

    assert opens(user, "k7-verde")


def test_password_does_not_expire_by_the_calendar() -> None:
    user = BuyerFactory.create(password_changed_at=timezone.now() - dt.timedelta(days=400))

    assert not sign_in(user, PASSWORD).force_password_change


# When it must change


def test_known_password_is_noticed_at_sign_in_and_its_owner_told() -> None:
    user = with_password(BuyerFactory.create(), "passwordpassword")

    signed_in = sign_in(user, "passwordpassword")

    assert signed_in.force_password_change
    stored = User.objects.get(pk=user.pk)
    assert (stored.force_password_change, stored.password_flag) == (True, "known")
    assert stored.auth_epoch == user.auth_epoch, "nobody is signed out by it"
    assert OutboxMessage.objects.filter(template="password_must_change").count() == 1
    sign_in(user, "passwordpassword")
    assert OutboxMessage.objects.filter(template="password_must_change").count() == 1, "told once"


def test_wrong_guess_raises_no_flag() -> None:
    user = BuyerFactory.create()

    with pytest.raises(login.InvalidCredentials):
        sign_in(user, "passwordpassword")

    assert not User.objects.get(pk=user.pk).force_password_change


def test_short_password_must_change_when_its_factor_is_gone() -> None:
    user = AdminFactory.create()
    device = TotpDeviceFactory.create(user=user)
    with_password(user, "k7-verde")
    assert not sign_in(user, "k7-verde").force_password_change

    device.delete()

    assert sign_in(user, "k7-verde").password_flag == "short"


def test_list_that_is_away_signs_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breached, "LIST", tmp_path / "away")
    user = BuyerFactory.create()

    assert not sign_in(user, PASSWORD).force_password_change
    with pytest.raises(breached.PasswordListAway):
        change(user)


def test_flag_is_rechecked_at_night_and_its_owner_reminded_once_a_week() -> None:
    now = timezone.now()
    week_ago = now - dt.timedelta(days=7)
    flagged = {"force_password_change": True, "password_flagged_at": week_ago}
    known = BuyerFactory.create(**flagged, password_flag="known")
    short = AdminFactory.create(**flagged, password_flag="short")
    asked = BuyerFactory.create(force_password_change=True)
    recent = BuyerFactory.create(**flagged | {"password_flagged_at": now}, password_flag="known")
    protected = TotpDeviceFactory.create(user=AdminFactory.create(**flagged, password_flag="short")).user

    system = actor.system("worker")
    assert password_change.recheck(100, by=system, now=now) == (1, 3)
    assert password_change.recheck(100, by=system, now=now) == (0, 0)
    assert password_change.recheck(100, by=system, now=now + dt.timedelta(days=7)) == (0, 4)

    must = set(User.objects.filter(force_password_change=True).values_list("pk", flat=True))
    assert must == {known.pk, short.pk, asked.pk, recent.pk}
    assert not User.objects.get(pk=protected.pk).password_flag
    assert AuditEvent.objects.filter(type=events.PASSWORD_FLAG_LIFTED).count() == 1


def test_two_workers_remind_once(race: Any) -> None:
    BuyerFactory.create(force_password_change=True)
    system = actor.system("worker")

    race([partial(password_change.recheck, 100, by=system)] * 4)

    assert OutboxMessage.objects.filter(template="password_must_change").count() == 1


def test_nightly_job_is_there() -> None:
    BuyerFactory.create(force_password_change=True)

    assert tasks.recheck_passwords(0) == 1
