"""The console's pages about passwords: changing one's own, and a link for somebody who forgot it.

The token of a link arrives in the address; it moves into a cookie that no script reads, and the address is
left at once, so that it stays in no history and no Referer.
"""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters

from accounts import password_change, password_reset
from mestore.lib import actor, errors
from sessions_security import signin, stepup
from sessions_security.console_pages import drop, keep
from sessions_security.security_views import error_text, inside, session_of, shown

RESET_COOKIE = "__Host-reset"
_FIELDS = ("current", "new", "again")


class Different(errors.Unprocessable):
    """The password was typed twice, and not alike."""

    def __init__(self) -> None:
        super().__init__(_("The two passwords are not the same."))


@inside
@sensitive_post_parameters(*_FIELDS)
def change(request: HttpRequest) -> HttpResponseBase:
    """Choose a new password; every session ends, this one too."""
    session = session_of(request)
    title, must = _("Change the password"), session.user.force_password_change
    if request.method != "POST":
        stepup.require("account.change_password", request)
        return shown(request, "console/password.html", title=title, must=must)
    try:
        new = _typed_twice(request)
        stepup.require("account.change_password", request)
        password_change.change(
            session.user, current=request.POST.get("current", ""), new=new, by=actor.of(request)
        )
    except stepup.StepUpRequired:
        raise
    except errors.MeStoreError as error:
        return shown(
            request, "console/password.html", status=error.status, title=title, must=must,
            error=error_text(error),
        )  # fmt: skip
    request.user_session = None  # type: ignore[attr-defined]  # it ended: nothing left to note as used
    request.session.flush()
    response = _page(request, "done")
    response["Clear-Site-Data"] = signin.CLEAR_SITE_DATA
    return response


_PROTECTED = [never_cache, csrf_protect, sensitive_post_parameters(*_FIELDS)]


@method_decorator(_PROTECTED, name="dispatch")
class Forgotten(View):
    """`/admin/password/forgotten/`: ask for a link; the answer is the same for everybody."""

    http_method_names = ["get", "head", "post"]

    def get(self, request: HttpRequest) -> HttpResponseBase:
        return _page(request, "ask")

    def post(self, request: HttpRequest) -> HttpResponseBase:
        try:
            password_reset.request(request.POST.get("email", "")[:320], by=actor.of(request))
        except errors.MeStoreError as error:
            return _page(request, "ask", error)
        return _page(request, "sent")


@method_decorator(_PROTECTED, name="dispatch")
class Reset(View):
    """`/admin/password/reset/`: choose a new password through a link. Opens nothing by itself."""

    http_method_names = ["get", "head", "post"]

    def get(self, request: HttpRequest) -> HttpResponseBase:
        token = request.GET.get("token", "")[:100]
        if token:
            # A page, not a redirect: coming from a mail, a redirect would not bring this cookie along.
            response = _page(request, "continue")
            keep(response, RESET_COOKIE, token, seconds=settings.PASSWORD_RESET_SECONDS)
            return response
        if not password_reset.is_open(request.COOKIES.get(RESET_COOKIE, "")):
            return _page(request, "ask", password_reset.InvalidToken())
        return _page(request, "choose")

    def post(self, request: HttpRequest) -> HttpResponseBase:
        token = request.COOKIES.get(RESET_COOKIE, "")
        try:
            password_reset.reset(token, new=_typed_twice(request), by=actor.of(request))
        except password_reset.InvalidToken as error:
            return _page(request, "ask", error)
        except errors.MeStoreError as error:
            return _page(request, "choose", error)
        response = _page(request, "done")
        drop(response, RESET_COOKIE)
        return response


def _typed_twice(request: HttpRequest) -> str:
    new = request.POST.get("new", "")
    if request.POST.get("again", "") != new:
        raise Different
    return new


def _page(request: HttpRequest, step: str, error: errors.MeStoreError | None = None) -> HttpResponse:
    context = {"step": step, "error": error_text(error) if error else "", "next": reverse("console-reset")}
    response = render(request, "console/reset.html", context, status=error.status if error else 200)
    if error and "Retry-After" in error.headers:
        response["Retry-After"] = error.headers["Retry-After"]
    return response
