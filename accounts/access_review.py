"""Access review: who has what, when it was last used, and whether it stays.

A review takes a picture of all grants in force. Somebody who may revoke decides about each of them, never
about their own; what is not wanted is revoked at once. Finishing fixes the outcome: its canonical bytes are
sealed under the master key, and their SHA-256 goes into the audit trail.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import delegation, grants, hierarchy
from accounts.models import AccessReview, AccessReviewItem, Grant, User
from accounts.models.access import outcome_of
from mestore.lib import crypto, errors
from mestore.lib.actor import Actor
from monitoring import audit, events

HEADINGS = (
    "account", "email", "role", "permission", "risk", "granted_at", "granted_by", "expires_at",
    "last_used_at", "outcome", "decided_by", "decided_at", "reason",
)  # fmt: skip
# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
Outcome = AccessReviewItem.Outcome


class ReviewOpen(errors.Conflict):
    message = _("A review is under way: finish it first.")


class ReviewNotOpen(errors.Conflict):
    message = _("This review is finished.")


class NoSuchItem(errors.NotFound):
    message = _("There is no such grant in a review.")


class Undecided(errors.Conflict):
    """Some grants have no decision yet; the answer says how many."""

    message = _("Some grants are not decided yet.")

    def __init__(self, count: int) -> None:
        super().__init__(extra={"undecided": count})


def start(*, by: Actor) -> AccessReview:
    """Begin a review of every grant in force. Raises ReviewOpen, hierarchy.NotAllowed."""
    user = reviewer(by)
    now = timezone.now()
    try:
        with transaction.atomic():
            review = AccessReview.objects.create(started_by=user, started_by_label=user.email, started_at=now)
            found = _in_force().values_list("pk", "use__last_used_at").iterator(chunk_size=1_000)
            items = (AccessReviewItem(review=review, grant_id=pk, last_used_at=used) for pk, used in found)
            count = len(AccessReviewItem.objects.bulk_create(items, batch_size=1_000))
            target = ("access_review", str(review.pk))
            audit.record(events.ACCESS_REVIEW_STARTED, by=by, target=target, data={"grants": count})
    except IntegrityError as error:
        if "access_review_one_open" in str(error):
            raise ReviewOpen from error
        raise
    return review


def items(review: AccessReview) -> QuerySet[AccessReviewItem]:
    """Return the grants of a review with who holds them, in the order of their ids."""
    return review.items.select_related("grant__user", "grant__permission").order_by("pk")


def decide(item_id: UUID | str, *, outcome: str, reason: str, by: Actor) -> AccessReviewItem:
    """Keep a grant, or revoke it now. A decision may be changed until the review is finished, but what was
    revoked stays revoked.

    Raises NoSuchItem, ReviewNotOpen, hierarchy.NotAllowed (also about one's own grant),
    hierarchy.ReasonMissing, errors.Unprocessable for another outcome.
    """
    if outcome not in Outcome.values:
        raise errors.Unprocessable(
            details=[errors.FieldError("outcome", _("Say keep or revoke."), "invalid_choice")]
        )
    if outcome == Outcome.REVOKE:
        hierarchy.demand_reason(reason)
    user = reviewer(by)
    with transaction.atomic():
        item = _open_item(item_id)
        holder = item.grant.user
        hierarchy.demand_over(hierarchy.Authority(user), holder, by)
        if outcome == Outcome.REVOKE and item.grant.revoked_at is None:
            delegation.revoke(holder, item.grant.permission.name, by=by, reason=reason)
        elif outcome == Outcome.KEEP and item.outcome == Outcome.REVOKE:
            raise delegation.NotGranted
        item.outcome, item.reason = outcome, reason.strip()[:500]
        item.decided_at, item.decided_by, item.decided_by_label = timezone.now(), user, user.email
        item.save(update_fields=["outcome", "reason", "decided_at", "decided_by", "decided_by_label"])
        audit.record(
            events.ACCESS_REVIEW_DECIDED,
            by=by,
            target=("grant", str(item.grant_id)),
            subject=str(holder.pk),
            data={"review": str(item.review_id), "outcome": outcome},
        )
    return item


def finish(review_id: UUID | str, *, by: Actor) -> AccessReview:
    """End a review and seal its outcome. Raises ReviewNotOpen, Undecided, hierarchy.NotAllowed."""
    user = reviewer(by)
    with transaction.atomic():
        reviews = AccessReview.objects.select_for_update()
        review = reviews.filter(pk=_uuid(review_id), finished_at=None).first()
        if review is None:
            raise ReviewNotOpen
        # A grant that ended by itself needs no decision.
        undecided = review.items.filter(_still_in_force("grant__"), outcome="").count()
        if undecided:
            raise Undecided(undecided)
        outcome = outcome_of(review, list(review.items.all()))
        review.outcome_digest, review.seal = crypto.digest(outcome).hex(), review.make_seal(outcome)
        review.finished_at, review.finished_by, review.finished_by_label = timezone.now(), user, user.email
        review.save()
        audit.record(
            events.ACCESS_REVIEW_FINISHED,
            by=by,
            target=("access_review", str(review.pk)),
            data={"outcome_sha256": review.outcome_digest},
        )
    return review


def is_unaltered(review: AccessReview) -> bool:
    """Whether the stored decisions of a finished review are the ones that were sealed."""
    return review.is_sealed_for(outcome_of(review, list(review.items.all())))


def csv_of(review: AccessReview) -> Iterator[str]:
    """Yield the review as CSV, line by line. No cell can become a formula in a spreadsheet."""
    yield _line(HEADINGS)
    for item in items(review).iterator(chunk_size=500):
        grant = item.grant
        yield _line(
            (
                str(grant.user_id), grant.user.email, grant.user.user_type, grant.permission.name,
                grant.permission.risk, grant.granted_at.isoformat(), grant.granted_by_label,
                grant.expires_at.isoformat() if grant.expires_at else "",
                item.last_used_at.isoformat() if item.last_used_at else "",
                item.outcome, item.decided_by_label, item.decided_at.isoformat() if item.decided_at else "",
                item.reason,
            )
        )  # fmt: skip


def reviewer(by: Actor) -> User:
    """Return who reviews. Raises hierarchy.NotAllowed for who may not revoke grants."""
    user = hierarchy.authority_of(by).user
    if user is None or not grants.has_perm(user, delegation.REVOKING):
        raise hierarchy.refused("cannot_review", by)
    return user


def _open_item(item_id: UUID | str) -> AccessReviewItem:
    rows = AccessReviewItem.objects.select_for_update(of=("self", "review"))
    item = rows.select_related("review", "grant__user", "grant__permission").filter(pk=_uuid(item_id)).first()
    if item is None:
        raise NoSuchItem
    if item.review.finished_at is not None:
        raise ReviewNotOpen
    return item


def _in_force() -> QuerySet[Grant]:
    return Grant.objects.filter(_still_in_force()).order_by("pk")


def _still_in_force(prefix: str = "") -> Q:
    endless, later = Q(**{f"{prefix}expires_at": None}), Q(**{f"{prefix}expires_at__gt": timezone.now()})
    return Q(**{f"{prefix}revoked_at": None}) & (endless | later)


def _uuid(text: UUID | str) -> UUID:
    try:
        return UUID(str(text))
    except ValueError:
        raise NoSuchItem from None


def _line(cells: tuple[str, ...]) -> str:
    written = io.StringIO()
    csv.writer(written).writerow([_harmless(cell) for cell in cells])
    return written.getvalue()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.lstrip(" ").startswith(_FORMULA) or cell.startswith(_FORMULA) else cell
