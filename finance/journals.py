"""Manual journals: an amount moved by hand between two accounts of one book, with a second person's yes.

Who asks says what, how much and why; another person's yes posts it, in the approving transaction. Only what a
correction needs is offered: a vendor's money against the platform's corrections, and those among themselves.
Clearing, payouts in transit, taxes and the bank move by what happens to them, never by hand.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import approvals, hierarchy, vendors
from accounts.models import ApprovalRequest
from finance import ledger, money, vendor_money
from finance.postings import (
    PLATFORM_FEE,
    ROUNDING,
    SUSPENSE,
    VENDOR_AVAILABLE,
    VENDOR_PENDING,
    VENDOR_RECEIVABLE,
    Posting,
    Transfer,
)
from mestore.lib import errors, ids
from mestore.lib.actor import Actor
from mestore.lib.errors import FieldError
from monitoring import audit, events

PROCEDURE: Final = "finance.journal"
ASKING: Final = "transactions.manage.global"
APPROVING: Final = "transactions.approve.global"
STEP_UP: Final = "finance.manage"
ADJUSTMENT: Final = "adjustment"

VENDOR_SIDE: Final = (VENDOR_AVAILABLE, VENDOR_PENDING, VENDOR_RECEIVABLE)
PLATFORM_SIDE: Final = (SUSPENSE, ROUNDING, PLATFORM_FEE)
KINDS: Final = (*VENDOR_SIDE, *PLATFORM_SIDE)


class JournalRefused(errors.Unprocessable):
    """Accounts that are not moved by hand, one account twice, or no amount."""

    code = "JOURNAL_REFUSED"
    message = _("This cannot be posted by hand.")


def ask(
    *, vendor_id: UUID, debit: str, credit: str, amount: str, currency: str, reason: str, by: Actor
) -> ApprovalRequest:
    """Ask a second person for a journal in a vendor's book; `amount` is a text as people write it, "1500.00".

    Raises hierarchy.NotAllowed, hierarchy.ReasonMissing, vendors.VendorNotFound, JournalRefused,
    approvals.AskedAlready. What is not covered is refused when it is carried out.
    """
    hierarchy.demand_right(hierarchy.authority_of(by), ASKING, by)
    vendor = vendors.find(vendor_id)
    minor = _checked(debit, credit, amount, currency)
    details = {
        "journal": str(ids.uuid7()), "debit": debit, "credit": credit, "currency": currency,
        "amount": money.text_of(minor, currency),
    }  # fmt: skip
    return approvals.ask(PROCEDURE, target=("vendor", str(vendor.pk)), reason=reason, details=details, by=by)


def register() -> None:
    """Make the procedure known; called when Django starts."""
    approvals.register(approvals.Procedure(PROCEDURE, approver=APPROVING, carry_out=_carry_out))


def _carry_out(request: ApprovalRequest, by: Actor) -> None:
    """Post what was approved. Raises as the ledger does: what is not covered goes on waiting."""
    asker = request.asker
    hierarchy.demand_right(hierarchy.authority_of(asker), ASKING, asker)
    told: dict[str, Any] = request.details
    book, currency = UUID(request.target_id), str(told["currency"])
    minor = _checked(told["debit"], told["credit"], told["amount"], currency)
    posting = Posting(
        book, ids.uuid7(), ADJUSTMENT, timezone.now(), f"journal/{told['journal']}",
        (Transfer(told["debit"], told["credit"], "", currency, minor),),
    )  # fmt: skip
    with transaction.atomic():
        vendor_money.hold([book])
        ledger.post_many([posting], by=by)
        audit.record(
            events.JOURNAL_POSTED, by=by, target=("ledger_entry", str(posting.entry_id)),
            data={
                "vendor_id": str(book), "debit": told["debit"], "credit": told["credit"],
                "currency": currency, "amount": told["amount"], "asked_by": str(request.asked_by_id),
                "reason": request.reason,
            },
        )  # fmt: skip


def _checked(debit: str, credit: str, amount: str, currency: str) -> int:
    """Return the amount in minor units. Raises JournalRefused with the field that is wrong."""
    if debit not in KINDS:
        raise _refused("debit", _("This account is not moved by hand."))
    if credit not in KINDS or credit == debit:
        raise _refused("credit", _("This account is not moved by hand, or it is the same one."))
    try:
        minor = money.parse(amount, currency).minor
    except money.MoneyError as wrong:
        raise _refused("amount", _("This is no amount of this currency.")) from wrong
    if minor <= 0:
        raise _refused("amount", _("An amount is more than zero."))
    return minor


def _refused(field: str, message: Any) -> JournalRefused:
    return JournalRefused(details=[FieldError(f"body -> {field}", message, "journal_refused")])
