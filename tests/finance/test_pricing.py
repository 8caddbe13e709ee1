"""Prices: parts always add up to the whole, and states move only where they may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finance import numbers, pricing, sale_postings, states
from finance.money import MoneyError, commission_of
from finance.pricing import Rules, price
from finance.sale_postings import VendorSale

VENDORS = [uuid4() for _ in range(4)]
COP = Rules(tax_ppm=190_000, shipping_flat=1_500_000, shipping_free_from=20_000_000)
LINES = st.lists(st.tuples(st.sampled_from(VENDORS), st.integers(1, 10**12)), min_size=1, max_size=20)


def test_an_order_without_lines_has_no_price() -> None:
    with pytest.raises(MoneyError):
        price([], COP)


@pytest.mark.parametrize(
    ("subtotal", "tax", "shipping"),
    [(10_000_000, 1_900_000, 1_500_000), (19_999_999, 3_800_000, 1_500_000), (20_000_000, 3_800_000, 0),
     (1, 0, 1_500_000)],
)  # fmt: skip
def test_iva_and_shipping_of_pesos(subtotal: int, tax: int, shipping: int) -> None:
    made = price([(VENDORS[0], subtotal)], COP)

    assert (made.tax, made.shipping, made.total) == (tax, shipping, subtotal + tax + shipping)


def test_a_currency_without_rules_has_neither() -> None:
    assert price([(VENDORS[0], 5)], Rules()).total == 5


@given(LINES)
def test_parts_add_up_to_the_whole(lines: Sequence[tuple[UUID, int]]) -> None:
    made = price(lines, COP)

    assert sum(part.goods for part in made.parts) == made.subtotal
    assert sum(part.tax for part in made.parts) == made.tax
    assert sum(part.shipping for part in made.parts) == sum(made.line_shipping) == made.shipping
    for part in made.parts:
        own = [
            share
            for (vendor, _), share in zip(lines, made.line_shipping, strict=True)
            if vendor == part.vendor
        ]
        assert sum(own) == part.shipping
    assert len({part.vendor for part in made.parts}) == len(made.parts)


@given(LINES, st.integers(0, 1_000_000), st.integers(0, 100))
def test_a_posting_holds_exactly_what_the_buyer_paid(
    lines: Sequence[tuple[UUID, int]], rate_ppm: int, percent_of_rest: int
) -> None:
    made = price(lines, COP)
    total = 0
    for part in made.parts:
        commission = commission_of(part.goods, rate_ppm)
        rest = (part.goods - commission) * percent_of_rest // 100
        sale = VendorSale(
            part.vendor, "COP", part.goods, part.shipping, part.tax, part.goods, rate_ppm, commission,
            fee_tax=rest // 3, withheld=(rest // 4, 0, rest // 5),
        )  # fmt: skip
        assert sale.commission + sale.vendor_amount == sale.base
        posting = sale_postings.sale_posting(
            sale, entry_id=uuid4(), order_id=1, occurred_at=datetime(2026, 1, 1, tzinfo=UTC), provider="p"
        )
        assert all(transfer.amount > 0 for transfer in posting.transfers)
        assert posting.control_total == part.goods + part.shipping + part.tax
        total += posting.control_total
    assert total == made.total


def test_every_charge_is_a_transfer_of_its_own() -> None:
    sale = VendorSale(VENDORS[0], "COP", 1_000, 50, 190, 1_000, 100_000, 100, fee_tax=19, withheld=(15, 4))

    posting = sale_postings.sale_posting(
        sale, entry_id=uuid4(), order_id=7, occurred_at=datetime(2026, 1, 1, tzinfo=UTC), provider="wompi"
    )

    assert [(transfer.debit, transfer.credit, transfer.amount) for transfer in posting.transfers] == [
        ("psp_clearing", "vendor_pending", 862), ("psp_clearing", "platform_fee", 100),
        ("psp_clearing", "tax_payable:fee", 19), ("psp_clearing", "tax_payable:withholding", 15),
        ("psp_clearing", "tax_payable:withholding", 4), ("psp_clearing", "shipping_payable", 50),
        ("psp_clearing", "tax_payable:goods", 190),
    ]  # fmt: skip
    assert {transfer.provider for transfer in posting.transfers} == {"wompi"}
    assert posting.source == "order/7/sale"


@pytest.mark.parametrize(
    "wrong",
    [
        {"goods": 0}, {"goods": -1}, {"shipping": -1}, {"tax": -1}, {"rate_ppm": 1_000_001}, {"rate_ppm": -1},
        {"commission": 101}, {"commission": -1}, {"base": 0, "commission": 1}, {"fee_tax": -1},
        {"fee_tax": 101}, {"withheld": (-1,)}, {"withheld": (60, 41)},
        {"commission": 50, "fee_tax": 30, "withheld": (21,)},
    ],
)  # fmt: skip
def test_a_sale_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    values = {
        "goods": 100, "shipping": 0, "tax": 0, "base": 100, "rate_ppm": 1, "commission": 0,
    } | wrong  # fmt: skip

    with pytest.raises(MoneyError):
        VendorSale(VENDORS[0], "COP", **values)  # type: ignore[arg-type]  # wrong on purpose


def test_a_sale_at_its_bounds_is_one_and_beyond_them_says_which_rule_refused() -> None:
    for rate, commission in ((0, 0), (1_000_000, 100)):
        sale = VendorSale(VENDORS[0], "COP", 100, 0, 0, 100, rate, commission, withheld=(0,))
        assert sale.vendor_money == 100 - commission
    wrong = (
        ({"goods": 0}, "sale_invalid"), ({"rate_ppm": -1}, "rate_invalid"),
        ({"rate_ppm": 1_000_001}, "rate_invalid"), ({"withheld": (-1,)}, "charges_invalid"),
        ({"fee_tax": 51}, "charges_invalid"),
    )  # fmt: skip
    for changes, code in wrong:
        values: dict[str, Any] = {
            "goods": 100, "shipping": 0, "tax": 0, "base": 100, "rate_ppm": 1, "commission": 50,
        }  # fmt: skip
        with pytest.raises(MoneyError) as refused:
            VendorSale(VENDORS[0], "COP", **values | changes)
        assert refused.value.code == code


def test_the_goods_may_go_to_the_charges_wholly() -> None:
    sale = VendorSale(VENDORS[0], "COP", 100, 0, 0, 100, 1, 50, fee_tax=30, withheld=(20,))

    assert (sale.vendor_money, sale.withheld_total, sale.vendor_amount) == (0, 20, 50)


@given(LINES)
def test_whole_pesos_stay_whole(lines: Sequence[tuple[UUID, int]]) -> None:
    made = price([(vendor, amount * 100) for vendor, amount in lines], replace(COP, step=100))

    amounts = [made.tax, *made.line_shipping, *(part.tax for part in made.parts)]
    assert not [amount for amount in amounts if amount % 100]
    assert sum(part.tax for part in made.parts) == made.tax
    assert sum(made.line_shipping) == made.shipping


# States and numbers


@pytest.mark.parametrize("table", [states.ORDER_TRANSITIONS, states.COMMISSION_TRANSITIONS])
def test_every_state_is_in_the_table_and_may_stay(table: states.Transitions) -> None:
    assert set(table) == set(states.OrderStatus) or set(table) == set(states.CommissionStatus)
    for state, targets in table.items():
        assert states.may_move(table, state, state)
        assert targets <= set(table)
        assert not states.may_move(table, "nonsense", state)
        assert not states.may_move(table, state, "nonsense")


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        ("pending", "confirmed", True), ("confirmed", "cancelled", True), ("delivered", "refunded", True),
        ("pending", "delivered", False), ("cancelled", "pending", False), ("refunded", "delivered", False),
        ("delivered", "cancelled", False), ("confirmed", "pending", False),
    ],
)  # fmt: skip
def test_orders_move_forwards_only(before: str, after: str, allowed: bool) -> None:
    assert states.may_move(states.ORDER_TRANSITIONS, before, after) is allowed


def test_numbers_carry_the_local_time_and_do_not_repeat() -> None:
    moment = datetime(2026, 3, 5, 2, 30, 1, tzinfo=UTC)

    made = {numbers.order_number(moment) for _ in range(500)}

    assert len(made) == 500
    assert all(number.startswith("ORD-20260304-") and len(number) == 21 for number in made)
    assert numbers.commission_number(moment).startswith("COM-20260304213001-")
    assert len(numbers.commission_number(moment)) == 27


def test_rules_come_from_the_settings() -> None:
    from finance import order_form

    assert order_form.rules_for("COP") == COP
    assert order_form.rules_for("BRL") == pricing.Rules()
