"""Authenticator applications (RFC 6238: SHA-1, 30 seconds, 6 digits): enrol, confirm, verify, remove.

A code is six ASCII digits and nothing else, works once, and only in its own time step (and, by the setting
TOTP_DRIFT_STEPS, the one before, for slow clocks and slow typing). Codes of later steps are never accepted.

A new secret waits for its first code for ten minutes and five tries, sealed in its row; an account has one
such secret at a time. The row keeps from which session and address it was bound.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
import secrets
import time
from urllib.parse import quote, urlencode

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_otp.oath import hotp

from accounts import factors, freezes
from accounts.models import TotpDevice, User
from mestore.lib import crypto, errors
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events

STEP_SECONDS = 30
DIGITS = 6
_SECRET_BYTES = 20
_LARGEST_DRIFT = 1
_LONGEST_NAME = 64
_CODE = re.compile(r"[0-9]{6}", re.ASCII)

log = structlog.get_logger("mestore.factors")


class WrongCode(errors.Unauthorized):
    """The code is wrong, too old or used."""

    message = _("The code is not valid.")


class MalformedCode(errors.BadRequest):
    """Not six digits. Costs no attempt: it is a slip, and tells nothing about the secret."""

    message = _("The code must be six digits.")


class EnrolmentOver(errors.Conflict):
    """The new secret was confirmed, replaced by a newer one, tried too often or left too long."""

    code = "ENROLMENT_OVER"
    message = _("This enrolment is over. Begin again.")


class TooManyDevices(errors.Conflict):
    code = "TOO_MANY_DEVICES"
    message = _("No more authenticator applications can be added. Remove one first.")


class InvalidName(errors.Unprocessable):
    """The name of a device is empty, too long or not plain text."""

    def __init__(self) -> None:
        reason = _("Give the device a name of at most %(n)d characters.") % {"n": _LONGEST_NAME}
        super().__init__(details=[errors.FieldError("name", reason, "invalid")])


def enrol(user: User, name: str, *, by: Actor, confirmed: bool = False) -> tuple[TotpDevice, str]:
    """Give `user` a new device and return it with its secret in base32, shown this once.

    It counts only after `confirm`, and takes the place of one that was not confirmed; `confirmed=True` is for
    an operator who hands the secret over. Raises InvalidName, TooManyDevices.
    """
    now = timezone.now()
    secret = base64.b32encode(secrets.token_bytes(_SECRET_BYTES)).decode("ascii")
    device = TotpDevice(
        user=user,
        name=_named(name),
        secret=secret,
        confirmed=confirmed,
        created_at=now,
        confirmed_at=now if confirmed else None,
        expires_at=None if confirmed else now + dt.timedelta(seconds=settings.TOTP_ENROLMENT_SECONDS),
        bound_session=by.session_id,
        bound_address=by.address or "",
    )
    with transaction.atomic():
        factors.lock_account(user)
        freezes.demand_unfrozen(user, by=by)
        if not confirmed:
            mine = TotpDevice.objects.filter(user=user)
            mine.filter(confirmed=False).delete()
            if mine.count() >= settings.TOTP_DEVICES:
                raise TooManyDevices
        device.save(force_insert=True)
        _record(events.FACTOR_ENROLLED, device, by)
    return device, secret


def confirm(device: TotpDevice, code: str, *, by: Actor) -> None:
    """Make `device` count, proved by its first code. Raises MalformedCode, WrongCode, EnrolmentOver."""
    step = try_enrolment(device, code, by=by)
    with transaction.atomic():
        finish_enrolment(device, step, by=by)


def try_enrolment(device: TotpDevice, code: str, *, by: Actor) -> int:
    """Return the time step of a right first code; use up one of the tries, which commits on its own.

    Raises MalformedCode (no try used), WrongCode, EnrolmentOver. Belongs outside of a transaction.
    """
    six_digits(code)
    waiting = TotpDevice.objects.filter(
        pk=device.pk,
        confirmed=False,
        expires_at__gt=timezone.now(),
        attempts__lt=settings.TOTP_ENROLMENT_ATTEMPTS,
    )
    if not waiting.update(attempts=F("attempts") + 1):
        factors.record_refusal(device.user, factors.TOTP, "enrolment_over", by=by)
        raise EnrolmentOver
    found = _matching([device], code)
    if found is None:
        factors.record_refusal(device.user, factors.TOTP, "wrong", by=by)
        raise WrongCode
    return found[1]


def finish_enrolment(device: TotpDevice, step: int, *, by: Actor) -> None:
    """Make `device` count, and tell its owner; runs in the transaction of whatever follows from it.

    Raises EnrolmentOver for all but one of several at once.
    """
    factors.lock_account(device.user)
    freezes.demand_unfrozen(device.user, by=by)
    now = timezone.now()
    waiting = TotpDevice.objects.filter(pk=device.pk, confirmed=False, expires_at__gt=now)
    if not waiting.update(
        confirmed=True, confirmed_at=now, last_step=step, last_used_at=now, expires_at=None
    ):
        raise EnrolmentOver
    device.confirmed, device.confirmed_at, device.last_step = True, now, step
    device.last_used_at, device.expires_at = now, None
    _record(events.FACTOR_CONFIRMED, device, by)
    delivery.notify(device.user, "factor_added", {"name": device.name, "at": now}, by=by, second_address=True)


def verify(user: User, code: str, *, by: Actor) -> TotpDevice:
    """Return the confirmed device of `user` that made `code`, and use the code up.

    Raises MalformedCode (no attempt spent), WrongCode, or lockout.LockedOut when the factor's own budget
    is spent. A user without a device gets WrongCode.
    """
    six_digits(code)
    attempt = factors.open_attempt(user, factors.TOTP, by=by)
    found = _matching(list(TotpDevice.objects.filter(user=user, confirmed=True)), code)
    if found is None:
        factors.refuse(user, factors.TOTP, attempt, error=WrongCode(), by=by)
    device, step = found
    if not device.claim(step):
        # Whoever repeats a right code did not guess it: refused, but not charged, so that a double click
        # or a replay by somebody else cannot lock the owner out.
        factors.record_refusal(user, factors.TOTP, "used", by=by)
        raise WrongCode
    factors.accept(factors.TOTP, attempt)
    return device


def remove(device: TotpDevice, *, by: Actor) -> None:
    """Take a device off its account. Raises factors.LastFactor for the only factor of the staff,
    errors.NotFound when it is gone already.
    """
    with transaction.atomic():
        factors.lock_account(device.user)
        freezes.demand_unfrozen(device.user, by=by)
        if not TotpDevice.objects.filter(pk=device.pk).delete()[0]:
            raise errors.NotFound
        factors.settle_removal(device.user)
        _record(events.FACTOR_REMOVED, device, by)
        if device.confirmed:
            delivery.notify(
                device.user,
                "factor_removed",
                {"name": device.name, "at": timezone.now()},
                by=by,
                second_address=True,
            )


def six_digits(code: object) -> str:
    """Return `code` when it has the form of a code. Raises MalformedCode; spends nothing.

    `verify` and `confirm` ask this first; callers with attempts of their own to count ask it before those.
    """
    if not isinstance(code, str) or _CODE.fullmatch(code) is None:
        raise MalformedCode
    return code


def otpauth_uri(device: TotpDevice) -> str:
    """Return the address that authenticator applications scan."""
    issuer = settings.OTP_TOTP_ISSUER
    label = quote(f"{issuer}:{device.user}", safe=":@")
    query = urlencode(
        {
            "secret": device.secret,
            "issuer": issuer,
            "algorithm": "SHA1",
            "digits": DIGITS,
            "period": STEP_SECONDS,
        }
    )
    return f"otpauth://totp/{label}?{query}"


def code_at(secret: str, step: int) -> str:
    """Return the code of a base32 secret at a time step."""
    return f"{hotp(base64.b32decode(secret), step, DIGITS):0{DIGITS}d}"


def current_step() -> int:
    """Return the time step of now, by the server's clock."""
    return int(time.time()) // STEP_SECONDS


