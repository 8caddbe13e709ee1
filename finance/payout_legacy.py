"""The payout request of the first system: an account by its digits, and no key but what is asked for.

The same vendor, account and amount are one open request: asked again, it is told again. An account that is
not known yet is entered with its cooling-off, and the payout waits until that is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.db import IntegrityError

from accounts.models import User
from finance import bank_accounts, idempotency, payouts, transactions
from finance.bank_accounts import AccountForm, AccountKnown
from finance.idempotency import Answer
from finance.models import Payout
from finance.money import Money
from finance.states import PayoutOrigin, PayoutState
from mestore.lib import crypto
from mestore.lib.actor import Actor
from mestore.lib.http import dumps

ROUTE: Final = "POST /api/v1/comisiones/solicitar-pago"
_OPEN: Final = [
    PayoutState.REQUESTED.value, PayoutState.SCREENED.value, PayoutState.HELD.value,
    PayoutState.APPROVED.value, PayoutState.SUBMITTING.value,
]  # fmt: skip


def request(
    vendor: User,
    form: AccountForm,
    *,
    amount: Money,
    observations: str,
    key: str | None,
    by: Actor,
    shape: Callable[[Payout], dict[str, Any]],
) -> Answer:
    """Ask for a payout, or return the open one that is the same; with `key` once per key, too.

    Raises what `payouts.open_request` raises, payouts.AmountRefused, bank_accounts.TooManyAccounts.
    """
    payouts.check(amount, "body -> monto_solicitado")

    def work() -> tuple[int, bytes]:
        return 200, dumps(shape(_open_or_same(vendor, form, amount, observations, by)))

    def attempt() -> Answer:
        if key is None:
            return Answer(*transactions.run(work))
        identity = crypto.row_binding(
            amount.minor, amount.currency, form.bank_name, form.account_type.value, form.number, observations
        )
        return idempotency.once(ROUTE, key=key, identity=identity, by=by, work=work, kept=payouts.KEPT)

    try:
        return attempt()
    except AccountKnown:
        return attempt()  # a twin entered the account between our question and our write
    except IntegrityError as error:
        if transactions.constraint_of(error) != "payout_legacy_one_open":
            raise
        return attempt()


def _open_or_same(vendor: User, form: AccountForm, amount: Money, observations: str, by: Actor) -> Payout:
    account = bank_accounts.enter_if_new(vendor, form, by=by)
    same = Payout.objects.filter(
        vendor=vendor, bank_account=account, amount_minor=amount.minor, origin=PayoutOrigin.LEGACY.value,
        state__in=_OPEN,
    ).select_related("bank_account")  # fmt: skip
    return same.first() or payouts.open_request(
        vendor, account, amount, origin=PayoutOrigin.LEGACY, by=by, observations=observations
    )
