"""Payouts from the request to the bank and back, with the wrong cases first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User, VendorProfile
from finance import (
    bank_accounts,
    idempotency,
    ledger,
    payout_approvals,
    payout_batches,
    payout_ends,
    payout_outcomes,
    payout_screening,
    payouts,
)
from finance.ledger_balances import available, balances
from finance.models import Payout, PayoutChange
from finance.payout_states import (
    AccountNotUsable,
    DebtOpen,
    PayoutNotFound,
    VendorNotPayable,
    WrongState,
)
from finance.postings import PLATFORM_BOOK, PSP_CLEARING, REFUND_CLEARING, VENDOR_AVAILABLE, Posting, Transfer
from finance.states import PayoutState
from mestore.lib import ids
from tests.factories.accounts import VendorFactory
from tests.factories.administration import acting
from tests.finance.payout_house import (
    REASON,
    SYSTEM,
    account,
    approve,
    approver,
    asked,
    cop,
    file_of,
    fund,
    hand_over,
    indebt,
    sent,
    vendor_with,
)
from tests.finance.selling import move
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit"])


def request(vendor: User, where: Any, amount: str = "100000", key: str = "k1") -> Any:
    return payouts.request(
        vendor, amount=cop(amount), bank_account_id=where.pk, key=key, by=acting(vendor),
        shape=lambda payout: {"id": payout.pk, "state": payout.state},
    )  # fmt: skip


def free(vendor: User) -> int:
    return available(vendor.pk, "COP").free


def batch_of(payout: Payout) -> UUID:
    assert payout.batch_id is not None
    return payout.batch_id


def book(of: Any) -> dict[str, int]:
    return {row.kind: row.net for row in balances(of)}


def test_fifty_payouts_of_one_balance_make_one() -> None:
    vendor, where = vendor_with("100000")
    outcomes = race([partial(request, vendor, where, key=f"key-{number}") for number in range(50)])
    refused = [one for one in outcomes if isinstance(one, ledger.InsufficientFunds)]
    accepted = [one for one in outcomes if not isinstance(one, BaseException)]
    assert (len(accepted), len(refused)) == (1, 49), outcomes
    assert free(vendor) == 0
    assert Payout.objects.count() == 1
    assert PayoutChange.objects.count() == 2  # what was refused left nothing behind


def test_same_key_is_one_payout_and_another_body_is_refused() -> None:
    vendor, where = vendor_with("300000")
    outcomes = race([partial(request, vendor, where)] * 8)
    bodies = {one.body for one in outcomes if not isinstance(one, BaseException)}
    assert len(bodies) == 1
    assert Payout.objects.count() == 1
    assert request(vendor, where).replayed
    with pytest.raises(idempotency.KeyReused):
        request(vendor, where, "100100")


def test_refusal_is_replayed_when_the_money_is_there() -> None:
    vendor, where = vendor_with("10000")
    for _again in range(2):
        with pytest.raises(ledger.InsufficientFunds):
            request(vendor, where)
        fund(vendor, cop("500000"))
    assert not Payout.objects.exists()
    assert request(vendor, where, key="k2").status == 201


@pytest.mark.parametrize(
    ("amount", "code"),
    [("9999", "amount_too_small"), ("50000001", "amount_too_large"), ("10000.50", "amount_not_in_steps")],
)
def test_amounts_out_of_bounds_are_named(amount: str, code: str) -> None:
    vendor, where = vendor_with("90000000")
    with pytest.raises(payouts.AmountRefused) as refused:
        request(vendor, where, amount)
    assert [(item.field, item.error_type) for item in refused.value.details or ()] == [
        ("body -> amount", code)
    ]
    assert not Payout.objects.exists()


def test_stranger_account_is_unknown() -> None:
    vendor, _mine = vendor_with("100000")
    _other, theirs = vendor_with("100000")
    with pytest.raises(payouts.AccountUnknown):
        request(vendor, theirs)
    removed = account(vendor, "99988877766")
    bank_accounts.remove(vendor.pk, removed.pk, by=acting(vendor))
    with pytest.raises(payouts.AccountUnknown):
        request(vendor, removed)


def test_nothing_is_paid_to_who_owes_or_is_not_approved() -> None:
    vendor, where = vendor_with("500000")
    VendorProfile.objects.filter(user=vendor).update(vendor_status="rejected")
    with pytest.raises(VendorNotPayable):
        request(vendor, where, key="a")
    VendorProfile.objects.filter(user=vendor).update(vendor_status="approved")
    indebt(vendor, cop("1"))
    with pytest.raises(DebtOpen):
        request(vendor, where, key="b")


def test_way_of_a_payout_in_the_books() -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where, "100000")
    assert payout.state == PayoutState.SCREENED
    assert payout.approvals_needed == 2, "the first payout asks for one more"
    assert free(vendor) == 40_000_000
    approve(payout)
    batch = file_of(payout)
    hand_over(batch)
    assert book(vendor.pk)["payout_in_transit"] == 10_000_000
    answer = f"reference,outcome,amount,bank_reference\n{payout.payout_number},PAGADO,100000,BK1\n".encode()
    assert payout_outcomes.import_answer(batch.pk, answer, by=SYSTEM).count("done") == 1
    again = payout_outcomes.import_answer(batch.pk, answer, by=SYSTEM)
    assert [line.result for line in again.lines] == ["unchanged"]
    payout.refresh_from_db()
    assert (payout.state, payout.provider_reference) == (PayoutState.PAID, "BK1")
    assert book(PLATFORM_BOOK)["payout_in_transit"] + book(vendor.pk)["payout_in_transit"] == 0
    assert book(PLATFORM_BOOK)["platform_bank"] == 10_000_000
    assert [change.after for change in PayoutChange.objects.filter(payout=payout).order_by("id")] == [
        "requested", "screened", "approved", "submitting", "in_transit", "paid",
    ]  # fmt: skip


@pytest.mark.parametrize("after_paid", [False, True])
def test_returned_payout_is_available_again(after_paid: bool) -> None:
    vendor, where = vendor_with("500000")
    payout = sent(vendor, where)
    line = f"{payout.payout_number},%s,100000\n"
    steps = ["paid", "returned"] if after_paid else ["rejected"]
    for step in steps:
        content = f"reference,outcome,amount\n{line % step}".encode()
        payout_outcomes.import_answer(batch_of(payout), content, by=SYSTEM)
    payout.refresh_from_db()
    assert payout.state == PayoutState.RETURNED
    assert free(vendor) == 50_000_000
    assert book(vendor.pk)["payout_in_transit"] == 0
    platform = book(PLATFORM_BOOK)
    assert set(platform.values()) <= {0}
    assert ledger.check(signatures=True).is_balanced


def test_answers_that_do_not_fit_change_nothing() -> None:
    vendor, where = vendor_with("500000")
    payout = sent(vendor, where)
    content = (
        "reference,outcome,amount\n"
        f"{payout.payout_number},paid,100001\n"
        "PAY-20200101-NOBODY00,paid,100000\n"
        ",paid,1\n"
        "X,perhaps,1\n"
        "Y,paid,-1\n"
    ).encode()
    read = payout_outcomes.import_answer(batch_of(payout), content, by=SYSTEM)
    assert [line.result for line in read.lines] == [
        "amount differs", "not in this file", "unreadable: reference", "unreadable: outcome",
        "unreadable: amount",
    ]  # fmt: skip
    assert len(read.open) == 5
    payout.refresh_from_db()
    assert payout.state == PayoutState.IN_TRANSIT


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a,b\n1,2\n", b"reference,outcome,amount\x00\n", b""])
def test_answer_that_cannot_be_read_is_refused(content: bytes) -> None:
    vendor, where = vendor_with("500000")
    payout = sent(vendor, where)
    with pytest.raises(payout_outcomes.AnswerUnreadable):
        payout_outcomes.import_answer(batch_of(payout), content, by=SYSTEM)


def test_cancelled_or_rejected_frees_the_amount() -> None:
    vendor, where = vendor_with("500000")
    first, second = asked(vendor, where), asked(vendor, where, "150000")
    with pytest.raises(PayoutNotFound):
        payout_ends.cancel(first.pk, vendor_id=VendorFactory.create().pk, by=SYSTEM)
    payout_ends.cancel(first.pk, vendor_id=vendor.pk, by=acting(vendor))
    payout_ends.reject(second.pk, reason=REASON, by=acting(approver()))
    assert free(vendor) == 50_000_000
    with pytest.raises(WrongState):
        payout_ends.cancel(first.pk, vendor_id=vendor.pk, by=acting(vendor))
    with pytest.raises(WrongState):
        payout_ends.cancel(sent(vendor, where).pk, vendor_id=vendor.pk, by=acting(vendor))


def test_removing_the_account_cancels_what_was_not_sent() -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    bank_accounts.remove(vendor.pk, where.pk, by=acting(vendor))
    payout.refresh_from_db()
    assert (payout.state, payout.state_reason) == (PayoutState.CANCELLED, "the bank account was removed")
    assert free(vendor) == 50_000_000


def test_removing_the_account_holds_the_rows_before_the_balance() -> None:
    """The order of locks of everybody: with several payouts, none is locked after the balance was moved."""
    vendor, where = vendor_with("500000")
    for _ in range(3):
        asked(vendor, where)
    with CaptureQueriesContext(connection) as queries:
        bank_accounts.remove(vendor.pk, where.pk, by=acting(vendor))
    texts = [query["sql"] for query in queries]
    locks = [at for at, text in enumerate(texts) if "payout" in text and "FOR NO KEY UPDATE" in text]
    posted = [at for at, text in enumerate(texts) if "ledger_post(" in text]
    assert (len(locks), len(posted)) == (3, 1)
    assert max(locks) < min(posted)


def test_requests_that_nobody_decides_about_expire() -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    assert payout_ends.expire(10, by=SYSTEM) == 0
    Payout.objects.filter(pk=payout.pk).update(expires_at="2020-01-01T00:00:00Z")
    outcomes = race([partial(payout_ends.expire, 10, by=SYSTEM)] * 4)
    assert sorted(one for one in outcomes if isinstance(one, int)) == [0, 0, 0, 1], outcomes
    payout.refresh_from_db()
    assert (payout.state, payout.state_reason) == (PayoutState.CANCELLED, "expired")
    assert free(vendor) == 50_000_000


def test_account_that_cools_off_holds_the_payout() -> None:
    vendor, where = vendor_with("500000", cooled=False)
    payout = asked(vendor, where)
    assert payout.state == PayoutState.HELD
    assert payout.state_reason == "screening: cooling_off, first_payout"
    assert free(vendor) == 40_000_000
    assert payout_approvals.screen_again(10, by=SYSTEM) == 0
    released = payout_approvals.release(payout.pk, reason=REASON, by=acting(approver()))
    with pytest.raises(AccountNotUsable):
        approve(released, approver())


def test_payout_against_a_refund_of_the_same_money_has_one_winner() -> None:
    vendor, where = vendor_with("100000")

    def give_back() -> None:
        entry = ids.uuid7()
        taken = Transfer(VENDOR_AVAILABLE, REFUND_CLEARING, "", "COP", 10_000_000)
        with transaction.atomic():
            ledger.post_many(
                [Posting(vendor.pk, entry, "refund", timezone.now(), "order/1/refund", (taken,))], by=SYSTEM
            )

    steps: list[Callable[[], object]] = [partial(request, vendor, where), give_back]
    outcomes = race(steps)
    lost = [type(one) for one in outcomes if isinstance(one, BaseException)]
    assert lost == [ledger.InsufficientFunds]
    assert free(vendor) == 0
    assert Payout.objects.count() == (0 if isinstance(outcomes[0], BaseException) else 1)


def test_approve_against_cancel_has_one_winner() -> None:
    vendor, where = vendor_with("500000")
    first = approve(asked(vendor, where), approver())
    last = approver()

    def agree() -> Any:
        return approve(first, last)

    def withdraw() -> Any:
        return payout_ends.cancel(first.pk, vendor_id=vendor.pk, by=acting(vendor))

    outcomes = race([agree, withdraw])
    first.refresh_from_db()
    # Cancelled in any case: an approved payout that was not sent may still be taken back.
    assert first.state == PayoutState.CANCELLED
    assert not isinstance(outcomes[1], BaseException)
    assert free(vendor) == 50_000_000


def test_handing_over_against_throwing_away_has_one_winner() -> None:
    vendor, where = vendor_with("500000")
    payout = approve(asked(vendor, where))
    batch = file_of(payout)
    steps: list[Callable[[], object]] = [
        partial(hand_over, batch),
        partial(payout_batches.discard, batch.pk, reason=REASON, by=SYSTEM),
    ]
    outcomes = race(steps)
    payout.refresh_from_db()
    lost = [one for one in outcomes if isinstance(one, BaseException)]
    assert [type(one) for one in lost] == [payout_batches.BatchGone]
    assert payout.state in {PayoutState.IN_TRANSIT, PayoutState.REJECTED}
    assert free(vendor) == (40_000_000 if payout.state == PayoutState.IN_TRANSIT else 50_000_000)


def test_refunds_of_another_currency_say_nothing_about_a_payout() -> None:
    """Dollar cents are no pesos: 30 % of the pesos came back, and more dollars than that were sold."""
    vendor, where = vendor_with("500000")
    for currency, sale_minor, refund_minor in (("COP", 1_000, 300), ("USD", 900_000, 0), ("EUR", 10, 10)):
        move(vendor.pk, PSP_CLEARING, "vendor_pending", sale_minor, kind="sale", currency=currency)
        if refund_minor:
            move(vendor.pk, "vendor_pending", "refund_clearing", refund_minor, kind="refund",
                 currency=currency)  # fmt: skip
    payout = asked(vendor, where)
    facts = payout_screening.facts_of(payout, where)

    assert (facts.sold, facts.refunded) == (1_000, 300)
    assert "many_refunds" in payout_screening.screen(payout, where).reasons
