"""What a person may do with their own second factors, from inside a session: list, add, remove, new codes.

Each of these asks for a fresh proof first, and each change of a factor ends every other session of the
account: whoever came in with the old ones proves the new ones.
"""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import dataclass
from typing import Any

import segno
from django.conf import settings
from django.db import transaction

from accounts import backup_codes, devices, factors, passkeys, totp
from accounts.models import Passkey, TotpDevice
from mestore.lib import errors
from mestore.lib.actor import Actor
from sessions_security import sessions, stepup
from sessions_security.models import UserSession

_LARGEST_ID = 2**63 - 1
_LONGEST_ID = len(str(_LARGEST_ID))


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A new authenticator application that waits for its first code. Shown once."""

    device: TotpDevice
    secret: str
    otpauth_uri: str

    def qr_svg(self) -> str:
        """Return the address as a picture to scan, an SVG element without styles or scripts."""
        out = io.BytesIO()
        segno.make(self.otpauth_uri, error="m").save(
            out, kind="svg", scale=4, border=4, xmldecl=False, light="#fff", dark="#000", nl=False
        )
        return out.getvalue().decode("ascii")


@dataclass(frozen=True, slots=True)
class OwnFactor:
    """One factor in its owner's list."""

    id: str
    type: str
    name: str
    created_at: dt.datetime
    last_used_at: dt.datetime | None
    bound_address: str
    bound_session: str | None
    is_suspended: bool = False  # a passkey that gave signs of having been copied; it can only be removed
    is_device_bound: bool = True  # false for a passkey that its maker copies to other devices


@dataclass(frozen=True, slots=True)
class OwnFactors:
    """All factors of an account, and how many backup codes it can still use."""

    devices: list[OwnFactor]
    backup_codes_left: int
    backup_codes_low: bool


def overview(session: UserSession) -> OwnFactors:
    """Return the factors of the account behind `session`, oldest first."""
    applications = TotpDevice.objects.filter(user=session.user, confirmed=True).defer("secret")
    rows = [_shown(row) for row in applications]
    rows += [shown_passkey(row) for row in Passkey.objects.filter(user=session.user)]
    left = backup_codes.remaining(session.user)
    return OwnFactors(
        sorted(rows, key=lambda row: (row.created_at, row.id)),
        left,
        any(not row.is_suspended for row in rows) and left <= settings.BACKUP_CODES_LOW,
    )


def enrol_totp(session: UserSession, *, name: str, by: Actor) -> Enrolment:
    """Begin to add an authenticator application. Raises stepup.StepUpRequired, totp.InvalidName,
    totp.TooManyDevices.
    """
    stepup.require_for("factors.enrol", session, by=by)
    device, secret = totp.enrol(session.user, name, by=by)
    return Enrolment(device, secret, totp.otpauth_uri(device))


def confirm_totp(session: UserSession, *, device_id: str, code: str, by: Actor) -> list[str]:
    """Make a new application count; return the account's first backup codes, or nothing if it has some.

    Only the session that began it may end it. Raises totp.MalformedCode, totp.WrongCode, totp.EnrolmentOver,
    hashers.HashingBusy.
    """
    totp.six_digits(code)
    device = _own(session, device_id, confirmed=False, bound_session=session.pk)
    if device is None:
        raise totp.EnrolmentOver
    step = totp.try_enrolment(device, code, by=by)
    prepared = backup_codes.prepare(session.user) if not backup_codes.remaining(session.user) else None
    with transaction.atomic():
        totp.finish_enrolment(device, step, by=by)
        codes = prepared.store(by=by) if prepared is not None else []
        sessions.end_all(session.user, by=by, why="factor_added", keep=session.pk)
    return codes


def remove_device(session: UserSession, *, device_id: str, by: Actor) -> str:
    """Remove a factor, confirmed by another one, whose name is returned.

    Raises errors.NotFound (also for a device of somebody else), stepup.StepUpRequired, factors.LastFactor.
    """
    device = _own(session, device_id) or _own_passkey(session, device_id)
    if device is None:
        raise errors.NotFound
    action = "passkeys.remove" if isinstance(device, Passkey) else "factors.remove"
    confirmed_by = stepup.require_for(action, session, replaced=device.persistent_id, by=by)
    with transaction.atomic():
        if isinstance(device, Passkey):
            passkeys.remove(device, by=by)
        else:
            totp.remove(device, by=by)
        stepup.forget(device.persistent_id)
        sessions.end_all(session.user, by=by, why="factor_removed", keep=session.pk)
        devices.distrust(session.user, by=by, keep_own=True)
    return confirmed_by


def make_backup_codes(session: UserSession, *, by: Actor) -> list[str]:
    """Return new backup codes, shown this once; the earlier ones are dead, and so is every other session.

    Raises stepup.StepUpRequired, hashers.HashingBusy.
    """
    stepup.require_for("factors.backup_codes", session, by=by)
    prepared = backup_codes.prepare(session.user)
    with transaction.atomic():
        codes = prepared.store(by=by)
        sessions.end_all(session.user, by=by, why="factor_changed", keep=session.pk)
    return codes


def shown_passkey(passkey: Passkey) -> OwnFactor:
    """Return a passkey as its owner's list has it."""
    return OwnFactor(
        id=str(passkey.pk),
        type=factors.PASSKEY,
        name=passkey.name,
        created_at=passkey.created_at,
        last_used_at=passkey.last_used_at,
        bound_address=passkey.bound_address,
        bound_session=str(passkey.bound_session) if passkey.bound_session else None,
        is_suspended=passkey.suspended_at is not None,
        is_device_bound=passkey.is_device_bound,
    )


def _own(session: UserSession, device_id: str, **state: Any) -> TotpDevice | None:
    if not _is_id(device_id):
        return None
    mine = TotpDevice.objects.select_related("user").filter(user=session.user, **state)
    return mine.filter(pk=int(device_id)).first()


def _own_passkey(session: UserSession, device_id: str) -> Passkey | None:
    if not _is_id(device_id):
        return None
    return Passkey.objects.select_related("user").filter(user=session.user, pk=int(device_id)).first()


def _is_id(text: str) -> bool:
    # The length first: Python refuses to read numbers of thousands of digits.
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_ID and int(text) <= _LARGEST_ID


def _shown(device: TotpDevice) -> OwnFactor:
    return OwnFactor(
        id=str(device.pk),
        type=factors.TOTP,
        name=device.name,
        created_at=device.confirmed_at or device.created_at,
        last_used_at=device.last_used_at,
        bound_address=device.bound_address,
        bound_session=str(device.bound_session) if device.bound_session else None,
    )
