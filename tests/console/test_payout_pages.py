"""Payouts, bank files and bank accounts in the console: who sees and does what, freshly confirmed."""

from __future__ import annotations

import html
from typing import Any

import pytest

from finance.models import BankAccount, Payout, PayoutBatch
from finance.states import PayoutState
from monitoring.models import AuditEvent
from sessions_security.models import StepUpProof
from tests.console import house
from tests.finance.payout_house import (
    APPROVING,
    EXPORTING,
    MANAGING,
    approve,
    approver,
    asked,
    file_of,
    sent,
    vendor_with,
)

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
PAYOUTS, FILES = "/admin/finance/payout/", "/admin/finance/payoutbatch/"
ACCOUNTS = "/admin/finance/bankaccount/"
REASON = "asked for in writing"


def text(answer: Any) -> str:
    return html.unescape(answer.content.decode())


def do(visitor: house.Visitor, row: Any, action: str, page: str = PAYOUTS, **more: str) -> Any:
    return visitor.client.post(
        f"{page}do/",
        {"action": action, "pk": str(row.pk), "reason": REASON, **more},
        headers={"Accept-Language": "en"},
    )


def test_who_may_only_look_decides_nothing() -> None:
    vendor, where = vendor_with("500000")
    payout, visitor = asked(vendor, where), house.visitor()
    shown = text(visitor.client.get(f"{PAYOUTS}{payout.pk}/change/", headers={"Accept-Language": "en"}))
    assert "needs 2 more" in shown
    assert "the vendor's first payout" in shown
    assert where.number is not None
    assert where.number not in shown
    for action in ("approve", "reject", "hold", "release", "resolve", "unknown"):
        assert do(visitor, payout, action).status_code == 403, action
    for page in (f"{FILES}make/", f"{ACCOUNTS}{where.pk}/reveal/"):
        assert visitor.client.get(page).status_code == 403, page
        assert visitor.client.post(page, {"reason": REASON}).status_code == 403, page
    payout.refresh_from_db()
    assert payout.state == PayoutState.SCREENED


def test_agreeing_needs_a_fresh_factor_and_counts_people() -> None:
    vendor, where = vendor_with("500000")
    payout, visitor = asked(vendor, where), house.visitor(permissions=(APPROVING,))
    proofs = StepUpProof.objects.filter(session__user=visitor.user)
    kept = list(proofs)
    proofs.delete()
    answer = do(visitor, payout, "approve")
    assert (answer.status_code, answer["Location"].split("?")[0]) == (302, "/admin/confirm/")
    StepUpProof.objects.bulk_create(kept)
    assert do(visitor, payout, "approve").status_code == 302
    page = visitor.client.get(f"{PAYOUTS}{payout.pk}/change/", headers={"Accept-Language": "en"})
    assert "needs one more" in text(page)
    again = do(visitor, payout, "approve")
    assert again.status_code == 409
    approve(payout, approver())
    payout.refresh_from_db()
    assert payout.state == PayoutState.APPROVED
    assert do(visitor, payout, "hold").status_code == 302
    assert do(visitor, payout, "release").status_code == 302
    assert do(visitor, payout, "reject").status_code == 302
    payout.refresh_from_db()
    assert (payout.state, payout.state_reason) == (PayoutState.REJECTED, REASON)


def test_file_is_made_by_one_and_handed_over_by_another() -> None:
    vendor, where = vendor_with("500000")
    payout = approve(asked(vendor, where))
    maker, sender = house.visitor(permissions=(EXPORTING,)), house.visitor(permissions=(EXPORTING,))
    wanted = {"currency": "COP", "layout": "csv", "reason": REASON}
    assert maker.client.post(f"{FILES}make/", {**wanted, "layout": "x"}).status_code == 400
    assert maker.client.post(f"{FILES}make/", {**wanted, "layout": "pab"}).status_code == 409
    assert maker.client.post(f"{FILES}make/", wanted).status_code == 302
    assert maker.client.post(f"{FILES}make/", wanted).status_code == 409, "nothing is left"
    batch = PayoutBatch.objects.get()
    take = f"{FILES}{batch.pk}/take/"
    assert maker.client.post(take, {"reason": REASON}).status_code == 409
    assert sender.client.post(take, {"reason": "short"}).status_code == 400
    file = sender.client.post(take, {"reason": REASON})
    assert file["Content-Disposition"].endswith(f'{batch.batch_number}.csv"')
    assert "no-store" in file["Cache-Control"]
    assert payout.payout_number.encode() in file.content
    lines = f"reference,outcome,amount\n{payout.payout_number},paid,100000\nX,paid,1\n"
    page = f"{FILES}{batch.pk}/answer/"
    assert sender.client.post(page, {"reason": REASON, "answer": "nothing"}).status_code == 409
    assert sender.client.post(page, {"reason": REASON, "answer": lines}).status_code == 302
    shown = text(sender.client.get(f"{FILES}{batch.pk}/change/", headers={"Accept-Language": "en"}))
    assert "3: X not in this file" in shown
    payout.refresh_from_db()
    assert payout.state == PayoutState.PAID


def test_number_is_shown_once_for_a_reason() -> None:
    _vendor, where = vendor_with("500000")
    visitor = house.visitor(permissions=(MANAGING,))
    page = f"{ACCOUNTS}{where.pk}/reveal/"
    asked_for = visitor.client.get(page)
    assert where.number is not None
    assert where.number not in text(asked_for)
    assert visitor.client.post(page, {"reason": "no"}).status_code == 400
    shown = visitor.client.post(page, {"reason": REASON})
    assert where.number in text(shown)
    assert "no-store" in shown["Cache-Control"]
    seen = AuditEvent.objects.filter(type="bank_account.revealed", target_id=str(where.pk))
    assert [event.actor_id for event in seen] == [str(visitor.user.pk)]


def test_unknown_outcome_is_asked_of_a_second_person() -> None:
    vendor, where = vendor_with("500000")
    payout, visitor = sent(vendor, where), house.visitor(permissions=(MANAGING,))
    assert do(visitor, payout, "unknown").status_code == 302
    assert do(visitor, payout, "resolve", outcome="never").status_code == 400
    assert do(visitor, payout, "resolve", outcome="paid").status_code == 302
    second = house.visitor(permissions=(MANAGING,))
    queue = text(second.client.get("/admin/accounts/approvalrequest/"))
    assert "payouts.resolve" in queue or payout.payout_number in queue
    payout.refresh_from_db()
    assert payout.state == PayoutState.UNKNOWN


def test_removed_account_and_thrown_away_file() -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    visitor = house.visitor(permissions=(MANAGING, EXPORTING))
    assert do(visitor, where, "remove", page=ACCOUNTS).status_code == 302
    assert BankAccount.objects.get(pk=where.pk).removed_at is not None
    payout.refresh_from_db()
    assert payout.state == PayoutState.CANCELLED
    other, there = vendor_with("500000")
    batch = file_of(approve(asked(other, there)))
    assert do(visitor, batch, "discard", page=FILES).status_code == 302
    assert Payout.objects.get(batch=batch).state == PayoutState.REJECTED
