"""Choosing a new password, and when one must be chosen.

A new password ends every session and token of the account at once, the one it was chosen in included; open
reset links are worth nothing any more; and the owner is told at both addresses. Nothing expires by the
calendar: a password must change when it turned out to be known or too short (noticed at sign-in, the one
moment when it is here in clear), or because an administrator asked.
"""

from __future__ import annotations

import datetime as dt
import unicodedata
from typing import Any, Final

import structlog
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import breached, devices, factors, freezes, lockout, passwords
from accounts.models import PasswordReset, User, VendorProfile
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events

CHANGE: Final = "change_password"
"""The budget of wrong present passwords: whoever took over a session must not guess on."""
KNOWN, SHORT = "known", "short"
REMIND_AFTER = dt.timedelta(days=7)

log = structlog.get_logger("mestore.passwords")


class WrongPassword(errors.BadRequest):
    """The present password is not the one that was given."""

    code = "WRONG_PASSWORD"
    message = _("The current password is not correct.")

    def __init__(self) -> None:
        super().__init__(details=[errors.FieldError("body -> current_password", self.message, "wrong")])


class ChangedMeanwhile(errors.Conflict):
    """Another change of this account was faster."""

    message = _("The account changed in the meantime. Sign in again.")


class ChangeRequired(errors.Forbidden):
    """Nothing but a change of password is answered to this account."""

    code = "PASSWORD_CHANGE_REQUIRED"
    message = _("You must choose a new password before you go on.")


def change(user: User, *, current: str, new: str, by: Actor) -> User:
    """Replace the password of `user`, who knows the present one; return the account as it is now.

    Raises passwords.UnacceptablePassword, WrongPassword, ChangedMeanwhile, lockout.LockedOut,
    breached.PasswordListAway, hashers.HashingBusy.
    """
    user = User.objects.get(pk=user.pk)
    freezes.demand_unfrozen(user, by=by)
    check_new(user, new)
    attempt = lockout.attempt(CHANGE, account=str(user.pk), address=by.address)
    lockout.refuse_locked(attempt)
    if not passwords.matches(current, user.password):
        lockout.charge(attempt)
        audit.record_refusal(events.PASSWORD_CHANGE_REFUSED, by=by, target=("user", str(user.pk)))
        raise WrongPassword
    lockout.settle(attempt)
    if unicodedata.normalize("NFC", new) == unicodedata.normalize("NFC", current):
        reason = str(_("The new password is the old one."))
        raise passwords.UnacceptablePassword(reason, "same", "body -> new_password")
    stored = passwords.hashed(new)
    with transaction.atomic():
        if not write(user, stored, event=events.PASSWORD_CHANGED, by=by):
            raise ChangedMeanwhile
    return User.objects.get(pk=user.pk)


def check_new(user: User, new: str) -> None:
    """Accept a new password for `user` or raise as `passwords.check_new`, naming `new_password`."""
    passwords.check_new(
        new,
        with_factor=factors.has_factor(user),
        context=passwords.context(user.email, *_names(user)),
        field="body -> new_password",
    )


def write(user: User, stored: str, *, event: str, by: Actor) -> bool:
    """Write a new password and all that follows from it, in the caller's transaction.

    It applies only to the account as it was read: False when another change was faster.
    """
    now = timezone.now()
    changed = User.objects.filter(
        pk=user.pk, auth_epoch=user.auth_epoch, is_active=True, deleted_at=None
    ).update(
        password=stored,
        password_changed_at=now,
        force_password_change=False,
        password_flag="",
        password_flagged_at=None,
        password_reminded_at=None,
        updated_at=now,
    )
    if not changed:
        return False
    PasswordReset.objects.filter(user=user, used_at=None).update(used_at=now)
    # Whoever changes it inside a session proved the present one; a reset link is no browser of theirs.
    devices.distrust(user, by=by, keep_own=event == events.PASSWORD_CHANGED)
    audit.record(event, by=by, target=("user", str(user.pk)), subject=str(user.pk))
    delivery.notify(user, "password_changed", {"address": by.address or ""}, by=by, second_address=True)
    return True


def weakness(user: User, password: str) -> str:
    """Say why a right password must change (KNOWN, SHORT), or nothing.

    A list that is away refuses new passwords, but signs nobody out: it is logged here and asked next time.
    """
    try:
        if breached.is_known(password):
            return KNOWN
    except breached.PasswordListAway:
        log.exception("password_list_away")
    is_short = len(unicodedata.normalize("NFC", password)) < passwords.MINIMUM_ALONE
    return SHORT if is_short and not factors.has_factor(user) else ""


def flag_columns(why: str, now: dt.datetime) -> dict[str, Any]:
    """Return what stands in the row of an account whose password must change."""
    return {"force_password_change": True, "password_flag": why, "password_flagged_at": now}


def tell_flagged(user: User, why: str, *, by: Actor) -> None:
    """Record and tell the owner that the password must change, in the transaction that demands it."""
    audit.record(events.PASSWORD_FLAGGED, by=by, target=("user", str(user.pk)), data={"why": why})
    delivery.notify(user, "password_must_change", {"is_known": why == KNOWN}, by=by, second_address=True)


def recheck(batch: int, *, by: Actor, now: dt.datetime | None = None) -> tuple[int, int]:
    """Look at accounts whose password must change: lift what no longer holds, remind the others weekly.

    A short password is enough once a second factor stands beside it; a known one never is. Returns how many
    were lifted and reminded; at most `batch` are looked at.
    """
    now = now or timezone.now()
    waiting = User.objects.filter(force_password_change=True, is_active=True, deleted_at=None)
    lifted = sum(_lift(user, by) for user in waiting.filter(password_flag=SHORT).order_by("pk")[:batch])
    before = now - REMIND_AFTER
    due = waiting.annotate(told_at=Coalesce("password_reminded_at", "password_flagged_at")).filter(
        Q(told_at__lte=before) | Q(told_at=None)
    )
    reminded = sum(_remind(user, now, by) for user in due.order_by("pk")[:batch])
    return lifted, reminded


def _lift(user: User, by: Actor) -> bool:
    if not factors.has_factor(user):
        return False
    with transaction.atomic():
        lifted = User.objects.filter(pk=user.pk, password_flag=SHORT, auth_epoch=user.auth_epoch).update(
            force_password_change=False, password_flag="", password_flagged_at=None, password_reminded_at=None
        )
        if lifted:
            audit.record(events.PASSWORD_FLAG_LIFTED, by=by, target=("user", str(user.pk)))
    return bool(lifted)


def _remind(user: User, now: dt.datetime, by: Actor) -> bool:
    with transaction.atomic():
        # Claimed by the moment that was read: of two workers one sends.
        claimed = User.objects.filter(
            pk=user.pk, force_password_change=True, password_reminded_at=user.password_reminded_at
        ).update(password_reminded_at=now, password_flagged_at=Coalesce(F("password_flagged_at"), now))
        if claimed:
            known = user.password_flag == KNOWN
            delivery.notify(user, "password_must_change", {"is_known": known}, by=by, second_address=True)
    return bool(claimed)


def _names(user: User) -> list[str]:
    shop = VendorProfile.objects.filter(user=user).values_list("business_name", flat=True).first()
    person = (user.nombre, user.apellido, user.get_full_name(), user.empresa, user.telefono)
    return [text for text in (*person, user.recovery_email, shop or "") if text]
