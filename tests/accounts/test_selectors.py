from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from accounts import lockout, selectors
from accounts.selectors import RoleCount
from tests.factories.accounts import AdminFactory, BuyerFactory, TotpDeviceFactory, grant

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


def test_roles_are_counted_with_their_factors_in_one_statement(django_assert_num_queries: Any) -> None:
    BuyerFactory.create(is_active=False)
    BuyerFactory.create(is_active=False, deleted_at=timezone.now())
    protected = AdminFactory.create()
    TotpDeviceFactory.create_batch(2, user=protected)
    TotpDeviceFactory.create(user=AdminFactory.create(), confirmed=False)

    with django_assert_num_queries(1):
        counts = selectors.by_role()

    assert counts == [
        RoleCount("BUYER", 1, 0, 0),
        RoleCount("VENDOR", 0, 0, 0),
        RoleCount("ADMIN", 2, 2, 1),
        RoleCount("SUPERUSER", 0, 0, 0),
        RoleCount("SYSTEM", 0, 0, 0),
    ]
    assert [count.coverage for count in counts] == [None, None, 0.5, None, None]


def test_staff_without_a_factor_is_named() -> None:
    bare = AdminFactory.create()
    AdminFactory.create(is_active=False)
    BuyerFactory.create()
    protected = TotpDeviceFactory.create().user

    assert list(selectors.staff_without_factor()) == [bare]
    assert not selectors.has_factor(bare)
    assert selectors.has_factor(protected)


def test_open_grants_leave_out_ended_ones() -> None:
    user = AdminFactory.create()
    (given,) = grant(user, "users.create.global")
    grant(user, "users.update.global", revoked_at=timezone.now())

    assert list(selectors.open_grants()) == [given]


def test_locked_counters_are_those_that_refuse_now() -> None:
    attempt = lockout.attempt(lockout.LOGIN, account="a", address=None)
    for _ in range(4):
        lockout.charge(attempt)
    assert not selectors.locked_now().using("audit").exists()

    lockout.charge(attempt)

    assert selectors.locked_now().using("audit").count() == 1
