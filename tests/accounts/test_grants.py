from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from accounts import grants, roles
from accounts.backends import GrantBackend
from accounts.conditions import Access
from accounts.models import Grant, Permission, User
from tests.factories.accounts import (
    AdminFactory,
    BuyerFactory,
    MachineFactory,
    SuperuserFactory,
    VendorFactory,
    grant,
)

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

SOON = dt.timedelta(minutes=5)


@pytest.fixture(autouse=True)
def _register() -> Iterator[None]:
    before = dict(grants._model_permissions)
    grants.register_model_permission(
        "accounts.user", view="users.read.read_only", change="users.update.global"
    )
    grants.register_model_permission("Finance.Order", view="orders.read.read_only")
    yield
    grants._model_permissions.clear()
    grants._model_permissions.update(before)


@pytest.mark.parametrize("make", [BuyerFactory, VendorFactory, MachineFactory])
def test_nobody_outside_the_staff_holds_anything_by_role(make: Any) -> None:
    user = make.create()

    assert grants.effective(user) == frozenset()
    assert not user.has_perm("users.read.read_only")
    assert not user.has_module_perms("accounts")


@pytest.mark.parametrize(
    "name",
    [
        "users.create.global",
        "audit_logs.read.read_only",
        "users.manage.system",
        "permissions.grant.global",
        "users.read.global",
        "accounts.change_user",
        "accounts.delete_user",
        "accounts.view_totpdevice",
        "auth.view_group",
        "accounts",
        "",
        "users.read",
    ],
)
def test_administrator_without_grants_cannot(name: str) -> None:
    assert not AdminFactory.create().has_perm(name)


def test_superuser_needs_grants_like_everybody_else() -> None:
    user = SuperuserFactory.create()

    assert not user.has_perm("users.create.global")
    assert user.has_perm("audit_logs.read.read_only")


def test_staff_may_view() -> None:
    user = AdminFactory.create()

    assert user.has_perm("users.read.read_only")
    assert user.has_perm("accounts.view_user")
    assert user.has_perm("finance.view_order")
    assert user.has_module_perms("accounts")
    assert not user.has_module_perms("axes")


def test_grant_opens_exactly_what_it_names() -> None:
    user = AdminFactory.create()
    grant(user, "users.update.global")

    assert user.has_perms(["users.update.global", "accounts.change_user", "accounts.view_user"])
    assert not user.has_perm("users.create.global")
    assert not user.has_perms(["users.update.global", "users.create.global"])


def test_grant_about_one_object_is_not_answered_here() -> None:
    user = AdminFactory.create()

    assert not user.has_perm("users.read.read_only", user)
    assert user.get_all_permissions(user) == set()


def test_expired_grant_does_not_count() -> None:
    user = AdminFactory.create()
    past = timezone.now() - SOON
    grant(user, "users.create.global", granted_at=past - SOON, expires_at=past)

    assert not user.has_perm("users.create.global")


def test_grant_counts_until_its_end() -> None:
    user = AdminFactory.create()
    (given,) = grant(user, "users.create.global", expires_at=timezone.now() + SOON)

    assert user.has_perm("users.create.global")
    assert given.is_active
    assert str(given.pk) in str(given)


def test_revoked_grant_does_not_count() -> None:
    user = AdminFactory.create()
    (given,) = grant(user, "users.create.global", revoked_at=timezone.now())

    assert not user.has_perm("users.create.global")
    assert not given.is_active


def test_lowered_clearance_takes_the_effect_away() -> None:
    user = AdminFactory.create(security_clearance_level=3)
    grant(user, "users.create.global")

    assert not user.has_perm("users.create.global")


def test_grant_of_somebody_else_does_not_count() -> None:
    user = AdminFactory.create()
    grant(AdminFactory.create(), "users.create.global")

    assert not user.has_perm("users.create.global")


@pytest.mark.parametrize("values", [{"is_active": False}, {"is_active": False, "deleted_at": timezone.now()}])
def test_closed_account_holds_nothing(values: dict[str, Any]) -> None:
    user = SuperuserFactory.create(**values)
    grant(user, "users.create.global")

    assert grants.effective(user) == frozenset()


