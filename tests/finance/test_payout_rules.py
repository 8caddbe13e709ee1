"""Rules of payouts that need no database: bounds and steps, tiers, screening, what is posted."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from finance import payout_postings, payout_rules, rails
from finance.money import Money, MoneyError, parse
from finance.payout_content import content_hash
from finance.payout_rules import Facts, Reason, Screening
from finance.postings import (
    PAYOUT_IN_TRANSIT,
    PENDING,
    PLATFORM_BANK,
    PLATFORM_BOOK,
    POST,
    VENDOR_AVAILABLE,
    VOID,
)

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)
NOTHING = Screening(())
CALM: dict[str, Any] = {
    "amount": 10_000_000, "now": NOW, "usable_from": NOW - dt.timedelta(days=9), "address_changed_at": None,
    "vendors_sharing": 0, "paid_before": (10_000_000, 9_000_000, 12_000_000), "paid_to_account": 3,
    "sold": 100, "refunded": 20, "cooling": dt.timedelta(hours=72),
}  # fmt: skip


def found(**changes: Any) -> set[str]:
    return {reason.value for reason in payout_rules.screen(Facts(**{**CALM, **changes})).reasons}


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, set()),
        ({"usable_from": NOW}, set()),
        ({"usable_from": NOW + dt.timedelta(microseconds=1)}, {"cooling_off"}),
        ({"address_changed_at": NOW - dt.timedelta(hours=72)}, set()),
        ({"address_changed_at": NOW - dt.timedelta(hours=71)}, {"address_changed"}),
        ({"vendors_sharing": 1}, {"shared_account"}),
        ({"paid_before": (), "paid_to_account": 0}, {"first_payout"}),
        ({"paid_to_account": 0}, {"new_account"}),
        ({"amount": 30_000_000}, set()),
        ({"amount": 30_000_001}, {"above_usual"}),
        ({"amount": 10**12, "paid_before": (1, 1)}, set()),
        ({"refunded": 21}, {"many_refunds"}),
        ({"sold": 0, "refunded": 5}, set()),
    ],
)
def test_screening_says_why(changes: dict[str, Any], reasons: set[str]) -> None:
    assert found(**changes) == reasons


def test_a_rule_that_holds_is_never_outvoted() -> None:
    many = Screening(tuple(sorted(Reason)))
    assert many.holds
    assert many.raises
    assert not NOTHING.holds
    assert set(Reason) >= payout_rules.HOLDING


@pytest.mark.parametrize(
    ("amount", "reasons", "needs"),
    [
        ("10000", (), (1, False)), ("1999999", (), (1, False)), ("2000000", (), (2, False)),
        ("49999999", (), (2, False)), ("50000000", (), (3, True)),
        ("10000", (Reason.FIRST_PAYOUT,), (2, False)), ("2000000", (Reason.NEW_ACCOUNT,), (3, True)),
        ("50000000", (Reason.ABOVE_USUAL, Reason.FIRST_PAYOUT), (3, True)),
        ("10000", (Reason.COOLING_OFF,), (1, False)),
    ],
)  # fmt: skip
def test_tiers_of_the_settings(amount: str, reasons: tuple[Reason, ...], needs: tuple[int, bool]) -> None:
    tiers = payout_rules.tiers_of(settings.PAYOUT_TIERS, "COP")
    tier = payout_rules.approvals_for(parse(amount, "COP"), tiers, Screening(reasons))
    assert (tier.approvals, tier.needs_lead) == needs


def test_currency_without_tiers_needs_the_most() -> None:
    (tier,) = payout_rules.tiers_of(settings.PAYOUT_TIERS, "EUR")
    assert (tier.approvals, tier.needs_lead) == (3, True)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{"below": "1", "approvals": 1, "lead": False}],
        [{"below": None, "approvals": 1, "lead": False}, {"below": None, "approvals": 1, "lead": False}],
        [{"below": "5", "approvals": 1, "lead": False}, {"below": "5", "approvals": 1, "lead": False},
         {"below": None, "approvals": 1, "lead": False}],
    ],
)  # fmt: skip
def test_tiers_that_leave_amounts_out_are_refused(lines: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="COP"):
        payout_rules.tiers_of({"COP": lines}, "COP")


@given(st.integers(1, 10**13), st.sets(st.sampled_from(list(Reason))))
def test_screening_never_lowers_what_is_needed(minor: int, reasons: set[Reason]) -> None:
    tiers = payout_rules.tiers_of(settings.PAYOUT_TIERS, "COP")
    money = Money(minor, "COP")
    calm = payout_rules.approvals_for(money, tiers, NOTHING)
    watched = payout_rules.approvals_for(money, tiers, Screening(tuple(sorted(reasons))))
    assert watched.approvals >= calm.approvals
    assert watched.needs_lead >= calm.needs_lead


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        ("9999.99", "COP", "amount_too_small"), ("50000000.01", "COP", "amount_too_large"),
        ("10000.01", "COP", "amount_not_in_steps"), ("100", "JPY", "currency_unsupported"),
    ],
)  # fmt: skip
def test_bounds_and_steps(amount: str, currency: str, code: str) -> None:
    with pytest.raises(MoneyError) as refused:
        rails.check_payout(parse(amount, currency), settings.PAYOUT_BOUNDS)
    assert refused.value.code == code


def test_every_currency_with_bounds_has_a_rail_that_carries_them() -> None:
    for currency in settings.PAYOUT_BOUNDS:
        bounds = rails.bounds_of(settings.PAYOUT_BOUNDS, currency)
        for amount in (bounds.least, bounds.most):
            rails.check_payout(amount, settings.PAYOUT_BOUNDS)
    with pytest.raises(MoneyError):
        rails.find("nobody", rails.Direction.OUT, "COP")


@given(st.integers(0, 10**15))
def test_floor_to_step_loses_less_than_a_step(minor: int) -> None:
    floored = rails.floor_to_step(Money(minor, "COP"))
    assert 0 <= minor - floored.minor < 100
    assert floored.minor % 100 == 0


def test_content_is_bound_to_every_part() -> None:
    payout, vendor = UUID(int=1), UUID(int=2)
    known = content_hash(payout, vendor, "COP", 100, b"\1\2")
    text = f"payout/v1|{payout}|{vendor}|COP|100|0102"
    assert known == hashlib.sha256(text.encode()).digest()
    others = [
        content_hash(vendor, payout, "COP", 100, b"\1\2"), content_hash(payout, vendor, "USD", 100, b"\1\2"),
        content_hash(payout, vendor, "COP", 101, b"\1\2"), content_hash(payout, vendor, "COP", 100, b"\1\3"),
    ]  # fmt: skip
    assert len({known, *others}) == 5


@given(st.integers(1, 10**15))
def test_way_there_and_back_is_nothing(minor: int) -> None:
    """Every account ends where it began: reserved and voided, or sent, paid, unpaid and returned."""
    ids: dict[str, Any] = {"payout": uuid4(), "vendor": uuid4()}
    common: dict[str, Any] = {"amount": Money(minor, "COP"), "at": NOW}
    reserve = payout_postings.reserve(**ids, **common, entry_id=uuid4())
    left = payout_postings.sent(**ids, **common, entry_id=uuid4(), reserved_by=reserve.entry_id)
    void = payout_postings.void(**ids, **common, entry_id=uuid4(), reserved_by=reserve.entry_id)
    paid = payout_postings.paid(payout=ids["payout"], **common, entry_id=uuid4())
    back = payout_postings.returned(**ids, **common, entry_id=uuid4(), sent=left.entry_id)
    unpaid = payout_postings.unpaid(payout=ids["payout"], **common, entry_id=uuid4(), paid=paid.entry_id)
    assert [step.transfers[0].phase for step in (reserve, left, void)] == [PENDING, POST, VOID]
    assert (back.reverses, back.whole, unpaid.reverses) == (left.entry_id, True, paid.entry_id)
    sums: dict[tuple[UUID, str], int] = {}
    for step in (left, paid, unpaid, back):
        for transfer in step.transfers:
            for account, sign in ((transfer.debit, -1), (transfer.credit, 1)):
                key = (step.book, account)
                sums[key] = sums.get(key, 0) + sign * transfer.amount
    assert set(sums.values()) == {0}
    assert set(sums) == {
        (ids["vendor"], VENDOR_AVAILABLE), (ids["vendor"], PAYOUT_IN_TRANSIT),
        (PLATFORM_BOOK, PAYOUT_IN_TRANSIT), (PLATFORM_BOOK, PLATFORM_BANK),
    }  # fmt: skip
    assert len({step.source for step in (reserve, left, void, paid, back)}) == 5
