"""Posting: what cannot be posted, what is written, and what it adds up to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import DataError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finance import ledger
from finance.ledger import AlreadyPosted, Posting, Transfer
from finance.models import LedgerAccount, LedgerEntry, LedgerTransfer
from finance.postings import PLATFORM_FEE, PSP_CLEARING, SHIPPING_PAYABLE, TAX_PAYABLE_GOODS, VENDOR_PENDING
from mestore.lib import actor, ids, sql
from tests.factories.finance import MOMENT, PROVIDER, sale

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
BY = actor.Actor(kind="machine", id=str(uuid4()), role="SYSTEM", session_id="s-1", request_id="req_1")


def posting(book: UUID, *transfers: Transfer, source: str = "test/1") -> Posting:
    return Posting(book, ids.uuid7(), "sale", MOMENT, source, transfers)


def move(
    amount: Any = 100, debit: str = PSP_CLEARING, credit: str = VENDOR_PENDING, **other: str
) -> Transfer:
    values = {"provider": PROVIDER, "currency": "COP"} | other
    return Transfer(debit, credit, values["provider"], values["currency"], amount)


def settle_constraints() -> None:
    """Check what would be checked at commit, inside the test's own transaction."""
    sql.execute("SET CONSTRAINTS ALL IMMEDIATE")
    sql.execute("SET CONSTRAINTS ALL DEFERRED")


def post_and_settle(wrong: Posting) -> None:
    with transaction.atomic():
        ledger.post_many([wrong], by=BY)
        settle_constraints()


def refused(wrong: Posting) -> None:
    with pytest.raises((IntegrityError, DataError, TypeError)):
        post_and_settle(wrong)
    assert not LedgerEntry.objects.exists()
    assert not LedgerTransfer.objects.exists()
    assert not sql.fetch_all("SELECT 1 FROM audit_event")


@pytest.mark.parametrize("amount", [0, -1, 10**15 + 1, 10**30, 1.5, "x", None])
def test_amounts_out_of_bounds_are_refused(amount: Any) -> None:
    refused(posting(uuid4(), move(amount)))


def test_an_account_cannot_pay_itself() -> None:
    refused(posting(uuid4(), move(debit=PLATFORM_FEE, credit=PLATFORM_FEE)))


def test_unknown_kinds_and_currencies_are_refused() -> None:
    refused(posting(uuid4(), move(credit="my_pocket")))
    refused(posting(uuid4(), move(currency="cop")))
    refused(posting(uuid4(), move(provider="")))


def test_an_entry_without_transfers_is_refused() -> None:
    refused(posting(uuid4()))


def test_an_entry_without_a_natural_key_is_refused() -> None:
    refused(posting(uuid4(), move(), source=""))


def test_a_moment_without_a_zone_is_refused() -> None:
    naive = dataclasses.replace(posting(uuid4(), move()), occurred_at=datetime(2026, 1, 1))  # noqa: DTZ001

    with pytest.raises(ValueError, match="time zone"):
        ledger.post_many([naive], by=BY)


def test_a_sale_cannot_post_twice() -> None:
    book = uuid4()
    ledger.post_many([sale(book)], by=BY)

    with pytest.raises(AlreadyPosted), transaction.atomic():
        ledger.post_many([sale(book)], by=BY)

    assert LedgerEntry.objects.count() == 1


def test_one_bad_posting_takes_the_good_ones_with_it() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        ledger.post_many([sale(uuid4()), posting(uuid4(), move(0)), sale(uuid4())], by=BY)

    assert not LedgerEntry.objects.exists()
    assert not LedgerAccount.objects.exists()


def test_the_same_order_posts_in_every_vendors_book() -> None:
    ledger.post_many([sale(uuid4()), sale(uuid4())], by=BY)
    settle_constraints()

    assert LedgerEntry.objects.count() == 2


def test_nothing_posts_nothing_and_asks_nothing() -> None:
    with CaptureQueriesContext(connection) as queries:
        ledger.post_many([], by=BY)

    assert not queries.captured_queries


@pytest.mark.parametrize("count", [1, 40])
def test_any_number_of_postings_is_one_statement(count: int) -> None:
    with CaptureQueriesContext(connection) as queries:
        ledger.post_many([sale(uuid4(), order) for order in range(count)], by=BY)

    assert len(queries.captured_queries) == 1


def test_a_sale_splits_what_the_buyer_paid() -> None:
    book = uuid4()

    ledger.post_many([sale(book, 1), sale(book, 2)], by=BY)

    nets = {(row.kind, row.provider): row.net for row in ledger.balances(book)}
    assert nets == {
        (PSP_CLEARING, PROVIDER): -2 * 13_400_000,
        (VENDOR_PENDING, ""): 2 * 9_500_000,
        (PLATFORM_FEE, ""): 2 * 500_000,
        (SHIPPING_PAYABLE, ""): 2 * 1_500_000,
        (TAX_PAYABLE_GOODS, ""): 2 * 1_900_000,
    }
    assert ledger.balances(uuid4()) == []


def test_a_fee_of_zero_posts_no_row() -> None:
    book = uuid4()

    ledger.post_many([sale(book, goods=4, shipping=0, tax=0, rate_ppm=123_450)], by=BY)
    settle_constraints()

    assert [row.kind for row in ledger.balances(book)] == [PSP_CLEARING, VENDOR_PENDING]
    assert ledger.check(signatures=True).is_balanced


