"""What happens around every request: bounds, one error shape, security headers."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import structlog
from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils import translation
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext_lazy as _

from mestore import errors as edge
from mestore.lib import errors
from mestore.lib.http import StoredHeaders, checked_headers, plain_headers
from mestore.lib.request import client_address
from mestore.lib.throttle import Decision
from monitoring import redaction
from monitoring.logging import access_log

Handler = Callable[[HttpRequest], HttpResponseBase]

_access = access_log()

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")

# https://infosec.mozilla.org/guidelines/web_security and MDN: everything off unless the console needs it.
CONSOLE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; "
    "report-uri /csp-reports"
)
# Asked by machines inside the network: one word, or a token of their own.
PLAIN_PROBES = frozenset({"/readyz", "/metrics"})
API_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
FIXED_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": (
        "accelerometer=(), autoplay=(), camera=(), display-capture=(), encrypted-media=(), fullscreen=(), "
        "geolocation=(), gyroscope=(), magnetometer=(), microphone=(), midi=(), payment=(), "
        "picture-in-picture=(), publickey-credentials-get=(self), screen-wake-lock=(), usb=(), "
        "xr-spatial-tracking=()"
    ),
}


class RequestLogMiddleware:
    """Give each request an id, bind it to the log and write one access line, without the query string.

    A caller's own `X-Request-ID` is never taken over as the id (it could forge links between log lines);
    it is kept beside it when it is harmless.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = f"req_{secrets.token_hex(4)}"
        request.request_id = request_id  # type: ignore[attr-defined]  # read by audit, errors and views
        bound = {"request_id": request_id}
        # From META: `request.headers` is made anew of everything in it, for this one.
        theirs = request.META.get("HTTP_X_REQUEST_ID", "")
        if _CLIENT_REQUEST_ID.fullmatch(theirs):
            bound["client_request_id"] = theirs
        started = time.perf_counter()
        # Bound and taken back by token: the library's `bound_contextvars` walks all that the thread has.
        tokens = structlog.contextvars.bind_contextvars(**bound)
        try:
            response = self.get_response(request)
        finally:
            structlog.contextvars.reset_contextvars(**tokens)
        plain_headers(response)["x-request-id"] = ("X-Request-ID", request_id)
        match = request.resolver_match
        _access.info(
            "request",
            method=request.method if request.method in _METHODS else "other",
            route=match.view_name or match.route if match else "unmatched",
            status=response.status_code,
            milliseconds=round((time.perf_counter() - started) * 1000, 1),
            **{name: redaction.text(value) for name, value in bound.items()},
        )
        return response


class EdgeMiddleware:
    """Say where the request comes from, and answer exceptions that have a meaning in one shape."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.client_address = client_address(request)  # type: ignore[attr-defined]  # read by actors and limits
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        return edge.answer_exception(request, exception)


class RequestBoundsMiddleware:
    """Refuse what must not reach a view: bodies without a length or too long, plain HTTP, NUL in paths."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response
        self.limits = sorted(settings.BODY_LIMITS.items(), key=lambda item: -len(item[0]))

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        error = self._refusal(request)
        return edge.respond(request, error) if error else self.get_response(request)

    def _refusal(self, request: HttpRequest) -> errors.MeStoreError | None:
        if "\x00" in request.path or "\x00" in request.META.get("QUERY_STRING", ""):
            return errors.BadRequest()
        if settings.TLS_REQUIRED and self._is_plain_api(request):
            # A redirect would let the next request carry its token in clear again (ASVS 4.1.2).
            return errors.Forbidden(_("This interface is served over HTTPS only."))
        length = request.META.get("CONTENT_LENGTH") or ""
        if not length:
            # The server hands over a chunked body without its length and Django would read it as empty.
            return errors.LengthRequired() if "HTTP_TRANSFER_ENCODING" in request.META else None
        if not length.isascii() or not length.isdigit():
            return errors.BadRequest()
        if len(length) > 12 or int(length) > self._limit(request.path):
            return errors.PayloadTooLarge()
        return None

    def _is_plain_api(self, request: HttpRequest) -> bool:
        return edge.is_api(request.path) and request.path not in PLAIN_PROBES and not request.is_secure()

    def _limit(self, path: str) -> int:
        for prefix, limit in self.limits:
            if path.startswith(prefix):
                return limit
        return settings.DATA_UPLOAD_MAX_MEMORY_SIZE


