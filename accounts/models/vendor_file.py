"""What the back office keeps about a vendor: notes, and where each document stands."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models.user import User
from mestore.lib.ids import uuid7


class VendorNote(models.Model):
    """A remark of the staff about a vendor. The vendor never sees it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    vendor = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    text = models.TextField(_("note"), max_length=2000)
    author = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    author_label = models.CharField(_("written by"), max_length=254)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    def __str__(self) -> str:
        return f"note {self.pk} about {self.vendor_id}"


class VendorDocument(models.Model):
    """A document that a vendor handed in, by its name and digest; the file itself is not kept here."""

    class Kind(models.TextChoices):
        IDENTITY = "cedula", _("identity card")
        TAX = "rut", _("tax registration")
        COMMERCE = "camara_comercio", _("chamber of commerce")
        BANK = "certificado_bancario", _("bank certificate")
        OTHER = "otro", _("other")

    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        VERIFIED = "verified", _("verified")
        REJECTED = "rejected", _("rejected")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    vendor = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(_("kind"), max_length=24, choices=Kind)
    file_name = models.CharField(_("file name"), max_length=200)
    digest = models.CharField("SHA-256", max_length=64)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.PENDING)
    reason = models.CharField(_("why"), max_length=500, blank=True)
    reviewed_by_label = models.CharField(_("reviewed by"), max_length=254, blank=True)
    reviewed_at = models.DateTimeField(_("reviewed"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["vendor", "digest"], name="vendor_document_once"),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "verified", "rejected"]),
                name="vendor_document_status_known",
            ),
            models.CheckConstraint(
                condition=Q(status="pending") | Q(reviewed_at__isnull=False),
                name="vendor_document_review_has_moment",
            ),
            models.CheckConstraint(
                condition=Q(digest__regex=r"^[0-9a-f]{64}$"), name="vendor_document_digest_is_sha256"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"
