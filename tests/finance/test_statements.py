"""Statements: numbers without gaps, periods that touch, CSV that streams, paper, and nobody else's."""

from __future__ import annotations

import csv
import datetime as dt
import io
import tracemalloc
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from finance import ledger, statements
from finance.models import StatementLine
from finance.postings import REFUND_CLEARING, VENDOR_AVAILABLE
from monitoring.models import AuditEvent
from tests.factories.accounts import AdminFactory, BuyerFactory, VendorFactory
from tests.factories.administration import Caller
from tests.finance.selling import fund, move

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit"])


@pytest.fixture
def vendor(transactional_db: None) -> User:
    return VendorFactory.create()


def address(vendor: User | UUID, what: str = "statement") -> str:
    return f"vendors/{getattr(vendor, 'pk', vendor)}/{what}"


def take(vendor: User, amount: int) -> None:
    move(vendor.pk, VENDOR_AVAILABLE, REFUND_CLEARING, amount, kind="refund")


# Not for others.


def test_another_vendor_is_told_that_there_is_nothing(vendor: User) -> None:
    fund(vendor.pk, 5)
    stranger = Caller(VendorFactory.create())

    for what in ("statement", "balance"):
        assert stranger.get(address(vendor, what)).status_code == 404


def test_buyers_and_strangers_are_refused(vendor: User) -> None:
    assert Caller(BuyerFactory.create()).get(address(vendor)).status_code == 403
    assert Client().get(f"/api/v1/{address(vendor)}").status_code == 401


