"""Backup codes. Their verifiers live in a table that no console page shows."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.db import models
from django.db.models import F, OuterRef, Subquery
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_otp.models import Device, DeviceManager

from accounts.models.factor import new_device_id
from accounts.models.user import User
from mestore.lib import ids, sql

_EXCHANGE = """
WITH used AS (
    UPDATE accounts_backupcode c SET used_at = %s
      FROM accounts_backupcodeset s
     WHERE c.id = %s AND c.used_at IS NULL AND s.id = c.code_set_id AND s.generation = c.generation
    RETURNING c.code_set_id, c.generation
)
INSERT INTO accounts_backupcode
       (id, code_set_id, generation, selector, verifier, next_selector, next_verifier, created_at)
SELECT %s, code_set_id, generation, %s, %s, %s, %s, %s FROM used
"""


class BackupCodeSet(Device):  # type: ignore[misc] # the library has no types
    """The backup codes of one account. `generation` says which codes count; a new one ends all earlier."""

    id = models.BigIntegerField(primary_key=True, default=new_device_id, editable=False)
    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=64, default="", blank=True, editable=False)
    confirmed = models.BooleanField(default=True, editable=False)
    generation = models.UUIDField(default=ids.uuid7, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    objects: ClassVar[models.Manager[BackupCodeSet]] = DeviceManager()

    class Meta:
        verbose_name = _("set of backup codes")
        verbose_name_plural = _("sets of backup codes")

    def __str__(self) -> str:
        return f"backup codes {self.pk}"


class BackupCode(models.Model):
    """One code: the part that finds it, and the slow hash of the part that proves it."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    code_set = models.ForeignKey(BackupCodeSet, on_delete=models.CASCADE, related_name="codes")
    generation: models.UUIDField[UUID, UUID] = models.UUIDField(editable=False)
    selector = models.CharField(max_length=4)
    verifier = models.CharField(max_length=255)
    # The code that takes this one's place, hashed in advance; its text follows from this one's and a pepper.
    next_selector = models.CharField(max_length=4, default="", db_default="", editable=False)
    next_verifier = models.CharField(max_length=255, default="", db_default="", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    used_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["code_set", "generation", "selector"], name="backup_code_found_once"
            )
        ]

    def __str__(self) -> str:
        return f"backup code {self.pk}"

    def claim(self) -> bool:
        """Use this code up: true for exactly one caller, and for none once a newer set was made."""
        current = BackupCodeSet.objects.filter(pk=OuterRef("code_set_id")).values("generation")
        claimed = (
            BackupCode.objects.filter(pk=self.pk, used_at=None)
            .annotate(current=Subquery(current))
            .filter(generation=F("current"))
            .update(used_at=timezone.now())
        )
        return claimed == 1

    def exchange(self, other: BackupCode) -> bool:
        """As `claim`, and put `other` in its place, in the same statement."""
        now = timezone.now()
        row = [other.pk, other.selector, other.verifier, other.next_selector, other.next_verifier, now]
        return sql.execute(_EXCHANGE, [now, self.pk, *row]) == 1
