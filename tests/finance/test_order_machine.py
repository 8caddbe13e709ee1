"""Orders, refunds and settlement in any order of events, compared with what SQL says about the rows (F61)."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from accounts.models import User
from finance import ledger, order_changes, refund_outcomes, refunds
from finance.models import Commission, Order, Refund
from finance.order_changes import Paid, Shipment
from finance.order_locks import OrderTransitionRefused
from finance.refund_outcomes import RefundEnded
from finance.refunds import NothingToRefund, RefundTooLarge, Wish
from finance.states import ORDER_TRANSITIONS, OrderStatus
from mestore.lib import sql
from tests.factories.accounts import VendorFactory
from tests.finance.conftest import MACHINE
from tests.finance.refunding import fresh, net, place, settle, spend

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
MOVES = [OrderStatus.CONFIRMED, OrderStatus.PROCESSING, OrderStatus.SHIPPED, OrderStatus.DELIVERED]

# What the rows must say whatever happened, asked without any of our code.
_ORACLE = {
    "the order counts its refunds": """
        SELECT o.id FROM finance_order o WHERE o.refunded_minor <> (
            SELECT coalesce(sum(r.amount_minor), 0) FROM finance_refund r
            WHERE r.order_id = o.id AND r.status <> 'failed') OR o.refunded_minor > o.total_minor""",
    "a commission counts what it gave back": """
        SELECT c.id FROM finance_commission c WHERE (c.refunded_minor, c.reversed_minor) <> (
            SELECT coalesce(sum(p.base_minor), 0), coalesce(sum(p.commission_minor), 0)
            FROM finance_refundpart p JOIN finance_refund r ON r.id = p.refund_id
            WHERE p.commission_id = c.id AND r.status <> 'failed')
        OR c.reversed_minor > c.commission_amount_minor""",
    "the parts are the refund": """
        SELECT r.id FROM finance_refund r WHERE r.amount_minor <> (
            SELECT sum(p.goods_minor + p.tax_minor + p.shipping_minor)
            FROM finance_refundpart p WHERE p.refund_id = r.id)""",
    "an entry of a refund moves what its part says": """
        SELECT p.id FROM finance_refundpart p WHERE p.goods_minor + p.tax_minor + p.shipping_minor <> (
            SELECT sum(t.amount) FROM ledger_transfer t
            WHERE t.book_id = p.vendor_id AND t.entry_id = p.entry_id)""",
    "what waits for buyers is what was posted, or failed, and neither paid nor undone": """
        SELECT 1 WHERE (
            SELECT coalesce(sum(t.amount) FILTER (WHERE c.kind = 'refund_clearing'), 0)
                   - coalesce(sum(t.amount) FILTER (WHERE d.kind = 'refund_clearing'), 0)
            FROM ledger_transfer t
            JOIN ledger_account d ON d.book_id = t.book_id AND d.id = t.debit
            JOIN ledger_account c ON c.book_id = t.book_id AND c.id = t.credit)
        <> (SELECT coalesce(sum(p.goods_minor + p.tax_minor + p.shipping_minor), 0)
            FROM finance_refund r JOIN finance_refundpart p ON p.refund_id = r.id
            WHERE r.status = 'posted' OR (r.status = 'failed' AND NOT EXISTS (
                SELECT FROM ledger_reversal u WHERE u.book_id = p.vendor_id AND u.of_entry = p.entry_id)))""",
    "what failed is due, unless another refund took it on": """
        SELECT o.id FROM finance_order o WHERE o.refund_due_minor < (
            SELECT coalesce(sum(r.amount_minor), 0) FROM finance_refund r
            WHERE r.order_id = o.id AND r.status = 'failed' AND EXISTS (
                SELECT FROM finance_refundpart p WHERE p.refund_id = r.id AND NOT EXISTS (
                    SELECT FROM ledger_reversal u
                    WHERE u.book_id = p.vendor_id AND u.of_entry = p.entry_id)))""",
    "an order is refunded when the buyer has all of it": """
        SELECT o.id FROM finance_order o WHERE o.status = 'refunded' AND o.total_minor <> (
            SELECT coalesce(sum(r.amount_minor), 0) FROM finance_refund r
            WHERE r.order_id = o.id AND r.status = 'paid')""",
    "no sale is taken back beyond itself": """
        SELECT e.id FROM ledger_entry e JOIN ledger_reversal r ON r.book_id = e.book_id AND r.of_entry = e.id
        WHERE e.kind = 'sale' AND NOT EXISTS (
            SELECT FROM ledger_reversal u WHERE u.book_id = r.book_id AND u.of_entry = r.entry_id)
        GROUP BY e.id, e.control_total HAVING sum(r.amount) > e.control_total""",
    "only what was confirmed is sold": """
        SELECT o.id FROM finance_order o WHERE (o.confirmed_at IS NULL) = EXISTS (
            SELECT FROM finance_commission c WHERE c.order_id = o.id)""",
    "nothing available falls below zero": """
        SELECT account_id FROM ledger_guarded_balance WHERE posted - reserved < 0 OR reserved < 0""",
    "guarded balances are the sum of their transfers": """
        SELECT g.account_id FROM ledger_guarded_balance g WHERE g.posted <> (
            SELECT coalesce(sum(CASE WHEN t.credit = g.account_id THEN t.amount ELSE -t.amount END), 0)
            FROM ledger_transfer t WHERE t.book_id = g.book_id AND g.account_id IN (t.debit, t.credit)
              AND t.phase IN ('single', 'post'))""",
}


class Marketplace(RuleBasedStateMachine):
    """One order at a time of two vendors; every step is tried, and what is refused must have been refused."""

    vendors: tuple[User, User]

    def __init__(self) -> None:
        super().__init__()
        self.references = iter(range(10**6))

    @initialize(is_paid=st.booleans())
    def begin(self, is_paid: bool) -> None:
        changes: dict[str, Any] = {} if is_paid else {"payment": ...}
        vendors = [vendor.pk for vendor in self.vendors]
        self.order: Order = place(*vendors, unit_price="333.33", **changes)

    @property
    def row(self) -> Order:
        found: Order = fresh(self.order)
        return found

    def waiting(self) -> list[Refund]:
        return list(Refund.objects.filter(order=self.order, status="posted").order_by("id"))

    @rule(status=st.sampled_from(MOVES))
    def move(self, status: OrderStatus) -> None:
        before = self.row.status
        allowed = status == before or status in ORDER_TRANSITIONS[before]
        try:
            order_changes.change(
                self.order.pk, status, paid=Paid("testpay", "tx-1"), shipment=Shipment("T-1"), by=MACHINE
            )
        except OrderTransitionRefused:
            assert not allowed
            assert self.row.status == before
        else:
            assert allowed
            assert self.row.status == status

    @rule(with_refund=st.booleans())
    def cancel(self, with_refund: bool) -> None:
        before = self.row
        allowed = before.status == "cancelled" or OrderStatus.CANCELLED in ORDER_TRANSITIONS[before.status]
        try:
            done = order_changes.cancel(self.order.pk, reason="x", refund_requested=with_refund, by=MACHINE)
        except OrderTransitionRefused:
            assert not allowed
        else:
            assert allowed
            assert done.order.status == "cancelled"
            if with_refund and before.confirmed_at is not None:
                assert self.row.refunded_minor == before.total_minor

    @rule(amount=st.integers(1, 70_000))
    def refund(self, amount: int) -> None:
        before = self.row
        rest = (
            0
            if before.status == "pending" or before.confirmed_at is None
            else before.total_minor - before.refunded_minor
        )
        try:
            refunds.post(Wish(order_id=before.pk, reason="x", amount=amount), by=MACHINE)
        except NothingToRefund:
            assert rest == 0
        except RefundTooLarge:
            assert 0 < rest < amount
        else:
            assert amount <= rest
            assert self.row.status == before.status

    @rule()
    def refund_the_rest(self) -> None:
        try:
            refunds.post(Wish(order_id=self.order.pk, reason="x"), by=MACHINE)
        except NothingToRefund:
            return
        assert self.row.refunded_minor == self.row.total_minor

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def provider_pays(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(self.waiting()))
        reference = f"rf-{self.order.pk}-{next(self.references)}"
        refund_outcomes.mark_paid(row.pk, provider_reference=reference, by=MACHINE)

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def provider_gives_up(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(self.waiting()))
        refund_outcomes.mark_failed(row.pk, failure="card closed", by=MACHINE)
        try:
            refund_outcomes.mark_paid(row.pk, provider_reference="late", by=MACHINE)
        except RefundEnded:
            return
        raise AssertionError("a refund that failed was paid")

    @precondition(lambda self: Commission.objects.filter(order=self.order, status="PENDING").exists())
    @rule()
    def settle(self) -> None:
        settle(self.order)

    @rule(share=st.integers(1, 4))
    def pay_out(self, share: int) -> None:
        for vendor in self.vendors:
            if free := ledger.available(vendor.pk, "COP").free // share:
                spend(vendor.pk, free)

    @invariant()
    def rows_say_so(self) -> None:
        for claim, query in _ORACLE.items():
            assert sql.fetch_all(query) == [], claim
        assert ledger.check(signatures=True).is_balanced

    @invariant()
    def buyer_and_vendors_have_what_was_paid(self) -> None:
        """Everything that came in for the order is somebody's: nothing appears and nothing is lost."""
        held = sum(sum(net(vendor.pk).values()) for vendor in self.vendors)
        assert held == 0


@pytest.fixture
def vendors(db: None) -> tuple[User, User]:
    return VendorFactory.create(), VendorFactory.create()


def test_no_sequence_of_events_breaks_the_books(vendors: tuple[User, User]) -> None:
    class Here(Marketplace):
        """Each example runs in a transaction of its own, which is undone."""

        def __init__(self) -> None:
            self.undo: Any = transaction.atomic()
            self.undo.__enter__()
            super().__init__()

        def teardown(self) -> None:
            transaction.set_rollback(True)
            self.undo.__exit__(None, None, None)

    Here.vendors = vendors
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=25, stateful_step_count=14, deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
