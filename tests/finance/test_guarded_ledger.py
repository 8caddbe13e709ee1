"""Reservations, guarded balances, reversals, closed periods: what the ledger itself refuses and keeps."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from finance import ledger, periods, transactions
from finance.ledger import AlreadyPosted, InsufficientFunds, OverReversed, PeriodClosed, ReservationEnded
from finance.models import GuardedBalance, LedgerEntry, StatementLine
from finance.postings import (
    PAYOUT_IN_TRANSIT,
    POST,
    PSP_CLEARING,
    REFUND_CLEARING,
    VENDOR_AVAILABLE,
    VENDOR_PENDING,
    VOID,
    Posting,
    Transfer,
)
from mestore.lib import ids, sql
from mestore.lib.errors import SecurityServiceFailure
from tests.finance.selling import BY, fund, move, reserve, resolve
from tests.harness import horizon

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])


@pytest.fixture
def book(transactional_db: None) -> UUID:
    return uuid4()


def free(book: UUID) -> int:
    return ledger.available(book, "COP").free


def state(book: UUID) -> tuple[int, int]:
    found = ledger.available(book, "COP")
    return found.posted, found.reserved


def put(*postings: Posting) -> None:
    with transaction.atomic():
        ledger.post_many(postings, by=BY)


def made(book: UUID, *transfers: Transfer, **values: Any) -> Posting:
    source = values.pop("source", f"test/{ids.uuid7()}")
    return Posting(book, ids.uuid7(), "test", values.pop("at", timezone.now()), source, transfers, **values)


# --- Reserve, post, void ----------------------------------------------------------------------------------


def test_more_than_there_is_cannot_be_reserved(book: UUID) -> None:
    fund(book, 100)

    with pytest.raises(InsufficientFunds):
        reserve(book, 101)

    assert state(book) == (100, 0)
    assert LedgerEntry.objects.count() == 1


def test_what_is_reserved_cannot_leave_another_way(book: UUID) -> None:
    fund(book, 100)
    reserve(book, 60)

    with pytest.raises(InsufficientFunds):
        move(book, VENDOR_AVAILABLE, REFUND_CLEARING, 41)

    move(book, VENDOR_AVAILABLE, REFUND_CLEARING, 40)
    assert state(book) == (60, 60)


def test_a_reservation_moves_nothing_until_it_is_posted(book: UUID) -> None:
    fund(book, 100)
    held = reserve(book, 60)
    assert state(book) == (100, 60)
    assert StatementLine.objects.filter(book_id=book).count() == 1

    resolve(book, held, 60)

    assert state(book) == (40, 0)
    assert StatementLine.objects.filter(book_id=book).count() == 2


def test_posting_less_frees_the_rest(book: UUID) -> None:
    fund(book, 100)
    held = reserve(book, 60)

    resolve(book, held, 25)

    assert state(book) == (75, 0)


def test_posting_more_than_was_reserved_is_refused(book: UUID) -> None:
    fund(book, 100)
    held = reserve(book, 60)

    with pytest.raises(ReservationEnded):
        resolve(book, held, 61)

    assert state(book) == (100, 60)


def test_void_gives_all_of_it_back(book: UUID) -> None:
    fund(book, 100)
    held = reserve(book, 60)

    resolve(book, held, 60, phase=VOID)

    assert state(book) == (100, 0)
    assert StatementLine.objects.filter(book_id=book).count() == 1


def test_void_of_a_part_is_refused(book: UUID) -> None:
    fund(book, 100)
    held = reserve(book, 60)

    with pytest.raises(ReservationEnded):
        resolve(book, held, 59, phase=VOID)

    assert state(book) == (100, 60)


@pytest.mark.parametrize("first", [POST, VOID])
@pytest.mark.parametrize("second", [POST, VOID])
def test_a_reservation_ends_once(book: UUID, first: str, second: str) -> None:
    fund(book, 100)
    held = reserve(book, 60)
    resolve(book, held, 60, phase=first)
    before = state(book)

    with pytest.raises(ReservationEnded):
        resolve(book, held, 60, phase=second)

    assert state(book) == before


def test_a_reservation_raced_by_its_ends_has_one(book: UUID, race: Any) -> None:
    fund(book, 100)
    held = reserve(book, 60)

    outcomes = race([partial(resolve, book, held, 60, phase=phase) for phase in (POST, VOID) * 8])

    assert sum(isinstance(outcome, Posting) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ReservationEnded) for outcome in outcomes) == 15
    assert state(book) in {(40, 0), (100, 0)}


def test_a_reservation_is_resolved_between_its_own_accounts_only(book: UUID) -> None:
    fund(book, 100)
    held = reserve(book, 60)
    others = Transfer(VENDOR_AVAILABLE, REFUND_CLEARING, "", "COP", 60, POST, held.entry_id)

    with pytest.raises(ReservationEnded):
        put(made(book, others))

    assert state(book) == (100, 60)


def test_a_reservation_of_another_book_cannot_be_resolved(book: UUID) -> None:
    other = uuid4()
    fund(book, 100)
    fund(other, 100)
    held = reserve(book, 60)

    with pytest.raises(ReservationEnded):
        resolve(other, held, 60)

    assert state(book) == (100, 60)
    assert state(other) == (100, 0)


def test_a_reservation_of_nothing_cannot_be_resolved(book: UUID) -> None:
    fund(book, 100)
    nothing = Transfer(VENDOR_AVAILABLE, PAYOUT_IN_TRANSIT, "", "COP", 60, POST, uuid4())

    with pytest.raises(ReservationEnded):
        put(made(book, nothing))


def test_fifty_reservations_of_one_balance_leave_one_winner(book: UUID, race: Any) -> None:
    fund(book, 100_000)

    outcomes = race([partial(reserve, book, 100_000)] * 50)

    assert sum(isinstance(outcome, Posting) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, InsufficientFunds) for outcome in outcomes) == 49
    assert free(book) == 0


# --- Guarded balances and statement numbers ----------------------------------------------------------------


def test_pending_money_is_not_guarded_and_has_no_line(book: UUID) -> None:
    move(book, PSP_CLEARING, VENDOR_PENDING, 100)

    assert not GuardedBalance.objects.filter(book_id=book).exists()
    assert not StatementLine.objects.filter(book_id=book).exists()


def test_an_entry_of_many_transfers_is_one_line_with_their_sum(book: UUID) -> None:
    put(
        made(
            book,
            Transfer(PSP_CLEARING, VENDOR_AVAILABLE, "p", "COP", 70),
            Transfer(VENDOR_AVAILABLE, REFUND_CLEARING, "", "COP", 20),
            Transfer(PSP_CLEARING, VENDOR_AVAILABLE, "q", "COP", 5),
        )
    )

    (line,) = StatementLine.objects.filter(book_id=book)
    assert (line.seq, line.amount_minor, line.balance_minor) == (1, 55, 55)


def test_what_nets_to_zero_has_no_line_and_takes_no_number(book: UUID) -> None:
    put(
        made(
            book,
            Transfer(PSP_CLEARING, VENDOR_AVAILABLE, "p", "COP", 20),
            Transfer(VENDOR_AVAILABLE, REFUND_CLEARING, "", "COP", 20),
        )
    )
    fund(book, 1)

    (line,) = StatementLine.objects.filter(book_id=book)
    assert (line.seq, line.balance_minor) == (1, 1)


def test_what_was_refused_leaves_no_gap(book: UUID) -> None:
    fund(book, 10)
    with pytest.raises(InsufficientFunds):
        move(book, VENDOR_AVAILABLE, REFUND_CLEARING, 11)
    fund(book, 1)

    assert list(StatementLine.objects.filter(book_id=book).values_list("seq", flat=True)) == [1, 2]


def test_parallel_movements_in_both_directions_over_few_books_end_without_deadlock(
    transactional_db: None, race: Any
) -> None:
    """64 workers, each moving in two books, half of them in the other order."""
    books = [uuid4() for _ in range(4)]
    for one in books:
        fund(one, 1_000)

    def work(number: int) -> None:
        first, second = books[number % 4], books[(number + 1 + number % 3) % 4]
        pair = [first, second] if number % 2 else [second, first]
        put(*(made(one, _step(number + at)) for at, one in enumerate(pair)))

    outcomes = race([partial(work, number) for number in range(64)])

    assert [outcome for outcome in outcomes if outcome is not None] == []
    for one in books:
        lines = list(StatementLine.objects.filter(book_id=one).order_by("seq"))
        assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
        assert lines[-1].balance_minor == state(one)[0] == sum(line.amount_minor for line in lines)
    assert set(ledger.currency_sums().values()) == {0}


def _step(number: int) -> Transfer:
    if number % 2:
        return Transfer(PSP_CLEARING, VENDOR_AVAILABLE, "p", "COP", 7)
    return Transfer(VENDOR_AVAILABLE, REFUND_CLEARING, "", "COP", 7)


# --- Reversals --------------------------------------------------------------------------------------------


def test_parts_are_taken_back_up_to_the_whole(book: UUID) -> None:
    original = move(book, PSP_CLEARING, VENDOR_PENDING, 100)
    back = partial(move, book, VENDOR_PENDING, REFUND_CLEARING, reverses=original.entry_id)
    back(60)
    back(40)

    with pytest.raises(OverReversed):
        back(1)


def test_one_part_too_large_is_refused(book: UUID) -> None:
    original = move(book, PSP_CLEARING, VENDOR_PENDING, 100)

    with pytest.raises(OverReversed):
        move(book, VENDOR_PENDING, REFUND_CLEARING, 101, reverses=original.entry_id)


def test_the_whole_is_taken_back_once_and_wholly(book: UUID) -> None:
    original = move(book, PSP_CLEARING, VENDOR_PENDING, 100)
    with pytest.raises(OverReversed):
        move(book, VENDOR_PENDING, PSP_CLEARING, 99, reverses=original.entry_id, whole=True)
    move(book, VENDOR_PENDING, PSP_CLEARING, 100, reverses=original.entry_id, whole=True)

    with pytest.raises(OverReversed):
        move(book, VENDOR_PENDING, PSP_CLEARING, 100, reverses=original.entry_id, whole=True)


def test_what_another_book_posted_cannot_be_taken_back(book: UUID) -> None:
    original = move(uuid4(), PSP_CLEARING, VENDOR_PENDING, 100)

    with pytest.raises(OverReversed):
        move(book, VENDOR_PENDING, PSP_CLEARING, 1, reverses=original.entry_id)


def test_nothing_is_taken_back_in_another_currency(book: UUID) -> None:
    original = move(book, PSP_CLEARING, VENDOR_PENDING, 100)

    with pytest.raises(OverReversed):
        move(book, VENDOR_PENDING, REFUND_CLEARING, 1, reverses=original.entry_id, currency="BRL")


def test_what_undid_something_is_not_undone_itself(book: UUID) -> None:
    """A sale, its refund, its failure: undoing that would let the sale be given back twice."""
    original = move(book, PSP_CLEARING, VENDOR_PENDING, 100)
    refund = move(book, VENDOR_PENDING, REFUND_CLEARING, 100, reverses=original.entry_id)
    failure = move(book, REFUND_CLEARING, VENDOR_PENDING, 100, reverses=refund.entry_id, whole=True)

    with pytest.raises(OverReversed):
        move(book, VENDOR_PENDING, REFUND_CLEARING, 100, reverses=failure.entry_id)
    move(book, VENDOR_PENDING, REFUND_CLEARING, 100, reverses=original.entry_id)
    with pytest.raises(OverReversed):
        move(book, VENDOR_PENDING, REFUND_CLEARING, 1, reverses=original.entry_id)


def sent(amount: Any, debit: Any = "psp_clearing", credit: Any = "vendor_pending", *more: Any) -> list[Any]:
    """One transfer as `ledger_post` takes it."""
    return [debit, credit, "p", "COP", amount, *more]


@pytest.mark.parametrize(
    "transfers",
    [
        [sent(-5)], [sent(0)], [sent(2**63)], [sent(2**63 - 1)] * 2, [sent("1e3")], [sent(1.5)], [sent(None)],
        [sent(5, "psp_clearing", None)], [sent(5, "psp_clearing", "psp_clearing")], [sent(5, "nobody")],
        [["psp_clearing", "vendor_pending", None, "COP", 5]],
        [["psp_clearing", "vendor_pending", "p", None, 5]],
        [["psp_clearing", "vendor_pending", "p", "cop", 5]],
        [[]], [{}], [], [None], "transfers", None,
        [sent(5, "vendor_available", "payout_in_transit", "post", None)],
        [sent(5, "vendor_available", "payout_in_transit", "void", str(UUID(int=0)))],
    ],
)  # fmt: skip
def test_what_is_no_posting_is_refused_whoever_sends_it(
    book: UUID, runtime: psycopg.Connection[Any], transfers: Any
) -> None:
    """Sent past our own code, as somebody would who got the runtime role: nothing of it stays."""
    with pytest.raises(psycopg.Error):
        runtime.execute(
            "SELECT ledger_post(%s, %s, 'test', now(), 'x', %s, decode(repeat('00', 32), 'hex'),"
            """ '{"kind":"system","id":"x","role":null,"session":null,"request":null}', NULL, NULL)""",
            [book, ids.uuid7(), json.dumps(transfers)],
        )
    assert ledger.balances(book) == []


def test_parallel_parts_never_exceed_the_whole(book: UUID, race: Any) -> None:
    original = move(book, PSP_CLEARING, VENDOR_PENDING, 100)
    back = partial(move, book, VENDOR_PENDING, REFUND_CLEARING, 30, reverses=original.entry_id)

    outcomes = race([back] * 16)

    assert sum(isinstance(outcome, Posting) for outcome in outcomes) == 3
    assert sum(isinstance(outcome, OverReversed) for outcome in outcomes) == 13


# --- Closed periods ---------------------------------------------------------------------------------------


def test_a_closed_period_takes_nothing_and_the_present_does(book: UUID) -> None:
    until = timezone.now() - dt.timedelta(days=1)
    periods.close(until, reason="end of the month", by=BY)

    with pytest.raises(PeriodClosed) as error:
        put(
            made(
                book, Transfer(PSP_CLEARING, VENDOR_PENDING, "p", "COP", 1), at=until - dt.timedelta(hours=1)
            )
        )

    assert (error.value.status, error.value.code) == (409, "PERIOD_CLOSED")
    put(made(book, Transfer(PSP_CLEARING, VENDOR_PENDING, "p", "COP", 1), at=until))
    assert LedgerEntry.objects.count() == 1


@pytest.mark.parametrize("days", [-1, 3, 2])
def test_a_close_in_the_future_or_before_the_last_one_is_refused(transactional_db: None, days: int) -> None:
    last = timezone.now() - dt.timedelta(days=2)
    periods.close(last, reason="end of the month", by=BY)
    until = last if days == 2 else timezone.now() - dt.timedelta(days=days)

    with pytest.raises(periods.CloseOutOfOrder):
        periods.close(until, reason="again", by=BY)

    assert periods.closed_until() == last


def test_nothing_lands_behind_a_close_that_races_with_twenty_postings(
    transactional_db: None, race: Any
) -> None:
    at = timezone.now() - dt.timedelta(days=2)

    def late() -> None:
        put(made(uuid4(), Transfer(PSP_CLEARING, VENDOR_PENDING, "p", "COP", 1), at=at))

    closing = partial(periods.close, at + dt.timedelta(days=1), reason="race", by=BY)
    outcomes = race([*([late] * 10), closing, *([late] * 10)])

    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert all(isinstance(outcome, PeriodClosed) for outcome in refused)
    assert LedgerEntry.objects.count() == 20 - len(refused)
    behind = sql.fetch_one(
        "SELECT count(*) FROM ledger_entry e JOIN ledger_period_close c ON e.occurred_at < c.closed_until"
        " AND e.recorded_at > c.closed_at"
    )
    assert behind == (0,)


def test_a_close_waits_for_a_posting_that_is_under_way(
    transactional_db: None, app_dsn: str, book: UUID
) -> None:
    """The posting's transaction is open when the close begins: the close cannot overtake it."""
    at = timezone.now() - dt.timedelta(days=2)
    with psycopg.connect(app_dsn) as other, transaction.atomic():
        ledger.post_many([made(book, Transfer(PSP_CLEARING, VENDOR_PENDING, "p", "COP", 1), at=at)], by=BY)
        other.execute("SET lock_timeout = '100ms'")

        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SELECT ledger_close_period(%s, 'me', 'test')", [at + dt.timedelta(days=1)])

    assert LedgerEntry.objects.count() == 1


