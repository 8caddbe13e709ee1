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
from tests.factories import accounts as people
from tests.harness import begin, cases, databases, unmeasured

COMMITTED = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])


def rows(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()  # noqa: S608
    return int(found[0]) if found else 0


@pytest.fixture(params=["few rows", "many rows", "servers from outside"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way in which the database is emptied."""
    if request.param == "many rows":
        monkeypatch.setattr(databases, "LARGE", 0)
    elif request.param == "servers from outside":
        monkeypatch.delenv(begin.SUPERUSER)


@COMMITTED
@pytest.mark.usefixtures("_way")
def test_cleaning_removes_append_only_rows_and_leaves_their_triggers_on(owner_dsn: str) -> None:
    audit.record_refusal(events.PERMISSION_DENIED, by=actor.system("test"))
    assert rows(owner_dsn, "audit_event") == 1

    databases.empty()

    assert rows(owner_dsn, "audit_event") == 0
    with psycopg.connect(owner_dsn) as owner, pytest.raises(psycopg.DatabaseError):
        owner.execute("TRUNCATE audit_event")
    audit.record_refusal(events.PERMISSION_DENIED, by=actor.system("test"))
    with psycopg.connect(owner_dsn) as owner, pytest.raises(psycopg.DatabaseError):
        owner.execute("DELETE FROM audit_event")


@COMMITTED
@pytest.mark.usefixtures("_way")
def test_cleaning_keeps_every_trigger_as_migrations_made_it(owner_dsn: str) -> None:
    triggers = """SELECT array_agg((tgrelid, tgname, tgenabled)::text ORDER BY tgrelid, tgname)::text,
        (SELECT array_agg(relname ORDER BY relname) FROM pg_class WHERE relhastriggers)::text
        FROM pg_trigger"""
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        before = owner.execute(triggers).fetchone()
        people.BuyerFactory.create()
        audit.record_refusal(events.PERMISSION_DENIED, by=actor.system("test"))

        databases.empty()

        assert owner.execute(triggers).fetchone() == before


@COMMITTED
def test_cleaning_reaches_what_is_added_later_in_any_order(superuser_dsn: str) -> None:
    with psycopg.connect(superuser_dsn, autocommit=True) as owner:
        owner.execute("""
            CREATE TABLE a_child (id int GENERATED ALWAYS AS IDENTITY, born date, parent int);
            CREATE TABLE a_family (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, born date NOT NULL);
            CREATE TABLE a_month (id int GENERATED ALWAYS AS IDENTITY, born date) PARTITION BY RANGE (born);
            CREATE TABLE a_month_1 PARTITION OF a_month FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
            ALTER TABLE a_child ADD FOREIGN KEY (parent) REFERENCES a_family;
            INSERT INTO a_family (born) VALUES ('2026-01-05'), ('2026-01-06');
            INSERT INTO a_child (parent) VALUES (1), (2);
            INSERT INTO a_month (born) VALUES ('2026-01-05')
        """)
        try:
            databases.empty()

            left = [rows(superuser_dsn, table) for table in ("a_family", "a_child", "a_month")]
            again = owner.execute("INSERT INTO a_month (born) VALUES ('2026-01-05') RETURNING id").fetchone()
        finally:
            owner.execute("DROP TABLE a_child, a_family, a_month")

    assert left == [0, 0, 0]
    assert again == (1,)


@COMMITTED
@pytest.mark.usefixtures("_way")
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


def test_all_cases_are_judged_and_each_that_fails_is_named() -> None:
    judged: list[int] = []

    def check(case: int) -> None:
        judged.append(case)
        assert case % 2, "even"

    with pytest.raises(ExceptionGroup, match="2 of 4 cases") as caught:
        cases.judge([1, 2, 3, 4], check)

    assert judged == [1, 2, 3, 4]
    assert [error.__notes__ for error in caught.value.exceptions] == [["case: 2"], ["case: 4"]]


def test_a_rule_without_cases_is_judged_by_nothing_and_fails() -> None:
    judged: list[int] = []

    with pytest.raises(AssertionError, match="no case"):
        cases.judge(list[int](), judged.append)


def test_a_process_that_is_not_measured_has_all_else_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", ":data:{}")
    monkeypatch.setenv("SOMETHING_ELSE", "1")

    found = unmeasured.environment()

    assert found == {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"}
    assert found["SOMETHING_ELSE"] == "1"
