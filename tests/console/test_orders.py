"""What the staff does to orders and refunds from the console."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from accounts import approvals
from accounts.models import ApprovalRequest
from finance.models import Order, Refund
from tests.console.house import Visitor, person, visitor
from tests.factories import administration
from tests.factories.accounts import VendorFactory
from tests.finance.refunding import fresh, net, place, refunds_of, settle, spend

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
MOVING = ("orders.update.global",)
REFUNDING = ("orders.update.global", "orders.manage.global")
REASON = "asked for in writing"
DO = "/admin/finance/order/do/"


def do(client: Client, row: Any, action: str, **values: Any) -> Any:
    path = DO if isinstance(row, Order) else "/admin/finance/refund/do/"
    return client.post(path, {"action": action, "pk": [row.pk], "reason": REASON, **values})


def page(client: Client, row: Order | Refund) -> str:
    kind = "order" if isinstance(row, Order) else "refund"
    answer = client.get(f"/admin/finance/{kind}/{row.pk}/change/")
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.fixture
def vendor_id(db: None) -> UUID:
    return VendorFactory.create().pk


@pytest.fixture
def refunder(db: None) -> Visitor:
    return visitor(permissions=REFUNDING)


def test_who_only_looks_is_offered_nothing_and_does_nothing(vendor_id: UUID) -> None:
    order = place(vendor_id)
    client = visitor().client

    assert DO not in page(client, order)
    for action in ("process", "cancel", "cancel_and_refund", "refund"):
        assert do(client, order, action).status_code == 403
    assert fresh(order).status == "confirmed"


def test_moving_orders_does_not_move_money(vendor_id: UUID) -> None:
    order = place(vendor_id)
    client = visitor(permissions=MOVING).client

    assert do(client, order, "process").status_code == 302
    for action in ("refund", "cancel_and_refund"):
        assert do(client, order, action).status_code == 403
    assert (fresh(order).status, refunds_of(order)) == ("processing", [])


def test_order_goes_its_way(vendor_id: UUID, refunder: Visitor) -> None:
    order = place(vendor_id, payment=...)
    client = refunder.client
    assert do(client, order, "confirm", provider="A B", reference="tx-1").status_code == 400
    for action, values in (
        ("confirm", {"provider": "testpay", "reference": "tx-1"}), ("process", {}),
        ("ship", {"tracking_number": "SV-1", "courier": ""}), ("deliver", {}),
    ):  # fmt: skip
        assert do(client, order, action, **values).status_code == 302, action

    assert (fresh(order).status, fresh(order).tracking_number) == ("delivered", "SV-1")
    assert net(vendor_id)["vendor_pending"] > 0
    # What is not offered any more changes nothing.
    assert do(client, order, "process").status_code == 302
    assert fresh(order).status == "delivered"


def test_refund_shows_who_bears_it_and_takes_it_there(vendor_id: UUID, refunder: Visitor) -> None:
    order = place(vendor_id)
    settle(order)
    spend(vendor_id, 1_000_000)
    shown = page(refunder.client, order)
    assert "If all that remains were refunded" in shown or "reembols" in shown

    assert do(refunder.client, order, "refund", amount="1e3").status_code == 409
    assert do(refunder.client, order, "refund", amount="134000.01").status_code == 409
    assert do(refunder.client, order, "refund", amount="34000.00").status_code == 302
    assert do(refunder.client, order, "refund", amount="").status_code == 302
    assert [row.amount_minor for row in refunds_of(order)] == [3_400_000, 10_000_000]
    assert do(refunder.client, order, "refund", amount="").status_code == 302  # no longer offered
    assert len(refunds_of(order)) == 2


def test_cancel_and_refund(vendor_id: UUID, refunder: Visitor) -> None:
    order, other = place(vendor_id), place(vendor_id)
    assert do(refunder.client, order, "cancel_and_refund").status_code == 302
    assert do(refunder.client, other, "cancel").status_code == 302

    assert [len(refunds_of(row)) for row in (order, other)] == [1, 0]
    assert {fresh(row).status for row in (order, other)} == {"cancelled"}


def test_large_refund_waits_for_a_second_person(vendor_id: UUID, refunder: Visitor, settings: Any) -> None:
    settings.REFUND_ALONE_UP_TO = {}
    order = place(vendor_id)
    answer = do(refunder.client, order, "refund", amount="")

    assert (answer.status_code, refunds_of(order)) == (409, [])
    request = ApprovalRequest.objects.get(action="refunds.post")
    second, _device = person(permissions=("orders.approve.global",))
    approvals.approve(request.pk, by=administration.acting(second))
    assert [row.amount_minor for row in refunds_of(order)] == [order.total_minor]


def test_refund_is_followed_to_its_end(vendor_id: UUID, refunder: Visitor) -> None:
    first, second = place(vendor_id), place(vendor_id)
    for order in (first, second):
        do(refunder.client, order, "refund", amount="")
    (paid,), (failed,) = refunds_of(first), refunds_of(second)
    assert "/admin/finance/ledgerentry/" in page(refunder.client, paid)

    assert do(refunder.client, paid, "paid").status_code == 400
    assert do(refunder.client, paid, "paid", provider_reference="rf-1").status_code == 302
    assert do(refunder.client, failed, "paid", provider_reference="rf-1").status_code == 409
    assert do(refunder.client, failed, "failed").status_code == 302
    assert (fresh(paid).status, fresh(failed).status, fresh(failed).failure) == ("paid", "failed", REASON)


def test_what_is_still_to_be_refunded_shows_on_the_order_and_two_give_it_up(
    vendor_id: UUID, refunder: Visitor
) -> None:
    order, other = place(vendor_id), place(vendor_id)
    do(refunder.client, order, "cancel_and_refund")
    do(refunder.client, order, "give_up_claim")
    assert not ApprovalRequest.objects.exists()
    do(refunder.client, refunds_of(order)[0], "failed")
    shown = refunder.client.get("/admin/finance/order/", {"refund": "due"}).content.decode()
    assert order.order_number in shown
    assert other.order_number not in shown
    assert "give_up_claim" in page(refunder.client, order)
    assert "give_up_claim" not in page(refunder.client, other)
    assert do(visitor(permissions=MOVING).client, order, "give_up_claim").status_code == 403

    assert do(refunder.client, order, "give_up_claim").status_code == 302
    assert fresh(order).refund_due_minor == order.total_minor
    request = ApprovalRequest.objects.get(action="refunds.give_up")
    second, _device = person(permissions=("orders.approve.global",))
    approvals.approve(request.pk, by=administration.acting(second))
    assert fresh(order).refund_due_minor == 0
