"""Files with many people's data: they leave after a second person's yes only, once, and as approved.

What is approved is a SHA-256 of the file's bytes. A file that would say something else by the time it is
fetched is another file: it has to be asked for again. The approval is used up by the download and ends after
24 hours (`approvals.LIVES`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from accounts import access_review, approvals, delegation
from accounts.models import AccessReview, ApprovalRequest
from mestore.lib import crypto, guard
from mestore.lib.actor import Actor
from monitoring import audit, events, export
from monitoring.export import Place, Wanted

ACCESS_REVIEW = "exports.access_review"
AUDIT_READING = "audit_logs.read.read_only"


@dataclass(frozen=True, slots=True)
class File:
    """A file that may leave: its name and its bytes."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class _Wanted:
    target: tuple[str, str]
    file: File
    details: dict[str, Any]


def standing(review: AccessReview, *, by: Actor) -> ApprovalRequest | None:
    """Return the request of `by` for this file that waits or is approved and not used up, if there is one.

    Raises hierarchy.NotAllowed for who may not review.
    """
    access_review.reviewer(by)
    wanted = _access_review(review)
    return approvals.standing(ACCESS_REVIEW, by=by, target=wanted.target, details=wanted.details)


def take_access_review(review: AccessReview, *, reason: str, by: Actor) -> File | ApprovalRequest:
    """Return the file when somebody else approved exactly it, else the request that waits for them.

    Asks for it when nothing waits yet; `reason` is needed then only. Raises hierarchy.NotAllowed,
    hierarchy.ReasonMissing, and approvals.SecondPersonRequired for all but one of several at once.
    """
    access_review.reviewer(by)
    wanted = _access_review(review)
    found = approvals.standing(ACCESS_REVIEW, by=by, target=wanted.target, details=wanted.details)
    if found is None:
        return approvals.ask(
            ACCESS_REVIEW, target=wanted.target, details=wanted.details, reason=reason, by=by
        )
    if found.waits():
        return found
    with transaction.atomic():
        guard.require_second_person(ACCESS_REVIEW, by=by, target=wanted.target, details=wanted.details)
        audit.record(
            events.EXPORT_MADE,
            by=by,
            target=wanted.target,
            data={"what": ACCESS_REVIEW, "approval": str(found.pk), **wanted.details},
        )
    return wanted.file


def ask_audit_personal(
    wanted: Wanted, place: Place, *, limit: int, reason: str, by: Actor
) -> ApprovalRequest:
    """Ask a second person for an export of the audit trail with personal values.

    `manage.py audit_export --personal --by ACCOUNT` uses the approval up, once, for exactly this. Raises as
    `approvals.ask` does.
    """
    return approvals.ask(
        export.PERSONAL,
        target=export.target(place),
        details=export.details(wanted, place, limit),
        reason=reason,
        by=by,
    )


def register() -> None:
    """Make the procedures known; called when Django starts."""
    approvals.register(approvals.Procedure(ACCESS_REVIEW, approver=delegation.REVOKING))
    approvals.register(approvals.Procedure(export.PERSONAL, approver=AUDIT_READING))


def _access_review(review: AccessReview) -> _Wanted:
    lines = list(access_review.csv_of(review))
    content = "".join(lines).encode()
    details = {"format": "csv", "rows": len(lines) - 1, "sha256": crypto.digest(content).hex()}
    name = f"access-review-{review.started_at:%Y-%m-%d}.csv"
    return _Wanted(("access_review", str(review.pk)), File(name, content), details)
