"""Another address: who is told, what proves it, and who can stop it."""

from __future__ import annotations

import datetime as dt
import json
import re
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from accounts import addresses, password_reset, phones, profile, tasks, users
from accounts.addresses import Kind
from accounts.models import AddressChange, User
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import delivery, events
from monitoring.models import AuditEvent, OutboxMessage
from tests.factories.accounts import BuyerFactory

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

NEW = "Nueva.Direccion@Example.org"


def by(user: User) -> Actor:
    return Actor(kind="user", id=str(user.pk), label=user.email, address="192.0.2.1")


def link_in(template: str) -> str:
    message = OutboxMessage.objects.filter(template=template).latest("created_at")
    found = re.search(r"token=(\S+)", json.loads(message.payload or "{}")["text"])
    assert found
    return found.group(1)


def ask(user: User, address: str = NEW, kind: Kind = Kind.PRIMARY, **options: Any) -> str:
    addresses.request_change(user, address, kind, by=by(user), **options)
    return link_in("address_confirm")


def confirm(user: User, token: str, **options: Any) -> User:
    return addresses.confirm(user, token, by=by(user), **options)


def recipients(mailoutbox: Any) -> list[tuple[str, str]]:
    """Send what waits; return addresses and subjects."""
    for message in OutboxMessage.objects.order_by("created_at", "pk"):
        delivery.send(message.pk)
    return [(mail.to[0], mail.subject) for mail in mailoutbox]


# Wrong cases


