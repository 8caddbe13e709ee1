"""What became of payouts that were sent: the bank paid, returned or refused them, or nobody knows.

An unknown outcome keeps its money where it is and is never sent again under another key: it ends by evidence
that a second person has looked at, whatever the bank's file says.
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
from accounts.models import ApprovalRequest
from finance import bank_file_answers, payout_postings, payout_states, transactions
from finance.bank_file_answers import Answered, AnswerRefused, Outcome
from finance.models import LedgerEntry, Payout, PayoutBatch
from finance.payout_batches import EXPORTING, BatchNotFound
from finance.payout_states import WrongState
from finance.postings import PLATFORM_BOOK, Posting
from finance.states import PayoutState
from mestore.lib import crypto, errors, ids
from mestore.lib.actor import Actor
from mestore.lib.errors import FieldError
from monitoring import alerts, audit, events

RESOLVE: Final = "payouts.resolve"
MANAGING: Final = "payments.manage.global"
#: What an unknown outcome may turn out to be: carried out, or not.
RESOLUTIONS: Final = (Outcome.PAID, Outcome.RETURNED)

UNKNOWN = alerts.declare(
    alerts.Rule(
        "payout.outcome_unknown", _("A payout's outcome is unknown"), alerts.Severity.HIGH,
        "a-payouts-outcome-is-unknown",
    )
)  # fmt: skip
RETURNED = alerts.declare(
    alerts.Rule("payout.returned", _("A payout was returned"), alerts.Severity.LOW, "a-payout-was-returned")
)


class AnswerUnreadable(errors.Unprocessable):
    """The bank's file as a whole cannot be read; `details` says why."""

    code = "BANK_ANSWER_UNREADABLE"


class ResolutionUnknown(errors.Unprocessable):
    message = _("Say whether the bank paid it or not, and what shows it.")


@dataclass(frozen=True, slots=True)
class Line:
    """What was done with one line of an answer: in a word, and about which payment."""

    line: int
    reference: str
    result: str


@dataclass(frozen=True, slots=True)
class Read:
    """What was done with an answer, line by line."""

    lines: tuple[Line, ...]

    def count(self, result: str) -> int:
        """How many lines ended so."""
        return sum(line.result == result for line in self.lines)

    @property
    def open(self) -> tuple[Line, ...]:
        """The lines that somebody has to look at."""
        return tuple(line for line in self.lines if line.result not in {"done", "unchanged"})


def import_answer(batch_id: UUID, content: bytes, *, by: Actor) -> Read:
    """Take over what the bank says about the payouts of a file; every line by itself, any number of times.

    A line that names another amount, or a payout whose outcome is unknown, changes nothing and is told.
    Raises hierarchy.NotAllowed, BatchNotFound, AnswerUnreadable.
    """
    hierarchy.demand_right(hierarchy.authority_of(by), EXPORTING, by)
    batch = PayoutBatch.objects.filter(pk=batch_id).first()
    if batch is None:
        raise BatchNotFound
    try:
        answered = bank_file_answers.read(content, batch.currency)
    except AnswerRefused as refused:
        details = [FieldError("file", _("The file cannot be read."), refused.code)]
        raise AnswerUnreadable(details=details) from refused
    known = dict(Payout.objects.filter(batch=batch).values_list("payout_number", "id"))
    lines = tuple(
        Line(
            row.line,
            row.reference,
            _taken(row, known.get(row.reference), by)
            if isinstance(row, Answered)
            else f"unreadable: {row.why}",
        )
        for row in answered
    )
    read = Read(lines)
    transactions.run(lambda: _record_read(batch, read, content, by))
    return read


def mark_unknown(payout_id: UUID, *, reason: str, by: Actor) -> Payout:
    """Say that nobody knows what became of a payout; its money stays where it is.

    Raises PayoutNotFound, WrongState, hierarchy.ReasonMissing.
    """
    hierarchy.demand_reason(reason)
    return transactions.run(lambda: _unknown(payout_states.locked(payout_id), reason.strip(), by))


def without_answer(limit: int, *, by: Actor) -> int:
    """Mark up to `limit` payouts that the bank has not answered in time; return how many."""
    since = timezone.now() - dt.timedelta(days=settings.PAYOUT_ANSWER_DAYS)
    silent = Payout.objects.filter(state=PayoutState.IN_TRANSIT.value, batch__sent_at__lte=since)
    done = 0
    for payout_id in list(silent.order_by("id").values_list("id", flat=True)[:limit]):

        def work(found: UUID = payout_id) -> int:
            payout = payout_states.locked(found)
            if payout.state != PayoutState.IN_TRANSIT:
                return 0
            _unknown(payout, "the bank has not answered", by)
            return 1

        done += transactions.run(work)
    return done


def ask_to_resolve(payout_id: UUID, *, outcome: str, evidence: str, by: Actor) -> ApprovalRequest:
    """Ask a second person to settle an unknown outcome; their yes carries it out.

    Raises hierarchy.NotAllowed, PayoutNotFound, WrongState, ResolutionUnknown, approvals.AskedAlready.
    """
    hierarchy.demand_right(hierarchy.authority_of(by), MANAGING, by)
    if outcome not in RESOLUTIONS or not evidence.strip():
        raise ResolutionUnknown
    payout = Payout.objects.filter(pk=payout_id).first()
    if payout is None:
        raise payout_states.PayoutNotFound
    if payout.state != PayoutState.UNKNOWN:
        raise WrongState(payout.state)
    details = {
        "payout": payout.payout_number, "outcome": str(outcome), "evidence": evidence.strip()[:500],
        "amount": str(payout.amount), "content": bytes(payout.content_hash).hex(),
    }  # fmt: skip
    return approvals.ask(RESOLVE, target=("payout", str(payout.pk)), reason=evidence, details=details, by=by)


