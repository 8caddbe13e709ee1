"""Many at once over few books: refunds, their failures, settlements, payouts, disputes, removals of accounts.

Whatever the order: nobody is told of a deadlock, every refusal is one of the rules, and the books add up.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest

from finance import (
    bank_accounts,
    debts,
    disputes,
    invariants,
    ledger,
    payout_approvals,
    payout_batches,
    payout_ends,
    payouts,
    refund_outcomes,
    refunds,
    settlement,
    transactions,
)
from finance.models import Commission, Payout, Refund
from finance.payout_batches import BatchGone, BatchStale
from finance.payout_states import AccountNotUsable, DebtOpen, WrongState
from finance.refunds import NothingToRefund, RefundTooLarge, Wish
from finance.states import PayoutOrigin, PayoutState
from mestore.lib import sql
from tests.factories.administration import acting
from tests.finance.conftest import MACHINE, item
from tests.finance.payout_house import (
    EXPORTING,
    REASON,
    SYSTEM,
    account,
    approve,
    approver,
    asked,
    cop,
    file_of,
    staff,
    vendor_with,
)
from tests.finance.refunding import net, place
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)
#: What somebody may be told when others were first.
RULES: Final = (
    AccountNotUsable, BatchGone, BatchStale, DebtOpen, NothingToRefund, RefundTooLarge, WrongState,
    disputes.DisputeOpen, disputes.NotDisputable, ledger.InsufficientFunds, refund_outcomes.RefundEnded,
    payout_approvals.ApprovedAlready, settlement.RunUnderWay, bank_accounts.AccountNotFound,
    payouts.AccountUnknown,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_everything_at_once_keeps_the_books(seed: int, settings: Any) -> None:
    settings.SETTLEMENT_HOLD_DAYS = 0
    settings.COMMISSION_REVIEW_ABOVE = {"COP": 10**14}
    chance = random.Random(seed)
    sellers = [vendor_with("900000") for _ in range(3)]
    vendors = [vendor for vendor, _where in sellers]
    orders = [
        place(items=[item(vendor.pk, "80000") for vendor in chance.sample(vendors, 2 + n % 2)])
        for n in range(4)
    ]
    settlement.settle(by=SYSTEM)
    orders += [place(items=[item(vendor.pk, "55555.55") for vendor in vendors]) for _ in range(2)]
    posted = [refunds.post(Wish(order_id=o.pk, reason="x", amount=1_234_567), by=MACHINE) for o in orders]
    for vendor, where in sellers:
        approve(asked(vendor, where, "300000"))
        asked(vendor, where, "200000")
    batch = file_of()
    late = [approve(asked(vendor, where, "50000")) for vendor, where in reversed(sellers)]
    exporter, decider = staff(EXPORTING), approver(lead=True)
    spare = account(vendors[0], "55566677788")
    waiting = [asked(vendors[0], spare, "20000") for _ in range(3)]

    runners: list[Callable[[], object]] = [
        partial(payout_batches.hand_over, batch.pk, reason=REASON, by=acting(exporter)),
        partial(payout_batches.discard, batch.pk, reason=REASON, by=acting(exporter)),
        partial(payout_batches.make, currency="COP", layout="csv", by=SYSTEM),
        partial(bank_accounts.remove, vendors[0].pk, spare.pk, by=acting(vendors[0])),
        *[partial(settlement.settle, by=SYSTEM)] * 2,
        *[partial(debts.net_all, by=SYSTEM)] * 2,
    ]
    for order in orders:
        runners += [partial(refunds.post, Wish(order_id=order.pk, reason="x", amount=9_999_999), by=MACHINE)]
        runners += [partial(refunds.post, Wish(order_id=order.pk, reason="x"), by=MACHINE)]
    for refund in posted:
        paid = partial(refund_outcomes.mark_paid, provider_reference=f"r-{refund.pk}", by=MACHINE)
        failed = partial(refund_outcomes.mark_failed, failure="closed", by=MACHINE)
        runners += [partial(paid, refund.pk), partial(failed, refund.pk)]
    for payout in (*late, *waiting, *Payout.objects.filter(state=PayoutState.SCREENED.value)):
        give_up = partial(payout_ends.cancel, payout.pk, vendor_id=payout.vendor_id, by=SYSTEM)
        agree = partial(payout_approvals.approve, payout.pk, reason=REASON, by=acting(decider))
        runners += [give_up, agree]
    for vendor, where in sellers:
        runners += [partial(_ask, vendor, where)] * 2
    for row in Commission.objects.order_by("id"):
        runners.append(partial(_dispute, row))
    chance.shuffle(runners)

    outcomes = race(runners[:64])

    assert [one for one in outcomes if isinstance(one, BaseException) and not _is_meant(one)] == []
    for one in invariants.EVERY:
        assert sql.fetch_all(one.query, {"vendor": None, "most": 5}) == [], one.name
    for vendor in vendors:
        assert sum(net(vendor.pk).values()) == 0
        assert ledger.available(vendor.pk, "COP").free >= 0
    assert Refund.objects.exists()


def _is_meant(outcome: BaseException) -> bool:
    """A rule refused, or a lock was not had in time: that is told as 503, and a busy machine may be slow."""
    return isinstance(outcome, RULES) or getattr(outcome.__cause__, "sqlstate", None) == "55P03"


def _ask(vendor: Any, where: Any) -> object:
    return transactions.run(
        lambda: payouts.open_request(vendor, where, cop("120000"), origin=PayoutOrigin.API, by=acting(vendor))
    )


def _dispute(row: Commission) -> object:
    return disputes.open_dispute(row.pk, subject="x", description="x" * 10, by=acting(row.vendor))
