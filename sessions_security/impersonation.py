"""Seeing the system as somebody else: for support, for fifteen minutes, without touching anything.

An impersonated session is a session row of its own that names both accounts. It lives only as long as the
administrator's session behind it, shows no more than the administrator may see, and reads: every request that
would change something, and every page that shows or makes a secret, is refused. The account is told by mail.
Confirming (`sessions_security.stepup`) and deciding for a second person are refused in it, too.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from django.conf import settings
from django.contrib import auth
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import grants, hierarchy, roles
from accounts.models import User
from accounts.roles import Role
from mestore.lib import actor, errors
from mestore.lib.actor import Actor
from mestore.lib.request import network_of
from monitoring import audit, delivery, events
from sessions_security import sessions
from sessions_security.models import Impersonation, UserSession
from sessions_security.store import SessionStore

PERMISSION = "users.manage.global"
ORIGIN_COOKIE = "__Host-own-session"
METHOD = "impersonation"
STOPPED = "impersonation_stopped"
_BACKEND = "accounts.backends.GrantBackend"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# The only things that may be sent in an impersonated session: its end.
_ENDS = frozenset(
    {"auth-logout", "admin:logout", "console-sign-out", "impersonation-stop", "console-impersonation-stop"}
)
# Pages that show or make secrets, whatever the method.
_SECRETS = ("auth-mfa", "auth-passkey", "auth-step-up", "console-passkey")
_SECRET_PATHS = ("/admin/security/", "/admin/confirm/")


class NotWhileImpersonating(errors.Forbidden):
    """The session belongs to an administrator who acts as this account."""

    code = "IMPERSONATION_READ_ONLY"
    message = _("You act as another account: nothing can be changed, and secrets are not shown.")


class NotImpersonating(errors.Conflict):
    message = _("This session is your own: there is nothing to stop.")


@dataclass(frozen=True, slots=True)
class Banner:
    """What every page of an impersonated session says at its top."""

    account: str
    impersonator: str
    reason: str
    ends_at: dt.datetime


def begin(
    session: UserSession,
    target: User,
    *,
    kind: Literal["cookie", "token"] = "token",
    reason: str,
    by: Actor,
    bound_key: bytes | None = None,
) -> UserSession:
    """Begin a session as `target` on top of the administrator's own `session`; an earlier one ends.

    `bound_key` is the thumbprint of the key that its token is bound to, if any (`dpop`).

    That a factor is fresh is the caller's check (`guard.require("users.impersonate", request)`). Raises
    hierarchy.NotAllowed, hierarchy.ReasonMissing.
    """
    hierarchy.demand_reason(reason)
    authority = hierarchy.authority_of(by)
    why = _obstacle(authority, session, target, by)
    if why:
        audit.record_refusal(
            events.IMPERSONATION_REFUSED, by=by, target=("user", str(target.pk)), data={"why": why}
        )
        raise hierarchy.NotAllowed
    with transaction.atomic():
        _end_earlier(session, by)
        made = _make(session, target, kind, by, bound_key)
        Impersonation.objects.create(
            session_id=made.pk, origin_id=session.pk, impersonator=session.user, user=target,
            reason=reason[:500], started_at=made.created_at, ends_at=made.absolute_expires_at,
        )  # fmt: skip
        audit.record(
            events.IMPERSONATION_STARTED,
            by=by,
            target=("user", str(target.pk)),
            subject=str(target.pk),
            data={"session": str(made.pk), "kind": kind, "ends_at": made.absolute_expires_at},
            personal={"reason": reason},
        )
        delivery.notify(target, "impersonated", {"ends_at": made.absolute_expires_at}, by=by)
    made.impersonator_id = session.user_id
    return made


def begin_in_browser(request: HttpRequest, target: User, *, reason: str, by: Actor) -> UserSession:
    """As `begin`; from this answer on the browser shows the system as `target`.

    The caller puts the way back into the answer with `keep_way_back`, before anything else is sent.
    """
    own: Any = request.session
    request.own_session_key = own.session_key  # type: ignore[attr-defined]  # for `keep_way_back`
    with transaction.atomic():
        made = begin(own.user_session, target, kind="cookie", reason=reason, by=by)
        store = SessionStore()
        request.session = store
        auth.login(request, target, backend=_BACKEND)
        store.open(made)
    request.user_session = made  # type: ignore[attr-defined]  # part of what a request carries here
    return made


def keep_way_back(request: HttpRequest, response: HttpResponseBase) -> None:
    """Let the browser keep the administrator's own cookie aside, for when the impersonation stops."""
    response.set_cookie(
        ORIGIN_COOKIE, request.own_session_key, max_age=settings.IMPERSONATION_SECONDS,  # type: ignore[attr-defined]
        secure=True, httponly=True, samesite="Strict",
    )  # fmt: skip


