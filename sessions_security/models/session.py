"""Sessions, what opens them, and what was proved in them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from mestore.lib import ids
from sessions_security.models.client import MachineClient

if TYPE_CHECKING:
    from datetime import datetime


class UserSession(models.Model):
    """One signed-in browser or token holder. Its id is public and opens nothing."""

    class Kind(models.TextChoices):
        COOKIE = "cookie", _("browser")
        TOKEN = "token", _("token")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="sessions", verbose_name=_("account")
    )
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices)
    amr = ArrayField(models.CharField(max_length=16), default=list, verbose_name=_("factors proved"))
    created_at = models.DateTimeField(_("signed in"))
    last_seen_at = models.DateTimeField(_("last seen"))
    idle_expires_at = models.DateTimeField(_("ends when idle"), null=True)
    absolute_expires_at = models.DateTimeField(_("ends at the latest"))
    address = models.CharField(_("address"), max_length=45, blank=True)
    network = models.CharField(_("network"), max_length=49, blank=True)
    agent = models.CharField(_("agent"), max_length=256, blank=True)
    auth_epoch = models.IntegerField(_("account state at sign-in"))
    client = models.ForeignKey(
        MachineClient,
        on_delete=models.PROTECT,
        null=True,
        related_name="sessions",
        verbose_name=_("machine client"),
    )
    country = models.CharField(_("country"), max_length=2, blank=True, default="", db_default="")
    # Networks that the session moved to and was confirmed in, by a factor, after it began elsewhere.
    confirmed_networks = ArrayField(
        models.CharField(max_length=49), verbose_name=_("confirmed networks"), default=list, db_default=[]
    )
    device_id = models.UUIDField(
        _("known device"), null=True, editable=False
    )  # purged on its own: no foreign key
    risk = models.PositiveSmallIntegerField(_("risk"), default=0)
    revoked_at = models.DateTimeField(_("ended"), null=True)
    revoked_why = models.CharField(_("ended because"), max_length=32, blank=True)
    revoked_by = models.CharField(_("ended by"), max_length=64, blank=True)
    # SHA-256 thumbprint (RFC 7638) of the key that must sign each request; None for a session of no key.
    bound_key = models.BinaryField(_("bound key"), max_length=32, null=True, editable=False)

    # Who acts as the account; told by `session_check`, from `Impersonation`.
    impersonator_id: UUID | None = None

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        indexes = [
            # Who is signed in, least recently seen first: the limit per role and the session list.
            models.Index(
                fields=["user", "kind", "last_seen_at"], name="session_of_user", condition=Q(revoked_at=None)
            ),
            # The purge walks this, oldest end first.
            models.Index(fields=["absolute_expires_at"], name="session_end"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["cookie", "token"]), name="session_kind_known"),
            models.CheckConstraint(
                condition=Q(absolute_expires_at__gt=F("created_at")), name="session_ends_after_start"
            ),
            models.CheckConstraint(
                condition=Q(idle_expires_at=None) | Q(idle_expires_at__lte=F("absolute_expires_at")),
                name="session_idle_within_absolute",
            ),
            models.CheckConstraint(
                condition=Q(revoked_at=None, revoked_why="")
                | (Q(revoked_at__isnull=False) & ~Q(revoked_why="")),
                name="session_end_has_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.id}"

    def is_over(self, now: datetime) -> bool:
        """Whether this row, by itself, ended before `now` (the account may end it sooner)."""
        idle_out = self.idle_expires_at is not None and self.idle_expires_at <= now
        return self.revoked_at is not None or idle_out or self.absolute_expires_at <= now

    def stands_on_another_proof(self) -> bool:
        """Whether this is an impersonated session, or one that a sealed emergency code opened."""
        return self.impersonator_id is not None or "break_glass" in self.amr

    def proved_second_factor(self) -> bool:
        """Whether anything beside the password was proved at sign-in."""
        return any(factor not in {"pwd", "key"} for factor in self.amr)


class Impersonation(models.Model):
    """That a session is an administrator's who sees the system as somebody else. Kept as evidence, so it
    has no foreign key to sessions, which are purged."""

    session_id = models.UUIDField(primary_key=True, editable=False)
    origin_id = models.UUIDField(_("administrator's session"), editable=False)
    impersonator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", verbose_name=_("administrator")
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", verbose_name=_("account")
    )
    reason = models.CharField(_("reason"), max_length=500)
    started_at = models.DateTimeField(_("started"))
    ends_at = models.DateTimeField(_("ends at the latest"))

    class Meta:
        verbose_name = _("impersonation")
        verbose_name_plural = _("impersonations")
        indexes = [models.Index(fields=["origin_id"], name="impersonation_of_session")]
        constraints = [
            models.CheckConstraint(condition=~Q(impersonator=F("user")), name="impersonation_of_another"),
            models.CheckConstraint(condition=~Q(session_id=F("origin_id")), name="impersonation_own_session"),
            models.CheckConstraint(condition=~Q(reason=""), name="impersonation_has_reason"),
            models.CheckConstraint(condition=Q(ends_at__gt=F("started_at")), name="impersonation_ends_later"),
        ]

    def __str__(self) -> str:
        return f"{self.impersonator_id} as {self.user_id} in {self.session_id}"


class SessionSecret(models.Model):
    """The hash of a browser's cookie and what the session remembers, sealed and bound to this row."""

    session = models.OneToOneField(
        UserSession, primary_key=True, on_delete=models.CASCADE, related_name="secret"
    )
    key_hash = models.BinaryField(max_length=32)
    payload = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key_hash"], name="session_secret_key_hash")]

    def __str__(self) -> str:
        return f"secret of {self.session_id}"


