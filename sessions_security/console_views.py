"""Signing in to the console: password, then code, at one address, without JavaScript.

Between the two steps the browser holds the pending sign-in's token in a cookie that scripts cannot read and
other sites cannot make it send. Whether that cookie names a live pending sign-in decides which of the two
forms is shown.
"""

from __future__ import annotations

from collections.abc import Collection

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from accounts import factors, login
from accounts.models import User
from mestore.lib import actor, errors
from sessions_security import (
    console_session,
    device_cookie,
    factor_proofs,
    limits,
    own_passkeys,
    sessions,
    signin,
)
from sessions_security.console_pages import LONGEST_NEXT, drop, keep, next_of

PENDING_COOKIE = "__Host-signin"
CONSOLE: tuple[signin.Purpose, ...] = ("console",)


@method_decorator(
    [never_cache, csrf_protect, sensitive_post_parameters("password", "code", "credential")], name="dispatch"
)
class SignIn(View):
    """`/admin/login/`: the only way into the console."""

    http_method_names = ["get", "head", "post"]

    def get(self, request: HttpRequest) -> HttpResponseBase:
        session = getattr(request, "user_session", None)
        if session is not None:
            # Who acts as somebody from outside of the staff would be sent to and fro between here and there.
            outside = getattr(session, "impersonator_id", None) is not None and not session.user.is_staff
            return HttpResponseRedirect(reverse("console-impersonation") if outside else next_of(request))
        mfa_token = request.COOKIES.get(PENDING_COOKIE, "")
        if not mfa_token:
            return _form(request, "password")
        methods = _methods(mfa_token)
        if methods is None:
            return _without_cookie(_form(request, "password", signin.SignInOver()))
        if not factors.counts(methods):
            return _to_first_factor(request)
        return _form(request, "code", methods=methods)

    def post(self, request: HttpRequest) -> HttpResponseBase:
        step = request.POST.get("step", "password")
        if step == "restart":
            return _without_cookie(_again(request))
        if step == "passkey":
            return self._passkey(request)
        return self._code(request) if step == "code" else self._password(request)

    def _password(self, request: HttpRequest) -> HttpResponseBase:
        email, password = request.POST.get("email", ""), request.POST.get("password", "")
        by = actor.of(request)
        try:
            limits.limit_sign_in(request, email)
            user = signin.check_password(email, password, purpose="console", by=by)
            mfa_token = signin.require_second_step(user, purpose="console", by=by)
        except signin.MfaEnrolmentRequired as due:
            response = _to_first_factor(request)
            keep(response, PENDING_COOKIE, due.mfa_token, seconds=settings.TOTP_ENROLMENT_SECONDS)
            return response
        except signin.NotAdministrator:
            return _form(request, "password", login.InvalidCredentials())
        except errors.MeStoreError as error:
            return _form(request, "password", error)
        response = _again(request)
        keep(response, PENDING_COOKIE, mfa_token, seconds=settings.PENDING_SIGN_IN_SECONDS)
        return response

    def _passkey(self, request: HttpRequest) -> HttpResponseBase:
        try:
            user = _open_with_passkey(request)
        except errors.MeStoreError as error:
            return _without_cookie(_form(request, "password", error))
        return _known(request, _without_cookie(HttpResponseRedirect(next_of(request))), user)

    def _code(self, request: HttpRequest) -> HttpResponseBase:
        mfa_token = request.COOKIES.get(PENDING_COOKIE, "")
        method = request.POST.get("method", factors.TOTP)
        answer = {
            "code": "".join(request.POST.get("code", "").split()),
            "credential": request.POST.get("credential", ""),
        }
        try:
            user, replacement = _open(request, mfa_token, method, answer)
        except (signin.SignInOver, sessions.AccountChanged) as error:
            return _without_cookie(_form(request, "password", error))
        except errors.MeStoreError as error:
            return _form(request, "code", error, methods=_methods(mfa_token) or ())
        if replacement:
            # Shown in this answer and kept nowhere.
            context = {"code": replacement, "next": next_of(request)}
            shown = render(request, "console/replacement_code.html", context)
            return _known(request, _without_cookie(shown), user)
        return _known(request, _without_cookie(HttpResponseRedirect(next_of(request))), user)


@require_POST
@never_cache
@csrf_protect
def sign_out(request: HttpRequest) -> HttpResponseBase:
    """End the session and ask the browser to forget what it kept of the console."""
    session = getattr(request, "user_session", None)
    if session is not None:
        signin.sign_out(session, everywhere=False, by=actor.of(request))
        request.user_session = None  # type: ignore[attr-defined]  # nothing left to note as used
    request.session.flush()
    response = HttpResponseRedirect(reverse("admin:login"))
    response["Clear-Site-Data"] = signin.CLEAR_SITE_DATA
    return response


def _open(
    request: HttpRequest, mfa_token: str, method: str, answer: factor_proofs.Answer
) -> tuple[User, str]:
    """Prove the factor and give this browser a new session; return whose, and what replaces a used code."""
    by = actor.of(request)
    pending, proof = signin.prove_second_step(
        mfa_token, method=method, answer=answer, purposes=CONSOLE, by=by
    )
    with transaction.atomic():
        signin.claim(pending)
        replacement = proof.use(by)
        console_session.start(request, pending.user, amr=(signin.PASSWORD, proof.amr), proof=proof, by=by)
    return pending.user, replacement


def _open_with_passkey(request: HttpRequest) -> User:
    """Give this browser a session by a passkey alone. Whoever is no administrator learns nothing else."""
    by = actor.of(request)
    user, proof = own_passkeys.prove_sign_in(
        request.POST.get("credential", ""), bound_to=own_passkeys.browser_of(request), by=by
    )
    signin.demand_staff(user, by=by)
    with transaction.atomic():
        console_session.start(request, user, amr=own_passkeys.amr_alone(proof), proof=proof, by=by)
    return user


def _methods(mfa_token: str) -> tuple[str, ...] | None:
    """Return what the person of a pending sign-in can prove; None when there is no such sign-in."""
    try:
        pending = signin.pending_of(mfa_token, purposes=CONSOLE)
    except signin.SignInOver:
        return None
    methods = factors.methods_of(pending.user)
    return factors.acceptable(pending.user, methods) or methods


def _to_first_factor(request: HttpRequest) -> HttpResponse:
    query = urlencode({"next": next_of(request)})
    return HttpResponseRedirect(f"{reverse('console-first-factor')}?{query}")


def _form(
    request: HttpRequest,
    step: str,
    error: errors.MeStoreError | None = None,
    *,
    methods: Collection[str] = (),
) -> HttpResponse:
    context = {
        "step": step,
        "methods": methods,
        "method": request.POST.get("method", ""),
        "error": error.message if error else "",
        "next": request.POST.get("next", request.GET.get("next", ""))[:LONGEST_NEXT],
        "email": request.POST.get("email", "")[:254] if step == "password" else "",
    }
    response = render(request, "console/login.html", context, status=error.status if error else 200)
    if error and "Retry-After" in error.headers:
        response["Retry-After"] = error.headers["Retry-After"]
    return response


def _again(request: HttpRequest) -> HttpResponse:
    target = next_of(request)
    query = f"?{urlencode({'next': target})}" if target != reverse("admin:index") else ""
    return HttpResponseRedirect(reverse("admin:login") + query)


def _known(request: HttpRequest, response: HttpResponse, user: User) -> HttpResponse:
    device_cookie.leave(request, response, user, by=actor.of(request))
    return response


def _without_cookie(response: HttpResponse) -> HttpResponse:
    drop(response, PENDING_COOKIE)
    return response
