"""Vendors who have and owe at once: what both have in common is taken off both, after every settlement."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from accounts.models import User
from finance import debts, ledger, payout_ends, payout_outcomes, payouts, refunds, settlement, statements
from finance.models import LedgerEntry
from finance.payout_states import DebtOpen
from finance.refunds import Wish
from finance.states import PayoutOrigin
from tests.factories.accounts import VendorFactory
from tests.factories.administration import acting
from tests.finance.conftest import MACHINE
from tests.finance.payout_house import REASON, SYSTEM, approver, asked, cop, fund, indebt, sent, vendor_with
from tests.finance.refunding import place, settle, spend
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)


def standing(vendor: User) -> tuple[int, int]:
    """What is free and what is owed, in minor units."""
    return ledger.available(vendor.pk, "COP").free, ledger.owed(vendor.pk, "COP")


def test_refund_while_a_payout_holds_the_money_does_not_strand_the_rest() -> None:
    """All is reserved, so the refund is owed; the payout is given up: the vendor has all of it, and owes."""
    vendor, where = vendor_with("500000")
    order = place(vendor.pk)
    settle(order)
    free, _owed = standing(vendor)
    payout = asked(vendor, where, str(free // 100))
    left = standing(vendor)[0]
    refunds.post(Wish(order_id=order.pk, reason="x"), by=MACHINE)
    debt = standing(vendor)[1]
    assert debt > left
    payout_ends.reject(payout.pk, reason=REASON, by=acting(approver()))
    with pytest.raises(DebtOpen):
        payouts.open_request(vendor, where, cop("100000"), origin=PayoutOrigin.API, by=acting(vendor))

    settlement.settle(by=SYSTEM)

    assert standing(vendor) == (payout.amount_minor - debt, 0)
    assert asked(vendor, where).amount_minor == 10_000_000


def test_payout_that_came_back_pays_the_debt() -> None:
    vendor, where = vendor_with("500000")
    payout = sent(vendor, where, "500000")
    indebt(vendor, cop("120000"))
    answer = f"reference,outcome,amount\n{payout.payout_number},returned,500000\n".encode()
    assert payout.batch_id is not None
    payout_outcomes.import_answer(payout.batch_id, answer, by=SYSTEM)
    assert standing(vendor) == (50_000_000, 12_000_000)

    assert debts.net_all(by=SYSTEM) == 1

    assert standing(vendor) == (38_000_000, 0)
    assert debts.net_all(by=SYSTEM) == 0
    (line,) = statements.page(statements.read(vendor.pk), after=3, limit=9)
    assert (line.kind, line.amount, line.balance) == ("debt_netted", -12_000_000, 38_000_000)


def test_what_is_reserved_or_of_another_currency_pays_nothing() -> None:
    vendor, where = vendor_with("500000")
    asked(vendor, where, "500000")
    indebt(vendor, cop("1000"))
    other = VendorFactory.create()
    indebt(other, cop("1000"))
    clear = VendorFactory.create()
    fund(clear, cop("1000"))

    assert debts.net_all(by=SYSTEM) == 0
    assert [standing(one) for one in (vendor, other, clear)] == [(0, 100_000), (0, 100_000), (100_000, 0)]


def test_debt_is_taken_once_whoever_else_moves_the_money() -> None:
    vendor = VendorFactory.create()
    fund(vendor, cop("1000"))
    indebt(vendor, cop("300"))

    runners: list[Callable[[], object]] = [partial(spend, vendor.pk, 40_000)]
    runners += [partial(debts.net_all, by=SYSTEM)] * 6
    race(runners)

    assert standing(vendor) == (30_000, 0)
    assert LedgerEntry.objects.filter(kind="debt_netted").count() == 1


def test_pages_are_walked_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debts, "PAGE", 2)
    vendors = [VendorFactory.create() for _ in range(5)]
    for vendor in vendors:
        fund(vendor, cop("10"))
        indebt(vendor, cop("30"))

    assert debts.net_all(by=SYSTEM) == 5
    assert [standing(vendor) for vendor in vendors] == [(0, 2_000)] * 5
