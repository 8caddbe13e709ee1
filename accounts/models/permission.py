"""Permissions (`resource.action.scope`) and the grants that give them to people."""

from __future__ import annotations

from enum import StrEnum

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Concat, Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models.user import User
from accounts.roles import Action, Resource, Risk, Scope
from mestore.lib.ids import uuid7


def _words(kind: type[StrEnum]) -> list[tuple[str, str]]:
    return [(str(word), str(word)) for word in kind]


class Permission(models.Model):
    """One thing that can be allowed. Its own clearance wins over the sums of the role table."""

    name = models.CharField(_("name"), max_length=64, unique=True)
    resource = models.CharField(_("resource"), max_length=16, choices=_words(Resource))
    action = models.CharField(_("action"), max_length=16, choices=_words(Action))
    scope = models.CharField(_("scope"), max_length=16, choices=_words(Scope))
    required_clearance = models.PositiveSmallIntegerField(_("clearance"))
    risk = models.CharField(_("risk"), max_length=8, choices=_words(Risk))
    requires_mfa = models.BooleanField(_("needs a second factor"), default=False)
    requires_approval = models.BooleanField(_("needs a second person"), default=False)
    is_system = models.BooleanField(_("system permission"), default=False)
    # When and where it counts: see `accounts.conditions`. Nothing: always and everywhere.
    conditions = models.JSONField(_("conditions"), null=True, blank=True)

    class Meta:
        verbose_name = _("permission")
        verbose_name_plural = _("permissions")
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    name=Lower(
                        Concat(F("resource"), models.Value("."), F("action"), models.Value("."), F("scope"))
                    )
                ),
                name="permission_name_is_its_parts",
            ),
            models.CheckConstraint(
                condition=Q(required_clearance__range=(1, 5)), name="permission_clearance_1_to_5"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Grant(models.Model):
    """One permission given to one person, until it expires or is revoked. Rows are never deleted."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="grants")
    permission = models.ForeignKey(Permission, on_delete=models.PROTECT, related_name="grants")
    granted_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    granted_by_label = models.CharField(_("granted by"), max_length=254)
    granted_at = models.DateTimeField(_("granted"), default=timezone.now)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    reason = models.CharField(_("reason"), max_length=500)
    # Beside those of the permission: both must hold.
    conditions = models.JSONField(_("conditions"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)
    revoked_by_label = models.CharField(_("revoked by"), max_length=254, blank=True)
    revoked_why = models.CharField(_("why revoked"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("grant")
        verbose_name_plural = _("grants")
        constraints = [
            models.UniqueConstraint(
                fields=["user", "permission"], condition=Q(revoked_at__isnull=True), name="grant_one_open"
            ),
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gt=F("granted_at")),
                name="grant_ends_after_start",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.permission_id} → {self.user_id} ({self.pk})"

    @property
    def is_active(self) -> bool:
        """Whether the grant counts now."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())
