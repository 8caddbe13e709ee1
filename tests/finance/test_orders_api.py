"""Orders over HTTP: whose they are, what moves them, what a stranger learns, how many statements it takes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import simplejson
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from finance import ledger, order_changes, order_reads, tracking
from finance.models import Commission, Order, OrderItem, OutboundEvent, Refund
from finance.order_locks import OrderTransitionRefused
from finance.states import OrderStatus
from mestore.lib import sql
from mestore.lib.http import dumps
from tests.factories import administration
from tests.factories.accounts import AdminFactory, BuyerFactory, SuperuserFactory, VendorFactory, grant
from tests.factories.finance import OrderFactory
from tests.factories.sessions_security import bearer, machine, machine_bearer
from tests.finance.conftest import MACHINE
from tests.finance.refunding import fresh, net, place, refunds_of
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
V1 = "/api/v1"
PAYMENT = {"provider": "testpay", "reference": "tx-9"}


@pytest.fixture
def storefront() -> dict[str, str]:
    return machine_bearer(machine()[0])


@pytest.fixture
def buyer(db: None) -> User:
    return BuyerFactory.create()


@pytest.fixture
def superuser(db: None) -> dict[str, str]:
    user = SuperuserFactory.create()
    grant(user, "orders.update.global", "orders.manage.global")
    return administration.header(user)


def call(method: str, path: str, headers: dict[str, str], body: Any = None, **query: Any) -> Any:
    sent = {} if body is None else {"data": dumps(body), "content_type": "application/json"}
    if method == "get":
        return Client().get(V1 + path, query, headers=headers)
    return getattr(Client(), method)(V1 + path, headers=headers, **sent)


def told(response: Any) -> Any:
    return simplejson.loads(response.content, use_decimal=True)


def code(response: Any) -> tuple[int, str]:
    return response.status_code, told(response)["error_code"]


# Reading


def test_each_reads_their_own(vendor: User, buyer: User, storefront: dict[str, str]) -> None:
    own = place(vendor.pk, buyer_id=str(buyer.pk))
    other = place(vendor.pk)
    elsewhere = OrderFactory.create(source="olist", external_reference="o-1")

    assert [row["id"] for row in told(call("get", "/orders/", bearer(buyer)))] == [own.pk]
    assert [row["id"] for row in told(call("get", "/orders", storefront))] == [other.pk, own.pk]
    staff = told(call("get", "/orders/", bearer(AdminFactory.create())))
    assert [row["id"] for row in staff] == [elsewhere.pk, other.pk, own.pk]
    for path in (f"/orders/{other.pk}", f"/orders/{other.pk}/tracking", f"/orders/{other.pk}/refunds",
                 f"/orders/{10**30}", "/orders/0"):  # fmt: skip
        assert call("get", path, bearer(buyer)).status_code == 404
        assert call("get", path, {}).status_code == 401
    assert call("get", f"/orders/{elsewhere.pk}", storefront).status_code == 404
    assert call("get", "/orders/", bearer(VendorFactory.create())).status_code == 403


def test_order_is_told_exactly(vendor: User, buyer: User) -> None:
    order = place(vendor.pk, buyer_id=str(buyer.pk), notes="ring twice")
    for path in (f"/orders/{order.pk}", f"/orders/{order.pk}/"):
        response = call("get", path, bearer(buyer))
        assert response.status_code == 200
    data = told(response)

    assert b'"total_amount":134000.00' in response.content
    assert (data["order_number"], data["status"], data["payment_status"]) == (
        order.order_number, "confirmed", "approved",
    )  # fmt: skip
    assert [(item["unit_price"], item["quantity"], item["status"]) for item in data["items"]] == [
        (100_000, 1, "pending")
    ]
    assert (data["notes"], data["items_count"], data["refunds"]) == ("ring twice", 1, [])
    assert "transactions" not in data


def test_list_goes_on_by_its_link(vendor: User, buyer: User) -> None:
    placed = [place(vendor.pk, buyer_id=str(buyer.pk)).pk for _ in range(5)]
    path, found = "/orders/?limit=2", []
    for _ in range(3):
        response = Client().get(path if path.startswith(V1) else V1 + path, headers=bearer(buyer))
        found += [row["id"] for row in told(response)]
        path = response.get("Link", "").partition(">")[0].lstrip("<")

    assert found == placed[::-1]
    assert path == ""
    skipped = told(call("get", "/orders/", bearer(buyer), skip=3, limit=1))
    assert [row["id"] for row in skipped] == [placed[1]]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"}, {"limit": "101"}, {"limit": "1e2"}, {"skip": "-1"}, {"skip": "10001"},
        {"status": "lost"}, {"cursor": "x"}, {"cursor": "é"}, {"cursor": "bzA"}, {"limit": "１"},
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(superuser: dict[str, str], query: dict[str, str]) -> None:
    for path in ("/orders/", "/admin/orders"):
        response = call("get", path, superuser, **query)
        assert response.status_code == 422
        assert told(response)["details"][0]["field"] == f"query -> {next(iter(query))}"


def statements(path: str, headers: dict[str, str]) -> int:
    call("get", path, headers)
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert call("get", path, headers).status_code == 200
    return len([row for row in captured.captured_queries if "finance_" in row["sql"]])


def test_reads_take_one_statement_however_many_rows(
    vendor: User, buyer: User, superuser: dict[str, str]
) -> None:
    order = place(vendor.pk, VendorFactory.create().pk, buyer_id=str(buyer.pk))
    for _ in range(7):
        place(vendor.pk, buyer_id=str(buyer.pk))
    for path, headers in (
        ("/orders/", bearer(buyer)), (f"/orders/{order.pk}", bearer(buyer)),
        (f"/orders/{order.pk}/tracking", bearer(buyer)), ("/vendor/orders", bearer(vendor)),
        (f"/vendor/orders/{order.pk}", bearer(vendor)), ("/vendor/orders/stats/summary", bearer(vendor)),
        ("/admin/orders", superuser), (f"/admin/orders/{order.pk}", superuser),
    ):  # fmt: skip
        assert statements(path, headers) == 1, path
    assert statements("/admin/orders/stats/dashboard", superuser) == 3


# Moving


def test_confirming_posts_the_sale_once(vendor: User, storefront: dict[str, str]) -> None:
    order = place(vendor.pk, payment=...)
    path = f"/orders/{order.pk}/status"
    assert code(call("patch", path, storefront, {"status": "confirmed"})) == (422, "PAYMENT_REQUIRED")
    first = call("patch", path, storefront, {"status": "confirmed", "payment": PAYMENT})
    again = call("patch", path, storefront, {"status": "confirmed", "payment": PAYMENT})

    assert (first.status_code, again.status_code) == (200, 200), first.content
    assert fresh(order).confirmed_at is not None
    assert Commission.objects.filter(order=order).count() == 1
    assert [row.status for row in order.payments.all()] == ["approved"]
    assert net(vendor.pk)["vendor_pending"] > 0
    assert list(OutboundEvent.objects.values_list("type", flat=True)) == ["order.confirmed"]
    assert ledger.check(signatures=True).is_balanced


def test_reported_payment_confirms_and_is_not_written_twice(vendor: User, storefront: dict[str, str]) -> None:
    pending = {"provider": "testpay", "reference": "tx-9", "status": "pending"}
    order = place(vendor.pk, payment=pending)
    assert told(call("get", f"/orders/{order.pk}", storefront))["payment_status"] == "pending"
    call("patch", f"/orders/{order.pk}/status", storefront, {"status": "confirmed", "payment": PAYMENT})

    assert [(row.reference, row.status) for row in order.payments.all()] == [("tx-9", "approved")]
    assert fresh(order).status == "confirmed"


def test_order_goes_its_way(vendor: User, superuser: dict[str, str]) -> None:
    order = place(vendor.pk)
    path = f"/admin/orders/{order.pk}/status"
    assert call("patch", path, superuser, {"status": "processing", "notes": "packed"}).status_code == 200
    assert code(call("patch", path, superuser, {"status": "shipped"})) == (422, "TRACKING_NUMBER_REQUIRED")
    shipped = {"status": "shipped", "tracking_number": "SV-1", "courier": "servientrega",
               "estimated_delivery": "2026-12-01"}  # fmt: skip
    assert call("patch", path, superuser, shipped).status_code == 200
    assert call("patch", path, superuser, shipped).status_code == 200
    assert call("patch", path, superuser, {"status": "delivered"}).status_code == 200

    data = told(call("get", f"/orders/{order.pk}/tracking", superuser))
    assert (data["tracking_number"], data["courier"], data["estimated_delivery"]) == (
        "SV-1", "servientrega", "2026-12-01",
    )  # fmt: skip
    assert [event["status"] for event in data["shipping_events"]] == ["processing", "shipped", "delivered"]
    recorded = sql.fetch_all("SELECT count(*) FROM audit_event WHERE type = 'order.moved'")
    assert recorded == [(3,)]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("shipped", (409, "ORDER_TRANSITION_REFUSED")), ("pending", (409, "ORDER_TRANSITION_REFUSED")),
        ("delivered", (409, "ORDER_TRANSITION_REFUSED")), ("refunded", (409, "REFUND_REQUIRED")),
        ("lost", (400, "ORDER_STATUS_UNKNOWN")), ("CONFIRMED", (400, "ORDER_STATUS_UNKNOWN")),
        ("", (422, "VALIDATION_ERROR")), (7, (422, "VALIDATION_ERROR")), (None, (422, "VALIDATION_ERROR")),
    ],
)  # fmt: skip
def test_moves_that_are_none_are_refused(
    vendor: User, superuser: dict[str, str], status: Any, expected: tuple[int, str]
) -> None:
    order = place(vendor.pk)
    body = {"status": status, "tracking_number": "T-1"}

    assert code(call("patch", f"/admin/orders/{order.pk}/status", superuser, body)) == expected
    assert fresh(order).status == "confirmed"


def test_nobody_else_moves_orders(vendor: User, buyer: User) -> None:
    order = place(vendor.pk, buyer_id=str(buyer.pk))
    body = {"status": "processing"}
    for user in (buyer, vendor, AdminFactory.create(), SuperuserFactory.create()):
        assert call("patch", f"/orders/{order.pk}/status", bearer(user), body).status_code == 403
    assert call("patch", f"/orders/{order.pk}/status", {}, body).status_code == 401
    assert fresh(order).status == "confirmed"


# Cancelling


def test_buyer_cancels_and_gets_everything_back(vendor: User, buyer: User) -> None:
    order = place(vendor.pk, buyer_id=str(buyer.pk))
    path = f"/orders/{order.pk}/cancel"
    first = told(call("patch", path, bearer(buyer), {"reason": "changed my mind"}))
    again = told(call("patch", path, bearer(buyer), {"reason": "again"}))

    assert (first["status"], first["refund_status"], first["refund_amount"]) == (
        "cancelled",
        "processing",
        134_000,
    )
    assert (again["refund_status"], again["cancellation_reason"]) == ("processing", "changed my mind")
    assert [row.amount_minor for row in refunds_of(order)] == [order.total_minor]
    assert net(vendor.pk)["vendor_pending"] == 0
    types = set(OutboundEvent.objects.values_list("type", flat=True))
    assert types == {"order.cancelled", "refund.posted"}


@pytest.mark.parametrize(
    ("paid", "wanted", "expected"),
    [(False, True, "not_required"), (True, False, "not_requested"), (True, True, "processing")],
)
def test_what_happens_to_the_money(
    vendor: User, buyer: User, paid: bool, wanted: bool, expected: str
) -> None:
    changes: dict[str, Any] = {} if paid else {"payment": ...}
    order = place(vendor.pk, buyer_id=str(buyer.pk), **changes)
    body = {"reason": "x", "refund_requested": wanted}
    data = told(call("patch", f"/orders/{order.pk}/cancel", bearer(buyer), body))

    assert data["refund_status"] == expected
    assert len(refunds_of(order)) == (expected == "processing")


@pytest.mark.parametrize(
    "body", [{}, {"reason": ""}, {"reason": "x" * 501}, {"reason": 7}, {"reason": "a\x00b"}]
)
def test_cancelling_needs_a_reason(vendor: User, buyer: User, body: dict[str, Any]) -> None:
    order = place(vendor.pk, buyer_id=str(buyer.pk))

    assert call("patch", f"/orders/{order.pk}/cancel", bearer(buyer), body).status_code in {400, 422}
    assert fresh(order).status == "confirmed"


def test_buyer_cancels_neither_what_is_under_way_nor_what_is_anothers(vendor: User, buyer: User) -> None:
    shipped = place(vendor.pk, buyer_id=str(buyer.pk), status="shipped")
    other = place(vendor.pk)
    body = {"reason": "changed my mind"}

    assert code(call("patch", f"/orders/{shipped.pk}/cancel", bearer(buyer), body)) == (
        409, "ORDER_TRANSITION_REFUSED",
    )  # fmt: skip
    assert call("patch", f"/orders/{other.pk}/cancel", bearer(buyer), body).status_code == 404
    assert (fresh(shipped).status, fresh(other).status) == ("shipped", "confirmed")


def test_large_order_of_a_buyer_is_cancelled_and_its_money_waits_for_the_staff(
    vendor: User, buyer: User, settings: Any
) -> None:
    settings.REFUND_ALONE_UP_TO = {"COP": 13_399_999}
    order = place(vendor.pk, buyer_id=str(buyer.pk))
    data = told(call("patch", f"/orders/{order.pk}/cancel", bearer(buyer), {"reason": "changed my mind"}))

    assert (data["status"], data["refund_status"]) == ("cancelled", "pending")
    assert refunds_of(order) == []


def test_superuser_cancels_with_a_body(vendor: User, superuser: dict[str, str]) -> None:
    order = place(vendor.pk)
    body = {"reason": "the vendor cannot send it", "refund_requested": True}
    data = told(call("delete", f"/admin/orders/{order.pk}", superuser, body))

    assert (data["success"], data["order_id"], data["status"]) == (True, order.pk, "cancelled")
    assert data["refund_info"]["refund_status"] == "processing"
    assert Order.objects.filter(pk=order.pk).exists()


def test_giving_money_back_needs_a_fresh_factor_and_its_own_grant(vendor: User) -> None:
    order = place(vendor.pk)
    body = {"reason": "the vendor cannot send it"}
    user = SuperuserFactory.create()
    grant(user, "orders.update.global")
    assert call("delete", f"/admin/orders/{order.pk}", administration.header(user), body).status_code == 403
    grant(user, "orders.manage.global")
    stale = administration.header(user, fresh=False)
    assert code(call("delete", f"/admin/orders/{order.pk}", stale, body)) == (403, "STEP_UP_REQUIRED")
    assert fresh(order).status == "confirmed"


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_of_two_different_moves_one_happens(vendor: User) -> None:
    for _ in range(4):
        order = place(vendor.pk, status="processing")
        ship = partial(
            order_changes.change, order.pk, OrderStatus.SHIPPED,
            shipment=order_changes.Shipment("T-1"), by=MACHINE,
        )  # fmt: skip
        stop = partial(
            order_changes.cancel, order.pk, reason="x", refund_requested=True,
            allowed_from=order_changes.BUYER_CANCELS, by=MACHINE,
        )  # fmt: skip
        moves: list[Callable[[], Any]] = [ship, stop]
        outcomes = race(moves)
        refused = [each for each in outcomes if isinstance(each, OrderTransitionRefused)]
        assert len(refused) == 1, outcomes
        assert fresh(order).status == ("shipped" if outcomes[1] in refused else "cancelled")
        assert len(refunds_of(order)) == (fresh(order).status == "cancelled")


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_twelve_confirmations_are_one_sale(vendor: User) -> None:
    order = place(vendor.pk, payment=...)
    confirm = partial(
        order_changes.change, order.pk, OrderStatus.CONFIRMED,
        paid=order_changes.Paid("testpay", "tx-9"), by=MACHINE,
    )  # fmt: skip
    outcomes = race([confirm] * 12)

    assert {getattr(each, "status", each) for each in outcomes} == {"confirmed"}
    assert Commission.objects.filter(order=order).count() == order.payments.count() == 1
    assert ledger.check(signatures=True).is_balanced


# Following


def test_link_opens_one_order_and_tells_nothing_of_buyer_or_money(vendor: User, buyer: User) -> None:
    order, other = place(vendor.pk, buyer_id=str(buyer.pk)), place(vendor.pk)
    made = call(
        "post", "/orders/tracking/generate-token", bearer(buyer), {"order_number": order.order_number}
    )
    assert made.status_code == 201
    token = told(made)["token"]
    path = f"/orders/track/{order.order_number}"

    for tail in ("", "/detailed"):
        open_answer = call("get", path + tail, {}, token=token)
        assert open_answer.status_code == 200
        data = told(open_answer)
        assert data["order_number"] == order.order_number
        text = open_answer.content.decode()
        assert not [word for word in ("Ana", "shipping_name", "amount", "buyer", "price") if word in text]
        assert call("get", f"/orders/track/{other.order_number}{tail}", {}, token=token).status_code == 401
        for wrong in ("", "x", token[:-1], "9" + token, token.replace(".", ".A"), "é.é", "." * 300):
            assert call("get", path + tail, {}, token=wrong).status_code == 401, wrong
        assert call("get", path + tail, {"X-Tracking-Token": token}).status_code == 200


def test_link_ends(vendor: User, settings: Any) -> None:
    order = place(vendor.pk)
    link = tracking.make(order, by=MACHINE)
    assert tracking.opens(link.token, order.order_number)
    assert link.expires_at > timezone.now() + dt.timedelta(days=settings.TRACKING_LINK_DAYS - 1)
    settings.TRACKING_LINK_DAYS = -1

    assert not tracking.opens(tracking.make(order, by=MACHINE).token, order.order_number)


def test_without_a_link_only_who_may_read_the_order_follows_it(vendor: User, buyer: User) -> None:
    order = place(vendor.pk, buyer_id=str(buyer.pk))
    path = f"/orders/track/{order.order_number}"

    assert call("get", path, bearer(buyer)).status_code == 200
    assert call("get", path, bearer(BuyerFactory.create())).status_code == 404
    assert call("get", "/orders/track/ORD-1", bearer(buyer)).status_code == 404
    assert call("get", path, bearer(vendor)).status_code == 403
    made = partial(call, "post", "/orders/tracking/generate-token")
    assert made(bearer(BuyerFactory.create()), {"order_id": order.pk}).status_code == 404
    assert made(bearer(buyer), {}).status_code == 422
    assert told(call("get", "/orders/tracking/config", bearer(buyer)))["public_tracking"] == "token"


# Vendors


def test_vendor_sees_its_own_lines_only(vendor: User) -> None:
    other, third = VendorFactory.create(), VendorFactory.create()
    both, foreign = place(vendor.pk, other.pk), place(other.pk)
    data = told(call("get", "/vendor/orders", bearer(vendor)))

    assert (data["total"], [row["id"] for row in data["orders"]]) == (1, [both.pk])
    assert {item["vendor_id"] for item in data["orders"][0]["items"]} == {str(vendor.pk)}
    assert data["orders"][0]["vendor_items_total"] == 100_000
    assert call("get", f"/vendor/orders/{both.pk}", bearer(vendor)).status_code == 200
    for path in (f"/vendor/orders/{foreign.pk}", f"/vendor/orders/{2**70}"):
        assert call("get", path, bearer(vendor)).status_code == 404
    assert told(call("get", "/vendor/orders", bearer(third)))["orders"] == []
    assert call("get", "/vendor/orders", bearer(BuyerFactory.create())).status_code == 403


def test_vendors_list_goes_on(vendor: User) -> None:
    placed = [place(vendor.pk).pk for _ in range(5)]
    found: list[int] = []
    cursor: dict[str, Any] = {}
    for _ in range(3):
        data = told(call("get", "/vendor/orders", bearer(vendor), limit=2, **cursor))
        found += [row["id"] for row in data["orders"]]
        cursor = {"cursor": data["next_cursor"]}
        assert data["total"] == 5

    assert found == placed[::-1]
    assert cursor == {"cursor": None}
    assert told(call("get", "/vendor/orders", bearer(vendor), status="shipped"))["orders"] == []


def test_vendor_moves_its_own_line(vendor: User) -> None:
    other = VendorFactory.create()
    order = place(vendor.pk, other.pk)
    own, foreign = (OrderItem.objects.get(order=order, vendor=user) for user in (vendor, other))
    path = f"/vendor/orders/{order.pk}/items/"

    def move(item_id: int, status: Any) -> Any:
        return call("patch", f"{path}{item_id}/status", bearer(vendor), {"status": status})

    assert told(move(own.pk, "preparing"))["status"] == "preparing"
    assert told(move(own.pk, "preparing"))["status"] == "preparing"
    assert told(move(own.pk, "ready_to_ship"))["status"] == "ready_to_ship"
    assert move(foreign.pk, "preparing").status_code == 404
    assert move(2**70, "preparing").status_code == 404
    for wrong in ("pending", "shipped", "", None, 1):
        assert move(own.pk, wrong).status_code == 422
    summary = told(call("get", "/vendor/orders/stats/summary", bearer(vendor)))
    assert (summary["total_orders"], summary["confirmed_orders"], summary["total_revenue"]) == (1, 1, 100_000)
    assert summary["items_by_status"]["ready_to_ship"] == 1


def test_vendor_does_not_work_on_what_is_not_paid(vendor: User) -> None:
    order = place(vendor.pk, payment=...)
    item_id = OrderItem.objects.get(order=order).pk
    path = f"/vendor/orders/{order.pk}/items/{item_id}/status"

    assert code(call("patch", path, bearer(vendor), {"status": "preparing"})) == (
        409,
        "ITEM_TRANSITION_REFUSED",
    )


# Administration


def test_superuser_lists_and_finds(vendor: User, buyer: User, superuser: dict[str, str]) -> None:
    order = place(vendor.pk, buyer_id=str(buyer.pk), external_reference="cart-77")
    place(vendor.pk, payment=...)
    data = told(call("get", "/admin/orders", superuser, limit=100))

    assert (data["total"], data["skip"], data["limit"], len(data["orders"])) == (2, 0, 100, 2)
    row = data["orders"][1]
    assert (row["buyer_email"], row["items_count"], row["payment_status"]) == (buyer.email, 1, "approved")
    for word in (order.order_number.lower(), str(order.pk), buyer.email.upper(), "cart-77"):
        found = told(call("get", "/admin/orders", superuser, search=word))
        assert [each["id"] for each in found["orders"]] == [order.pk], word
    for word in ("%", "nobody@example.com", "9" * 40, "ORD", "' OR 1=1 --"):
        assert told(call("get", "/admin/orders", superuser, search=word))["orders"] == []
    assert told(call("get", "/admin/orders", superuser, status="pending"))["total"] == 1
    detail = told(call("get", f"/admin/orders/{order.pk}", superuser))
    assert [each["gateway"] for each in detail["transactions"]] == ["testpay"]
    for path in ("/admin/orders", f"/admin/orders/{order.pk}", "/admin/orders/stats/dashboard"):
        assert call("get", path, bearer(AdminFactory.create())).status_code == 403


def test_totals_beyond_what_is_counted_are_estimates(
    vendor: User, superuser: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_reads, "COUNTED", 2)
    for _ in range(4):
        OrderFactory.create()
    data = told(call("get", "/admin/orders", superuser))

    assert data["total_is_estimate"] is True
    assert data["total"] >= 3


def test_dashboard_sums_up_what_was_sold(vendor: User, buyer: User, superuser: dict[str, str]) -> None:
    place(vendor.pk, buyer_id=str(buyer.pk))
    place(vendor.pk, payment=...)
    cancelled = place(vendor.pk, buyer_id=str(buyer.pk))
    order_changes.cancel(cancelled.pk, reason="x", refund_requested=True, by=MACHINE)
    OrderFactory.create(placed_at=timezone.now() - dt.timedelta(days=400), confirmed_at=timezone.now())
    data = told(call("get", "/admin/orders/stats/dashboard", superuser))

    assert [data[f"total_orders_{span}"] for span in ("today", "week", "month")] == [3, 3, 3]
    assert [data[f"revenue_{span}"] for span in ("today", "week", "month")] == [134_000] * 3
    assert (data["pending_orders_count"], data["orders_by_status"]["cancelled"]) == (1, 1)
    assert [(row["email"], row["total_spent"]) for row in data["top_buyers"]] == [(buyer.email, 134_000)]
    assert Refund.objects.count() == 1
