"""Passkeys, and the challenges they answer. No console page shows either table."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_otp.models import Device, DeviceManager

from accounts.models.factor import new_device_id
from accounts.models.user import User
from mestore.lib import crypto, ids

_PURPOSE = "passkey"
_LONGEST_CREDENTIAL_ID = 1_023  # what the standard allows


class Passkey(Device):  # type: ignore[misc] # the library has no types
    """A public key whose private half an authenticator keeps. Proved through `accounts.passkeys` only.

    `seal` authenticates the key together with the row and the account: a key that was exchanged by SQL, or a
    row that was handed to another account, is refused before any signature is looked at.
    """

    class Reason(models.TextChoices):
        COUNTER = "counter", _("its counter went back: there may be a copy of it")
        NATURE = "nature", _("it no longer is the kind of key that was registered")

    id = models.BigIntegerField(primary_key=True, default=new_device_id, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(_("name"), max_length=64)
    confirmed = models.BooleanField(_("confirmed"), default=True)
    credential_id = models.BinaryField(max_length=_LONGEST_CREDENTIAL_ID, unique=True, editable=False)
    public_key = models.BinaryField(editable=False)
    seal = models.BinaryField(max_length=32, editable=False)
    sign_count = models.BigIntegerField(default=0, editable=False)
    aaguid: models.UUIDField[UUID, UUID] = models.UUIDField(_("model of the authenticator"), editable=False)
    # A key that may be copied to other devices (a synchronised passkey), and whether it is now.
    backup_eligible = models.BooleanField(_("may be synchronised"), editable=False)
    backed_up = models.BooleanField(_("is synchronised"), editable=False)
    transports = ArrayField(models.CharField(max_length=16), default=list, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(_("last used"), null=True, editable=False)
    bound_session = models.UUIDField(_("session of binding"), null=True, editable=False)
    bound_address = models.CharField(_("address of binding"), max_length=45, blank=True, editable=False)
    suspended_at = models.DateTimeField(_("suspended"), null=True, editable=False)
    suspended_why = models.CharField(
        _("suspended because"), max_length=16, choices=Reason.choices, blank=True, editable=False
    )

    objects: ClassVar[models.Manager[Passkey]] = DeviceManager()

    class Meta:
        verbose_name = _("passkey")
        verbose_name_plural = _("passkeys")
        constraints = [
            models.CheckConstraint(
                condition=Q(suspended_at=None, suspended_why="", confirmed=True)
                | (Q(suspended_at__isnull=False, confirmed=False) & ~Q(suspended_why="")),
                name="passkey_suspension_has_reason",
            ),
            models.CheckConstraint(
                condition=Q(backup_eligible=True) | Q(backed_up=False), name="passkey_backup_is_possible"
            ),
            models.CheckConstraint(condition=Q(sign_count__gte=0), name="passkey_counter_not_negative"),
        ]

    def __str__(self) -> str:
        return f"passkey {self.pk} ({self.name})"

    @property
    def is_device_bound(self) -> bool:
        """Whether the private key cannot leave its authenticator: what the highest assurance asks for."""
        return not self.backup_eligible

    def make_seal(self) -> bytes:
        """Return the seal of this row as it is, under the current key."""
        return crypto.mac(self._sealed(), purpose=_PURPOSE)

    def is_intact(self) -> bool:
        """Whether the row is as it was sealed."""
        return crypto.verify_mac(self._sealed(), self.seal, purpose=_PURPOSE)

    def claim(self, sign_count: int, *, backed_up: bool) -> bool:
        """Note a use with the counter that came with it; false when the counter does not go on, or the key
        is suspended. Of two uses with one counter, one wins. The seal moves to the current key.

        An authenticator that does not count always says 0.
        """
        goes_on = Q(sign_count__lt=sign_count) if sign_count else Q(sign_count=0)
        claimed = Passkey.objects.filter(goes_on, pk=self.pk, suspended_at=None).update(
            sign_count=sign_count, backed_up=backed_up, last_used_at=timezone.now(), seal=self.make_seal()
        )
        return claimed == 1

    def suspend(self, why: Reason) -> bool:
        """Stop this key for good; say whether it was this call that stopped it."""
        stopped = Passkey.objects.filter(pk=self.pk, suspended_at=None).update(
            suspended_at=timezone.now(), suspended_why=why, confirmed=False
        )
        return stopped == 1

    def _sealed(self) -> bytes:
        return crypto.row_binding(
            self._meta.db_table,
            self.pk,
            self.user_id,
            bytes(self.credential_id),
            bytes(self.public_key),
            self.aaguid,
            int(self.backup_eligible),
        )


class PasskeyChallenge(models.Model):
    """32 random bytes that one passkey may sign once: for one purpose, for the flow that asked."""

    class Purpose(models.TextChoices):
        REGISTER = "register", _("registration")
        SIGN_IN = "sign_in", _("sign-in without a password")
        SECOND_FACTOR = "second_factor", _("second factor")
        STEP_UP = "step_up", _("confirmation")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    challenge_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    purpose = models.CharField(max_length=16, choices=Purpose.choices, editable=False)
    bound_to = models.CharField(max_length=64, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(editable=False)
    used_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = _("passkey challenge")
        verbose_name_plural = _("passkey challenges")
        indexes = [models.Index(fields=["expires_at"], name="passkey_challenge_end")]
        constraints = [
            models.CheckConstraint(
                condition=Q(purpose__in=["register", "sign_in", "second_factor", "step_up"]),
                name="passkey_challenge_purpose_known",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="passkey_challenge_ends_after_start"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} challenge {self.pk}"