class RefreshToken(models.Model):
    """One link of a session's chain of refresh tokens; the session is the family.

    `parent_id` is unique, so that the database itself refuses a second child of one token.
    """

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    session = models.ForeignKey(UserSession, on_delete=models.CASCADE, related_name="refresh_tokens")
    parent_id = models.UUIDField(null=True, unique=True)  # no foreign key: links are purged in any order
    token_hash = models.BinaryField(max_length=32)
    created_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="refresh_token_end")]
        constraints = [models.UniqueConstraint(fields=["token_hash"], name="refresh_token_hash")]

    def __str__(self) -> str:
        return f"refresh token {self.id}"


class PendingSignIn(models.Model):
    """A sign-in whose password was right and whose second factor is still to be proved."""

    class Purpose(models.TextChoices):
        API = "api", _("API")
        ADMIN = "admin", _("administrators' API")
        CONSOLE = "console", _("console")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="pending_sign_ins"
    )
    token_hash = models.BinaryField(max_length=32)
    purpose = models.CharField(max_length=8, choices=Purpose.choices)
    auth_epoch = models.IntegerField()
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="pending_sign_in_end")]
        constraints = [
            models.UniqueConstraint(fields=["token_hash"], name="pending_sign_in_hash"),
            models.CheckConstraint(
                condition=Q(purpose__in=["api", "admin", "console"]), name="pending_purpose_known"
            ),
        ]

    def __str__(self) -> str:
        return f"pending sign-in {self.id}"


class StepUpProof(models.Model):
    """That one factor was proved in one session, and when. What it opens is decided in `stepup`."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    session = models.ForeignKey(UserSession, on_delete=models.CASCADE, related_name="step_up_proofs")
    method = models.CharField(max_length=16)
    factor = models.CharField(max_length=128)  # the device's own name in the framework; "password"
    bound_at = models.DateTimeField()  # since when the account has this factor
    proved_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["session", "factor"], name="step_up_proof_latest")]

    def __str__(self) -> str:
        return f"{self.method} proved in {self.session_id}"


class SigningKey(models.Model):
    """An Ed25519 key that signs access tokens: one current, earlier ones only to verify."""

    class State(models.TextChoices):
        CURRENT = "current", _("current")
        PREVIOUS = "previous", _("previous")

    kid = models.CharField(primary_key=True, max_length=32)
    state = models.CharField(max_length=8, choices=State.choices)
    sealed_private_key = models.BinaryField()
    public_key = models.BinaryField(max_length=32)
    created_at = models.DateTimeField()
    verify_until = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["state"], condition=Q(state="current"), name="one_current_signing_key"
            ),
            models.CheckConstraint(
                condition=Q(state="current", verify_until=None)
                | Q(state="previous", verify_until__isnull=False),
                name="signing_key_previous_has_end",
            ),
        ]

    def __str__(self) -> str:
        return f"signing key {self.kid}"


class SessionCutoff(models.Model):
    """A moment before which everybody's sessions ended: "sign everybody out", in one row. Never changed."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    at = models.DateTimeField(_("ended everything before"))
    reason = models.CharField(_("reason"), max_length=500)
    asked_by = models.CharField(_("asked by"), max_length=64)
    approved_by = models.CharField(_("approved by"), max_length=64)

    class Meta:
        verbose_name = _("end of all sessions")
        verbose_name_plural = _("ends of all sessions")
        indexes = [models.Index(fields=["-at"], name="session_cutoff_newest")]
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="session_cutoff_has_reason"),
            models.CheckConstraint(condition=~Q(asked_by=F("approved_by")), name="session_cutoff_two_people"),
        ]

    def __str__(self) -> str:
        return f"end of all sessions before {self.at}"


class SessionSample(models.Model):
    """How many sessions were live at one moment: by role and kind, and by age. Written by the worker."""

    at = models.DateTimeField(primary_key=True, editable=False)
    live = models.JSONField()  # {role: {kind: sessions}}
    ages = models.JSONField()  # {hours since sign-in, rounded down: sessions}

    class Meta:
        verbose_name = _("count of sessions")
        verbose_name_plural = _("counts of sessions")

    def __str__(self) -> str:
        return f"live sessions at {self.at}"
