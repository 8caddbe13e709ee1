"""The demo's people: an administrator, a finance lead, a superuser, vendors, buyers and the storefront.

Whatever needs two people can be carried through by the first three: refunds, payouts (large ones need three,
a lead among them), rules, being forgotten.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import administration, grants, totp
from accounts.models import User, VendorProfile
from accounts.roles import Role
from finance import bank_accounts
from finance.states import BankAccountType
from mestore.lib import actor
from mestore.servers.storage import write_private
from sessions_security import clients

BY = actor.system("demo")
DOMAIN = "mestore.example"
REASON = "granted by the demo so that every page opens"
VENDORS = (
    ("Mariana", "Tejidos Mariana", "Bogotá", "Cundinamarca"),
    ("Andrés", "Café del Valle", "Cali", "Valle del Cauca"),
    ("Lucía", "Cerámicas Lucía", "Medellín", "Antioquia"),
)
BUYERS = ("Camila", "Julián")
# What the console's pages and actions ask of an administrator beyond what the role brings.
CONSOLE_PERMISSIONS = (
    "users.read.read_only",
    "users.update.global",
    "users.manage.global",
    "users.delete.global",
    "vendors.read.read_only",
    "permissions.read.read_only",
    "settings.read.read_only",
    "orders.read.read_only",
    "orders.update.global",
    "orders.manage.global",
    "orders.approve.global",
    "commissions.read.read_only",
    "commissions.manage.global",
    "commissions.approve.global",
    "commissions.configure.global",
    "transactions.read.read_only",
    "transactions.manage.global",
    "transactions.approve.global",
    "payments.read.read_only",
    "payments.approve.global",
    "payments.manage.global",
    "payments.export.global",
    "audit_logs.read.read_only",
)
# What marks a finance lead: one of those who agree to a large payout.
LEAD_PERMISSIONS = ("payments.approve.system",)
# What the administration API asks of a superuser besides.
SUPERUSER_PERMISSIONS = (
    "users.read.global", "users.create.global",
    "permissions.grant.global", "permissions.revoke.global",
    "vendors.approve.global", "vendors.manage.global", "settings.configure.system",
)  # fmt: skip
LOOPBACK = ("127.0.0.0/8", "::1/128")


def create(result: Path) -> dict[str, Any]:
    """Create everybody, unless they exist, and return what `manage.py demo --json` says of them.

    The credentials are in the file `result` (mode 600) before they are in the database: a process killed
    between the two leaves a file without people, which the next run writes again, never people without a
    password.
    """
    if result.is_file() and User.objects.filter(email_key=f"admin@{DOMAIN}").exists():
        return _completed(json.loads(result.read_text()), result)
    with transaction.atomic():
        people = {
            "admin": _staff("admin", Role.ADMIN, "Ana"),
            "finance_lead": _lead(),
            "superuser": _staff("superuser", Role.SUPERUSER, "Sofía"),
            "vendors": [_vendor(number, *shop) for number, shop in enumerate(VENDORS, start=1)],
            "buyers": [_buyer(number, name) for number, name in enumerate(BUYERS, start=1)],
            "storefront": _storefront(),
        }
        write_private(result, json.dumps(people).encode())
    return people


def _completed(known: dict[str, Any], result: Path) -> dict[str, Any]:
    """Give those of an older version what was added since: pages, the finance lead, bank accounts."""
    with transaction.atomic():
        for name in {"admin", "finance_lead", "superuser"} & set(known):
            _grant_missing(User.objects.get(email=known[name]["email"]))
        for number, vendor in enumerate(known["vendors"], start=1):
            _bank_account(number, UUID(vendor["id"]))
        if "finance_lead" not in known:
            known = {**known, "finance_lead": _lead()}
            write_private(result, json.dumps(known).encode())
    return known


def _lead() -> dict[str, str]:
    return _staff("finance", Role.ADMIN, "Felipe")


def _staff(name: str, role: Role, first_name: str) -> dict[str, str]:
    person, user = _person(name, role, first_name, clearance=5)
    _grant_missing(user)
    _device, secret = totp.enrol(user, "demo", by=BY, confirmed=True)
    return {"email": person["email"], "password": person["password"], "totp_secret": secret}


def _grant_missing(user: User) -> None:
    """Grant what the console's pages ask for and `user` does not hold, also after pages were added."""
    wanted = {*CONSOLE_PERMISSIONS, *(SUPERUSER_PERMISSIONS if user.role is Role.SUPERUSER else ())}
    wanted |= set(LEAD_PERMISSIONS if user.email == f"finance@{DOMAIN}" else ())
    for permission in sorted(wanted - grants.effective(user)):
        administration.give_grant(user, permission, by=BY, reason=REASON)


def _vendor(number: int, first_name: str, shop: str, city: str, state: str) -> dict[str, str]:
    person, user = _person(f"vendor{number}", Role.VENDOR, first_name, empresa=shop, ciudad=city)
    VendorProfile.objects.filter(user=user).update(
        vendor_status=VendorProfile.Status.APPROVED, business_name=shop, city=city, state=state
    )
    _bank_account(number, user.pk)
    return person


def _bank_account(number: int, vendor_id: UUID) -> None:
    """Enter the account that a vendor is paid to, as if days ago: its cooling-off is over."""
    if bank_accounts.of_vendor(vendor_id).exists():
        return
    first_name, shop, _city, _state = VENDORS[number - 1]
    form = bank_accounts.AccountForm(
        "Bancolombia", BankAccountType.SAVINGS, f"{number}0012345678", f"{first_name} ({shop})",
        document_type="CC", document=f"5200000{number}",
    )  # fmt: skip
    entered = timezone.now() - dt.timedelta(hours=settings.BANK_ACCOUNT_COOLING_HOURS + 24)
    bank_accounts.add(vendor_id, form, by=BY, now=entered)


def _buyer(number: int, first_name: str) -> dict[str, str]:
    return _person(f"buyer{number}", Role.BUYER, first_name)[0]


def _storefront() -> dict[str, str]:
    client, key = clients.create("storefront", networks=LOOPBACK, by=BY)
    return {"client_id": client.client_id, "key": key}


def _person(
    name: str, role: Role, first_name: str, *, clearance: int = 3, **fields: str
) -> tuple[dict[str, str], User]:
    email, password = f"{name}@{DOMAIN}", secrets.token_urlsafe(18)
    user = administration.create_user(
        email=email,
        password=password,
        role=role,
        clearance=clearance,
        by=BY,
        fields={"nombre": first_name, "account_verified": True, "email_verified": True, **fields},
    )
    return {"id": str(user.pk), "email": email, "password": password}, user
