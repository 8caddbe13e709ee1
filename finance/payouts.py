"""Asking for a payout: the amount is reserved in the transaction that writes the request, or nothing happens.

The reservation is one conditional update inside the ledger, last before the commit: of any number of requests
for the same money the first is accepted and the others are told that it does not suffice.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from finance import (
    idempotency,
    ledger,
    numbers,
    payout_postings,
    payout_rules,
    payout_screening,
    payout_states,
    rails,
)
from finance.idempotency import Answer
from finance.models import BankAccount, Payout
from finance.money import Money, MoneyError
from finance.payout_content import content_hash
from finance.payout_states import DebtOpen, VendorNotPayable
from finance.states import PayoutOrigin, PayoutState
from mestore.lib import crypto, errors, ids
from mestore.lib.actor import Actor
from mestore.lib.errors import FieldError
from mestore.lib.http import dumps
from monitoring import events

ROUTE: Final = "POST /api/v1/payouts/"
CREATED: Final = 201


class AmountRefused(errors.Unprocessable):
    """The amount is not one that a payout may have; `details` says which rule refused it."""

    code = "PAYOUT_AMOUNT"


class AccountUnknown(errors.Unprocessable):
    """The account is not one of the vendor's, or is of another currency: never told apart."""

    code = "BANK_ACCOUNT_UNKNOWN"
    message = _("You have no such bank account in this currency.")


#: Decided refusals: the same key gets them again.
KEPT: Final = (ledger.InsufficientFunds, VendorNotPayable, DebtOpen)


def request(
    vendor: User,
    *,
    amount: Money,
    bank_account_id: UUID,
    key: str,
    by: Actor,
    shape: Callable[[Payout], dict[str, Any]],
) -> Answer:
    """Ask for a payout once per idempotency key; return the answer to send, made by `shape`.

    Raises AmountRefused, AccountUnknown, VendorNotPayable, DebtOpen, ledger.InsufficientFunds, and what
    `idempotency.once` raises.
    """
    check(amount)

    def work() -> tuple[int, bytes]:
        account = BankAccount.objects.filter(pk=bank_account_id, vendor=vendor, removed_at=None).first()
        if account is None:
            raise AccountUnknown
        payout = open_request(vendor, account, amount, origin=PayoutOrigin.API, by=by)
        return CREATED, dumps(shape(payout))

    identity = crypto.row_binding(amount.minor, amount.currency, bank_account_id)
    return idempotency.once(ROUTE, key=key, identity=identity, by=by, work=work, kept=KEPT)


def check(amount: Money, field: str = "body -> amount") -> None:
    """Raise AmountRefused for an amount that no payout may have."""
    try:
        rails.check_payout(amount, settings.PAYOUT_BOUNDS)
    except MoneyError as refused:
        place = "body -> currency" if refused.code in {"currency_unsupported", "rail_unknown"} else field
        raise AmountRefused(details=[FieldError(place, str(refused), refused.code)]) from refused


def open_request(
    vendor: User,
    account: BankAccount,
    amount: Money,
    *,
    origin: PayoutOrigin,
    by: Actor,
    observations: str = "",
) -> Payout:
    """Write the request, screen it and reserve the amount, in the caller's transaction; return the payout.

    Raises AccountUnknown, VendorNotPayable, DebtOpen, ledger.InsufficientFunds.
    """
    if account.vendor_id != vendor.pk or account.currency != amount.currency:
        raise AccountUnknown
    payout_states.demand_payable(vendor.pk, amount.currency)
    now = timezone.now()
    payout = _written(vendor, account, amount, origin, by, observations, now)
    found = payout_screening.screen(payout, account)
    tier = payout_rules.approvals_for(
        amount, payout_rules.tiers_of(settings.PAYOUT_TIERS, amount.currency), found
    )
    payout.approvals_needed, payout.needs_lead = tier.approvals, tier.needs_lead
    payout.save(force_insert=True)
    payout_states.note(
        payout, by=by, event=events.PAYOUT_REQUESTED, origin=origin.value, amount=str(amount),
        bank_account=str(account.pk), approvals_needed=tier.approvals, needs_lead=tier.needs_lead,
    )  # fmt: skip
    payout_states.emit(payout, "payout.requested")
    state = PayoutState.HELD if found.holds else PayoutState.SCREENED
    reason = payout_screening.FOUND + found.text if found.reasons else ""
    payout_states.move(payout, state, reason=reason)
    payout_states.tell(payout, by=by)
    reservation = payout_postings.reserve(
        payout=payout.pk, vendor=vendor.pk, amount=amount, entry_id=payout.reserve_entry_id, at=now
    )
    payout_states.post([reservation], by=by)
    return payout


def _written(
    vendor: User, account: BankAccount, amount: Money, origin: PayoutOrigin, by: Actor, observations: str,
    now: dt.datetime,
) -> Payout:  # fmt: skip
    payout = Payout(
        id=ids.uuid7(), payout_number=numbers.payout_number(now), vendor=vendor, bank_account=account,
        currency=amount.currency, amount_minor=amount.minor, state=PayoutState.REQUESTED.value,
        origin=origin.value, approvals_needed=1, observations=observations, reserve_entry_id=ids.uuid7(),
        requested_by=UUID(by.id) if by.id else None, requested_at=now, updated_at=now,
        expires_at=now + dt.timedelta(days=settings.PAYOUT_REQUEST_DAYS),
    )  # fmt: skip
    payout.content_hash = content_hash(
        payout.pk, vendor.pk, amount.currency, amount.minor, bytes(account.fingerprint)
    )
    return payout
