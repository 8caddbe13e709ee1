"""The known answers of the money policy, and what must hold for any amount."""

from __future__ import annotations

import operator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finance import money
from finance.money import (
    Money,
    MoneyError,
    Rounding,
    allocate,
    allocate_steps,
    capped_fee,
    commission_of,
    on_increment,
    parse,
    reversal_of,
    share_of,
    step_of,
)
from mestore.lib.http import parse_json

AMOUNTS = st.integers(min_value=0, max_value=money.MAX_MINOR)
CURRENCIES = st.sampled_from(sorted(money.EXPONENTS))


def split(text: str, currency: str, ppm: int) -> tuple[str, str]:
    amount = parse(text, currency)
    commission = Money(commission_of(amount.minor, ppm), currency)
    assert commission + (amount - commission) == amount
    return commission.text, (amount - commission).text


# What is refused


@pytest.mark.parametrize(
    "value",
    [
        "", " 1", "1 ", "1\n", "+1", "-1", "-0", "01", "1.", ".5", "1e2", "1E2", "1_000", "1,000", "1.2.3",
        "0x10",
        "NaN", "Infinity", "１２", "१२", "٣", "1٫5", "12345678901234567", "1" * 16, "0.001", "1\x00",
        True, False, None, 1.5, float("nan"), Decimal(1), b"1", [], {}, -1, 10**16, 10**400,
    ],
)  # fmt: skip
def test_parser_refuses(value: Any) -> None:
    with pytest.raises(MoneyError):
        parse(value, "COP")


@pytest.mark.parametrize(
    ("literal", "code"),
    [
        (b"1e400", "amount_invalid"),
        (b"12345678901234567890.12", "amount_invalid"),
        (b"0.105", "amount_too_precise"),
        (b"10000000000000.01", "amount_too_large"),
    ],
)
def test_number_literals_that_are_no_amounts_are_refused(literal: bytes, code: str) -> None:
    value = parse_json(b'{"amount": ' + literal + b"}")["amount"]

    with pytest.raises(MoneyError) as refused:
        parse(value, "COP")

    assert refused.value.code == code


def test_a_number_literal_is_read_digit_by_digit() -> None:
    assert parse(parse_json(b'{"a": 0.10}')["a"], "COP").minor == 10


@pytest.mark.parametrize("currency", ["cop", "XXX", "", "COPS", None, 4, ["COP"]])
def test_unknown_currency_is_refused(currency: Any) -> None:
    with pytest.raises(MoneyError):
        Money(1, currency)


@pytest.mark.parametrize("minor", [1.0, True, "1", Decimal(1), None])
def test_only_whole_numbers_are_money(minor: Any) -> None:
    with pytest.raises(MoneyError):
        Money(minor, "COP")


def test_two_currencies_do_not_mix() -> None:
    for combine in (operator.add, operator.sub, operator.lt, operator.le):
        with pytest.raises(MoneyError):
            combine(Money(1, "COP"), Money(1, "BRL"))


@pytest.mark.parametrize("other", [1, 1.0, "1", None])
def test_money_and_bare_numbers_do_not_mix(other: Any) -> None:
    with pytest.raises(MoneyError):
        Money(1, "COP") + other
    with pytest.raises(MoneyError):
        Money(1, "COP") * 1.5  # type: ignore[operator]  # the mistake under test


@pytest.mark.parametrize("weights", [[], [0], [0, 0, 0], [1, -1], [1.0], [True]])
def test_weights_that_split_nothing_are_refused(weights: Any) -> None:
    with pytest.raises(MoneyError):
        allocate(7, weights)


@pytest.mark.parametrize(("minor", "ppm"), [(1, -1), (1, 1_000_001), (1.0, 1), (1, 0.5), (True, 1)])
def test_rates_outside_zero_to_one_are_refused(minor: Any, ppm: Any) -> None:
    with pytest.raises(MoneyError):
        commission_of(minor, ppm)


@pytest.mark.parametrize("refund", [(0, 0, 0), (0, 1, 0), (-1, 1, 10), (0, -1, 10), (5, 6, 10)])
def test_refunds_beyond_the_sale_are_refused(refund: tuple[int, int, int]) -> None:
    with pytest.raises(MoneyError):
        reversal_of(100, *refund)


# Known answers


