"""The engine: what is measured at a checkout, and telling an empty pool from an absent server."""

from __future__ import annotations

import select
import threading
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, connections, transaction
from psycopg_pool import PoolTimeout, TooManyRequests

from monitoring.database import liveness
from monitoring.database.counting import count_statements
from monitoring.database.exhaustion import is_pool_exhausted
from monitoring.registry import REGISTRY

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])


def _value(name: str, alias: str = "default") -> float:
    return REGISTRY.get_sample_value(name, {"alias": alias}) or 0.0


def test_checkout_is_measured_once() -> None:
    connection.close()
    waits, checkouts = (
        _value("mestore_db_pool_wait_seconds_count"),
        _value("mestore_db_pool_checkout_seconds_count"),
    )

    connection.ensure_connection()
    connection.close()
    connection.close()

    assert _value("mestore_db_pool_wait_seconds_count") == waits + 1
    assert _value("mestore_db_pool_checkout_seconds_count") == checkouts + 1


def test_taking_from_the_pool_opens_nothing_new() -> None:
    connection.ensure_connection()
    connection.close()
    opened = _value("mestore_db_connections_opened_total")

    for _ in range(5):
        connection.ensure_connection()
        connection.close()

    assert _value("mestore_db_connections_opened_total") == opened


def test_connection_without_a_pool_is_counted_when_opened() -> None:
    owner = connections["owner"]
    owner.close()
    opened = _value("mestore_db_connections_opened_total", "owner")

    owner.ensure_connection()
    owner.close()

    assert _value("mestore_db_connections_opened_total", "owner") == opened + 1


def test_pool_that_ran_dry_is_recognised(settings: Any) -> None:
    connection.close()
    pool: Any = connection.pool  # type: ignore[attr-defined]  # not in the stubs
    size = pool.max_size
    held = [pool.getconn() for _ in range(size)]
    pool.timeout, patience = 0.05, pool.timeout
    dry = _value("mestore_db_pool_timeouts_total")
    try:
        with pytest.raises(OperationalError) as caught:
            connection.ensure_connection()
    finally:
        pool.timeout = patience
        for one in held:
            pool.putconn(one)

    assert is_pool_exhausted(caught.value)
    assert _value("mestore_db_pool_timeouts_total") == dry + 1


def test_pool_is_told_from_server() -> None:
    refused = OperationalError("connection refused")
    queue = OperationalError("too many")
    queue.__cause__ = TooManyRequests("x")

    assert not is_pool_exhausted(refused)
    assert is_pool_exhausted(PoolTimeout("x"))
    assert is_pool_exhausted(queue)


def test_statements_are_counted_without_begin_and_commit() -> None:
    with count_statements("default") as sent, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.execute("SELECT %s", [2])

    assert sent == ["SELECT 1", "SELECT %s"]


def test_statements_of_every_alias_are_counted() -> None:
    with count_statements() as sent:
        for alias in ("default", "audit"):
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT 1")

    assert len(sent) == 2


def test_statements_of_another_thread_are_not_ours() -> None:
    def elsewhere() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connections.close_all()

    with count_statements() as sent:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    assert sent == []


def test_connections_that_the_server_ended_are_replaced_before_use(superuser_dsn: str) -> None:
    connection.ensure_connection()
    connection.close()
    with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
        superuser.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'mestore'"
        )

    for _ in range(10):  # more than the pool holds
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
        connection.close()


def test_checking_a_live_connection_asks_the_server_nothing(superuser_dsn: str) -> None:
    with psycopg.connect(superuser_dsn) as alive:
        alive.execute("SELECT 1")
        asked: list[str] = []
        alive.execute = lambda *args, **kwargs: asked.append("asked")  # type: ignore[method-assign, assignment]

        assert liveness.is_alive(alive)

    assert asked == []


def test_closed_connection_is_not_alive(superuser_dsn: str) -> None:
    closed = psycopg.connect(superuser_dsn)
    closed.close()

    assert not liveness.is_alive(closed)


def test_connection_that_got_mail_is_asked(superuser_dsn: str) -> None:
    with psycopg.connect(superuser_dsn, autocommit=True) as alive:
        alive.execute("LISTEN news")
        with psycopg.connect(superuser_dsn, autocommit=True) as other:
            other.execute("NOTIFY news")
        select.select([alive.fileno()], [], [], 5)

        assert liveness.is_alive(alive)
