"""New orders and commissions that the service's own event tells of are not captured again; all others are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st
from psycopg import Connection, sql

from accounts.models import User
from finance import order_changes, orders
from finance.models import Commission, Order
from finance.states import OrderStatus
from mestore.lib import sql as statements
from monitoring import capture, context
from monitoring.models import AuditEvent
from tests.factories.accounts import VendorFactory
from tests.finance.conftest import MACHINE, form, item
from tests.monitoring.reconciling import reconcile, untold

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)
Body = Callable[..., dict[str, Any]]
Row = dict[str, Any]

TABLES = {
    "finance_order": ("order.recorded", "order"),
    "finance_commission": ("commission.calculated", "commission"),
}


_OPENED = """
SELECT DISTINCT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND c.relname ~ '^audit_event_[0-9]{6}$'
"""


def placed(body: dict[str, Any], key: str = "key-1") -> Order:
    with context.acting(MACHINE):
        answer = orders.place(form(body), key=key, by=MACHINE)
    assert answer.status == 201
    return Order.objects.latest("id")


def captured(code: str, table: str) -> list[str]:
    return sorted(
        AuditEvent.objects.filter(type=code, target_type=table).values_list("target_id", flat=True)  # type: ignore[arg-type]
    )


def told(table: str, key: object) -> Row:
    code, target = TABLES[table]
    event = AuditEvent.objects.get(type=code, target_type=target, target_id=str(key))
    row: Row = json.loads(bytes(event.canon))["data"]["row"]
    return row


def visible(dsn: str, table: str, key: object) -> Row:
    """The row as the database says it, without NULLs and what capture would not show."""
    columns = capture.watched()[table].columns
    with psycopg.connect(dsn, options="-c timezone=UTC") as reader:
        found = reader.execute(
            sql.SQL("SELECT to_jsonb(t) FROM {} t WHERE id = %s").format(sql.Identifier(table)), [key]
        ).fetchone()
    assert found is not None
    return {
        name: value for name, value in found[0].items() if columns.get(name) == "plain" and value is not None
    }


class TestOfTheService:
    def test_a_sale_is_told_once_and_wholly(self, order_body: Body, vendor: User, superuser_dsn: str) -> None:
        other = VendorFactory.create()
        order = placed(order_body(items=[item(vendor.pk), item(other.pk, unit_price="70000.00", quantity=3)]))

        assert captured("capture.insert", "finance_order") == []
        assert captured("capture.insert", "finance_commission") == []
        assert told("finance_order", order.pk) == visible(superuser_dsn, "finance_order", order.pk)
        earned = list(Commission.objects.all())
        assert len(earned) == 2
        for one in earned:
            assert told("finance_commission", one.pk) == visible(superuser_dsn, "finance_commission", one.pk)

    def test_an_order_that_waits_and_is_confirmed_later(self, order_body: Body, superuser_dsn: str) -> None:
        order = placed(order_body(payment=...))
        assert order.status == OrderStatus.PENDING
        assert captured("capture.insert", "finance_order") == []
        assert told("finance_order", order.pk) == visible(superuser_dsn, "finance_order", order.pk)

        with context.acting(MACHINE):
            order_changes.change(
                order.pk, OrderStatus.CONFIRMED, paid=order_changes.Paid("bench", "reference"), by=MACHINE
            )

        (earned,) = Commission.objects.all()
        assert captured("capture.update", "finance_order") == [str(order.pk)]
        assert captured("capture.insert", "finance_commission") == []
        assert told("finance_commission", earned.pk) == visible(
            superuser_dsn, "finance_commission", earned.pk
        )

    def test_a_sale_opens_no_month_but_its_own(self, order_body: Body) -> None:
        with context.acting(MACHINE), transaction.atomic():
            orders.place(form(order_body()), key="key-1", by=MACHINE)
            statements.execute("SET CONSTRAINTS ALL IMMEDIATE")
            opened = statements.fetch_all(_OPENED)

        written = AuditEvent.objects.values_list("occurred_at", flat=True)
        assert {name for (name,) in opened} == {f"audit_event_{at:%Y%m}" for at in written}

    def test_what_happens_to_a_told_row_is_captured(self, order_body: Body) -> None:
        with context.acting(MACHINE), transaction.atomic():
            orders.place(form(order_body()), key="key-1", by=MACHINE)
            order = Order.objects.get()
            Order.objects.filter(pk=order.pk).update(courier="somebody")
            Commission.objects.all().update(notes="changed")

        assert captured("capture.update", "finance_order") == [str(order.pk)]
        assert captured("capture.update", "finance_commission") == [str(Commission.objects.get().pk)]

    def test_rows_that_no_event_tells_of_are_captured_one_by_one(self, order_body: Body) -> None:
        like = placed(order_body())
        copies = []
        for number in range(50):
            copy = Order.objects.get(pk=like.pk)
            copy.pk, copy.order_number, copy.external_reference = None, f"COPY-{number}", f"copy {number}"
            copies.append(copy)
        made = Order.objects.bulk_create(copies)

        assert captured("capture.insert", "finance_order") == sorted(str(one.pk) for one in made)


class TestReconciled:
    """A row that was told is compared with the event that told of it."""

    def test_told_rows_are_what_the_trail_says(self, order_body: Body) -> None:
        reconcile()
        placed(order_body())
        assert reconcile().differences == []
        assert reconcile().differences == []

    @pytest.mark.parametrize(
        ("table", "column", "change"),
        [
            ("finance_order", "courier", "UPDATE finance_order SET courier = 'nobody'"),
            (
                "finance_commission",
                "commission_type",
                "UPDATE finance_commission SET commission_type = 'PREMIUM'",
            ),
        ],
    )
    def test_what_changed_in_the_dark_since_it_was_told_is_named(
        self, order_body: Body, superuser_dsn: str, table: str, column: str, change: LiteralString
    ) -> None:
        reconcile()
        placed(order_body())
        with untold(superuser_dsn, table) as superuser:
            superuser.execute(change)

        (one,) = reconcile().differences

        key = str((Order if column == "courier" else Commission).objects.get().pk)
        assert (one.table, one.rows, one.what.partition(":")[0]) == (table, (key,), column)


@dataclass(frozen=True)
class Lie:
    """What is different in what an event says of a row."""

    row: Callable[[Row], Row] = dict
    code: str = "order.recorded"
    target: str = "order"
    key: Callable[[int], int] = int
    at: timedelta = timedelta()
    around_the_function: bool = False
    in_a_transaction_before: bool = False


def changed(**members: Any) -> Callable[[Row], Row]:
    return lambda row: {**row, **members}


LIES: dict[str, Lie] = {
    "another amount": Lie(changed(total_minor=1)),
    "an amount as text": Lie(lambda row: {**row, "total_minor": str(row["total_minor"])}),
    "a column less": Lie(lambda row: {name: value for name, value in row.items() if name != "status"}),
    "a column more": Lie(changed(paid_twice=True)),
    "a column that is NULL": Lie(changed(buyer_id=None)),
    "a secret beside it": Lie(changed(shipping_city="Bogota")),
    "another moment": Lie(changed(placed_at="2026-01-01T00:00:00+00:00")),
    "nothing": Lie(lambda _row: {}),
    "only a digest": Lie(lambda row: {"sha256": "00", "bytes": len(row)}),
    "written around the function that knows": Lie(around_the_function=True),
    "another code": Lie(code="order.refused"),
    "another kind of target": Lie(target="commission"),
    "another order": Lie(key=lambda key: key + 1),
    "two days later": Lie(at=timedelta(days=2)),
    "two days ago": Lie(at=timedelta(days=-2)),
    "no row": Lie(lambda _row: {}, key=lambda _key: 0),
    "in a transaction before": Lie(in_a_transaction_before=True),
}
# The new row's own columns over those of an order that stands.
_NEW = """
SELECT to_jsonb(o) || jsonb_build_object(
    'id', nextval('finance_order_id_seq'), 'order_number', %s::text, 'external_reference', %s::text)