def test_the_entry_says_who_and_what() -> None:
    book, made = uuid4(), sale(uuid4(), 77)
    made = dataclasses.replace(made, book=book)

    ledger.post_many([made], by=BY)

    entry = LedgerEntry.objects.get(pk=made.entry_id)
    assert (entry.book_id, entry.kind, entry.source_event) == (book, "sale", "order/77/sale")
    assert (entry.actor_kind, entry.actor_id, entry.occurred_at) == ("machine", BY.id, MOMENT)
    assert (entry.transfer_count, entry.control_total) == (4, 13_400_000)
    assert str(entry) == f"sale order/77/sale ({book})"
    first = entry.transfers.select_related("debit", "credit").get(seq=1)
    assert str(first.debit) == f"psp_clearing:testpay COP ({book})"
    assert (str(first), str(first.amount), first.phase) == (f"{entry.pk}/1", "95000.00 COP", "single")


def test_the_entry_is_a_leaf_of_the_audit_trail() -> None:
    made = sale(uuid4())

    ledger.post_many([made], by=BY)

    event, target, who, role, request, canon, leaf = sql.fetch_all(
        """SELECT type, target_id, actor_id, actor_role, request_id, canon, leaf_hash
           FROM audit_event WHERE id = %s""",
        [made.entry_id],
    )[0]
    told = json.loads(bytes(canon))
    assert (event, target, who, role, request) == (
        "finance.ledger_entry.posted", str(made.entry_id), BY.id, "SYSTEM", "req_1",
    )  # fmt: skip
    assert bytes(leaf) == hashlib.sha256(b"\x00" + bytes(canon)).digest()
    assert told["transfers"] == [list(transfer[:5]) for transfer in made.transfers]
    assert (told["book"], told["source"], told["control_total"]) == (str(made.book), made.source, 13_400_000)
    assert sql.fetch_all("SELECT 1 FROM audit_pending WHERE id = %s", [made.entry_id])


def test_system_actors_are_named_by_their_label() -> None:
    ledger.post_many([sale(uuid4())], by=actor.system("import_orders"))

    assert LedgerEntry.objects.get().actor_id == "import_orders"


def test_check_looks_at_the_newest_only_when_asked() -> None:
    ledger.post_many([sale(uuid4(), order) for order in range(5)], by=BY)

    assert ledger.check(newest=2).entries == 2
    assert ledger.check(newest=2).currencies == {"COP": 0}
    assert ledger.check().entries == 5
    assert ledger.check(newest=0) == ledger.Check(0, (), (), ())


def test_providers_are_kept_apart_and_only_where_it_matters() -> None:
    book = uuid4()

    ledger.post_many([sale(book, 1, provider="payu"), sale(book, 2, provider="wompi")], by=BY)

    kinds = [(row.kind, row.provider) for row in ledger.balances(book)]
    assert kinds.count((PSP_CLEARING, "payu")) == kinds.count((PSP_CLEARING, "wompi")) == 1
    assert kinds.count((PLATFORM_FEE, "")) == 1
    assert ledger.check(signatures=True).is_balanced


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_first_sales_of_one_vendor_at_the_same_moment_share_its_accounts(
    race: Callable[[list[Callable[[], Any]]], list[Any]],
) -> None:
    books = [uuid4(), uuid4()]

    def post(order: int) -> Callable[[], None]:
        def run() -> None:
            with transaction.atomic():
                ledger.post_many(
                    [sale(book, order) for book in (books if order % 2 else reversed(books))], by=BY
                )

        return run

    results = race([post(order) for order in range(10)])

    assert results == [None] * 10
    assert LedgerAccount.objects.count() == 10
    assert ledger.check(signatures=True).is_balanced
    assert ledger.check().entries == 20


KINDS = [PSP_CLEARING, VENDOR_PENDING, PLATFORM_FEE, SHIPPING_PAYABLE, TAX_PAYABLE_GOODS]
BOOKS = [uuid4(), uuid4(), uuid4()]
MOVES = st.lists(
    st.tuples(
        st.sampled_from(KINDS), st.sampled_from(KINDS), st.sampled_from(["a", "b"]),
        st.sampled_from(["COP", "BRL", "JPY"]), st.integers(1, 10**15),
    ).filter(lambda made: made[0] != made[1]),
    min_size=1, max_size=6,
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(BOOKS), MOVES), min_size=1, max_size=6))
def test_balances_are_those_of_a_plain_model(
    entries: list[tuple[UUID, list[tuple[str, str, str, str, int]]]],
) -> None:
    model: dict[tuple[UUID, str, str, str], int] = defaultdict(int)
    for book, moves in entries:
        for debit, credit, provider, currency, amount in moves:
            model[book, debit, provider if debit == PSP_CLEARING else "", currency] -= amount
            model[book, credit, provider if credit == PSP_CLEARING else "", currency] += amount

    with transaction.atomic():
        made = [
            posting(book, *(Transfer(*m) for m in moves), source=f"{n}")
            for n, (book, moves) in enumerate(entries)
        ]
        ledger.post_many(made, by=BY)
        settle_constraints()
        found = {
            (book, row.kind, row.provider, row.currency): row.net
            for book in BOOKS
            for row in ledger.balances(book)
        }
        checked = ledger.check(signatures=True)
        transaction.set_rollback(True)

    assert found == dict(model)
    assert checked.is_balanced
    assert not any(checked.currencies.values())
    assert checked.entries == len(entries)
