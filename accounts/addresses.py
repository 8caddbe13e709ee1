"""Another e-mail address for an account, or a second one for messages about its security.

A new address counts when a link that was sent there is used by the signed-in account itself; until then mail
goes on to the old one. The old address (and the second one) is told at once, with a link that stops the
change, and told again when it is done. Whether another account has the address shows only to somebody who
proved that the mailbox is theirs. Reset links that went to the former address die with the change.
"""

from __future__ import annotations

import datetime as dt
from typing import Final
from urllib.parse import urlencode

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import freezes, links, users
from accounts.models import AddressChange, PasswordReset, User
from mestore.lib import errors, sql, throttle
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events

Kind = AddressChange.Kind
PER_HOUR: Final = 5
_CONFIRM, _CANCEL = "address-confirm", "address-cancel"


class SameAddress(errors.Unprocessable):
    """The address is the account's already."""

    message = _("The account has this address already.")

    def __init__(self) -> None:
        super().__init__(details=[errors.FieldError("body -> email", self.message, "same")])


class AddressTaken(errors.Conflict):
    """Another account has the address; told only to whoever proved the mailbox."""

    message = _("Another account has this address.")


class LinkOver(errors.BadRequest):
    """Unknown, used, too old, stopped, or of another account: never told apart."""

    code = "ADDRESS_LINK_INVALID"
    message = _("The link is not valid or has expired.")


def request_change(
    user: User, address: str, kind: Kind, *, by: Actor, now: dt.datetime | None = None
) -> AddressChange:
    """Ask for another address; it waits for the link that is mailed there. An earlier wish is over.

    Raises users.InvalidEmail, SameAddress, errors.TooManyRequests, errors.Conflict when two come at once.
    """
    now = now or timezone.now()
    user = User.objects.get(pk=user.pk)
    freezes.demand_unfrozen(user, by=by)
    key = users.normalise_email(address)
    former = user.email if kind == Kind.PRIMARY else user.recovery_email
    if key in {user.email_key, users.identifier(former)}:
        raise SameAddress
    _bound(user)
    try:
        with transaction.atomic():
            _stop_open(user, kind, now, by)
            return _open(user, address.strip(), kind, former, now, by)
    except IntegrityError as error:
        raise errors.Conflict from error


def confirm(user: User, token: str, *, by: Actor, now: dt.datetime | None = None) -> User:
    """Give `user` the address that `token` was sent to; return the account as it is now.

    Raises LinkOver, AddressTaken.
    """
    now = now or timezone.now()
    user = User.objects.get(pk=user.pk)
    freezes.demand_unfrozen(user, by=by)
    row = AddressChange.objects.filter(pk=links.row_id_of(token), user=user).first()
    if row is None or not links.proves(token, row.token_hash, _CONFIRM, *_bound_to(row)):
        raise LinkOver
    try:
        with transaction.atomic():
            _claim(row, user, now)
            _apply(row, user, now)
            audit.record(
                events.ADDRESS_CHANGED,
                by=by,
                target=("user", str(user.pk)),
                data={"kind": row.kind},
                personal={"former": row.former, "address": row.address},
                subject=str(user.pk),
            )
            _tell_done(row, user, by)
    except IntegrityError as error:
        raise AddressTaken from error
    return User.objects.get(pk=user.pk)


def cancel(token: str, *, by: Actor, now: dt.datetime | None = None) -> None:
    """Stop a change that waits, by the link that the old address received. Raises LinkOver."""
    now = now or timezone.now()
    row = AddressChange.objects.filter(pk=links.row_id_of(token)).first()
    if row is None or not links.proves(token, row.cancel_hash, _CANCEL, *_bound_to(row)):
        raise LinkOver
    if not _stop(row, now, by):
        raise LinkOver


def remove_recovery(user: User, *, by: Actor) -> User:
    """Take the second address off the account, telling both. Without one nothing happens."""
    user = User.objects.get(pk=user.pk)
    former = user.recovery_email
    if former:
        freezes.demand_unfrozen(user, by=by)
        with transaction.atomic():
            if User.objects.filter(pk=user.pk, recovery_email=former).update(recovery_email=""):
                audit.record(
                    events.ADDRESS_CHANGED,
                    by=by,
                    target=("user", str(user.pk)),
                    data={"kind": Kind.RECOVERY.value, "removed": True},
                    personal={"former": former},
                    subject=str(user.pk),
                )
                delivery.notify(user, "address_changed", {"is_second": True}, by=by, second_address=True)
    return User.objects.get(pk=user.pk)


