"""What is known when a payout is asked for, gathered for the rules in `payout_rules`."""

from __future__ import annotations

import datetime as dt
from typing import Final

from django.conf import settings
from django.utils import timezone

from accounts.models import AddressChange
from finance import bank_accounts, payout_rules
from finance.models import BankAccount, Payout
from finance.payout_rules import Facts, Screening
from finance.states import PayoutState
from mestore.lib import sql

#: In front of what a rule found, so that a hold by hand is never lifted by a rule.
FOUND: Final = "screening: "
_SAMPLE: Final = 50

# Sold and given back in the last thirty days in one currency, as the vendor's book knows it: what an entry
# moves is of one currency.
_MONTH = """
SELECT coalesce(sum(e.control_total) FILTER (WHERE e.kind = 'sale'), 0),
       coalesce(sum(e.control_total) FILTER (WHERE e.kind = 'refund'), 0)
FROM ledger_entry e
WHERE e.book_id = %s AND e.occurred_at >= %s AND e.kind IN ('sale', 'refund')
  AND EXISTS (SELECT FROM ledger_transfer t
              WHERE t.book_id = e.book_id AND t.entry_id = e.id AND t.currency = %s)
"""


def screen(payout: Payout, account: BankAccount) -> Screening:
    """Return what the rules say about a payout now."""
    return payout_rules.screen(facts_of(payout, account))


def facts_of(payout: Payout, account: BankAccount) -> Facts:
    """Gather what the rules ask for. Amounts are minor units of the payout's currency."""
    now = timezone.now()
    paid = Payout.objects.filter(
        vendor_id=payout.vendor_id, currency=payout.currency, state=PayoutState.PAID.value
    ).order_by("-id")
    changed = AddressChange.objects.filter(user_id=payout.vendor_id, confirmed_at__isnull=False)
    month = [payout.vendor_id, now - dt.timedelta(days=30), payout.currency]
    sold, refunded = sql.fetch_one(_MONTH, month) or (0, 0)
    return Facts(
        amount=payout.amount_minor,
        now=now,
        usable_from=account.usable_from,
        address_changed_at=changed.order_by("-confirmed_at").values_list("confirmed_at", flat=True).first(),
        vendors_sharing=bank_accounts.others_with(account),
        paid_before=tuple(paid.values_list("amount_minor", flat=True)[:_SAMPLE]),
        paid_to_account=paid.filter(bank_account=account).count(),
        sold=int(sold),
        refunded=int(refunded),
        cooling=dt.timedelta(hours=settings.BANK_ACCOUNT_COOLING_HOURS),
    )
