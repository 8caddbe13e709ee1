"""Failure counters of sign-in and factors."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class LockoutCounter(models.Model):
    """Failures of one account, network, pair of both or known device, written only by `accounts.lockout`.

    The key is a MAC of what is counted, so the table says nothing about names that were typed, known or
    not. Rows commit on a connection of their own: an attempt that is rolled back still counts.
    """

    key = models.BinaryField(primary_key=True, max_length=32, editable=False)
    kind = models.CharField(_("budget"), max_length=32)
    failures = models.PositiveIntegerField(_("failures"))
    budget = models.PositiveIntegerField(_("allowed"))
    window_ends_at = models.DateTimeField(_("window ends"))
    locked_until = models.DateTimeField(_("locked until"), null=True)
    failed_at = models.DateTimeField(_("last failure"))
    # How often it was locked lately: the next lock is longer. Forgotten at `locks_end_at`.
    locks = models.PositiveSmallIntegerField(_("locks"), db_default=0)
    locks_end_at = models.DateTimeField(_("locks forgotten"), null=True)
    # The account's own key on rows of a pair or a device, so that they can be found with the account.
    account_key = models.BinaryField(max_length=32, null=True, editable=False)

    class Meta:
        verbose_name = _("lockout")
        verbose_name_plural = _("lockouts")
        indexes = [
            models.Index(fields=["window_ends_at"], name="lockout_by_end"),
            models.Index(
                fields=["-locked_until", "-key"],
                condition=models.Q(locked_until__isnull=False),
                name="lockout_by_lock",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {bytes(self.key).hex()[:12]}"


class FactorStreak(models.Model):
    """Wrong answers in a row at one kind of factor of one account, written only by `accounts.suspension`.

    The key is that of the account's failure counter. No window forgets them: only a right answer does.
    """

    key = models.BinaryField(primary_key=True, max_length=32, editable=False)
    method = models.CharField(_("factor"), max_length=16)
    wrong = models.PositiveIntegerField(_("wrong in a row"))
    last_at = models.DateTimeField(_("last failure"), default=timezone.now)
    suspended_at = models.DateTimeField(_("suspended"), null=True)

    class Meta:
        verbose_name = _("wrong answers in a row")
        verbose_name_plural = _("wrong answers in a row")

    def __str__(self) -> str:
        return f"{self.method} {bytes(self.key).hex()[:12]}"
