"""Orders and commissions over HTTP: who may, what is refused, what is told."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import simplejson
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from finance import selectors
from finance.models import Commission, IdempotencyKey, Order
from mestore.lib import sql
from mestore.lib.http import dumps
from tests.factories.accounts import AdminFactory, BuyerFactory, SuperuserFactory, VendorFactory
from tests.factories.finance import MOMENT, CommissionFactory, OrderFactory
from tests.factories.sessions_security import bearer, machine, machine_bearer
from tests.finance.conftest import item, payment

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
Body = Callable[..., dict[str, Any]]
ORDERS = "/api/v1/orders/"
COMMISSIONS = "/api/v1/commissions/"


@pytest.fixture
def storefront() -> dict[str, str]:
    client, _key = machine()
    return machine_bearer(client)


def post(body: Any, headers: dict[str, str], key: str | None = "key-1", path: str = ORDERS) -> Any:
    raw = body if isinstance(body, bytes) else dumps(body)
    sent = headers | ({"Idempotency-Key": key} if key is not None else {})
    return Client().post(path, raw, content_type="application/json", headers=sent)


def get(path: str, headers: dict[str, str] | None = None, **query: Any) -> Any:
    return Client().get(path, query, headers=headers or {})


def told(response: Any) -> Any:
    return simplejson.loads(response.content, use_decimal=True)


# Orders


def test_a_stranger_places_no_order(order_body: Body) -> None:
    response = post(order_body(), {})

    assert response.status_code == 401
    assert not Order.objects.exists()


@pytest.mark.parametrize(
    "factory", [BuyerFactory.create, VendorFactory.create, AdminFactory.create, SuperuserFactory.create]
)
def test_no_person_places_orders(order_body: Body, factory: Callable[[], User]) -> None:
    response = post(order_body(), bearer(factory()))

    assert response.status_code == 403
    assert not Order.objects.exists()


@pytest.mark.parametrize("key", [None, "", "x" * 256, "a b", "é"])
def test_an_order_needs_a_key(order_body: Body, storefront: dict[str, str], key: str | None) -> None:
    response = post(order_body(), storefront, key)

    assert (response.status_code, told(response)["error_code"]) == (400, "IDEMPOTENCY_KEY_REQUIRED")


def test_wrong_fields_are_named_and_not_remembered(order_body: Body, storefront: dict[str, str]) -> None:
    response = post(order_body(currency="XXX"), storefront)

    assert (response.status_code, told(response)["error_code"]) == (422, "VALIDATION_ERROR")
    assert [detail["field"] for detail in told(response)["details"]] == ["body -> currency"]
    assert not IdempotencyKey.objects.exists()
    assert post(order_body(), storefront).status_code == 201


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'{"currency":"COP","currency":"USD"}', 400),
        (b"{", 400),
        (b"\xff", 400),
        (b'{"items": NaN}', 400),
        (b"[]", 422),
    ],
)
def test_what_is_no_order_is_refused(storefront: dict[str, str], raw: bytes, status: int) -> None:
    assert post(raw, storefront).status_code == status


def test_card_data_is_refused_recorded_and_kept_nowhere(
    order_body: Body,
    storefront: dict[str, str],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    response = post(order_body(payment=payment(card_number="4111111111111111", cvv="987")), storefront)

    assert (response.status_code, told(response)["error_code"]) == (422, "CARD_DATA_REFUSED")
    written = response.content.decode() + caplog.text + "".join(capfd.readouterr())
    written += str(sql.fetch_all("SELECT convert_from(canon, 'UTF8') FROM audit_event", using="audit"))
    assert "4111111111111111" not in written
    assert sql.fetch_all("SELECT 1 FROM audit_event WHERE type = 'order.card_data_refused'", using="audit")
    assert not Order.objects.exists()


@pytest.mark.parametrize("path", [ORDERS, ORDERS.rstrip("/")])
def test_an_order_is_placed(order_body: Body, storefront: dict[str, str], path: str) -> None:
    response = post(order_body(), storefront, path=path)

    assert response.status_code == 201
    assert response["Content-Type"] == "application/json"
    answer = told(response)
    assert answer["success"] is True
    assert set(answer) == {"success", "data", "message"}
    assert answer["data"]["id"] == Order.objects.get().pk
    assert b'"total_amount":134000.00' in response.content


def test_a_repetition_is_answered_the_same(order_body: Body, storefront: dict[str, str]) -> None:
    body = order_body()
    first = post(body, storefront)

    again = post(simplejson.dumps(dict(reversed(body.items())), indent=4).encode(), storefront)

    assert (again.status_code, again.content) == (201, first.content)
    assert again["Idempotent-Replayed"] == "true"
    assert not first.has_header("Idempotent-Replayed")
    assert post(order_body(notes="x"), storefront).status_code == 422


def test_business_refusals_are_problems(order_body: Body, storefront: dict[str, str]) -> None:
    post(order_body(external_reference="cart-1"), storefront)

    known = post(order_body(external_reference="cart-1"), storefront, "key-2")
    vendor = post(order_body(items=[item(uuid4())], payment=...), storefront, "key-3")
    again = post(order_body(items=[item(uuid4())], payment=...), storefront, "key-4")

    assert (known.status_code, told(known)["error_code"]) == (409, "ORDER_ALREADY_EXISTS")
    assert (vendor.status_code, told(vendor)["error_code"]) == (422, "VENDOR_NOT_AUTHORIZED")
    assert again.status_code == 422
    replay = post(order_body(external_reference="cart-1"), storefront, "key-2")
    assert (replay.status_code, replay["Idempotent-Replayed"]) == (409, "true")


def test_placing_an_order_over_http_stays_within_its_budget(
    order_body: Body, storefront: dict[str, str]
) -> None:
    post(order_body(payment=payment(reference="warm")), storefront, "warm")
    body = order_body()

    with CaptureQueriesContext(connection) as queries:
        assert post(body, storefront).status_code == 201

    ours = [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]
    first = next(place for place, query in enumerate(ours) if "finance_idempotencykey" in query)
    assert len(ours) - first <= 5


# Commissions


def test_strangers_buyers_and_machines_read_no_commissions(storefront: dict[str, str]) -> None:
    row = CommissionFactory.create()

    for path in (COMMISSIONS, f"{COMMISSIONS}{row.pk}", f"{COMMISSIONS}earnings/summary"):
        assert get(path).status_code == 401
        assert get(path, bearer(BuyerFactory.create())).status_code == 403
        assert get(path, storefront).status_code == 403


def test_a_vendor_reads_only_the_own_commissions() -> None:
    mine, foreign = CommissionFactory.create(), CommissionFactory.create()
    headers = bearer(mine.vendor)

    assert [row["id"] for row in told(get(COMMISSIONS, headers))["commissions"]] == [str(mine.pk)]
    assert told(get(COMMISSIONS, headers))["total"] == 1
    assert get(f"{COMMISSIONS}{mine.pk}", headers).status_code == 200
    refused = get(f"{COMMISSIONS}{foreign.pk}", headers)
    assert refused.status_code == 403
    assert get(COMMISSIONS, headers, vendor_id=str(foreign.vendor_id)).status_code == 403
    assert get(f"{COMMISSIONS}earnings/summary", headers, vendor_id=str(foreign.vendor_id)).status_code == 403
    assert get(f"{COMMISSIONS}{uuid4()}", headers).status_code == 404
    assert get(f"{COMMISSIONS}not-a-uuid", headers).status_code == 404


def test_the_refusal_says_what_the_contract_says() -> None:
    headers = bearer(VendorFactory.create()) | {"Accept-Language": "en"}

    refused = get(f"{COMMISSIONS}{CommissionFactory.create().pk}", headers)

    assert told(refused)["error_message"] == "Permission denied - can only access own commissions"


@pytest.mark.parametrize("factory", [AdminFactory.create, SuperuserFactory.create])
def test_administrators_read_all(factory: Callable[[], User]) -> None:
    rows = [CommissionFactory.create(), CommissionFactory.create()]
    headers = bearer(factory())

    assert told(get(COMMISSIONS, headers))["total"] == 2
    one = told(get(COMMISSIONS, headers, vendor_id=str(rows[0].vendor_id)))
    assert [row["id"] for row in one["commissions"]] == [str(rows[0].pk)]
    assert get(f"{COMMISSIONS}{rows[0].pk}", headers).status_code == 200


def test_a_commission_is_told_exactly() -> None:
    row = CommissionFactory.create(order_amount_minor=29, commission_amount_minor=1, rate_ppm=50_000)

    response = get(f"{COMMISSIONS}{row.pk}", bearer(row.vendor))

    assert b'"order_amount":0.29,"commission_rate":0.0500,"commission_amount":0.01' in response.content
    assert set(told(response)) == {
        "id", "commission_number", "order_id", "vendor_id", "order_amount", "commission_rate",
        "commission_amount",
        "vendor_amount", "platform_amount", "commission_type", "status", "currency", "calculated_at",
        "approved_at",
        "paid_at", "notes", "created_at", "updated_at",
    }  # fmt: skip
    assert told(response)["order_id"] == row.order_id


@pytest.mark.parametrize("path", ["/commissions", "/commissions/", "/api/v1/commissions"])
def test_every_old_address_answers(path: str) -> None:
    row = CommissionFactory.create()

    assert told(get(path, bearer(row.vendor)))["total"] == 1


def test_aliases_of_one_and_of_the_summary_answer() -> None:
    row = CommissionFactory.create()
    headers = bearer(row.vendor)

    assert get(f"/commissions/{row.pk}", headers).status_code == 200
    assert get("/commissions/earnings/summary", headers).status_code == 200


def test_filters_filter() -> None:
    vendor = VendorFactory.create()
    keep = CommissionFactory.create(vendor=vendor, commission_type="PREMIUM", status="PAID")
    CommissionFactory.create(vendor=vendor)
    CommissionFactory.create(vendor=vendor, commission_type="PREMIUM")
    headers = bearer(vendor)

    found = told(get(COMMISSIONS, headers, status="PAID", commission_type="PREMIUM"))

    assert [row["id"] for row in found["commissions"]] == [str(keep.pk)]
    assert found["total"] == 1
    assert told(get(COMMISSIONS, headers, commission_type="PREMIUM"))["total"] == 2


def test_days_are_business_days_and_the_last_is_included() -> None:
    vendor = VendorFactory.create()
    midnight = dt.datetime(2026, 3, 4, 5, 0, tzinfo=dt.UTC)  # in Bogotá
    for moment in (
        midnight - dt.timedelta(seconds=1),
        midnight,
        midnight + dt.timedelta(hours=23, minutes=59),
    ):
        CommissionFactory.create(vendor=vendor, calculated_at=moment)
    headers = bearer(vendor)

    def total(**query: str) -> int:
        return int(told(get(COMMISSIONS, headers, **query))["total"])

    assert total(date_from="2026-03-04", date_to="2026-03-04") == 2
    assert total(date_to="2026-03-03") == 1
    assert total(date_from="2026-03-04T05:00:00Z", date_to="2026-03-04T05:00:01+00:00") == 1
    assert total(date_from="2026-03-04T00:00:00") == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "paid"), ("commission_type", "FREE"), ("date_from", "yesterday"),
        ("date_to", "2026-02-30"),
        ("limit", "0"), ("limit", "101"), ("limit", "x"), ("limit", "１"), ("offset", "-1"),
        ("offset", "10001"),
        ("page", "0"), ("page", "502"), ("cursor", "x"), ("cursor", "é"), ("vendor_id", "1"),
        ("date_to", "9999-12-31"), ("cursor", "MjAyNi0wMS0wMSAxMjM"), ("limit", "1" * 30),
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(name: str, value: str) -> None:
    response = get(COMMISSIONS, bearer(VendorFactory.create()), **{name: value})

    assert response.status_code == 422
    assert [detail["field"] for detail in told(response)["details"]] == [f"query -> {name}"]


@pytest.mark.parametrize("name", ["date_from", "date_to"])
@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59", "0001-01-01T00:00:00+05:00"])
@pytest.mark.parametrize("path", [COMMISSIONS, f"{COMMISSIONS}earnings/summary"])
def test_moments_outside_the_calendar_are_named(path: str, moment: str, name: str) -> None:
    response = get(path, bearer(VendorFactory.create()), **{name: moment})

    assert response.status_code == 422
    assert [detail["field"] for detail in told(response)["details"]] == [f"query -> {name}"]


def test_an_offset_with_fractions_of_a_second_is_a_moment_like_any_other() -> None:
    row = CommissionFactory.create(calculated_at=MOMENT)
    moment = MOMENT.astimezone(dt.timezone(dt.timedelta(hours=5, microseconds=1)))

    found = told(get(COMMISSIONS, bearer(row.vendor), date_from=moment.isoformat()))

    assert found["total"] == 1


def test_a_far_offset_is_sent_to_the_cursor() -> None:
    response = get(COMMISSIONS, bearer(VendorFactory.create()), offset=10_001)

    assert "cursor" in told(response)["details"][0]["message"]


def test_pages_hold_everything_once_in_order() -> None:
    vendor = VendorFactory.create()
    made = [
        CommissionFactory.create(
            vendor=vendor, order=OrderFactory.create(), calculated_at=MOMENT + dt.timedelta(days=n // 2)
        )
        for n in range(7)
    ]
    expected = [
        str(row.pk) for row in sorted(made, key=lambda row: (row.calculated_at, row.pk), reverse=True)
    ]
    headers = bearer(vendor)

    by_offset = [told(get(COMMISSIONS, headers, limit=3, offset=n)) for n in (0, 3, 6)]
    by_page = [told(get(COMMISSIONS, headers, limit=3, page=n)) for n in (1, 2, 3)]
    by_cursor, cursor = [], None
    for _ in range(3):
        page = told(get(COMMISSIONS, headers, limit=3, **({"cursor": cursor} if cursor else {})))
        by_cursor.append(page)
        cursor = page["next_cursor"]

    for pages in (by_offset, by_page, by_cursor):
        assert [row["id"] for page in pages for row in page["commissions"]] == expected
        assert [page["total"] for page in pages] == [7, 7, 7]
        assert [page["has_next"] for page in pages] == [True, True, False]
        assert [page["has_prev"] for page in pages] == [False, True, True]
    assert [(page["page"], page["offset"], page["total_pages"]) for page in by_offset] == [
        (1, 0, 3),
        (2, 3, 3),
        (3, 6, 3),
    ]
    assert by_cursor[-1]["next_cursor"] is None
    beyond = told(get(COMMISSIONS, headers, offset=50))
    assert (beyond["commissions"], beyond["total"], beyond["has_next"]) == ([], 7, False)
    assert told(get(COMMISSIONS, bearer(VendorFactory.create())))["total_pages"] == 0


def test_totals_beyond_what_is_counted_are_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "COUNTED", 2)
    vendor = VendorFactory.create()
    for _ in range(4):
        CommissionFactory.create(vendor=vendor)

    found = told(get(COMMISSIONS, bearer(vendor)))

    assert found["total_is_estimate"] is True
    assert found["total"] >= 3


@pytest.mark.parametrize("path", [COMMISSIONS, f"{COMMISSIONS}earnings/summary"])
def test_reading_is_one_statement_however_many_rows(path: str) -> None:
    vendor = VendorFactory.create()
    headers = bearer(vendor)
    get(path, headers)
    counts = []
    for _ in range(2):
        for _row in range(5):
            CommissionFactory.create(vendor=vendor)
        with CaptureQueriesContext(connection) as queries:
            assert get(path, headers).status_code == 200
        counts.append(sum("finance_commission" in query["sql"] for query in queries))

    assert counts == [1, 1]


# Earnings


def test_earnings_are_summed_by_status() -> None:
    vendor = VendorFactory.create()
    for status in ("PENDING", "PENDING", "APPROVED", "PAID", "CANCELLED"):
        CommissionFactory.create(vendor=vendor, status=status)
    CommissionFactory.create()

    found = told(
        get(f"{COMMISSIONS}earnings/summary", bearer(vendor), date_from="2026-03-01", date_to="2026-03-31")
    )

    assert found["vendor_id"] == str(vendor.pk)
    assert found["period"] == {"start_date": "2026-03-01T05:00:00Z", "end_date": "2026-04-01T05:00:00Z"}
    assert {name: str(value) for name, value in found["summary"].items()} == {
        "total_commissions": "5", "total_order_amount": "500000.00", "total_commission_amount": "25000.00",
        "total_vendor_earnings": "475000.00", "paid_earnings": "95000.00", "pending_earnings": "285000.00",
        "average_commission_rate": "0.0500",
    }  # fmt: skip
    assert str(found["breakdown_by_status"]["PENDING"]["earnings"]) == "190000.00"
    assert found["breakdown_by_status"]["PENDING"]["count"] == 2
    assert (found["currency"], found["currencies"]) == ("COP", ["COP"])


def test_two_currencies_are_never_added() -> None:
    vendor = VendorFactory.create()
    CommissionFactory.create(vendor=vendor)
    CommissionFactory.create(
        vendor=vendor, currency="BRL", order_amount_minor=1_000, commission_amount_minor=50
    )
    headers = bearer(vendor)

    pesos = told(get(f"{COMMISSIONS}earnings/summary", headers))
    reais = told(get(f"{COMMISSIONS}earnings/summary", headers, currency="BRL"))

    assert (pesos["currency"], str(pesos["summary"]["total_order_amount"])) == ("COP", "100000.00")
    assert (reais["currency"], str(reais["summary"]["total_order_amount"])) == ("BRL", "10.00")
    assert pesos["currencies"] == reais["currencies"] == ["BRL", "COP"]
    assert get(f"{COMMISSIONS}earnings/summary", headers, currency="XXX").status_code == 422


def test_the_only_currency_is_the_currency() -> None:
    row = CommissionFactory.create(currency="JPY", order_amount_minor=100, commission_amount_minor=5)

    found = told(get(f"{COMMISSIONS}earnings/summary", bearer(row.vendor)))

    assert (found["currency"], str(found["summary"]["total_order_amount"])) == ("JPY", "100")


def test_nothing_earned_is_zero_not_an_error() -> None:
    found = told(get(f"{COMMISSIONS}earnings/summary", bearer(AdminFactory.create())))

    assert (found["vendor_id"], found["currency"], found["breakdown_by_status"]) == (None, "COP", {})
    assert str(found["summary"]["average_commission_rate"]) == "0.0000"


def test_administrators_see_one_vendors_earnings_or_all() -> None:
    rows = [CommissionFactory.create(), CommissionFactory.create()]
    headers = bearer(AdminFactory.create())

    one = told(get(f"{COMMISSIONS}earnings/summary", headers, vendor_id=str(rows[0].vendor_id)))
    everybody = told(get(f"{COMMISSIONS}earnings/summary", headers))

    assert (one["vendor_id"], one["summary"]["total_commissions"]) == (str(rows[0].vendor_id), 1)
    assert (everybody["vendor_id"], everybody["summary"]["total_commissions"]) == (None, 2)


# What the console shows


def test_days_are_summed_in_business_time() -> None:
    late = dt.datetime(2026, 3, 5, 4, 59, 59, tzinfo=dt.UTC)  # still the 4th in Bogotá
    CommissionFactory.create(order=OrderFactory.create(placed_at=late), calculated_at=late)
    CommissionFactory.create(
        order=OrderFactory.create(placed_at=MOMENT - dt.timedelta(days=40)),
        calculated_at=MOMENT - dt.timedelta(days=40),
    )
    day = dt.date(2026, 3, 4)

    assert selectors.newest_order_day() == day
    assert selectors.orders_by_day(days=30, until=day) == [selectors.DaySum(day, "COP", 1, 13_400_000)]
    assert selectors.commissions_by_day(days=30, until=day) == [selectors.DaySum(day, "COP", 1, 500_000)]
    assert len(selectors.orders_by_day(days=60, until=day)) == 2
    assert selectors.orders_by_day(days=1) == []


def test_without_orders_there_is_no_newest_day() -> None:
    assert selectors.newest_order_day() is None
    assert not Commission.objects.exists()
