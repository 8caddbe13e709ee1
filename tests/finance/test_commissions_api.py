"""Commissions over HTTP: calculating, approving, explaining, earnings by period, the staff's list."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import simplejson
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client
from django.utils import timezone

from accounts.models import User
from finance import charging, ledger, orders, periods, rule_changes, sales, selectors, settlement
from finance.models import Commission, LedgerEntry, Order
from mestore.lib import actor, sql
from mestore.lib.http import dumps
from tests.factories.accounts import AdminFactory, VendorFactory, grant
from tests.factories.finance import CommissionFactory, OrderFactory
from tests.factories.sessions_security import bearer, machine, machine_bearer
from tests.finance.conftest import MACHINE, form, item, payment
from tests.finance.test_rule_changes import ANA, EVA, WHY, in_force

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
Body = Callable[..., dict[str, Any]]
ROOT = "/api/v1/commissions/"


def told(response: Any) -> Any:
    return simplejson.loads(response.content, use_decimal=True)


def send(method: str, path: str, headers: dict[str, str], body: Any = None, **query: Any) -> Any:
    client = Client(headers=headers)
    if method == "get":
        return client.get(path, query)
    raw = body if isinstance(body, bytes) else dumps(body or {})
    return getattr(client, method)(path, raw, content_type="application/json")


@pytest.fixture
def staff() -> tuple[User, dict[str, str]]:
    user = AdminFactory.create()
    grant(user, "commissions.manage.global", "commissions.approve.global")
    return user, bearer(user)


def unposted(order_body: Body, **changes: Any) -> Order:
    """An order that was paid and confirmed by something that knew no commissions."""
    body = order_body(payment=payment(status="pending"), **changes)
    answer = json.loads(orders.place(form(body), key=str(uuid4()), by=MACHINE).body)
    order = Order.objects.get(pk=answer["data"]["id"])
    order.payments.update(status="approved")
    Order.objects.filter(pk=order.pk).update(status="confirmed", confirmed_at=order.placed_at)
    return Order.objects.get(pk=order.pk)


def posted(order_body: Body, **changes: Any) -> Commission:
    answer = json.loads(orders.place(form(order_body(**changes)), key=str(uuid4()), by=MACHINE).body)
    return Commission.objects.filter(order_id=answer["data"]["id"]).get()


WRONG_RATES: tuple[Any, ...] = (
    "1.1", 2, -1, "-0", "NaN", "1e-1", ".5", "0.1234567", "１", True, [], {}, "", "00.1", "1.000001",
)  # fmt: skip

# Calculating: the wrong cases


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "order_id"), ({"order_id": 0}, "order_id"), ({"order_id": 2**63}, "order_id"),
        ({"order_id": 1, "commission_type": "standard"}, "commission_type"),
        ({"order_id": 1, "vendor_id": "x"}, "vendor_id"),
        *(({"order_id": 1, "custom_rate": rate}, "custom_rate") for rate in WRONG_RATES),
        (b'{"order_id": 1, "custom_rate": 1e400}', "custom_rate"),
        (b'{"order_id": 1, "custom_rate": 0.12345678901234567890}', "custom_rate"),
    ],
)  # fmt: skip
def test_a_wrong_question_names_its_field(staff: Any, body: Any, field: str) -> None:
    response = send("post", f"{ROOT}calculate", staff[1], body)

    assert response.status_code == 422
    assert [detail["field"] for detail in told(response)["details"]] == [f"body -> {field}"]


def test_orders_that_cannot_be_charged(staff: Any, order_body: Body) -> None:
    pending = json.loads(orders.place(form(order_body(payment=...)), key="p", by=MACHINE).body)["data"]["id"]
    unpaid = unposted(order_body)
    unpaid.payments.update(status="declined")

    for order_id, status, code in (
        (999_999, 404, "ORDER_NOT_FOUND"), (pending, 400, "COMMISSION_CALCULATION_ERROR"),
        (unpaid.pk, 400, "COMMISSION_CALCULATION_ERROR"),
    ):  # fmt: skip
        response = send("post", f"{ROOT}calculate", staff[1], {"order_id": order_id})
        assert (response.status_code, told(response)["error_code"]) == (status, code)
    assert not Commission.objects.exists()


def test_of_several_vendors_one_must_be_named(staff: Any, order_body: Body, vendor: User) -> None:
    other = VendorFactory.create()
    order = unposted(order_body, items=[item(vendor.pk), item(other.pk)])
    ask = {"order_id": order.pk}

    ambiguous = send("post", f"{ROOT}calculate", staff[1], ask)
    stranger = send("post", f"{ROOT}calculate", staff[1], ask | {"vendor_id": str(uuid4())})
    made = send("post", f"{ROOT}calculate", staff[1], ask | {"vendor_id": str(other.pk)})

    assert (ambiguous.status_code, stranger.status_code, made.status_code) == (422, 400, 201)
    assert told(ambiguous)["details"][0]["error_type"] == "vendor_ambiguous"
    assert told(stranger)["error_code"] == "COMMISSION_CALCULATION_ERROR"
    assert Commission.objects.get().vendor_id == other.pk
    assert ledger.check(signatures=True).is_balanced


# Calculating: what comes of it


def test_what_is_posted_is_returned(staff: Any, order_body: Body) -> None:
    row = posted(order_body)

    response = send("post", f"{ROOT}calculate", staff[1], {"order_id": row.order_id, "custom_rate": "0.9"})

    assert response.status_code == 200
    assert (told(response)["id"], told(response)["commission_rate"]) == (str(row.pk), Decimal("0.05"))
    assert Commission.objects.count() == 1


@pytest.mark.parametrize(
    ("asked", "rate", "kind"),
    [
        ({}, "0.05", "STANDARD"), ({"commission_type": "PREMIUM"}, "0.03", "PREMIUM"),
        ({"custom_rate": 0}, "0", "STANDARD"), ({"custom_rate": "0.123450"}, "0.12345", "STANDARD"),
        ({"custom_rate": 1, "commission_type": "PROMOTIONAL"}, "1", "PROMOTIONAL"),
        ({"custom_rate": None, "vendor_id": None}, "0.05", "STANDARD"),
    ],
)  # fmt: skip
def test_a_sale_without_its_commission_gets_one(
    staff: Any, order_body: Body, asked: dict[str, Any], rate: str, kind: str
) -> None:
    order = unposted(order_body)

    first = send("post", f"{ROOT}calculate", staff[1], {"order_id": order.pk} | asked)
    second = send("post", f"{ROOT}calculate/", staff[1], {"order_id": order.pk} | asked)

    assert (first.status_code, second.status_code) == (201, 200)
    assert told(first) == told(second)
    assert (told(first)["commission_rate"], told(first)["commission_type"]) == (Decimal(rate), kind)
    assert told(first)["commission_amount"] == 100_000 * Decimal(rate)
    assert ledger.check(signatures=True).is_balanced


def test_a_type_leaves_the_rules_of_that_type(staff: Any, order_body: Body) -> None:
    in_force(rate_ppm=10_000, kind="PREMIUM")
    in_force(rate_ppm=90_000, kind="STANDARD", category="c")
    order = unposted(order_body)

    response = send(
        "post", "/commissions/calculate", staff[1], {"order_id": order.pk, "commission_type": "PREMIUM"}
    )

    assert told(response)["commission_rate"] == Decimal("0.01")


def test_who_gave_a_rate_does_not_approve_it(staff: Any, order_body: Body) -> None:
    _user, headers = staff
    order = unposted(order_body)
    made = told(send("post", f"{ROOT}calculate", headers, {"order_id": order.pk, "custom_rate": "0.01"}))
    second = AdminFactory.create()
    grant(second, "commissions.approve.global")

    own = send("patch", f"{ROOT}{made['id']}/approve", headers)
    other = send("patch", f"{ROOT}{made['id']}/approve", bearer(second), {"notes": "as agreed"})

    assert (own.status_code, other.status_code) == (403, 200)
    assert Commission.objects.get().approved_by == second.pk


@pytest.mark.parametrize("asked", [{"commission_type": "PROMOTIONAL"}, {"custom_rate": "0.05"}])
def test_what_somebody_chose_by_hand_is_approved_by_another_person_only(
    staff: Any, order_body: Body, settings: Any, asked: dict[str, Any]
) -> None:
    settings.SETTLEMENT_HOLD_DAYS = 0
    order = unposted(order_body)
    made = told(send("post", f"{ROOT}calculate", staff[1], {"order_id": order.pk} | asked))
    by_rule = posted(order_body)
    second = AdminFactory.create()
    grant(second, "commissions.approve.global")

    settlement.settle(by=MACHINE)
    by_policy = Commission.objects.get(pk=made["id"]).status
    own = send("patch", f"{ROOT}{made['id']}/approve", staff[1])
    other = send("patch", f"{ROOT}{made['id']}/approve", bearer(second))
    settlement.settle(by=MACHINE)

    assert (by_policy, own.status_code, other.status_code) == ("PENDING", 403, 200)
    assert Commission.objects.get(pk=by_rule.pk).status == "PAID"
    assert Commission.objects.get(pk=made["id"]).status == "PAID"


# Approving


def test_only_a_pending_commission_is_approved(staff: Any, order_body: Body) -> None:
    row = posted(order_body)
    path = f"{ROOT}{row.pk}/approve"

    too_long = send("patch", path, staff[1], {"notes": "x" * 501})
    first = send("patch", path, staff[1], {"notes": "x" * 500})
    again = send("patch", f"{path}/", staff[1])
    unknown = send("patch", f"{ROOT}{uuid4()}/approve", staff[1])

    statuses = [response.status_code for response in (too_long, first, again, unknown)]
    assert statuses == [422, 200, 400, 404]
    assert (told(first)["status"], told(first)["approved_at"] is not None) == ("APPROVED", True)
    assert sql.fetch_all("SELECT actor_id FROM audit_event WHERE type = 'commission.approved'") == [
        (str(staff[0].pk),)
    ]


@pytest.mark.parametrize(
    "path", ["calculate", "00000000-0000-4000-8000-000000000001/approve", "orders/1/process-commission"]
)
def test_an_administrator_without_the_grant_is_refused(path: str) -> None:
    method = "patch" if path.endswith("approve") else "post"

    response = send(method, f"{ROOT}{path}", bearer(AdminFactory.create()), {"order_id": 1})

    assert response.status_code == 403


# Processing


def test_what_is_found_after_the_books_were_closed_is_posted_now(
    order_body: Body, staff: tuple[User, dict[str, str]]
) -> None:
    order = unposted(order_body)
    closed = timezone.now()
    periods.close(closed, reason="the month is over", by=actor.system("test"))
    path = f"{ROOT}orders/{order.pk}/process-commission"

    answer = send("post", path, staff[1])

    assert answer.status_code == 200
    assert LedgerEntry.objects.get(kind="sale").occurred_at >= closed
    assert Commission.objects.get().calculated_at == order.confirmed_at


def test_the_machine_account_charges_what_is_not_charged(order_body: Body, vendor: User) -> None:
    client, _key = machine()
    headers = machine_bearer(client)
    order = unposted(order_body, items=[item(vendor.pk), item(VendorFactory.create().pk)])
    path = f"{ROOT}orders/{order.pk}/process-commission"

    first, second = send("post", path, headers), send("post", path, headers)
    again = send("post", f"{path}?force_recalculate=true", headers)
    wrong = send("post", f"{path}?force_recalculate=perhaps", headers)
    unknown = send("post", f"{ROOT}orders/{10**17}/process-commission", headers)

    assert [told(response)["created"] for response in (first, second)] == [2, 0]
    assert told(first)["commissions"] == told(second)["commissions"]
    assert [response.status_code for response in (again, wrong, unknown)] == [409, 422, 404]
    assert Commission.objects.count() == 2
    assert ledger.check(signatures=True).is_balanced


def test_the_machine_account_charges_orders_of_its_own_only(vendor: User) -> None:
    client, _key = machine()
    order = OrderFactory.create(source="elsewhere")
    CommissionFactory.create(order=order, vendor=vendor)

    answer = send("post", f"{ROOT}orders/{order.pk}/process-commission", machine_bearer(client))

    assert answer.status_code == 404


# Explaining


def test_a_vendor_is_told_step_by_step(order_body: Body, vendor: User) -> None:
    wide = in_force(name="everybody", rate_ppm=100_000)
    narrow = in_force(name="yours", vendor=vendor.pk, rate_ppm=123_450, fixed=100, cap=12_400)
    row = posted(order_body, items=[item(vendor.pk, "999.99")])

    found = told(send("get", f"{ROOT}{row.pk}/explain", bearer(vendor)))

    assert (found["commission_amount"], found["agrees"], found["currency"]) == ("124.00", True, "COP")
    group = found["groups"][0]
    assert (group["rule"]["name"], group["rule"]["id"], group["why"]) == ("yours", str(narrow.pk), "vendor")
    assert [(rival["rule"]["id"], rival["lost_by"]) for rival in group["considered"]] == [
        (str(wide.pk), "vendor")
    ]
    assert [(step["step"], step["figures"], step["amount"]) for step in group["steps"]] == [
        ("base", "999.99", "999.99"), ("rate", "12.345 % × 999.99 = 123.4487655", "123.45"),
        ("fixed", "+ 1.00", "124.45"), ("cap", "≤ 124.00", "124.00"),
    ]  # fmt: skip
    assert found["deductions"] == [{"step": "fee_tax", "figures": "19 % × 124.00", "amount": "23.56"}]


def test_the_default_the_floor_the_tier_and_the_goods_are_told(order_body: Body, vendor: User) -> None:
    in_force(vendor=vendor.pk, rate_ppm=10_000, tiers=((1, 20_000),), floor=500, category="a")
    in_force(vendor=vendor.pk, rate_ppm=0, fixed=500_000, category="b")
    posted(order_body)
    lines = [
        item(vendor.pk, "100", category="a"),
        item(vendor.pk, "3000", category="b"),
        item(vendor.pk, "1"),
    ]
    row = posted(order_body, items=lines)

    found = told(send("get", f"{ROOT}{row.pk}/explain/", bearer(AdminFactory.create())))

    assert found["agrees"] is True
    steps = [[step["step"] for step in group["steps"]] for group in found["groups"]]
    assert steps == [["base", "tier", "rate", "floor"], ["base", "rate", "fixed", "goods"], ["base", "rate"]]
    assert [group["why"] for group in found["groups"]] == ["only", "only", "default"]
    assert found["groups"][0]["sold_before"] == "100000.00"


def test_what_is_withheld_is_told(order_body: Body, settings: Any) -> None:
    settings.WITHHOLDINGS = {
        "COP": [{"name": "retefuente", "ppm": 15_000}, {"name": "reteIVA", "ppm": 150_000, "of": "tax"}]
    }
    row = posted(order_body)

    found = told(send("get", f"{ROOT}{row.pk}/explain", bearer(AdminFactory.create())))

    assert [(step["step"], step["figures"], step["amount"]) for step in found["deductions"]] == [
        ("fee_tax", "19 % × 5000.00", "950.00"), ("retefuente", "1.5 % × 100000.00", "1500.00"),
        ("reteIVA", "15 %", "2850.00"),
    ]  # fmt: skip
    assert found["agrees"] is True


def test_only_the_owner_and_the_staff_are_told(order_body: Body) -> None:
    row = posted(order_body)
    old = CommissionFactory.create()

    assert send("get", f"{ROOT}{row.pk}/explain", bearer(VendorFactory.create())).status_code == 403
    admin = bearer(AdminFactory.create())
    assert send("get", f"{ROOT}{uuid4()}/explain", admin).status_code == 404
    assert send("get", f"{ROOT}{old.pk}/explain", admin).status_code == 404


def test_the_command_explains_and_says_when_figures_differ(order_body: Body) -> None:
    row = posted(order_body)
    out = io.StringIO()

    call_command("commission_explain", row.commission_number, stdout=out)
    call_command("commission_explain", str(row.pk), "--json", stdout=out)

    assert "rate: 5 % × 100000.00 = 5000 = 5000.00" in out.getvalue()
    assert json.loads(out.getvalue().splitlines()[-1])["agrees"] is True
    with pytest.raises(CommandError):
        call_command("commission_explain", "COM-1", stdout=out)


def test_terms_that_are_not_those_of_the_charge_are_found(order_body: Body) -> None:
    order = unposted(order_body)
    with transaction.atomic():
        (earned,) = sales.post_sale(order, provider="testpay", at=order.placed_at, by=MACHINE)
    kept = json.loads(earned.snapshot)
    kept["groups"][0]["rate_ppm"] = 40_000
    forged = json.dumps(kept)
    copy = Commission.objects.get(pk=earned.id)
    copy.rule_snapshot, copy.rule_hash = forged, charging.snapshot_hash(forged)

    from finance import commission_explain

    assert commission_explain.of(Commission.objects.get(pk=earned.id)).agrees
    assert not commission_explain.of(copy).agrees


# Lists and earnings


def test_the_list_sums_up_what_matches(order_body: Body, vendor: User) -> None:
    for _ in range(3):
        posted(order_body)
    CommissionFactory.create()

    page = told(send("get", ROOT, bearer(vendor), limit="2"))

    assert (page["total"], page["page"], page["page_size"], page["total_pages"]) == (3, 1, 2, 2)
    assert page["summary"] == {
        "currency": "COP", "currencies": ["COP"], "total_commissions": 3, "total_order_amount": 300_000,
        "total_commission_amount": 15_000, "total_vendor_earnings": 285_000,
    }  # fmt: skip
    assert told(send("get", ROOT, bearer(VendorFactory.create())))["summary"]["total_commissions"] == 0


def test_the_staff_sees_more(staff: Any, order_body: Body) -> None:
    row = posted(order_body)
    posted(order_body)
    send("patch", f"{ROOT}{row.pk}/approve", staff[1], {"notes": "inside"})

    page = told(send("get", f"{ROOT}admin/commissions", staff[1], order_id=str(row.order_id)))

    assert page["total"] == 1
    (shown,) = page["commissions"]
    assert (shown["admin_notes"], shown["approved_by_id"]) == ("inside", str(staff[0].pk))
    assert shown["transaction_id"] == str(row.entry_id)
    assert (shown["fee_tax_amount"], shown["withheld_amount"]) == (Decimal("950.00"), 0)
    own = told(send("get", f"{ROOT}{row.pk}", staff[1]))
    assert "admin_notes" not in own


@pytest.mark.parametrize("order_id", ["0", "-1", "x", "1" * 10])
def test_an_order_that_cannot_be_is_named(staff: Any, order_id: str) -> None:
    assert send("get", f"{ROOT}admin/commissions", staff[1], order_id=order_id).status_code == 422


TODAY = dt.date(2026, 3, 31)


@pytest.mark.parametrize(
    ("period", "since", "until"),
    [
        ("current_month", "2026-03-01", "2026-04-01"), ("last_month", "2026-02-01", "2026-03-01"),
        ("last_3_months", "2025-12-01", "2026-03-01"), ("ytd", "2026-01-01", "2026-04-01"),
        ("all_time", None, None),
    ],
)  # fmt: skip
def test_periods_are_business_months(period: str, since: str | None, until: str | None) -> None:
    def moment(day: str | None) -> dt.datetime | None:
        return None if day is None else selectors.start_of(dt.date.fromisoformat(day))

    assert selectors.earnings_period(period, today=TODAY) == (moment(since), moment(until))


def test_earnings_of_a_period(order_body: Body, vendor: User) -> None:
    posted(order_body)
    CommissionFactory.create(vendor=vendor)  # of last spring

    this = told(send("get", f"{ROOT}vendors/earnings", bearer(vendor)))
    ever = told(send("get", f"{ROOT}vendors/earnings", bearer(vendor), period="all_time"))

    assert (this["period_name"], this["summary"]["total_commissions"]) == ("current_month", 1)
    assert ever["summary"]["total_commissions"] == 2
    assert send("get", f"{ROOT}vendors/earnings", bearer(vendor), period="week").status_code == 422


def test_an_ended_rule_is_still_explained(order_body: Body, vendor: User) -> None:
    rule = in_force(vendor=vendor.pk, rate_ppm=100_000)
    row = posted(order_body)
    rule_changes.end(rule.pk, reason=WHY, by=ANA)

    found = told(send("get", f"{ROOT}{row.pk}/explain", bearer(vendor)))

    assert found["groups"][0]["rule"]["rate_ppm"] == 100_000
    assert EVA.id == str(rule.approved_by)
