"""Closing the books and posting by hand: never alone, never what is not offered, never behind a close."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from accounts import approvals, hierarchy, vendors
from accounts.models import ApprovalRequest, User
from finance import journals, ledger, periods
from finance.models import LedgerEntry, PeriodClose
from monitoring.models import AuditEvent
from tests.factories.accounts import SuperuserFactory, VendorFactory, grant
from tests.factories.administration import REASON, acting
from tests.finance.selling import fund

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit"])
MANAGE, APPROVE = "transactions.manage.global", "transactions.approve.global"


def person(*permissions: str) -> User:
    made: User = SuperuserFactory.create()
    grant(made, *permissions)
    return made


@pytest.fixture
def maker(transactional_db: None) -> User:
    return person(MANAGE, APPROVE)


@pytest.fixture
def checker(transactional_db: None) -> User:
    return person(APPROVE)


@pytest.fixture
def vendor(transactional_db: None) -> User:
    return VendorFactory.create()


def yesterday() -> dt.datetime:
    return timezone.now() - dt.timedelta(days=1)


def journal(vendor: User, by: User, **changes: Any) -> ApprovalRequest:
    values = {
        "debit": "suspense",
        "credit": "vendor_available",
        "amount": "15.00",
        "currency": "COP",
    } | changes
    return journals.ask(vendor_id=vendor.pk, reason=REASON, by=acting(by), **values)


# Closing.


def test_who_may_not_manage_the_books_cannot_ask_for_a_close(checker: User) -> None:
    with pytest.raises(hierarchy.NotAllowed):
        periods.ask(yesterday(), reason=REASON, by=acting(checker))

    assert not ApprovalRequest.objects.exists()


def test_a_close_waits_for_a_second_person(maker: User) -> None:
    request = periods.ask(yesterday(), reason=REASON, by=acting(maker))

    with pytest.raises(approvals.NotYours):
        approvals.approve(request.pk, by=acting(maker))

    assert periods.closed_until() is None


def test_the_second_persons_yes_closes(maker: User, checker: User) -> None:
    until = yesterday()
    request = periods.ask(until, reason=REASON, by=acting(maker))

    approvals.approve(request.pk, by=acting(checker))

    assert periods.closed_until() == until
    close = PeriodClose.objects.get()
    assert (close.closed_by, close.reason) == (str(checker.pk), REASON)
    assert AuditEvent.objects.filter(type="period.closed").count() == 1


@pytest.mark.parametrize("days", [-1, 1])
def test_a_close_that_is_out_of_order_cannot_even_be_asked_for(maker: User, days: int) -> None:
    periods.close(timezone.now() - dt.timedelta(hours=1), reason=REASON, by=acting(maker))

    with pytest.raises(periods.CloseOutOfOrder):
        periods.ask(timezone.now() - dt.timedelta(days=days), reason=REASON, by=acting(maker))


def test_one_that_was_overtaken_goes_on_waiting(maker: User, checker: User) -> None:
    request = periods.ask(yesterday(), reason=REASON, by=acting(maker))
    periods.close(timezone.now() - dt.timedelta(hours=1), reason=REASON, by=acting(maker))

    with pytest.raises(periods.CloseOutOfOrder):
        approvals.approve(request.pk, by=acting(checker))

    request.refresh_from_db()
    assert request.state == ApprovalRequest.State.OPEN
    assert PeriodClose.objects.count() == 1


# Posting by hand.


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("debit", "psp_clearing"), ("debit", "platform_bank"), ("debit", "payout_in_transit"),
        ("debit", "tax_payable:fee"), ("debit", "no_such_account"), ("credit", "suspense"),
        ("credit", "refund_clearing"), ("amount", "0"), ("amount", "-1"), ("amount", "1e3"),
        ("amount", "1.001"), ("amount", "９"), ("amount", "9999999999999999"), ("currency", "XXX"),
    ],
)  # fmt: skip
def test_what_is_not_offered_is_refused_with_its_field(
    maker: User, vendor: User, field: str, value: str
) -> None:
    with pytest.raises(journals.JournalRefused) as error:
        journal(vendor, maker, **{field: value})

    wrong = "amount" if field == "currency" else field
    assert [one.field for one in error.value.details or []] == [f"body -> {wrong}"]
    assert not ApprovalRequest.objects.exists()


def test_a_journal_needs_a_vendor_a_right_and_a_reason(maker: User, checker: User, vendor: User) -> None:
    with pytest.raises(hierarchy.NotAllowed):
        journal(vendor, checker)
    with pytest.raises(vendors.VendorNotFound):
        journals.ask(
            vendor_id=uuid4(), debit="suspense", credit="vendor_available", amount="1", currency="COP",
            reason=REASON, by=acting(maker),
        )  # fmt: skip
    with pytest.raises(hierarchy.ReasonMissing):
        journals.ask(
            vendor_id=vendor.pk, debit="suspense", credit="vendor_available", amount="1", currency="COP",
            reason=" ", by=acting(maker),
        )  # fmt: skip


def test_nothing_is_posted_by_the_one_who_asked(maker: User, vendor: User) -> None:
    request = journal(vendor, maker)

    with pytest.raises(approvals.NotYours):
        approvals.approve(request.pk, by=acting(maker))

    assert not LedgerEntry.objects.exists()


def test_the_second_persons_yes_posts_once(maker: User, checker: User, vendor: User) -> None:
    request = journal(vendor, maker)
    approvals.approve(request.pk, by=acting(checker))

    with pytest.raises(approvals.DecidedAlready):
        approvals.approve(request.pk, by=acting(checker))

    entry = LedgerEntry.objects.get()
    assert (entry.kind, entry.book_id, entry.control_total) == ("adjustment", vendor.pk, 1_500)
    assert entry.source_event == f"journal/{request.details['journal']}"
    assert ledger.available(vendor.pk, "COP").free == 1_500
    assert AuditEvent.objects.filter(type="journal.posted", target_id=str(entry.pk)).count() == 1


def test_an_approval_raced_by_many_posts_once(maker: User, vendor: User, race: Any) -> None:
    request = journal(vendor, maker)
    checkers = [person(APPROVE) for _ in range(6)]

    outcomes = race([lambda one=one: approvals.approve(request.pk, by=acting(one)) for one in checkers])

    assert sum(isinstance(outcome, ApprovalRequest) for outcome in outcomes) == 1
    assert LedgerEntry.objects.count() == 1


def test_what_is_not_covered_is_refused_and_goes_on_waiting(maker: User, checker: User, vendor: User) -> None:
    fund(vendor.pk, 1_000)
    request = journal(vendor, maker, debit="vendor_available", credit="suspense")

    with pytest.raises(ledger.InsufficientFunds):
        approvals.approve(request.pk, by=acting(checker))

    request.refresh_from_db()
    assert request.state == ApprovalRequest.State.OPEN
    assert ledger.available(vendor.pk, "COP").free == 1_000


def test_a_journal_of_somebody_who_lost_the_right_is_not_posted(
    maker: User, checker: User, vendor: User
) -> None:
    request = journal(vendor, maker)
    maker.grants.all().delete()

    with pytest.raises(hierarchy.NotAllowed):
        approvals.approve(request.pk, by=acting(checker))

    assert not LedgerEntry.objects.exists()
