"""Money in any order of events: sales, refunds, settlements, disputes, payouts and what banks answer.

Every step is the use case itself; after each one every invariant of `finance_verify` is asked, and at the end
all that can still happen happens: then nothing may be left that nobody can move.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from accounts import approvals
from accounts.models import User
from finance import (
    debts,
    disputes,
    invariants,
    ledger,
    order_changes,
    payout_approvals,
    payout_batches,
    payout_ends,
    payout_outcomes,
    payouts,
    refund_claims,
    refund_outcomes,
    refunds,
    settlement,
)
from finance.disputes import DisputeOpen, NotDisputable
from finance.models import BankAccount, Commission, Dispute, Order, Payout, Refund
from finance.money import Money, text_of
from finance.order_changes import RefundState
from finance.order_locks import OrderTransitionRefused
from finance.payout_states import UNSENT, DebtOpen, WrongState
from finance.payouts import AmountRefused
from finance.postings import PLATFORM_BOOK
from finance.refunds import NothingToRefund, RefundTooLarge, Wish
from finance.states import CommissionStatus, OrderStatus, PayoutOrigin, PayoutState
from mestore.lib import sql
from tests.factories.accounts import VendorFactory
from tests.factories.administration import acting
from tests.finance.conftest import MACHINE, item
from tests.finance.payout_house import EXPORTING, REASON, SYSTEM, account, approver, staff
from tests.finance.refunding import net, place

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
#: A longer search: MONEY_MACHINE_EXAMPLES=200.
EXAMPLES = int(os.environ.get("MONEY_MACHINE_EXAMPLES", "4"))
PRICES = ["250000.37", "99999.99", "1500000", "33333.33"]


class Bank(RuleBasedStateMachine):
    """Two vendors, some orders of both, one bank; what is refused is refused as it is meant to be."""

    vendors: tuple[User, User]
    accounts: tuple[BankAccount, BankAccount]
    people: list[User]
    refunding: tuple[User, User]
    currency = "COP"
    is_whole = False

    def __init__(self) -> None:
        super().__init__()
        self.orders: list[Order] = []
        self.references = iter(range(10**6))

    @initialize(prices=st.lists(st.sampled_from(PRICES), min_size=1, max_size=3))
    def sell(self, prices: list[str]) -> None:
        for price in prices:
            self._place(price)

    def _place(self, price: str) -> None:
        both = [vendor.pk for vendor in self.vendors]
        price = price.partition(".")[0] if self.is_whole else price
        self.orders.append(
            place(
                items=[item(both[0], price), item(both[1], price, 3), item(both[0], "40000", 2)],
                currency=self.currency,
            )
        )

    @rule(price=st.sampled_from(PRICES))
    def another(self, price: str) -> None:
        if len(self.orders) < 4:
            self._place(price)

    @rule(data=st.data(), share=st.integers(1, 7))
    def refund(self, data: st.DataObject, share: int) -> None:
        order = Order.objects.get(pk=data.draw(st.sampled_from(self.orders)).pk)
        rest = order.total_minor - order.refunded_minor
        amount = max(rest // share, 1)
        by_vendor = None
        if data.draw(st.booleans()):
            by_vendor = {data.draw(st.sampled_from(self.vendors)).pk: amount}
        try:
            refunds.post(Wish(order_id=order.pk, reason="x", amount=amount, by_vendor=by_vendor), by=MACHINE)
        except NothingToRefund:
            assert rest == 0
        except RefundTooLarge:
            assert by_vendor

    @rule(data=st.data(), is_paid=st.booleans())
    def provider_answers(self, data: st.DataObject, is_paid: bool) -> None:
        waiting = list(Refund.objects.filter(status="posted").order_by("id"))
        if waiting:
            self._answer(data.draw(st.sampled_from(waiting)), is_paid=is_paid)

    def _answer(self, row: Refund, *, is_paid: bool) -> None:
        if is_paid:
            reference = f"rf-{next(self.references)}"
            refund_outcomes.mark_paid(row.pk, provider_reference=reference, by=MACHINE)
        else:
            refund_outcomes.mark_failed(row.pk, failure="card closed", by=MACHINE)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(self.orders))
        before = Order.objects.get(pk=order.pk).status
        try:
            done = order_changes.cancel(order.pk, reason="x", refund_requested=True, by=MACHINE)
        except OrderTransitionRefused:
            return
        # One that was cancelled before, and whose refund failed since, begins another one.
        if before != OrderStatus.CANCELLED:
            assert done.refund_status in {RefundState.PROCESSING, RefundState.NOT_REQUIRED}

    @rule(data=st.data())
    def dispute(self, data: st.DataObject) -> None:
        rows = list(Commission.objects.order_by("id"))
        row = data.draw(st.sampled_from(rows))
        try:
            with transaction.atomic():
                disputes.open_dispute(row.pk, subject="x", description="x" * 10, by=acting(row.vendor))
        except (DisputeOpen, NotDisputable):
            return

    @rule(data=st.data(), is_right=st.booleans())
    def decide(self, data: st.DataObject, is_right: bool) -> None:
        waiting = list(Dispute.objects.filter(status="ABIERTO").order_by("id"))
        if waiting:
            decided = disputes.resolve if is_right else disputes.refuse
            decided(data.draw(st.sampled_from(waiting)), reason=REASON, by=acting(self.people[0]))

    @rule()
    def settle(self) -> None:
        for result in settlement.settle(by=SYSTEM):
            assert result.skipped == []

    @rule(which=st.integers(0, 1), share=st.integers(1, 3))
    def ask_for_payout(self, which: int, share: int) -> None:
        vendor = self.vendors[which]
        free = ledger.available(vendor.pk, self.currency).free // share // 100 * 100
        amount = Money(max(free, 100), self.currency)
        try:
            payouts.check(amount)
            with transaction.atomic():
                payouts.open_request(
                    vendor, self.accounts[which], amount, origin=PayoutOrigin.API, by=acting(vendor)
                )
        except AmountRefused:
            return
        except ledger.InsufficientFunds:
            assert free < amount.minor
        except DebtOpen:
            assert ledger.owed(vendor.pk, self.currency) > 0

    @rule(data=st.data())
    def approve(self, data: st.DataObject) -> None:
        rows = list(Payout.objects.filter(state=PayoutState.SCREENED.value).order_by("id"))
        if not rows:
            return
        row = data.draw(st.sampled_from(rows))
        try:
            for person in self.people[: row.approvals_needed]:
                with transaction.atomic():
                    payout_approvals.approve(row.pk, by=acting(person), reason=REASON)
        except DebtOpen:
            assert ledger.owed(row.vendor_id, self.currency) > 0
        except payout_approvals.ApprovedAlready:
            return

    @rule(data=st.data(), by_vendor=st.booleans())
    def give_up(self, data: st.DataObject, by_vendor: bool) -> None:
        rows = list(Payout.objects.order_by("id"))
        if not rows:
            return
        row = data.draw(st.sampled_from(rows))
        try:
            if by_vendor:
                payout_ends.cancel(row.pk, vendor_id=row.vendor_id, by=acting(row.vendor))
            else:
                payout_ends.reject(row.pk, reason=REASON, by=acting(self.people[0]))
        except WrongState:
            assert row.state not in UNSENT

    @rule(is_sent=st.booleans())
    def send(self, is_sent: bool) -> None:
        made = payout_batches.make(currency=self.currency, layout="csv", by=SYSTEM)
        if made.batch is None:
            return
        if not is_sent:
            payout_batches.discard(made.batch.pk, reason=REASON, by=acting(self.people[1]))
            return
        payout_batches.hand_over(made.batch.pk, reason=REASON, by=acting(self.people[1]))

    @rule(data=st.data(), outcome=st.sampled_from(["paid", "returned"]))
    def bank_answers(self, data: st.DataObject, outcome: str) -> None:
        rows = list(Payout.objects.filter(state__in=["in_transit", "paid"]).order_by("id"))
        if rows:
            self._bank_says(data.draw(st.sampled_from(rows)), outcome)

    def _bank_says(self, row: Payout, outcome: str) -> None:
        assert row.batch_id is not None
        amount = text_of(row.amount_minor, self.currency)
        answer = f"reference,outcome,amount\n{row.payout_number},{outcome},{amount}\n".encode()
        read = payout_outcomes.import_answer(row.batch_id, answer, by=SYSTEM)
        assert read.lines[0].result in {"done", "unchanged"}, read.lines

    def _end_claim(self, order: Order) -> None:
        """What is due to a buyer goes back by another refund, or two people give it up."""
        if order.pk % 2:
            self._answer(refunds.post(Wish(order_id=order.pk, reason="x"), by=MACHINE), is_paid=True)
            return
        asked = refund_claims.ask_to_give_up(order.pk, reason=REASON, by=acting(self.refunding[0]))
        approvals.approve(asked.pk, by=acting(self.refunding[1]))

    @invariant()
    def books_add_up(self) -> None:
        for one in invariants.EVERY:
            rows = sql.fetch_all(one.query, {"vendor": None, "most": 5})
            assert rows == [], (one.name, rows)
        for book in (*(vendor.pk for vendor in self.vendors), PLATFORM_BOOK):
            assert sum(net(book).values()) == 0

    def teardown(self) -> None:
        """Whatever was begun is ended: then all that a vendor earned is available, in transit or owed."""
        for refund in Refund.objects.filter(status="posted").order_by("id"):
            self._answer(refund, is_paid=refund.amount_minor % 2 == 0)
        for order in Order.objects.filter(refund_due_minor__gt=0).order_by("id"):
            self._end_claim(order)
        for dispute in Dispute.objects.filter(status="ABIERTO"):
            disputes.refuse(dispute, reason=REASON, by=acting(self.people[0]))
        for payout in Payout.objects.filter(state__in=[state.value for state in UNSENT]):
            payout_ends.reject(payout.pk, reason=REASON, by=acting(self.people[0]))
        for payout in Payout.objects.filter(state="in_transit"):
            self._bank_says(payout, "returned")
        self.settle()
        debts.net_all(by=SYSTEM)
        self.books_add_up()
        for vendor in self.vendors:
            held, available = net(vendor.pk), ledger.available(vendor.pk, self.currency)
            assert held["vendor_pending"] == 0, held
            assert held["refund_clearing"] == 0, held
            assert available.reserved == 0
            owed = ledger.owed(vendor.pk, self.currency)
            assert owed >= 0
            assert not (owed and available.free), (owed, available)
        assert not Commission.objects.filter(
            status__in=[CommissionStatus.PENDING, CommissionStatus.APPROVED, CommissionStatus.DISPUTED]
        ).exists()


@pytest.fixture
def vendors(db: None) -> tuple[User, User]:
    return VendorFactory.create(), VendorFactory.create()


@pytest.mark.parametrize(
    ("currency", "changes"),
    [
        ("COP", {}),
        (
            "COP",
            {
                "ROUNDING": {"COP": "half_up_whole"}, "COMMISSION_BASE": "total",
                "WITHHOLDINGS": {
                    "COP": [{"name": "ica", "ppm": 4_140}, {"name": "iva", "ppm": 150_000, "of": "tax"}]
                },
            },
        ),
        ("USD", {"COMMISSION_TAX_PPM": {"USD": 77_777}}),
        ("COP", {"COMMISSION_RATES_PPM": {"STANDARD": 1_000_000}}),
        ("COP", {"COMMISSION_RATES_PPM": {"STANDARD": 0}}),
    ],
    ids=["pesos", "whole-pesos-withheld-of-all", "dollars", "all-is-commission", "no-commission"],
)  # fmt: skip
def test_whatever_happens_no_money_is_made_lost_or_stranded(
    vendors: tuple[User, User], settings: Any, currency: str, changes: dict[str, Any]
) -> None:
    settings.SETTLEMENT_HOLD_DAYS = 0
    settings.COMMISSION_REVIEW_ABOVE = {"COP": 10**14, "USD": 10**14}
    settings.PAYOUT_BOUNDS = {"COP": ("100", "50000000"), "USD": ("1", "50000000")}
    for name, value in changes.items():
        setattr(settings, name, value)
    people = [approver(lead=True) for _ in range(3)]
    people[1] = staff(EXPORTING, "payments.approve.global", "payments.approve.system")

    class Here(Bank):
        """Each example runs in a transaction of its own, which is undone."""

        def __init__(self) -> None:
            self.undo: Any = transaction.atomic()
            self.undo.__enter__()
            super().__init__()

        def teardown(self) -> None:
            try:
                super().teardown()
            finally:
                transaction.set_rollback(True)
                self.undo.__exit__(None, None, None)

    Here.vendors, Here.people, Here.currency = vendors, people, currency
    Here.refunding = (staff("orders.manage.global"), staff("orders.approve.global"))
    Here.is_whole = "ROUNDING" in changes
    Here.accounts = (
        account(vendors[0], "12345678901", currency=currency),
        account(vendors[1], "98765432101", currency=currency),
    )
    run_state_machine_as_test(
        Here,
        settings=_settings(EXAMPLES),
    )


def _settings(examples: int) -> Any:
    return settings(
        max_examples=examples, stateful_step_count=20, deadline=None,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate,),
    )  # fmt: skip
