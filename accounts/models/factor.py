"""Second factors. Their secrets live in tables that no console page shows."""

from __future__ import annotations

import secrets
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_otp.models import Device, DeviceManager

from accounts.models.user import User
from mestore.lib.fields import EncryptedField

# Every integer up to here survives JavaScript, and so many ids never meet.
_LARGEST_ID = 2**53 - 1


def new_device_id() -> int:
    """Return a random id, known before the insert: the encrypted seed is bound to the row's id."""
    return secrets.randbelow(_LARGEST_ID) + 1


class TotpDevice(Device):  # type: ignore[misc] # the library has no types
    """An authenticator application. Codes are proved through `accounts.totp.verify`, which counts failures;
    the framework's own `verify_token` stays what the base class makes it: always no."""

    id = models.BigIntegerField(primary_key=True, default=new_device_id, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(_("name"), max_length=64)
    confirmed = models.BooleanField(_("confirmed"), default=False)
    # Bound to the account as well as to the row: a device that is handed to another account by SQL is dead.
    secret = EncryptedField(bound_with=("user_id",))
    # The last time step whose code was accepted; a code counts only when its step is later.
    last_step = models.BigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    confirmed_at = models.DateTimeField(_("confirmed"), null=True, editable=False)
    last_used_at = models.DateTimeField(_("last used"), null=True, editable=False)
    # Of a device that is not confirmed yet: how long its secret waits, and how many codes were tried.
    expires_at = models.DateTimeField(_("waits until"), null=True, editable=False)
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0, editable=False)
    bound_session = models.UUIDField(_("session of binding"), null=True, editable=False)
    bound_address = models.CharField(
        _("address of binding"), max_length=45, default="", db_default="", blank=True, editable=False
    )

    objects: ClassVar[models.Manager[TotpDevice]] = DeviceManager()

    class Meta:
        verbose_name = _("authenticator application")
        verbose_name_plural = _("authenticator applications")
        constraints = [
            models.CheckConstraint(
                condition=Q(confirmed=False) | Q(confirmed_at__isnull=False), name="totp_confirmed_has_moment"
            )
        ]

    def __str__(self) -> str:
        return f"totp {self.pk} ({self.name})"

    def claim(self, step: int) -> bool:
        """Use up the code of `step`: true for exactly one caller, in whatever process. Saves by itself."""
        claimed = TotpDevice.objects.filter(pk=self.pk, last_step__lt=step).update(
            last_step=step, last_used_at=timezone.now()
        )
        return claimed == 1