def remove_unconfirmed(batch: int = 1_000) -> int:
    """Delete secrets that nobody confirmed in time, a batch at a time. Returns how many went."""
    over = TotpDevice.objects.filter(confirmed=False, expires_at__lt=timezone.now()).values("pk")[:batch]
    return TotpDevice.objects.filter(pk__in=over).delete()[0]


def _named(name: str) -> str:
    name = name.strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidName
    return name


def _matching(devices: list[TotpDevice], code: str) -> tuple[TotpDevice, int] | None:
    now = current_step()
    drift = min(int(settings.TOTP_DRIFT_STEPS), _LARGEST_DRIFT)
    found = None
    for device in devices:
        try:
            secret = device.secret
        except crypto.Unreadable:
            # Altered, or moved here from another account by SQL. The account's other devices still work.
            log.critical("totp_secret_unreadable", device=str(device.pk), user=str(device.user_id))
            continue
        for step in range(now - drift, now + 1):
            # No early exit: the time taken must not tell which device or step was right.
            if crypto.equal(code_at(secret, step), code):
                found = (device, step)
    return found


def _record(event: str, device: TotpDevice, by: Actor) -> None:
    audit.record(
        event,
        by=by,
        target=("user", str(device.user_id)),
        data={"factor": "totp", "device": str(device.pk)},
        subject=str(device.user_id),
    )
