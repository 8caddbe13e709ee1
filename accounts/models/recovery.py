"""Getting back in without a factor: the proofs somebody brings, and the reset they lead to."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models.user import User
from mestore.lib import ids


class RecoveryCase(models.Model):
    """Somebody says that they lost a factor. A name that no account has gets a case too: they look alike."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, related_name="+")
    token_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    code_hash = models.BinaryField(max_length=32, null=True, editable=False)
    code_expires_at = models.DateTimeField(null=True, editable=False)
    attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    proofs = ArrayField(models.CharField(max_length=16), default=list, editable=False)
    created_at = models.DateTimeField(_("opened"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("ends"))
    completed_at = models.DateTimeField(_("completed"), null=True, editable=False)

    class Meta:
        verbose_name = _("recovery case")
        verbose_name_plural = _("recovery cases")
        indexes = [models.Index(fields=["expires_at"], name="recovery_case_end")]
        constraints = [
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="recovery_case_ends_after_start"
            )
        ]

    def __str__(self) -> str:
        return f"recovery case {self.pk}"


class FactorReset(models.Model):
    """All second factors of an account are about to be removed, unless somebody says that it was not them."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+", verbose_name=_("account"))
    proofs = ArrayField(models.CharField(max_length=16), verbose_name=_("proofs"), editable=False)
    cancel_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    requested_at = models.DateTimeField(_("requested"), default=timezone.now, editable=False)
    due_at = models.DateTimeField(_("takes effect"))
    cancelled_at = models.DateTimeField(_("cancelled"), null=True, editable=False)
    cancelled_by = models.CharField(_("cancelled by"), max_length=64, blank=True, editable=False)
    carried_out_at = models.DateTimeField(_("carried out"), null=True, editable=False)

    class Meta:
        verbose_name = _("factor reset")
        verbose_name_plural = _("factor resets")
        indexes = [
            models.Index(
                fields=["due_at"],
                name="factor_reset_due",
                condition=Q(cancelled_at=None, carried_out_at=None),
            )
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["user"],
                condition=Q(cancelled_at=None, carried_out_at=None),
                name="factor_reset_one_open",
            ),
            models.CheckConstraint(
                condition=Q(cancelled_at=None) | Q(carried_out_at=None), name="factor_reset_one_end"
            ),
            models.CheckConstraint(
                condition=Q(due_at__gte=F("requested_at")), name="factor_reset_due_after_request"
            ),
        ]

    def __str__(self) -> str:
        return f"factor reset {self.pk}"

    @property
    def is_open(self) -> bool:
        """Whether it can still be cancelled or carried out."""
        return self.cancelled_at is None and self.carried_out_at is None
