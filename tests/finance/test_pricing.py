"""Prices: parts always add up to the whole, and states move only where they may."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finance import numbers, postings, pricing, states
from finance.money import MoneyError
from finance.pricing import Rules, price

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


@given(LINES, st.integers(0, 1_000_000), st.sampled_from(["goods", "total"]))
def test_a_posting_holds_exactly_what_the_buyer_paid(
    lines: Sequence[tuple[UUID, int]], rate_ppm: int, base: str
) -> None:
    made = price(lines, COP)
    total = 0
    for part in made.parts:
        sale = postings.vendor_sale(
            vendor=part.vendor, currency="COP", goods=part.goods, shipping=part.shipping, tax=part.tax,
            rate_ppm=rate_ppm, base=base,
        )  # fmt: skip
        assert sale.commission + sale.vendor_amount == sale.base
        assert 0 <= sale.commission <= sale.goods
        posting = postings.sale_posting(
            sale, entry_id=uuid4(), order_id=1, occurred_at=datetime(2026, 1, 1, tzinfo=UTC), provider="p"
        )
        assert all(transfer.amount > 0 for transfer in posting.transfers)
        assert posting.control_total == part.goods + part.shipping + part.tax
        total += posting.control_total
    assert total == made.total


@pytest.mark.parametrize(
    "wrong",
    [{"goods": 0}, {"goods": -1}, {"shipping": -1}, {"tax": -1}, {"rate_ppm": 1_000_001}, {"base": "gross"}],
)
def test_a_sale_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    values = {"goods": 100, "shipping": 0, "tax": 0, "rate_ppm": 1, "base": "goods"} | wrong

    with pytest.raises(MoneyError):
        postings.vendor_sale(vendor=VENDORS[0], currency="COP", **values)  # type: ignore[arg-type]  # wrong on purpose


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
