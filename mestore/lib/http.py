"""JSON over HTTP: one error shape, one strict reader, one exact writer, one way to mount a path."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import IO, Any
from urllib.parse import quote
from uuid import UUID

import simplejson
from django.http import HttpResponse, HttpResponseBase
from django.http.response import ResponseHeaders
from django.urls import URLPattern
from django.urls.resolvers import RoutePattern
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from typing_extensions import override

from mestore.lib import errors

_MAX_DEPTH = 32
_MAX_NUMBER = 64
_MAX_PATH = 512

_TITLES = {
    400: _("Bad request"),
    401: _("Unauthorized"),
    403: _("Forbidden"),
    404: _("Not found"),
    405: _("Method not allowed"),
    409: _("Conflict"),
    411: _("Length required"),
    413: _("Payload too large"),
    415: _("Unsupported media type"),
    422: _("Unprocessable content"),
    429: _("Too many requests"),
    500: _("Internal server error"),
    503: _("Service unavailable"),
}


# Answers


def problem(error: errors.MeStoreError, *, request: Any) -> HttpResponse:
    """The answer to an error: RFC 9457, with the members that clients of the first API read.

    Takes any Django or DRF request; texts come in the active language. Nothing of the request is repeated
    except its path (not its query, which may hold a token).
    """
    path = quote(request.path, safe="/:@!$&'()*+,;=-._~%")[:_MAX_PATH]
    sentence = str(error.message)
    body = {
        **error.extra,
        "type": f"/api/docs/errors#{error.code}",
        "title": str(_TITLES.get(error.status) or HTTPStatus(error.status).phrase),
        "status": error.status,
        "detail": sentence,
        "instance": path,
        "error_code": error.code,
        "error_message": sentence,
        "details": _details(error),
        "message": gettext("HTTP error %(status)d at %(path)s") % {"status": error.status, "path": path},
        "request_id": getattr(request, "request_id", None) or "req_00000000",
        "timestamp": timezone.now(),
    }
    response = HttpResponse(dumps(body), status=error.status, content_type="application/problem+json")
    response["Cache-Control"] = "no-store"
    for name, value in error.headers.items():
        response[name] = value
    return response


def _details(error: errors.MeStoreError) -> list[dict[str, str]] | None:
    if error.details is None:
        return None
    return [
        {"field": _place(item.field), "message": str(item.message), "error_type": item.error_type}
        for item in error.details
    ]


def _place(field: str) -> str:
    """Where a field is, as clients read it: rules that serve pages, too, name only the field of a body."""
    return field if " -> " in field or field in {"body", "query"} else f"body -> {field}"


def exact(digits: str) -> Any:
    """A number that `dumps` writes as it is given: for amounts whose digits are at hand."""
    return simplejson.RawJSON(digits)


def dumps(value: Any) -> bytes:
    """JSON in UTF-8: Decimals as exact number literals, moments in UTC with ``Z``, UUIDs and enums as text.

    Raises TypeError or ValueError for what has no JSON form: NaN, sets, bytes, naive datetimes.
    """
    text: str = _encoder.encode(value)
    # A lone surrogate becomes its own JSON escape instead of an exception.
    return text.encode("utf-8", "backslashreplace")


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("a Decimal that is not finite has no JSON form")
        return simplejson.RawJSON(format(value, "f"))
    if isinstance(value, UUID | Promise):
        return str(value)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ValueError("a datetime without a time zone has no JSON form")
        return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"a {type(value).__name__} has no JSON form")


_encoder = simplejson.JSONEncoder(
    encoding=None,  # type: ignore[arg-type]  # documented, and means that bytes are not text
    ensure_ascii=False,
    separators=(",", ":"),
    allow_nan=False,
    use_decimal=False,  # simplejson would write Decimal("NaN") and exponents as they are: see _default
    namedtuple_as_object=False,
    default=_default,
)


class ExactJSONRenderer(JSONRenderer):
    """DRF's renderer with `dumps`: an amount leaves as it is stored, never through a float."""

    @override
    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else dumps(data)


class PlainText(BaseRenderer):
    """Lets a program ask for text where an answer is one (`text_file`); errors are problems as everywhere."""

    media_type = "text/plain"
    format = "txt"

    @override
    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else str(data).encode()


# Headers


StoredHeaders = dict[str, tuple[str, str]]
"""Headers as an answer keeps them: the lower-case name leads to the name and the value."""


