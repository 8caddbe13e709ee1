"""Vendors with money, bank accounts that have cooled off, and people who agree to payouts."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts.models import User
from finance import bank_accounts, ledger, payout_approvals, payout_batches, payouts, transactions
from finance.bank_accounts import AccountForm
from finance.models import BankAccount, Payout, PayoutBatch
from finance.money import Money, parse
from finance.payout_batches import File
from finance.postings import PSP_CLEARING, VENDOR_AVAILABLE, VENDOR_RECEIVABLE, Posting, Transfer
from finance.states import BankAccountType, PayoutOrigin
from mestore.lib import actor, ids
from tests.factories.accounts import AdminFactory, VendorFactory, grant
from tests.factories.administration import acting

SYSTEM = actor.system("test")
REASON = "because the test says so"
APPROVING = "payments.approve.global"
LEADING = "payments.approve.system"
EXPORTING = "payments.export.global"
MANAGING = "payments.manage.global"


def cop(text: str) -> Money:
    return parse(text, "COP")


def fund(vendor: User, amount: Money) -> None:
    """Let a vendor have this much available, as a settlement would."""
    _post(vendor, Transfer(PSP_CLEARING, VENDOR_AVAILABLE, "test", amount.currency, amount.minor))


def indebt(vendor: User, amount: Money) -> None:
    """Let a vendor owe the platform, as a refund after a payout would."""
    _post(vendor, Transfer(VENDOR_RECEIVABLE, PSP_CLEARING, "test", amount.currency, amount.minor))


def form(number: str = "12345678901", **changes: Any) -> AccountForm:
    return AccountForm(
        **{
            "bank_name": "Bancolombia", "account_type": BankAccountType.SAVINGS, "number": number,
            "holder_name": "Ana Gómez", "document_type": "CC", "document": "1020304050", **changes,
        }
    )  # fmt: skip


def account(vendor: User, number: str = "12345678901", *, cooled: bool = True, **changes: Any) -> BankAccount:
    """A bank account of `vendor`; `cooled`: entered long enough ago that money may go there."""
    moment = timezone.now() - dt.timedelta(days=30 if cooled else 0)
    return bank_accounts.add(vendor.pk, form(number, **changes), by=acting(vendor), now=moment)


def vendor_with(amount: str, *, cooled: bool = True) -> tuple[User, BankAccount]:
    """A vendor with so much available (COP) and a bank account."""
    vendor = VendorFactory.create()
    fund(vendor, cop(amount))
    return vendor, account(vendor, str(vendor.pk.int % 10**11).rjust(11, "7"), cooled=cooled)


def asked(vendor: User, where: BankAccount, amount: str = "100000") -> Payout:
    """A payout that `vendor` asked for."""
    return transactions.run(
        lambda: payouts.open_request(vendor, where, cop(amount), origin=PayoutOrigin.API, by=acting(vendor))
    )


def staff(*permissions: str) -> User:
    user = AdminFactory.create()
    grant(user, *permissions)
    return user


def approver(*, lead: bool = False) -> User:
    return staff(APPROVING, *([LEADING] if lead else []))


def approve(payout: Payout, *people: User) -> Payout:
    """Let these people agree; without any, as many as it needs."""
    for person in people or [approver(lead=payout.needs_lead) for _ in range(payout.approvals_needed)]:
        payout = payout_approvals.approve(payout.pk, by=acting(person), reason=REASON)
    return payout


def file_of(*_payouts: Payout, layout: str = "csv") -> PayoutBatch:
    """A bank file of everything that is approved."""
    made = payout_batches.make(currency="COP", layout=layout, by=SYSTEM)
    assert made.batch is not None, made.left_out
    return made.batch


def hand_over(batch: PayoutBatch, by: User | None = None) -> File:
    return payout_batches.hand_over(batch.pk, reason=REASON, by=acting(by or staff(EXPORTING)))


def sent(vendor: User, where: BankAccount, amount: str = "100000") -> Payout:
    """A payout that went to the bank."""
    payout = approve(asked(vendor, where, amount))
    hand_over(file_of(payout))
    payout.refresh_from_db()
    return payout


def _post(vendor: User, transfer: Transfer) -> None:
    entry = ids.uuid7()
    with transaction.atomic():
        ledger.post_many(
            [Posting(vendor.pk, entry, "test", timezone.now(), f"test/{entry}", (transfer,))], by=SYSTEM
        )