@pytest.mark.parametrize(
    "address", ["", "x", "a@b", "a@b.co\r\nBcc: x@y.co", "a" * 250 + "@b.co", "a\x00@b.co"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    user = BuyerFactory.create()

    with pytest.raises(users.InvalidEmail):
        ask(user, address)

    assert not AddressChange.objects.exists()


def test_address_that_the_account_has_is_refused() -> None:
    user = BuyerFactory.create(recovery_email="second@example.org")

    for address, kind in ((user.email.upper(), Kind.PRIMARY), (user.email, Kind.RECOVERY)):
        with pytest.raises(addresses.SameAddress):
            ask(user, address, kind)
    with pytest.raises(addresses.SameAddress):
        ask(user, "Second@example.org", Kind.RECOVERY)


@pytest.mark.parametrize("token", ["", "x" * 64, "x" * 10_000, "\ud800"])
def test_unknown_token_changes_nothing(token: str) -> None:
    user = BuyerFactory.create()
    ask(user)

    with pytest.raises(addresses.LinkOver):
        confirm(user, token)
    with pytest.raises(addresses.LinkOver):
        addresses.cancel(token, by=by(user))

    assert User.objects.get(pk=user.pk).email == user.email


def test_link_counts_for_its_own_account_only() -> None:
    mine, other = BuyerFactory.create(), BuyerFactory.create()
    token = ask(mine)

    with pytest.raises(addresses.LinkOver):
        confirm(other, token)

    AddressChange.objects.update(user=other)
    with pytest.raises(addresses.LinkOver):
        confirm(other, token)


def test_row_with_another_address_by_sql_opens_nothing() -> None:
    user = BuyerFactory.create()
    token = ask(user)
    AddressChange.objects.update(address="attacker@example.org")

    with pytest.raises(addresses.LinkOver):
        confirm(user, token)


def test_links_do_not_stand_in_for_each_other() -> None:
    user = BuyerFactory.create()
    token = ask(user)
    stop = link_in("address_change_requested")

    with pytest.raises(addresses.LinkOver):
        confirm(user, stop)
    with pytest.raises(addresses.LinkOver):
        addresses.cancel(token, by=by(user))
    assert not password_reset.is_open(token)


def test_link_ends_after_a_day_and_works_once() -> None:
    begin = timezone.now()
    user = BuyerFactory.create()
    token = ask(user, now=begin)
    with pytest.raises(addresses.LinkOver):
        confirm(user, token, now=begin + dt.timedelta(seconds=settings.ADDRESS_CHANGE_SECONDS))

    confirm(user, token, now=begin + dt.timedelta(seconds=settings.ADDRESS_CHANGE_SECONDS - 1))

    with pytest.raises(addresses.LinkOver):
        confirm(user, token)


def test_of_twenty_at_once_one_wins(race: Any) -> None:
    user = BuyerFactory.create()
    token = ask(user)

    outcomes = race([partial(confirm, user, token)] * 20)

    assert sum(isinstance(outcome, User) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, addresses.LinkOver) for outcome in outcomes) == 19
    assert AuditEvent.objects.filter(type=events.ADDRESS_CHANGED).count() == 1


def test_wishes_at_once_leave_one_open(race: Any) -> None:
    user = BuyerFactory.create()

    outcomes = race([partial(ask, user, f"new{number}@example.org") for number in range(4)])

    assert any(isinstance(outcome, str) for outcome in outcomes)
    assert all(isinstance(outcome, str | errors.Conflict | errors.TooManyRequests) for outcome in outcomes)
    assert AddressChange.objects.filter(confirmed_at=None, cancelled_at=None).count() == 1


def test_newer_wish_ends_the_earlier_one() -> None:
    user = BuyerFactory.create()
    first = ask(user)
    second = ask(user, "other@example.org")

    with pytest.raises(addresses.LinkOver):
        confirm(user, first)
    assert confirm(user, second).email == "other@example.org"


def test_wish_dies_with_a_change_of_password() -> None:
    user = BuyerFactory.create()
    token = ask(user)
    User.objects.filter(pk=user.pk).update(password="!other")

    with pytest.raises(addresses.LinkOver):
        confirm(user, token)


def test_wish_made_under_another_address_is_over() -> None:
    user = BuyerFactory.create()
    token = ask(user)
    User.objects.filter(pk=user.pk).update(email="moved@example.org", email_key="moved@example.org")

    with pytest.raises(addresses.LinkOver):
        confirm(user, token)
    assert AddressChange.objects.get().confirmed_at is None, "nothing of it is kept"


def test_taken_address_looks_like_a_free_one_and_its_owner_gets_nothing(mailoutbox: Any) -> None:
    user, owner = BuyerFactory.create(), BuyerFactory.create()

    token = ask(user, owner.email)

    assert owner.email not in {address for address, _subject in recipients(mailoutbox)}
    with pytest.raises(addresses.AddressTaken):
        confirm(user, token)
    assert User.objects.get(pk=owner.pk).email == owner.email


def test_mailboxes_are_not_flooded() -> None:
    user = BuyerFactory.create()
    for number in range(addresses.PER_HOUR):
        ask(user, f"new{number}@example.org")

    with pytest.raises(errors.TooManyRequests):
        ask(user, "one-more@example.org")


# What it is for


def test_both_addresses_are_told_before_and_after(mailoutbox: Any) -> None:
    user = BuyerFactory.create(recovery_email="second@example.org", language="en")
    token = ask(user)
    before = recipients(mailoutbox)
    mailoutbox.clear()

    changed = confirm(user, token)

    assert (changed.email, changed.email_key, changed.email_verified) == (NEW, NEW.lower(), True)
    assert User.objects.by_email(NEW).pk == user.pk
    assert {address for address, _subject in before} == {user.email, "second@example.org", NEW}
    assert {address for address, _subject in recipients(mailoutbox)} == {
        user.email,
        "second@example.org",
        NEW,
    }


def test_reset_link_that_went_to_the_former_address_is_over() -> None:
    user = BuyerFactory.create()
    password_reset.request(user.email, by=by(user))
    reset_token = link_in("password_reset")

    confirm(user, ask(user))

    assert not password_reset.is_open(reset_token)


def test_present_address_can_stop_it() -> None:
    user = BuyerFactory.create()
    token = ask(user)

    addresses.cancel(link_in("address_change_requested"), by=Actor(kind="anonymous", address="192.0.2.7"))

    with pytest.raises(addresses.LinkOver):
        confirm(user, token)
    with pytest.raises(addresses.LinkOver):
        addresses.cancel(link_in("address_change_requested"), by=by(user))
    assert AuditEvent.objects.filter(type=events.ADDRESS_CHANGE_CANCELLED).count() == 1


def test_second_address_counts_when_it_is_proved(mailoutbox: Any) -> None:
    user = BuyerFactory.create()
    token = ask(user, "second@example.org", Kind.RECOVERY)
    assert not User.objects.get(pk=user.pk).recovery_email

    changed = confirm(user, token)

    assert (changed.recovery_email, changed.email) == ("second@example.org", user.email)
    recipients(mailoutbox)
    mailoutbox.clear()
    assert not addresses.remove_recovery(user, by=by(user)).recovery_email
    assert {address for address, _subject in recipients(mailoutbox)} == {user.email, "second@example.org"}
    addresses.remove_recovery(user, by=by(user))
    assert not OutboxMessage.objects.exists()


def test_old_wishes_are_deleted() -> None:
    user = BuyerFactory.create()
    ask(user, now=timezone.now() - dt.timedelta(days=9))
    ask(user, "other@example.org")

    assert tasks.purge_links(0) == 1


# Profile


def test_profile_takes_what_people_say_about_themselves_and_nothing_else() -> None:
    user = BuyerFactory.create(telefono="+573001234567", phone_verified=True)

    changed = profile.update(user, {"nombre": "Eva", "telefono": "310 765 4321"}, by=by(user))

    assert (changed.nombre, changed.telefono, changed.phone_verified) == ("Eva", "+573107654321", False)
    assert AuditEvent.objects.get(type=events.PROFILE_CHANGED).target_id == str(user.pk)
    profile.update(user, {"nombre": "Eva", "telefono": "+573107654321"}, by=by(user))
    assert AuditEvent.objects.filter(type=events.PROFILE_CHANGED).count() == 1
    with pytest.raises(KeyError):
        profile.update(user, {"user_type": "SUPERUSER"}, by=by(user))
    with pytest.raises(phones.InvalidPhone):
        profile.update(user, {"telefono": "12"}, by=by(user))
    assert profile.update(user, {"telefono": ""}, by=by(user)).telefono == ""
