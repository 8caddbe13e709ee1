"""Refunds over HTTP: who may, hostile bodies, replays, twins, the second person, what is told to whom."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
import simplejson
from django.test import Client

from accounts import approvals
from accounts.models import User
from finance import ledger, refunds
from finance.models import IdempotencyKey, OrderItem, OutboundEvent, Refund
from mestore.lib.http import dumps
from tests.factories import administration
from tests.factories.accounts import AdminFactory, BuyerFactory, SuperuserFactory, VendorFactory, grant
from tests.factories.sessions_security import bearer, machine, machine_bearer
from tests.finance.refunding import fresh, place, refunds_of, settle
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
V1 = "/api/v1"
REFUNDING = "orders.manage.global"


@pytest.fixture
def storefront() -> dict[str, str]:
    return machine_bearer(machine()[0])


def admin(*permissions: str, fresh: bool = True) -> tuple[User, dict[str, str]]:
    user = AdminFactory.create(security_clearance_level=5)
    grant(user, *permissions)
    return user, administration.header(user, fresh=fresh)


def post(path: str, headers: dict[str, str], body: Any, key: str | None = "key-1") -> Any:
    raw = body if isinstance(body, bytes) else dumps(body)
    sent = headers | ({"Idempotency-Key": key} if key is not None else {})
    return Client().post(V1 + path, raw, content_type="application/json", headers=sent)


def get(path: str, headers: dict[str, str], **query: Any) -> Any:
    return Client().get(V1 + path, query, headers=headers)


def told(response: Any) -> Any:
    return simplejson.loads(response.content, use_decimal=True)


def code(response: Any) -> tuple[int, str]:
    return response.status_code, told(response)["error_code"]


def body(amount: Any = "1000.00", **changes: Any) -> dict[str, Any]:
    return {"amount": amount, "currency": "COP", "reason": "came back broken", **changes}


# Who


def test_who_refunds(vendor: User, storefront: dict[str, str]) -> None:
    buyer = BuyerFactory.create()
    order = place(vendor.pk, buyer_id=str(buyer.pk))
    path = f"/orders/{order.pk}/refunds"
    for user in (buyer, vendor, AdminFactory.create(), SuperuserFactory.create()):
        assert post(path, bearer(user), body()).status_code == 403
    assert post(path, {}, body()).status_code == 401
    _user, stale = admin(REFUNDING, fresh=False)
    assert code(post(path, stale, body())) == (403, "STEP_UP_REQUIRED")
    assert refunds_of(order) == []

    _user, headers = admin(REFUNDING)
    assert post(path, headers, body()).status_code == 201
    assert post(path, storefront, body()).status_code == 201
    for wrong in ("/orders/0/refunds", f"/orders/{10**30}/refunds", "/orders/99999999/refunds"):
        assert post(wrong, storefront, body(), "key-2").status_code == 404


def test_who_reads(vendor: User, storefront: dict[str, str]) -> None:
    buyer = BuyerFactory.create()
    order = place(vendor.pk, buyer_id=str(buyer.pk))
    made = told(post(f"/orders/{order.pk}/refunds", storefront, body()))
    path = f"/refunds/{made['id']}"

    assert (made["amount"], made["currency"], made["status"]) == ("1000.00", "COP", "posted")
    assert [part["vendor_id"] for part in made["parts"]] == [str(vendor.pk)]
    own = told(get(path, bearer(buyer)))
    assert own["amount"] == "1000.00"
    assert "parts" not in own
    for headers in (bearer(BuyerFactory.create()),):
        assert get(path, headers).status_code == 404
        assert get(f"/orders/{order.pk}/refunds", headers).status_code == 404
        assert told(get("/refunds/", headers)) == {"results": [], "next": None}
    assert get(path, bearer(vendor)).status_code == 403
    assert get(f"/refunds/{uuid4()}", storefront).status_code == 404
    for listing in ("/refunds", "/refunds/", f"/orders/{order.pk}/refunds/"):
        assert [row["id"] for row in told(get(listing, storefront))["results"]] == [made["id"]]


def test_list_goes_on(vendor: User, storefront: dict[str, str]) -> None:
    order = place(vendor.pk)
    path = f"/orders/{order.pk}/refunds"
    made = [told(post(path, storefront, body(), f"key-{n}"))["id"] for n in range(5)]
    found: list[str] = []
    cursor: dict[str, Any] = {}
    for _ in range(3):
        page = told(get(path, storefront, limit=2, **cursor))
        found += [row["id"] for row in page["results"]]
        cursor = {"cursor": page["next"]}

    assert found == made[::-1]
    assert cursor == {"cursor": None}
    assert get(path, storefront, cursor="x").status_code == 422
    assert told(get("/refunds/", storefront, status="paid"))["results"] == []


# Hostile bodies (T23)


@pytest.mark.parametrize(
    ("raw", "status", "field"),
    [
        (b'{"amount":1e400,"currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"amount":1e2,"currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"amount":12345678901234567890.12,"currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"amount":0.105,"currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"amount":"0.00","currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"amount":0,"currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"amount":-1,"currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"amount":"-1.00","currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"amount":"+1","currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"amount":"1_000","currency":"COP","reason":"x"}', 422, "body -> amount"),
        ('{"amount":"１２","currency":"COP","reason":"x"}'.encode(), 422, "body -> amount"),
        (b'{"amount":" 1","currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"amount":true,"currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"amount":null,"currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"amount":["1"],"currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"amount":{"a":1},"currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"currency":"COP","reason":"x"}', 422, "body -> amount"),
        (b'{"amount":"1","currency":"COP","amount":"99","reason":"x"}', 400, ""),
        (b'{"amount":NaN,"currency":"COP","reason":"x"}', 400, ""),
        (b'{"amount":Infinity,"currency":"COP","reason":"x"}', 400, ""),
        (b'{"amount":"1","currency":"XXX","reason":"x"}', 422, "body -> currency"),
        (b'{"amount":"1","currency":"cop","reason":"x"}', 422, "body -> currency"),
        (b'{"amount":"1","reason":"x"}', 422, "body -> currency"),
        (b'{"amount":"1","currency":"COP"}', 422, "body -> reason"),
        (b'{"amount":"1","currency":"COP","reason":""}', 422, "body -> reason"),
        (b'{"amount":"1","currency":"COP","reason":7}', 422, "body -> reason"),
        (b'{"amount":"1","currency":"COP","reason":"a\\u0000b"}', 400, ""),
        (b'{"amount":"1","currency":"COP","reason":"' + b"x" * 501 + b'"}', 422, "body -> reason"),
        (b'{"amount":"1","currency":"COP","reason":"x","items":7}', 422, "body -> items"),
        (b'{"amount":"1","currency":"COP","reason":"x","items":[{"item_id":1,"amount":1e9}]}', 422,
         "body -> items -> 0 -> amount"),
        (b'{"amount":"1","currency":"COP","reason":"x","provider":"A B"}', 422, "body -> provider"),
        (b"[]", 422, ""), (b"null", 422, ""), (b"", 422, ""), (b"{", 400, ""), (b"\xff", 400, ""),
    ],
)  # fmt: skip
def test_hostile_bodies_are_refused_by_name(
    vendor: User, storefront: dict[str, str], raw: bytes, status: int, field: str
) -> None:
    order = place(vendor.pk)
    response = post(f"/orders/{order.pk}/refunds", storefront, raw, "refund-1")

    assert response.status_code == status, response.content
    if field:
        assert field in [detail["field"] for detail in told(response)["details"]], response.content
    assert refunds_of(order) == []
    assert not IdempotencyKey.objects.filter(key="refund-1").exists()


def test_amount_is_what_was_written(vendor: User, storefront: dict[str, str]) -> None:
    order = place(vendor.pk)
    raw = b'{"amount":0.10,"currency":"COP","reason":"x"}'

    assert told(post(f"/orders/{order.pk}/refunds", storefront, raw))["amount"] == "0.10"
    assert refunds_of(order)[0].amount_minor == 10


@pytest.mark.parametrize("key", [None, "", "a b", "x" * 256])
def test_refund_needs_a_key(vendor: User, storefront: dict[str, str], key: str | None) -> None:
    order = place(vendor.pk)

    assert code(post(f"/orders/{order.pk}/refunds", storefront, body(), key)) == (
        400, "IDEMPOTENCY_KEY_REQUIRED",
    )  # fmt: skip


# Once


def test_replay_is_answered_the_same(vendor: User, storefront: dict[str, str]) -> None:
    order = place(vendor.pk)
    path = f"/orders/{order.pk}/refunds"
    first = post(path, storefront, body("1000.00"))
    again = post(path, storefront, b'{"reason":"came back broken", "currency":"COP","amount": 1000}')

    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    assert again["Idempotent-Replayed"] == "true"
    assert len(refunds_of(order)) == 1
    other = place(vendor.pk)
    for path_, changed in ((path, body("1000.01")), (f"/orders/{other.pk}/refunds", body("1000.00"))):
        assert code(post(path_, storefront, changed)) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_refusal_is_remembered(vendor: User, storefront: dict[str, str]) -> None:
    order = place(vendor.pk)
    path = f"/orders/{order.pk}/refunds"
    first = post(path, storefront, body("134000.01"))
    again = post(path, storefront, body("134000.01"))

    assert code(first) == code(again) == (409, "REFUND_TOO_LARGE")
    assert again["Idempotent-Replayed"] == "true"
    assert told(again)["details"] == told(first)["details"]
    assert "134000.00" in told(first)["details"][0]["message"]
    assert code(post(path, storefront, body(currency="USD"), "key-2")) == (422, "REFUND_CURRENCY_DIFFERS")
    unpaid = place(vendor.pk, payment=...)
    assert code(post(f"/orders/{unpaid.pk}/refunds", storefront, body(), "key-3")) == (
        409, "NOTHING_TO_REFUND",
    )  # fmt: skip


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_twenty_twins_are_one_refund(vendor: User, storefront: dict[str, str]) -> None:
    order = place(vendor.pk)
    settle(order)
    send = partial(post, f"/orders/{order.pk}/refunds", storefront, body())
    outcomes = race([send] * 20)

    assert {response.status_code for response in outcomes} <= {201, 409}  # type: ignore[union-attr]
    assert len({response.content for response in outcomes if response.status_code == 201}) == 1  # type: ignore[union-attr]
    assert len(refunds_of(order)) == 1
    assert ledger.check(signatures=True).is_balanced


# Items


def test_items_say_whose_it_is(vendor: User, storefront: dict[str, str]) -> None:
    other = VendorFactory.create()
    order = place(vendor.pk, other.pk)
    path = f"/orders/{order.pk}/refunds"
    own, foreign = (OrderItem.objects.get(order=order, vendor=user) for user in (vendor, other))
    made = told(post(path, storefront, body("119000.00", items=[{"item_id": own.pk, "amount": "119000.00"}])))

    assert [(part["vendor_id"], part["amount"]) for part in made["parts"]] == [(str(vendor.pk), "119000.00")]
    elsewhere = OrderItem.objects.get(order=place(vendor.pk))
    cases: list[Any] = [
        [{"item_id": elsewhere.pk, "amount": "1.00"}], [{"item_id": 2**62, "amount": "1.00"}],
        [{"item_id": foreign.pk, "amount": "0.99"}],
        [{"item_id": foreign.pk, "amount": "0.50"}, {"item_id": foreign.pk, "amount": "0.50"}],
    ]  # fmt: skip
    for number, items in enumerate(cases):
        assert code(post(path, storefront, body("1.00", items=items), f"wrong-{number}")) == (
            422, "REFUND_ITEMS_WRONG",
        )  # fmt: skip
    large = body("134000.01", items=[{"item_id": foreign.pk, "amount": "134000.01"}])
    assert code(post(path, storefront, large, "large")) == (409, "REFUND_TOO_LARGE")
    assert len(refunds_of(order)) == 1


# The second person


def test_large_refund_of_a_person_waits_for_another(vendor: User, settings: Any) -> None:
    settings.REFUND_ALONE_UP_TO = {"COP": 99_999}
    order = place(vendor.pk)
    path = f"/orders/{order.pk}/refunds"
    asker, headers = admin(REFUNDING)
    first = post(path, headers, body())
    again = post(path, headers, body())

    assert (first.status_code, again.content) == (202, first.content)
    assert refunds_of(order) == []
    assert code(post(path, headers, body("134000.01"), "key-2")) == (409, "REFUND_TOO_LARGE")
    request_id = UUID(told(first)["approval_id"])
    second, _headers = admin("orders.approve.global")
    for stranger in (asker, AdminFactory.create()):
        with pytest.raises(approvals.NotYours):
            approvals.approve(request_id, by=administration.acting(stranger))
    approvals.approve(request_id, by=administration.acting(second))

    (row,) = refunds_of(order)
    assert (row.amount_minor, str(row.requested_by)) == (100_000, str(asker.pk))
    with pytest.raises(approvals.DecidedAlready):
        approvals.approve(request_id, by=administration.acting(second))
    _user, others = admin(REFUNDING)
    assert post(path, others, body("999.99"), "key-3").status_code == 201


def test_large_refund_in_small_pieces_is_a_large_refund(vendor: User, settings: Any) -> None:
    settings.REFUND_ALONE_UP_TO = {"COP": 99_999}
    order = place(vendor.pk)
    path = f"/orders/{order.pk}/refunds"
    _user, headers = admin(REFUNDING)

    first = post(path, headers, body("600.00"), "key-1")
    second = post(path, headers, body("399.99"), "key-2")
    third = post(path, headers, body("0.01"), "key-3")

    assert [response.status_code for response in (first, second, third)] == [201, 201, 202]
    assert sum(row.amount_minor for row in refunds_of(order)) == 99_999


@pytest.mark.django_db(databases=["default", "audit"], transaction=True)
def test_small_pieces_at_the_same_moment_are_counted(vendor: User, settings: Any) -> None:
    settings.REFUND_ALONE_UP_TO = {"COP": 99_999}
    order = place(vendor.pk)
    path = f"/orders/{order.pk}/refunds"
    _user, headers = admin(REFUNDING)
    pieces = [partial(post, path, headers, body(f"600.0{n}"), f"piece-{n}") for n in range(6)]

    answers: list[Any] = race(pieces)

    assert sorted(answer.status_code for answer in answers) == [201, 202, 202, 202, 202, 202]
    assert len(refunds_of(order)) == 1


def test_approved_refund_that_is_not_covered_any_more_is_not_posted(
    vendor: User, storefront: dict[str, str], settings: Any
) -> None:
    settings.REFUND_ALONE_UP_TO = {}
    order = place(vendor.pk)
    path = f"/orders/{order.pk}/refunds"
    asker, headers = admin(REFUNDING)
    request_id = UUID(told(post(path, headers, body("134000.00")))["approval_id"])
    post(path, storefront, body("0.01"))
    second, _headers = admin("orders.approve.global")

    with pytest.raises(refunds.RefundTooLarge):
        approvals.approve(request_id, by=administration.acting(second))
    assert len(refunds_of(order)) == 1
    assert asker.pk != second.pk


# The outcome


def test_storefront_says_what_became_of_it(vendor: User, storefront: dict[str, str]) -> None:
    order = place(vendor.pk)
    path = f"/orders/{order.pk}/refunds"
    paid, failed = (told(post(path, storefront, body(), f"key-{n}"))["id"] for n in range(2))
    says = {"provider_reference": "rf-1"}

    assert told(post(f"/refunds/{paid}/paid", storefront, says, None))["status"] == "paid"
    assert told(post(f"/refunds/{paid}/paid", storefront, says, None))["provider_reference"] == "rf-1"
    assert code(post(f"/refunds/{failed}/paid", storefront, says, None)) == (409, "REFUND_REFERENCE_KNOWN")
    why = {"failure": "card closed"}
    assert told(post(f"/refunds/{failed}/failed", storefront, why, None))["failure"] == "card closed"
    assert code(post(f"/refunds/{paid}/failed", storefront, why, None)) == (409, "REFUND_ENDED")
    for wrong in (
        {},
        {"provider_reference": ""},
        {"provider_reference": "x" * 129},
        {"provider_reference": 7},
    ):
        assert post(f"/refunds/{paid}/paid", storefront, wrong, None).status_code == 422
    buyer = bearer(BuyerFactory.create())
    assert post(f"/refunds/{failed}/paid", buyer, says, None).status_code == 403
    types = sorted(OutboundEvent.objects.values_list("type", flat=True))
    assert types == ["refund.failed", "refund.paid", "refund.posted", "refund.posted"]
    assert fresh(order).refunded_minor == 100_000


def test_reference_that_is_known_finds_its_refund(vendor: User, storefront: dict[str, str]) -> None:
    order = place(vendor.pk)
    path = f"/orders/{order.pk}/refunds"
    named = body(provider="testpay", provider_reference="rf-1")
    first, second = post(path, storefront, named), post(path, storefront, named, "key-2")

    assert told(first)["id"] == told(second)["id"]
    other = body("1.00", provider="testpay", provider_reference="rf-1")
    assert code(post(path, storefront, other, "key-3")) == (409, "REFUND_REFERENCE_KNOWN")
    assert Refund.objects.count() == 1
