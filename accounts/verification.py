"""Proving that an e-mail address or a telephone number is one's own: a code goes there and comes back.

A code is six digits from the system's randomness, counts ten minutes, five tries and one use, and only for
the account, the address and the session that asked. The table holds a keyed digest. Tries are counted before
a code is looked at, on a connection of their own, and wrong ones are charged to the account's and the
network's budget `otp`: a new code brings no new guesses. There is no code that always works.

A proved address lets nobody in: it is not a factor.
"""

from __future__ import annotations

import datetime as dt
import re
import secrets
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import lockout
from accounts.models import User, VerificationCode
from accounts.roles import Role
from mestore.lib import crypto, errors, ids, sql, throttle
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events, sms

Kind = VerificationCode.Kind

OTP = "otp"
"""The budget of wrong codes."""
_PURPOSE = "verification"
_ALIAS = "audit"  # autocommit: a try counts whatever becomes of the request
_DIGITS = re.compile(r"[0-9]{6}", re.ASCII)


class AlreadyVerified(errors.BadRequest):
    """The address needs no code."""

    message = _("This has been verified already.")


class NothingToVerify(errors.BadRequest):
    """The account has no such address."""

    message = _("The account has no telephone number to verify.")


class TooSoon(errors.TooManyRequests):
    """A code was sent a moment ago, or enough of them in this hour."""

    message = _("A code was sent a short time ago. Please wait before asking for another.")


class MalformedCode(errors.BadRequest):
    """Not six digits; costs no try."""

    message = _("The code must be six digits.")


class WrongCode(errors.BadRequest):
    """Wrong, expired, used, out of tries, of another request, or never sent: never told apart."""

    message = _("The code is not valid or has expired.")


class TextMessagesOff(errors.MeStoreError):
    """Nobody told this installation how to send text messages."""

    status = 503
    code = "SERVICE_UNAVAILABLE"
    message = _("Text messages cannot be sent at the moment.")


@dataclass(frozen=True, slots=True)
class Status:
    """Where verification stands, as the contract shows it."""

    email_verified: bool
    phone_verified: bool
    has_active_otp: bool
    otp_type: str
    otp_expires_at: dt.datetime | None
    can_request_new_otp: bool
    is_otp_blocked: bool
    otp_attempts: int


# One row per account and kind. It is replaced only after the pause and while the hour allows more: whoever
# loses a race finds the winner's row, changes nothing and gets none back.
_REPLACE = """
INSERT INTO accounts_verificationcode AS c
       (id, user_id, kind, request, code_mac, attempts, sent_at, expires_at, used_at, window_ends_at, sends)
VALUES (%(id)s, %(user)s, %(kind)s, %(request)s, %(code_mac)s, 0, %(now)s, %(expires_at)s, NULL,
        %(window_ends_at)s, 1)
    ON CONFLICT (user_id, kind) DO UPDATE
   SET request = excluded.request, code_mac = excluded.code_mac, attempts = 0, sent_at = excluded.sent_at,
       expires_at = excluded.expires_at, used_at = NULL,
       sends = CASE WHEN c.window_ends_at <= excluded.sent_at THEN 1 ELSE c.sends + 1 END,
       window_ends_at = CASE WHEN c.window_ends_at <= excluded.sent_at THEN excluded.window_ends_at
                             ELSE c.window_ends_at END
 WHERE c.sent_at <= %(cooled)s AND (c.sends < %(per_hour)s OR c.window_ends_at <= excluded.sent_at)
RETURNING c.id
"""

_TAKE_TRY = """
UPDATE accounts_verificationcode SET attempts = attempts + 1
 WHERE user_id = %s AND kind = %s AND used_at IS NULL AND expires_at > %s AND attempts < %s
RETURNING id, request, code_mac
"""


