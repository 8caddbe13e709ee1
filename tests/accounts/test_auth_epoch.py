"""What ends every session of an account, whatever wrote the row."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.db.models import F
from django.utils import timezone

from accounts.models import User
from tests.factories.accounts import BuyerFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


def _epoch(user: User) -> int:
    return User.objects.values_list("auth_epoch", flat=True).get(pk=user.pk)


@pytest.mark.parametrize(
    "values",
    [
        {"password": "!other"},
        {"password_changed_at": timezone.now()},
        {"user_type": "VENDOR"},
        {"is_active": False},
        {"is_active": False, "deleted_at": timezone.now()},
        {"security_clearance_level": 1},
        {"password": "!other", "password_changed_at": timezone.now(), "password_rehashed_at": timezone.now()},
        {"is_active": False, "password": "!other", "password_rehashed_at": timezone.now()},
    ],
)
def test_change_of_who_may_sign_in_moves_the_epoch(values: dict[str, Any]) -> None:
    user = BuyerFactory.create()

    User.objects.filter(pk=user.pk).update(**values)

    assert _epoch(user) == user.auth_epoch + 1


@pytest.mark.parametrize(
    "values",
    [
        {"nombre": "Otra"},
        {"last_login": timezone.now()},
        {"password": "!the same password hashed anew", "password_rehashed_at": timezone.now()},
    ],
)
def test_other_changes_sign_nobody_out(values: dict[str, Any]) -> None:
    user = BuyerFactory.create()

    User.objects.filter(pk=user.pk).update(**values)

    assert _epoch(user) == user.auth_epoch


def test_save_of_a_stale_copy_does_not_bring_a_dead_epoch_back() -> None:
    user = BuyerFactory.create()
    User.objects.filter(pk=user.pk).update(auth_epoch=F("auth_epoch") + 5)

    user.nombre = "Stale"
    user.save()

    assert _epoch(user) == user.auth_epoch + 5


def test_new_password_through_the_model_moves_the_epoch() -> None:
    user = BuyerFactory.create()

    user.set_password("another long password")
    user.save()

    assert _epoch(user) == user.auth_epoch + 1


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_replica_mode_moves_it_too(superuser_dsn: str) -> None:
    user = BuyerFactory.create()

    with psycopg.connect(superuser_dsn) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE accounts_user SET is_active = false WHERE id = %s", [user.pk])

    assert _epoch(user) == user.auth_epoch + 1
