"""A vendor disagrees with what was charged."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from finance.models.commissions import Commission
from finance.states import ACTIVE_DISPUTES, DisputeStatus
from mestore.lib.ids import uuid7


class Dispute(models.Model):
    """One dispute of one commission; at most one of a commission is active."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    commission = models.ForeignKey(
        Commission, models.PROTECT, related_name="disputes", verbose_name=_("commission")
    )
    vendor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", db_index=False, verbose_name=_("vendor")
    )
    status = models.CharField(
        _("status"), max_length=16, choices=[(status.value, status.value) for status in DisputeStatus],
        default=DisputeStatus.OPEN.value,
    )  # fmt: skip
    subject = models.CharField(_("subject"), max_length=100)
    description = models.CharField(_("description"), max_length=2000)
    # The commission's status before the dispute, to which a refusal sends it back.
    commission_status = models.CharField(max_length=16, editable=False)
    resolution = models.CharField(_("resolution"), max_length=1000, blank=True, default="", db_default="")
    decided_by = models.UUIDField(_("decided by"), null=True, editable=False)
    opened_at = models.DateTimeField(_("opened"), db_default=Now())
    decided_at = models.DateTimeField(_("decided"), null=True, blank=True)
    updated_at = models.DateTimeField(_("changed"), db_default=Now())

    class Meta:
        verbose_name = _("dispute")
        verbose_name_plural = _("disputes")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["commission"], condition=Q(status__in=[s.value for s in ACTIVE_DISPUTES]),
                name="dispute_one_active_per_commission",
            ),
            models.CheckConstraint(
                condition=Q(status__in=[status.value for status in DisputeStatus]),
                name="dispute_status_known",
            ),
        ]  # fmt: skip
        indexes: ClassVar = [
            models.Index(fields=["vendor", "-id"], name="dispute_by_vendor"),
            models.Index(fields=["status", "-id"], name="dispute_by_status"),
        ]

    def __str__(self) -> str:
        return f"{self.commission_id} {self.subject}"
