"""Security headers on every answer, and CORS for the shipped front ends only."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpResponse
from django.middleware.locale import LocaleMiddleware
from django.test import Client, RequestFactory, override_settings
from django.utils import translation

from mestore import middleware
from mestore.lib.throttle import Decision

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PATHS = [
    "/", "/health", "/readyz", "/metrics", "/nothing", "/api/v1/nothing", "/api/v1/auth/me", "/api/schema/",
    "/api/docs/", "/admin/", "/admin/login/", "/static/console/console.css", "/.well-known/jwks.json",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_headers_are_on_every_answer(path: str) -> None:
    response = Client().get(path)

    for name, value in ALWAYS.items():
        assert response[name] == value, (path, name)
    assert "default-src 'none'" in response["Content-Security-Policy"]
    assert "unsafe" not in response["Content-Security-Policy"]
    assert response["Referrer-Policy"] in {"same-origin", "strict-origin-when-cross-origin"}
    assert "camera=()" in response["Permissions-Policy"]


@pytest.mark.parametrize(
    "path", [path for path in PATHS if not path.startswith(("/static/", "/.well-known/"))]
)
def test_nothing_but_static_files_is_stored(path: str) -> None:
    assert "no-store" in Client().get(path)["Cache-Control"]


@override_settings(TLS_REQUIRED=True, SECURE_SSL_REDIRECT=True)
def test_plain_http_is_refused_for_programs_and_redirected_for_people() -> None:
    api = Client().get("/api/v1/auth/me")
    page = Client().get("/admin/")

    assert api.status_code == 403
    assert page.status_code == 301
    assert page["Location"].startswith("https://")


@override_settings(TLS_REQUIRED=True)
def test_transport_security_is_announced() -> None:
    response = Client().get("/api/v1/auth/me", secure=True)

    assert response["Strict-Transport-Security"] == "max-age=63072000; includeSubDomains; preload"


@override_settings(CORS_ALLOWED_ORIGINS=["https://www.shop.test"])
def test_front_end_may_call_with_its_headers() -> None:
    response = Client().options(
        "/api/v1/auth/login",
        headers={
            "Origin": "https://www.shop.test",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type, x-csrf-token, idempotency-key",
        },
    )

    assert response.status_code == 200
    assert response["Access-Control-Allow-Origin"] == "https://www.shop.test"
    allowed = {name.strip() for name in response["Access-Control-Allow-Headers"].lower().split(",")}
    assert {"authorization", "content-type", "x-csrf-token", "idempotency-key"} <= allowed
    assert not response.has_header("Access-Control-Allow-Credentials")


@override_settings(CORS_ALLOWED_ORIGINS=["https://www.shop.test"])
@pytest.mark.parametrize("origin", ["https://evil.test", "null", "https://www.shop.test.evil.test"])
def test_other_origins_get_nothing(origin: str) -> None:
    response = Client().get("/api/v1/auth/me", headers={"Origin": origin})

    assert not response.has_header("Access-Control-Allow-Origin")


@override_settings(CORS_ALLOWED_ORIGINS=["https://www.shop.test"])
def test_console_answers_no_other_origin() -> None:
    response = Client().get("/admin/login/", headers={"Origin": "https://www.shop.test"})

    assert not response.has_header("Access-Control-Allow-Origin")


def test_csp_reports_are_taken_and_bounded() -> None:
    client = Client(enforce_csrf_checks=True)

    taken = client.post("/csp-reports", data=b'{"csp-report":{}}', content_type="application/csp-report")
    huge = client.post("/csp-reports", data=b"x" * 20_000, content_type="application/csp-report")

    assert taken.status_code == 204
    assert huge.status_code == 413
    assert client.get("/csp-reports").status_code == 405


# The constant headers are put in at once, by a way of our own: as if each had been set.


def through_headers(response: HttpResponse, path: str = "/api/v1/orders", **noted: Any) -> HttpResponse:
    request = RequestFactory().get(path)
    vars(request).update(noted)
    answered = middleware.SecurityHeadersMiddleware(lambda _request: response)(request)
    assert answered is response
    return response


def test_what_a_view_set_itself_stays_but_for_the_referrer() -> None:
    view = HttpResponse(headers={"cache-control": "max-age=60", "X-FRAME-OPTIONS": "SAMEORIGIN"})
    view["Referrer-Policy"] = "unsafe-url"

    through_headers(view)

    assert (view["Cache-Control"], view["X-Frame-Options"]) == ("max-age=60", "SAMEORIGIN")
    assert view["Referrer-Policy"] == "strict-origin-when-cross-origin"
    assert view["X-Content-Type-Options"] == "nosniff"


def test_answers_share_no_headers() -> None:
    first = through_headers(HttpResponse())
    first["X-Frame-Options"] = "SAMEORIGIN"
    del first["Permissions-Policy"]

    second = through_headers(HttpResponse())

    assert second["X-Frame-Options"] == "DENY"
    assert second.has_header("Permissions-Policy")


def test_rate_limit_is_told() -> None:
    decision = Decision(
        allowed=True, limit=300, remaining=299, reset_seconds=1, retry_after=0, limit_name="buyer-60s"
    )

    told = through_headers(HttpResponse(), rate_limit=decision)

    assert told["RateLimit"] == '"buyer-60s";r=299;t=1'
    assert told["X-RateLimit-Limit"] == "300"
    assert told["X-RateLimit-Remaining"] == "299"
    assert told["X-RateLimit-Reset"] == "1"
    assert not through_headers(HttpResponse()).has_header("RateLimit")


def test_framework_would_have_taken_every_constant_as_it_is() -> None:
    checked = HttpResponse(headers=middleware.FIXED_HEADERS)

    for name, value in middleware.FIXED_HEADERS.items():
        assert through_headers(HttpResponse())[name] == checked[name] == value


def varies(response: Any) -> set[str]:
    return {name.strip().lower() for name in response["Vary"].split(",")}


@override_settings(CORS_ALLOWED_ORIGINS=["https://www.shop.test"])
def test_caches_are_told_what_an_answer_depends_on() -> None:
    asked_from = {"Origin": "https://www.shop.test"}

    assert varies(Client().get("/api/v1/auth/me")) == {"accept-language", "origin"}
    assert varies(Client().get("/api/v1/auth/me", headers=asked_from)) == {"accept-language", "origin"}
    assert varies(Client().get("/admin/login/")) == {"accept-language", "cookie"}
    assert varies(Client().get("/admin/login/", headers=asked_from)) == {"accept-language", "cookie"}


@pytest.mark.parametrize("set_before", [None, "Cookie", "Accept-Language", "accept-language, Cookie", "*"])
@pytest.mark.parametrize(
    "wanted", [None, "", "en", "EN-gb,es;q=0.1", "es-CO", "fr", "*", "zz;q=x", "a" * 600]
)
def test_language_is_agreed_on_as_the_framework_does(wanted: str | None, set_before: str | None) -> None:
    def view(request: Any) -> HttpResponse:
        response = HttpResponse(f"{request.LANGUAGE_CODE} {translation.get_language()}")
        if set_before is not None:
            response["Vary"] = set_before
        return response

    headers = {} if wanted is None else {"Accept-Language": wanted}
    with translation.override("en"):
        theirs: Any = LocaleMiddleware(view)(RequestFactory().get("/", headers=headers))
        translation.activate("en")
        ours: Any = middleware.LanguageMiddleware(view)(RequestFactory().get("/", headers=headers))

    assert ours.content == theirs.content
    assert dict(ours.items()) == dict(theirs.items())
