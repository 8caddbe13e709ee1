"""What a person agreed to or took back: rows that are only ever added."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mestore.lib.ids import uuid7


class Consent(models.Model):
    """One decision of one person about one version of one text. The newest of a document is the one in force.

    Nothing in a row is personal: address and agent are sealed in the audit event `event_id`, under the
    person's own key. So the row stays when the person is erased and still shows what was agreed to, and
    the database lets nobody change or delete one.
    """

    class Channel(models.TextChoices):
        REGISTRATION = "registration", _("registration")
        VENDOR_REGISTRATION = "vendor_registration", _("registration of a vendor")
        API = "api", _("own account")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    person_id = models.UUIDField(_("account"))  # no foreign key: the row outlives the account
    document = models.CharField(_("text"), max_length=32)
    version = models.CharField(_("version"), max_length=16)
    language = models.CharField(_("language"), max_length=8)
    text_sha256 = models.CharField("SHA-256", max_length=64)
    purposes = ArrayField(models.CharField(max_length=32), verbose_name=_("purposes"))
    given = models.BooleanField(_("given"))
    at = models.DateTimeField(_("when"), default=timezone.now)
    channel = models.CharField(_("how"), max_length=20, choices=Channel.choices)
    session_id = models.UUIDField(_("session"), null=True)
    event_id = models.UUIDField(_("audit event"))

    class Meta:
        verbose_name = _("consent")
        verbose_name_plural = _("consents")
        indexes = [models.Index(fields=["person_id", "document", "-id"], name="consent_of_person")]
        constraints = [
            models.CheckConstraint(
                condition=Q(text_sha256__regex=r"^[0-9a-f]{64}$"), name="consent_text_has_digest"
            ),
            models.CheckConstraint(
                condition=Q(channel__in=["registration", "vendor_registration", "api"]),
                name="consent_channel_known",
            ),
            models.CheckConstraint(
                condition=~Q(document="") & ~Q(version="") & ~Q(language=""), name="consent_names_its_text"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.document} {self.version} of {self.person_id}"
