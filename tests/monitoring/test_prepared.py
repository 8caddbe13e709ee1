"""Prepared statements: planned once, safe when the plan or the connection is another."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    connections,
    transaction,
)
from django.test.utils import CaptureQueriesContext
from psycopg.pq import TransactionStatus

from accounts.models import KnownDevice, Permission, User
from mestore.lib import sql
from monitoring.database.counting import count_statements
from tests.factories.accounts import BuyerFactory

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

BY_ID = "SELECT name, amount FROM prepared_thing WHERE id = %s"


def _run(statement: Any) -> None:
    sql.execute(statement, using="owner")


def _by_id(number: int = 1) -> Any:
    return sql.fetch_one(BY_ID, (number,), "owner", prepare=True)


def _prepared() -> dict[str, str]:
    """Name and text of what this connection has prepared."""
    return dict(sql.fetch_all("SELECT name, statement FROM pg_prepared_statements", using="owner"))


@pytest.fixture(autouse=True)
def thing() -> Iterator[None]:
    connections["owner"].close()
    _run("CREATE TABLE prepared_thing (id integer PRIMARY KEY, name varchar(8), amount integer)")
    _run("INSERT INTO prepared_thing VALUES (1, 'one', 10), (2, 'two', 20)")
    yield
    _run("DROP TABLE prepared_thing")
    connections["owner"].close()


def test_a_statement_is_planned_once_and_answers_for_every_parameter() -> None:
    assert [_by_id(1), _by_id(2), _by_id(3)] == [("one", 10), ("two", 20), None]

    assert [text for text in _prepared().values() if "prepared_thing" in text] == [
        "SELECT name, amount FROM prepared_thing WHERE id = $1"
    ]


def test_other_statements_are_not_prepared() -> None:
    for _ in range(7):
        sql.fetch_one(BY_ID, (1,), "owner")

    assert not _prepared()


def test_the_name_is_made_from_the_text() -> None:
    _by_id()
    first = set(_prepared())
    connections["owner"].close()
    sql.fetch_one("SELECT 1 FROM prepared_thing WHERE id = %s", (1,), "owner", prepare=True)
    _by_id()

    assert len(first) == 1
    assert first < set(_prepared())


def test_a_statement_that_fails_at_first_can_be_sent_again() -> None:
    def add(number: int) -> int:
        query = "INSERT INTO prepared_thing (id) VALUES (%s)"
        return sql.execute(query, (number,), "owner", prepare=True)

    with pytest.raises(IntegrityError):
        add(1)
    with transaction.atomic(using="owner"):
        with pytest.raises(IntegrityError), transaction.atomic(using="owner"):
            add(2)
        assert add(3) == 1
    assert add(4) == 1


def test_large_bytes_arrive_as_they_are() -> None:
    query = "SELECT decode(repeat('00ff', 5000), 'hex'), %s::text, NULL::bytea"

    assert sql.fetch_one(query, ("é",), "owner", binary=True) == (b"\x00\xff" * 5000, "é", None)
    assert sql.fetch_one(query, ("é",), "owner", prepare=True) == (b"\x00\xff" * 5000, "é", None)


def test_values_of_every_kind_arrive_as_with_other_statements() -> None:
    query = "SELECT %s::uuid, %s::bytea, %s::interval, %s::timestamptz, %s::text, %s::bigint, %s::text[]"
    values = (
        uuid4(), b"\x00\xff", dt.timedelta(days=1, microseconds=3), dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        "quote ' and % and \\", 2**40, ["a", "b,"],
    )  # fmt: skip

    plain, prepared = sql.fetch_one(query, values), sql.fetch_one(query, values, prepare=True)

    assert prepared == plain == values


def test_a_column_changed_by_somebody_else_is_read_again_on_the_next_call() -> None:
    _by_id()
    _somebody_else("ALTER TABLE prepared_thing ALTER name TYPE varchar(40)")

    assert _by_id() == ("one", 10)
    assert _by_id(2) == ("two", 20)


def test_inside_a_transaction_a_stale_plan_is_an_operational_error_and_gone_afterwards() -> None:
    _by_id()
    _somebody_else("ALTER TABLE prepared_thing ALTER name TYPE varchar(40)")

    with pytest.raises(OperationalError), transaction.atomic(using="owner"):
        _by_id()

    with transaction.atomic(using="owner"):
        assert _by_id() == ("one", 10)


def test_a_connection_that_never_saw_the_statement_still_answers() -> None:
    # What a pooler does that hands the session to another server connection.
    _by_id()
    raw: Any = connections["owner"].connection
    raw.pgconn.exec_(b"DEALLOCATE ALL")

    assert _by_id() == ("one", 10)


def test_a_name_that_is_taken_already_still_answers() -> None:
    _by_id()
    raw: Any = connections["owner"].connection
    raw._prepared._names.clear()

    assert _by_id() == ("one", 10)


def test_after_a_stale_plan_the_statement_is_prepared_anew() -> None:
    _by_id()
    _somebody_else("ALTER TABLE prepared_thing ALTER name TYPE varchar(40)")

    _by_id()
    assert not _prepared()
    _by_id()
    assert len(_prepared()) == 1


def test_values_of_other_types_have_a_plan_of_their_own() -> None:
    query = "SELECT pg_typeof(%s)::text"

    for _ in range(2):
        told = [sql.fetch_one(query, (value,), "owner", prepare=True) for value in (1, 2**40, True)]
        assert told == [("smallint",), ("bigint",), ("boolean",)]
    assert len(_prepared()) == 3


def test_a_percent_sign_is_what_it_is_with_and_without_parameters() -> None:
    for _ in range(2):
        assert sql.fetch_one("SELECT '100%'", None, "owner", prepare=True) == ("100%",)
        assert sql.fetch_one("SELECT '100%%' || %s::text", ("!",), "owner", prepare=True) == ("100%!",)
        assert sql.fetch_all("SELECT '%%' || %(a)s::text", {"a": "b"}, "owner", prepare=True) == [("%b",)]


def test_wrong_parameters_are_refused_and_the_statement_goes_on_working() -> None:
    for wrong in ((), (1, 2), {"id": 1}):
        with pytest.raises((ProgrammingError, TypeError)):
            sql.fetch_one(BY_ID, wrong, "owner", prepare=True)
        assert _by_id() == ("one", 10)


def test_many_statements_are_planned_and_the_oldest_forgotten() -> None:
    owner: Any = connections["owner"]
    owner.ensure_connection()
    owner.connection._prepared.prepared_max = 3

    for _ in range(2):
        for number in range(5):
            query: Any = f"SELECT {number}, %s::text"
            assert sql.fetch_one(query, ("x",), "owner", prepare=True) == (number, "x")
    assert len(_prepared()) == 3
    assert len(owner.connection._prepared._kept) == 3


def test_what_is_kept_of_a_statement_holds_neither_values_nor_rows() -> None:
    query = "SELECT repeat('x', 1000000), %s::text"
    assert sql.fetch_one(query, ("y",), "owner", prepare=True) == ("x" * 1000000, "y")
    raw: Any = connections["owner"].connection

    assert [(kept.pgresult, query.params) for kept, query in raw._prepared._kept.values()] == [(None, None)]


def test_fetching_from_a_statement_without_rows_is_refused() -> None:
    statement = "UPDATE prepared_thing SET amount = %s"

    with pytest.raises(ProgrammingError):
        sql.fetch_one(statement, (1,), "owner", prepare=True)
    with pytest.raises(ProgrammingError):
        sql.fetch_all(statement, (1,), "owner", prepare=True)


def test_a_broken_transaction_takes_no_prepared_statement() -> None:
    with transaction.atomic(using="owner"):
        with pytest.raises(ProgrammingError):
            sql.fetch_one("SELECT nothing FROM nowhere", None, "owner", prepare=True)
        with pytest.raises(DatabaseError, match="aborted"):
            _by_id()
        transaction.set_rollback(True, using="owner")
        with pytest.raises(transaction.TransactionManagementError):
            _by_id()
    assert _by_id() == ("one", 10)


def test_another_thread_may_not_send_on_this_connection() -> None:
    owner: Any = connections["owner"]
    _by_id()
    refused: list[BaseException] = []

    def send() -> None:
        try:
            owner.run_prepared(BY_ID, (1,), binary=False)
        except DatabaseError as error:
            refused.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    thread.join()

    assert len(refused) == 1
    assert "thread" in str(refused[0])


def test_an_ended_session_is_an_operational_error_with_its_reason() -> None:
    _by_id()
    raw: Any = connections["owner"].connection
    _somebody_else("SELECT pg_terminate_backend(%s, 60000)", raw.info.backend_pid)

    with pytest.raises(OperationalError):
        _by_id()
    connections["owner"].close()
    assert _by_id() == ("one", 10)


def test_a_statement_that_takes_too_long_is_cancelled_by_the_server() -> None:
    def sleep() -> None:
        with transaction.atomic(using="owner"):
            _run("SET LOCAL statement_timeout = '500ms'")
            sql.fetch_one("SELECT pg_sleep(%s)", (600.0,), "owner", prepare=True)

    with pytest.raises(OperationalError) as refused:
        sleep()

    assert getattr(refused.value.__cause__, "sqlstate", None) == "57014"
    assert _by_id() == ("one", 10)


def test_outside_of_autocommit_the_first_statement_begins_the_transaction() -> None:
    owner = connections["owner"]
    owner.ensure_connection()
    raw: Any = owner.connection
    raw.autocommit = False
    try:
        assert _by_id() == ("one", 10)
        assert raw.info.transaction_status == TransactionStatus.INTRANS
    finally:
        raw.rollback()
        raw.autocommit = True


def test_writing_tells_how_many_rows() -> None:
    statement = "UPDATE prepared_thing SET amount = amount + %s WHERE id <= %s"

    assert sql.execute(statement, (1, 2), "owner", prepare=True) == 2
    assert sql.execute(statement, (1, 0), "owner", prepare=True) == 0


def test_it_is_counted_and_refused_like_every_statement() -> None:
    with count_statements("owner") as sent:
        _by_id()
    assert sent == [BY_ID]
    with pytest.raises(ProgrammingError):
        sql.fetch_one("SELECT nothing FROM nowhere", None, "owner", prepare=True)
    assert _by_id() == ("one", 10)


def test_the_log_of_statements_has_its_text() -> None:
    _by_id()
    with CaptureQueriesContext(connections["owner"]) as log:
        _by_id()

    assert "prepared_thing" in log[0]["sql"]


def test_a_row_by_its_key_is_what_the_manager_returns() -> None:
    wanted = BuyerFactory.create()

    found = sql.get(KnownDevice, uuid4())
    assert found is None
    with count_statements("default") as sent:
        user = sql.get(User, wanted.pk)
    assert len(sent) == 1
    assert user is not None
    assert {f.attname: getattr(user, f.attname) for f in User._meta.concrete_fields} == {
        f.attname: getattr(wanted, f.attname) for f in User._meta.concrete_fields
    }
    assert not user._state.adding


def test_a_row_that_must_be_decoded_is_not_read_raw() -> None:
    with pytest.raises(TypeError):
        sql.get(Permission, uuid4())


def test_without_the_setting_nothing_is_prepared_and_everything_answers() -> None:
    owner = connections["owner"]
    owner.ensure_connection()
    raw: Any = owner.connection
    raw.prepare_threshold = None

    assert [_by_id(1), _by_id(2)] == [("one", 10), ("two", 20)]
    assert not _prepared()


def _somebody_else(statement: Any, *values: Any) -> None:
    with psycopg.connect(
        connections["owner"].connection.info.dsn, autocommit=True, password=_password()
    ) as c:
        c.execute(statement, values or None)


def _password() -> str:
    return str(connections["owner"].settings_dict["PASSWORD"])
