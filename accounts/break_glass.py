"""The account of emergencies: sealed in an envelope, opened once, and never quietly.

`manage.py break_glass` makes the account (a superuser with every permission, closed, without a password)
and prints its code once; what is kept is a slow hash. Whoever types the code at the console's emergency page
opens the account for an hour; every superuser is told at once, and the audit trail keeps it for ever. A code
works once: afterwards the account waits, closed, for the next sealing. Wrong codes are counted and locked out
like passwords.
"""

from __future__ import annotations

import base64
import datetime as dt
import secrets

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import delegation, grants, lockout, passwords
from accounts.models import BreakGlass, Permission, User
from accounts.roles import Role
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events

EMAIL = "break-glass@mestore.invalid"
METHOD = "break_glass"
KIND = "break_glass"
_REASON = "sealed by manage.py break_glass"
_BYTES = 20  # 160 bits, 32 letters in base 32


class CodeRefused(errors.Unauthorized):
    """Wrong, used, replaced, or never sealed: one sentence for all."""

    message = _("This code does not open anything.")


def seal(*, by: Actor) -> str:
    """Make (or seal again) the account of emergencies and return its new code: nobody can read it again.

    An account that is open is closed by this. For commands of the server.
    """
    code = base64.b32encode(secrets.token_bytes(_BYTES)).decode()
    stored = passwords.hashed(code)
    now = timezone.now()
    with transaction.atomic():
        user = User.objects.select_for_update().filter(email_key=EMAIL).first() or _make()
        User.objects.filter(pk=user.pk).update(is_active=True)
        user.refresh_from_db()
        for name in Permission.objects.exclude(name__in=grants.held(user)).values_list("name", flat=True):
            delegation.give_now(user, name, by=by, reason=_REASON)
        User.objects.filter(pk=user.pk).update(is_active=False, updated_at=now)
        BreakGlass.objects.filter(user=user, opened_at=None, replaced_at=None).update(replaced_at=now)
        BreakGlass.objects.filter(user=user, opened_at__isnull=False, closed_at=None).update(closed_at=now)
        sealed = BreakGlass.objects.create(
            user=user, code_hash=stored, sealed_by_label=by.label or by.kind, sealed_at=now
        )
        _record(events.BREAK_GLASS_SEALED, sealed, by)
    return code


def claim(code: str, *, by: Actor) -> BreakGlass:
    """Use the code up and open the account until `open_until`. Belongs outside of a transaction: hashing
    takes its time, and a failure must be counted. Raises CodeRefused, lockout.LockedOut, hashers.HashingBusy.
    """
    sealed = check(code, by=by)
    now = timezone.now()
    until = now + dt.timedelta(seconds=settings.BREAK_GLASS_SECONDS)
    with transaction.atomic():
        claimed = BreakGlass.objects.filter(pk=sealed.pk, opened_at=None, replaced_at=None).update(
            opened_at=now, open_until=until, opened_from=by.address or ""
        )
        if not claimed:
            raise CodeRefused
        User.objects.filter(pk=sealed.user_id).update(is_active=True, updated_at=now)
        sealed.refresh_from_db()
        _record(events.BREAK_GLASS_OPENED, sealed, by)
        _tell_superusers(sealed, by)
    return sealed


def check(code: str, *, by: Actor) -> BreakGlass:
    """Return the seal that `code` opens. A wrong one is counted, recorded and refused."""
    # Counted by network alone: 160 bits need no lock, and nobody locks this door for somebody else.
    attempt = lockout.attempt(KIND, account=by.address or "", address=by.address)
    lockout.refuse_locked(attempt)
    sealed = BreakGlass.objects.filter(opened_at=None, replaced_at=None, user__email_key=EMAIL).first()
    given = "".join(code.split()).replace("-", "").upper()[:64]
    if sealed is None:
        # The answer does not tell whether there is a seal, nor does its time.
        passwords.burn(given)
    if sealed is None or not passwords.matches(given, sealed.code_hash):
        lockout.charge(attempt)
        audit.record_refusal(events.BREAK_GLASS_REFUSED, by=by)
        raise CodeRefused
    lockout.settle(attempt)
    return sealed


def close_ended(*, by: Actor) -> int:
    """Close the account again once its hour is over; return how many were. For the worker."""
    count = 0
    for sealed in BreakGlass.objects.filter(closed_at=None, open_until__lte=timezone.now()):
        with transaction.atomic():
            if BreakGlass.objects.filter(pk=sealed.pk, closed_at=None).update(closed_at=timezone.now()):
                User.objects.filter(pk=sealed.user_id).update(is_active=False, updated_at=timezone.now())
                _record(events.BREAK_GLASS_CLOSED, sealed, by)
                count += 1
    return count


def _make() -> User:
    user = User(
        email=EMAIL,
        email_key=EMAIL,
        user_type=str(Role.SUPERUSER),
        security_clearance_level=5,
        nombre="Break glass",
    )
    user.set_unusable_password()
    user.save(force_insert=True)
    return user


def _tell_superusers(sealed: BreakGlass, by: Actor) -> None:
    superusers = User.objects.filter(user_type=Role.SUPERUSER, is_active=True, deleted_at=None)
    context = {"at": sealed.opened_at, "until": sealed.open_until, "address": by.address or "?"}
    for superuser in superusers.exclude(pk=sealed.user_id):
        delivery.notify(superuser, "break_glass_opened", context, by=by, second_address=True)


def _record(event: str, sealed: BreakGlass, by: Actor) -> None:
    audit.record(event, by=by, target=("user", str(sealed.user_id)), data={"seal": str(sealed.pk)})
