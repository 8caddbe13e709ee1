"""Who takes part in the soak of sales, and its settlements: `python -m benchmarks.soak_people WHAT` there.

`make` prints sellers with bank accounts that have cooled off, and tokens, as JSON; `tokens` gives the same
sellers and the storefront new ones; `settle` settles again and again until it is ended.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Final

import django

from benchmarks.seed import ADDRESS

SELLERS: Final = 12
MACHINE: Final = "soak"
EMAIL: Final = "soak-seller-{}@example.com"
PAUSE_SECONDS: Final = 0.3


def main() -> None:
    """Do what the argument says."""
    django.setup()
    what = sys.argv[1]
    if what == "settle":
        settle()
    else:
        if what == "make":
            _make()
        sys.stdout.write(json.dumps(_people()) + "\n")


def settle() -> None:
    """Settle what is due, and again, whatever becomes of the database meanwhile."""
    from django.db import DatabaseError, InterfaceError, connections
    from psycopg_pool import PoolTimeout

    from finance import settlement
    from mestore.lib import actor, errors

    while True:
        try:
            settlement.settle(by=actor.system("soak"))
        except (DatabaseError, InterfaceError, PoolTimeout, errors.MeStoreError):
            connections.close_all()
        time.sleep(PAUSE_SECONDS)


def _make() -> None:
    """The storefront's machine account, and sellers."""
    import datetime as dt

    from django.db import transaction
    from django.utils import timezone

    from accounts.models import User, VendorProfile
    from accounts.roles import Role
    from finance import bank_accounts
    from finance.bank_accounts import AccountForm
    from finance.states import BankAccountType
    from sessions_security import clients, sessions, stepup
    from sessions_security.factor_proofs import Proof

    client, _key = clients.create(MACHINE, networks=["203.0.113.0/24"], by=_by())
    with transaction.atomic():
        sessions.start(client.user, kind="token", amr=["key"], by=_by(), client=client)
    for number in range(SELLERS):
        name = EMAIL.format(number)
        user = User.objects.create(email=name, email_key=name, password="!", user_type=Role.VENDOR)
        VendorProfile.objects.create(
            user=user, vendor_status=VendorProfile.Status.APPROVED, business_name=f"Soak {number}"
        )
        before = timezone.now() - dt.timedelta(days=30)
        form = AccountForm(
            "Bancolombia", BankAccountType.SAVINGS, f"7{number:010d}", "A seller", document_type="CC",
            document="1020304050",
        )  # fmt: skip
        bank_accounts.add(user.pk, form, by=_by(), now=before)
        with transaction.atomic():
            session = sessions.start(user, kind="token", amr=["pwd", "otp"], by=_by())
            stepup.note(session, Proof("totp", "otp", "soak", before))


def _people() -> dict[str, Any]:
    """Everybody's token, new, and each seller's bank account."""
    from finance.models import BankAccount
    from sessions_security import tokens
    from sessions_security.models import UserSession

    found = {
        str(one.user_id): tokens.issue_access(one).access_token
        for one in UserSession.objects.filter(user__email__startswith="soak-seller-").select_related("user")
    }
    machine = UserSession.objects.select_related("user", "client").exclude(client=None).latest("created_at")
    accounts = BankAccount.objects.filter(vendor_id__in=list(found))
    return {
        "storefront": tokens.issue_access(machine).access_token, "sellers": found,
        "accounts": {str(one.vendor_id): str(one.pk) for one in accounts},
    }  # fmt: skip


def _by() -> Any:
    from mestore.lib.actor import Actor

    return Actor(kind="system", label="soak", role="SYSTEM", address=ADDRESS)


if __name__ == "__main__":
    main()
