"""A new password for somebody who forgot the old one: a link in the mailbox, once, for an hour.

The link proves the mailbox and nothing else: it signs nobody in, and the next sign-in asks for the second
factor as before. Whether an address has an account shows neither in the answer nor in the work that is done
for it. An administrator may have a link sent, and never chooses or learns a password.
"""

from __future__ import annotations

import datetime as dt
from typing import Final
from urllib.parse import urlencode

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import freezes, hierarchy, links, lockout, password_change, passwords, users
from accounts.models import PasswordReset, User
from accounts.roles import Role
from mestore.lib import crypto, errors, sql
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events

RESET: Final = "reset"
"""The budget of requests for a link."""
_PURPOSE = "password-reset"


class InvalidToken(errors.BadRequest):
    """Unknown, used, too old, or overtaken by another change: never told apart."""

    code = "RESET_TOKEN_INVALID"
    message = _("The link is not valid or has expired. Ask for another one.")


class NoMailbox(errors.Conflict):
    """The account is closed, a machine's, or has no address: no link can reach its owner."""

    message = _("A reset link cannot be sent to this account.")


def request(email: str, *, by: Actor, now: dt.datetime | None = None) -> None:
    """Send a link to the owner of `email`, if anybody has an account with it. Tells nobody whether.

    Raises lockout.LockedOut when the address or the network asked too often.
    """
    key = users.identifier(email)
    _take_turn(lockout.attempt(RESET, account=key, address=by.address))
    user = User.objects.filter(email_key=key).first()
    if user is not None and not _is_reachable(user):
        user = None
    unknown = ("unknown_name", crypto.mac(key.encode(), purpose="unknown-name").hex())
    with transaction.atomic():
        audit.record(
            events.PASSWORD_RESET_REQUESTED,
            by=by,
            target=("user", str(user.pk)) if user is not None else unknown,
        )
        _send_link(user, "password_reset", by=by, now=now)


def start(user: User, *, reason: str, by: Actor) -> User:
    """Have a link sent to `user`, as somebody who stands above them. The old password goes on working.

    Raises hierarchy.NotAllowed, hierarchy.ReasonMissing, NoMailbox.
    """
    hierarchy.demand_reason(reason)
    hierarchy.demand_over(hierarchy.authority_of(by), user, by)
    freezes.demand_unfrozen(user, by=by)
    if not _is_reachable(user):
        raise NoMailbox
    with transaction.atomic():
        hierarchy.record(events.PASSWORD_RESET_STARTED, user, by, data={"reason": reason})
        _send_link(user, "password_reset_started", by=by)
    return user


def is_open(token: str, *, now: dt.datetime | None = None) -> bool:
    """Say whether a link still works, without using it."""
    return _open_row(token, now or timezone.now()) is not None


def reset(token: str, *, new: str, by: Actor, now: dt.datetime | None = None) -> User:
    """Use the link: write the new password, end every session. A password that is refused uses up nothing.

    Raises InvalidToken, passwords.UnacceptablePassword, breached.PasswordListAway, hashers.HashingBusy.
    """
    now = now or timezone.now()
    row = _open_row(token, now)
    if row is None or row.user is None:
        raise _refused(by)
    user = row.user
    freezes.demand_own_address(user, by=by)
    password_change.check_new(user, new)
    stored = passwords.hashed(new)
    with transaction.atomic():
        # A link that was overtaken stays used: it could do nothing any more.
        done = _claim(row, now) and password_change.write(
            user, stored, event=events.PASSWORD_RESET_DONE, by=by
        )
    if not done:
        raise _refused(by, user)
    return User.objects.get(pk=user.pk)


def remove_ended(batch: int, *, now: dt.datetime | None = None) -> int:
    """Delete links that ended a day ago or earlier, a batch at a time. Returns how many went."""
    return sql.execute(
        "DELETE FROM accounts_passwordreset WHERE id IN ("
        " SELECT id FROM accounts_passwordreset WHERE expires_at < %s"
        " ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)",
        [(now or timezone.now()) - dt.timedelta(days=1), batch],
    )


def _take_turn(attempt: lockout.Attempt) -> None:
    """Count a request like a failure: nobody shall fill a mailbox. Raises lockout.LockedOut."""
    lockout.refuse_locked(attempt)
    counted = lockout.charge(attempt)
    if counted.beyond_budget:
        raise lockout.LockedOut(retry_after=counted.retry_after)


def _is_reachable(user: User) -> bool:
    return (
        user.is_active
        and user.deleted_at is None
        and user.user_type != Role.SYSTEM
        and user.email_key is not None
    )


def _send_link(user: User | None, template: str, *, by: Actor, now: dt.datetime | None = None) -> None:
    """Make a link and mail it; for nobody, do the same work and mail nothing."""
    now = now or timezone.now()
    row = PasswordReset(
        user=user,
        auth_epoch=user.auth_epoch if user is not None else 0,
        started_by=(by.id or by.kind)[:64],
        created_at=now,
        expires_at=now + dt.timedelta(seconds=settings.PASSWORD_RESET_SECONDS),
    )
    token, row.token_hash = links.make(_PURPOSE, row.pk, *_bound_to(row))
    row.save(force_insert=True)
    minutes = settings.PASSWORD_RESET_SECONDS // 60
    context = {"link": _link(user, token), "minutes": minutes, "address": by.address or ""}
    if user is None:
        delivery.decoy(template, context, by=by, expires_at=row.expires_at)
    else:
        delivery.notify(user, template, context, by=by, expires_at=row.expires_at)


def _link(user: User | None, token: str) -> str:
    query = urlencode({"token": token})
    if user is not None and user.is_staff:
        return f"{settings.PUBLIC_URL}/admin/password/reset/?{query}"
    return f"{settings.FRONTEND_URL}/reset-password?{query}"


def _open_row(token: str, now: dt.datetime) -> PasswordReset | None:
    named = links.row_id_of(token)
    row = (
        PasswordReset.objects.select_related("user")
        .filter(pk=named, used_at=None, expires_at__gt=now, user__isnull=False)
        .first()
    )
    if row is None or not links.proves(token, row.token_hash, _PURPOSE, *_bound_to(row)):
        return None
    if row.user is None or row.auth_epoch != row.user.auth_epoch:
        return None
    return row if _is_reachable(row.user) else None


def _bound_to(row: PasswordReset) -> tuple[links.Bound, ...]:
    return (row.user_id, row.auth_epoch, row.expires_at)


def _claim(row: PasswordReset, now: dt.datetime) -> bool:
    mine = PasswordReset.objects.filter(pk=row.pk, used_at=None, expires_at__gt=now)
    return bool(mine.update(used_at=now))


def _refused(by: Actor, user: User | None = None) -> InvalidToken:
    target = ("user", str(user.pk)) if user is not None else None
    audit.record_refusal(events.PASSWORD_RESET_REFUSED, by=by, target=target)
    return InvalidToken()
