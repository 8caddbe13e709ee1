"""Each transaction says who acts with its BEGIN, whatever its first statement is and however it is sent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from psycopg import IsolationLevel

from accounts.models import User
from mestore.lib import actor, sql
from monitoring import context

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

TOLD = "SELECT current_setting('mestore.ctx', true)"
# What a text between quotes could be broken by, and what a client's binding could take for a placeholder.
NAMES = [
    "job",
    "o'brien",
    'a "quoted" one',
    "back\\slash\\'",
    "100% %s %(a)s",
    "ñandú 中",
    "two\nlines",
    "{}; $$",
]


def _raw() -> Any:
    with connection.cursor() as cursor:
        cursor.execute(TOLD)
        return cursor.fetchone()[0]


def _chunked() -> Any:
    with connection.chunked_cursor() as cursor:
        cursor.execute(TOLD)
        return cursor.fetchone()[0]


def _prepared() -> Any:
    return (sql.fetch_one(TOLD, prepare=True) or (None,))[0]


def _model() -> Any:
    list(User.objects.all()[:1])
    return _raw()


def _in_savepoint() -> Any:
    with transaction.atomic():
        return _prepared()


def _streamed() -> Any:
    return next(sql.stream(TOLD))[0][0]


ROADS = [_raw, _chunked, _prepared, _model, _in_savepoint, _streamed]


@pytest.mark.parametrize("road", ROADS)
def test_the_first_statement_has_its_actor(road: Callable[[], Any]) -> None:
    by = actor.system("road")

    with context.acting(by), transaction.atomic():
        assert road() == context._text(by)


@pytest.mark.parametrize("name", NAMES)
def test_the_actor_arrives_whatever_the_name_holds(name: str) -> None:
    by = actor.system(name)

    with context.acting(by), transaction.atomic():
        assert _prepared() == context._text(by)


@pytest.mark.parametrize("road", ROADS)
def test_with_an_isolation_level_too(road: Callable[[], Any]) -> None:
    by = actor.system("isolated")
    connection.ensure_connection()
    raw: Any = connection.connection
    raw.isolation_level = IsolationLevel.REPEATABLE_READ
    try:
        with context.acting(by), transaction.atomic():
            assert road() == context._text(by)
            assert sql.fetch_one("SHOW transaction_isolation") == ("repeatable read",)
    finally:
        raw.isolation_level = None


@pytest.mark.parametrize("ends", ["commits", "rolls back", "fails"])
def test_nothing_of_it_is_left_afterwards_and_autocommit_is_on_again(ends: str) -> None:
    def work() -> None:
        with context.acting(actor.system(ends)), transaction.atomic():
            _prepared()
            transaction.set_rollback(ends == "rolls back")
            if ends == "fails":
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) if ends == "fails" else nullcontext():
        work()

    assert not _prepared()
    assert connection.connection.autocommit
    assert connection.get_autocommit()


def test_a_dead_connection_says_so_and_the_next_one_works(superuser_dsn: str) -> None:
    connection.ensure_connection()
    with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
        superuser.execute("SELECT pg_terminate_backend(%s, 60000)", [connection.connection.info.backend_pid])

    with pytest.raises(OperationalError):
        _begin_and_ask()
    connections[DEFAULT_DB_ALIAS].close()
    assert _begin_and_ask()


def test_the_log_has_begin_statement_and_commit() -> None:
    with CaptureQueriesContext(connection) as log, transaction.atomic():
        _prepared()

    assert [entry["sql"] for entry in log] == ["BEGIN", TOLD, "COMMIT"]


def _begin_and_ask() -> Any:
    with transaction.atomic():
        return _prepared()
