"""Failure counters of sign-in and factors."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class LockoutCounter(models.Model):
    """Failures of one account or network within its window, written only by `accounts.lockout`.

    The key is a MAC of what is counted, so the table says nothing about names that were typed, known or
    not. Rows commit on a connection of their own: an attempt that is rolled back still counts.
    """

    key = models.BinaryField(primary_key=True, max_length=32, editable=False)
    kind = models.CharField(_("budget"), max_length=32)
    failures = models.PositiveIntegerField(_("failures"))
    budget = models.PositiveIntegerField(_("allowed"))
    window_ends_at = models.DateTimeField(_("window ends"))
    locked_until = models.DateTimeField(_("locked until"), null=True)
    failed_at = models.DateTimeField(_("last failure"))

    class Meta:
        verbose_name = _("lockout")
        verbose_name_plural = _("lockouts")
        indexes = [models.Index(fields=["window_ends_at"], name="lockout_by_end")]

    def __str__(self) -> str:
        return f"{self.kind} {bytes(self.key).hex()[:12]}"