def plain_headers(response: HttpResponseBase) -> StoredHeaders:
    """The headers of `response` themselves: what is put in is sent, and nobody looks at it any more.

    `response[name] = value` encodes and searches each name and each value, for line breaks above all; for the
    dozen that every answer carries that was a twentieth of a request. Only for constants and for what we
    composed of numbers: a value that came from outside goes the other way.
    """
    headers: StoredHeaders = response.headers._store
    return headers


def checked_headers(headers: Mapping[str, str]) -> StoredHeaders:
    """These constants as `plain_headers` takes them, each checked as the framework does, once."""
    checked: StoredHeaders = ResponseHeaders(headers)._store
    return checked


# Bodies


class MalformedJSON(errors.BadRequest):
    message = _("The body is not valid JSON.")


class JsonNumber(str):
    """A number literal with a fraction or an exponent, exactly as it was sent: no float ever sees it."""

    __slots__ = ()


def parse_json(body: bytes) -> Any:
    """A body as Python values. Raises `MalformedJSON` (400) with a sentence that says why, and nothing else.

    Stricter than the standard library: UTF-8 only, no duplicate keys, no NaN or Infinity, no NUL and no lone
    surrogates in texts (PostgreSQL stores neither), bounded depth and length of numbers.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedJSON(_("The body is not valid UTF-8.")) from None
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        sentence = _("The body is not valid JSON: see line %(line)d, column %(column)d.")
        raise MalformedJSON(sentence % {"line": error.lineno, "column": error.colno}) from None
    except RecursionError:
        raise MalformedJSON(_("The JSON is nested too deeply.")) from None
    # Both questions can nearly always be answered by looking at the bytes alone.
    if b"\\u" in body or body.count(b"[") + body.count(b"{") > _MAX_DEPTH:
        _inspect(value)
    return value


class StrictJSONParser(BaseParser):
    """DRF's parser with `parse_json`."""

    media_type = "application/json"

    @override
    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return parse_json(stream.read())


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedJSON(_("An object in the JSON has the same key twice."))
    return result


def _literal(text: str) -> JsonNumber:
    if len(text) > _MAX_NUMBER:
        raise MalformedJSON(_("A number in the JSON is too long."))
    return JsonNumber(text)


def _integer(text: str) -> int:
    if len(text) > _MAX_NUMBER:
        raise MalformedJSON(_("A number in the JSON is too long."))
    return int(text)


def _constant(_name: str) -> Any:
    raise MalformedJSON(_("NaN and Infinity are not JSON numbers."))


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_literal, parse_int=_integer, parse_constant=_constant, strict=True
)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def _inspect(root: Any) -> None:
    """Refuse deep nesting and unstorable text; walks level by level, so depth costs no stack."""
    level = [root]
    for depth in range(_MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                if _UNSTORABLE.search(value):
                    raise MalformedJSON(_("A text in the JSON has a character that cannot be stored."))
            elif isinstance(value, dict | list):
                if depth == _MAX_DEPTH:
                    raise MalformedJSON(_("The JSON is nested too deeply."))
                below.extend(value)
                below.extend(value.values() if isinstance(value, dict) else ())
        level = below


# Paths


class _EitherSlash(RoutePattern):
    """A route that matches with and without its trailing slash, and reverses as it was written."""

    def __init__(self, route: str, name: str | None = None, is_endpoint: bool = False) -> None:
        super().__init__(route, name, is_endpoint)
        self._begins = route.partition("<")[0].rstrip("/")

    @override
    def match(self, path: str) -> tuple[str, tuple[Any, ...], dict[str, Any]] | None:
        if not path.startswith(self._begins):  # which tells most of a long list apart, at little cost
            return None
        found: tuple[str, tuple[Any, ...], dict[str, Any]] | None = super().match(path)
        if found is None and not path.endswith("//"):
            found = super().match(path[:-1] if path.endswith("/") else path + "/")
        return found


def attachment(name: str, content: bytes) -> HttpResponse:
    """Return an answer whose CSV is kept as a file called `name` (plain ASCII), and by no cache."""
    response = HttpResponse(content, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


def text_file(name: str, content: str) -> HttpResponse:
    """Return an answer whose text is kept as a file called `name` (plain ASCII; none: shown), by no cache."""
    response = HttpResponse(content, content_type="text/plain; charset=utf-8")
    if name:
        response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


def path_both(
    route: str, view: Callable[..., Any], name: str | None = None, kwargs: Mapping[str, Any] | None = None
) -> URLPattern:
    """Like Django's `path` for a view, but answering with and without the trailing slash, no redirect."""
    return URLPattern(_EitherSlash(route, name, is_endpoint=True), view, dict(kwargs or {}), name)