def send_code(user: User, kind: Kind, *, by: Actor, now: dt.datetime | None = None) -> Status:
    """Send a new code to the account's own address; the one before it counts no longer.

    Raises AlreadyVerified, NothingToVerify, TextMessagesOff, TooSoon.
    """
    now = now or timezone.now()
    _refuse_needless(user, kind)
    code = f"{secrets.randbelow(1_000_000):06d}"
    request = uuid4()
    with transaction.atomic():
        _replace(user, kind, request, _mac_of(user, kind, request, code, by), now)
        _bound_address(user, kind)
        valid = dt.timedelta(seconds=settings.VERIFICATION["valid_seconds"])
        context = {"code": code, "minutes": int(valid.total_seconds()) // 60}
        if kind == Kind.EMAIL:
            delivery.notify(user, "email_verification", context, by=by, expires_at=now + valid)
        else:
            delivery.sms(user, "phone_verification", context, by=by, expires_at=now + valid)
    return status(user, kind, now=now)


def verify(user: User, kind: Kind, code: str, *, by: Actor, now: dt.datetime | None = None) -> Status:
    """Mark the address as the account's own, proved by the code that was sent there.

    Raises MalformedCode (no try spent), WrongCode, lockout.LockedOut.
    """
    if not _DIGITS.fullmatch(code):
        raise MalformedCode
    now = now or timezone.now()
    attempt = lockout.attempt(OTP, account=user.email_key or str(user.pk), address=by.address)
    lockout.refuse_locked(attempt)
    taken = sql.fetch_one(
        _TAKE_TRY, [user.pk, kind.value, now, settings.VERIFICATION["attempts"]], using=_ALIAS
    )
    if taken is None or not _matches(user, kind, taken[1], code, taken[2], by):
        lockout.charge(attempt)
        raise _refused(user, kind, by)
    lockout.settle(attempt)
    with transaction.atomic():
        if not _claim(taken[0], taken[1], now) or not _mark(user, kind):
            raise WrongCode
        audit.record(events.CONTACT_VERIFIED, by=by, target=("user", str(user.pk)), data={"kind": kind.value})
    return status(user, kind, now=now)


def status(user: User, kind: Kind, *, now: dt.datetime | None = None) -> Status:
    """Where verification of this kind of address stands. One statement."""
    now = now or timezone.now()
    rules: dict[str, int] = settings.VERIFICATION
    row = VerificationCode.objects.filter(user=user, kind=kind).first()
    is_open = row is not None and row.used_at is None and row.expires_at > now
    attempts = row.attempts if row is not None and is_open else 0
    blocked = attempts >= rules["attempts"]
    return Status(
        email_verified=user.email_verified,
        phone_verified=user.phone_verified,
        has_active_otp=is_open and not blocked,
        otp_type=kind.value,
        otp_expires_at=row.expires_at if row is not None and is_open and not blocked else None,
        can_request_new_otp=row is None or _wait(row, now) <= 0,
        is_otp_blocked=blocked,
        otp_attempts=attempts,
    )


def remove_ended(batch: int, *, now: dt.datetime | None = None) -> int:
    """Delete codes whose hour and life are over, a batch at a time. Returns how many went."""
    now = now or timezone.now()
    return sql.execute(
        "DELETE FROM accounts_verificationcode WHERE id IN ("
        " SELECT id FROM accounts_verificationcode WHERE window_ends_at < %s AND expires_at < %s"
        " ORDER BY window_ends_at LIMIT %s FOR UPDATE SKIP LOCKED)",
        [now, now, batch],
    )


def _refuse_needless(user: User, kind: Kind) -> None:
    if user.email_verified if kind == Kind.EMAIL else user.phone_verified:
        raise AlreadyVerified
    if not _address(user, kind):
        raise NothingToVerify
    if kind == Kind.SMS and not sms.is_available():
        raise TextMessagesOff


def _replace(user: User, kind: Kind, request: UUID, code_mac: bytes, now: dt.datetime) -> None:
    rules: dict[str, int] = settings.VERIFICATION
    written = sql.fetch_one(
        _REPLACE,
        {
            "id": ids.uuid7(),
            "user": user.pk,
            "kind": kind.value,
            "request": request,
            "code_mac": code_mac,
            "now": now,
            "expires_at": now + dt.timedelta(seconds=rules["valid_seconds"]),
            "window_ends_at": now + dt.timedelta(hours=1),
            "cooled": now - dt.timedelta(seconds=rules["cooldown_seconds"]),
            "per_hour": rules["per_hour"],
        },
    )
    if written is None:
        held = VerificationCode.objects.get(user=user, kind=kind)
        raise TooSoon(retry_after=_wait(held, now))


def _wait(row: VerificationCode, now: dt.datetime) -> int:
    """Seconds until another code may be sent."""
    rules: dict[str, int] = settings.VERIFICATION
    free = row.sent_at + dt.timedelta(seconds=rules["cooldown_seconds"])
    if row.sends >= rules["per_hour"]:
        free = max(free, row.window_ends_at)
    return max(0, -int((now - free).total_seconds() // 1))


def _bound_address(user: User, kind: Kind) -> None:
    """Count what one address gets, whichever accounts ask: nobody is flooded through accounts made for it."""
    limit = throttle.Limit(f"verification-{kind.value.lower()}", settings.VERIFICATION["per_hour"], 3_600)
    decision = throttle.hit([(limit, _address(user, kind))])
    if not decision.allowed:
        raise TooSoon(retry_after=decision.retry_after)


def _address(user: User, kind: Kind) -> str:
    return user.email if kind == Kind.EMAIL else user.telefono


def _bytes_of(user: User, kind: Kind, request: UUID, code: str, by: Actor) -> bytes:
    return crypto.row_binding(user.pk, kind.value, _address(user, kind), request, by.session_id or "", code)


def _mac_of(user: User, kind: Kind, request: UUID, code: str, by: Actor) -> bytes:
    return crypto.mac(_bytes_of(user, kind, request, code, by), purpose=_PURPOSE)


def _matches(user: User, kind: Kind, request: UUID, code: str, code_mac: Any, by: Actor) -> bool:
    return crypto.verify_mac(_bytes_of(user, kind, request, code, by), code_mac, purpose=_PURPOSE)


def _refused(user: User, kind: Kind, by: Actor) -> WrongCode:
    audit.record_refusal(
        events.VERIFICATION_REFUSED, by=by, target=("user", str(user.pk)), data={"kind": kind.value}
    )
    return WrongCode()


def _claim(row_id: UUID, request: UUID, now: dt.datetime) -> bool:
    open_one = VerificationCode.objects.filter(pk=row_id, request=request, used_at__isnull=True)
    return open_one.update(used_at=now) == 1


def _mark(user: User, kind: Kind) -> bool:
    """Set the flag, unless the address changed meanwhile. A buyer's account is verified with its e-mail;
    a vendor's or administrator's is so by a person's decision."""
    same = User.objects.filter(pk=user.pk, is_active=True, deleted_at__isnull=True)
    now = timezone.now()
    if kind == Kind.SMS:
        user.phone_verified = (
            same.filter(telefono=user.telefono).update(phone_verified=True, updated_at=now) == 1
        )
        return user.phone_verified
    flags = {"email_verified": True} | ({"account_verified": True} if user.user_type == Role.BUYER else {})
    marked = same.filter(email=user.email).update(**flags, updated_at=now)
    if marked:
        for flag in flags:
            setattr(user, flag, True)
    return marked == 1