class SecurityHeadersMiddleware:
    """Put the security headers on every answer, errors and 304 included, and the rate-limit headers."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        path = request.path
        api = edge.is_api(path) and not path.startswith("/api/docs")
        is_secured = settings.TLS_REQUIRED or request.is_secure()
        given = plain_headers(response)
        defaults = _defaults(
            api=api,
            # The shipped front ends live on other origins: what CORS lets them read, CORP must not withhold.
            cross="access-control-allow-origin" in given,
            hsts_seconds=settings.SECURE_HSTS_SECONDS if is_secured else None,
            stored=path.startswith(settings.STATIC_URL),
        )
        given |= defaults | given  # what the view, or anything further in, has set stays
        given["referrer-policy"] = _REFERRER_OF_PROGRAMS if api else _REFERRER_OF_PEOPLE
        decision = getattr(request, "rate_limit", None)
        if decision is not None:
            _tell_rate_limit(given, decision)
        return response


_REFERRER_OF_PROGRAMS = ("Referrer-Policy", "strict-origin-when-cross-origin")
_REFERRER_OF_PEOPLE = ("Referrer-Policy", "same-origin")


@cache
def _defaults(*, api: bool, cross: bool, hsts_seconds: int | None, stored: bool) -> StoredHeaders:
    """Return the constant headers of one kind of answer: made and checked once, not for each answer."""
    made = FIXED_HEADERS | {
        "Content-Security-Policy": API_POLICY if api else CONSOLE_POLICY,
        "Cross-Origin-Resource-Policy": "cross-origin" if cross else "same-origin",
    }
    if hsts_seconds is not None:
        made["Strict-Transport-Security"] = f"max-age={hsts_seconds}; includeSubDomains; preload"
    if not stored:
        made["Cache-Control"] = "no-store"
    return checked_headers(made)


def _tell_rate_limit(given: StoredHeaders, decision: Decision) -> None:
    remaining, limit, reset = str(decision.remaining), str(decision.limit), str(decision.reset_seconds)
    given["ratelimit"] = ("RateLimit", f'"{decision.limit_name}";r={remaining};t={reset}')
    given["x-ratelimit-limit"] = ("X-RateLimit-Limit", limit)
    given["x-ratelimit-remaining"] = ("X-RateLimit-Remaining", remaining)
    given["x-ratelimit-reset"] = ("X-RateLimit-Reset", reset)


class LanguageMiddleware:
    """Answer in the language that was asked for; addresses are the same in all of them.

    Django's own, without its look for addresses that begin with a language: a thirtieth of a request.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.LANGUAGE_CODE = translation.get_language_from_request(request)
        translation.activate(request.LANGUAGE_CODE)
        response = self.get_response(request)
        _vary_on(response, "Accept-Language")
        plain_headers(response).setdefault(
            "content-language", ("Content-Language", str(translation.get_language()))
        )
        return response


class OtherOriginsMiddleware(CorsMiddleware):
    """CORS; a request without an origin is told that the answer depends on one, and no more is looked at."""

    def __call__(self, request: HttpRequest) -> Any:
        if "HTTP_ORIGIN" in request.META or request.method == "OPTIONS":
            return super().__call__(request)
        response: Any = self.get_response(request)
        if self.is_enabled(request):
            _vary_on(response, "origin")
        return response


def _vary_on(response: HttpResponseBase, name: str) -> None:
    """Say that the answer depends on the header `name`: the common cases at once, others as Django does."""
    given = plain_headers(response)
    if "vary" not in given:
        given["vary"] = ("Vary", name)
    elif given["vary"][1] == "Accept-Language" and name == "origin":
        given["vary"] = ("Vary", "Accept-Language, origin")
    else:
        patch_vary_headers(response, (name,))


def csp_report(request: HttpRequest) -> HttpResponse:
    """Take a browser's report of a blocked resource into the log: bounded, and never trusted."""
    if request.method != "POST":
        return HttpResponse(status=405, headers={"Allow": "POST"})
    body = request.body[:4_096].decode("utf-8", "replace")
    structlog.get_logger("mestore.csp").warning("csp_report", report=body)
    return HttpResponse(status=204)