# --- The same event, chance -------------------------------------------------------------------------------


def test_the_same_event_raced_posts_once(book: UUID, race: Any) -> None:
    outcomes = race([partial(fund, book, 10, source="payment/1")] * 20)

    assert sum(isinstance(outcome, Posting) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, AlreadyPosted) for outcome in outcomes) == 19
    assert free(book) == 10


def test_a_serialization_failure_is_tried_three_times_and_is_never_a_business_error(book: UUID) -> None:
    tries = []

    def unlucky() -> None:
        tries.append(1)
        ledger.post_many([made(book, Transfer(PSP_CLEARING, VENDOR_AVAILABLE, "p", "COP", 5))], by=BY)
        sql.execute("DO $$ BEGIN RAISE EXCEPTION 'chance' USING ERRCODE = '40001'; END $$")

    with pytest.raises(SecurityServiceFailure) as error:
        transactions.run(unlucky)

    assert (len(tries), error.value.status) == (3, 503)
    assert not LedgerEntry.objects.exists()


def test_after_one_serialization_failure_the_posting_stands(book: UUID) -> None:
    tries = []

    def unlucky_once() -> None:
        tries.append(1)
        ledger.post_many([made(book, Transfer(PSP_CLEARING, VENDOR_AVAILABLE, "p", "COP", 5))], by=BY)
        if len(tries) == 1:
            sql.execute("DO $$ BEGIN RAISE EXCEPTION 'chance' USING ERRCODE = '40P01'; END $$")

    transactions.run(unlucky_once)

    assert len(tries) == 2
    assert state(book) == (5, 0)


