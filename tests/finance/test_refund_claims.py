"""What a buyer is still to get: no settlement pays it to a vendor, a new attempt takes it on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction

from accounts import approvals, hierarchy
from accounts.models import ApprovalRequest, User
from finance import invariants, ledger, order_changes, refund_claims, refund_outcomes, refunds, settlement
from finance.models import Commission, Order, Refund
from finance.order_changes import BUYER_CANCELS, RefundState
from finance.order_locks import OrderNotFound
from finance.postings import REFUND_CLEARING, VENDOR_PENDING
from finance.refund_claims import NothingDue
from finance.refunds import Wish
from mestore.lib import sql
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent, Signal
from tests.factories.accounts import BuyerFactory, VendorFactory
from tests.factories.administration import acting
from tests.finance.conftest import MACHINE
from tests.finance.payout_house import staff
from tests.finance.refunding import fresh, net, place, refunds_of, spend
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
TOTAL = 13_400_000
REASON = "the buyer keeps the goods and wrote so"
ASKING, APPROVING = refund_claims.ASKING, refund_claims.APPROVING


@pytest.fixture(autouse=True)
def _everything_is_due(settings: Any) -> None:
    settings.SETTLEMENT_HOLD_DAYS = 0
    settings.COMMISSION_AUTO_APPROVE = True
    settings.COMMISSION_REVIEW_ABOVE = {"COP": 10**12}


@pytest.fixture
def vendor(db: None) -> User:
    return VendorFactory.create()


def cancel(order: Order, *, wanted: bool = True, by: Actor = MACHINE, **values: Any) -> RefundState:
    done = order_changes.cancel(order.pk, reason=REASON, refund_requested=wanted, by=by, **values)
    return done.refund_status


def give_up(refund: Refund) -> None:
    refund_outcomes.mark_failed(refund.pk, failure="card closed", by=MACHINE)


def settle() -> None:
    (result,) = settlement.settle(by=MACHINE)
    assert result.skipped == []


def free(vendor: User) -> int:
    return ledger.available(vendor.pk, "COP").free


def sound() -> bool:
    return (
        not any(sql.fetch_all(one.query, {"vendor": None, "most": 5}) for one in invariants.EVERY)
        and ledger.check(signatures=True).is_balanced
    )


# Settlement leaves it out


def test_cancelled_order_whose_refund_waits_for_a_second_person_is_not_settled(
    vendor: User, settings: Any
) -> None:
    settings.REFUND_ALONE_UP_TO = {}
    order, other = place(vendor.pk), place(vendor.pk)
    asker = acting(staff(ASKING))
    assert cancel(order, by=asker) == RefundState.PENDING
    assert cancel(order, by=asker) == RefundState.PENDING
    assert fresh(order).refund_due_minor == TOTAL

    forecast = settlement.forecast()
    settle()

    assert [row.commissions for row in forecast] == [1]
    assert Commission.objects.get(order=order).status == "PENDING"
    assert Commission.objects.get(order=other).status == "PAID"
    (request,) = ApprovalRequest.objects.filter(action="refunds.post")
    approvals.approve(request.pk, by=acting(staff(APPROVING)))
    (row,) = refunds_of(order)
    assert (row.amount_minor, fresh(order).refund_due_minor) == (TOTAL, 0)
    assert sound()


def test_cancelled_order_whose_refund_failed_is_not_settled(vendor: User) -> None:
    order = place(vendor.pk)
    assert cancel(order) == RefundState.PROCESSING
    give_up(refunds_of(order)[0])
    settle()

    assert free(vendor) == 0
    assert Commission.objects.get(order=order).status == "PENDING"
    assert net(vendor.pk)[REFUND_CLEARING] == TOTAL
    assert sound()


def test_refund_that_fails_after_its_sale_was_settled_pays_the_vendor_nothing(vendor: User) -> None:
    """While it was under way a run marked the commission: nothing was left of it, and nothing comes back."""
    order = place(vendor.pk)
    cancel(order)
    settle()
    assert Commission.objects.get(order=order).status == "PAID"
    give_up(refunds_of(order)[0])
    settle()

    assert (free(vendor), net(vendor.pk)[VENDOR_PENDING]) == (0, 0)
    assert net(vendor.pk)[REFUND_CLEARING] == TOTAL
    assert sound()


def test_rest_of_a_sale_is_settled_and_the_failed_part_is_not(vendor: User) -> None:
    order, whole = place(vendor.pk, status="delivered"), net(vendor.pk)[VENDOR_PENDING]
    refund = refunds.post(Wish(order_id=order.pk, reason="x", amount=6_700_000), by=MACHINE)
    rest = net(vendor.pk)[VENDOR_PENDING]
    give_up(refund)
    settle()

    assert 0 < rest < whole
    assert free(vendor) == rest
    assert fresh(order).refund_due_minor == 6_700_000
    assert sound()


def test_smaller_attempt_leaves_the_difference_due_and_the_sale_unsettled(vendor: User) -> None:
    order = place(vendor.pk, status="delivered")
    give_up(refunds.post(Wish(order_id=order.pk, reason="x", amount=6_700_000), by=MACHINE))
    refunds.post(Wish(order_id=order.pk, reason="x", amount=6_699_999), by=MACHINE)
    settle()

    assert fresh(order).refund_due_minor == 1
    assert free(vendor) == 0
    refunds.post(Wish(order_id=order.pk, reason="x", amount=1), by=MACHINE)
    settle()
    assert fresh(order).refund_due_minor == 0
    assert free(vendor) > 0
    assert sound()


def test_cancelled_without_refund_is_settled_as_before(vendor: User) -> None:
    order = place(vendor.pk)
    assert cancel(order, wanted=False) == RefundState.NOT_REQUESTED
    settle()

    assert Commission.objects.get(order=order).status == "PAID"
    assert free(vendor) > 0


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_cancelling_and_settling_at_once_pay_the_vendor_or_keep_it(vendor: User, settings: Any) -> None:
    """The refund waits for a second person: what was not settled before the cancellation never is."""
    settings.REFUND_ALONE_UP_TO = {}
    buyer = BuyerFactory.create()
    for _ in range(4):
        order, before = place(vendor.pk, buyer_id=str(buyer.pk)), free(vendor)
        both: list[Callable[[], Any]] = [
            partial(cancel, order, by=acting(buyer)), partial(settlement.settle, by=MACHINE),
        ]  # fmt: skip
        outcomes = race(both)
        assert outcomes[0] == RefundState.PENDING, outcomes
        won = free(vendor) - before
        settle()
        status = Commission.objects.get(order=order).status
        assert (status, free(vendor) - before) == (("PAID", won) if won else ("PENDING", 0))
    assert sound()


# Again


def test_cancelling_again_begins_a_new_refund_after_one_that_failed(vendor: User) -> None:
    order = place(vendor.pk)
    cancel(order)
    give_up(refunds_of(order)[0])

    assert order_changes.state_of_refund(fresh(order)) == RefundState.PENDING
    assert cancel(order) == RefundState.PROCESSING
    assert cancel(order) == RefundState.PROCESSING
    first, second = refunds_of(order)
    assert (first.status, second.status, second.amount_minor) == ("failed", "posted", TOTAL)
    refund_outcomes.mark_paid(second.pk, provider_reference="rf-2", by=MACHINE)
    assert Commission.objects.get(order=order).status == "CANCELLED"
    assert not +net(vendor.pk)
    assert sound()


def test_a_buyer_begins_again_only_what_is_due(vendor: User) -> None:
    buyer = BuyerFactory.create()
    order = place(vendor.pk, buyer_id=str(buyer.pk), status="shipped")
    cancel(order, wanted=False)
    mine: dict[str, Any] = {"by": acting(buyer), "allowed_from": BUYER_CANCELS}

    assert cancel(order, **mine) == RefundState.NOT_REQUESTED
    assert refunds_of(order) == []
    assert cancel(order) == RefundState.PROCESSING
    give_up(refunds_of(order)[0])
    assert cancel(order, **mine) == RefundState.PROCESSING
    assert len(refunds_of(order)) == 2


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_twelve_new_attempts_are_one_refund(vendor: User) -> None:
    order = place(vendor.pk)
    cancel(order)
    give_up(refunds_of(order)[0])
    outcomes = race([partial(cancel, order)] * 12)

    assert set(outcomes) == {RefundState.PROCESSING}, outcomes
    assert [row.status for row in refunds_of(order)] == ["failed", "posted"]
    assert sound()


def test_attempts_that_fail_one_after_the_other_add_nothing_up(vendor: User) -> None:
    order = place(vendor.pk, vendor.pk)
    for turn in range(4):
        cancel(order)
        assert fresh(order).refund_due_minor == 0
        give_up(refunds_of(order)[turn])
        assert fresh(order).refund_due_minor == fresh(order).total_minor
        settle()
    assert free(vendor) == 0
    assert sound()


# What the order says


def test_delivered_order_is_refunded_when_the_buyer_has_all_of_it(vendor: User) -> None:
    order = place(vendor.pk, status="delivered")
    one = refunds.post(Wish(order_id=order.pk, reason="x", amount=TOTAL - 1), by=MACHINE)
    other = refunds.post(Wish(order_id=order.pk, reason="x"), by=MACHINE)
    assert fresh(order).status == "delivered"
    refund_outcomes.mark_paid(one.pk, provider_reference="rf-1", by=MACHINE)
    give_up(other)
    assert fresh(order).status == "delivered"
    last = refunds.post(Wish(order_id=order.pk, reason="x"), by=MACHINE)
    refund_outcomes.mark_paid(last.pk, provider_reference="rf-3", by=MACHINE)

    assert fresh(order).status == "refunded"
    assert AuditEvent.objects.filter(type="order.moved", target_id=str(order.pk)).exists()


def test_refund_that_was_given_up_is_a_signal_about_its_order(vendor: User) -> None:
    order = place(vendor.pk)
    cancel(order)
    give_up(refunds_of(order)[0])

    (signal,) = Signal.objects.filter(rule="refund.given_up")
    assert (signal.entity_type, signal.entity_id) == ("order", str(order.pk))


@pytest.mark.parametrize("due", [-1, TOTAL + 1])
def test_the_database_bounds_what_is_due(vendor: User, due: int) -> None:
    order = place(vendor.pk)

    with pytest.raises(IntegrityError, match="order_refund_due_within_rest"), transaction.atomic():
        Order.objects.filter(pk=order.pk).update(refund_due_minor=due)


def test_claim_that_was_wiped_off_by_hand_is_found(vendor: User) -> None:
    order = failed(vendor)
    assert sound()
    Order.objects.filter(pk=order.pk).update(refund_due_minor=TOTAL - 1)
    (one,) = [each for each in invariants.EVERY if each.name == "refunds"]

    (row,) = sql.fetch_all(one.query, {"vendor": None, "most": 5})
    assert row == (f"order {order.pk}", f"says that {TOTAL - 1} is due, refunds that failed hold {TOTAL}")


# Giving the claim up


def failed(vendor: User) -> Order:
    order = place(vendor.pk)
    cancel(order)
    give_up(refunds_of(order)[0])
    return order


def test_claim_is_given_up_by_two_and_settled_then(vendor: User) -> None:
    order = place(vendor.pk)
    earned = net(vendor.pk)[VENDOR_PENDING]
    cancel(order)
    give_up(refunds_of(order)[0])
    asker, second = staff(ASKING), staff(APPROVING)
    request = refund_claims.ask_to_give_up(order.pk, reason=REASON, by=acting(asker))
    with pytest.raises(approvals.AskedAlready), transaction.atomic():
        refund_claims.ask_to_give_up(order.pk, reason=REASON, by=acting(asker))
    with pytest.raises(approvals.NotYours):
        approvals.approve(request.pk, by=acting(asker))
    approvals.approve(request.pk, by=acting(second))

    assert fresh(order).refund_due_minor == 0
    assert net(vendor.pk)[REFUND_CLEARING] == 0
    settle()
    assert free(vendor) == earned
    assert AuditEvent.objects.filter(type="refund.claim_given_up", target_id=str(order.pk)).count() == 1
    assert sound()


def test_claim_on_what_was_paid_out_is_given_up_to_the_vendor(vendor: User) -> None:
    order = place(vendor.pk, status="delivered")
    settle()
    share = free(vendor)
    spend(vendor.pk, share // 2)
    give_up(refunds.post(Wish(order_id=order.pk, reason="x"), by=MACHINE))
    assert ledger.owed(vendor.pk, "COP") == share // 2
    request = refund_claims.ask_to_give_up(order.pk, reason=REASON, by=acting(staff(ASKING)))
    approvals.approve(request.pk, by=acting(staff(APPROVING)))

    assert ledger.owed(vendor.pk, "COP") == 0
    assert free(vendor) == share - share // 2
    assert sound()


def test_claim_is_not_given_up_by_who_may_not_nor_where_there_is_none(vendor: User) -> None:
    order, paid = failed(vendor), place(vendor.pk)
    before = net(vendor.pk)

    with pytest.raises(hierarchy.NotAllowed):
        refund_claims.ask_to_give_up(order.pk, reason=REASON, by=acting(staff(APPROVING)))
    with pytest.raises(hierarchy.NotAllowed):
        refund_claims.ask_to_give_up(order.pk, reason=REASON, by=acting(vendor))
    asker = acting(staff(ASKING))
    with pytest.raises(NothingDue):
        refund_claims.ask_to_give_up(paid.pk, reason=REASON, by=asker)
    with pytest.raises(OrderNotFound):
        refund_claims.ask_to_give_up(2**63, reason=REASON, by=asker)
    with pytest.raises(hierarchy.ReasonMissing):
        refund_claims.ask_to_give_up(order.pk, reason="", by=asker)
    assert net(vendor.pk) == before
    assert fresh(order).refund_due_minor == TOTAL


def test_claim_that_a_refund_took_on_meanwhile_is_not_given_up(vendor: User) -> None:
    order = failed(vendor)
    request = refund_claims.ask_to_give_up(order.pk, reason=REASON, by=acting(staff(ASKING)))
    cancel(order)

    with pytest.raises(NothingDue):
        approvals.approve(request.pk, by=acting(staff(APPROVING)))
    assert [row.status for row in refunds_of(order)] == ["failed", "posted"]
    assert sound()


def test_who_asked_and_may_no_more_gives_nothing_up(vendor: User) -> None:
    order, asker = failed(vendor), staff(ASKING)
    request = refund_claims.ask_to_give_up(order.pk, reason=REASON, by=acting(asker))
    asker.grants.all().delete()

    with pytest.raises(hierarchy.NotAllowed):
        approvals.approve(UUID(str(request.pk)), by=acting(staff(APPROVING)))
    assert fresh(order).refund_due_minor == TOTAL


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_giving_up_and_a_new_attempt_at_once_is_one_of_them(vendor: User) -> None:
    for _ in range(3):
        order = failed(vendor)
        request = refund_claims.ask_to_give_up(order.pk, reason=REASON, by=acting(staff(ASKING)))
        second = acting(staff(APPROVING))
        both: list[Callable[[], Any]] = [
            partial(approvals.approve, request.pk, by=second),
            partial(refunds.post, Wish(order_id=order.pk, reason="x"), by=MACHINE),
        ]  # fmt: skip
        outcomes = race(both)
        assert isinstance(outcomes[0], ApprovalRequest | NothingDue), outcomes
        assert isinstance(outcomes[1], Refund), outcomes
        assert fresh(order).refund_due_minor == 0
        assert net(vendor.pk)[VENDOR_PENDING] == 0
    assert sound()
