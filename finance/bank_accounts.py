"""Where a vendor's money goes: entering, removing, finding and, for a stated reason, reading a bank account.

A number is sealed and found by a blind index; people see its last four digits. Whoever enters an account,
money goes there after the cooling-off only, and the vendor is told at every address that we know, the former
ones of the last weeks too. That another vendor has the same number is a signal for us, never an answer.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import hierarchy
from accounts.models import AddressChange, User
from accounts.roles import Role
from finance import bank_files, payout_ends, transactions
from finance.models import BankAccount
from finance.states import BankAccountType
from mestore.lib import crypto, errors, ids
from mestore.lib.actor import Actor
from monitoring import alerts, audit, delivery, events

INDEX: Final = "bank-account-number"
FINGERPRINT: Final = "bank-account"
MANAGING: Final = "payments.manage.global"
READING: Final = "payments.read.read_only"
#: So long a former address is told of a change, too.
FORMER_ADDRESSES: Final = dt.timedelta(days=30)
MOST: Final = 10

SHARED = alerts.declare(
    alerts.Rule(
        "payout.account_shared",
        _("Bank account of two vendors"),
        alerts.Severity.MEDIUM,
        "bank-account-shared",
    )
)


class AccountNotFound(errors.NotFound):
    """There is none, it was removed, or it is somebody else's: never told apart."""

    message = _("Bank account not found.")


class AccountKnown(errors.Conflict):
    code = "BANK_ACCOUNT_EXISTS"
    message = _("This bank account is entered already.")


class TooManyAccounts(errors.Conflict):
    code = "TOO_MANY_BANK_ACCOUNTS"
    message = _("Remove a bank account before you enter another one.")


@dataclass(frozen=True, slots=True)
class AccountForm:
    """A bank account as it was entered, validated: digits only in `number`."""

    bank_name: str
    account_type: BankAccountType
    number: str
    holder_name: str
    currency: str = "COP"
    bank_code: str = ""
    document_type: str = ""
    document: str = ""


def of_vendor(vendor_id: UUID) -> QuerySet[BankAccount]:
    """Return the accounts that a vendor has now, newest first."""
    return BankAccount.objects.filter(vendor_id=vendor_id, removed_at=None).order_by("-id")


def find(account_id: UUID, *, vendor_id: UUID) -> BankAccount:
    """Return one of a vendor's accounts. Raises AccountNotFound."""
    account = of_vendor(vendor_id).filter(pk=account_id).first()
    if account is None:
        raise AccountNotFound
    return account


def add(vendor_id: UUID, form: AccountForm, *, by: Actor, now: dt.datetime | None = None) -> BankAccount:
    """Enter an account of a vendor; its cooling-off begins now.

    The caller has asked for permission and a fresh factor. Raises AccountKnown, TooManyAccounts, and
    AccountNotFound for somebody who is no vendor.
    """
    vendor = _vendor(vendor_id)
    return transactions.run(lambda: _add(vendor, form, by, now))


def put(vendor_id: UUID, form: AccountForm, *, by: Actor) -> BankAccount:
    """Make this the vendor's one account of its currency: what the old front end calls the bank data.

    The same data again change nothing. Raises AccountNotFound for somebody who is no vendor.
    """
    vendor = _vendor(vendor_id)

    def work() -> BankAccount:
        mine = of_vendor(vendor.pk).filter(currency=form.currency).select_for_update()
        account = next((row for row in mine if _is_same(row, form)), None)
        for row in mine:
            if account is None or row.pk != account.pk:
                _remove(row, vendor, by)
        return account or _add(vendor, form, by)

    return transactions.run(work)


def enter_if_new(vendor: User, form: AccountForm, *, by: Actor) -> BankAccount:
    """Return the vendor's account with this number, type and bank; enter it when there is none.

    Belongs inside a transaction. Raises TooManyAccounts.
    """
    wanted = of_vendor(vendor.pk).filter(
        number_index__in=crypto.blind_indexes(form.number, purpose=INDEX),
        account_type=form.account_type.value, currency=form.currency,
    )  # fmt: skip
    bank = bank_files.folded(form.bank_name)
    known = next((row for row in wanted if bank_files.folded(row.bank_name) == bank), None)
    return known or _add(vendor, form, by)


def remove(vendor_id: UUID, account_id: UUID, *, by: Actor) -> None:
    """Remove an account: no money goes there any more, and payouts that were not sent are cancelled.

    Raises AccountNotFound.
    """
    vendor = _vendor(vendor_id)

    def work() -> None:
        account = of_vendor(vendor.pk).filter(pk=account_id).select_for_update().first()
        if account is None:
            raise AccountNotFound
        _remove(account, vendor, by)

    transactions.run(work)


