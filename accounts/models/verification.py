"""Codes that prove an e-mail address or a telephone number."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts.models.user import User
from mestore.lib.ids import uuid7


class VerificationCode(models.Model):
    """The one open code of an account for one kind of address, written only by `accounts.verification`.

    `code_mac` is keyed and covers the account, the address, the request and the session that asked: six
    digits cannot be found from the table, and a code counts nowhere else. `sends` counts the codes of the
    present hour; a new code never brings back what an hour allows.
    """

    class Kind(models.TextChoices):
        EMAIL = "EMAIL", _("e-mail")
        SMS = "SMS", _("telephone")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=5, choices=Kind, editable=False)
    request = models.UUIDField(editable=False)
    code_mac = models.BinaryField(max_length=32, editable=False)
    attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    sent_at = models.DateTimeField(editable=False)
    expires_at = models.DateTimeField(editable=False)
    used_at = models.DateTimeField(null=True, editable=False)
    window_ends_at = models.DateTimeField(editable=False)
    sends = models.PositiveSmallIntegerField(default=1, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "kind"], name="verification_one_per_kind"),
            models.CheckConstraint(condition=Q(kind__in=["EMAIL", "SMS"]), name="verification_kind_known"),
        ]
        indexes = [models.Index(fields=["window_ends_at"], name="verification_by_end")]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"
