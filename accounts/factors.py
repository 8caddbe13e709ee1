"""What an account can prove beside its password, and the one way in which every factor counts failures.

A kind of factor (`accounts.totp`, `accounts.backup_codes`, `accounts.passkeys`) finds out whether an answer
is right; `open_attempt`, `refuse` and `accept` around it do what all share: budgets, audit, metrics.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Final, NoReturn

from django.conf import settings
from django.db import transaction
from django.db.models import BooleanField, Exists, ExpressionWrapper, F, Model, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_otp import device_classes

from accounts import devices, lockout, suspension
from accounts.models import BackupCode, BackupCodeSet, Passkey, TotpDevice, User
from accounts.roles import Role
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events, metrics

TOTP: Final = "totp"
BACKUP_CODE: Final = "backup_code"
PASSKEY: Final = "passkey"


class LastFactor(errors.Conflict):
    """The staff must always have a second factor."""

    code = "LAST_FACTOR"
    message = _("This is the only second factor of the account. Add another one before you remove it.")


class FactorSuspended(errors.Forbidden):
    """Answered wrongly too often in a row; the answer names what may be proved in its place."""

    code = "FACTOR_SUSPENDED"
    message = _("This second factor is suspended after too many wrong answers. Use another one.")


def has_factor(user: User) -> bool:
    """Say whether `user` has a second factor. Backup codes alone are none: they stand in for one."""
    return counts(methods_of(user))


def acceptable(user: User, methods: Collection[str]) -> tuple[str, ...]:
    """Return those of `methods` that may complete a sign-in of `user`."""
    only_passkeys = settings.SUPERUSER_REQUIRES_PASSKEY and user.user_type == Role.SUPERUSER
    return tuple(method for method in methods if method == PASSKEY or not only_passkeys)


def counts(methods: Collection[str]) -> bool:
    """Say whether one of `methods` is a second factor by itself."""
    return any(method != BACKUP_CODE for method in methods)


def methods_of(user: User, *, bound_before: dt.datetime | None = None) -> tuple[str, ...]:
    """Return what `user` has to prove, best first; with `bound_before` only what was there by then.

    A passkey that was suspended is among them, though nothing proves it any more: a copied key must not turn
    its account into one that a password alone opens. One statement.
    """
    found = (
        User.objects.filter(pk=user.pk)
        .annotate(
            passkey=_exists(Passkey, Q(), "created_at", bound_before),
            totp=_exists(TotpDevice, Q(confirmed=True), "confirmed_at", bound_before),
            backup_code=_codes_left(bound_before),
        )
        .values_list("passkey", "totp", "backup_code")
        .first()
    )
    names = (PASSKEY, TOTP, BACKUP_CODE)
    return tuple(name for name, has in zip(names, found or (), strict=False) if has)


def proved(account: str = "pk") -> ExpressionWrapper[Q]:
    """Return the condition, for queries of accounts, that a second factor is there and works."""
    passkeys = Passkey.objects.filter(user=OuterRef(account), suspended_at=None)
    applications = TotpDevice.objects.filter(user=OuterRef(account), confirmed=True)
    return ExpressionWrapper(Q(Exists(passkeys)) | Q(Exists(applications)), output_field=BooleanField())


def lock_account(user: User) -> None:
    """Let changes to the factors of one account happen one after the other, until the transaction ends."""
    User.objects.select_for_update(no_key=True).filter(pk=user.pk).values_list("pk").first()


def settle_removal(user: User) -> None:
    """Draw the consequences of a factor that was just removed, in the same transaction.

    Raises LastFactor when the staff would be left without one. Backup codes stand in for a factor: without
    any they open nothing and go too. Whoever removes a factor proved another one: rows of wrong answers end.
    """
    suspension.forget(user)
    if User.objects.filter(proved(), pk=user.pk).exists():
        return
    if user.is_staff:
        raise LastFactor
    if not has_factor(user):
        BackupCodeSet.objects.filter(user=user).delete()


def remove_all(user: User) -> None:
    """Take every factor off an account, whatever its kind; runs in a transaction."""
    suspension.forget(user)
    for kind in device_classes():
        kind.objects.filter(user=user).delete()


def open_attempt(user: User, method: str, *, by: Actor) -> lockout.Attempt:
    """Begin an attempt at one of `user`'s factors, on a known device with that one's budget.

    Raises `lockout.LockedOut` when its budget is spent, FactorSuspended.
    """
    device = devices.lane_of(by=by, user=user)
    attempt = lockout.attempt(_budget(method), account=str(user.pk), address=by.address, device=device)
    try:
        is_suspended = lockout.refuse_locked(attempt)
    except lockout.LockedOut:
        record_refusal(user, method, "locked", by=by)
        raise
    if is_suspended:
        raise _suspended(user, method, by)
    return attempt


def refuse(
    user: User, method: str, attempt: lockout.Attempt, *, error: errors.MeStoreError, by: Actor
) -> NoReturn:
    """Count a wrong answer and raise `error`, or `lockout.LockedOut` when it was one too many."""
    failure = lockout.charge(attempt)
    record_refusal(user, method, "wrong", by=by)
    if failure.began_lock:
        audit.record_refusal(
            events.ACCOUNT_LOCKED, by=by, target=("user", str(user.pk)), data={"purpose": attempt.kind}
        )
    if suspension.note_wrong(attempt, method):
        _tell_suspended(user, method, by)
    if failure.beyond_budget:
        raise lockout.LockedOut(retry_after=failure.retry_after)
    raise error


def accept(method: str, attempt: lockout.Attempt) -> None:
    """Take a right answer: forget the failures.

    Raises `lockout.LockedOut`, FactorSuspended when a lock or the suspension came first.
    """
    if not lockout.settle(attempt):
        raise FactorSuspended
    metrics.AUTH_ATTEMPTS.labels(outcome="accepted", factor=method).inc()


def record_refusal(user: User, method: str, reason: str, *, by: Actor) -> None:
    """Keep that an answer was refused, whatever becomes of the request."""
    outcome = "locked" if reason == "locked" else "refused"
    metrics.AUTH_ATTEMPTS.labels(outcome=outcome, factor=method).inc()
    audit.record_refusal(
        events.FACTOR_REFUSED,
        by=by,
        target=("user", str(user.pk)),
        subject=str(user.pk),
        data={"factor": method, "reason": reason},
    )


def _suspended(user: User, method: str, by: Actor) -> FactorSuspended:
    record_refusal(user, method, "suspended", by=by)
    out = suspension.suspended(user)
    return FactorSuspended(extra={"methods": [name for name in methods_of(user) if name not in out]})


def _tell_suspended(user: User, method: str, by: Actor) -> None:
    audit.record_refusal(
        events.FACTOR_SUSPENDED, by=by, target=("user", str(user.pk)), subject=str(user.pk),
        data={"factor": method},
    )  # fmt: skip
    with transaction.atomic():
        context = {"at": timezone.now(), "factor": method}
        delivery.notify(user, "factor_suspended", context, by=by, second_address=True)


def _budget(method: str) -> str:
    return suspension.DOORS[method]


def _exists(model: type[Model], wanted: Q, bound: str, before: dt.datetime | None) -> Exists:
    rows = model._default_manager.filter(wanted, user=OuterRef("pk"))
    return Exists(rows.filter(**{f"{bound}__lte": before}) if before else rows)


def _codes_left(before: dt.datetime | None) -> Exists:
    codes = BackupCode.objects.filter(
        code_set__user=OuterRef("pk"), generation=F("code_set__generation"), used_at=None
    )
    return Exists(codes.filter(code_set__created_at__lte=before) if before else codes)
