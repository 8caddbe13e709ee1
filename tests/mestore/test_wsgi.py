"""What the server's habits must not do to a request."""

from __future__ import annotations

import io
import os
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest

from mestore import wsgi
from mestore.handler import Handler


def request_environ(**more: Any) -> dict[str, Any]:
    return {
        **os.environ,
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/livez",
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(),
        "wsgi.url_scheme": "http",
        "wsgi.errors": io.StringIO(),
        **more,
    }


def seen_by_django(monkeypatch: pytest.MonkeyPatch, environ: dict[str, Any]) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def django(inner: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(inner)
        return [b""]

    monkeypatch.setattr(wsgi, "_django", django)
    wsgi.application(environ, lambda *args: None)
    return seen


def test_secrets_of_the_process_are_not_in_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = seen_by_django(monkeypatch, request_environ(HTTP_ACCEPT="*/*"))

    assert "MESTORE_SECRET_KEY" not in seen
    assert "DATABASE_URL" not in seen
    assert "PATH" not in seen
    assert seen["HTTP_ACCEPT"] == "*/*"
    assert seen["PATH_INFO"] == "/livez"
    assert "wsgi.input" in seen


def test_process_variable_never_becomes_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi, "_PROCESS_NAMES", frozenset({"HTTP_X_FORWARDED_FOR"}))

    seen = seen_by_django(monkeypatch, request_environ(HTTP_X_FORWARDED_FOR="10.0.0.1"))

    assert "HTTP_X_FORWARDED_FOR" not in seen


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain; charset=rot13",
        "text/plain; charset=undefined",
        'text/plain; CHARSET = "punycode"',
        "text/plain; x*=undefined''a%20b",
        "text/plain; charset*=rot13''x",
        "application/x-www-form-urlencoded; charset=unicode_escape",
        "text/plain; x=" + "a" * 20_000,
    ],
)
def test_client_does_not_choose_the_codec(content_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = seen_by_django(monkeypatch, request_environ(CONTENT_TYPE=content_type, QUERY_STRING="a=b"))

    assert seen["CONTENT_TYPE"] == "application/octet-stream"
    assert WSGIRequest(seen).GET["a"] == "b"


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=UTF-8", "multipart/form-data; boundary=x", ""],
)
def test_ordinary_content_types_are_left_alone(content_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = seen_by_django(monkeypatch, request_environ(CONTENT_TYPE=content_type))

    assert seen["CONTENT_TYPE"] == content_type


@pytest.mark.django_db(databases=["default", "audit"])
@pytest.mark.parametrize(
    "path", ["/livez", "/api/v1/auth/me", "/admin/login/", "/static/console/console.css"]
)
def test_server_is_told_every_header_and_cookie(path: str) -> None:
    """As Django's own handler tells them; what differs from answer to answer, by name."""
    told: list[dict[str, str]] = []
    for handler in (Handler(), WSGIHandler()):
        start: Any = lambda _status, headers: told.append(dict(headers))  # noqa: E731 -- two of a kind
        answer: Any = handler(request_environ(PATH_INFO=path), start)
        b"".join(answer)
        assert told[-1].keys() >= {name for name, _value in answer.headers.items()}
        answer.close()

    ours, theirs = told
    assert ours.keys() == theirs.keys()
    changing = {"X-Request-ID", "Set-Cookie", "RateLimit", "X-RateLimit-Remaining", "X-RateLimit-Reset"}
    assert {name: ours[name] for name in ours.keys() - changing} == {
        name: theirs[name] for name in theirs.keys() - changing
    }
    assert ("Set-Cookie" in ours) == (path == "/admin/login/")
