"""Authenticator applications (RFC 6238: SHA-1, 30 seconds, 6 digits): enrol, confirm, verify.

A code is six ASCII digits and nothing else, works once, and only in its own time step (and, by the setting
TOTP_DRIFT_STEPS, the one before, for slow clocks and slow typing). Codes of later steps are never accepted.
"""

from __future__ import annotations

import base64
import re
import secrets
import time
from urllib.parse import quote, urlencode

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_otp.oath import hotp

from accounts import lockout
from accounts.models import TotpDevice, User
from mestore.lib import crypto, errors
from mestore.lib.actor import Actor
from monitoring import audit, events, metrics

STEP_SECONDS = 30
DIGITS = 6
_SECRET_BYTES = 20
_LARGEST_DRIFT = 1
_CODE = re.compile(r"[0-9]{6}", re.ASCII)


class WrongCode(errors.Unauthorized):
    """The code is wrong, too old or used."""

    message = _("The code is not valid.")


class MalformedCode(errors.BadRequest):
    """Not six digits. Costs no attempt: it is a slip, and tells nothing about the secret."""

    message = _("The code must be six digits.")


def enrol(user: User, name: str, *, by: Actor, confirmed: bool = False) -> tuple[TotpDevice, str]:
    """Give `user` a new device and return it with its secret in base32, shown this once.

    It counts only after `confirm`; `confirmed=True` is for an operator who hands the secret over.
    """
    secret = base64.b32encode(secrets.token_bytes(_SECRET_BYTES)).decode("ascii")
    device = TotpDevice(
        user=user,
        name=name,
        secret=secret,
        confirmed=confirmed,
        confirmed_at=timezone.now() if confirmed else None,
    )
    with transaction.atomic():
        device.save(force_insert=True)
        _record(events.FACTOR_ENROLLED, device, by)
    return device, secret


def confirm(device: TotpDevice, code: str, *, by: Actor) -> None:
    """Make `device` count, proved by its first code. Raises WrongCode, MalformedCode, lockout.LockedOut."""
    _prove(device.user, [device], code, by=by)
    with transaction.atomic():
        TotpDevice.objects.filter(pk=device.pk).update(confirmed=True, confirmed_at=timezone.now())
        _record(events.FACTOR_CONFIRMED, device, by)
    device.confirmed = True


def verify(user: User, code: str, *, by: Actor) -> TotpDevice:
    """Return the confirmed device of `user` that made `code`, and use the code up.

    Raises MalformedCode (no attempt spent), WrongCode, or lockout.LockedOut when the factor's own budget
    is spent. A user without a device gets WrongCode.
    """
    six_digits(code)
    devices = TotpDevice.objects.filter(user=user, confirmed=True)
    return _prove(user, list(devices), code, by=by)


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


def _prove(user: User, devices: list[TotpDevice], code: str, *, by: Actor) -> TotpDevice:
    code = six_digits(code)
    attempt = lockout.attempt(lockout.FACTOR, account=str(user.pk), address=by.address)
    try:
        lockout.refuse_locked(attempt)
    except lockout.LockedOut:
        _refused(user, by, "locked")
        raise
    found = _matching(devices, code)
    if found is None:
        failure = lockout.charge(attempt)
        _refused(user, by, "wrong")
        if failure.began_lock:
            audit.record_refusal(
                events.ACCOUNT_LOCKED, by=by, target=("user", str(user.pk)), data={"purpose": lockout.FACTOR}
            )
        if failure.beyond_budget:
            raise lockout.LockedOut(retry_after=failure.retry_after)
        raise WrongCode
    device, step = found
    if not device.claim(step):
        # Whoever repeats a right code did not guess it: refused, but not charged, so that a double click
        # or a replay by somebody else cannot lock the owner out.
        _refused(user, by, "used")
        raise WrongCode
    lockout.settle(attempt)
    metrics.AUTH_ATTEMPTS.labels(outcome="accepted", factor="totp").inc()
    return device


def _matching(devices: list[TotpDevice], code: str) -> tuple[TotpDevice, int] | None:
    now = current_step()
    drift = min(int(settings.TOTP_DRIFT_STEPS), _LARGEST_DRIFT)
    found = None
    for device in devices:
        for step in range(now - drift, now + 1):
            # No early exit: the time taken must not tell which device or step was right.
            if crypto.equal(code_at(device.secret, step), code):
                found = (device, step)
    return found


def _refused(user: User, by: Actor, reason: str) -> None:
    metrics.AUTH_ATTEMPTS.labels(outcome="locked" if reason == "locked" else "refused", factor="totp").inc()
    audit.record_refusal(
        events.FACTOR_REFUSED, by=by, target=("user", str(user.pk)), data={"factor": "totp", "reason": reason}
    )


def _record(event: str, device: TotpDevice, by: Actor) -> None:
    audit.record(
        event,
        by=by,
        target=("user", str(device.user_id)),
        data={"factor": "totp", "device": str(device.pk)},
        subject=str(device.user_id),
    )