def test_nobodys_statement_is_not_found(vendor: User) -> None:
    staff = Caller(AdminFactory.create())

    assert staff.get(address(uuid4())).status_code == 404
    assert staff.get(address(BuyerFactory.create(), "balance")).status_code == 404


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("from", "yesterday"), ("to", "2026-13-01"), ("currency", "XXX"), ("limit", "0"), ("limit", "501"),
        ("cursor", "-1"), ("cursor", "x"), ("format", "pdf"), ("from", "9999-12-31"), ("from", "0001-01-01"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(vendor: User, name: str, value: str) -> None:
    answer = Caller(vendor).get(address(vendor), **{name: value})

    if answer.status_code == 200:  # a day at the edge of the calendar is still a day
        assert value[:4] in {"9999", "0001"}
        return
    assert answer.status_code == 422
    assert answer.json()["details"][0]["field"] == f"query -> {name}"


def test_a_period_that_ends_before_it_begins_is_refused(vendor: User) -> None:
    answer = Caller(vendor).get(address(vendor), **{"from": "2026-02-01", "to": "2026-01-01"})

    assert answer.status_code == 422
    assert answer.json()["details"][0]["field"] == "query -> to"


# What it says.


def test_a_vendor_without_movements_has_a_statement_of_zeros(vendor: User) -> None:
    told = Caller(vendor).get(address(vendor)).json()

    assert (told["opening_balance"], told["closing_balance"], told["line_count"]) == ("0.00", "0.00", 0)
    assert told["results"] == []
    assert told["next"] is None


def test_lines_have_numbers_and_the_balance_after_each(vendor: User) -> None:
    fund(vendor.pk, 10_000)
    take(vendor, 2_500)
    fund(vendor.pk, 1)

    told = Caller(vendor).get(address(vendor)).json()

    assert [(line["number"], line["amount"], line["balance"]) for line in told["results"]] == [
        (1, "100.00", "100.00"), (2, "-25.00", "75.00"), (3, "0.01", "75.01"),
    ]  # fmt: skip
    assert told["results"][1]["kind"] == "refund"
    assert (told["credits"], told["debits"], told["closing_balance"]) == ("100.01", "25.00", "75.01")
    assert (told["first_number"], told["last_number"], told["line_count"]) == (1, 3, 3)


def test_pages_follow_each_other(vendor: User) -> None:
    for amount in range(1, 6):
        fund(vendor.pk, amount)
    caller, seen = Caller(vendor), list[int]()
    cursor: str | None = "0"

    while cursor is not None:
        told = caller.get(address(vendor), limit=2, cursor=cursor).json()
        seen += [line["number"] for line in told["results"]]
        cursor = told["next"]

    assert seen == [1, 2, 3, 4, 5]


def test_totals_of_a_period_are_added_up_once(vendor: User) -> None:
    """A later page adds what was posted since; the totals are always those of all that there is."""
    for amount in range(1, 8):
        fund(vendor.pk, amount)
    take(vendor, 3)
    caller = Caller(vendor)
    first = caller.get(address(vendor), limit=3).json()
    with CaptureQueriesContext(connection) as second_queries:
        second = caller.get(address(vendor), limit=3, cursor=first["next"]).json()
    fund(vendor.pk, 1_000)
    take(vendor, 10)
    third = caller.get(address(vendor), limit=9, cursor=second["next"]).json()

    assert not [query for query in second_queries if "FILTER (WHERE s.amount" in query["sql"]]
    names = ("credits", "debits", "line_count", "closing_balance")
    assert [first[name] for name in names] == ["0.28", "0.03", 8, "0.25"]
    assert [second[name] for name in names] == ["0.28", "0.03", 8, "0.25"]
    assert [third[name] for name in names] == ["10.28", "0.13", 10, "10.15"]
    assert [row["number"] for page in (first, second, third) for row in page["results"]] == list(range(1, 11))


def test_cursor_of_another_period_or_statement_brings_no_totals_with_it(vendor: User) -> None:
    for amount in (100, 200, 300):
        fund(vendor.pk, amount)
        fund(vendor.pk, 7, currency="USD")
    caller, since = Caller(vendor), StatementLine.objects.get(book_id=vendor.pk, currency="COP", seq=2)
    following = caller.get(address(vendor), limit=1).json()["next"]
    dollars = caller.get(address(vendor), currency="USD", cursor=following).json()
    later = caller.get(address(vendor), cursor=following, **{"from": since.recorded_at.isoformat()}).json()

    assert (dollars["credits"], dollars["debits"], dollars["line_count"]) == ("0.21", "0.00", 3)
    assert (later["credits"], later["debits"], later["line_count"]) == ("5.00", "0.00", 2)


@pytest.mark.parametrize(
    "change", [lambda text: text.replace(".", ".9", 1), lambda text: text[:-1], str.upper]
)
def test_cursor_that_was_changed_is_refused(vendor: User, change: Any) -> None:
    fund(vendor.pk, 1)
    fund(vendor.pk, 2)
    caller = Caller(vendor)
    given = caller.get(address(vendor), limit=1).json()["next"]
    answer = caller.get(address(vendor), limit=1, cursor=change(given))

    assert answer.status_code == 422
    assert answer.json()["details"][0]["field"] == "query -> cursor"


def test_each_currency_is_a_statement_of_its_own(vendor: User) -> None:
    fund(vendor.pk, 100)
    fund(vendor.pk, 7, currency="USD")
    caller = Caller(vendor)

    assert caller.get(address(vendor)).json()["currency"] == "COP"
    told = caller.get(address(vendor), currency="USD").json()
    assert (told["closing_balance"], told["currencies"]) == ("0.07", ["COP", "USD"])


def test_the_only_currency_is_the_one_that_is_meant(vendor: User) -> None:
    fund(vendor.pk, 700, currency="JPY")

    told = Caller(vendor).get(address(vendor)).json()

    assert (told["currency"], told["closing_balance"]) == ("JPY", "700")


@pytest.fixture
def three_days(vendor: User, superuser_dsn: str) -> list[dt.datetime]:
    """Four movements whose moments of recording are not in the order of their numbers."""
    days = [dt.datetime(2026, 3, day, 12, tzinfo=dt.UTC) for day in (1, 3, 2, 4)]
    for _day in days:
        fund(vendor.pk, 100)
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute(
            "ALTER TABLE ledger_statement_line DISABLE TRIGGER ledger_statement_line_append_only"
        )
        for number, day in enumerate(days, 1):
            connection.execute(
                "UPDATE ledger_statement_line SET recorded_at = %s WHERE book_id = %s AND seq = %s",
                [day, vendor.pk, number],
            )
        connection.execute(
            "ALTER TABLE ledger_statement_line ENABLE ALWAYS TRIGGER ledger_statement_line_append_only"
        )
    return days


@pytest.mark.parametrize("cut", [dt.datetime(2026, 3, day, tzinfo=dt.UTC) for day in (1, 2, 3, 4, 5)])
def test_periods_that_touch_share_nothing_and_leave_nothing_out(
    vendor: User, three_days: list[dt.datetime], cut: dt.datetime
) -> None:
    before, after = statements.read(vendor.pk, until=cut), statements.read(vendor.pk, since=cut)

    assert before.closing == after.opening
    assert [line.number for part in (before, after) for line in statements.every_line(part)] == [1, 2, 3, 4]
    assert before.opening == 0
    assert after.closing == 400
    for part in (before, after):
        assert part.opening + part.credits - part.debits == part.closing


def test_a_day_counts_to_its_end_in_bogota(vendor: User, three_days: list[dt.datetime]) -> None:
    told = Caller(vendor).get(address(vendor), **{"from": "2026-03-04", "to": "2026-03-04"}).json()

    assert [line["number"] for line in told["results"]] == [4]
    assert told["to"] == "2026-03-05T05:00:00Z"


# As CSV.


def read_csv(answer: Any) -> list[dict[str, str]]:
    body = b"".join(answer.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(body)))


