"""What happens around every request: bounds, one error shape, security headers."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.translation import gettext_lazy as _

from mestore import errors as edge
from mestore.lib import errors
from mestore.lib.request import client_address

Handler = Callable[[HttpRequest], HttpResponseBase]

log = structlog.get_logger("mestore.access")

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
        theirs = request.headers.get("X-Request-ID", "")
        if _CLIENT_REQUEST_ID.fullmatch(theirs):
            bound["client_request_id"] = theirs
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(**bound):
            response = self.get_response(request)
            response["X-Request-ID"] = request_id
            match = request.resolver_match
            log.info(
                "request",
                method=request.method if request.method in _METHODS else "other",
                route=match.view_name or match.route if match else "unmatched",
                status=response.status_code,
                milliseconds=round((time.perf_counter() - started) * 1000, 1),
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
        api = edge.is_api(request.path) and not request.path.startswith("/api/docs")
        for name, value in FIXED_HEADERS.items():
            response.setdefault(name, value)
        response.setdefault("Content-Security-Policy", API_POLICY if api else CONSOLE_POLICY)
        response["Referrer-Policy"] = "strict-origin-when-cross-origin" if api else "same-origin"
        # The shipped front ends live on other origins: what CORS lets them read, CORP must not withhold.
        cross = response.has_header("Access-Control-Allow-Origin")
        response.setdefault("Cross-Origin-Resource-Policy", "cross-origin" if cross else "same-origin")
        if settings.TLS_REQUIRED:
            response.setdefault(
                "Strict-Transport-Security",
                f"max-age={settings.SECURE_HSTS_SECONDS}; includeSubDomains; preload",
            )
        if not request.path.startswith(settings.STATIC_URL):
            response.setdefault("Cache-Control", "no-store")
        self._rate_limit(request, response)
        return response

    def _rate_limit(self, request: HttpRequest, response: HttpResponseBase) -> None:
        decision = getattr(request, "rate_limit", None)
        if decision is None:
            return
        remaining, limit, reset = str(decision.remaining), str(decision.limit), str(decision.reset_seconds)
        response["RateLimit"] = f'"{decision.limit_name}";r={remaining};t={reset}'
        response["X-RateLimit-Limit"] = limit
        response["X-RateLimit-Remaining"] = remaining
        response["X-RateLimit-Reset"] = reset


def csp_report(request: HttpRequest) -> HttpResponse:
    """Take a browser's report of a blocked resource into the log: bounded, and never trusted."""
    if request.method != "POST":
        return HttpResponse(status=405, headers={"Allow": "POST"})
    body = request.body[:4_096].decode("utf-8", "replace")
    structlog.get_logger("mestore.csp").warning("csp_report", report=body)
    return HttpResponse(status=204)
