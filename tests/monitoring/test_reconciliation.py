"""Rows that came, went or changed while a trigger was off are found, though everything is as it was."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from accounts.models import User
from mestore.lib import actor
from monitoring import row_reconciliation
from monitoring.models import AuditEvent, Signal
from monitoring.row_reconciliation import Result
from tests.factories.accounts import UserFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

BY = actor.system("test")


def reconcile() -> Result:
    return row_reconciliation.reconcile(by=BY)


def untold(dsn: str, table: str, *statements: str) -> None:
    """As a superuser, with the table's triggers off for a moment."""
    with psycopg.connect(dsn) as superuser:
        for statement in (
            f"ALTER TABLE {table} DISABLE TRIGGER USER", *statements, f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER USER",
        ):  # fmt: skip
            superuser.execute(statement.encode())


def test_first() -> None:
    UserFactory.create_batch(3)
    r = reconcile()
    print(r)
    UserFactory.create_batch(3)
    User.objects.all().update(language="en")
    print(reconcile())
    assert 0
