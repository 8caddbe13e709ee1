"""Who is calling the API: a bearer token or the console's cookie, each checked against the live session.

Both set `request.user`, `request.auth` and `request.user_session` (on the underlying Django request too) and
count the request in `limits`. Nothing presented is different from something wrong: a stranger goes on as a
stranger, a caller with a bad token is told so.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounts.models import User
from mestore.lib import actor, errors
from mestore.lib.request import address_of
from monitoring import audit, events
from sessions_security import dpop, forced_change, impersonation, limits, session_check, tokens
from sessions_security.continuity import check as demand_same_place
from sessions_security.models import UserSession
from sessions_security.tokens import InvalidToken

Authenticated = tuple[User, UserSession]

_SCHEMES = frozenset({"bearer", dpop.SCHEME.lower()})


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <access token>`, or `DPoP <access token>` with a proof (RFC 9449)."""

    def authenticate(self, request: Request) -> Authenticated | None:
        """Return the account and session of the token; None without one. Raises `InvalidToken` and others."""
        header = request.META.get("HTTP_AUTHORIZATION", "")
        scheme, _space, token = header.partition(" ")
        if scheme.lower() not in _SCHEMES:
            return None
        try:
            session = _session_of(token, request)
            _demand_proof(session, request, scheme, token)
            limits.limit_signed_in(request, session)
            demand_same_place(session, request)
            impersonation.demand_harmless(request._request, session)
        except errors.MeStoreError:
            # Whoever builds the answer asks for the user again: it must not start this a second time.
            request.user = AnonymousUser()
            raise
        return _admit(request, session)

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002  # DRF's signature
        return "Bearer"


class CookieAuthentication(BaseAuthentication):
    """The console's session cookie, with the CSRF check that every use of a cookie needs."""

    def authenticate(self, request: Request) -> Authenticated | None:
        """Return the account and session of the cookie; None for a stranger, who is counted as one."""
        base: Any = request._request
        try:
            session = base.session.user_session if settings.SESSION_COOKIE_NAME in base.COOKIES else None
            if session is None:
                limits.limit_anonymous(request)
                return None
            limits.limit_signed_in(request, session)
            _enforce_csrf(base)
            demand_same_place(session, base)
            impersonation.demand_harmless(base, session)
            session_check.seen_from(session, address_of(base))
        except errors.MeStoreError:
            request.user = AnonymousUser()
            raise
        return _admit(request, session)


class CSRFFailed(errors.Forbidden):
    """A cookie came without the proof that our own page sent the request."""

    code = "CSRF_FAILED"
    message = _("The request could not be verified. Reload the page and try again.")


class _CSRFCheck(CsrfViewMiddleware):
    # A reason in place of a page: the caller raises.
    def _reject(self, request: HttpRequest, reason: str) -> str:  # noqa: ARG002
        return reason


def _session_of(token: str, request: Request) -> UserSession:
    """Return the live session of `token`. A wrong one is charged to the caller's network first."""
    try:
        claims = tokens.verify_access(token)
        return tokens.session_of(claims, address=address_of(request._request))
    except InvalidToken as refusal:
        limits.limit_anonymous(request)
        if refusal.forged:
            audit.record_refusal(events.TOKEN_REFUSED, by=actor.of(request), data={"why": "forged"})
        raise


def _demand_proof(session: UserSession, request: Request, scheme: str, token: str) -> None:
    """Demand what `session` is bound to. A caller without it is charged to its network."""
    try:
        dpop.demand(session, request._request, scheme=scheme, access_token=token)
    except errors.Unauthorized:
        limits.limit_anonymous(request)
        raise


def _admit(request: Request, session: UserSession) -> Authenticated:
    base: Any = request._request
    base.user_session = session
    request.user_session = session  # type: ignore[attr-defined]  # part of what a request carries here
    try:
        forced_change.refuse(request, session)
    except errors.MeStoreError:
        request.user = AnonymousUser()
        raise
    return session.user, session


def _enforce_csrf(request: HttpRequest) -> None:
    def no_view(_request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    check = _CSRFCheck(no_view)
    check.process_request(request)
    # DRF exempts its views so that tokens need no form; a cookie brings the check back.
    if check.process_view(request, no_view, (), {}):
        raise CSRFFailed
