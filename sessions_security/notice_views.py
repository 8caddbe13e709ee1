"""`/security/not-me/<token>/`: the page behind the link of a message about a sign-in.

Opening it shows a button and changes nothing: mail scanners open links, and do not press buttons.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect

from mestore.lib import actor, errors
from sessions_security import limits, notices


@method_decorator([never_cache, csrf_protect], name="dispatch")
class NotMe(View):
    """Ask, then do it; whoever has the link needs no session."""

    http_method_names = ["get", "head", "post"]

    def get(self, request: HttpRequest, token: str) -> HttpResponseBase:  # noqa: ARG002 - of the address
        return _page(request, "ask")

    def post(self, request: HttpRequest, token: str) -> HttpResponseBase:
        try:
            limits.limit_anonymous(request)
            notices.disown(token, by=actor.of(request))
        except errors.MeStoreError as error:
            return _page(request, "over", error)
        return _page(request, "done")


def _page(request: HttpRequest, step: str, error: errors.MeStoreError | None = None) -> HttpResponse:
    context = {"step": step, "error": error.message if error else ""}
    response = render(request, "console/not_me.html", context, status=error.status if error else 200)
    for name, value in (error.headers if error is not None else {}).items():
        response[name] = value
    # The address is the credential: nobody that the page leads to may learn it.
    response["Referrer-Policy"] = "no-referrer"
    return response