def stop(session: UserSession, *, by: Actor) -> Impersonation:
    """End an impersonated session. Raises NotImpersonating."""
    found = Impersonation.objects.filter(pk=session.pk).first()
    if found is None:
        raise NotImpersonating
    with transaction.atomic():
        if sessions.end(session, by=by, why=STOPPED):
            _record_end(found, by)
    return found


def stop_in_browser(request: HttpRequest, response: HttpResponseBase) -> bool:
    """End the impersonation and give the browser its own session back; say whether that one still lives.

    Raises NotImpersonating.
    """
    session: UserSession | None = getattr(request, "user_session", None)
    if session is None:
        raise NotImpersonating
    found = stop(session, by=actor.of(request))
    own = SessionStore(request.COOKIES.get(ORIGIN_COOKIE) or None)
    response.delete_cookie(ORIGIN_COOKIE, samesite="Strict")
    # Only the session that this impersonation stands on; a cookie from elsewhere opens nothing here.
    alive = own.user_session is not None and own.user_session.pk == found.origin_id
    store = own if alive else SessionStore()
    store.modified = True
    request.session = store
    request.user_session = store.user_session  # type: ignore[attr-defined]
    return alive


def banner(session: UserSession | None) -> Banner | None:
    """Return what a page of an impersonated session says; None for any other session."""
    if session is None or session.impersonator_id is None:
        return None
    found = Impersonation.objects.select_related("impersonator", "user").get(pk=session.pk)
    return Banner(str(found.user), str(found.impersonator), found.reason, found.ends_at)


def demand_harmless(request: Any, session: UserSession) -> None:
    """Raise NotWhileImpersonating for what an impersonated session does not open."""
    if session.impersonator_id is None:
        return
    match = getattr(request, "resolver_match", None)
    name = match.view_name if match is not None else ""
    if name in _ENDS:
        return
    is_secret = name.startswith(_SECRETS) or request.path.startswith(_SECRET_PATHS)
    if request.method not in _SAFE or is_secret:
        request.user_session = session
        _refuse(request, session, name)


def _refuse(request: Any, session: UserSession, name: str) -> NoReturn:
    by = sessions.acting(actor.of(request), session)
    audit.record_refusal(
        events.IMPERSONATION_REFUSED,
        by=by,
        target=("session", str(session.pk)),
        data={"why": "read_only", "route": name, "method": request.method},
    )
    raise NotWhileImpersonating


def _obstacle(authority: hierarchy.Authority, session: UserSession, target: User, by: Actor) -> str:
    """Say in one word why this may not begin; an empty text when it may."""
    acting = authority.user
    if acting is None or acting.pk != session.user_id or by.session_id != str(session.pk):
        return "not_own_session"
    if session.impersonator_id is not None or by.impersonator is not None:
        return "impersonating"
    if not session.proved_second_factor():
        return "second_factor"
    if target.user_type == Role.SYSTEM or roles.level(target.user_type) >= roles.level(acting.user_type):
        return "rank"
    if not target.is_active or target.deleted_at is not None:
        return "closed"
    if not grants.has_perm(acting, PERMISSION):
        return "permission"
    return hierarchy.obstacle_over(authority, target)


def _make(
    session: UserSession, target: User, kind: Literal["cookie", "token"], by: Actor, bound_key: bytes | None
) -> UserSession:
    """Write the row. It evicts no session of the account and is not its last sign-in."""
    now = timezone.now()
    end = min(now + dt.timedelta(seconds=settings.IMPERSONATION_SECONDS), session.absolute_expires_at)
    made = UserSession(
        user=target,
        kind=kind,
        amr=[METHOD],
        created_at=now,
        last_seen_at=now,
        idle_expires_at=None,
        absolute_expires_at=end,
        address=by.address or "",
        network=network_of(by.address) if by.address else "",
        agent=(by.agent or "")[:256],
        auth_epoch=target.auth_epoch,
        bound_key=bound_key,
    )
    made.save(force_insert=True)
    return made


def _end_earlier(session: UserSession, by: Actor) -> None:
    earlier = Impersonation.objects.filter(origin_id=session.pk, ends_at__gt=timezone.now())
    for found in earlier:
        old = UserSession.objects.filter(pk=found.pk, revoked_at=None).first()
        if old is not None and sessions.end(old, by=by, why=STOPPED):
            _record_end(found, by)


def _record_end(found: Impersonation, by: Actor) -> None:
    audit.record(
        events.IMPERSONATION_ENDED,
        by=by,
        target=("user", str(found.user_id)),
        subject=str(found.user_id),
        data={"session": str(found.pk)},
    )
