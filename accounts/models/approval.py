"""Requests for a second person: what was asked, who decided, and that it was used once."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models.user import User
from mestore.lib import canonical, crypto
from mestore.lib.actor import Actor
from mestore.lib.ids import uuid7

_PURPOSE = "approval"


class ApprovalRequest(models.Model):
    """One action that waits for another person. `seal` authenticates every column that decides something,
    so that a request which was written, exchanged or decided by SQL opens nothing."""

    class State(models.TextChoices):
        OPEN = "open", _("waiting")
        APPROVED = "approved", _("approved")
        DONE = "done", _("carried out")
        REFUSED = "refused", _("refused")
        WITHDRAWN = "withdrawn", _("withdrawn")
        EXPIRED = "expired", _("expired")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    action = models.CharField(_("action"), max_length=64)
    target_type = models.CharField(_("kind of target"), max_length=32)
    target_id = models.CharField(_("target"), max_length=64)
    # The person whom it is about, who decides as little as the person who asked.
    about = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    details = models.JSONField(_("details"), default=dict)
    fingerprint = models.BinaryField(max_length=32, editable=False)
    reason = models.CharField(_("reason"), max_length=500)
    asked_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    asked_by_label = models.CharField(_("asked by"), max_length=254)
    asked_at = models.DateTimeField(_("asked"), default=timezone.now)
    expires_at = models.DateTimeField(_("waits until"))
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.OPEN)
    decided_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    decided_by_label = models.CharField(_("decided by"), max_length=254, blank=True)
    decided_at = models.DateTimeField(_("decided"), null=True)
    decided_why = models.CharField(_("why"), max_length=500, blank=True)
    seal = models.BinaryField(max_length=32, editable=False)

    class Meta:
        verbose_name = _("approval")
        verbose_name_plural = _("approvals")
        constraints = [
            models.UniqueConstraint(
                fields=["fingerprint", "asked_by"], condition=Q(state="open"), name="approval_one_open"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["open", "approved", "done", "refused", "withdrawn", "expired"]),
                name="approval_state_known",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["approved", "done", "refused"])
                | (Q(decided_by__isnull=False, decided_at__isnull=False) & ~Q(decided_by=F("asked_by"))),
                name="approval_by_another_person",
            ),
            models.CheckConstraint(
                condition=Q(about__isnull=True) | Q(decided_by__isnull=True) | ~Q(decided_by=F("about")),
                name="approval_not_by_its_target",
            ),
            models.CheckConstraint(condition=Q(expires_at__gt=F("asked_at")), name="approval_ends_later"),
        ]
        indexes = [models.Index(fields=["state", "-id"], name="approval_by_state")]

    def __str__(self) -> str:
        return f"{self.action} ({self.pk})"

    @property
    def target(self) -> tuple[str, str]:
        return self.target_type, self.target_id

    @property
    def asker(self) -> Actor:
        """Who asked, for the use case that is carried out in their name."""
        return Actor(
            kind="user", id=str(self.asked_by_id), label=self.asked_by_label, role=self.asked_by.user_type
        )

    def waits(self) -> bool:
        """Whether it can still be decided."""
        return self.state == self.State.OPEN and self.expires_at > timezone.now()

    def make_seal(self, **changes: Any) -> bytes:
        """Return the seal of this row as it will be with `changes`."""
        return crypto.mac(self._sealed(changes), purpose=_PURPOSE)

    def is_intact(self) -> bool:
        """Whether the row is as the application wrote it."""
        return self.fingerprint_of(self.action, self.target, self.details) == bytes(
            self.fingerprint
        ) and crypto.verify_mac(self._sealed({}), self.seal, purpose=_PURPOSE)

    def move(self, *, earlier: str, **changes: Any) -> bool:
        """Write `changes` if the row is still in state `earlier`, and alive: true for exactly one caller."""
        moved = ApprovalRequest.objects.filter(
            pk=self.pk, state=earlier, expires_at__gt=timezone.now(), seal=bytes(self.seal)
        ).update(**changes, seal=self.make_seal(**changes))
        return moved == 1

    @staticmethod
    def fingerprint_of(action: str, target: tuple[str, str], details: dict[str, Any]) -> bytes:
        """Return what two requests for the same thing have in common."""
        return crypto.digest(canonical.dumps({"action": action, "target": list(target), "details": details}))

    def _sealed(self, changes: dict[str, Any]) -> bytes:
        def now(name: str) -> Any:
            return changes.get(name, getattr(self, name))

        decided_by = changes["decided_by"].pk if "decided_by" in changes else self.decided_by_id
        values = {
            "id": self.pk,
            "fingerprint": bytes(self.fingerprint).hex(),
            "about": self.about_id,
            "asked_by": self.asked_by_id,
            "asked_at": self.asked_at,
            "expires_at": self.expires_at,
            "state": str(now("state")),
            "decided_by": decided_by,
            "decided_at": now("decided_at"),
        }
        return canonical.dumps(values)
