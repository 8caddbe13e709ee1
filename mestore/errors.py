"""Where every error of the API becomes one shape, and every error of the console a page.

An error is defined beside the function that raises it (see `mestore.lib.errors`); here it is only turned into
an answer. `problem` in `mestore.lib.http` is the one builder.
"""

from __future__ import annotations

import sys
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions as drf
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request

from mestore.lib import errors
from mestore.lib.http import problem
from monitoring import audit

log = structlog.get_logger(__name__)

DRF_ERRORS: dict[int, type[errors.MeStoreError]] = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    415: errors.UnsupportedMediaType,
}


class JSONOnlyNegotiation(BaseContentNegotiation):
    """Answers JSON whatever is asked for: a client that sends `Accept: */*` or a browser gets the same."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        media = (request.content_type or "").split(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == media), None)

    def select_renderer(self, _request: Request, renderers: Any, _suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


def is_api(path: str) -> bool:
    """Say whether `path` belongs to programs (problem+json) rather than to people (pages)."""
    return path.startswith(("/api/", "/commissions", "/.well-known/")) or path in {
        "/metrics",
        "/readyz",
        "/health",
    }


def from_exception(exc: BaseException) -> errors.MeStoreError:
    """Return what `exc` means to a client; what nobody foresaw is an InternalError without details."""
    if isinstance(exc, errors.MeStoreError):
        return exc
    if isinstance(exc, drf.ValidationError):
        return errors.Unprocessable(details=list(_field_errors(exc.detail, "body")))
    if isinstance(exc, drf.Throttled):
        return errors.TooManyRequests(retry_after=int(getattr(exc, "wait", None) or 1))
    if isinstance(exc, drf.APIException):
        kind = DRF_ERRORS.get(exc.status_code, errors.BadRequest)
        return kind()
    if isinstance(exc, Http404):
        return errors.NotFound()
    if isinstance(exc, PermissionDenied):
        return errors.Forbidden()
    if isinstance(exc, SuspiciousOperation):
        return errors.BadRequest()
    if is_dependency_away(exc):
        return errors.SecurityServiceFailure()
    return errors.InternalError()


def is_dependency_away(exc: BaseException) -> bool:
    """Say whether the database could not be asked, or its audit trail takes nothing: then nothing is done."""
    return isinstance(exc, OperationalError | InterfaceError) or audit.is_refused(exc)


def exception_handler(exc: Exception, context: dict[str, Any]) -> HttpResponse:
    """DRF's hook: answer every exception of an API view as problem+json."""
    request = context["request"]
    error = from_exception(exc)
    if error.status >= 500:
        _log_failure(exc, error)
    return problem(error, request=request)


def _field_errors(detail: Any, path: str) -> Any:
    """Yield FieldErrors from DRF's nested error structure, with the contract's `body -> field` names."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            yield from _field_errors(inner, path if name == "non_field_errors" else f"{path} -> {name}")
    elif isinstance(detail, list):
        for index, inner in enumerate(detail):
            nested = isinstance(inner, dict | list)
            if not nested or inner:
                yield from _field_errors(inner, f"{path} -> {index}" if nested else path)
    else:
        yield errors.FieldError(path, str(detail), getattr(detail, "code", "invalid"))


def _log_failure(exc: BaseException, error: errors.MeStoreError) -> None:
    log.error("request_failed", error_code=error.code, exc_info=exc)


def respond(request: HttpRequest, error: errors.MeStoreError) -> HttpResponse:
    """Answer `error` in the form the caller understands: a problem for programs, a page for people."""
    if is_api(request.path):
        return problem(error, request=request)
    if error.code == "STEP_UP_REQUIRED" and getattr(request, "user_session", None) is not None:
        # A person is asked for the proof and brought back; the address has everything the page needs.
        # What was sent with POST is not sent again for them: they come back to the question, and repeat it.
        back = getattr(request, "step_up_back", "") or request.get_full_path()
        query = {"action": error.extra.get("action", ""), "next": back}
        return HttpResponseRedirect(f"{reverse('console-confirm')}?{urlencode(query)}")
    context = {"error": error, "request_id": getattr(request, "request_id", "")}
    response = render(request, "console/error.html", context, status=error.status)
    for name, value in error.headers.items():
        response[name] = value
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 -- Django passes it by name
    return respond(request, errors.BadRequest())


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 -- Django passes it by name
    return respond(request, errors.Forbidden())


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 -- Django passes it by name
    return respond(request, errors.NotFound())


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer what no view caught. Django calls this inside its `except`, so the cause can still be seen."""
    exc = sys.exc_info()[1]
    error = from_exception(exc) if exc else errors.InternalError()
    if exc and error.status >= 500:
        _log_failure(exc, error)
    return respond(request, error)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    log.warning("csrf_refused", reason=reason)
    message = _("The form could not be verified. Reload the page and try again.")
    return respond(request, errors.Forbidden(message))


def answer_exception(request: HttpRequest, exc: Exception) -> HttpResponseBase | None:
    """Answer exceptions of plain Django views that have a meaning; None leaves the rest to Django."""
    if isinstance(exc, errors.MeStoreError) or is_dependency_away(exc) or isinstance(exc, DatabaseError):
        error = from_exception(exc)
        if error.status >= 500:
            _log_failure(exc, error)
        return respond(request, error)
    return None
