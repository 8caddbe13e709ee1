"""Security headers on every answer, and CORS for the shipped front ends only."""

from __future__ import annotations

import pytest
from django.test import Client, override_settings

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