def remove_ended(batch: int, *, now: dt.datetime | None = None) -> int:
    """Delete wishes that ended a week ago or earlier, a batch at a time. Returns how many went."""
    return sql.execute(
        "DELETE FROM accounts_addresschange WHERE id IN ("
        " SELECT id FROM accounts_addresschange WHERE expires_at < %s"
        " ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)",
        [(now or timezone.now()) - dt.timedelta(days=7), batch],
    )


def _bound(user: User) -> None:
    decision = throttle.hit([(throttle.Limit("address-change", PER_HOUR, 3_600), str(user.pk))])
    if not decision.allowed:
        raise errors.TooManyRequests(retry_after=decision.retry_after)


def _stop_open(user: User, kind: Kind, now: dt.datetime, by: Actor) -> None:
    for row in AddressChange.objects.filter(user=user, kind=kind, confirmed_at=None, cancelled_at=None):
        _stop(row, now, by)


def _stop(row: AddressChange, now: dt.datetime, by: Actor) -> bool:
    with transaction.atomic():
        stopped = AddressChange.objects.filter(pk=row.pk, confirmed_at=None, cancelled_at=None).update(
            cancelled_at=now
        )
        if stopped:
            audit.record(
                events.ADDRESS_CHANGE_CANCELLED,
                by=by,
                target=("user", str(row.user_id)),
                data={"kind": row.kind},
            )
    return bool(stopped)


def _open(user: User, address: str, kind: Kind, former: str, now: dt.datetime, by: Actor) -> AddressChange:
    row = AddressChange(
        user=user,
        kind=kind,
        address=address,
        former=former,
        auth_epoch=user.auth_epoch,
        created_at=now,
        expires_at=now + dt.timedelta(seconds=settings.ADDRESS_CHANGE_SECONDS),
    )
    token, row.token_hash = links.make(_CONFIRM, row.pk, *_bound_to(row))
    cancel_token, row.cancel_hash = links.make(_CANCEL, row.pk, *_bound_to(row))
    row.save(force_insert=True)
    audit.record(
        events.ADDRESS_CHANGE_REQUESTED, by=by, target=("user", str(user.pk)), data={"kind": kind.value},
        personal={"address": address}, subject=str(user.pk),
    )  # fmt: skip
    _ask(row, user, token, by)
    link = _link("cancel-email-change", cancel_token)
    context = {"link": link, "is_second": kind == Kind.RECOVERY, "address": by.address or ""}
    delivery.notify(user, "address_change_requested", context, by=by, second_address=True)
    return row


def _ask(row: AddressChange, user: User, token: str, by: Actor) -> None:
    """Mail the link to the new address; where an account has it, do the same work for nobody."""
    context = {"link": _link("confirm-email", token), "hours": settings.ADDRESS_CHANGE_SECONDS // 3_600}
    taken = User.objects.filter(email_key=users.identifier(row.address)).exists()
    if taken and row.kind == Kind.PRIMARY:
        delivery.decoy("address_confirm", context, by=by, expires_at=row.expires_at)
        return
    box = delivery.Mailbox(str(user.pk), row.address, user.language)
    delivery.mail(box, "address_confirm", context, by=by, expires_at=row.expires_at)


def _claim(row: AddressChange, user: User, now: dt.datetime) -> None:
    claimed = AddressChange.objects.filter(
        pk=row.pk,
        confirmed_at=None,
        cancelled_at=None,
        expires_at__gt=now,
        auth_epoch=user.auth_epoch,
    ).update(confirmed_at=now)
    if not claimed:
        raise LinkOver


def _apply(row: AddressChange, user: User, now: dt.datetime) -> None:
    mine = User.objects.filter(pk=user.pk, auth_epoch=row.auth_epoch, is_active=True, deleted_at=None)
    if row.kind == Kind.RECOVERY:
        changed = mine.update(recovery_email=row.address, updated_at=now)
    else:
        # Only over the address that the wish was made under.
        changed = mine.filter(email=row.former).update(
            email=row.address,
            email_key=users.normalise_email(row.address),
            email_verified=True,
            updated_at=now,
        )
        PasswordReset.objects.filter(user=user, used_at=None).update(used_at=now)
    if not changed:
        raise LinkOver


def _tell_done(row: AddressChange, user: User, by: Actor) -> None:
    """Tell every address that the account has now or had before."""
    context = {"is_second": row.kind == Kind.RECOVERY}
    known = {user.email, user.recovery_email, row.former, row.address}
    for address in sorted(known - {""}):
        box = delivery.Mailbox(str(user.pk), address, user.language)
        delivery.mail(box, "address_changed", context, by=by)


def _link(page: str, token: str) -> str:
    return f"{settings.FRONTEND_URL}/{page}?{urlencode({'token': token})}"


def _bound_to(row: AddressChange) -> tuple[links.Bound, ...]:
    return (row.user_id, row.kind, row.address, row.former, row.auth_epoch, row.expires_at)
