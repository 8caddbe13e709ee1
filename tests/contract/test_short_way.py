"""Programs go past the middleware of browsers: every route is asked both ways, and answers the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction
from django.test import Client, RequestFactory, override_settings
from django.urls import resolve

from accounts.roles import Role
from mestore import handler
from mestore.lib.http import dumps
from tests.contract.authorisation import FACTORIES, METHODS, Call, every_call, header_of
from tests.contract.routes import every_route
from tests.factories import sessions_security as made
from tests.factories.accounts import AdminFactory, BuyerFactory
from tests.harness import caches
from tests.harness.served import FrameworksOwn

pytestmark = [
    pytest.mark.django_db(databases=["default", "audit"]),
    # Not for coverage: the same few lines thousands of times, which tests of single routes run as well.
    pytest.mark.no_cover,
]

# What moves with time and with each request.
CHANGING = {"X-Request-ID", "RateLimit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Content-Length"}


def ask(call: Call, headers: dict[str, str], *, whole: bool, body: Any = None, **options: Any) -> Any:
    """Return the answer to `call` on one of the two ways, and undo what it did."""
    client = Client(raise_request_exception=False)
    if whole:
        client.handler = FrameworksOwn()
    with ExitStack() as stack:
        for alias in ("default", "audit"):
            stack.enter_context(transaction.atomic(using=alias))
        if call.method not in {"GET", "OPTIONS"}:
            options = {"data": dumps(body or {}), "content_type": "application/json"} | options
        response = getattr(client, call.method.lower())(call.path, headers=headers, **options)
        content = response.getvalue()
        for alias in ("default", "audit"):
            transaction.set_rollback(True, using=alias)
    return response, content


def shape(value: Any, *, told: bool) -> Any:
    """Return `value` without what is new in every answer; `told`: its texts are the answer."""
    if isinstance(value, dict):
        changing = {"request_id", "timestamp"}
        return {name: None if name in changing else shape(inner, told=told) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner, told=told) for inner in value]
    return value if told or value is None else type(value).__name__


def comparable(response: Any, content: bytes) -> Any:
    """Return everything of an answer that must be the same."""
    headers = {name: value for name, value in response.items() if name not in CHANGING}
    headers["Vary"] = ", ".join(name for name in headers.get("Vary", "").split(", ") if name != "Cookie")
    kind = headers.get("Content-Type", "")
    body: Any = len(content) > 0
    if "json" in kind and content:
        body = shape(json.loads(content), told="problem" in kind)
    names = sorted(set(dict(response.items())) & CHANGING)
    return response.status_code, headers, names, sorted(response.cookies), body


def both_the_same(call: Call, headers: dict[str, str], **options: Any) -> int:
    """Demand the same answer on both ways; return its status."""
    request = RequestFactory().generic(call.method, call.path, headers=headers)
    assert handler.is_program(request), call
    short = ask(call, headers, whole=False, **options)
    whole = ask(call, headers, whole=True, **options)
    assert comparable(*short) == comparable(*whole), call
    return int(short[0].status_code)


def interface() -> Iterator[Call]:
    for call in every_call():
        if call.path.startswith("/api/v1/"):
            yield call


@pytest.mark.parametrize("role", [Role.SYSTEM, Role.VENDOR, Role.SUPERUSER])
def test_every_route_answers_the_same_on_both_ways(role: Role) -> None:
    headers = header_of(role, FACTORIES[role].create() if role in FACTORIES else None)
    statuses = set()
    for number, call in enumerate(interface()):
        if number % 4 == 0:  # an administrator changes ten things a minute
            caches.forget()
        statuses.add(both_the_same(call, headers))

    assert {200, 403, 404} <= statuses  # the walk met what there is to meet
    assert 500 not in statuses


def test_whoever_may_come_without_credentials_is_answered_the_same_with_a_token() -> None:
    headers = made.bearer(BuyerFactory.create())
    for route in every_route():
        if not route.path.startswith("/api/v1/"):
            continue
        view = getattr(resolve(route.path).func, "cls", None)
        assert view is not None, f"{route.name} is no view of the interface: nobody asks it for its token"
        caches.forget()
        for method in METHODS:
            if hasattr(view, method):
                both_the_same(Call(route.name, method.upper(), route.path), headers)


@pytest.mark.parametrize(
    "authorization", ["Bearer ", "Bearer x", "bearer x.y.z", "DPoP x.y.z", "Bearer " + "a" * 5_000]
)
def test_wrong_token_is_refused_the_same(authorization: str) -> None:
    call = Call("auth-me", "GET", "/api/v1/auth/me")

    assert both_the_same(call, {"Authorization": authorization}) == 401


@pytest.mark.parametrize("language", ["en", "es", "fr"])
def test_refusal_speaks_the_language_that_was_asked_for(language: str) -> None:
    headers = made.machine_bearer(made.machine()[0]) | {"Accept-Language": language}

    assert both_the_same(Call("orders", "POST", "/api/v1/orders/"), headers) == 400


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"headers": {"Host": "evil.test"}}, 400),
        ({"path": "/api/v1/nothing"}, 404),
        ({"path": "/api/v1/orders//"}, 404),
        ({"path": "/api/v1/orders/\x00"}, 400),
        ({"method": "OPTIONS"}, 200),
        ({"data": b"{", "content_type": "application/json"}, 400),
        ({"data": b"a=b", "content_type": "application/x-www-form-urlencoded"}, 415),
        ({"data": b"x" * 1_100_000, "content_type": "application/json"}, 413),
        ({"headers": {"Origin": "https://www.shop.test"}}, 422),
        ({"secure": True}, 422),
    ],
)
@override_settings(CORS_ALLOWED_ORIGINS=["https://www.shop.test"])
def test_what_is_odd_is_answered_the_same(options: dict[str, Any], status: int) -> None:
    more = dict(options)
    headers = {"Idempotency-Key": "k", **made.machine_bearer(made.machine()[0]), **more.pop("headers", {})}
    call = Call("orders", more.pop("method", "POST"), more.pop("path", "/api/v1/orders/"))

    assert both_the_same(call, headers, **more) == status


@override_settings(TLS_REQUIRED=True, SECURE_SSL_REDIRECT=True)
@pytest.mark.parametrize(("secure", "status"), [(False, 403), (True, 200)])
def test_plain_http_is_refused_to_programs_too(secure: bool, status: int) -> None:
    headers = made.bearer(BuyerFactory.create())

    assert both_the_same(Call("auth-me", "GET", "/api/v1/auth/me"), headers, secure=secure) == status


# Who goes the whole way


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/api/v1/orders/", {}),
        ("/api/v1/orders/", {"Authorization": "Basic eDp5"}),
        ("/api/v1/orders/", {"Authorization": "Bearer"}),
        ("/api/v1/orders/", {"Authorization": ""}),
        ("/api/v1/orders/", {"Authorization": "Bearer x.y.z", "Cookie": "a=b"}),
        ("/admin/", {"Authorization": "Bearer x.y.z"}),
        ("/api/docs/", {"Authorization": "Bearer x.y.z"}),
        ("/commissions/", {"Authorization": "Bearer x.y.z"}),
        ("/metrics", {"Authorization": "Bearer x.y.z"}),
    ],
)
def test_everybody_else_goes_the_whole_way(path: str, headers: dict[str, str]) -> None:
    assert not handler.is_program(RequestFactory().post(path, headers=headers))


def test_what_is_left_out_is_there_for_the_others() -> None:
    assert set(settings.MIDDLEWARE) >= handler.FOR_BROWSERS


def test_cookie_beside_a_token_opens_nothing_more() -> None:
    """The token alone counts, as ever; the cookie's session is neither used nor asked for a form's proof."""
    admin, buyer = AdminFactory.create(), BuyerFactory.create()
    client = Client(enforce_csrf_checks=True)
    client.cookies.load(made.cookies(made.cookie_of(admin)[1]))

    me = client.get("/api/v1/auth/me", headers=made.bearer(buyer))

    assert me.json()["id"] == str(buyer.pk)


def test_cookie_without_a_token_still_needs_the_proof_of_its_form() -> None:
    client = Client(enforce_csrf_checks=True)
    client.cookies.load(made.cookies(made.cookie_of(AdminFactory.create())[1]))

    refused = client.post("/api/v1/auth/logout", data=b"{}", content_type="application/json")

    assert (refused.status_code, refused.json()["error_code"]) == (403, "CSRF_FAILED")
