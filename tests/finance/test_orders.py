"""Placing orders: what is refused and remembered, what is written, and that it is all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any
from uuid import uuid4

import pytest
import simplejson
from django.db import DatabaseError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from psycopg import _queries

from accounts.models import User, VendorProfile
from finance import idempotency, ledger, orders
from finance.idempotency import KeyReused, TwinInFlight
from finance.models import Commission, IdempotencyKey, LedgerEntry, Order, OrderItem, OrderPayment
from finance.orders import BuyerRefused, OrderKnown, VendorRefused
from finance.postings import (
    PLATFORM_FEE,
    PSP_CLEARING,
    SHIPPING_PAYABLE,
    TAX_PAYABLE_FEE,
    TAX_PAYABLE_GOODS,
    VENDOR_PENDING,
)
from mestore.lib import actor, crypto, sql
from mestore.lib.errors import SecurityServiceFailure
from monitoring import audit
from monitoring.models import AuditEvent
from tests.factories.accounts import BuyerFactory, ImportedVendorFactory, VendorFactory, VendorProfileFactory
from tests.finance.conftest import MACHINE, form, item, payment

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
Body = Callable[..., dict[str, Any]]
Race = Callable[[list[Callable[[], Any]]], list[Any]]


def place(body: dict[str, Any], key: str = "key-1", by: actor.Actor = MACHINE) -> dict[str, Any]:
    answer = orders.place(form(body), key=key, by=by)
    assert answer.status == 201
    told: dict[str, Any] = simplejson.loads(answer.body, use_decimal=True)
    return told


def assert_nothing_written() -> None:
    for model in (Order, OrderItem, OrderPayment, Commission, LedgerEntry):
        assert not model._default_manager.exists()
    assert not sql.fetch_all(
        "SELECT 1 FROM audit_event WHERE type <> 'order.refused' AND type NOT LIKE 'capture.%'"
        " OR target_type LIKE 'finance%'"
    )


# Refusals


def unapproved() -> User:
    return VendorProfileFactory.create(vendor_status=VendorProfile.Status.PENDING_APPROVAL).user


@pytest.mark.parametrize(
    "make",
    [
        lambda: User(pk=uuid4()), BuyerFactory.create, unapproved, ImportedVendorFactory.create,
        lambda: VendorFactory.create(is_active=False), lambda: VendorFactory.create(profile=None),
    ],
    ids=["unknown", "a buyer", "not approved", "imported", "inactive", "without a shop"],
)  # fmt: skip
def test_vendor_who_may_not_sell_is_refused_by_name(order_body: Body, make: Callable[[], User]) -> None:
    wrong = make()
    body = order_body()
    body["items"].append(item(wrong.pk))

    with pytest.raises(VendorRefused) as refused:
        place(body)

    assert [detail.field for detail in refused.value.details or ()] == ["body -> items -> 1 -> vendor_id"]
    assert_nothing_written()


@pytest.mark.parametrize(
    "make", [lambda: User(pk=uuid4()), VendorFactory.create, lambda: BuyerFactory.create(is_active=False)]
)
def test_buyer_who_is_none_is_refused(order_body: Body, make: Callable[[], User]) -> None:
    with pytest.raises(BuyerRefused):
        place(order_body(buyer_id=str(make().pk)))

    assert_nothing_written()


def test_external_reference_counts_once(order_body: Body) -> None:
    place(order_body(external_reference="cart-1"))

    with pytest.raises(OrderKnown):
        place(order_body(external_reference="cart-1", payment=payment(reference="tx-2")), key="key-2")

    assert Order.objects.count() == 1


def test_orders_of_one_cart_may_share_their_payment(order_body: Body) -> None:
    place(order_body())
    place(order_body(notes="the cart's other half"), key="key-2")

    assert Order.objects.count() == LedgerEntry.objects.count() == 2


def test_a_refusal_is_given_again_whatever_has_changed(order_body: Body) -> None:
    wrong = unapproved()
    body = order_body(items=[item(wrong.pk)])
    with pytest.raises(VendorRefused):
        place(body)
    VendorProfile.objects.filter(user=wrong).update(vendor_status=VendorProfile.Status.APPROVED)

    with pytest.raises(VendorRefused) as again:
        place(body)

    assert again.value.headers == {"Idempotent-Replayed": "true"}
    assert [detail.field for detail in again.value.details or ()] == ["body -> items -> 0 -> vendor_id"]
    assert place(body, key="key-2")["success"]


def test_a_refusal_is_recorded(order_body: Body) -> None:
    with pytest.raises(VendorRefused):
        place(order_body(items=[item(uuid4())]))

    assert sql.fetch_all("SELECT outcome, actor_id FROM audit_event WHERE type = 'order.refused'") == [
        ("BLOCKED", MACHINE.id)
    ]


def test_same_key_with_other_contents_is_refused(order_body: Body) -> None:
    place(order_body())

    with pytest.raises(KeyReused):
        place(order_body(notes="other"))

    assert Order.objects.count() == 1


# What is written


def test_a_paid_order_is_a_sale(order_body: Body, vendor: User) -> None:
    told = place(order_body(external_reference="cart-1"))["data"]

    order = Order.objects.get()
    assert (order.pk, order.order_number, order.status) == (told["id"], told["order_number"], "confirmed")
    assert (order.subtotal_minor, order.tax_minor, order.shipping_minor) == (10_000_000, 1_900_000, 1_500_000)
    assert order.total_minor == 13_400_000
    assert order.confirmed_at == order.placed_at == order.created_at
    assert str(order) == order.order_number
    assert str(order.total) == "134000.00 COP"
    line = order.items.get()
    assert (line.line, line.vendor_id, line.line_total_minor, line.shipping_minor) == (
        1,
        vendor.pk,
        10_000_000,
        1_500_000,
    )
    paid = order.payments.get()
    assert (paid.provider, paid.reference, paid.status, paid.amount_minor) == (
        "testpay",
        "tx-1",
        "approved",
        13_400_000,
    )
    earned = Commission.objects.get()
    assert (earned.order_amount_minor, earned.commission_amount_minor, earned.vendor_amount_minor) == (
        10_000_000, 500_000, 9_500_000,
    )  # fmt: skip
    assert (earned.rate_ppm, earned.commission_type, earned.status) == (50_000, "STANDARD", "PENDING")
    assert str(earned.amount) == "5000.00 COP"
    assert {row.kind: row.net for row in ledger.balances(vendor.pk)} == {
        PSP_CLEARING: -13_400_000, VENDOR_PENDING: 9_405_000, PLATFORM_FEE: 500_000,
        TAX_PAYABLE_FEE: 95_000, SHIPPING_PAYABLE: 1_500_000, TAX_PAYABLE_GOODS: 1_900_000,
    }  # fmt: skip
    entry = LedgerEntry.objects.get()
    assert (entry.pk, entry.book_id) == (earned.entry_id, vendor.pk)
    assert ledger.check(signatures=True).is_balanced


def test_the_answer_tells_exact_amounts(order_body: Body) -> None:
    answer = orders.place(form(order_body()), key="key-1", by=MACHINE)

    assert b'"total_amount":134000.00,' in answer.body
    assert b'"commission_amount":5000.00,' in answer.body
    assert b'"commission_rate":0.0500,' in answer.body


@pytest.mark.parametrize("status", ["pending", "processing", "declined", "error", "cancelled", None])
def test_an_unpaid_order_is_pending_and_posts_nothing(order_body: Body, status: str | None) -> None:
    told = place(order_body(payment=payment(status=status) if status else ...))["data"]

    order = Order.objects.get()
    assert (order.status, order.confirmed_at) == ("pending", None)
    assert (told["status"], told["payment_status"], told["commissions"]) == (
        "pending",
        status or "pending",
        [],
    )
    assert OrderPayment.objects.count() == (1 if status else 0)
    assert not Commission.objects.exists()
    assert not LedgerEntry.objects.exists()


def test_every_vendor_has_one_commission_and_one_entry_in_the_own_book(
    order_body: Body, vendor: User
) -> None:
    other = VendorFactory.create()
    lines = [item(vendor.pk, "10.01"), item(other.pk, "20.01", 3), item(vendor.pk, "30.01", 2)]

    told = place(order_body(items=lines))["data"]

    order = Order.objects.get()
    assert [(row.vendor_id, row.order_amount_minor, row.commission_amount_minor)
            for row in Commission.objects.order_by("order_amount_minor")] == [
        (other.pk, 6_003, 300), (vendor.pk, 7_003, 350),
    ]  # fmt: skip
    books = {book: {row.kind: row.net for row in ledger.balances(book)} for book in (vendor.pk, other.pk)}
    assert sum(book[TAX_PAYABLE_GOODS] for book in books.values()) == order.tax_minor == 2_471
    assert sum(book[SHIPPING_PAYABLE] for book in books.values()) == order.shipping_minor == 1_500_000
    assert -sum(book[PSP_CLEARING] for book in books.values()) == order.total_minor
    assert sum(order.items.values_list("shipping_minor", flat=True)) == order.shipping_minor
    assert len(told["commissions"]) == 2


@pytest.mark.parametrize(
    ("unit_price", "shipping"), [("199999.99", 1_500_000), ("200000", 0), ("200000.01", 0)]
)
def test_shipping_is_free_from_200_000(
    order_body: Body, vendor: User, unit_price: str, shipping: int
) -> None:
    place(order_body(items=[item(vendor.pk, unit_price)]))

    assert Order.objects.get().shipping_minor == shipping


def test_other_currencies_have_neither_iva_nor_shipping(order_body: Body, vendor: User) -> None:
    place(order_body(currency="BRL", items=[item(vendor.pk, "99.90")]))

    order = Order.objects.get()
    assert (order.tax_minor, order.shipping_minor, order.total_minor) == (0, 0, 9_990)
    assert {row.kind for row in ledger.balances(vendor.pk)} == {PSP_CLEARING, VENDOR_PENDING, PLATFORM_FEE}


def test_a_commission_of_zero_posts_no_fee(order_body: Body, vendor: User) -> None:
    place(order_body(currency="JPY", items=[item(vendor.pk, "9")]))

    assert Commission.objects.get().commission_amount_minor == 0
    assert {row.kind for row in ledger.balances(vendor.pk)} == {PSP_CLEARING, VENDOR_PENDING}


def test_the_base_of_the_commission_is_a_setting(order_body: Body, settings: Any) -> None:
    settings.COMMISSION_BASE = "total"
    settings.COMMISSION_RATES_PPM = {"STANDARD": 100_000}

    place(order_body())

    row = Commission.objects.get()
    assert (row.order_amount_minor, row.commission_amount_minor) == (13_400_000, 1_340_000)
    assert ledger.check().is_balanced


def test_events_name_the_order_and_hold_nothing_personal(order_body: Body) -> None:
    told = place(order_body())["data"]

    rows = sql.fetch_all("SELECT type, target_id, canon FROM audit_event ORDER BY type")
    assert [row[:2] for row in rows if not row[0].startswith("capture.")] == [
        ("commission.calculated", told["commissions"][0]["id"]),
        ("finance.ledger_entry.posted", str(Commission.objects.get().entry_id)),
        ("order.recorded", str(told["id"])),
    ]
    assert not [
        canon for *_rest, canon in rows if "Ana" in bytes(canon).decode() or "Calle" in bytes(canon).decode()
    ]


# Once


def test_a_repetition_gets_the_same_bytes(order_body: Body) -> None:
    body = order_body()
    first = orders.place(form(body), key="key-1", by=MACHINE)

    again = orders.place(form(dict(reversed(body.items()))), key="key-1", by=MACHINE)

    assert (again.status, again.body, again.replayed) == (201, first.body, True)
    assert not first.replayed
    assert Order.objects.count() == 1
    assert idempotency.respond(again)["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in idempotency.respond(first)


def test_keys_of_two_clients_do_not_meet(order_body: Body) -> None:
    other = actor.Actor(kind="machine", id=str(uuid4()), role="SYSTEM")
    place(order_body())

    place(order_body(payment=payment(reference="tx-2")), by=other)

    assert Order.objects.count() == 2


def test_the_stored_answer_is_sealed(order_body: Body) -> None:
    place(order_body())

    assert b"Ana" not in bytes(IdempotencyKey.objects.get().body or b"")
    assert str(IdempotencyKey.objects.get()).endswith("POST /api/v1/orders/ key-1")


@pytest.mark.parametrize("status", ["approved", "pending"])
def test_placing_an_order_takes_two_statements(order_body: Body, status: str) -> None:
    lines = [item(VendorFactory.create().pk, "10", product_id=f"sku-{n}") for n in range(4)]
    ready = form(order_body(items=lines, payment=payment(status=status)))
    with CaptureQueriesContext(connection) as queries:
        orders.place(ready, key="key-1", by=MACHINE)
    assert len([query for query in queries if "SAVEPOINT" not in query["sql"]]) == 2


def test_its_statements_repeat_the_words_of_those_whose_work_they_do() -> None:
    """A key, an entry and an event are written as by `claim`, `post_many` and `record_many`."""

    def words(text: str) -> str:
        return " ".join(text.split())

    claimed = words(idempotency._CLAIM).replace("%s, %s, %s", "%(scope)s, %(key)s, %(request_hash)s")
    assert claimed in words(orders._ASK)
    assert words(audit._INSERT_MANY).removeprefix("SELECT ") in words(orders._WRITE)
    called, rows = words(ledger._POST).split(")) FROM jsonb_to_recordset(%s::jsonb) ")
    called = called.removeprefix("SELECT count(").replace("%s::jsonb", "%(document)s::jsonb -> 'poster'")
    assert called.removesuffix("NULL") + "CASE WHEN e.n = 1" in words(orders._WRITE)
    assert rows.removeprefix("AS e ") in words(orders._WRITE)


def test_a_posting_writes_events_with_the_words_of_who_writes_them_alone() -> None:
    def words(text: str) -> str:
        return " ".join(text.split())

    written = words(import_module("monitoring.migrations.0019_written_in_one_call").WRITE)
    posted = words(import_module("finance.migrations.0016_written_in_one_call").TELLING)
    event = written[written.index("SELECT n.id") : written.index(" RETURNING id")]
    told = written[written.index("strpos(") : written.index(" FROM event e )")]
    assert event in posted
    assert told in posted


def test_its_statements_are_short_enough_for_psycopg_to_remember_them() -> None:
    assert max(len(orders._ASK), len(orders._WRITE)) <= _queries.MAX_CACHED_STATEMENT_LENGTH


def test_a_repeated_request_draws_no_number_and_counts_no_sale(order_body: Body) -> None:
    body = order_body()
    place(body)
    with CaptureQueriesContext(connection) as queries:
        assert orders.place(form(body), key="key-1", by=MACHINE).replayed
    assert len([query for query in queries if "SAVEPOINT" not in query["sql"]]) == 2

    place(order_body(payment=payment(reference="tx-2")), key="key-2")

    first, second = Order.objects.order_by("pk").values_list("pk", flat=True)
    assert second == first + 1


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_who_was_erased_meanwhile_is_not_named_by_the_order(order_body: Body) -> None:
    """The statement leaves out events under a key that is gone; they are written without personal values."""
    somebody = replace(MACHINE, id=str(uuid4()), label="ana@example.com", address="203.0.113.7")
    place(order_body(), by=somebody)
    sql.execute(
        "UPDATE subject_key SET wrapped = NULL, destroyed_at = now() WHERE subject = %s", [somebody.id],
        using="owner",
    )  # fmt: skip

    place(order_body(payment=payment(reference="tx-2")), key="key-2", by=somebody)

    told = AuditEvent.objects.filter(
        actor_id=somebody.id, type__in=["order.recorded", "commission.calculated"]
    )
    assert [bool(row.pii_ct) for row in told.order_by("occurred_at", "id")] == [True, True, False, False]


class Interrupted(Exception):
    pass


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
@pytest.mark.parametrize("at", [1, 2])
def test_an_end_at_any_statement_leaves_nothing(order_body: Body, at: int) -> None:
    seen = 0

    def stop(execute: Any, query: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal seen
        seen += 1
        result = execute(query, params, many, context)
        if seen == at:
            raise Interrupted
        return result

    ready = form(order_body())
    with connection.execute_wrapper(stop), pytest.raises(Interrupted):
        orders.place(ready, key="key-1", by=MACHINE)

    assert_nothing_written()
    assert not IdempotencyKey.objects.exists()
    assert place(order_body())["success"]


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_twenty_twins_make_one_order(order_body: Body, race: Race) -> None:
    body = order_body()

    def run() -> Any:
        return orders.place(form(body), key="key-1", by=MACHINE)

    results = race([run] * 20)

    answers = [result for result in results if isinstance(result, idempotency.Answer)]
    assert {type(result) for result in results} <= {idempotency.Answer, TwinInFlight}
    assert len({answer.body for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert Order.objects.count() == LedgerEntry.objects.count() == Commission.objects.count() == 1


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_twenty_keys_for_one_thing_make_one_order(order_body: Body, race: Race) -> None:
    def run(number: int) -> Callable[[], Any]:
        changes = {"external_reference": "cart-1", "payment": payment(reference=f"tx-{number}")}
        ready = form(order_body(**changes))
        return lambda: orders.place(ready, key=f"key-{number}", by=MACHINE)

    results = race([run(number) for number in range(20)])

    assert sum(isinstance(result, idempotency.Answer) for result in results) == 1
    assert sum(isinstance(result, OrderKnown) for result in results) == 19
    assert Order.objects.count() == LedgerEntry.objects.count() == 1


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_a_twin_in_flight_is_told_to_come_back(order_body: Body, app_dsn: str) -> None:
    ready = form(order_body())
    other = connections.create_connection("default")
    other.ensure_connection()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(
                "INSERT INTO finance_idempotencykey (scope, key, request_hash) VALUES (%s, 'key-1', %s)",
                [f"{MACHINE.id}:{orders.ROUTE}", crypto.digest(ready.identity())],
            )
            sql.execute("SET lock_timeout = '500ms'")  # in tests it is as long as a busy machine needs
            with pytest.raises(TwinInFlight) as busy:
                orders.place(ready, key="key-1", by=MACHINE)
            cursor.execute("ROLLBACK")
    finally:
        sql.execute("RESET lock_timeout")
        other.close()

    assert busy.value.headers == {"Retry-After": "1"}
    assert orders.place(ready, key="key-1", by=MACHINE).status == 201


@pytest.mark.parametrize(("failures", "succeeds"), [(2, True), (3, False)])
def test_serialization_failures_are_run_again_and_never_a_business_error(
    order_body: Body, failures: int, succeeds: bool
) -> None:
    seen = 0

    def fail(execute: Any, query: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal seen
        if "ledger_post" in query:
            seen += 1
            if seen <= failures:
                fault = "DO $$ BEGIN RAISE EXCEPTION 'forced' USING ERRCODE = 'serialization_failure'; END $$"
                return execute(fault, None, many, context)
        return execute(query, params, many, context)

    with connection.execute_wrapper(fail):
        if succeeds:
            assert place(order_body())["success"]
        else:
            with pytest.raises(SecurityServiceFailure):
                place(order_body())

    assert Order.objects.count() == LedgerEntry.objects.count() == int(succeeds)


def test_a_number_that_was_drawn_twice_is_drawn_again(
    order_body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = place(order_body())["data"]["order_number"]
    drawn = iter([first, "ORD-20260101-00000000"])
    monkeypatch.setattr("finance.numbers.order_number", lambda _moment: next(drawn))

    second = place(order_body(payment=payment(reference="tx-2")), key="key-2")["data"]["order_number"]

    assert second == "ORD-20260101-00000000"


def test_a_database_error_that_is_no_chance_is_not_swallowed(order_body: Body) -> None:
    def fail(execute: Any, query: str, params: Any, many: bool, context: Any) -> Any:
        if "ledger_post" in query:
            return execute("SELECT 1/0", None, many, context)
        return execute(query, params, many, context)

    with connection.execute_wrapper(fail), pytest.raises(DatabaseError), transaction.atomic():
        place(order_body())

    assert_nothing_written()