@pytest.mark.parametrize(
    ("amount", "currency", "answer"),
    [
        ("999.99", "USD", ("123.45", "876.54")),
        ("999.990", "KWD", ("123.449", "876.541")),
        ("1000", "JPY", ("123", "877")),
        ("999.99", "COP", ("123.45", "876.54")),
        ("100.00", "USD", ("12.35", "87.65")),
        ("0.04", "USD", ("0.00", "0.04")),
        ("0.05", "USD", ("0.01", "0.04")),
    ],
)
def test_commission_at_12_345_percent(amount: str, currency: str, answer: tuple[str, str]) -> None:
    assert split(amount, currency, 123_450) == answer


@pytest.mark.parametrize("amount", ["999.99", "1000.0"])
def test_yen_have_no_decimals(amount: str) -> None:
    with pytest.raises(MoneyError) as refused:
        parse(amount, "JPY")

    assert refused.value.code == "amount_too_precise"


@pytest.mark.parametrize(
    ("minor", "ppm", "answer"),
    [
        (100, 125_000, 13), (20, 25_000, 1), (60, 25_000, 2), (100, 25_000, 3),
        (2**53 + 1, 123_450, 1_111_938_747_997_776), (10**15, 123_450, 123_450_000_000_000),
        (99_999_00, 123_450, 12_344_88), (0, 1_000_000, 0), (1, 1_000_000, 1), (1, 499_999, 0),
        (1, 500_000, 1),
    ],
)  # fmt: skip
def test_commission_in_minor_units(minor: int, ppm: int, answer: int) -> None:
    assert commission_of(minor, ppm) == answer


def test_whole_pesos_round_on_whole_pesos() -> None:
    assert (commission_of(99_999, 123_450), 99_999 - commission_of(99_999, 123_450)) == (12_345, 87_654)


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        (10_000, [1, 1, 1], [3_334, 3_333, 3_333]),
        (5, [3, 7], [2, 3]),
        (1, [1, 1], [1, 0]),
        (100, [1, 1, 1], [34, 33, 33]),
        (100_000, [1, 2, 3, 4, 5, 6, 7], [3_571, 7_143, 10_714, 14_286, 17_857, 21_429, 25_000]),
        (10_001, [33_333, 33_333, 33_334], [3_334, 3_333, 3_334]),
        (-10_000, [1, 1, 1], [-3_334, -3_333, -3_333]),
        (7, [0, 0, 5], [0, 0, 7]),
        (2**63 - 1, [1, 1], [4_611_686_018_427_387_904, 4_611_686_018_427_387_903]),
        (0, [1, 2], [0, 0]),
        (1_250, [1_429] * 7, [179, 179, 179, 179, 178, 178, 178]),
    ],
)
def test_allocation(total: int, weights: list[int], parts: list[int]) -> None:
    assert allocate(total, weights) == parts


def test_commission_is_rounded_on_the_order_not_on_its_lines() -> None:
    assert commission_of(7 * 1_429, 125_000) == 1_250
    assert 7 * commission_of(1_429, 125_000) == 1_253


def test_reversals_of_partial_refunds_add_up_to_the_fee() -> None:
    reversals, before = [], 0
    for refund in (3_333, 3_333, 3_334):
        reversals.append(reversal_of(1_235, before, refund, 10_000))
        before += refund

    assert reversals == [412, 411, 412]


def test_fixed_fee_never_exceeds_the_sale() -> None:
    assert capped_fee(5_000, 3_000) == 3_000
    assert capped_fee(5_000, 9_000) == 5_000
    assert capped_fee(5_000, -1) == 0


def test_money_reads_like_money() -> None:
    price = parse("1234.5", "COP")

    assert (str(price), price.decimal, str(-price)) == ("1234.50 COP", Decimal("1234.50"), "-1234.50 COP")
    assert price * 2 - price == price
    assert Money(1, "COP") < Money(2, "COP") <= Money(2, "COP")
    assert Money(0, "JPY").text == "0"
    assert parse(7, "COP").minor == 700
    assert [part.minor for part in Money(10, "COP").allocate([1, 2])] == [3, 7]


# What holds for any amount


@given(AMOUNTS, CURRENCIES)
def test_what_is_written_reads_back_the_same(minor: int, currency: str) -> None:
    amount = Money(minor, currency)

    if len(amount.text.partition(".")[0]) <= 15:
        assert parse(amount.text, currency) == amount
    assert amount.decimal.scaleb(money.exponent(currency)) == minor


