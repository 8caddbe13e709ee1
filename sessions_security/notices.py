"""Telling owners of accounts about a sign-in, and the link with which they say that it was not theirs.

The link (256 bits, of which the SHA-256 is kept) works once and for a week. Opening it changes nothing: mail
scanners open links. Its button ends every session of the account, because whoever signed in knows the
password and may have more of them; forgets the device; stops changes of whatever opens the account for three
days (`accounts.freezes`), and asks for a new password, which then comes only by a link to the stored address.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Sequence
from typing import Literal
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import devices, factor_resets, freezes
from accounts.models import User
from mestore.lib import crypto, errors
from mestore.lib.actor import Actor
from monitoring import alerts, audit, delivery, events
from monitoring.alerts import Severity
from sessions_security import sessions
from sessions_security.models import SignInNotice, UserSession

Reason = Literal["device", "country", "risk"]

NEW_FOR_STAFF = alerts.declare(
    alerts.Rule("signin.new_for_staff", _("Staff signed in from somewhere new"), Severity.LOW, "new-sign-in")
)
DISOWNED = alerts.declare(
    alerts.Rule(
        "signin.disowned", _("An owner says a sign-in was not theirs"), Severity.HIGH, "disowned-sign-in"
    )
)
_LONGEST_TOKEN = 64


class NoticeOver(errors.Conflict):
    """The link is unknown, used or too old: never told apart."""

    code = "NOTICE_OVER"
    message = _("The link is not valid, or was used before.")


def send(session: UserSession, reasons: Sequence[Reason], *, by: Actor) -> None:
    """Mail the owner of `session` that it began, in its transaction; for the staff raise a signal, too."""
    user = session.user
    whom = {"target": ("user", str(user.pk)), "subject": str(user.pk)}
    audit.record(
        events.SIGN_IN_NOTICED, by=by, data={"session": str(session.pk), "reasons": list(reasons)}, **whom
    )
    if user.is_staff:
        evidence = {"session": str(session.pk), "network": session.network, "country": session.country,
                    "reasons": list(reasons)}  # fmt: skip
        severity = Severity.LOW if list(reasons) == ["device"] else Severity.MEDIUM
        alerts.raise_signal(
            NEW_FOR_STAFF, entity=("user", str(user.pk)), severity=severity, evidence=evidence
        )
    if not user.email:
        return
    token = secrets.token_urlsafe(32)
    now = timezone.now()
    SignInNotice.objects.create(
        user=user,
        session_id=session.pk,
        device_id=session.device_id,
        token_hash=_hash(token),
        created_at=now,
        expires_at=now + dt.timedelta(seconds=settings.SIGN_IN_NOTICE_SECONDS),
    )
    local = session.created_at.astimezone(ZoneInfo(settings.BUSINESS_TIME_ZONE))
    context = {
        "when": local.strftime("%Y-%m-%d %H:%M"),
        "country": session.country,
        "address": session.address,
        "agent": session.agent[:120],
        "is_new_country": "country" in reasons,
        "is_risky": "risk" in reasons,
        "link": f"{settings.PUBLIC_URL}/security/not-me/{token}/",
        "days": settings.SIGN_IN_NOTICE_SECONDS // 86_400,
    }
    delivery.notify(user, "new_device", context, by=by)


def disown(token: str, *, by: Actor, now: dt.datetime | None = None) -> User:
    """Do what the owner of an account wants who says "this was not me"; return the account.

    Raises NoticeOver. One of many presses at once does it.
    """
    now = now or timezone.now()
    with transaction.atomic():
        notice = _claim(token, now)
        if notice is not None:
            user = notice.user
            _end_everything(notice, by)
            freezes.place(user, why="not_me", by=by, now=now)
            audit.record(
                events.SIGN_IN_DISOWNED, by=by, target=("user", str(user.pk)), subject=str(user.pk),
                data={"session": str(notice.session_id)},
            )  # fmt: skip
            alerts.raise_signal(
                DISOWNED, entity=("user", str(user.pk)), evidence={"session": str(notice.session_id)}
            )
            hours = settings.FACTOR_FREEZE_SECONDS // 3_600
            delivery.notify(user, "sign_in_disowned", {"hours": hours}, by=by, second_address=True)
            return user
    audit.record_refusal(events.SIGN_IN_DISOWN_REFUSED, by=by)
    raise NoticeOver


def _claim(token: str, now: dt.datetime) -> SignInNotice | None:
    if len(token) > _LONGEST_TOKEN:
        return None
    mine = SignInNotice.objects.filter(token_hash=_hash(token), used_at=None, expires_at__gt=now)
    if not mine.update(used_at=now):
        return None
    return SignInNotice.objects.select_related("user").get(token_hash=_hash(token))


def _end_everything(notice: SignInNotice, by: Actor) -> None:
    """End sessions, refresh tokens and half-done sign-ins; forget the device that the session began on."""
    user = notice.user
    session = UserSession.objects.filter(pk=notice.session_id).first()
    device_id = (session.device_id if session is not None else None) or notice.device_id
    sessions.end_all(user, by=by, why="not_me")
    # What waits for a second step, or comes by a link, was born in the epoch that ends here.
    User.objects.filter(pk=user.pk).update(auth_epoch=F("auth_epoch") + 1, force_password_change=True)
    waiting = factor_resets.open_of(user)
    if waiting is not None:
        factor_resets.cancel(waiting, by=by)
    if device_id is not None and devices.of(user).filter(pk=device_id).exists():
        devices.revoke(user, device_id, by=by)


def _hash(token: str) -> bytes:
    return crypto.digest(token.encode("utf-8", "surrogatepass"))
