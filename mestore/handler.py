"""How a request gets through the middleware: browsers the whole way, programs with a token a shorter one.

Half of the middleware is about what only a browser brings: a session's cookie, a form, messages, frames. A
request of the interface that carries a token and no cookie at all goes past it. What it is answered is the
same, to the header, and a test asks every route both ways; only `Vary` never names the cookie there.
Everybody else, a stranger and whoever sends both among them, goes the whole way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import convert_exception_to_response
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

FOR_BROWSERS: Final = frozenset(
    {
        # Leads people to HTTPS; of programs RequestBounds has refused the rest by then. Its headers are ours.
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        # Its look at the view stays, for a view that no token opens.
        "django.middleware.csrf.CsrfViewMiddleware",
        # Who a token's account is, is asked by `BearerAuthentication`.
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django_otp.middleware.OTPMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    }
)
_INTERFACE: Final = "/api/v1/"
_WITH_TOKEN: Final = ("bearer ", "dpop ")

Way = Callable[[HttpRequest], Any]


def is_program(request: HttpRequest) -> bool:
    """Say whether a request of the interface carries a token, and nothing that a browser sends by itself."""
    meta = request.META
    return (
        not meta.get("HTTP_COOKIE")
        and "HTTP_AUTHORIZATION" in meta
        and meta["HTTP_AUTHORIZATION"][:7].lower().startswith(_WITH_TOKEN)
        and request.path.startswith(_INTERFACE)
    )


class ShortWay(BaseHandler):
    """Lets requests of programs past the middleware that is for browsers."""

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async)
        handler: Any = self
        whole: Way = handler._middleware_chain
        short: Way = convert_exception_to_response(handler._get_response)
        for path in reversed(settings.MIDDLEWARE):
            if path not in FOR_BROWSERS:
                short = convert_exception_to_response(import_string(path)(short))
        handler._middleware_chain = lambda request: (short if is_program(request) else whole)(request)


class Handler(ShortWay, WSGIHandler):
    """What the server calls."""

    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        """Answer `request`; the server is told the headers as pairs."""
        response = super().get_response(request)
        # They are kept as pairs already, under four layers of views of them.
        response.items = response.headers._store.values  # type: ignore[method-assign]
        return response
