"""Reading a new order: every wrong field is named, nothing is converted, no card data gets anywhere."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from finance import order_form
from finance.order_form import CardDataRefused, OrderInvalid
from mestore.lib.http import parse_json
from tests.finance.conftest import ADDRESS, form, item, payment

VENDOR = uuid4()


def body(**changes: Any) -> dict[str, Any]:
    made = {"currency": "COP", "items": [item(VENDOR)], "payment": payment(), **ADDRESS, **changes}
    return {name: value for name, value in made.items() if value is not ...}


def wrong_fields(made: Any) -> list[tuple[str, str]]:
    with pytest.raises(OrderInvalid) as refused:
        order_form.read(made)
    return [(detail.field, detail.error_type) for detail in refused.value.details or ()]


@pytest.mark.parametrize("made", [None, [], "x", 1, True])
def test_a_body_that_is_no_object_is_refused(made: Any) -> None:
    assert wrong_fields(made) == [("body", "object_type")]


@pytest.mark.parametrize(
    ("changes", "field", "error_type"),
    [
        ({"currency": ...}, "currency", "missing"),
        ({"currency": "XXX"}, "currency", "currency_unknown"),
        ({"currency": "cop"}, "currency", "currency_unknown"),
        ({"currency": 170}, "currency", "string_type"),
        ({"items": ...}, "items", "list_length"),
        ({"items": []}, "items", "list_length"),
        ({"items": {}}, "items", "list_length"),
        ({"items": [item(VENDOR)] * 201}, "items", "list_length"),
        ({"items": ["x"]}, "items -> 0", "object_type"),
        ({"shipping_name": ...}, "shipping_name", "missing"),
        ({"shipping_phone": ""}, "shipping_phone", "missing"),
        ({"shipping_address": "x" * 301}, "shipping_address", "string_too_long"),
        ({"shipping_city": "   "}, "shipping_city", "string_invalid"),
        ({"shipping_state": "An\ttioquia"}, "shipping_state", "string_invalid"),
        ({"shipping_country": "co"}, "shipping_country", "value_error"),
        ({"notes": "a\x07b"}, "notes", "string_invalid"),
        ({"buyer_id": "not-a-uuid"}, "buyer_id", "uuid_parsing"),
        ({"buyer_id": 5}, "buyer_id", "string_type"),
        ({"buyer_id": "{" + str(VENDOR) + "}"}, "buyer_id", "string_too_long"),
        ({"external_reference": 5}, "external_reference", "string_type"),
        ({"discount": "1"}, "discount", "extra_forbidden"),
        ({"status": "confirmed"}, "status", "extra_forbidden"),
        ({"commission_rate": 0}, "commission_rate", "extra_forbidden"),
        ({"payment": "approved"}, "payment", "object_type"),
        ({"payment": payment(provider="Pay U")}, "payment -> provider", "string_pattern_mismatch"),
        ({"payment": payment(provider=...)}, "payment -> provider", "missing"),
        ({"payment": payment(status="APPROVED")}, "payment -> status", "enum"),
        ({"payment": payment(reference="")}, "payment -> reference", "missing"),
        ({"payment": payment(installments=0)}, "payment -> installments", "out_of_range"),
        ({"payment": payment(token="x")}, "payment -> token", "extra_forbidden"),
    ],
)  # fmt: skip
def test_a_wrong_member_is_named(changes: dict[str, Any], field: str, error_type: str) -> None:
    made = body(**changes)
    if isinstance(made.get("payment"), dict):
        made["payment"] = {name: value for name, value in made["payment"].items() if value is not ...}

    assert wrong_fields(made) == [(f"body -> {field}", error_type)]


@pytest.mark.parametrize(
    ("name", "value", "error_type"),
    [
        ("unit_price", ..., "missing"), ("unit_price", "0", "greater_than"),
        ("unit_price", "-1", "amount_invalid"),
        ("unit_price", "1e3", "amount_invalid"), ("unit_price", "0.105", "amount_too_precise"),
        ("unit_price", "１２", "amount_invalid"), ("unit_price", True, "amount_invalid"),
        ("unit_price", "99999999999999.99", "amount_too_large"), ("unit_price", {}, "amount_invalid"),
        ("quantity", ..., "missing"), ("quantity", 0, "out_of_range"), ("quantity", -1, "out_of_range"),
        ("quantity", 1_000_001, "out_of_range"), ("quantity", "1", "int_type"),
        ("quantity", True, "int_type"),
        ("product_id", ..., "missing"), ("product_id", 7, "string_type"),
        ("vendor_id", ..., "missing"), ("vendor_id", "x", "uuid_parsing"),
        ("name", ["x"], "string_type"), ("line_total", "1", "amount_mismatch"),
        ("price", "1", "extra_forbidden"),
    ],
)  # fmt: skip
def test_a_wrong_member_of_an_item_is_named(name: str, value: Any, error_type: str) -> None:
    wrong = {key: kept for key, kept in (item(VENDOR) | {name: value}).items() if kept is not ...}

    assert wrong_fields(body(items=[item(VENDOR), wrong])) == [(f"body -> items -> 1 -> {name}", error_type)]


def test_all_that_is_wrong_is_named_at_once() -> None:
    found = wrong_fields({"items": [{}], "nonsense": 1})

    assert len(found) == 11
    assert ("body -> nonsense", "extra_forbidden") in found


def test_an_order_beyond_the_bound_is_refused() -> None:
    made = body(items=[item(VENDOR, "9999999999999.99", 1_000_000)])

    assert ("body -> items", "amount_too_large") in wrong_fields(made)


@pytest.mark.parametrize("literal", ["1e400", "12345678901234567890.12", "0.105", "1E2", "-5"])
def test_number_literals_that_are_no_amount_are_refused(literal: str) -> None:
    made = body(items=[item(VENDOR, parse_json(literal.encode()))])

    assert [field for field, _type in wrong_fields(made)] == ["body -> items -> 0 -> unit_price"]


def test_number_literals_are_never_texts() -> None:
    made = body(notes=parse_json(b"1.5"))

    assert wrong_fields(made) == [("body -> notes", "string_type")]


@pytest.mark.parametrize(
    ("name", "right"),
    [("subtotal", "100000"), ("tax_amount", "19000.00"), ("shipping_cost", "15000"), ("discount_amount", "0"),
     ("total_amount", "134000.0"), ("total", 134000)],
)  # fmt: skip
def test_amounts_of_the_client_must_be_ours(name: str, right: Any) -> None:
    assert form(body(**{name: right})).price.total == 13_400_000
    assert wrong_fields(body(**{name: "134000.01"})) == [(f"body -> {name}", "amount_mismatch")]


def test_the_amount_paid_must_be_the_total() -> None:
    assert form(body(payment=payment(amount="134000"))).is_paid
    assert wrong_fields(body(payment=payment(amount="1"))) == [
        ("body -> payment -> amount", "amount_mismatch")
    ]
    assert wrong_fields(body(payment=payment(amount="x"))) == [
        ("body -> payment -> amount", "amount_invalid")
    ]


# Card data


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "5555555555554444",
        "378282246310005",
        "30569309025904", "6011111111111117", "3530111333300000", "2223003122003222", "6200000000000005",
        "4222222222222", "4111.1111.1111.1111", 4111111111111111, "paid with 4111111111111111, thanks",
        "4111/1111/1111/1111", "4111, 1111, 1111, 1111", "4111\u00a01111\u00a01111\u00a01111",
        "4111–1111–1111–1111", "4111  1111  1111  1111", "3782 - 822463 - 10005",
        "4111111111111111 123", "4111111111111111 12 30", "12 4111 1111 1111 1111 12/30",
        "4111\u200b111111111111", "４１１１１１１１１１１１１１１１", "٤١١١١١١١١١١١١١١١",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["notes", "shipping_name", "unknown"])
def test_a_card_number_anywhere_refuses_the_body(number: Any, place: str) -> None:
    with pytest.raises(CardDataRefused) as refused:
        order_form.read(body(**{place: number}))

    (detail,) = refused.value.details or ()
    assert detail.field == f"body -> {place}"
    assert "1111" not in f"{refused.value} {detail}"


@pytest.mark.parametrize(
    "name", ["cvv", "CVV2", "cvc", "security_code", "card_number", "pan", "codigo-seguridad"]
)
def test_a_security_code_anywhere_refuses_the_body(name: str) -> None:
    with pytest.raises(CardDataRefused) as refused:
        order_form.read(body(payment=payment(**{name: "123"})))

    assert [detail.field for detail in refused.value.details or ()] == [f"body -> payment -> {name}"]


def test_a_card_number_as_a_key_is_not_repeated() -> None:
    with pytest.raises(CardDataRefused) as refused:
        order_form.read(body(payment=payment(**{"4111111111111111": 1})))

    assert [detail.field for detail in refused.value.details or ()] == ["body -> payment"]


def test_a_card_number_in_a_list_is_found() -> None:
    with pytest.raises(CardDataRefused) as refused:
        order_form.read(body(items=[item(VENDOR), item(VENDOR, name="4111111111111111")]))

    assert [detail.field for detail in refused.value.details or ()] == ["body -> items -> 1 -> name"]


@pytest.mark.parametrize(
    "harmless",
    [
        "4111111111111112", "+57 300 123 4567", "0190a0a0-0000-7000-8000-000000000001",
        "900123456789012345678",
        "x4111111111111111", "1234567890123456",
        "4005843616827",  # a barcode, with the check digit of one
        "41 11 11/11 11 - 11 11 11, 11", "41111111-1111-1111-1111-111111111111", "4111111111111111a",
    ],
)  # fmt: skip
def test_long_numbers_that_are_no_cards_pass(harmless: str) -> None:
    assert form(body(external_reference=harmless)).external_reference == harmless


def test_a_valid_order_is_read_whole() -> None:
    made = form(
        body(
            buyer_id=str(VENDOR).upper(), buyer_reference="b-1", notes="line 1\nline 2",
            shipping_email="ana@example.com",
            items=[item(VENDOR, parse_json(b"10.50"), 2, name="Café", category="food")],
            shipping_country="BR",
            payment=payment(method="pse", installments=3),
        )
    )  # fmt: skip

    assert (made.buyer_id, made.buyer_reference, made.notes) == (VENDOR, "b-1", "line 1\nline 2")
    assert (made.lines[0].total, made.lines[0].name) == (2_100, "Café")
    assert made.shipping["shipping_country"] == "BR"
    assert made.payment == order_form.Payment("testpay", "tx-1", "approved", "pse", 3)
    assert made.vendor_ids == [VENDOR]


def test_amounts_that_say_the_same_make_the_same_request() -> None:
    def identity(price: Any) -> bytes:
        return form(body(items=[item(VENDOR, price)])).identity()

    assert identity("10") == identity("10.0") == identity(10) == identity(parse_json(b"10.00"))
    assert identity("10") != identity("10.01")


@pytest.mark.parametrize(
    "change",
    [
        {"notes": "x"}, {"buyer_id": str(VENDOR)}, {"buyer_reference": "x"}, {"external_reference": "x"},
        {"currency": "USD"}, {"shipping_city": "Cali"}, {"shipping_country": "PE"}, {"payment": ...},
        {"payment": payment(status="pending")}, {"payment": payment(reference="tx-2")},
        {"payment": payment(installments=2)}, {"items": [item(VENDOR, quantity=2)]},
        {"items": [item(VENDOR, name="x")]}, {"items": [item(VENDOR), item(VENDOR)]},
    ],
)  # fmt: skip
def test_any_other_value_makes_another_request(change: dict[str, Any]) -> None:
    assert form(body()).identity() != form(body(**change)).identity()
