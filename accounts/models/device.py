"""Browsers that an account was signed in from before."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models.user import User
from mestore.lib.ids import uuid7


class KnownDevice(models.Model):
    """One browser of one account, written only by `accounts.devices`. Of its cookie it keeps the SHA-256.

    It opens nothing: it only has failed attempts counted apart from those of strangers.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    token_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    name = models.CharField(_("device"), max_length=200, blank=True)
    address = models.GenericIPAddressField(_("address"), null=True)
    created_at = models.DateTimeField(_("known since"), default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(_("last sign-in"), null=True, editable=False)
    expires_at = models.DateTimeField(_("known until"), editable=False)

    class Meta:
        verbose_name = _("known device")
        verbose_name_plural = _("known devices")
        constraints = [
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="known_device_ends_after_start"
            ),
        ]
        indexes = [models.Index(fields=["expires_at"], name="known_device_by_end")]

    def __str__(self) -> str:
        return f"device {self.pk}"


class FactorFreeze(models.Model):
    """Until when no factor, password or address of an account may change: somebody said "this was not me"."""

    user = models.OneToOneField(User, primary_key=True, on_delete=models.CASCADE, related_name="+")
    why = models.CharField(_("why"), max_length=32)
    placed_at = models.DateTimeField(_("since"))
    until = models.DateTimeField(_("until"))

    class Meta:
        verbose_name = _("freeze of factor changes")
        verbose_name_plural = _("freezes of factor changes")
        constraints = [
            models.CheckConstraint(condition=Q(until__gt=F("placed_at")), name="factor_freeze_ends_later"),
            models.CheckConstraint(condition=~Q(why=""), name="factor_freeze_has_reason"),
        ]

    def __str__(self) -> str:
        return f"freeze of {self.user_id} until {self.until}"
