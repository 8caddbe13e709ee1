"""What a settlement posts, without a database: debts first, nothing lost between the two."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finance.money import MoneyError
from finance.postings import VENDOR_AVAILABLE, VENDOR_PENDING, VENDOR_RECEIVABLE, Posting, Transfer
from finance.settlement_postings import settlement_posting

BOOK, RUN, ENTRY = UUID(int=1), UUID(int=2), UUID(int=3)
AT = datetime(2026, 3, 4, tzinfo=UTC)


def posted(amount: int, owed: int) -> Posting:
    return settlement_posting(
        book=BOOK, currency="COP", amount=amount, owed=owed, run=RUN, entry_id=ENTRY, occurred_at=AT
    )


def moved(amount: int, owed: int) -> dict[str, int]:
    return {transfer.credit: transfer.amount for transfer in posted(amount, owed).transfers}


@pytest.mark.parametrize(
    ("amount", "owed", "parts"),
    [
        (100, 0, {VENDOR_AVAILABLE: 100}),
        (100, 1, {VENDOR_RECEIVABLE: 1, VENDOR_AVAILABLE: 99}),
        (100, 99, {VENDOR_RECEIVABLE: 99, VENDOR_AVAILABLE: 1}),
        (100, 100, {VENDOR_RECEIVABLE: 100}),
        (100, 101, {VENDOR_RECEIVABLE: 100}),
        (1, 0, {VENDOR_AVAILABLE: 1}),
        (1, 1, {VENDOR_RECEIVABLE: 1}),
    ],
)
def test_what_is_owed_is_taken_first(amount: int, owed: int, parts: dict[str, int]) -> None:
    assert moved(amount, owed) == parts


@given(st.integers(1, 10**15), st.integers(0, 10**15))
def test_all_of_it_stops_being_pending(amount: int, owed: int) -> None:
    made = posted(amount, owed)

    assert made.control_total == amount
    assert all(transfer.debit == VENDOR_PENDING and transfer.amount > 0 for transfer in made.transfers)
    assert moved(amount, owed).get(VENDOR_RECEIVABLE, 0) <= owed


@pytest.mark.parametrize(("amount", "owed"), [(0, 0), (0, 5), (-1, 0), (1, -1)])
def test_a_settlement_of_nothing_and_a_debt_below_zero_are_refused(amount: int, owed: int) -> None:
    with pytest.raises(MoneyError) as refused:
        posted(amount, owed)

    assert refused.value.code == "settlement_invalid"


def test_the_entry_names_its_run_and_currency() -> None:
    assert posted(5, 2) == Posting(
        BOOK, ENTRY, "settlement", AT, f"settlement/{RUN}/COP",
        (
            Transfer(VENDOR_PENDING, VENDOR_RECEIVABLE, "", "COP", 2),
            Transfer(VENDOR_PENDING, VENDOR_AVAILABLE, "", "COP", 3),
        ),
    )  # fmt: skip
