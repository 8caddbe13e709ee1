"""Messages that wait to be sent. The table is on no page: what waits here may carry codes and links."""

from __future__ import annotations

import datetime as dt

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from mestore.lib.fields import EncryptedField
from mestore.lib.ids import uuid7


class Channel(models.TextChoices):
    """How a message leaves the house. NONE is a decoy: it costs what a message costs and goes nowhere."""

    MAIL = "mail"
    SMS = "sms"
    NONE = "none"


class OutboxMessage(models.Model):
    """One message to one address, deleted as soon as it is sent or has no use any more.

    `payload` holds address, subject and text as sealed JSON, bound to this row. `attempts` and
    `next_attempt_at` change together in one conditional UPDATE, which is both the claim of a sender and the
    pause before the next one.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    channel = models.CharField(max_length=4, choices=Channel, editable=False)
    template = models.CharField(max_length=64, editable=False)
    subject = models.CharField(max_length=64, blank=True, editable=False)
    payload = EncryptedField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(editable=False)
    attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    next_attempt_at = models.DateTimeField(editable=False)
    last_error = models.CharField(max_length=100, blank=True, editable=False)

    class Meta:
        app_label = "monitoring"
        constraints = [
            models.CheckConstraint(
                condition=Q(channel__in=["mail", "sms", "none"]), name="outbox_channel_known"
            ),
        ]
        indexes = [models.Index(fields=["next_attempt_at"], name="outbox_by_next_attempt")]

    def __str__(self) -> str:
        return f"{self.channel} {self.template} {self.pk}"

    def claim(self, now: dt.datetime, pause: dt.timedelta) -> bool:
        """Take this message for one attempt: true for exactly one caller. Saves by itself."""
        claimed = OutboxMessage.objects.filter(
            Q(attempts=0) | Q(next_attempt_at__lte=now), pk=self.pk, attempts=self.attempts
        ).update(attempts=F("attempts") + 1, next_attempt_at=now + pause)
        return claimed == 1
