"""A freeze: for a while nothing changes that opens an account, because somebody else may be in it.

Password, second factors, backup codes, addresses and the telephone stay as they are; so does what an
administrator could start for the account. One way stays open: a new password by a link to the stored
address, which is the owner's, unless that address changed itself within the freeze's length before it.
The freeze is asked for under the lock of the account, in the transaction of the change.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import hierarchy
from accounts.models import AddressChange, FactorFreeze, User
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events

COLUMNS: Final = frozenset({"password", "email", "email_key", "recovery_email", "telefono"})
"""Of an account, those that may not change."""


class FactorsFrozen(errors.Conflict):
    """Somebody said that a sign-in was not theirs; the answer says until when nothing changes."""

    code = "FACTORS_FROZEN"
    message = _("This account's password, factors and addresses cannot be changed for now.")

    def __init__(self, until: dt.datetime) -> None:
        super().__init__(extra={"until": until.isoformat(timespec="seconds")})
        self.until = until


class NotFrozen(errors.Conflict):
    """There is no freeze to lift."""

    message = _("Nothing about this account is frozen.")


def until(user: User, *, now: dt.datetime | None = None) -> dt.datetime | None:
    """Return when the freeze of `user` ends; None without one. One statement."""
    now = now or timezone.now()
    return FactorFreeze.objects.filter(user=user, until__gt=now).values_list("until", flat=True).first()


def demand_unfrozen(user: User, *, by: Actor, now: dt.datetime | None = None) -> None:
    """Let a change go on or raise FactorsFrozen, recorded. One statement."""
    end = until(user, now=now)
    if end is not None:
        audit.record_refusal(
            events.CHANGES_FREEZE_REFUSED, by=by, target=("user", str(user.pk)), subject=str(user.pk)
        )
        raise FactorsFrozen(end)


def demand_columns_unfrozen(user: User, columns: Iterable[str], *, by: Actor) -> None:
    """As `demand_unfrozen`, where one of `columns` is among those that may not change."""
    if not COLUMNS.isdisjoint(columns):
        demand_unfrozen(user, by=by)


def demand_own_address(user: User, *, by: Actor, now: dt.datetime | None = None) -> None:
    """Let a password be reset by mail, or raise FactorsFrozen when the address itself is a new one."""
    now = now or timezone.now()
    placed_at = (
        FactorFreeze.objects.filter(user=user, until__gt=now).values_list("placed_at", flat=True).first()
    )
    if placed_at is None:
        return
    before = placed_at - dt.timedelta(seconds=settings.FACTOR_FREEZE_SECONDS)
    if AddressChange.objects.filter(user=user, confirmed_at__gt=before).exists():
        demand_unfrozen(user, by=by, now=now)


def place(user: User, *, why: str, by: Actor, now: dt.datetime | None = None) -> FactorFreeze:
    """Freeze `user` from now on, or longer; in the caller's transaction."""
    now = now or timezone.now()
    end = now + dt.timedelta(seconds=settings.FACTOR_FREEZE_SECONDS)
    freeze, _made = FactorFreeze.objects.update_or_create(
        user=user, defaults={"why": why[:32], "placed_at": now, "until": end}
    )
    audit.record(
        events.CHANGES_FROZEN, by=by, target=("user", str(user.pk)), subject=str(user.pk),
        data={"why": why, "until": end},
    )  # fmt: skip
    return freeze


def lift(user: User, *, reason: str, by: Actor) -> None:
    """End a freeze before its time, as somebody above the account who talked to its owner; both addresses
    are told. The caller asks for a fresh factor.

    Raises hierarchy.ReasonMissing, hierarchy.NotAllowed, NotFrozen.
    """
    hierarchy.demand_reason(reason)
    hierarchy.demand_over(hierarchy.authority_of(by), user, by)
    with transaction.atomic():
        if not FactorFreeze.objects.filter(user=user, until__gt=timezone.now()).delete()[0]:
            raise NotFrozen
        audit.record(
            events.CHANGES_FREEZE_LIFTED, by=by, target=("user", str(user.pk)), subject=str(user.pk),
            personal={"reason": reason},
        )  # fmt: skip
        delivery.notify(user, "freeze_lifted", {}, by=by, second_address=True)
