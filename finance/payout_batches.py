"""Bank files: approved payouts in one file, handed over by another person, and what must be true for that.

Making the file and handing it over are two steps of two people. Until it was handed over nothing has left,
and the file can be thrown away. With it the reservations are posted. It can be taken once more, with a second
person's yes; after that it is gone from here, and its digest stays.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import approvals, hierarchy
from finance import (
    bank_accounts,
    bank_files,
    numbers,
    payout_approvals,
    payout_postings,
    payout_states,
    transactions,
)
from finance.bank_files import Layout, Payer, PaymentLine, PaymentOrder, PlainCsv
from finance.bank_files_pab import Pab
from finance.models import BankAccount, Payout, PayoutBatch
from finance.states import BankAccountType, PayoutState
from mestore.lib import crypto, errors, guard, ids
from mestore.lib.actor import Actor
from monitoring import alerts, audit, events

EXPORTING: Final = "payments.export.global"
STEP_UP: Final = "payout.export"
AGAIN: Final = "payouts.file_again"
LAYOUTS: Final[dict[str, Layout]] = {"csv": PlainCsv(), "pab": Pab()}

ALTERED = alerts.declare(
    alerts.Rule(
        "payout.account_altered", _("Bank account altered in the database"), alerts.Severity.CRITICAL,
        "bank-account-altered",
    )
)  # fmt: skip


class LayoutUnknown(errors.Unprocessable):
    code = "LAYOUT_UNKNOWN"
    message = _("There is no such layout of a bank file.")


class PayerMissing(errors.Conflict):
    code = "PAYER_NOT_SET"
    message = _("The settings do not say from which account payouts are paid.")


class BatchNotFound(errors.NotFound):
    message = _("Bank file not found.")


class BatchGone(errors.Conflict):
    code = "BANK_FILE_GONE"
    message = _("This bank file was thrown away, or was taken as often as it may be.")


class BatchStale(errors.Conflict):
    """It waited too long, or a payout in it may not go any more. Throw it away and make a new one."""

    code = "BANK_FILE_STALE"
    message = _("This bank file may not be handed over any more: throw it away and make a new one.")


class SamePerson(errors.Forbidden):
    code = "SECOND_PERSON_REQUIRED"
    message = _("Somebody else than who made the bank file hands it over.")


@dataclass(frozen=True, slots=True)
class Made:
    """What came of making a file: the batch (None: nothing could go), and what was left out and why."""

    batch: PayoutBatch | None
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class File:
    """A bank file as it leaves."""

    name: str
    content: bytes


def make(*, currency: str, layout: str, by: Actor, limit: int | None = None) -> Made:
    """Put every approved payout of a currency that may go now into one bank file.

    The caller has asked a person for a fresh factor. A payout that may not go any more goes back or waits;
    one that the layout cannot express stays approved. Raises hierarchy.NotAllowed, LayoutUnknown and
    PayerMissing.
    """
    hierarchy.demand_right(hierarchy.authority_of(by), EXPORTING, by)
    if layout not in LAYOUTS:
        raise LayoutUnknown
    payer = _payer(layout)
    return transactions.run(
        lambda: _make(currency, LAYOUTS[layout], payer, limit or settings.PAYOUT_BATCH_SIZE, by)
    )


def hand_over(batch_id: UUID, *, reason: str, by: Actor) -> File:
    """Return the file for the bank: its payouts are sent with it.

    Taken again it needs a second person's yes (`AGAIN`) and is gone afterwards. The caller has asked for a
    fresh factor. Raises hierarchy.NotAllowed, BatchNotFound, BatchGone, BatchStale, SamePerson,
    approvals.SecondPersonRequired.
    """
    authority = hierarchy.authority_of(by)
    if authority.user is None:
        raise hierarchy.refused("no_person", by)
    hierarchy.demand_right(authority, EXPORTING, by)
    hierarchy.demand_reason(reason)
    return transactions.run(lambda: _hand_over(batch_id, reason, by))


def ask_again(batch_id: UUID, *, reason: str, by: Actor) -> None:
    """Ask a second person for taking a file once more.

    Raises as `approvals.ask` does, BatchNotFound, BatchGone.
    """
    hierarchy.demand_right(hierarchy.authority_of(by), EXPORTING, by)
    batch = _find(batch_id)
    if batch.sent_at is None or not batch.file:
        raise BatchGone
    approvals.ask(AGAIN, target=_target(batch), details=_details(batch), reason=reason, by=by)


def discard(batch_id: UUID, *, reason: str, by: Actor) -> PayoutBatch:
    """Throw a file away that was not handed over; its payouts are rejected and their amounts free again.

    Raises hierarchy.NotAllowed, hierarchy.ReasonMissing, BatchNotFound, BatchGone.
    """
    hierarchy.demand_right(hierarchy.authority_of(by), EXPORTING, by)
    hierarchy.demand_reason(reason)
    return transactions.run(lambda: _discard(batch_id, reason.strip(), by))


def line_of(payout: Payout) -> PaymentLine:
    """Return a payout as a bank file names it."""
    account = payout.bank_account
    return PaymentLine(
        reference=payout.payout_number, minor=payout.amount_minor, bank_name=account.bank_name,
        bank_code=account.bank_code, account_type=BankAccountType(account.account_type),
        number=account.number or "", holder_name=account.holder_name or "",
        document_type=account.holder_document_type, document=account.holder_document or "",
    )  # fmt: skip


def register() -> None:
    """Make the procedure known; called when Django starts."""
    approvals.register(approvals.Procedure(AGAIN, approver=EXPORTING))


def _make(currency: str, layout: Layout, payer: Payer, limit: int, by: Actor) -> Made:
    left_out: list[tuple[str, str]] = []
    going: list[Payout] = []
    for payout in _approved(currency, limit):
        why = _obstacle(payout, layout, by)
        if why:
            left_out.append((payout.payout_number, why))
        else:
            going.append(payout)
    if not going:
        return Made(None, tuple(left_out))
    now = timezone.now()
    batch = PayoutBatch(
        id=ids.uuid7(), batch_number=numbers.batch_number(now), currency=currency, layout=layout.name,
        created_by=UUID(by.id) if by.id else None, created_at=now,
    )  # fmt: skip
    order = PaymentOrder(
        batch.batch_number, currency, now, now.date(), payer, tuple(line_of(payout) for payout in going)
    )
    text = layout.write(order)
    totals = order.totals
    batch.payout_count, batch.total_minor = totals.count, totals.minor
    batch.file, batch.file_digest = text, crypto.digest(text.encode("ascii"))
    batch.save(force_insert=True)
    for payout in going:
        payout_states.move(payout, PayoutState.SUBMITTING, batch=batch, submitted_at=now)
    _record(batch, events.PAYOUT_FILE_MADE, by, payouts=[str(payout.pk) for payout in going],
            accounts_total=f"{totals.accounts:015d}")  # fmt: skip
    return Made(batch, tuple(left_out))


def _approved(currency: str, limit: int) -> Sequence[Payout]:
    rows = Payout.objects.select_for_update(of=("self",), no_key=True, skip_locked=True)
    found = rows.filter(state=PayoutState.APPROVED.value, currency=currency)
    return list(found.select_related("bank_account", "vendor").order_by("id")[:limit])


def _obstacle(payout: Payout, layout: Layout, by: Actor) -> str:
    """Return in one word why a payout does not go into the file; an empty text when it does."""
    if not bank_accounts.is_intact(payout.bank_account):
        _alert(payout.bank_account, by)
        payout_states.move(payout, PayoutState.HELD, reason="the bank account is not what was entered")
        return "account_altered"
    if not payout_approvals.check_again(payout, by=by):
        return payout.state_reason
    return layout.obstacle(line_of(payout), payout.currency)


def _alert(account: BankAccount, by: Actor) -> None:
    target = ("bank_account", str(account.pk))
    audit.record(events.BANK_ACCOUNT_ALTERED, by=by, target=target, data={"vendor": str(account.vendor_id)})
    alerts.raise_signal(ALTERED, entity=target, evidence={"vendor": str(account.vendor_id)})


def _hand_over(batch_id: UUID, reason: str, by: Actor) -> File:
    batch = _locked(batch_id)
    if not batch.file:
        raise BatchGone
    content = batch.file.encode("ascii")
    if crypto.digest(content) != bytes(batch.file_digest or b""):
        raise BatchStale
    if batch.sent_at is not None:
        guard.require_second_person(AGAIN, by=by, target=_target(batch), details=_details(batch))
        batch.file = ""
        batch.save(update_fields=["file"])
        _record(batch, events.PAYOUT_FILE_TAKEN, by, reason=reason, again=True)
        return _named(batch, content)
    if by.id is not None and batch.created_by is not None and str(batch.created_by) == by.id:
        raise SamePerson
    now = timezone.now()
    if batch.created_at < now - dt.timedelta(hours=settings.PAYOUT_FILE_HOURS):
        raise BatchStale
    going = _in(batch)
    if not going or not _may_go(going, batch.currency):
        raise BatchStale
    postings = {
        payout.pk: payout_postings.sent(
            payout=payout.pk, vendor=payout.vendor_id, amount=payout.amount, entry_id=ids.uuid7(), at=now,
            reserved_by=payout.reserve_entry_id,
        )
        for payout in going
    }  # fmt: skip
    entries = {pk: posting.entry_id for pk, posting in postings.items()}
    payout_states.move_all(going, PayoutState.IN_TRANSIT, entries=entries)
    payout_states.tell_all(going, by=by)
    batch.sent_at = now
    batch.save(update_fields=["sent_at"])
    _record(batch, events.PAYOUT_FILE_TAKEN, by, reason=reason, again=False)
    payout_states.post(list(postings.values()), by=by)
    return _named(batch, content)


def _may_go(going: Sequence[Payout], currency: str) -> bool:
    """Whether all payouts of a file may still leave: approvers, vendors and accounts are read once more."""
    if not all(row.state == PayoutState.SUBMITTING and payout_states.is_usable(row) for row in going):
        return False
    if not payout_states.are_payable({row.vendor_id for row in going}, currency):
        return False
    stands = payout_approvals.standings(going)
    return all(stands[row.pk].suffices(row) for row in going)


def _discard(batch_id: UUID, reason: str, by: Actor) -> PayoutBatch:
    batch = _locked(batch_id)
    if batch.sent_at is not None or not batch.file:
        raise BatchGone
    postings = [
        payout_states.give_up(payout, PayoutState.REJECTED, reason=reason, by=by)
        for payout in _in(batch)
        if payout.state == PayoutState.SUBMITTING
    ]
    batch.file = ""
    batch.save(update_fields=["file"])
    _record(batch, events.PAYOUT_FILE_DISCARDED, by, reason=reason)
    payout_states.post(postings, by=by)
    return batch


def _in(batch: PayoutBatch) -> list[Payout]:
    rows = Payout.objects.select_for_update(of=("self",), no_key=True)
    return list(rows.filter(batch=batch).select_related("bank_account", "vendor").order_by("id"))


def _locked(batch_id: UUID) -> PayoutBatch:
    batch = PayoutBatch.objects.select_for_update(no_key=True).filter(pk=batch_id).first()
    if batch is None:
        raise BatchNotFound
    return batch


def _find(batch_id: UUID) -> PayoutBatch:
    batch = PayoutBatch.objects.filter(pk=batch_id).first()
    if batch is None:
        raise BatchNotFound
    return batch


def _named(batch: PayoutBatch, content: bytes) -> File:
    return File(f"{batch.batch_number}.{LAYOUTS[batch.layout].extension}", content)


def _payer(layout: str) -> Payer:
    told = settings.PAYOUT_PAYER
    document, account = bank_files.folded(told["document"]), told["account"]
    if layout == "pab" and not (document.isdigit() and account.isdigit() and len(account) <= 11):
        raise PayerMissing
    return Payer(told["name"], document, account, BankAccountType(told["account_type"]))


def _target(batch: PayoutBatch) -> tuple[str, str]:
    return ("payout_batch", str(batch.pk))


def _details(batch: PayoutBatch) -> dict[str, str]:
    return {"sha256": bytes(batch.file_digest or b"").hex()}


def _record(batch: PayoutBatch, event: str, by: Actor, **data: object) -> None:
    audit.record(
        event,
        by=by,
        target=_target(batch),
        data={"layout": batch.layout, "payouts_count": batch.payout_count, "currency": batch.currency,
              "total_minor": batch.total_minor, **_details(batch), **data},
    )  # fmt: skip