FROM finance_order o WHERE o.id = %s
"""
_WRITE = "INSERT INTO finance_order SELECT (jsonb_populate_record(NULL::finance_order, %s::jsonb)).*"
_EVENT = "SELECT audit_write(%s::json)"
_AROUND = """
INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, target_type, target_id, canon,
                         writer_mac, leaf_hash)
SELECT id, occurred_at, type, outcome, actor_kind, target_type, target_id, convert_to(canon::text, 'UTF8'),
       decode(writer_mac, 'hex'), sha256('\\x00'::bytea || convert_to(canon::text, 'UTF8'))
FROM json_to_recordset(%s::json) AS new (id uuid, occurred_at timestamptz, type text, outcome text,
    actor_kind text, target_type text, target_id text, canon json, writer_mac text)
"""


@pytest.fixture
def runtime(app_dsn: str) -> Iterator[Connection]:
    with psycopg.connect(app_dsn, options="-c timezone=UTC") as connection:
        yield connection
        connection.rollback()


def event(
    code: str, target: str, key: int, row: Row, *, mac: str | None = "00" * 32, at: timedelta = timedelta()
) -> Row:
    return {
        "id": str(uuid4()), "occurred_at": (datetime.now(UTC) + at).isoformat(), "type": code,
        "outcome": "SUCCESS", "actor_kind": "machine", "target_type": target, "target_id": str(key),
        "canon": {"data": {"row": row}}, "writer_mac": mac,
    }  # fmt: skip


def write(runtime: Connection, like: Order, lie: Lie, *, zone: str = "UTC") -> int:
    """Insert a row like an order's and an event beside it, as who holds the service's password could."""
    found = runtime.execute(_NEW, [uuid4().hex[:20], uuid4().hex, like.pk]).fetchone()
    assert found is not None
    row, columns = found[0], capture.watched()["finance_order"].columns
    truth = {name: value for name, value in row.items() if columns[name] == "plain" and value is not None}
    told = event(lie.code, lie.target, lie.key(row["id"]), lie.row(truth), at=lie.at)
    runtime.execute(_AROUND if lie.around_the_function else _EVENT, [json.dumps([told])])
    if lie.in_a_transaction_before:
        runtime.commit()
    runtime.execute("SELECT set_config('timezone', %s, true)", [zone])
    runtime.execute(_WRITE, [json.dumps(row)])
    key: int = row["id"]
    return key


def captures_of(runtime: Connection, key: int) -> int:
    found = runtime.execute(
        "SELECT count(*) FROM audit_event WHERE type = 'capture.insert' AND target_type = 'finance_order'"
        " AND target_id = %s",
        [str(key)],
    ).fetchone()
    assert found is not None
    return int(found[0])


class TestOfOthers:
    @pytest.mark.parametrize("zone", ["UTC", "America/Bogota", "Asia/Kathmandu"])
    def test_the_truth_is_enough_in_every_zone(
        self, order_body: Body, runtime: Connection, zone: str
    ) -> None:
        like = placed(order_body())
        key = write(runtime, like, Lie(), zone=zone)
        assert captures_of(runtime, key) == 0

    @pytest.mark.parametrize("name", LIES)
    def test_a_lie_is_captured(self, order_body: Body, runtime: Connection, name: str) -> None:
        like = placed(order_body())
        key = write(runtime, like, LIES[name])
        assert captures_of(runtime, key) == 1

    @pytest.mark.parametrize(
        ("code", "mac"),
        [
            ("order.recorded", None),
            ("capture.insert", "00" * 32),
            ("capture.anything", "00" * 32),
            ("finance.ledger_entry.posted", "00" * 32),
        ],
    )
    def test_what_only_the_database_writes_is_refused(
        self, runtime: Connection, code: str, mac: str | None
    ) -> None:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="written by the database itself"):
            runtime.execute(_EVENT, [json.dumps([event(code, "order", 1, {}, mac=mac)])])

    @pytest.mark.parametrize("column", ["told", "leaf", "xid"])
    def test_the_queue_takes_no_claim_of_the_service(self, runtime: Connection, column: str) -> None:
        statement = sql.SQL("INSERT INTO audit_pending (id, occurred_at, {}) VALUES (%s, now(), {})").format(
            sql.Identifier(column), sql.SQL("pg_current_xact_id()" if column == "xid" else "sha256('')")
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            runtime.execute(statement, [uuid4()])

    def test_an_event_says_of_no_row_unless_it_names_one(self, runtime: Connection) -> None:
        plain = event("order.recorded", "order", 1, {}) | {"canon": {"data": {"note": 'the "row": is here'}}}
        runtime.execute(_EVENT, [json.dumps([plain])])
        (told,) = runtime.execute(
            "SELECT told IS NULL FROM audit_pending WHERE id = %s", [plain["id"]]
        ).fetchone() or (None,)
        assert told


@given(
    at=st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2200, 1, 1)),  # noqa: DTZ001
    hours=st.integers(-12, 14),
)
def test_moments_are_written_as_the_database_writes_them(at: datetime, hours: int) -> None:
    moment = at.replace(tzinfo=timezone(timedelta(hours=hours)))
    ((written,),) = statements.fetch_all(
        "SELECT to_jsonb(%s::timestamptz AT TIME ZONE 'UTC') #>> '{}'", [moment]
    )
    assert capture.moment(moment) == f"{written}+00:00"


@pytest.mark.parametrize(
    ("micros", "written"), [(100_000, "00.1"), (0, "00"), (120, "00.00012"), (1, "00.000001")]
)
def test_zeros_at_the_end_are_left_out(micros: int, written: str) -> None:
    at = datetime(2026, 11, 22, 7, 0, 0, micros, UTC)
    assert capture.moment(at) == f"2026-11-22T07:00:{written}+00:00"


@pytest.mark.parametrize(
    "declared",
    [
        {"key": ["a", "b"], "plain": ["a", "b"]},
        {"key": "a", "plain": ["a"], "personal": ["name"]},
    ],
)
def test_what_an_event_cannot_tell_of_is_not_declared_so(declared: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot tell"):
        capture.CaptureTable("some_table", **declared, told=("order.recorded", "order"))
