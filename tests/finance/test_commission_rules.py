"""Which rule wins and what it comes to: the known answers, and what must hold for any rules and lines."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finance.commission_rules import (
    Charge,
    Line,
    Rule,
    Withholding,
    charge,
    deductions,
    fee_of,
    from_terms,
    matches,
    problems,
    rank,
    rate_at,
    rule_hash,
    snapshot,
    terms,
)
from finance.money import MoneyError, allocate, reversal_of
from mestore.lib import canonical

VENDOR, OTHER = UUID(int=1), UUID(int=2)
DEFAULT = Rule(None, "default STANDARD", "COP", 50_000)


def rule(number: int = 1, rate_ppm: int = 100_000, **terms_of: Any) -> Rule:
    return Rule(UUID(int=1000 + number), f"rule {number}", "COP", rate_ppm, **terms_of)


def line(
    number: int = 1, goods: int = 10_000, product: str = "p", category: str = "c", base: int = 0
) -> Line:
    return Line(number, product, category, goods, base or goods)


def charged(lines: Sequence[Line], *rules: Rule, **how: Any) -> Charge:
    return charge(lines, rules, DEFAULT, **({"vendor": VENDOR} | how))


# Which rule


@pytest.mark.parametrize(
    ("scope", "holds"),
    [
        ({}, True), ({"vendor": VENDOR}, True), ({"vendor": OTHER}, False), ({"category": "c"}, True),
        ({"category": "C"}, False), ({"product": "p"}, True), ({"product": "q"}, False),
        ({"order": "o-1"}, True), ({"order": "o-2"}, False),
        ({"vendor": VENDOR, "category": "c", "product": "p", "order": "o-1"}, True),
        ({"vendor": VENDOR, "category": "x", "product": "p", "order": "o-1"}, False),
    ],
)  # fmt: skip
def test_a_rule_holds_where_all_of_its_scope_does(scope: dict[str, Any], holds: bool) -> None:
    assert matches(rule(**scope), line(), vendor=VENDOR, order="o-1") is holds


NARROW_LAST: list[dict[str, Any]] = [
    {}, {"vendor": VENDOR}, {"category": "c"}, {"category": "c", "vendor": VENDOR}, {"order": "o"},
    {"order": "o", "vendor": VENDOR}, {"order": "o", "category": "c"}, {"product": "p"},
    {"product": "p", "vendor": VENDOR}, {"product": "p", "category": "c"}, {"product": "p", "order": "o"},
    {"product": "p", "order": "o", "category": "c", "vendor": VENDOR},
]  # fmt: skip


def test_the_narrower_rule_wins() -> None:
    rules = [rule(number, **scope) for number, scope in enumerate(NARROW_LAST)]

    for several in (rules, rules[::-1]):
        for length in range(1, len(rules) + 1):
            among = [one for one in several if one in rules[:length]]
            assert charged([line()], *among, order="o").groups[0].rule == rules[length - 1]


def test_priority_goes_before_narrowness() -> None:
    wide, narrow = rule(1, priority=1), rule(2, product="p", order="o", category="c", vendor=VENDOR)
    low = rule(3, priority=-1)

    assert charged([line()], narrow, wide, low, order="o").groups[0].rule == wide
    assert charged([line()], narrow, low, order="o").groups[0].rule == narrow
    assert charged([line()], low).groups[0].rule == low  # any rule goes before the default


def test_nothing_is_left_to_chance() -> None:
    twins = [rule(number) for number in range(4)]

    winners = {charged([line()], *order).groups[0].rule for order in itertools.permutations(twins)}

    assert winners == {twins[3]}


def test_the_default_is_the_last_resort() -> None:
    group = charged([line()], rule(vendor=OTHER)).groups[0]

    assert (group.rule, group.considered, group.fee.fee) == (DEFAULT, (DEFAULT,), 500)
    assert rank(rule(priority=-32_768)) > rank(DEFAULT) > rank(replace(DEFAULT, priority=-1))


def test_what_was_considered_is_kept_in_order_and_bounded() -> None:
    rules = [rule(number, priority=number) for number in range(30)]

    considered = charged([line()], *rules).groups[0].considered

    assert considered == tuple(rules[::-1][:20])


@given(
    st.lists(st.tuples(st.sampled_from(NARROW_LAST), st.integers(-3, 3)), max_size=8), st.randoms(),
)  # fmt: skip
def test_the_order_of_rules_never_matters(scopes: list[tuple[dict[str, Any], int]], random: Any) -> None:
    rules = [rule(number, priority=priority, **scope) for number, (scope, priority) in enumerate(scopes)]
    mixed = list(rules)
    random.shuffle(mixed)

    assert charged([line()], *rules, order="o") == charged([line()], *mixed, order="o")
    assert len({rank(one) for one in rules}) == len(rules)


# What it comes to


@pytest.mark.parametrize(
    ("goods", "terms_of", "fee"),
    [
        (99_999, {"rate_ppm": 123_450}, 12_345),
        (10_000, {"rate_ppm": 123_450}, 1_235),
        (4, {"rate_ppm": 123_450}, 0),
        (5, {"rate_ppm": 123_450}, 1),
        (300_000, {"rate_ppm": 0, "fixed": 500_000}, 300_000),  # T17
        (10_000, {"rate_ppm": 100_000, "fixed": 200}, 1_200),
        (10_000, {"rate_ppm": 0}, 0),
        (10_000, {"rate_ppm": 1_000_000}, 10_000),
        (10_000, {"rate_ppm": 1_000_000, "fixed": 1}, 10_000),
        (10_000, {"rate_ppm": 10_000, "floor": 500}, 500),
        (10_000, {"rate_ppm": 10_000, "floor": 100}, 100),
        (10_000, {"rate_ppm": 10_000, "floor": 99}, 100),
        (10_000, {"rate_ppm": 100_000, "cap": 999}, 999),
        (10_000, {"rate_ppm": 100_000, "cap": 1_000}, 1_000),
        (10_000, {"rate_ppm": 100_000, "cap": 1_001}, 1_000),
        (10_000, {"rate_ppm": 100_000, "fixed": 500, "cap": 1_200}, 1_200),
        (100, {"rate_ppm": 0, "floor": 500}, 100),
        (10_000, {"rate_ppm": 10_000, "cap": 0}, 0),
        (2**53 + 1, {"rate_ppm": 123_450}, 1_111_938_747_997_776),
        (10**15, {"rate_ppm": 123_450}, 123_450_000_000_000),
    ],
)  # fmt: skip
def test_fees(goods: int, terms_of: dict[str, Any], fee: int) -> None:
    assert fee_of(rule(**terms_of), goods, goods).fee == fee


def test_the_rate_is_of_the_base_and_the_goods_bound_it() -> None:
    assert fee_of(rule(rate_ppm=100_000), 15_000, 10_000).fee == 1_500
    assert fee_of(rule(rate_ppm=900_000), 15_000, 10_000).fee == 10_000


def test_seven_lines_are_rounded_once() -> None:  # T14
    lines = [line(number, 1_429) for number in range(1, 8)]

    made = charged(lines, rule(rate_ppm=125_000))

    assert made.commission == 1_250
    assert made.groups[0].shares == (179, 179, 179, 179, 178, 178, 178)


def test_whole_pesos() -> None:  # T04, T16
    wanted = rule(rate_ppm=123_450)
    made = charged([line(goods=4_999_000)], wanted, step=100)
    off = deductions(
        goods=4_999_000, tax=0, commission=made.commission, fee_tax_ppm=190_000, withholdings=(), step=100
    )

    assert (made.commission, off.fee_tax) == (617_100, 117_200)
    assert 4_999_000 - made.commission - off.fee_tax == 4_264_700
    assert charged([line(goods=9_999_900)], wanted, step=100).commission == 1_234_500
    with pytest.raises(MoneyError):
        charged([line(goods=99_999)], wanted, step=100)


def test_several_rules_make_one_commission_of_several_roundings() -> None:
    lines = [line(1, 1_001, "a"), line(2, 1_001, "b"), line(3, 1_001, "a"), line(4, 1_000, "z")]

    made = charged(lines, rule(1, 125_000, product="a"), rule(2, 125_000, product="b", kind="PREMIUM"))

    assert [(group.rule.name, group.base, group.fee.fee, group.shares) for group in made.groups] == [
        ("rule 1", 2_002, 250, (125, 125)), ("rule 2", 1_001, 125, (125,)),
        ("default STANDARD", 1_000, 50, (50,)),
    ]  # fmt: skip
    assert made.commission == 425
    assert made.rate_ppm == (425 * 10**6 * 2 + 4_003) // (2 * 4_003) == 106_170
    assert made.main is made.groups[0]


def test_of_groups_with_one_base_the_first_is_the_main_one() -> None:
    made = charged([line(1, product="a"), line(2, product="b")], rule(1, product="a"), rule(2, product="b"))

    assert made.main is made.groups[0]


def test_one_rule_tells_its_own_rate_whatever_the_bounds_made_of_it() -> None:
    assert charged([line(goods=10)], rule(rate_ppm=10_000, floor=5)).rate_ppm == 10_000


@pytest.mark.parametrize(
    "wrong", [[], [line(goods=-1)], [line(goods=1, base=-5)], [line(1), Line(2, "", "", 0, 0)]]
)
def test_a_sale_of_nothing_is_none(wrong: list[Line]) -> None:
    with pytest.raises(MoneyError):
        charged(wrong)


# Tiers


TIERS = ((1_000, 40_000), (5_000, 30_000), (20_000, 10_000))


@pytest.mark.parametrize(
    ("sold", "rate"),
    [(None, 50_000), (0, 50_000), (999, 50_000), (1_000, 40_000), (4_999, 40_000), (5_000, 30_000),
     (19_999, 30_000), (20_000, 10_000), (10**14, 10_000)],
)  # fmt: skip
def test_the_rate_is_that_of_what_was_sold_before(sold: int | None, rate: int) -> None:
    assert rate_at(rule(rate_ppm=50_000, tiers=TIERS), sold) == rate


def test_volume_is_told_where_it_decided_only() -> None:
    with_tiers, without = rule(1, tiers=TIERS, product="a"), rule(2, product="b")

    made = charged([line(1, product="a"), line(2, product="b")], with_tiers, without, volume=1_000)

    assert [(group.volume, group.fee.rate_ppm) for group in made.groups] == [(1_000, 40_000), (None, 100_000)]


# Deductions


def test_each_deduction_is_rounded_on_its_own() -> None:
    kept = [
        Withholding("retefuente", 15_000),
        Withholding("ReteICA", 4_140),
        Withholding("reteIVA", 150_000, "tax"),
    ]

    off = deductions(
        goods=99_999, tax=19_000, commission=12_345, fee_tax_ppm=190_000, withholdings=kept, step=1
    )

    assert (off.fee_tax, off.withheld) == (2_346, (1_500, 414, 2_850))


@pytest.mark.parametrize(
    ("commission", "fee_tax", "withheld"),
    [(1_000, 0, (0, 0)), (990, 10, (0, 0)), (900, 100, (0, 0)), (800, 152, (48, 0)), (700, 133, (100, 67))],
)
def test_goods_pay_as_far_as_they_go(commission: int, fee_tax: int, withheld: tuple[int, int]) -> None:
    kept = [Withholding("first", 100_000), Withholding("second", 100_000)]

    off = deductions(
        goods=1_000, tax=0, commission=commission, fee_tax_ppm=190_000, withholdings=kept, step=1
    )

    assert (off.fee_tax, off.withheld) == (fee_tax, withheld)


# Terms, hash, snapshot


FULL = Rule(
    UUID(int=7), "Café — “ñ”\n", "COP", 123_450, "PREMIUM", VENDOR, "c", "p", "o", -3, 10, 5, 900,
    ((10, 2), (20, 1)), datetime(2026, 1, 1, 5, tzinfo=UTC),
)  # fmt: skip


@pytest.mark.parametrize("one", [FULL, DEFAULT, rule(cap=0, floor=0)])
def test_terms_read_back(one: Rule) -> None:
    assert from_terms(json.loads(json.dumps(terms(one)))) == one


def test_the_hash_is_that_of_the_canonical_terms() -> None:
    assert rule_hash(FULL) == hashlib.sha256(canonical.dumps(terms(FULL))).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"id": UUID(int=8)}, {"name": "x"}, {"currency": "USD"}, {"rate_ppm": 1}, {"kind": "STANDARD"},
        {"vendor": None}, {"category": ""}, {"product": ""}, {"order": ""}, {"priority": 3}, {"fixed": 0},
        {"floor": None}, {"cap": None}, {"tiers": ()}, {"starts": None},
    ],
)  # fmt: skip
def test_every_term_is_in_the_hash(change: dict[str, Any]) -> None:
    assert rule_hash(replace(FULL, **change)) != rule_hash(FULL)


def told(made: Charge, **changes: Any) -> str:
    values: dict[str, Any] = {
        "rounding": "half_up", "base": "goods", "fee_tax_ppm": 190_000, "fee_tax": 5,
        "withheld": [(Withholding("retefuente", 15_000), 3)],
    }  # fmt: skip
    return snapshot(made, **(values | changes))


def test_a_snapshot_is_canonical_and_tells_everything() -> None:
    made = charged([line(1, 1_429), line(2, 571, "q")], replace(FULL, order=""), volume=15)

    text = told(made, by_hand="ana")

    kept = json.loads(text)
    assert text.encode() == canonical.dumps(kept)
    assert (kept["base"], kept["rounding"], kept["by_hand"], kept["fee_tax_minor"]) == (
        "goods",
        "half_up",
        "ana",
        5,
    )
    assert kept["withheld"] == [{"name": "retefuente", "ppm": 15_000, "of": "goods", "minor": 3}]
    first, second = kept["groups"]
    assert from_terms(first["rule"]) == replace(FULL, order="")
    assert first["hash"] == rule_hash(replace(FULL, order="")).hex()
    assert first["considered"] == [str(FULL.id)]
    assert (first["volume_minor"], first["rate_ppm"], first["by_rate_minor"], first["fee_minor"]) == (
        15,
        2,
        0,
        10,
    )
    assert (first["lines"], second["lines"]) == ([[1, 1_429, 1_429, 10]], [[2, 571, 571, 29]])
    assert second["considered"] == []


# What must hold for anything


AMOUNT = st.integers(1, 10**12)
RULES = st.lists(
    st.builds(
        lambda scope, rate, fixed, floor, more, tiers: {
            **scope, "rate_ppm": rate, "fixed": fixed, "floor": floor,
            "cap": None if more is None else (floor or 0) + more, "tiers": tuple(sorted(tiers.items())),
        },
        st.sampled_from(NARROW_LAST), st.integers(0, 10**6), st.integers(0, 10**6),
        st.none() | st.integers(0, 10**6), st.none() | st.integers(0, 10**9),
        st.dictionaries(st.integers(1, 10**9), st.integers(0, 10**6), max_size=3),
    ),
    max_size=5,
)  # fmt: skip
LINES = st.lists(st.tuples(AMOUNT, st.sampled_from("pqr"), st.sampled_from("cd")), min_size=1, max_size=12)


@given(LINES, RULES, st.none() | st.integers(0, 10**10))
def test_shares_add_up_and_nothing_is_negative(
    lines: list[tuple[int, str, str]], scopes: list[dict[str, Any]], volume: int | None
) -> None:
    rules = [rule(number, **scope) for number, scope in enumerate(scopes)]
    bought = [line(number, *what) for number, what in enumerate(lines, 1)]

    made = charged(bought, *rules, order="o", volume=volume)

    goods = sum(one.goods for one in bought)
    assert 0 <= made.commission <= goods
    assert 0 <= made.rate_ppm <= 10**6
    covered = [one for group in made.groups for one in group.lines]
    assert sorted(one.number for one in covered) == [one.number for one in bought]
    for group in made.groups:
        assert sum(group.shares) == group.fee.fee
        assert all(0 <= share <= one.goods for share, one in zip(group.shares, group.lines, strict=True))
        assert not problems(group.rule)


@given(
    st.integers(1, 10**14), st.integers(0, 10**6), st.integers(0, 10**6),
    st.lists(st.integers(0, 10**6), max_size=4), st.sampled_from([1, 100]),
)  # fmt: skip
def test_deductions_never_take_more_than_there_is(
    goods: int, rate: int, tax_rate: int, kept: list[int], step: int
) -> None:
    goods *= step
    fee = fee_of(rule(rate_ppm=rate), goods, goods, step=step).fee

    off = deductions(
        goods=goods, tax=goods, commission=fee, fee_tax_ppm=tax_rate,
        withholdings=[Withholding(str(n), ppm, "tax" if n % 2 else "goods") for n, ppm in enumerate(kept)],
        step=step,
    )  # fmt: skip

    amounts = [fee, off.fee_tax, *off.withheld]
    assert min(amounts) >= 0
    assert sum(amounts) <= goods
    assert not [amount for amount in amounts if amount % step]


@given(LINES, st.integers(0, 10**6), st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_refunds_give_back_exactly_what_was_charged(
    lines: list[tuple[int, str, str]], rate: int, steps: list[int]
) -> None:
    bought = [line(number, *what) for number, what in enumerate(lines, 1)]
    made = charged(bought, rule(rate_ppm=rate))
    goods = sum(one.goods for one in bought)

    parts = allocate(goods, steps)
    before = list(itertools.accumulate(parts, initial=0))
    given_back = [
        reversal_of(made.commission, at, part, goods) for at, part in zip(before, parts, strict=False)
    ]

    assert sum(given_back) == made.commission
    assert min(given_back) >= 0
    shares = made.groups[0].shares
    assert [-share for share in shares] == allocate(-made.commission, [one.goods for one in bought])


# Terms that are none


@pytest.mark.parametrize(
    ("terms_of", "found"),
    [
        ({}, {}), ({"rate_ppm": -1}, {"rate": "rate_invalid"}),
        ({"rate_ppm": 1_000_001}, {"rate": "rate_invalid"}),
        ({"rate_ppm": 0}, {}), ({"rate_ppm": 1_000_000}, {}),
        ({"fixed": -1}, {"fixed": "amount_invalid"}), ({"fixed": 10**15}, {}),
        ({"fixed": 10**15 + 1}, {"fixed": "amount_invalid"}), ({"floor": -1}, {"floor": "amount_invalid"}),
        ({"cap": -1}, {"cap": "amount_invalid"}), ({"floor": 5, "cap": 4}, {"cap": "cap_below_floor"}),
        ({"floor": 5, "cap": 5}, {}), ({"floor": 0, "cap": 0}, {}), ({"tiers": ((1, 0), (2, 10**6))}, {}),
        ({"tiers": ((2, 1), (2, 2))}, {"tiers": "tiers_not_rising"}),
        ({"tiers": ((3, 1), (2, 2))}, {"tiers": "tiers_not_rising"}),
        ({"tiers": ((0, 1),)}, {"tiers": "amount_invalid"}),
        ({"tiers": ((-1, 1),)}, {"tiers": "amount_invalid"}),
        ({"tiers": ((10**15, 1),)}, {}), ({"tiers": ((10**15 + 1, 1),)}, {"tiers": "amount_invalid"}),
        ({"tiers": ((1, -1),)}, {"tiers": "rate_invalid"}),
        ({"tiers": ((1, 10**6 + 1),)}, {"tiers": "rate_invalid"}),
        ({"tiers": tuple((n, n) for n in range(1, 11))}, {}),
        ({"tiers": tuple((n, n) for n in range(1, 12))}, {"tiers": "tiers_too_many"}),
    ],
)  # fmt: skip
def test_terms_are_checked(terms_of: dict[str, Any], found: dict[str, str]) -> None:
    assert problems(rule(**terms_of)) == found


def test_amounts_of_whole_pesos_are_whole() -> None:
    assert problems(rule(fixed=150, floor=100, cap=250), step=100) == {
        "fixed": "amount_off_increment", "cap": "amount_off_increment",
    }  # fmt: skip
