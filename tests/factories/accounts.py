"""Accounts for tests. `PASSWORD` opens every one of them; its hash is made once per run."""

from __future__ import annotations

import base64
import secrets
from functools import cache
from typing import Any

from django.utils import timezone
from factory.declarations import LazyAttribute, LazyFunction, RelatedFactory, Sequence, SubFactory
from factory.django import DjangoModelFactory

from accounts import passwords, totp
from accounts.models import Grant, Permission, TotpDevice, User, VendorProfile
from accounts.roles import Role

PASSWORD = "correct horse battery staple"


@cache
def _password_hash() -> str:
    return passwords.hash_new(PASSWORD)


class UserFactory(DjangoModelFactory[User]):
    class Meta:
        model = User

    email = Sequence(lambda n: f"person{n}@example.com")
    email_key = LazyAttribute(lambda made: made.email.casefold())
    password = LazyFunction(_password_hash)
    password_changed_at = LazyFunction(timezone.now)
    user_type = str(Role.BUYER)
    nombre = "Ana"


class BuyerFactory(UserFactory):
    pass


class VendorFactory(UserFactory):
    class Meta:
        skip_postgeneration_save = True

    user_type = str(Role.VENDOR)
    profile = RelatedFactory("tests.factories.accounts.VendorProfileFactory", factory_related_name="user")


class AdminFactory(UserFactory):
    user_type = str(Role.ADMIN)
    security_clearance_level = 5


class SuperuserFactory(UserFactory):
    user_type = str(Role.SUPERUSER)
    security_clearance_level = 5


class VendorProfileFactory(DjangoModelFactory[VendorProfile]):
    class Meta:
        model = VendorProfile

    user = SubFactory(UserFactory, user_type=str(Role.VENDOR))
    vendor_status = VendorProfile.Status.APPROVED
    business_name = Sequence(lambda n: f"Tienda {n}")


class ImportedVendorFactory(DjangoModelFactory[User]):
    class Meta:
        model = User

    email = ""
    email_key = None
    password = "!imported"
    user_type = str(Role.VENDOR)
    source = "marketplace"
    external_reference = Sequence(lambda n: f"seller-{n}")


class MachineFactory(ImportedVendorFactory):
    user_type = str(Role.SYSTEM)
    source = "machine"
    external_reference = Sequence(lambda n: f"client-{n}")


class TotpDeviceFactory(DjangoModelFactory[TotpDevice]):
    class Meta:
        model = TotpDevice

    user = SubFactory(AdminFactory)
    name = "phone"
    secret = LazyFunction(lambda: base64.b32encode(secrets.token_bytes(20)).decode())
    confirmed = True
    confirmed_at = LazyFunction(timezone.now)


def grant(user: User, *names: str, **values: Any) -> list[Grant]:
    """Give `user` permissions, without asking anybody."""
    return [
        Grant.objects.create(
            user=user,
            permission=Permission.objects.get(name=name),
            granted_by_label="test",
            reason="needed by the test",
            **values,
        )
        for name in names
    ]


def code_of(device: TotpDevice, *, steps: int = 0) -> str:
    """The code that `device` shows now, or `steps` time steps later."""
    return totp.code_at(device.secret, totp.current_step() + steps)
