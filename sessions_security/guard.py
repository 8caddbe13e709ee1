"""Cookie sessions of plain Django views (the console): who is there, within which limits, and last seen.

DRF views answer these questions themselves (`authentication`). What goes wrong here is answered here: an
exception that leaves a middleware is a 500 to everything outside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode

from accounts.password_change import ChangeRequired
from mestore.lib import errors
from mestore.lib.http import problem
from mestore.lib.request import address_of
from sessions_security import (
    background,
    continuity,
    forced_change,
    impersonation,
    limits,
    session_check,
    sessions,
    stepup,
)
from sessions_security.models import UserSession

log = structlog.get_logger(__name__)

Handler = Callable[[HttpRequest], HttpResponseBase]


class SessionGuardMiddleware:
    """Admit the cookie's live session before a view runs, and note afterwards that it was used."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.user_session = None  # type: ignore[attr-defined]  # part of what a request carries here
        response = self.get_response(request)
        session = getattr(request, "user_session", None)
        if session is not None and not background.is_background(request):
            _note_use(session)
        return response

    def process_view(
        self, request: HttpRequest, view: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]
    ) -> HttpResponseBase | None:
        if hasattr(view, "cls") or request.path in limits.UNLIMITED_PATHS:
            return None
        try:
            _admit(request)
        except ChangeRequired as error:
            if request.path.startswith("/admin/"):
                return HttpResponseRedirect(reverse("console-password"))
            return _refusal(request, error)
        except stepup.StepUpRequired as error:
            if request.path.startswith("/admin/"):
                query = {"action": error.action, "next": request.get_full_path()}
                return HttpResponseRedirect(f"{reverse('console-confirm')}?{urlencode(query)}")
            return _refusal(request, error)
        except errors.MeStoreError as error:
            return _refusal(request, error)
        return None


def _admit(request: Any) -> None:
    """Put the live session and its account on the request; an ended session makes the caller a stranger."""
    if settings.SESSION_COOKIE_NAME in request.COOKIES:
        session: UserSession | None = request.session.user_session
        if session is not None:
            request.user_session = session
            # The check has loaded the account already; the framework looks here before it asks again.
            request._cached_user = session.user
            limits.limit_signed_in(request, session)
            _demand_same_place(request, session)
            impersonation.demand_harmless(request, session)
            session_check.seen_from(session, address_of(request))
            forced_change.refuse(request, session)
            return
    limits.limit_anonymous(request)


def _demand_same_place(request: Any, session: UserSession) -> None:
    """Raise what `continuity.check` raises; such a request is nobody's, and no use of the session."""
    try:
        continuity.check(session, request)
    except errors.MeStoreError:
        request.user_session, request._cached_user = None, AnonymousUser()
        raise


def _note_use(session: UserSession) -> None:
    try:
        sessions.touch(session)
    except DatabaseError as error:
        # The answer is made; a session that is not noted as used ends early, which is the safe side.
        log.warning("session_use_not_noted", error=type(error).__name__)


def _refusal(request: HttpRequest, error: errors.MeStoreError) -> HttpResponse:
    """Answer programs with a problem, people with a page; both with the same status and headers."""
    if not request.path.startswith("/admin/"):
        return problem(error, request=request)
    context = {"error": error, "request_id": getattr(request, "request_id", "")}
    response = render(request, "console/error.html", context, status=error.status)
    for name, value in error.headers.items():
        response[name] = value
    return response
