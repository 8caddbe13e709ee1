"""Payouts on a day of their own: asking for vendors what they have available."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from accounts.models import User
from finance import ledger, payout_states, payouts, rails, transactions
from finance.ledger_balances import available
from finance.models import BankAccount, Payout
from finance.money import Money, MoneyError, parse
from finance.payout_states import UNSENT, DebtOpen, VendorNotPayable
from finance.states import PayoutOrigin
from mestore.lib.actor import Actor


@dataclass(frozen=True, slots=True)
class Due:
    """What one vendor could be paid now, and to which account; `obstacle` says in a word why not."""

    vendor_id: UUID
    account_id: UUID
    amount: Money
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run did about one vendor."""

    due: Due
    payout_number: str


def due(currency: str) -> Iterator[Due]:
    """Yield every vendor with a usable account who has the least amount available, in the order of their ids.

    Raises `MoneyError` for a currency in which no batch payouts are made.
    """
    if currency not in settings.PAYOUT_RUN_LEAST:
        raise MoneyError("currency_unsupported", "Batch payouts are not made in this currency.")
    least = parse(settings.PAYOUT_RUN_LEAST[currency], currency)
    bounds = rails.bounds_of(settings.PAYOUT_BOUNDS, currency)
    usable = BankAccount.objects.filter(
        currency=currency, removed_at=None, usable_from__lte=timezone.now()
    ).order_by("vendor_id", "-id")
    for account in usable.distinct("vendor_id").iterator(chunk_size=500):
        free = Money(max(0, available(account.vendor_id, currency).free), currency)
        amount = rails.floor_to_step(min(free, bounds.most))
        if least <= amount and bounds.least <= amount:
            yield Due(account.vendor_id, account.pk, amount, _obstacle(account.vendor_id, currency))


def ask_for_all(currency: str, *, by: Actor) -> Iterator[Asked | Due]:
    """Ask for every payout that is due, one transaction each; yield what was asked for and what was not.

    Nothing is asked for a vendor who waits for a payout already, so a run that was cut short can be repeated.
    """
    for one in due(currency):
        if one.obstacle:
            yield one
            continue
        try:
            yield Asked(one, _ask(one, by).payout_number)
        except (ledger.InsufficientFunds, VendorNotPayable, DebtOpen) as refused:
            yield Due(one.vendor_id, one.account_id, one.amount, refused.code.lower())


def _ask(one: Due, by: Actor) -> Payout:
    def work() -> Payout:
        vendor = User.objects.get(pk=one.vendor_id)
        account = BankAccount.objects.get(pk=one.account_id)
        return payouts.open_request(vendor, account, one.amount, origin=PayoutOrigin.BATCH, by=by)

    return transactions.run(work)


def _obstacle(vendor_id: UUID, currency: str) -> str:
    waiting = Payout.objects.filter(
        vendor_id=vendor_id, currency=currency, state__in=[state.value for state in UNSENT]
    )
    if waiting.exists():
        return "payout_waiting"
    try:
        payout_states.demand_payable(vendor_id, currency)
    except (VendorNotPayable, DebtOpen) as refused:
        return refused.code.lower()
    return ""
