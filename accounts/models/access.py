"""Why somebody was refused, when a grant was last used, who reviewed it, and the sealed account."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models.permission import Grant
from accounts.models.user import User
from mestore.lib import canonical, crypto
from mestore.lib.ids import uuid7

_REVIEW_PURPOSE = "access-review"


class AccessDecision(models.Model):
    """One "no": which rule said it, what was asked, what would have been needed. For support, never for the
    caller. Written on a connection of its own, without foreign keys: it outlives a rolled-back request."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    at = models.DateTimeField(_("when"), default=timezone.now)
    request_id = models.CharField(_("request"), max_length=64, blank=True)
    user_id = models.UUIDField(_("account"), null=True)
    session_id = models.CharField(_("session"), max_length=64, blank=True)
    asked = models.CharField(_("asked for"), max_length=100)
    rule = models.CharField(_("rule"), max_length=32)
    inputs = models.JSONField(_("what was seen"), default=dict)
    limits = models.JSONField(_("what the rule needs"), default=dict)

    class Meta:
        verbose_name = _("refusal")
        verbose_name_plural = _("refusals")
        indexes = [
            models.Index(fields=["request_id"], name="decision_by_request"),
            models.Index(fields=["user_id", "-id"], name="decision_by_user"),
        ]

    def __str__(self) -> str:
        return f"{self.asked}: {self.rule} ({self.pk})"


class GrantUse(models.Model):
    """When a grant last let somebody through, to the hour: what an access review asks first."""

    grant = models.OneToOneField(Grant, on_delete=models.CASCADE, primary_key=True, related_name="use")
    last_used_at = models.DateTimeField(_("last used"))

    def __str__(self) -> str:
        return f"use of {self.grant_id}"


class AccessReview(models.Model):
    """One look at all grants in force. `seal` authenticates the outcome once it is finished."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    started_at = models.DateTimeField(_("started"), default=timezone.now)
    started_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    started_by_label = models.CharField(_("started by"), max_length=254)
    finished_at = models.DateTimeField(_("finished"), null=True)
    finished_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    finished_by_label = models.CharField(_("finished by"), max_length=254, blank=True)
    outcome_digest = models.CharField(_("fingerprint of the outcome"), max_length=64, blank=True)
    seal = models.BinaryField(max_length=32, null=True, editable=False)

    class Meta:
        verbose_name = _("access review")
        verbose_name_plural = _("access reviews")
        constraints = [
            models.UniqueConstraint(
                models.Value(1), condition=Q(finished_at__isnull=True), name="access_review_one_open"
            ),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=True, seal__isnull=True, outcome_digest="")
                | (Q(finished_at__isnull=False, seal__isnull=False, finished_by__isnull=False)),
                name="access_review_finished_is_sealed",
            ),
        ]

    def __str__(self) -> str:
        return f"access review {self.pk}"

    def make_seal(self, outcome: bytes) -> bytes:
        """Return the seal of this review with `outcome` (canonical bytes)."""
        return crypto.mac(outcome, purpose=_REVIEW_PURPOSE)

    def is_sealed_for(self, outcome: bytes) -> bool:
        """Whether `outcome` is what was sealed when the review was finished."""
        return self.seal is not None and crypto.verify_mac(outcome, self.seal, purpose=_REVIEW_PURPOSE)


class AccessReviewItem(models.Model):
    """One grant as it stood when the review began, and what was decided about it."""

    class Outcome(models.TextChoices):
        KEEP = "keep", _("keep")
        REVOKE = "revoke", _("revoke")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    review = models.ForeignKey(AccessReview, on_delete=models.PROTECT, related_name="items")
    grant = models.ForeignKey(Grant, on_delete=models.PROTECT, related_name="+")
    last_used_at = models.DateTimeField(_("last used"), null=True)
    outcome = models.CharField(_("outcome"), max_length=8, choices=Outcome.choices, blank=True)
    decided_at = models.DateTimeField(_("decided"), null=True)
    decided_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    decided_by_label = models.CharField(_("decided by"), max_length=254, blank=True)
    reason = models.CharField(_("reason"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("reviewed grant")
        verbose_name_plural = _("reviewed grants")
        constraints = [
            models.UniqueConstraint(fields=["review", "grant"], name="review_item_once"),
            models.CheckConstraint(
                condition=Q(outcome="", decided_at__isnull=True, decided_by__isnull=True)
                | Q(outcome__in=["keep", "revoke"], decided_at__isnull=False, decided_by__isnull=False),
                name="review_item_decided_by_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.grant_id} in {self.review_id}"

    def facts(self) -> dict[str, Any]:
        """Return what the signed outcome says about this grant."""
        return {
            "grant": self.grant_id,
            "outcome": self.outcome,
            "decided_by": self.decided_by_id,
            "decided_at": self.decided_at,
            "reason": self.reason,
        }


class BreakGlass(models.Model):
    """One sealed code that opens the account of emergencies, once. Only a slow hash of it is kept."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    code_hash = models.CharField(max_length=255, editable=False)
    sealed_at = models.DateTimeField(default=timezone.now)
    sealed_by_label = models.CharField(max_length=254)
    replaced_at = models.DateTimeField(null=True)
    opened_at = models.DateTimeField(null=True)
    opened_from = models.CharField(max_length=45, blank=True)
    open_until = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user"],
                condition=Q(opened_at__isnull=True, replaced_at__isnull=True),
                name="break_glass_one_sealed",
            ),
            models.CheckConstraint(
                condition=Q(opened_at__isnull=True, open_until__isnull=True)
                | Q(opened_at__isnull=False, open_until__isnull=False),
                name="break_glass_open_has_end",
            ),
        ]

    def __str__(self) -> str:
        return f"break-glass seal {self.pk}"


def outcome_of(review: AccessReview, items: list[AccessReviewItem]) -> bytes:
    """Return the canonical bytes of a review's outcome."""
    return canonical.dumps(
        {
            "review": review.pk,
            "started_at": review.started_at,
            "started_by": review.started_by_id,
            "grants": [item.facts() for item in sorted(items, key=lambda item: item.pk)],
        }
    )