@given(
    st.integers(min_value=-(10**18), max_value=10**18),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=30),
)
def test_parts_add_up_and_stay_within_one_unit_of_their_share(total: int, weights: list[int]) -> None:
    whole = sum(weights)
    if not whole:
        return

    parts = allocate(total, weights)

    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * whole - total * weight) < whole
        assert weight or part == 0


@given(st.integers(0, 10**18), st.integers(0, money.PPM))
def test_commission_is_the_nearest_whole_unit(minor: int, ppm: int) -> None:
    commission = commission_of(minor, ppm)

    assert 0 <= commission <= minor
    assert -money.PPM < 2 * (commission * money.PPM - minor * ppm) <= money.PPM
    assert share_of(-minor, ppm) == -commission


@given(st.integers(1, 10**12), st.lists(st.integers(0, 10**9), max_size=12), st.integers(0, money.PPM))
def test_reversals_telescope_whatever_the_steps(total: int, refunds: list[int], ppm: int) -> None:
    charged, before, given_back = commission_of(total, ppm), 0, 0
    for refund in [*(refund for refund in refunds), total]:
        step = min(refund, total - before)
        given_back += reversal_of(charged, before, step, total)
        before += step

    assert given_back == charged


@given(st.text(max_size=20))
def test_parser_knows_only_plain_ascii_digits(text: str) -> None:
    try:
        amount = parse(text, "COP")
    except MoneyError:
        return
    assert text.isascii()
    assert Decimal(text) == amount.decimal


@pytest.mark.parametrize(
    ("value", "currency", "code"),
    [
        (1.5, "COP", "amount_invalid"),
        (None, "COP", "amount_invalid"),
        ("1e2", "COP", "amount_invalid"),
        ("1", "XXX", "currency_unknown"),
        ("1", "cop", "currency_unknown"),
    ],
)
def test_refusal_names_its_rule_to_clients(value: Any, currency: str, code: str) -> None:
    with pytest.raises(MoneyError) as refused:
        parse(value, currency)

    assert refused.value.code == code


# Increments and whole units


@pytest.mark.parametrize(
    ("minor", "increment", "moved", "residue"),
    [(12_345, 100, 12_300, 45), (12_300, 100, 12_300, 0), (99, 100, 0, 99), (-12_345, 100, -12_300, -45),
     (7, 1, 7, 0)],
)  # fmt: skip
def test_what_cannot_be_moved_is_carried_on(minor: int, increment: int, moved: int, residue: int) -> None:
    assert on_increment(minor, increment) == (moved, residue)


@pytest.mark.parametrize(("minor", "increment"), [(1, 0), (1, -100), (1.5, 100), (1, "100"), (True, 1)])
def test_an_increment_is_a_whole_number_of_at_least_one(minor: Any, increment: Any) -> None:
    with pytest.raises(MoneyError):
        on_increment(minor, increment)


@pytest.mark.parametrize(
    ("rounding", "currency", "step"),
    [(Rounding.HALF_UP, "COP", 1), (Rounding.HALF_UP_WHOLE, "COP", 100),
     (Rounding.HALF_UP_WHOLE, "KWD", 1000), (Rounding.HALF_UP_WHOLE, "JPY", 1)],
)  # fmt: skip
def test_a_policy_is_a_step(rounding: Rounding, currency: str, step: int) -> None:
    assert step_of(rounding, currency) == step


@pytest.mark.parametrize(
    ("minor", "ppm", "answer"),
    [(9_999_900, 123_450, 1_234_500), (4_999_000, 123_450, 617_100), (617_100, 190_000, 117_200),
     (100, 500_000, 100), (100, 499_999, 0), (0, 500_000, 0)],
)  # fmt: skip
def test_whole_pesos(minor: int, ppm: int, answer: int) -> None:
    assert share_of(minor, ppm, 100) == commission_of(minor, ppm, 100) == answer
    assert share_of(-minor, ppm, 100) == -answer


def test_centavos_are_refused_where_pesos_are_whole() -> None:
    with pytest.raises(MoneyError) as refused:
        commission_of(99_999, 123_450, 100)

    assert refused.value.code == "amount_off_increment"


