"""Removing all second factors of an account: asked for with two proofs, held for a while, easily stopped.

The hold (setting FACTOR_RESET_HOLD_SECONDS, a day for the staff) is the owner's time to read the message that
went to both of their addresses and to say that it was not them. The worker carries out what is due.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Sequence
from contextlib import suppress

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import devices, factors, freezes
from accounts.models import FactorReset, User
from mestore.lib import crypto, errors
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events

_LONGEST_HOLD = 86_400
_BATCH = 100


class ResetOver(errors.Conflict):
    """Nothing to stop: the link is wrong, or the reset was stopped or carried out before."""

    code = "RESET_OVER"
    message = _("There is no factor reset that could be stopped.")


def request(user: User, proofs: Sequence[str], *, by: Actor) -> FactorReset:
    """Begin the hold, or return the reset that waits already. Runs in the transaction of the last proof."""
    factors.lock_account(user)
    freezes.demand_unfrozen(user, by=by)
    earlier = open_of(user)
    if earlier is not None:
        return earlier
    token = secrets.token_urlsafe(32)
    now = timezone.now()
    hold = settings.FACTOR_RESET_HOLD_SECONDS.get(str(user.user_type), _LONGEST_HOLD)
    reset = FactorReset.objects.create(
        user=user,
        proofs=list(proofs),
        cancel_hash=crypto.digest(token.encode()),
        requested_at=now,
        due_at=now + dt.timedelta(seconds=hold),
    )
    _record(events.FACTOR_RESET_REQUESTED, reset, by, {"proofs": list(proofs), "due_at": reset.due_at})
    context = {"due_at": reset.due_at, "cancel_url": _cancel_url(user, token)}
    delivery.notify(user, "factor_reset_requested", context, by=by, second_address=True)
    return reset


def cancel_by_token(token: str, *, by: Actor) -> FactorReset:
    """Stop the reset whose message had this link. Raises ResetOver."""
    found = waiting().filter(cancel_hash=crypto.digest(token.encode("utf-8", "surrogatepass"))).first()
    if found is None:
        raise ResetOver
    return cancel(found, by=by)


def cancel(reset: FactorReset, *, by: Actor) -> FactorReset:
    """Stop a reset. Every session of the account ends, and a password that was one of the proofs must be
    changed: whoever asked knows it. Raises ResetOver.
    """
    with transaction.atomic():
        now = timezone.now()
        label = (by.id or by.label or by.kind)[:64]
        if not waiting().filter(pk=reset.pk).update(cancelled_at=now, cancelled_by=label):
            raise ResetOver
        reset.cancelled_at, reset.cancelled_by = now, label
        changes = {"force_password_change": True} if "password" in reset.proofs else {}
        _end_everything(reset.user, **changes)
        devices.distrust(reset.user, by=by, keep_own=False)
        _record(events.FACTOR_RESET_CANCELLED, reset, by, {"proofs": reset.proofs})
        delivery.notify(reset.user, "factor_reset_cancelled", {}, by=by, second_address=True)
    return reset


def carry_out_due(*, by: Actor, now: dt.datetime | None = None) -> int:
    """Carry out what is due, each in a transaction of its own; return how many accounts it was.

    For an account that was closed or frozen meanwhile it is stopped: it shall not come back without its
    factors.
    """
    moment = now or timezone.now()
    due = waiting().filter(due_at__lte=moment).select_related("user").order_by("due_at")[:_BATCH]
    return sum(_carry_out(reset, moment, by) for reset in due)


def waiting() -> QuerySet[FactorReset]:
    """Return the resets that are on hold."""
    return FactorReset.objects.filter(cancelled_at=None, carried_out_at=None)


def open_of(user: User) -> FactorReset | None:
    """Return the reset of `user` that is on hold."""
    return waiting().filter(user=user).first()


def _carry_out(reset: FactorReset, now: dt.datetime, by: Actor) -> bool:
    is_frozen = freezes.until(reset.user, now=now) is not None
    if is_frozen or not reset.user.is_active or reset.user.deleted_at is not None:
        with suppress(ResetOver):
            cancel(reset, by=by)
        return False
    with transaction.atomic():
        factors.lock_account(reset.user)
        if not waiting().filter(pk=reset.pk, due_at__lte=now).update(carried_out_at=timezone.now()):
            return False
        factors.remove_all(reset.user)
        _end_everything(reset.user)
        devices.distrust(reset.user, by=by, keep_own=False)
        _record(events.FACTOR_RESET_DONE, reset, by, {"proofs": reset.proofs})
        delivery.notify(reset.user, "factor_reset_done", {}, by=by, second_address=True)
    return True


def _end_everything(user: User, **changes: bool) -> None:
    # A session remembers the epoch it was born in; so does a sign-in that waits for its second step.
    User.objects.filter(pk=user.pk).update(auth_epoch=F("auth_epoch") + 1, **changes)


def _cancel_url(user: User, token: str) -> str:
    if user.is_staff:
        return f"{settings.PUBLIC_URL}/admin/recovery/cancel/{token}/"
    return f"{settings.FRONTEND_URL}/recovery/cancel?token={token}"


def _record(event: str, reset: FactorReset, by: Actor, data: dict[str, object]) -> None:
    audit.record(
        event,
        by=by,
        target=("user", str(reset.user_id)),
        subject=str(reset.user_id),
        data={"reset": str(reset.pk), **data},
    )
