"""Pages for staff who are not in yet: the first factor, and the way back after losing one.

What is shown once (a picture to scan, backup codes) is in one answer and kept nowhere.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters

from accounts import factor_resets, recovery, totp
from mestore.lib import actor, errors
from mestore.lib.actor import Actor
from sessions_security import console_session, device_cookie, enrolment, sessions, signin
from sessions_security.console_pages import drop, keep, next_of
from sessions_security.console_views import CONSOLE, PENDING_COOKIE
from sessions_security.security_views import codes_file, error_text

RECOVERY_COOKIE = "__Host-recovery"
_LONGEST_NAME = 64
_PROTECTED = [
    never_cache,
    csrf_protect,
    sensitive_post_parameters("password", "code", "credential"),
]


@method_decorator(_PROTECTED, name="dispatch")
class FirstFactor(View):
    """`/admin/first-factor/`: name the telephone, scan, give the first code; the codes end the page."""

    http_method_names = ["get", "head", "post"]

    def get(self, request: HttpRequest) -> HttpResponseBase:
        if not signin.is_pending(request.COOKIES.get(PENDING_COOKIE, ""), purpose="console"):
            return HttpResponseRedirect(reverse("admin:login"))
        return _first(request, "name")

    def post(self, request: HttpRequest) -> HttpResponseBase:
        step = request.POST.get("step", "name")
        try:
            return self._begin(request) if step == "name" else self._finish(request)
        except (signin.SignInOver, sessions.AccountChanged):
            response = HttpResponseRedirect(reverse("admin:login"))
            drop(response, PENDING_COOKIE)
            return response
        except totp.EnrolmentOver as error:
            return _first(request, "name", error)
        except errors.MeStoreError as error:
            return _first(request, "code" if step == "code" else "name", error)

    def _begin(self, request: HttpRequest) -> HttpResponse:
        made = enrolment.begin(
            request.COOKIES.get(PENDING_COOKIE, ""),
            name=request.POST.get("name", "")[: _LONGEST_NAME + 1],
            purposes=CONSOLE,
            by=actor.of(request),
        )
        groups = [made.secret[start : start + 4] for start in range(0, len(made.secret), 4)]
        return _first(request, "scan", qr=made.qr_svg(), secret=" ".join(groups))

    def _finish(self, request: HttpRequest) -> HttpResponse:
        by = actor.of(request)
        done = _first_proof(request, by)
        with transaction.atomic():
            codes = done.complete(by=by)
            console_session.start(
                request, done.user, amr=(signin.PASSWORD, done.proof.amr), proof=done.proof, by=by
            )
        context = {
            "codes": codes,
            "download": codes_file(codes),
            "made": timezone.now(),
            "next": next_of(request),
        }
        response = render(request, "console/first_codes.html", context)
        drop(response, PENDING_COOKIE)
        device_cookie.leave(request, response, done.user, by=by)
        return response


def _first_proof(request: HttpRequest, by: Actor) -> enrolment.Enrolled:
    mfa_token = request.COOKIES.get(PENDING_COOKIE, "")
    if request.POST.get("step") == "passkey":
        return enrolment.prove_passkey(
            mfa_token,
            name=request.POST.get("name", "")[: _LONGEST_NAME + 1],
            credential=request.POST.get("credential", ""),
            purposes=CONSOLE,
            by=by,
        )
    code = "".join(request.POST.get("code", "").split())
    return enrolment.prove(mfa_token, code=code, purposes=CONSOLE, by=by)


def _first(
    request: HttpRequest, step: str, error: errors.MeStoreError | None = None, **context: Any
) -> HttpResponse:
    values = {"step": step, "next": next_of(request), "error": error_text(error) if error else "", **context}
    return _answer(request, "console/first_factor.html", values, error)


@method_decorator(_PROTECTED, name="dispatch")
class Recovery(View):
    """`/admin/recovery/`: two proofs, then a wait that the owner can stop. `token` comes with a message."""

    http_method_names = ["get", "head", "post"]

    def get(self, request: HttpRequest, token: str = "") -> HttpResponseBase:
        if not token:
            return self._where_it_stands(request, request.COOKIES.get(RECOVERY_COOKIE, ""))
        # Answered here: a browser that comes from a mail does not send this cookie with a redirect.
        response = self._where_it_stands(request, token)
        if RECOVERY_COOKIE not in response.cookies:  # dropped: the link opens no case, whatever it holds
            keep(response, RECOVERY_COOKIE, token, seconds=settings.RECOVERY_SECONDS)
        return response

    def post(self, request: HttpRequest, token: str = "") -> HttpResponseBase:
        if token:
            raise errors.NotFound
        step = request.POST.get("step", "begin")
        try:
            if step == "restart":
                response: HttpResponse = HttpResponseRedirect(reverse("console-recovery"))
                drop(response, RECOVERY_COOKIE)
                return response
            if step == "begin":
                made = recovery.begin(request.POST.get("email", "")[:320], by=actor.of(request))
                response = HttpResponseRedirect(reverse("console-recovery"))
                keep(response, RECOVERY_COOKIE, made, seconds=settings.RECOVERY_SECONDS)
                return response
            return self._prove(request, step)
        except errors.MeStoreError as error:
            return self._where_it_stands(request, request.COOKIES.get(RECOVERY_COOKIE, ""), error)

    def _prove(self, request: HttpRequest, method: str) -> HttpResponse:
        answer = {
            "code": "".join(request.POST.get("code", "").split()),
            "email": request.POST.get("email", "")[:320],
            "password": request.POST.get("password", ""),
        }
        cookie = request.COOKIES.get(RECOVERY_COOKIE, "")
        recovery.prove(cookie, method=method, answer=answer, by=actor.of(request))
        return HttpResponseRedirect(reverse("console-recovery"))

    def _where_it_stands(
        self, request: HttpRequest, token: str, error: errors.MeStoreError | None = None
    ) -> HttpResponse:
        context: dict[str, Any] = {"error": error_text(error) if error else "", "step": "begin"}
        if token:
            try:
                so_far = recovery.progress(token)
            except recovery.RecoveryOver as over:
                context["error"] = context["error"] or error_text(over)
                response = _answer(request, "console/recovery.html", context, error)
                drop(response, RECOVERY_COOKIE)
                return response
            missing = [one for one in recovery.methods() if one not in so_far.proofs]
            context |= {"step": "done" if so_far.is_complete else "prove", "reset": so_far.reset,
                        "proofs": so_far.proofs, "missing": missing}  # fmt: skip
        return _answer(request, "console/recovery.html", context, error)


@method_decorator(_PROTECTED, name="dispatch")
class CancelReset(View):
    """`/admin/recovery/cancel/<token>/`: "it was not me". A button, so that no mail scanner presses it."""

    http_method_names = ["get", "head", "post"]

    def get(self, request: HttpRequest, token: str) -> HttpResponseBase:  # noqa: ARG002 - of the address
        return render(request, "console/recovery_cancel.html", {"step": "ask"})

    def post(self, request: HttpRequest, token: str) -> HttpResponseBase:
        try:
            factor_resets.cancel_by_token(token, by=actor.of(request))
        except factor_resets.ResetOver as error:
            context = {"step": "over", "error": error_text(error)}
            return _answer(request, "console/recovery_cancel.html", context, error)
        return render(request, "console/recovery_cancel.html", {"step": "done"})


def _answer(
    request: HttpRequest, template: str, context: dict[str, Any], error: errors.MeStoreError | None
) -> HttpResponse:
    response = render(request, template, context, status=error.status if error else 200)
    if error and "Retry-After" in error.headers:
        response["Retry-After"] = error.headers["Retry-After"]
    return response