def reveal(account: BankAccount, *, reason: str, by: Actor) -> list[tuple[str, str]]:
    """Return what is sealed of an account, and record who saw it and why, in one transaction.

    The caller has asked for permission and a fresh factor. Raises hierarchy.ReasonMissing.
    """
    hierarchy.demand_reason(reason)
    with transaction.atomic():
        shown = [
            ("number", account.number or ""), ("holder", account.holder_name or ""),
            ("document", " ".join(filter(None, (account.holder_document_type, account.holder_document)))),
        ]  # fmt: skip
        audit.record(
            events.BANK_ACCOUNT_REVEALED,
            by=by,
            target=("bank_account", str(account.pk)),
            data={"vendor": str(account.vendor_id), "reason": reason},
        )
    return shown


def others_with(account: BankAccount) -> int:
    """Return how many other vendors have, or had, an account with this number."""
    same = BankAccount.objects.filter(
        number_index__in=crypto.blind_indexes(account.number or "", purpose=INDEX)
    ).exclude(vendor_id=account.vendor_id)
    return same.values("vendor_id").distinct().count()


def is_intact(account: BankAccount) -> bool:
    """Whether what is stored is what was entered: the fingerprint is a MAC under a key kept elsewhere."""
    return crypto.verify_mac(_content(account), account.fingerprint, purpose=FINGERPRINT)


def _add(vendor: User, form: AccountForm, by: Actor, now: dt.datetime | None = None) -> BankAccount:
    if of_vendor(vendor.pk).count() >= MOST:
        raise TooManyAccounts
    now = now or timezone.now()
    account = BankAccount(
        id=ids.uuid7(), vendor=vendor, currency=form.currency, bank_name=form.bank_name,
        bank_code=form.bank_code or bank_files.bank_code(form.bank_name),
        account_type=form.account_type.value, holder_name=form.holder_name,
        holder_document_type=form.document_type, holder_document=form.document,
        number=form.number, number_index=crypto.blind_index(form.number, purpose=INDEX),
        last_four=form.number[-4:], created_by=UUID(by.id) if by.id else vendor.pk, created_at=now,
        usable_from=now + dt.timedelta(hours=settings.BANK_ACCOUNT_COOLING_HOURS),
    )  # fmt: skip
    account.fingerprint = crypto.mac(_content(account), purpose=FINGERPRINT)
    try:
        with transaction.atomic():
            account.save(force_insert=True)
    except IntegrityError as error:
        if transactions.constraint_of(error) == "bank_account_once_per_vendor":
            raise AccountKnown from error
        raise
    shared = others_with(account)
    audit.record(
        events.BANK_ACCOUNT_ADDED,
        by=by,
        target=("bank_account", str(account.pk)),
        subject=str(vendor.pk),
        data={"vendor": str(vendor.pk), "usable_from": account.usable_from.isoformat(), "shared": shared > 0},
    )
    if shared:
        alerts.raise_signal(
            SHARED, entity=("vendor", str(vendor.pk)),
            evidence={"bank_account": str(account.pk), "other_vendors": shared},
        )  # fmt: skip
    context = {"hours": settings.BANK_ACCOUNT_COOLING_HOURS, "address": by.address or ""}
    _tell(vendor, "bank_account_added", account, context, by)
    return account


def _remove(account: BankAccount, vendor: User, by: Actor) -> None:
    payout_ends.cancel_all_to(account, by=by)
    account.removed_at = timezone.now()
    account.save(update_fields=["removed_at"])
    audit.record(
        events.BANK_ACCOUNT_REMOVED,
        by=by,
        target=("bank_account", str(account.pk)),
        subject=str(vendor.pk),
        data={"vendor": str(vendor.pk)},
    )
    _tell(vendor, "bank_account_removed", account, {}, by)


def _tell(vendor: User, template: str, account: BankAccount, more: dict[str, object], by: Actor) -> None:
    """Tell the vendor at both addresses, and at those that the account had a short while ago."""
    context = {"bank": account.bank_name, "last_four": account.last_four, **more}
    delivery.notify(vendor, template, context, by=by, second_address=True)
    former = AddressChange.objects.filter(
        user=vendor, confirmed_at__gt=timezone.now() - FORMER_ADDRESSES
    ).values_list("former", flat=True)
    for address in sorted({*former} - {"", vendor.email, vendor.recovery_email}):
        box = delivery.Mailbox(str(vendor.pk), address, vendor.language)
        delivery.mail(box, template, context, by=by)


def _is_same(row: BankAccount, form: AccountForm) -> bool:
    return (
        crypto.equal(row.number or "", form.number)
        and row.account_type == form.account_type.value
        and row.bank_name == form.bank_name
        and row.holder_name == form.holder_name
    )


def _vendor(vendor_id: UUID) -> User:
    vendor = User.objects.filter(pk=vendor_id, user_type=Role.VENDOR, deleted_at=None).first()
    if vendor is None:
        raise AccountNotFound
    return vendor


def _content(account: BankAccount) -> bytes:
    """Everything that decides where money goes, as unambiguous bytes."""
    return crypto.row_binding(
        account.pk, account.vendor_id, account.currency, account.bank_name, account.bank_code,
        account.account_type, account.number or "", account.holder_name or "",
        account.holder_document_type, account.holder_document or "",
    )  # fmt: skip
