"""Whose money a refund is: known answers, and rules that hold for every sequence of refunds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finance import refund_postings, refund_split
from finance.money import MoneyError, reversal_of
from finance.postings import (
    PSP_CLEARING,
    REFUND_CLEARING,
    VENDOR_AVAILABLE,
    VENDOR_PENDING,
    VENDOR_RECEIVABLE,
)
from finance.refund_postings import Event, Owner
from finance.refund_split import Figures, Part, Sold

ANA, BETO = UUID(int=1), UUID(int=2)
EVENT = Event(UUID(int=9), dt.datetime(2026, 3, 4, tzinfo=dt.UTC), "COP")


def plus(one: Figures, other: Figures) -> Figures:
    return one.less(Figures().less(other))


def refund(
    sales: Sequence[Sold], amount: int, wanted: dict[UUID, int] | None = None
) -> tuple[list[Part], list[Sold]]:
    """Split one refund, and return the sales as they stand after it."""
    parts = refund_split.split(amount, sales, wanted)
    by_vendor = {part.vendor: part.figures for part in parts}
    return parts, [
        Sold(sold.vendor, sold.sale, plus(sold.taken, by_vendor.get(sold.vendor, Figures())))
        for sold in sales
    ]


# Known answers


def test_reversals_of_commission_telescope() -> None:
    """T15: naive rounding of each refund alone would give back 12.34."""
    sales = [Sold(ANA, Figures(goods=10000, commission=1235))]
    given_back = []
    for amount in (3333, 3333, 3334):
        parts, sales = refund(sales, amount)
        given_back.append(parts[0].figures.commission)

    assert given_back == [412, 411, 412]


def test_a_whole_refund_is_the_sale_turned_round() -> None:
    sales = [
        Sold(ANA, Figures(10_000_000, 1_900_000, 1_000_000, 500_000, 95_000, 250_000)),
        Sold(BETO, Figures(3_333_333, 633_333, 500_000, 166_667, 31_667, 83_333)),
    ]
    parts = refund_split.split(sum(sold.sale.total for sold in sales), sales)

    assert [part.figures for part in parts] == [sold.sale for sold in sales]


def test_what_is_wanted_of_one_vendor_takes_nothing_from_another() -> None:
    sales = [Sold(ANA, Figures(100, 19, 10, 5)), Sold(BETO, Figures(100, 19, 10, 5))]
    parts = refund_split.split(129, sales, {BETO: 129})

    assert parts == [Part(BETO, Figures(100, 19, 10, 5))]


@pytest.mark.parametrize(
    ("amount", "wanted"),
    [(0, None), (-1, None), (130, None), (10, {ANA: 9}), (10, {BETO: 10}), (130, {ANA: 130})],
)
def test_what_cannot_be_split_is_refused(amount: int, wanted: dict[UUID, int] | None) -> None:
    with pytest.raises(MoneyError):
        refund_split.split(amount, [Sold(ANA, Figures(100, 19, 10, 5))], wanted)


def test_a_refund_that_failed_in_between_leaves_no_centavo() -> None:
    whole = Figures(goods=10000, commission=1235)
    first, sales = refund([Sold(ANA, whole)], 3333)
    _second, sales = refund(sales, 3333)
    # The first one failed: what it took is there again.
    sales = [Sold(ANA, whole, sales[0].taken.less(first[0].figures))]
    _parts, sales = refund(sales, 6667)

    assert sales[0].rest == Figures()


# For every sale and every sequence of refunds


@st.composite
def sold(draw: st.DrawFn) -> Sold:
    goods = draw(st.integers(1, 10**7))
    commission = draw(st.integers(0, goods))
    fee_tax = draw(st.integers(0, goods - commission))
    withheld = draw(st.integers(0, goods - commission - fee_tax))
    figures = Figures(
        goods, draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6)), commission, fee_tax, withheld
    )
    return Sold(uuid4(), figures)


def parts_of(total: int, draw: Callable[[st.SearchStrategy[set[int]]], set[int]]) -> list[int]:
    """Cut a total into at most eight refunds."""
    cuts = sorted(draw(st.sets(st.integers(1, total - 1), max_size=7))) if total > 1 else []
    return [end - start for start, end in zip([0, *cuts], [*cuts, total], strict=True)]


@given(st.lists(sold(), min_size=1, max_size=4), st.data())
def test_refunds_that_add_up_to_the_whole_take_back_the_sale_exactly(
    sales: list[Sold], data: st.DataObject
) -> None:
    for amount in parts_of(sum(each.sale.total for each in sales), data.draw):
        parts, sales = refund(sales, amount)
        assert sum(part.figures.total for part in parts) == amount
        for part in parts:
            values = part.figures
            assert min(values.goods, values.tax, values.shipping, values.commission, values.fee_tax,
                       values.withheld, values.vendor) >= 0  # fmt: skip
    assert all(each.rest == Figures() for each in sales)


@given(sold(), st.data())
def test_commission_is_that_of_all_refunds_together(sale: Sold, data: st.DataObject) -> None:
    goods = Sold(sale.vendor, Figures(sale.sale.goods, 0, 0, sale.sale.commission))
    before, sales = 0, [goods]
    for amount in parts_of(goods.sale.goods, data.draw):
        parts, sales = refund(sales, amount)
        assert parts[0].figures.commission == reversal_of(
            goods.sale.commission, before, amount, goods.sale.goods
        )
        before += amount


@given(st.lists(sold(), min_size=1, max_size=3), st.data())
def test_nothing_is_lost_where_refunds_fail_in_between(sales: list[Sold], data: st.DataObject) -> None:
    kept: list[list[Part]] = []
    for amount in parts_of(sum(each.sale.total for each in sales), data.draw):
        parts, sales = refund(sales, amount)
        kept.append(parts)
    for parts in [each for each in kept if data.draw(st.booleans())]:
        back = {part.vendor: part.figures for part in parts}
        sales = [
            Sold(each.vendor, each.sale, each.taken.less(back.get(each.vendor, Figures()))) for each in sales
        ]
    if rest := sum(each.rest.total for each in sales):
        for amount in parts_of(rest, data.draw):
            _parts, sales = refund(sales, amount)
    assert all(each.rest == Figures() for each in sales)


@given(sold(), st.none() | st.integers(-5, 10**7))
def test_entries_move_what_the_part_says(sale: Sold, free: int | None) -> None:
    part = Part(sale.vendor, sale.sale)
    posting, owed = refund_postings.taking_back(EVENT, part, Owner(UUID(int=5), free), entry_id=UUID(int=6))
    taken = {transfer.debit: transfer.amount for transfer in posting.transfers}

    assert posting.control_total == sale.sale.total
    assert {transfer.credit for transfer in posting.transfers} == {REFUND_CLEARING}
    assert (posting.reverses, posting.whole) == (UUID(int=5), False)
    assert taken.get(VENDOR_RECEIVABLE, 0) == owed
    if free is None:
        assert (taken.get(VENDOR_PENDING, 0), owed) == (sale.sale.vendor, 0)
    else:
        assert taken.get(VENDOR_AVAILABLE, 0) == sale.sale.vendor - owed <= max(free, 0)
        assert owed == 0 or taken.get(VENDOR_AVAILABLE, 0) == max(free, 0)


def test_paying_empties_what_waits_for_the_buyer() -> None:
    posting = refund_postings.paying(EVENT, ANA, 134, provider="testpay", entry_id=UUID(int=6))

    assert [tuple(transfer)[:5] for transfer in posting.transfers] == [
        (REFUND_CLEARING, PSP_CLEARING, "testpay", "COP", 134)
    ]


@pytest.mark.parametrize(
    ("pending", "owed", "expected"),
    [
        (0, 0, None),
        (0, 50, None),
        (80, 0, {(VENDOR_PENDING, VENDOR_AVAILABLE): 80}),
        (80, 50, {(VENDOR_PENDING, VENDOR_RECEIVABLE): 50, (VENDOR_PENDING, VENDOR_AVAILABLE): 30}),
        (30, 50, {(VENDOR_PENDING, VENDOR_RECEIVABLE): 30}),
        (0, -20, {(VENDOR_RECEIVABLE, VENDOR_AVAILABLE): 20}),
        (80, -20, {(VENDOR_PENDING, VENDOR_AVAILABLE): 80, (VENDOR_RECEIVABLE, VENDOR_AVAILABLE): 20}),
    ],
)
def test_what_a_failed_refund_sets_free(
    pending: int, owed: int, expected: dict[tuple[str, str], int] | None
) -> None:
    posting = refund_postings.releasing(EVENT, ANA, pending=pending, owed=owed, entry_id=UUID(int=6))
    moved = posting and {(each.debit, each.credit): each.amount for each in posting.transfers}

    assert moved == expected


@pytest.mark.parametrize(
    ("amount", "wanted", "code"),
    [
        (0, None, "refund_invalid"),
        (-1, None, "refund_invalid"),
        (0, {}, "refund_invalid"),
        (5, {ANA: 4}, "refund_invalid"),
        (5, {ANA: 6}, "refund_invalid"),
        (5, {BETO: 5}, "refund_invalid"),
        (101, None, "refund_too_large"),
        (101, {ANA: 101}, "refund_too_large"),
    ],
)
def test_a_sale_without_charges_is_bounded_too(
    amount: int, wanted: dict[UUID, int] | None, code: str
) -> None:
    """Nothing behind this bound would refuse it: there is no commission of which too much would go back."""
    sales = [Sold(ANA, Figures(goods=150, shipping=9), Figures(goods=50, shipping=9))]

    with pytest.raises(MoneyError) as refused:
        refund_split.split(amount, sales, wanted)

    assert refused.value.code == code
    assert refund_split.split(100, sales) == [Part(ANA, Figures(goods=100))]
