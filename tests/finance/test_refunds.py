"""Refunds: what is refused, whose money goes back, what the provider's word does, and races."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, transaction

from accounts.models import User
from finance import ledger, refund_outcomes, refunds, settlement
from finance.models import Commission, LedgerEntry, Order, Refund, RefundPart
from finance.order_locks import OrderNotFound
from finance.postings import (
    PLATFORM_FEE,
    PSP_CLEARING,
    REFUND_CLEARING,
    VENDOR_AVAILABLE,
    VENDOR_PENDING,
    VENDOR_RECEIVABLE,
)
from finance.refund_outcomes import RefundEnded, RefundNotFound, Report
from finance.refunds import (
    NothingToRefund,
    RefundCurrencyDiffers,
    RefundReferenceKnown,
    RefundTooLarge,
    Wish,
)
from tests.factories.accounts import VendorFactory
from tests.finance.conftest import MACHINE
from tests.finance.refunding import fresh, net, place, refunds_of, settle, spend
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
TOTAL = 13_400_000  # goods 100,000.00, IVA 19,000.00, shipping 15,000.00


def wish(order: Order, amount: int | None = None, **values: Any) -> Wish:
    return Wish(order_id=order.pk, reason="came back broken", amount=amount, **values)


def refund(order: Order, amount: int | None = None, **values: Any) -> Refund:
    return refunds.post(wish(order, amount, **values), by=MACHINE)


def balanced() -> bool:
    return ledger.check(signatures=True).is_balanced


# Refused


def test_an_order_that_was_not_sold_has_nothing_to_refund(vendor: User) -> None:
    order = place(vendor.pk, payment=...)

    with pytest.raises(NothingToRefund):
        refund(order, 1)


@pytest.mark.parametrize("order_id", [0, -1, 999_999_999, 2**63, 10**30])
def test_an_order_that_is_none(db: None, order_id: int) -> None:
    with pytest.raises(OrderNotFound):
        refunds.post(Wish(order_id=order_id, reason="x"), by=MACHINE)


def test_more_than_remains_is_refused_and_leaves_nothing(vendor: User) -> None:
    order = place(vendor.pk)
    refund(order, 13_000_000)

    with pytest.raises(RefundTooLarge) as refused:
        refund(order, 400_001)

    (detail,) = refused.value.details or ()
    assert (detail.field, "4000.00 COP" in str(detail.message)) == ("body -> amount", True)
    assert len(refunds_of(order)) == 1
    assert fresh(order).refunded_minor == 13_000_000
    refund(order, 400_000)
    with pytest.raises(NothingToRefund):
        refund(order, 1)


def test_another_currency_is_refused(vendor: User) -> None:
    with pytest.raises(RefundCurrencyDiffers):
        refund(place(vendor.pk), 100, currency="USD")


def test_one_vendors_items_give_no_more_than_that_vendor_sold(vendor: User) -> None:
    other = VendorFactory.create()
    order = place(vendor.pk, other.pk)

    with pytest.raises(RefundTooLarge):
        refund(order, 15_000_000, by_vendor={other.pk: 15_000_000})
    with pytest.raises(RefundTooLarge):
        refund(order, 100, by_vendor={VendorFactory.create().pk: 100})


def test_the_database_bounds_what_goes_back(vendor: User) -> None:
    """Rows that pass by the use case: the order's and the commission's sums refuse them."""
    order = place(vendor.pk)
    commission = Commission.objects.get(order=order)

    with pytest.raises(IntegrityError, match="order_refunds_within_total"), transaction.atomic():
        Refund.objects.create(
            refund_number="REF-1", order=order, currency="COP", amount_minor=TOTAL + 1, reason="x"
        )
    with (
        pytest.raises(IntegrityError, match="commission_reversals_within_bounds"),
        transaction.atomic(),
    ):
        RefundPart.objects.create(
            refund=Refund.objects.create(
                refund_number="REF-1", order=order, currency="COP", amount_minor=TOTAL
            ),
            vendor=vendor, commission=commission, goods_minor=10_000_000, tax_minor=0,
            shipping_minor=0, base_minor=10_000_001, commission_minor=0, entry_id=str(commission.entry_id),
        )  # fmt: skip
    with pytest.raises(IntegrityError, match="begins as posted"), transaction.atomic():
        Refund.objects.create(
            refund_number="REF-1", order=order, currency="COP", amount_minor=1, reason="x", status="failed"
        )
    with pytest.raises(IntegrityError, match="sums of refunds are kept"), transaction.atomic():
        Order.objects.filter(pk=order.pk).update(refunded_minor=1)


# Whose money


def test_a_whole_refund_turns_the_sale_round(vendor: User) -> None:
    order = place(vendor.pk)
    before = net(vendor.pk)
    row = refund(order)
    after = net(vendor.pk)

    assert (row.amount_minor, row.status, row.currency) == (TOTAL, "posted", "COP")
    kinds = [kind for kind in before if kind != PSP_CLEARING]
    assert all(before[kind] > 0 and after[kind] == 0 for kind in kinds)
    assert after[REFUND_CLEARING] == TOTAL == -after[PSP_CLEARING]
    part = row.parts.get()
    commission = fresh(part.commission)
    assert (commission.refunded_minor, commission.reversed_minor) == (
        10_000_000,
        commission.commission_amount_minor,
    )
    assert LedgerEntry.objects.get(pk=part.entry_id).reverses is None
    assert balanced()


def test_partial_refunds_add_up_over_two_vendors(vendor: User) -> None:
    other = VendorFactory.create()
    order = place(vendor.pk, other.pk, unit_price="33333.33")
    for amount in (1, 3_333, 1_000_000):
        refund(order, amount)
    refund(order)

    for book in (vendor.pk, other.pk):
        left = net(book)
        assert {kind for kind, amount in left.items() if amount} == {PSP_CLEARING, REFUND_CLEARING}
    assert fresh(order).refunded_minor == order.total_minor
    assert balanced()


def test_named_vendor_gives_and_the_other_does_not(vendor: User) -> None:
    other = VendorFactory.create()
    order = place(vendor.pk, other.pk)
    before = net(vendor.pk)
    row = refund(order, 1_000_000, by_vendor={other.pk: 1_000_000})

    assert net(vendor.pk) == before
    assert row.parts.get().vendor_id == other.pk


def test_a_change_of_the_rates_does_not_touch_what_was_sold(vendor: User, settings: Any) -> None:
    """T19."""
    order = place(vendor.pk)
    charged = net(vendor.pk)[PLATFORM_FEE]
    settings.COMMISSION_RATES_PPM = dict.fromkeys(settings.COMMISSION_RATES_PPM, 900_000)
    refund(order, TOTAL // 2)
    refund(order)

    assert charged > 0
    assert net(vendor.pk)[PLATFORM_FEE] == 0


def test_settled_sale_is_taken_from_what_is_available(vendor: User) -> None:
    order = place(vendor.pk)
    settle(order)
    available = net(vendor.pk)[VENDOR_AVAILABLE]
    row = refund(order)

    assert ledger.available(vendor.pk, "COP").free == 0
    assert (row.parts.get().owed_minor, ledger.owed(vendor.pk, "COP")) == (0, 0)
    assert available > 0
    assert balanced()


def test_refund_after_the_payout_leaves_the_vendor_owing(vendor: User) -> None:
    order = place(vendor.pk)
    settle(order)
    available = net(vendor.pk)[VENDOR_AVAILABLE]
    spend(vendor.pk, available - 1_000)
    row = refund(order)

    assert row.parts.get().owed_minor == available - 1_000
    assert ledger.owed(vendor.pk, "COP") == available - 1_000
    assert ledger.available(vendor.pk, "COP").free == 0
    assert net(vendor.pk)[VENDOR_RECEIVABLE] == -(available - 1_000)
    assert balanced()


def test_delivered_order_is_refunded_with_the_last_part(vendor: User) -> None:
    order = place(vendor.pk, status="delivered")
    refund(order, TOTAL - 1)
    assert fresh(order).status == "delivered"
    refund(order, 1)
    assert fresh(order).status == "delivered"
    for number, row in enumerate(refunds_of(order)):
        refund_outcomes.mark_paid(row.pk, provider_reference=f"rf-{number}", by=MACHINE)

    assert fresh(order).status == "refunded"


# The provider's word


def test_paid_refund_leaves_the_clearing_account(vendor: User) -> None:
    order = place(vendor.pk, status="delivered")
    row = refund(order)
    paid = refund_outcomes.mark_paid(row.pk, provider_reference="rf-1", by=MACHINE)
    again = refund_outcomes.mark_paid(row.pk, provider="testpay", provider_reference="rf-1", by=MACHINE)

    assert (paid.status, paid.provider, paid.provider_reference) == ("paid", "testpay", "rf-1")
    assert again.paid_at == fresh(row).paid_at is not None
    assert {kind for kind, amount in net(vendor.pk).items() if amount} == set()
    assert Commission.objects.get(order=order).status == "CANCELLED"
    assert balanced()


def test_commission_of_a_settled_sale_ends_refunded_only_with_the_whole(vendor: User) -> None:
    order = place(vendor.pk)
    settle(order)
    first, second = refund(order, 400_000), refund(order)
    refund_outcomes.mark_paid(first.pk, provider_reference="rf-1", by=MACHINE)
    assert Commission.objects.get(order=order).status == "PAID"
    refund_outcomes.mark_paid(second.pk, provider_reference="rf-2", by=MACHINE)

    assert Commission.objects.get(order=order).status == "REFUNDED"


def test_outcome_is_said_once(vendor: User) -> None:
    order = place(vendor.pk)
    one, other = refund(order, 100), refund(order, 200)
    refund_outcomes.mark_paid(one.pk, provider_reference="rf-1", by=MACHINE)

    with pytest.raises(RefundEnded):
        refund_outcomes.mark_paid(one.pk, provider_reference="rf-9", by=MACHINE)
    with pytest.raises(RefundEnded):
        refund_outcomes.mark_failed(one.pk, failure="no", by=MACHINE)
    with pytest.raises(RefundReferenceKnown):
        refund_outcomes.mark_paid(other.pk, provider_reference="rf-1", by=MACHINE)
    with pytest.raises(RefundNotFound):
        refund_outcomes.mark_paid(UUID(int=7), provider_reference="rf-1", by=MACHINE)
    assert fresh(other).status == "posted"


def test_failed_refund_stays_the_buyers_until_another_one_takes_it_on(vendor: User) -> None:
    order = place(vendor.pk)
    row = refund(order)
    waiting = net(vendor.pk)
    failed = refund_outcomes.mark_failed(row.pk, failure="card closed", by=MACHINE)
    refund_outcomes.mark_failed(row.pk, failure="card closed", by=MACHINE)

    assert (failed.status, fresh(row).failure) == ("failed", "card closed")
    assert net(vendor.pk) == waiting
    assert (fresh(order).refunded_minor, fresh(order).refund_due_minor) == (0, TOTAL)
    commission = Commission.objects.get(order=order)
    assert (commission.refunded_minor, commission.reversed_minor) == (0, 0)
    second = refund(order)
    assert (fresh(order).refunded_minor, fresh(order).refund_due_minor) == (TOTAL, 0)
    refund_outcomes.mark_paid(second.pk, provider_reference="rf-2", by=MACHINE)
    assert not +net(vendor.pk)
    with pytest.raises(RefundEnded):
        refund_outcomes.mark_paid(row.pk, provider_reference="rf-1", by=MACHINE)
    assert balanced()


def test_second_attempt_after_the_settlement_takes_the_same_money(vendor: User) -> None:
    order = place(vendor.pk)
    row = refund(order)
    settle(order)
    refund_outcomes.mark_failed(row.pk, failure="card closed", by=MACHINE)
    assert ledger.available(vendor.pk, "COP").free == 0
    refund(order)

    assert (net(vendor.pk)[VENDOR_PENDING], ledger.available(vendor.pk, "COP").free) == (0, 0)
    assert ledger.owed(vendor.pk, "COP") == 0
    assert balanced()


def test_debt_that_was_paid_off_is_taken_again_by_the_next_attempt(vendor: User) -> None:
    order = place(vendor.pk)
    settle(order)
    share = net(vendor.pk)[VENDOR_AVAILABLE]
    spend(vendor.pk, share)
    row = refund(order)
    assert ledger.owed(vendor.pk, "COP") == share
    # Later sales pay the debt off, as the settlement does.
    from tests.finance.selling import move

    move(vendor.pk, PSP_CLEARING, VENDOR_RECEIVABLE, share)
    refund_outcomes.mark_failed(row.pk, failure="card closed", by=MACHINE)
    refund(order)

    assert ledger.owed(vendor.pk, "COP") == 0
    assert ledger.available(vendor.pk, "COP").free == 0
    assert balanced()


def report(order: Order, amount: int = TOTAL, reference: str = "rf-1") -> Report:
    return Report(order.pk, "testpay", reference, amount, "COP")


def test_report_that_is_first_makes_the_refund_and_the_request_finds_it(vendor: User) -> None:
    order = place(vendor.pk)
    told = refund_outcomes.reported(report(order), by=MACHINE)
    asked = refund(order, TOTAL, provider="testpay", provider_reference="rf-1")
    again = refund_outcomes.reported(report(order), by=MACHINE)

    assert told.pk == asked.pk == again.pk
    assert [row.status for row in refunds_of(order)] == ["paid"]
    with pytest.raises(RefundReferenceKnown):
        refund(order, TOTAL - 1, provider="testpay", provider_reference="rf-1")


def test_report_finds_the_refund_that_waits_for_it(vendor: User) -> None:
    order = place(vendor.pk)
    first, second = refund(order, 500), refund(order, 500)

    assert refund_outcomes.reported(report(order, 500), by=MACHINE).pk == first.pk
    assert refund_outcomes.reported(report(order, 500), by=MACHINE).pk == first.pk
    assert refund_outcomes.reported(report(order, 500, "rf-2"), by=MACHINE).pk == second.pk
    with pytest.raises(RefundReferenceKnown):
        refund_outcomes.reported(report(place(vendor.pk), 500), by=MACHINE)


# Races


def amounts(outcomes: list[Any]) -> list[int]:
    unexpected = [
        each for each in outcomes if not isinstance(each, Refund | RefundTooLarge | NothingToRefund)
    ]
    assert not unexpected, unexpected
    return [each.amount_minor for each in outcomes if isinstance(each, Refund)]


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_twenty_refunds_of_the_whole_are_one(vendor: User) -> None:
    order = place(vendor.pk)
    outcomes = race([partial(refund, order, TOTAL)] * 20)

    assert amounts(outcomes) == [TOTAL]
    assert fresh(order).refunded_minor == TOTAL
    assert balanced()


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_parallel_parts_never_exceed_the_order(vendor: User) -> None:
    other = VendorFactory.create()
    order = place(vendor.pk, other.pk)
    settle(order)
    part = order.total_minor // 7 + 1
    outcomes = race([partial(refund, order, part)] * 12)

    assert amounts(outcomes) == [part] * 6
    assert fresh(order).refunded_minor == 6 * part
    assert balanced()


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_refund_and_settlement_at_once_move_the_money_once(vendor: User, settings: Any) -> None:
    """The job that settles runs at the same moment: the refund takes from where the money is by then."""
    settings.SETTLEMENT_HOLD_DAYS = 0
    settings.COMMISSION_AUTO_APPROVE = True
    for part in (None, 4_000_000, None):
        order = place(vendor.pk)
        both: list[Callable[[], Any]] = [
            partial(refund, order, part), partial(settlement.settle, by=MACHINE),
        ]  # fmt: skip
        outcomes = race(both)
        assert not [each for each in outcomes if isinstance(each, BaseException)], outcomes
        settlement.settle(by=MACHINE)

        assert Commission.objects.get(order=order).status == "PAID"
        assert net(vendor.pk)[VENDOR_PENDING] == 0
        assert ledger.owed(vendor.pk, "COP") == 0
        if part:
            refund(order)
        assert ledger.available(vendor.pk, "COP").free == 0
    assert balanced()


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_refund_and_payout_of_one_balance_never_spend_it_twice(vendor: User) -> None:
    for _ in range(3):
        order = place(vendor.pk)
        settle(order)
        share = ledger.available(vendor.pk, "COP").free
        owed = ledger.owed(vendor.pk, "COP")
        both: list[Callable[[], Any]] = [partial(refund, order), partial(spend, vendor.pk, share)]
        outcomes = race(both)
        assert isinstance(outcomes[0], Refund), outcomes
        paid_out = share if outcomes[1] is None else 0
        assert paid_out or isinstance(outcomes[1], ledger.InsufficientFunds), outcomes
        assert ledger.available(vendor.pk, "COP").free == 0
        assert ledger.owed(vendor.pk, "COP") - owed == paid_out
    assert balanced()


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_report_and_request_at_once_are_one_refund(vendor: User) -> None:
    for number in range(3):
        order = place(vendor.pk)
        reference = f"rf-{number}"
        outcomes = race(
            [
                partial(refund_outcomes.reported, report(order, reference=reference), by=MACHINE),
                partial(refund, order, TOTAL, provider="testpay", provider_reference=reference),
            ]
        )
        assert not [each for each in outcomes if isinstance(each, BaseException)], outcomes
        assert [row.status for row in refunds_of(order)] == ["paid"]


# All or nothing


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_a_refund_that_is_cut_off_anywhere_leaves_nothing(vendor: User) -> None:
    """The connection is cut before each statement in turn: afterwards there is the whole refund or none."""
    order = place(vendor.pk, status="delivered")
    before = net(vendor.pk)
    finished = False
    for statement in range(1, 60):
        countdown = [statement]

        def cut(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
            countdown[0] -= 1  # noqa: B023 - used in this turn of the loop only
            if countdown[0] == 0:  # noqa: B023
                connection.connection.close()
            return execute(sql, params, many, context)

        try:
            with connection.execute_wrapper(cut):
                refund(order)
        except Exception:  # noqa: BLE001 - however the driver tells that the connection is gone
            connection.close()
            assert refunds_of(order) == []
            assert (fresh(order).status, fresh(order).refunded_minor) == ("delivered", 0)
            assert net(vendor.pk) == before
        else:
            finished = True
            break
    assert finished
    assert statement > 8
    assert fresh(order).refunded_minor == TOTAL
    assert balanced()
