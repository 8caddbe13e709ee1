"""Every address is closed to strangers unless it is named as open, with its reason."""

from __future__ import annotations

import pytest
from django.test import Client

from mestore.urls import OPEN
from tests.contract.routes import Route, every_route
from tests.harness import cases

pytestmark = [
    pytest.mark.django_db(databases=["default", "audit"]),
    # Not for coverage: the same few lines thousands of times, which tests of single routes run as well.
    pytest.mark.no_cover,
]

# Where a token opens what no session does, the answer to strangers is "not found".
CLOSED = {401, 403, 404}
ROUTES = every_route()


def is_open(route: Route) -> bool:
    return route.name in OPEN or route.name.removeprefix("commissions-alias:") in OPEN


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_stranger_is_refused(method: str) -> None:
    def check(route: Route) -> None:
        response = getattr(Client(), method)(route.path, content_type="application/json")

        if response.status_code == 302:
            assert response["Location"].startswith("/admin/login/"), route
        else:
            assert response.status_code in CLOSED | {405}, route
        assert response.status_code != 405 or method != "get" or route.path.startswith("/admin/"), route

    cases.judge((route for route in ROUTES if not is_open(route)), check)


def test_reserved_names_are_all_used() -> None:
    names = {route.name for route in ROUTES}

    assert set(OPEN) <= names, set(OPEN) - names


@pytest.mark.parametrize(
    "path",
    [
        "/test-token",
        "/users/test",
        "/db-test",
        "/logs",
        "/communications/test-sms",
        "/api/v1/auth/google/login",
    ],
)
def test_debug_routes_of_the_old_system_do_not_exist(path: str) -> None:
    assert Client().get(path).status_code == 404
    assert Client().post(path).status_code == 404