def test_one_statement_per_request(django_assert_num_queries: Any) -> None:
    user = AdminFactory.create()
    grant(user, "users.create.global", "users.update.global")

    with django_assert_num_queries(1):
        assert user.has_perm("users.create.global")
        assert user.has_perm("accounts.change_user")
        assert user.has_module_perms("accounts")
        assert user.get_all_permissions()


def test_next_request_sees_the_change() -> None:
    user = AdminFactory.create()
    assert not user.has_perm("users.create.global")

    grant(user, "users.create.global")

    assert not user.has_perm("users.create.global")
    assert User.objects.get(pk=user.pk).has_perm("users.create.global")
    user.refresh_from_db()
    assert user.has_perm("users.create.global")


def test_model_cannot_be_opened_by_an_unknown_permission() -> None:
    with pytest.raises(roles.UnknownPermissionError):
        grants.register_model_permission("accounts.user", view="accounts.view_user")


def test_one_open_grant_per_permission() -> None:
    user = AdminFactory.create()
    grant(user, "users.create.global")

    with pytest.raises(IntegrityError), transaction.atomic():
        grant(user, "users.create.global")


def test_backend_answers_from_grants_and_signs_nobody_in() -> None:
    backend, user = GrantBackend(), AdminFactory.create()
    stranger: Any = AnonymousUser()

    assert backend.authenticate(None, username=user.email, password="x") is None  # type: ignore[func-returns-value]
    assert backend.has_perm(user, "accounts.view_user")
    assert backend.has_module_perms(user, "accounts")
    assert "users.read.read_only" in backend.get_all_permissions(user)
    assert not backend.has_perm(stranger, "accounts.view_user")
    assert not backend.has_module_perms(stranger, "accounts")
    assert backend.get_all_permissions(stranger) == set()


def test_backend_loads_no_closed_account() -> None:
    closed = AdminFactory.create(is_active=False)
    user = AdminFactory.create()

    assert GrantBackend().get_user(closed.pk) is None
    assert GrantBackend().get_user(user.pk) == user


def test_contracts_nine_permissions_are_there() -> None:
    nine = {
        "users.create.global": (4, "HIGH", False),
        "users.manage.system": (5, "CRITICAL", True),
        "vendors.approve.global": (3, "MEDIUM", False),
        "vendors.manage.global": (4, "HIGH", False),
        "transactions.audit.global": (4, "HIGH", True),
        "commissions.manage.global": (4, "HIGH", False),
        "settings.configure.system": (5, "CRITICAL", True),
        "analytics.read.global": (3, "MEDIUM", False),
        "reports.export.global": (4, "HIGH", True),
    }

    found = Permission.objects.filter(name__in=nine)

    assert {row.name: (row.required_clearance, row.risk, row.requires_mfa) for row in found} == nine


def test_every_view_of_a_role_is_a_permission() -> None:
    names = set(Permission.objects.values_list("name", flat=True))

    assert roles.inherited("SUPERUSER") <= names
    assert str(Permission.objects.get(name="users.create.global")) == "users.create.global"


def test_name_is_bound_to_its_parts() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Permission.objects.filter(name="users.create.global").update(resource="ORDERS")


def test_grant_cannot_end_before_it_began() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        grant(AdminFactory.create(), "users.create.global", expires_at=timezone.now() - SOON)
    assert not Grant.objects.exists()


def test_lazy_account_of_a_request_is_judged_as_the_account_itself(django_assert_num_queries: Any) -> None:
    admin = AdminFactory.create()
    grants.see(admin, Access(limit=frozenset()))  # seen under an impersonation that allows nothing
    lazy: Any = SimpleLazyObject(lambda: admin)

    assert not grants.has_perm(lazy, "users.read.read_only")
    with django_assert_num_queries(0):
        assert not grants.has_perm(lazy, "vendors.read.read_only")

    grants.forget(lazy)
    assert not grants.has_perm(lazy, "users.read.read_only")
