"""Leaving the cookie of a known device in a browser, after a full sign-in and never before."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponseBase

from accounts import devices
from accounts.models import User
from mestore.lib.actor import Actor
from mestore.lib.request import DEVICE_COOKIE
from sessions_security.console_pages import keep
from sessions_security.models import UserSession


def leave(
    request: Any, response: HttpResponseBase, user: User, *, by: Actor, session: UserSession | None = None
) -> None:
    """Make the browser behind `request` a known device of `user`, or renew what it is already.

    A browser is known for one account, the last that signed in. A value that somebody else put there is
    never taken over: an unknown one is replaced by a new one. `session` (else the browser's own) is the one
    that began here: it can be ended with its device.
    """
    session = session or getattr(request, "user_session", None)
    if devices.seen(user, by=by):
        token = request.COOKIES[DEVICE_COOKIE]
    else:
        token = devices.remember(user, by=by, device_id=session.device_id if session is not None else None)
    keep(response, DEVICE_COOKIE, token, seconds=settings.KNOWN_DEVICE_SECONDS)
