"""The test suite's own promises: what a test commits is gone afterwards, what migrations made stays."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import redis
from django.db import connection

from mestore.lib import actor
from monitoring import audit, events
from tests.harness import databases

COMMITTED = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])


def rows(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()  # noqa: S608
    return int(found[0]) if found else 0


@COMMITTED
def test_cleaning_removes_append_only_rows_and_leaves_their_triggers_on(owner_dsn: str) -> None:
    audit.record_refusal(events.PERMISSION_DENIED, by=actor.system("test"))
    assert rows(owner_dsn, "audit_event") == 1

    databases.empty()

    assert rows(owner_dsn, "audit_event") == 0
    with psycopg.connect(owner_dsn) as owner, pytest.raises(psycopg.DatabaseError):
        owner.execute("TRUNCATE audit_event")


@COMMITTED
def test_cleaning_puts_back_what_migrations_made(owner_dsn: str) -> None:
    before = rows(owner_dsn, "accounts_permission")
    with psycopg.connect(owner_dsn) as owner:
        owner.execute("DELETE FROM accounts_permission")

    databases.empty()

    assert rows(owner_dsn, "accounts_permission") == before > 0


@COMMITTED
def test_racing_threads_return_results_and_exceptions_in_order(
    race: Callable[..., list[Any]], app_dsn: str
) -> None:
    def role() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user")
            return str(cursor.fetchone()[0])

    def fail() -> str:
        raise LookupError

    first, second, third = race([role, fail, role])

    assert first == third
    assert isinstance(second, LookupError)
    assert app_dsn.startswith(f"postgresql://{first}:")


def test_a_key_in_redis_does_not_reach_the_next_test() -> None:
    client = redis.Redis.from_url(os.environ["REDIS_URL"])

    assert client.set("mestore:left-behind", 1, nx=True)


def test_a_key_of_the_test_before_is_gone() -> None:
    test_a_key_in_redis_does_not_reach_the_next_test()
