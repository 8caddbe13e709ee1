"""The shop of a vendor."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models.user import User


class VendorProfile(models.Model):
    """What a vendor shows and where its approval stands. Its key is the user's id."""

    class Status(models.TextChoices):
        DRAFT = "draft", _("draft")
        PENDING_DOCUMENTS = "pending_documents", _("pending documents")
        PENDING_APPROVAL = "pending_approval", _("pending approval")
        APPROVED = "approved", _("approved")
        REJECTED = "rejected", _("rejected")

    class BusinessType(models.TextChoices):
        PERSON = "persona_natural", _("natural person")
        COMPANY = "empresa", _("company")

    user = models.OneToOneField(
        User, on_delete=models.CASCADE, primary_key=True, related_name="vendor_profile"
    )
    vendor_status = models.CharField(_("status"), max_length=20, choices=Status, default=Status.DRAFT)
    business_name = models.CharField(_("business name"), max_length=200, blank=True)
    business_description = models.TextField(_("description"), max_length=2000, blank=True)
    website_url = models.URLField(_("website"), blank=True)
    city = models.CharField(_("city"), max_length=100, blank=True)
    state = models.CharField(_("state"), max_length=100, blank=True)
    postal_code = models.CharField(_("postal code"), max_length=16, blank=True)
    business_type = models.CharField(
        _("kind of business"), max_length=20, blank=True, default="", db_default="", choices=BusinessType
    )
    primary_category = models.CharField(_("category"), max_length=32, blank=True, default="", db_default="")
    terms_accepted_at = models.DateTimeField(_("terms accepted"), null=True, blank=True, editable=False)
    avatar_url = models.CharField(_("picture"), max_length=500, blank=True, default="", db_default="")
    shipping_policy = models.TextField(
        _("shipping policy"), max_length=2000, blank=True, default="", db_default=""
    )
    return_policy = models.TextField(
        _("return policy"), max_length=2000, blank=True, default="", db_default=""
    )
    # NULL: nothing was ever said. Small flat objects; their shape is checked where they come in.
    social_media_links = models.JSONField(_("social media"), null=True, blank=True)
    business_hours = models.JSONField(_("business hours"), null=True, blank=True)
    notification_preferences = models.JSONField(_("notifications"), null=True, blank=True)
    decided_at = models.DateTimeField(_("decided"), null=True, blank=True, editable=False)
    decision_reason = models.CharField(
        _("why"), max_length=500, blank=True, default="", db_default="", editable=False
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("vendor")
        verbose_name_plural = _("vendors")
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    vendor_status__in=[
                        "draft",
                        "pending_documents",
                        "pending_approval",
                        "approved",
                        "rejected",
                    ]
                ),
                name="vendor_status_known",
            )
        ]

    def __str__(self) -> str:
        return self.business_name or f"vendor {self.user_id}"
