from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction
from hypothesis import given
from hypothesis import strategies as st

from accounts import users
from accounts.models import User
from accounts.roles import Role
from tests.factories.accounts import BuyerFactory, ImportedVendorFactory, MachineFactory

database = pytest.mark.django_db(databases=["default", "audit"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "ana",
        "@example.com",
        "ana@",
        "ana@@example.com",
        "ana@exa mple.com",
        "ana\n@example.com",
        "ana\x00@example.com",
        "ana@example.com\x00",
        "\ud800@example.com",
        "аna@example.com",  # the first letter is Cyrillic
        "a" * 250 + "@example.com",
        "a" * 5_000,
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(users.InvalidEmail):
        users.normalise_email(text)


@pytest.mark.parametrize("text", ["ANA@Example.COM", "  ana@example.com ", "Ana@EXAMPLE.com"])
def test_spellings_of_one_address_have_one_key(text: str) -> None:
    assert users.normalise_email(text) == "ana@example.com"


def test_full_width_letters_count_as_the_plain_ones() -> None:
    assert users.identifier("ａｎａ＠ｅｘａｍｐｌｅ．ｃｏｍ") == "ana@example.com"


@given(st.text())
def test_identifier_never_fails_and_is_stable(text: str) -> None:
    once = users.identifier(text)

    assert users.identifier(once) == once
    assert "\x00" not in once
    once.encode("utf-8")


@database
def test_address_is_found_in_any_spelling() -> None:
    user = BuyerFactory.create(email="Ana@example.com")

    assert User.objects.by_email(" ANA@EXAMPLE.com").pk == user.pk
    assert User.objects.get_by_natural_key("ana@example.com").pk == user.pk


@database
@pytest.mark.parametrize("text", ["nobody@example.com", "", "\x00", "\udfff"])
def test_unknown_text_finds_nobody(text: str) -> None:
    ImportedVendorFactory.create()

    with pytest.raises(User.DoesNotExist):
        User.objects.by_email(text)


@database
def test_one_address_belongs_to_one_account() -> None:
    BuyerFactory.create(email="ana@example.com")

    with pytest.raises(IntegrityError), transaction.atomic():
        BuyerFactory.create(email="ANA@example.com")


@database
@pytest.mark.parametrize(
    "values",
    [
        {"user_type": "ROOT"},
        {"security_clearance_level": 0},
        {"security_clearance_level": 6},
        {"telefono": "300 123"},
        {"telefono": "3001234567"},
        {"email": "", "email_key": None},
        {"email": ""},
        {"source": "marketplace"},
        {"external_reference": "x"},
    ],
)
def test_database_refuses_what_cannot_be(values: dict[str, object]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        BuyerFactory.create(**values)


@database
def test_deleted_account_cannot_stay_active() -> None:
    user = BuyerFactory.create()

    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.filter(pk=user.pk).update(deleted_at=user.created_at)


@database
def test_reference_of_a_source_is_unique_and_people_need_none() -> None:
    BuyerFactory.create_batch(2)
    ImportedVendorFactory.create(external_reference="s1")

    with pytest.raises(IntegrityError), transaction.atomic():
        ImportedVendorFactory.create(external_reference="s1")


@database
def test_account_without_address_is_known_by_its_source() -> None:
    user = User.objects.create_unaddressed(source="marketplace", external_reference="s9", role=Role.VENDOR)

    assert str(user) == "marketplace:s9"
    assert user.is_imported
    assert not user.has_usable_password()
    assert not user.may_sign_in


@database
def test_account_with_address_keeps_it_as_given() -> None:
    user = User.objects.create_account(
        email=" Ana@Example.com ",
        role=Role.BUYER,
        password_hash="!",
        fields={"nombre": "Ana", "apellido": "Paz"},
    )

    assert (user.email, user.email_key) == ("Ana@Example.com", "ana@example.com")
    assert (str(user), user.get_username()) == ("Ana@Example.com", "Ana@Example.com")
    assert (user.get_full_name(), user.get_short_name()) == ("Ana Paz", "Ana")
    assert not user.is_imported


@database
def test_nobody_is_superuser_of_the_framework() -> None:
    assert not BuyerFactory.build(user_type="SUPERUSER").is_superuser
    assert BuyerFactory.build(user_type="SUPERUSER").is_staff
    assert BuyerFactory.build(user_type="ADMIN").is_staff
    assert not BuyerFactory.build(user_type="VENDOR").is_staff
    assert not MachineFactory.build().is_staff


@database
def test_password_is_compared_and_set_through_the_hasher() -> None:
    user = BuyerFactory.create()

    user.set_password("another long password")
    user.save(update_fields=["password", "password_changed_at"])

    assert user.check_password("another long password")
    assert not user.check_password("wrong")
    assert not user.check_password(None)
    assert user.password.startswith("argon2id-peppered$")