# --- By hand ----------------------------------------------------------------------------------------------


@pytest.fixture
def runtime(app_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(app_dsn, autocommit=True) as connection:
        yield connection


NEW_TABLES = (
    "ledger_guarded_balance", "ledger_statement_line", "ledger_reversal", "ledger_period_close",
    "ledger_snapshot",
)  # fmt: skip
PROTECTED = NEW_TABLES[:-1]
INNER = (
    "ledger_take_back(gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1, false)",
    "ledger_move_guarded(gen_random_uuid(), gen_random_uuid(), now(), now())",
)


@pytest.fixture
def filled(book: UUID) -> UUID:
    original = fund(book, 100)
    move(book, VENDOR_AVAILABLE, PSP_CLEARING, 10, reverses=original.entry_id)
    reserve(book, 5)
    periods.close(timezone.now() - dt.timedelta(days=9), reason="test", by=BY)
    horizon.wait()
    sql.fetch_one("SELECT taken FROM ledger_take_snapshots(NULL, 10)")
    return book


def rows(connection: psycopg.Connection[Any], table: str) -> list[Any]:
    return connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()  # noqa: S608


RUNTIME_ATTACKS = [
    "UPDATE {} SET book_id = book_id",
    "DELETE FROM {}",
    "TRUNCATE {}",
    "INSERT INTO {} DEFAULT VALUES",
    "ALTER TABLE {} DISABLE TRIGGER ALL",
]


@pytest.mark.parametrize("table", NEW_TABLES)
@pytest.mark.parametrize("attack", RUNTIME_ATTACKS)
def test_the_runtime_role_only_reads(
    filled: UUID, runtime: psycopg.Connection[Any], table: str, attack: str
) -> None:
    if table == "ledger_period_close":
        attack = attack.replace("book_id", "reason")
    before = rows(runtime, table)
    assert before

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        runtime.execute(attack.format(table))

    assert rows(runtime, table) == before


@pytest.mark.parametrize("call", INNER)
def test_inner_functions_are_closed_to_the_runtime_role(
    filled: UUID, runtime: psycopg.Connection[Any], call: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        runtime.execute(f"SELECT {call}")


@pytest.mark.parametrize("table", PROTECTED)
@pytest.mark.parametrize("how", ["owner", "superuser"])
@pytest.mark.parametrize("verb", ["DELETE FROM {}", "TRUNCATE {}"])
def test_nobody_deletes_what_was_written(
    filled: UUID, owner_dsn: str, superuser_dsn: str, table: str, how: str, verb: str
) -> None:
    with psycopg.connect(owner_dsn if how == "owner" else superuser_dsn, autocommit=True) as connection:
        if how == "superuser":
            connection.execute("SET session_replication_role = replica")
        before = rows(connection, table)

        with pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute(verb.format(table))

        assert rows(connection, table) == before


@pytest.mark.parametrize("table", ["ledger_statement_line", "ledger_reversal", "ledger_period_close"])
def test_nobody_changes_what_was_written(filled: UUID, superuser_dsn: str, table: str) -> None:
    column = "reason" if table == "ledger_period_close" else "book_id"
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")

        with pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute(f"UPDATE {table} SET {column} = {column}")  # noqa: S608


@pytest.mark.parametrize(
    "change", ["posted = -1", "reserved = posted + 1", "reserved = -1", "posted = 0", "floor = 1000"]
)
def test_a_guarded_balance_below_its_floor_cannot_be_written_by_anybody(
    filled: UUID, superuser_dsn: str, change: str
) -> None:
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")

        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(f"UPDATE ledger_guarded_balance SET {change}")  # noqa: S608


def test_protecting_triggers_are_always_on(owner_dsn: str) -> None:
    with psycopg.connect(owner_dsn) as connection:
        states = connection.execute(
            "SELECT tgrelid::regclass::text, tgenabled FROM pg_trigger WHERE NOT tgisinternal"
            " AND tgrelid = ANY(%s::regclass[])",
            [list(PROTECTED)],
        ).fetchall()

    assert {table for table, _state in states} == set(PROTECTED)
    assert {trigger for _table, trigger in states} == {"A"}


def test_no_new_column_can_hold_a_fraction(owner_dsn: str) -> None:
    with psycopg.connect(owner_dsn) as connection:
        kinds = connection.execute(
            "SELECT DISTINCT data_type FROM information_schema.columns WHERE table_name = ANY(%s)",
            [list(NEW_TABLES)],
        ).fetchall()

    assert not {"numeric", "double precision", "real", "money"} & {kind for (kind,) in kinds}


def test_unknown_phases_are_refused(book: UUID) -> None:
    fund(book, 10)
    strange = Transfer(VENDOR_AVAILABLE, PAYOUT_IN_TRANSIT, "", "COP", 1, "later")

    with pytest.raises(IntegrityError):
        put(made(book, strange))

    assert state(book) == (10, 0)
