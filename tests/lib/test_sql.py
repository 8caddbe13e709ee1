"""Running constant SQL with parameters and quoted names."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import connections, transaction
from django.db.utils import ProgrammingError
from hypothesis import given
from hypothesis import strategies as st

from mestore.lib import sql

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


def test_a_name_is_quoted_whatever_it_holds() -> None:
    query = sql.compose("SELECT 1 AS {name}", name='a"; DROP TABLE x; --')

    assert query.as_string(None) == 'SELECT 1 AS "a""; DROP TABLE x; --"'
    assert sql.fetch_all(query) == [(1,)]


def test_a_qualified_name_is_quoted_part_by_part() -> None:
    query = sql.compose(
        "SELECT count(*) FROM {table} WHERE {column} = %s", table=("pg_catalog", "pg_class"), column="relname"
    )

    assert sql.fetch_one(query, ["pg_class"]) == (1,)
    with pytest.raises(ProgrammingError), transaction.atomic():
        sql.fetch_one(sql.compose("SELECT 1 FROM {table}", table="pg_catalog.pg_class"))


def test_a_value_is_a_parameter_and_never_text() -> None:
    assert sql.fetch_one("SELECT %s::text", ["'; DROP TABLE x; --"]) == ("'; DROP TABLE x; --",)
    assert sql.fetch_one("SELECT %(a)s::int + %(b)s", {"a": 1, "b": 2}) == (3,)


def test_a_percent_sign_needs_no_care_without_parameters() -> None:
    assert sql.fetch_one("SELECT 'x' LIKE '%'") == (True,)


@pytest.mark.parametrize("prepare", [False, True])
def test_an_array_arrives_as_psycopg_would_send_the_list(prepare: bool) -> None:
    texts = ["a", "", "null", "NULL", 'quote " and \\ and {a,b}', " é ", "line\nbreak", "%s", "'; --"]
    ids = [uuid4(), uuid4()]
    query = "SELECT %(texts)s::text[], %(ids)s::uuid[], %(numbers)s::bigint[], %(none)s::text[]"

    given = {"texts": sql.array(texts), "ids": sql.array(ids), "numbers": sql.array([0, -1, 2**62])}
    assert sql.fetch_one(query, {**given, "none": sql.array([])}, prepare=prepare) == (
        texts, ids, [0, -1, 2**62], [],
    )  # fmt: skip


def test_an_array_takes_no_nul() -> None:
    with pytest.raises(ValueError, match="NUL"):
        sql.array(["a\x00b"])


@given(st.lists(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), max_size=4))
def test_any_texts_come_back_from_an_array(texts: list[str]) -> None:
    assert sql.fetch_one("SELECT %s::text[]", (sql.array(texts),)) == (texts,)


def test_rows_come_as_tuples_and_none_when_there_is_none() -> None:
    assert sql.fetch_all("SELECT n, n * 2 FROM generate_series(1, 3) AS n") == [(1, 2), (2, 4), (3, 6)]
    assert sql.fetch_all("SELECT 1 WHERE false") == []
    assert sql.fetch_one("SELECT 1 WHERE false") is None


def test_execute_says_how_many_rows_it_touched() -> None:
    sql.execute("CREATE TEMPORARY TABLE numbers (n int)")
    assert sql.execute("INSERT INTO numbers SELECT generate_series(1, 5)") == 5
    assert sql.execute("UPDATE numbers SET n = 0 WHERE n > %s", [3]) == 2
    assert sql.execute(sql.compose("DELETE FROM {table}", table="numbers")) == 5


def test_the_alias_decides_on_which_connection_it_runs() -> None:
    processes = {
        sql.fetch_all("SELECT pg_backend_pid()", using=alias)[0][0] for alias in ("default", "audit")
    }

    assert len(processes) == 2


def test_a_composed_query_opens_the_connection_when_it_is_the_first() -> None:
    other = connections["audit"]
    other.ensure_connection()

    assert sql.fetch_one(sql.compose("SELECT 1 AS {n}", n="n"), using="audit") == (1,)


def test_a_stream_gives_batches_of_the_asked_size_in_order() -> None:
    batches = list(sql.stream("SELECT n FROM generate_series(1, %s) AS n", [5], batch_rows=2))

    assert batches == [[(1,), (2,)], [(3,), (4,)], [(5,)]]


def test_a_stream_asks_the_server_for_one_batch_at_a_time() -> None:
    sql.execute("CREATE TEMPORARY SEQUENCE reached")
    rows = sql.stream("SELECT nextval('reached') FROM generate_series(1, 1000)", batch_rows=10)
    next(rows)

    assert sql.fetch_one("SELECT last_value FROM reached") == (10,)
    rows.close()  # type: ignore[attr-defined]  # it is a generator


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_a_stream_outside_a_transaction_is_refused() -> None:
    with pytest.raises(transaction.TransactionManagementError):
        next(sql.stream("SELECT 1"))


def test_a_failing_statement_raises_djangos_error_with_the_drivers_behind_it() -> None:
    with pytest.raises(ProgrammingError) as caught, transaction.atomic():
        sql.execute("SELECT no_such_column")

    assert isinstance(caught.value.__cause__, psycopg.errors.UndefinedColumn)


def test_statements_are_seen_by_djangos_counting(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(3):
        sql.fetch_one(sql.compose("SELECT 1 AS {n}", n="n"))
        sql.fetch_all("SELECT %s::int", [1])
        sql.execute("SELECT 1")
