"""What the console's one script asks for before the browser asks for a passkey: options, as JSON."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST

from mestore.lib import actor, errors, http
from sessions_security import enrolment, limits, own_passkeys
from sessions_security.console_views import CONSOLE, PENDING_COOKIE
from sessions_security.security_views import inside, session_of

Ask = Callable[[HttpRequest], dict[str, Any]]


def _options(ask: Ask) -> Callable[..., HttpResponseBase]:
    """Make a view of `ask`: POST with the token of a form of ours; refusals are JSON, too."""

    @wraps(ask)
    def view(request: HttpRequest) -> HttpResponseBase:
        try:
            body = http.dumps(ask(request))
        except errors.MeStoreError as error:
            return http.problem(error, request=request)
        return HttpResponse(body, content_type="application/json", headers={"Cache-Control": "no-store"})

    wrapped: Callable[..., HttpResponseBase] = require_POST(never_cache(csrf_protect(view)))
    return wrapped


@_options
def sign_in_options(request: HttpRequest) -> dict[str, Any]:
    """For signing in with a passkey alone, in this browser."""
    limits.limit_anonymous(request)
    return own_passkeys.sign_in_options(bound_to=own_passkeys.browser_of(request))


@_options
def second_options(request: HttpRequest) -> dict[str, Any]:
    """For the second step of the sign-in that this browser is in."""
    return own_passkeys.second_factor_options(request.COOKIES.get(PENDING_COOKIE, ""), purposes=CONSOLE)


@_options
def first_options(request: HttpRequest) -> dict[str, Any]:
    """For a passkey as the first factor, in the middle of a sign-in."""
    return enrolment.passkey_options(request.COOKIES.get(PENDING_COOKIE, ""), purposes=CONSOLE)


@inside
@_options
def step_up_options(request: HttpRequest) -> dict[str, Any]:
    """For confirming who one is."""
    return own_passkeys.step_up_options(session_of(request))


@inside
@_options
def register_options(request: HttpRequest) -> dict[str, Any]:
    """For a new passkey."""
    return own_passkeys.registration_options(session_of(request), by=actor.of(request))
