"""Known devices: browsers that an account was fully signed in from before.

Strangers can use up an account's attempts; a known device has attempts of its own, so they cannot keep the
owner out. The cookie (256 bits, of which the SHA-256 is kept) proves nothing else: it is no factor and opens
nothing, and a device that fails too often is locked like an account. It counts for its one account only.
"""

from __future__ import annotations

import datetime as dt
import secrets
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import KnownDevice, User
from mestore.lib import crypto, errors, ids, sql
from mestore.lib.actor import Actor
from monitoring import audit, events

_NAME_LENGTH = 200

# Those that came back are worth keeping; programs that drop their cookies make the others. The DELETE does
# not see the new row.
_REMEMBER = """
WITH made AS (
    INSERT INTO accounts_knowndevice (id, user_id, token_hash, name, address, created_at, expires_at)
    VALUES (%(id)s, %(user)s, %(token_hash)s, %(name)s, %(address)s, %(now)s, %(expires_at)s)
)
DELETE FROM accounts_knowndevice WHERE id IN (
    SELECT id FROM accounts_knowndevice WHERE user_id = %(user)s
     ORDER BY (last_used_at IS NULL), coalesce(last_used_at, created_at) DESC OFFSET %(others)s)
"""


def lane_of(*, by: Actor, email_key: str | None = None, user: User | None = None) -> UUID | None:
    """Return the known device behind `by`, if it is one of this very account (named or given).

    One statement when the browser shows a cookie, none otherwise: nothing depends on whether the account
    exists.
    """
    if by.device is None:
        return None
    known = _alive(timezone.now()).filter(token_hash=bytes.fromhex(by.device))
    mine = known.filter(user=user) if user is not None else known.filter(user__email_key=email_key)
    return mine.values_list("pk", flat=True).first()


def seen(user: User, *, by: Actor, now: dt.datetime | None = None) -> bool:
    """Note a full sign-in from a device that is known already; say whether it is. One statement."""
    if by.device is None:
        return False
    now = now or timezone.now()
    known = _alive(now).filter(user=user, token_hash=bytes.fromhex(by.device))
    return known.update(last_used_at=now, expires_at=now + _life()) == 1


def remember(user: User, *, by: Actor, device_id: UUID | None = None, now: dt.datetime | None = None) -> str:
    """Make the browser behind a full sign-in a known device; return the cookie's value, kept nowhere.

    `device_id` is a new id that the session names already. The event of that sign-in, with address and agent,
    is its record. One statement.
    """
    now = now or timezone.now()
    token = secrets.token_urlsafe(32)
    sql.execute(
        _REMEMBER,
        {
            "id": device_id or ids.uuid7(),
            "user": user.pk,
            "token_hash": crypto.digest(token.encode("ascii")),
            "name": by.agent[:_NAME_LENGTH],
            "address": by.address,
            "now": now,
            "expires_at": now + _life(),
            "others": settings.KNOWN_DEVICES - 1,
        },
    )
    return token


def of(user: User, *, now: dt.datetime | None = None) -> QuerySet[KnownDevice]:
    """Return the known devices of `user`, newest first."""
    return _alive(now or timezone.now()).filter(user=user).order_by("-created_at", "-pk")


def revoke(user: User, device_id: UUID, *, by: Actor) -> None:
    """Forget one device of `user`. Raises errors.NotFound, also for a device of somebody else."""
    with transaction.atomic():
        if not KnownDevice.objects.filter(user=user, pk=device_id).delete()[0]:
            raise errors.NotFound
        _record(events.DEVICE_FORGOTTEN, user, by, {"device": str(device_id)})


def revoke_all(user: User, *, by: Actor) -> int:
    """Forget every device of `user`; return how many there were."""
    with transaction.atomic():
        gone = KnownDevice.objects.filter(user=user).delete()[0]
        _record(events.DEVICE_FORGOTTEN, user, by, {"devices": gone})
    return gone


def distrust(user: User, *, by: Actor, keep_own: bool) -> int:
    """Forget the devices of `user` because what proves who they are has changed; return how many went.

    With `keep_own` the browser behind `by` stays, if the account itself made the change: for callers that
    had a fresh proof. Nothing is recorded when there was nothing to forget. Needs a transaction.
    """
    theirs = KnownDevice.objects.filter(user=user)
    if keep_own and by.device is not None and by.id == str(user.pk) and by.impersonator is None:
        theirs = theirs.exclude(token_hash=bytes.fromhex(by.device))
    gone = theirs.delete()[0]
    if gone:
        _record(events.DEVICE_FORGOTTEN, user, by, {"devices": gone})
    return gone


def remove_ended(batch: int, *, now: dt.datetime | None = None) -> int:
    """Delete devices that did not come back in time, a batch at a time. Returns how many went."""
    return sql.execute(
        "DELETE FROM accounts_knowndevice WHERE id IN ("
        " SELECT id FROM accounts_knowndevice WHERE expires_at < %s"
        " ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)",
        [now or timezone.now(), batch],
    )


def _alive(now: dt.datetime) -> QuerySet[KnownDevice]:
    return KnownDevice.objects.filter(expires_at__gt=now)


def _life() -> dt.timedelta:
    return dt.timedelta(seconds=settings.KNOWN_DEVICE_SECONDS)


def _record(event: str, user: User, by: Actor, data: dict[str, object]) -> None:
    audit.record(event, by=by, target=("user", str(user.pk)), data=data, subject=str(user.pk))