@pytest.mark.parametrize("how", ["parameter", "header"])
def test_csv_holds_every_line_between_opening_and_closing(vendor: User, how: str) -> None:
    fund(vendor.pk, 10_000)
    take(vendor, 2_500)
    caller = Caller(vendor)
    if how == "header":
        caller.headers["Accept"] = "text/csv"

    answer = caller.get(address(vendor), **({"format": "csv"} if how == "parameter" else {}))

    rows = read_csv(answer)
    assert answer["Content-Type"].startswith("text/csv")
    assert answer["Content-Disposition"].endswith('-COP-1-2.csv"')
    assert [row["kind"] for row in rows] == ["opening", "test", "refund", "closing"]
    assert [(row["credit"], row["debit"], row["balance"]) for row in rows[1:3]] == [
        ("100.00", "", "100.00"), ("", "25.00", "75.00"),
    ]  # fmt: skip


def test_a_formula_in_a_reference_stays_text(vendor: User) -> None:
    fund(vendor.pk, 5, source='=HYPERLINK("http://x")')

    (_opening, row, _closing) = read_csv(Caller(vendor).get(address(vendor), format="csv"))

    assert row["reference"].startswith("'=")


def test_what_is_posted_while_it_is_read_is_not_in_it(vendor: User) -> None:
    fund(vendor.pk, 100)
    statement = statements.read(vendor.pk)
    fund(vendor.pk, 50)

    assert [line.number for line in statements.every_line(statement)] == [1]


MANY = 100_000


@pytest.fixture
def many_lines(vendor: User, superuser_dsn: str) -> User:
    """A hundred thousand movements, written without their triggers: only the reading is looked at."""
    fund(vendor.pk, 1)
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("ALTER TABLE ledger_entry DISABLE TRIGGER USER")
        connection.execute(
            """
            WITH made AS (
                INSERT INTO ledger_entry (book_id, id, kind, source_event, occurred_at, actor_kind,
                                          transfer_count, control_total, mac)
                SELECT %(book)s, gen_random_uuid(), 'settlement', 'many/' || n, now(), 'system', 1, 100,
                       decode(repeat('00', 32), 'hex')
                FROM generate_series(2, %(many)s) n RETURNING id, substr(source_event, 6)::bigint AS n)
            INSERT INTO ledger_statement_line (book_id, account_id, currency, seq, entry_id, occurred_at,
                                               recorded_at, amount, balance)
            SELECT %(book)s, (SELECT account_id FROM ledger_statement_line WHERE book_id = %(book)s), 'COP',
                   n, id, now(), now(), 100, (n - 1) * 100 + 1 FROM made
            """,
            {"book": vendor.pk, "many": MANY},
        )
        for name, state in connection.execute(
            "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'ledger_entry'::regclass"
            " AND NOT tgisinternal"
        ).fetchall():
            assert state == "D"
            connection.execute(f"ALTER TABLE ledger_entry ENABLE ALWAYS TRIGGER {name}")
        connection.execute("ANALYZE ledger_entry, ledger_statement_line")
    return vendor