def register() -> None:
    """Make the procedure known; called when Django starts."""
    approvals.register(approvals.Procedure(RESOLVE, approver=MANAGING, carry_out=_resolve))


def _resolve(request: ApprovalRequest, by: Actor) -> None:
    """Carry out what was approved, in the approving transaction."""
    payout = payout_states.locked(UUID(request.target_id))
    if payout.state != PayoutState.UNKNOWN:
        raise WrongState(payout.state)
    outcome, evidence = Outcome(request.details["outcome"]), str(request.details["evidence"])
    postings = _settle(payout, outcome, evidence, "", by)
    payout_states.post(postings, by=by)


def _taken(row: Answered, payout_id: UUID | None, by: Actor) -> str:
    """Do what one line says; return in a word what came of it."""
    if payout_id is None:
        return "not in this file"

    def work() -> str:
        payout = payout_states.locked(payout_id)
        if row.minor != payout.amount_minor:
            return "amount differs"
        if payout.state == PayoutState.UNKNOWN:
            return "needs a second person"
        wanted = PayoutState.PAID if row.outcome is Outcome.PAID else PayoutState.RETURNED
        if payout.state == wanted:
            return "unchanged"
        if payout.state not in {PayoutState.IN_TRANSIT, PayoutState.PAID} or (
            payout.state == PayoutState.PAID and wanted == PayoutState.PAID
        ):
            return f"state {payout.state}"
        postings = _settle(payout, row.outcome, row.reason, row.bank_reference, by)
        payout_states.post(postings, by=by)
        return "done"

    return transactions.run(work)


def _settle(payout: Payout, outcome: Outcome, reason: str, reference: str, by: Actor) -> list[Posting]:
    """Move a payout that was sent, or may have been, to its end; return what the ledger is told, in order."""
    if outcome is Outcome.PAID:
        return _paid(payout, reason, reference, by)
    if payout.post_entry_id is None:
        # It never left our books: the reservation is free again.
        return [payout_states.give_up(payout, PayoutState.REJECTED, reason=reason, by=by)]
    return _returned(payout, reason, reference, by)


def _paid(payout: Payout, reason: str, reference: str, by: Actor) -> list[Posting]:
    now, postings = timezone.now(), []
    if payout.post_entry_id is None:
        left = payout_postings.sent(
            payout=payout.pk, vendor=payout.vendor_id, amount=payout.amount, entry_id=ids.uuid7(), at=now,
            reserved_by=payout.reserve_entry_id,
        )  # fmt: skip
        payout.post_entry_id = left.entry_id
        postings.append(left)
    postings.append(
        payout_postings.paid(payout=payout.pk, amount=payout.amount, entry_id=ids.uuid7(), at=now)
    )
    payout_states.move(
        payout, PayoutState.PAID, reason=reason, paid_at=now, closed_at=now,
        provider_reference=reference[:128], post_entry_id=payout.post_entry_id,
    )  # fmt: skip
    payout_states.note(payout, by=by, reason=reason, event=events.PAYOUT_OUTCOME)
    payout_states.tell(payout, by=by)
    return postings


def _returned(payout: Payout, reason: str, reference: str, by: Actor) -> list[Posting]:
    now = timezone.now()
    assert payout.post_entry_id is not None  # noqa: S101  # the caller looked
    postings = [
        payout_postings.returned(
            payout=payout.pk, vendor=payout.vendor_id, amount=payout.amount, entry_id=ids.uuid7(), at=now,
            sent=payout.post_entry_id,
        )
    ]  # fmt: skip
    paid = LedgerEntry.objects.filter(
        book_id=PLATFORM_BOOK, source_event=payout_postings.source_of(payout.pk, "paid")
    ).first()
    if paid is not None:
        postings.append(
            payout_postings.unpaid(
                payout=payout.pk, amount=payout.amount, entry_id=ids.uuid7(), at=now, paid=paid.pk
            )
        )
    payout_states.move(
        payout, PayoutState.RETURNED, reason=reason or "returned by the bank", closed_at=now,
        provider_reference=reference[:128] or payout.provider_reference,
    )  # fmt: skip
    payout_states.note(payout, by=by, reason=reason, event=events.PAYOUT_OUTCOME, after_paid=paid is not None)
    payout_states.tell(payout, by=by, reason=reason)
    alerts.raise_signal(
        RETURNED, entity=("vendor", str(payout.vendor_id)),
        evidence={"payout": payout.payout_number, "after_paid": paid is not None},
    )  # fmt: skip
    return postings


def _unknown(payout: Payout, reason: str, by: Actor) -> Payout:
    payout_states.move(payout, PayoutState.UNKNOWN, reason=reason)
    payout_states.note(payout, by=by, reason=reason, event=events.PAYOUT_OUTCOME)
    alerts.raise_signal(UNKNOWN, entity=("payout", str(payout.pk)), evidence={"payout": payout.payout_number})
    return payout


def _record_read(batch: PayoutBatch, read: Read, content: bytes, by: Actor) -> None:
    done: Sequence[Line] = [line for line in read.lines if line.result == "done"]
    audit.record(
        events.PAYOUT_ANSWER_READ,
        by=by,
        target=("payout_batch", str(batch.pk)),
        data={
            "sha256": crypto.digest(content).hex(),
            "lines": len(read.lines),
            "done": len(done),
            "unchanged": read.count("unchanged"),
            "open": len(read.open),
        },
    )