def test_an_allocation_in_steps_splits_whole_steps() -> None:
    assert allocate_steps(1_000, [1, 1, 1], 100) == [400, 300, 300]
    assert allocate_steps(-1_000, [1, 1, 1], 100) == [-400, -300, -300]
    assert allocate_steps(10, [1, 1, 1], 1) == [4, 3, 3]
    with pytest.raises(MoneyError):
        allocate_steps(1_050, [1, 1], 100)


@given(st.integers(-(10**15), 10**15), st.lists(st.integers(0, 10**9), min_size=1, max_size=8).filter(any))
def test_the_split_of_a_refund_is_the_exact_negation(total: int, weights: list[int]) -> None:
    assert allocate(-total, weights) == [-part for part in allocate(total, weights)]
    assert allocate_steps(-total * 100, weights, 100) == [
        -part for part in allocate_steps(total * 100, weights, 100)
    ]


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**6))
def test_nothing_is_lost_between_steps(minor: int, increment: int) -> None:
    moved, residue = on_increment(minor, increment)

    assert moved + residue == minor
    assert moved % increment == 0
    assert abs(residue) < increment
    assert moved * minor >= 0


@pytest.mark.parametrize(
    ("refuse", "code"),
    [
        (lambda: Money(1, "XXX"), "currency_unknown"),
        (lambda: Money(1.0, "COP"), "amount_not_integer"),  # type: ignore[arg-type]  # the mistake under test
        (lambda: Money(1, "COP") * 1.5, "factor_not_integer"),  # type: ignore[operator]  # as above
        (lambda: Money(1, "COP") + 1, "amount_not_money"),  # type: ignore[operator]  # as above
        (lambda: Money(1, "COP") + Money(1, "BRL"), "currency_mismatch"),
        (lambda: parse(None, "COP"), "amount_invalid"),
        (lambda: parse(10**15 + 1, "COP"), "amount_invalid"),
        (lambda: parse(-(10**15) - 1, "JPY"), "amount_invalid"),
        (lambda: parse("0.001", "COP"), "amount_too_precise"),
        (lambda: parse("10000000000000.01", "COP"), "amount_too_large"),
        (lambda: on_increment(1, 1.0), "amount_not_integer"),  # type: ignore[arg-type]  # as above
        (lambda: on_increment(1, 0), "increment_invalid"),
        (lambda: share_of(1, 1.0), "amount_not_integer"),  # type: ignore[arg-type]  # as above
        (lambda: share_of(1, 1, 1.0), "amount_not_integer"),  # type: ignore[arg-type]  # as above
        (lambda: share_of(1.0, 1), "amount_not_integer"),  # type: ignore[arg-type]  # as above
        (lambda: share_of(1, -1), "rate_invalid"),
        (lambda: share_of(1, 1, 0), "rate_invalid"),
        (lambda: commission_of(1, 1_000_001), "rate_invalid"),
        (lambda: commission_of(1, 1, 100), "amount_off_increment"),
        (lambda: reversal_of(1, 1, 1, 1), "refund_invalid"),
        (lambda: allocate(1, [1.0]), "amount_not_integer"),  # type: ignore[list-item]  # as above
        (lambda: allocate(1.0, [1]), "amount_not_integer"),  # type: ignore[arg-type]  # as above
        (lambda: allocate(1, [1, -1]), "weights_invalid"),
        (lambda: allocate(1, []), "weights_invalid"),
        (lambda: allocate_steps(1, [1], 100), "amount_off_increment"),
    ],
)
def test_each_rule_refuses_in_its_own_name(refuse: Any, code: str) -> None:
    with pytest.raises(MoneyError) as refused:
        refuse()

    assert refused.value.code == code


def test_the_bounds_themselves_are_inside() -> None:
    assert parse("10000000000000.00", "COP").minor == parse(10**13, "COP").minor == money.MAX_MINOR
    assert parse(10**15 - 1, "JPY").minor == money.MAX_MINOR - 1
    assert share_of(7, 0) == 0
    assert commission_of(7, money.PPM) == 7
    assert share_of(7, 2 * money.PPM) == 14
    assert on_increment(7, 1) == (7, 0)
    assert reversal_of(10, 0, 0, 1) == 0
    assert not Money(1, "COP") < Money(1, "COP") <= Money(1, "COP")
    assert [str(one) for one in (Money(-5, "COP"), Money(-50, "JPY"))] == ["-0.05 COP", "-50 JPY"]
