"""The console's emergency door: one sealed code, one session of an hour, everybody told."""

from __future__ import annotations

from typing import Any

from django.contrib import auth
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters

from accounts import break_glass
from accounts.models import BreakGlass
from mestore.lib import actor, errors
from mestore.lib.actor import Actor
from sessions_security import console_session, sessions
from sessions_security.models import UserSession


@method_decorator([never_cache, csrf_protect, sensitive_post_parameters("code")], name="dispatch")
class Emergency(View):
    """`/admin/emergency/`: type the code from the envelope."""

    http_method_names = ["get", "head", "post"]

    def get(self, request: HttpRequest) -> HttpResponseBase:
        return _form(request)

    def post(self, request: HttpRequest) -> HttpResponseBase:
        by = actor.of(request)
        try:
            sealed = break_glass.claim(request.POST.get("code", ""), by=by)
        except errors.MeStoreError as error:
            return _form(request, error)
        begin(request, sealed, by=by)
        return HttpResponseRedirect(reverse("admin:index"))


def begin(request: HttpRequest, sealed: BreakGlass, *, by: Actor) -> UserSession:
    """Begin the session that an opened seal allows; it ends with it."""
    store: Any = request.session
    with transaction.atomic():
        session = sessions.start(sealed.user, kind="cookie", amr=(break_glass.METHOD,), by=by)
        session.absolute_expires_at = min(session.absolute_expires_at, sealed.open_until or sealed.sealed_at)
        if session.idle_expires_at is not None:
            session.idle_expires_at = min(session.idle_expires_at, session.absolute_expires_at)
        session.save(update_fields=["absolute_expires_at", "idle_expires_at"])
        store.flush()
        auth.login(request, sealed.user, backend=console_session.BACKEND)
        store.open(session)
    request.user_session = session  # type: ignore[attr-defined]  # part of what a request carries here
    return session


def _form(request: HttpRequest, error: errors.MeStoreError | None = None) -> HttpResponse:
    status = error.status if error is not None else 200
    response = render(request, "console/emergency.html", {"error": error}, status=status)
    for name, value in (error.headers if error is not None else {}).items():
        response[name] = value
    return response
