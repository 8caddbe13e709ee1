"""Opening an account: who may, what is told about others, and how often."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.db.utils import IntegrityError
from django.utils import translation

from accounts import lockout, passwords, registration, users
from accounts.models import IdentityCard, User, VendorProfile
from accounts.registration import Registration, Shop
from accounts.roles import Role
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import events
from monitoring.models import AuditEvent, OutboxMessage
from tests.factories.accounts import BuyerFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
committed = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

PASSWORD = "four blue lamps on the river"
STRANGER = Actor(kind="anonymous", address="192.0.2.7")


def form(email: str = "ana@example.com", **changes: Any) -> Registration:
    return Registration(**({"email": email, "password": PASSWORD} | changes))


def templates() -> list[str]:
    return [message.template for message in OutboxMessage.objects.order_by("created_at")]


# Wrong cases


@pytest.mark.parametrize("role", [Role.ADMIN, Role.SUPERUSER, Role.SYSTEM])
def test_nobody_registers_with_power(role: Role) -> None:
    with pytest.raises(ValueError, match="nobody registers"):
        registration.register(form(role=role), by=STRANGER)

    assert not User.objects.exists()


@pytest.mark.parametrize(
    "email", ["", "ana", "ana@", "ana@example.com\nBcc: x@example.com", "a" * 300 + "@example.com"]
)
def test_what_is_no_address_opens_nothing(email: str) -> None:
    with pytest.raises(users.InvalidEmail):
        registration.register(form(email), by=STRANGER)


@pytest.mark.parametrize("password", ["", "short", "x" * 14, "x" * 129])
def test_password_that_breaks_a_rule_opens_nothing_and_costs_no_try(password: str) -> None:
    for _try in range(10):
        with pytest.raises(passwords.UnacceptablePassword):
            registration.register(form(password=password), by=STRANGER)

    assert registration.register(form(), by=STRANGER) is not None


def test_password_made_of_the_newcomers_own_names_is_refused() -> None:
    shop = Shop(business_name="Papeleria Cometa")
    given = form(role=Role.VENDOR, password="papeleria-cometa-2026", shop=shop)

    with pytest.raises(passwords.UnacceptablePassword):
        registration.register(given, by=STRANGER)

    assert not User.objects.exists()


@pytest.mark.parametrize("spelling", ["ana@example.com", "ANA@Example.COM", " ana@example.com "])
def test_address_is_taken_in_every_spelling(spelling: str) -> None:
    BuyerFactory.create(email="ana@example.com")

    with pytest.raises(registration.EmailRegistered):
        registration.register(form(spelling), by=STRANGER)

    assert User.objects.count() == 1


def test_taken_address_is_recorded_and_its_owner_not_disturbed() -> None:
    owner = BuyerFactory.create(email="ana@example.com")

    with pytest.raises(registration.EmailRegistered):
        registration.register(form(), by=STRANGER)

    assert AuditEvent.objects.using("audit").get(type=events.REGISTRATION_REFUSED).target_id in {
        str(owner.pk),
        None,
    }
    assert templates() == []


def test_second_try_on_a_taken_address_is_refused_for_two_hours() -> None:
    BuyerFactory.create(email="ana@example.com")
    with pytest.raises(registration.EmailRegistered):
        registration.register(form(), by=STRANGER)

    with pytest.raises(lockout.LockedOut) as caught:
        registration.register(form(), by=STRANGER)

    assert 7_000 < caught.value.retry_after <= 7_200


def test_one_network_opens_so_many_accounts_in_an_hour(settings: Any) -> None:
    for number in range(settings.REGISTRATIONS_PER_HOUR):
        registration.register(form(f"person{number}@example.com"), by=STRANGER)

    with pytest.raises(errors.TooManyRequests):
        registration.register(form("late@example.com"), by=STRANGER)

    elsewhere = Actor(kind="anonymous", address="198.51.100.1")
    assert registration.register(form("late@example.com"), by=elsewhere) is not None


@committed
def test_many_registrations_of_one_address_at_once_open_one_account(race: Any, settings: Any) -> None:
    settings.REGISTRATIONS_PER_HOUR = 100

    outcomes = race([partial(registration.register, form(), by=STRANGER)] * 20)

    assert sum(isinstance(outcome, User) for outcome in outcomes) == 1
    refused = (registration.EmailRegistered, lockout.LockedOut, errors.TooManyRequests)
    assert sum(isinstance(outcome, refused) for outcome in outcomes) == 19, outcomes
    assert User.objects.count() == OutboxMessage.objects.count() == 1


def test_card_of_somebody_else_is_refused_without_saying_so() -> None:
    registration.register(form("one@example.com", role=Role.VENDOR, cedula="1032456789"), by=STRANGER)

    with pytest.raises(registration.InvalidRegistration):
        registration.register(form("two@example.com", role=Role.VENDOR, cedula="1032456789"), by=STRANGER)

    assert [user.email for user in User.objects.all()] == ["one@example.com"]


def test_other_broken_rule_of_the_database_is_not_called_a_taken_address() -> None:
    with pytest.raises(IntegrityError):
        registration.register(form(person={"telefono": "not a number"}), by=STRANGER)


def test_card_number_and_password_are_in_no_table_and_no_repr() -> None:
    given = form(role=Role.VENDOR, cedula="1032456789", person={"telefono": "+573001234567"})
    registration.register(given, by=STRANGER)

    with connection.cursor() as cursor:
        for table in ("accounts_identitycard", "accounts_user", "audit_event", "monitoring_outboxmessage"):
            cursor.execute(f"SELECT string_agg(t::text, '') FROM {table} t")  # noqa: S608 # names from above
            held = cursor.fetchone()[0]
            for secret in ("1032456789", PASSWORD):
                assert secret not in held
                assert secret.encode().hex() not in held
    assert PASSWORD not in repr(given)
    assert "1032456789" not in repr(given)
    assert IdentityCard.objects.get().number == "1032456789"


# Hidden


def test_hidden_answer_is_the_same_for_a_new_and_a_taken_address(settings: Any) -> None:
    settings.REGISTRATION_HIDE_EXISTING = True
    BuyerFactory.create(email="old@example.com")

    assert registration.register(form("old@example.com"), by=STRANGER) is None
    assert registration.register(form("new@example.com"), by=STRANGER) is None

    assert templates() == ["already_registered", "welcome"]
    assert User.objects.filter(email="new@example.com").exists()
    for email in ("old@example.com", "new@example.com"):
        with pytest.raises(lockout.LockedOut):
            registration.register(form(email), by=STRANGER)
    assert len(templates()) == 2, "nobody is flooded"


# What it is for


def test_buyer_gets_an_account_and_a_welcome() -> None:
    with translation.override("en"):
        user = registration.register(form("Ana@Example.com", person={"nombre": "Ana"}), by=STRANGER)

    assert user is not None
    stored = User.objects.get()
    assert (stored.email, stored.email_key) == ("Ana@Example.com", "ana@example.com")
    assert (stored.user_type, stored.nombre, stored.language) == ("BUYER", "Ana", "en")
    assert (stored.is_active, stored.account_verified, stored.email_verified) == (True, False, False)
    assert stored.security_clearance_level == 3
    assert stored.check_password(PASSWORD)
    assert templates() == ["welcome"]
    assert AuditEvent.objects.get(type=events.USER_REGISTERED).target_id == str(stored.pk)


@pytest.mark.parametrize(("automatic", "status"), [(False, "pending_approval"), (True, "approved")])
def test_vendor_waits_for_approval_unless_the_setting_says_otherwise(
    settings: Any, automatic: bool, status: str
) -> None:
    settings.VENDOR_AUTO_APPROVE = automatic
    shop = Shop("Tienda", "Cali", "empresa", "hogar", terms_accepted=True)

    registration.register(form(role=Role.VENDOR, shop=shop), by=STRANGER)

    profile = VendorProfile.objects.get()
    assert (profile.vendor_status, profile.business_name, profile.city) == (status, "Tienda", "Cali")
    assert (profile.business_type, profile.primary_category) == ("empresa", "hogar")
    assert isinstance(profile.terms_accepted_at, dt.datetime)
