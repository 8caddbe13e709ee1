"""What waits for a click in a mailbox: a new password, a new address. Neither table is on any page."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models.user import User
from mestore.lib.ids import uuid7


class PasswordReset(models.Model):
    """One reset link, written only by `accounts.password_reset`. Of its token it keeps a MAC
    that covers the row (`accounts.links`).

    `auth_epoch` is the account's when the link was made: a password, role or state that changed since makes
    it worthless. Rows without an account belong to addresses that nobody has; they cost what others cost.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, related_name="+")
    token_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    auth_epoch = models.PositiveIntegerField(default=0, editable=False)
    started_by = models.CharField(max_length=64, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(editable=False)
    used_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="password_reset_ends_after_start"
            ),
        ]
        indexes = [models.Index(fields=["expires_at"], name="password_reset_by_end")]

    def __str__(self) -> str:
        return f"reset {self.pk}"


class AddressChange(models.Model):
    """A wish for another address of an account, written only by `accounts.addresses`.

    The new address is proved by a token that was sent there, the old one can stop it by a token of its own.
    One of each kind may be open; of all tokens MACs are kept that cover the
    row (`accounts.links`).
    """

    class Kind(models.TextChoices):
        PRIMARY = "PRIMARY", _("e-mail")
        RECOVERY = "RECOVERY", _("second address")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=8, choices=Kind, editable=False)
    address = models.CharField(max_length=254, editable=False)
    former = models.CharField(max_length=254, blank=True, editable=False)
    token_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    cancel_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    auth_epoch = models.PositiveIntegerField(editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(editable=False)
    confirmed_at = models.DateTimeField(null=True, editable=False)
    cancelled_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "kind"],
                condition=Q(confirmed_at=None, cancelled_at=None),
                name="address_change_one_open",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["PRIMARY", "RECOVERY"]), name="address_change_kind_known"
            ),
            models.CheckConstraint(
                condition=Q(confirmed_at=None) | Q(cancelled_at=None), name="address_change_one_end"
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="address_change_ends_after_start"
            ),
        ]
        indexes = [models.Index(fields=["expires_at"], name="address_change_by_end")]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"