def test_a_hundred_thousand_lines_stream_in_the_memory_of_a_page(many_lines: User) -> None:
    statement = statements.read(many_lines.pk)
    tracemalloc.start()

    rows = sum(1 for _row in statements.csv_rows(statement))
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert rows == MANY + 3  # heading, opening, closing
    assert (statement.lines, statement.closing) == (MANY, (MANY - 1) * 100 + 1)
    assert peak < 8 * 2**20


# On paper.


def test_the_page_for_paper_loads_nothing_but_its_style(vendor: User) -> None:
    fund(vendor.pk, 10_000)
    take(vendor, 2_500)
    caller = Caller(vendor)
    caller.headers["Accept"] = "text/html,application/xhtml+xml"
    caller.headers["Accept-Language"] = "en"

    answer = caller.get(address(vendor))

    page = answer.content.decode()
    assert answer["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert "<script" not in page
    assert "style=" not in page
    assert page.count("<link") == 1
    assert all(text in page for text in ("100.00", "25.00", "75.00", "Opening balance", "Closing balance"))


def test_a_vendors_name_cannot_become_markup(vendor: User) -> None:
    profile = vendor.vendor_profile
    profile.business_name = '<img src=x onerror="x">'
    profile.save(update_fields=["business_name"])

    page = Caller(vendor).get(address(vendor), format="html").content.decode()

    assert "<img" not in page
    assert "&lt;img" in page


def test_more_than_paper_holds_is_refused_with_the_way_out(
    vendor: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "MOST_PRINTED", 1)
    fund(vendor.pk, 1)
    fund(vendor.pk, 1)

    answer = Caller(vendor).get(address(vendor), format="html")

    assert answer.status_code == 422
    assert answer.json()["error_code"] == "STATEMENT_TOO_LONG"


def test_what_the_staff_takes_away_is_recorded_and_what_a_vendor_takes_is_not(vendor: User) -> None:
    fund(vendor.pk, 1)
    for caller in (Caller(vendor), Caller(AdminFactory.create())):
        assert caller.get(address(vendor), format="csv").status_code == 200
        assert caller.get(address(vendor)).status_code == 200

    assert AuditEvent.objects.filter(type="statement.taken", target_id=str(vendor.pk)).count() == 1


# Numbers under load.


def test_64_movements_at_once_leave_no_gap(vendor: User, race: Any) -> None:
    fund(vendor.pk, 1_000)

    def one(number: int) -> None:
        if number % 2:
            fund(vendor.pk, 10)
        else:
            take(vendor, 10)

    outcomes = race([lambda number=number: one(number) for number in range(64)])

    assert [outcome for outcome in outcomes if outcome is not None] == []
    lines = list(StatementLine.objects.filter(book_id=vendor.pk).order_by("seq"))
    assert [line.seq for line in lines] == list(range(1, 66))
    balance = 0
    for line in lines:
        balance += line.amount_minor
        assert line.balance_minor == balance >= 0
    assert ledger.available(vendor.pk, "COP").posted == 1_000


def test_made_at_is_now(vendor: User) -> None:
    told = Caller(vendor).get(address(vendor, "balance")).json()

    assert abs(dt.datetime.fromisoformat(told["read_at"]) - timezone.now()) < dt.timedelta(minutes=5)
