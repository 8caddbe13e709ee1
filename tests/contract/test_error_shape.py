"""One error shape: each way a request can fail answers the same members."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError, connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path
from rest_framework.request import Request
from rest_framework.views import APIView

import mestore.urls
from mestore.lib import errors

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

MEMBERS = {
    "type", "title", "status", "detail", "instance",
    "error_code", "error_message", "details", "message", "request_id", "timestamp",
}  # fmt: skip


class Failing(APIView):
    """Fails in the way its address names."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    def get(self, request: Request, way: str) -> HttpResponse:
        raise {
            "crash": RuntimeError("password=hunter2 at postgresql://u:p@h/db"),
            "away": OperationalError("server closed the connection"),
            "limit": errors.TooManyRequests(retry_after=7),
            "meaning": errors.Conflict(),
        }[way]

    def post(self, request: Request, way: str) -> HttpResponse:
        return HttpResponse(str(request.data))


def plain(request: HttpRequest, way: str) -> HttpResponse:
    return Failing().get(request, way)  # type: ignore[arg-type]  # a plain Django view that raises the same


class Urls:
    """The real addresses and two that fail on purpose."""

    handler400, handler403 = mestore.urls.handler400, mestore.urls.handler403
    handler404, handler500 = mestore.urls.handler404, mestore.urls.handler500
    urlpatterns = [
        path("api/fail/<str:way>", Failing.as_view()),
        path("api/plain/<str:way>", plain),
        *mestore.urls.urlpatterns,
    ]


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


@pytest.fixture(autouse=True)
def failing_urls() -> Any:
    with override_settings(ROOT_URLCONF=Urls):
        yield


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.content
    assert response["Content-Type"].startswith("application/problem+json")
    body: dict[str, Any] = response.json()
    assert set(body) >= MEMBERS
    assert body["status"] == status
    assert body["error_code"] == code
    assert body["detail"] == body["error_message"]
    assert body["request_id"] == response["X-Request-ID"]
    return body


def test_unknown_address_is_404(client: Client) -> None:
    assert_problem(client.get("/api/v1/nothing/here"), 404, "NOT_FOUND")


def test_missing_token_is_401_and_says_how(client: Client) -> None:
    response = client.get("/api/v1/auth/me")

    assert_problem(response, 401, "UNAUTHORIZED")
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("token", ["mock-token", "x", "a.b.c", "Bearer", "é", "null"])
def test_invented_token_is_401(client: Client, token: str) -> None:
    assert_problem(
        client.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"}), 401, "UNAUTHORIZED"
    )


def test_wrong_method_is_405_and_names_the_right_ones(client: Client) -> None:
    response = client.get("/api/v1/auth/login")

    assert_problem(response, 405, "METHOD_NOT_ALLOWED")
    assert "POST" in response["Allow"]


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff\xfe", b'{"a":' * 200 + b"1" + b"}" * 200],
)
def test_unparseable_body_is_400(client: Client, body: bytes) -> None:
    response = client.post("/api/v1/auth/login", data=body, content_type="application/json")

    assert response.status_code in {400, 422}
    assert_problem(response, response.status_code, response.json()["error_code"])


def test_wrong_media_type_is_415(client: Client) -> None:
    response = client.post("/api/v1/auth/login", data="a=b", content_type="application/x-www-form-urlencoded")

    assert_problem(response, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_body_over_the_limit_is_413(client: Client) -> None:
    response = client.post("/api/v1/auth/login", data=b"x" * 5_000, content_type="application/json")

    assert_problem(response, 413, "PAYLOAD_TOO_LARGE")


def test_chunked_body_is_411(client: Client) -> None:
    response = client.generic(
        "POST", "/api/v1/auth/login", HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH=""
    )

    assert_problem(response, 411, "LENGTH_REQUIRED")


def test_missing_field_is_422_with_its_name(client: Client) -> None:
    response = client.post("/api/v1/auth/login", data={"email": "a@b.co"}, content_type="application/json")

    body = assert_problem(response, 422, "VALIDATION_ERROR")
    assert [detail["field"] for detail in body["details"]] == ["body -> password"]


@pytest.mark.parametrize("prefix", ["/api/fail", "/api/plain"])
def test_crash_is_500_and_tells_nothing(client: Client, prefix: str) -> None:
    response = client.get(f"{prefix}/crash")

    assert_problem(response, 500, "INTERNAL_SERVER_ERROR")
    assert b"hunter2" not in response.content
    assert b"RuntimeError" not in response.content


@pytest.mark.parametrize("prefix", ["/api/fail", "/api/plain"])
def test_database_away_is_503_with_retry_after(client: Client, prefix: str) -> None:
    response = client.get(f"{prefix}/away")

    assert_problem(response, 503, "SECURITY_SERVICE_FAILURE")
    assert int(response["Retry-After"]) > 0


@pytest.mark.parametrize("prefix", ["/api/fail", "/api/plain"])
def test_meanings_keep_their_status_and_headers(client: Client, prefix: str) -> None:
    limited = client.get(f"{prefix}/limit")

    assert_problem(limited, 429, "TOO_MANY_REQUESTS")
    assert limited["Retry-After"] == "7"
    assert_problem(client.get(f"{prefix}/meaning"), 409, "CONFLICT")


def test_nul_in_the_path_is_400(client: Client) -> None:
    assert client.get("/api/v1/orders/%00").status_code in {400, 404}


def test_console_errors_are_pages(client: Client) -> None:
    response = client.get("/nothing/here")

    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


def test_language_follows_the_caller(client: Client) -> None:
    spanish = client.get("/api/v1/nothing").json()["detail"]
    english = client.get("/api/v1/nothing", headers={"Accept-Language": "en"}).json()["detail"]

    assert spanish != english


def test_connection_is_usable_after_all_that() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
