"""Attempts to sign in, and what was concluded from them. Kept for days, not for ever."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from mestore.lib import ids


class SignInAttempt(models.Model):
    """One attempt to sign in. The name that was typed is kept as a MAC only (A58)."""

    class Outcome(models.TextChoices):
        ACCEPTED = "accepted", _("accepted")
        WRONG = "wrong", _("wrong credentials")
        REFUSED = "refused", _("refused by a rule")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    at = models.DateTimeField(_("at"))
    account_key = models.BinaryField(max_length=32, editable=False)
    user_id = models.UUIDField(
        _("account"), null=True
    )  # no foreign key: attempts outlive nobody, and are many
    device_id = models.UUIDField(_("known device"), null=True)
    network = models.CharField(_("network"), max_length=49, blank=True)
    agent_key = models.BinaryField(max_length=16, editable=False)
    country = models.CharField(_("country"), max_length=2, blank=True)
    latitude = models.FloatField(null=True)
    longitude = models.FloatField(null=True)
    purpose = models.CharField(_("entrance"), max_length=8)
    outcome = models.CharField(_("outcome"), max_length=8, choices=Outcome.choices)
    score = models.PositiveSmallIntegerField(_("risk"), default=0)

    class Meta:
        verbose_name = _("attempt to sign in")
        verbose_name_plural = _("attempts to sign in")
        indexes = [
            models.Index(fields=["account_key", "-at"], name="attempt_of_account"),
            models.Index(fields=["network", "-at"], name="attempt_of_network"),
            models.Index(fields=["agent_key", "-at"], name="attempt_of_agent"),
            models.Index(fields=["user_id", "-at"], name="attempt_of_user", condition=Q(outcome="accepted")),
            models.Index(fields=["at"], name="attempt_by_time"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(outcome__in=["accepted", "wrong", "refused"]), name="attempt_outcome_known"
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.id}"


class NetworkReputation(models.Model):
    """What a network was seen doing, from 0 (nothing) to 100; forgotten after a month without news."""

    network = models.CharField(_("network"), primary_key=True, max_length=49)
    score = models.PositiveSmallIntegerField(_("reputation"))
    updated_at = models.DateTimeField(_("updated"))
    expires_at = models.DateTimeField()

    class Meta:
        verbose_name = _("network's reputation")
        verbose_name_plural = _("networks' reputations")
        indexes = [models.Index(fields=["expires_at"], name="network_reputation_end")]
        constraints = [models.CheckConstraint(condition=Q(score__lte=100), name="network_reputation_bounded")]

    def __str__(self) -> str:
        return f"{self.network}: {self.score}"


class SignInNotice(models.Model):
    """The link "this was not me" of a message about a sign-in: its SHA-256, what it ends, used once."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    session_id = models.UUIDField()
    device_id = models.UUIDField(null=True)
    token_hash = models.BinaryField(max_length=32)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="sign_in_notice_end")]
        constraints = [models.UniqueConstraint(fields=["token_hash"], name="sign_in_notice_hash")]

    def __str__(self) -> str:
        return f"notice of {self.session_id}"
