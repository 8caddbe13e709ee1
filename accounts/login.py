"""Is this the right password for this account? The one place that answers, for API, admin API and console.

What comes back for a wrong password, an unknown name, a closed account, an imported vendor or a machine is
the same answer after the same work. A lock is charged to names that do not exist as to those that do.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import devices, hashers, lockout, password_change, passwords, users
from accounts.models import User
from mestore.lib import crypto, errors
from mestore.lib.actor import Actor
from monitoring import audit, events, metrics

Purpose = Literal["api", "admin", "console"]
Clearance = Callable[[str, lockout.Attempt], None]
"""Asked between the locks and the password, for every name alike; refuses by raising."""

_BUDGETS: dict[Purpose, str] = {
    "api": lockout.LOGIN,
    "admin": lockout.ADMIN_LOGIN,
    "console": lockout.ADMIN_LOGIN,
}


class InvalidCredentials(errors.Unauthorized):
    """Wrong password, unknown name, or an account that may not sign in: never told apart."""

    message = _("Incorrect e-mail or password")


LockedOut = lockout.LockedOut


@dataclass(frozen=True, slots=True)
class _Question:
    name: str
    attempt: lockout.Attempt
    purpose: Purpose
    by: Actor


def check_credentials(
    email: str, password: str, *, by: Actor, purpose: Purpose, clearance: Clearance | None = None
) -> User:
    """Return the account that `email` and `password` open.

    The caller decides whether that account may use this door (an administrator at the public sign-in) and
    which second factor it still owes: nothing is signed in here. Failures are counted and recorded on
    their own connection. Three statements when the password is right, and one for a browser's cookie; one
    more when the hash is renewed.

    Raises InvalidCredentials, LockedOut, hashers.HashingBusy when this process hashes all it can, and what
    `clearance` raises.
    """
    name = users.identifier(email)
    device = devices.lane_of(by=by, email_key=name)
    attempt = lockout.attempt(_BUDGETS[purpose], account=name, address=by.address, device=device)
    question = _Question(name, attempt, purpose, by)
    # A place first: who is one too many is refused before anything is asked about the name.
    with hashers.capacity().admitted(known=attempt.is_known_device):
        return _checked(question, password, clearance)


def _checked(question: _Question, password: str, clearance: Clearance | None) -> User:
    attempt, name, by = question.attempt, question.name, question.by
    try:
        lockout.refuse_locked(attempt)
    except LockedOut:
        _record(question, None, "locked")
        raise
    if clearance is not None:
        clearance(name, attempt)
    user = User.objects.filter(email_key=name).first()
    is_right = _compare(user, password)
    if user is None or not is_right or not user.may_sign_in:
        raise _refused(question, user, is_right=is_right)
    try:
        lockout.settle(attempt)
    except LockedOut:
        _record(question, user, "locked")
        raise
    if not _remember(user, password, by):
        raise _refused(question, user, is_right=False)
    metrics.AUTH_ATTEMPTS.labels(outcome="accepted", factor="password").inc()
    return user


def _compare(user: User | None, password: str) -> bool:
    if user is None:
        passwords.burn(password)
        return False
    return passwords.matches(password, user.password)


def _remember(user: User, password: str, by: Actor) -> bool:
    """Write, when due, a newer hash of the same password, and that it must change. At most one statement.

    It applies only to the account as it was read: a password changed or an account closed while this one
    was hashing wins, and an old hash can never be written over a new one. Where nothing is due, the session
    that begins next asks whether the account is still the same, and keeps the moment.
    """
    now = timezone.now()
    changes: dict[str, Any] = {}
    newer = passwords.renewed(password, user.password)
    if newer is not None:
        changes |= {"password": newer, "password_rehashed_at": now}
    # The one moment when the password is here in clear: is it one that must change?
    weakness = "" if user.force_password_change else password_change.weakness(user, password)
    if weakness:
        changes |= password_change.flag_columns(weakness, now)
    if not changes:
        return True
    with transaction.atomic() if weakness else nullcontext():
        if not User.objects.filter(pk=user.pk, auth_epoch=user.auth_epoch, is_active=True).update(**changes):
            return False
        if weakness:
            password_change.tell_flagged(user, weakness, by=by)
    for name, value in changes.items():
        setattr(user, name, value)
    return True


def _refused(question: _Question, user: User | None, *, is_right: bool) -> errors.MeStoreError:
    failure = lockout.charge(question.attempt)
    _record(question, user, "closed_account" if is_right else "wrong_credentials")
    if failure.began_lock:
        audit.record_refusal(
            events.ACCOUNT_LOCKED,
            by=question.by,
            target=_target(question, user),
            data={"purpose": question.purpose, "seconds": failure.retry_after},
        )
    if failure.beyond_budget:
        return LockedOut(retry_after=failure.retry_after)
    return InvalidCredentials()


def _record(question: _Question, user: User | None, reason: str) -> None:
    event = events.SIGN_IN_FAILED if reason == "wrong_credentials" else events.SIGN_IN_REFUSED
    metrics.AUTH_ATTEMPTS.labels(
        outcome="locked" if reason == "locked" else "refused", factor="password"
    ).inc()
    audit.record_refusal(
        event,
        by=question.by,
        target=_target(question, user),
        data={"purpose": question.purpose, "reason": reason},
        may_wait=question.purpose == "api" and (user is None or not user.is_staff),
    )


def _target(question: _Question, user: User | None) -> tuple[str, str]:
    # People type passwords where the name belongs: what is not an account of ours is kept as a MAC only.
    if user is not None:
        return ("user", str(user.pk))
    return ("unknown_name", crypto.mac(question.name.encode(), purpose="unknown-name").hex())
