"""Who may enter the console: staff, with a proved second factor, in a live session. Nobody else, ever."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts import administration
from mestore.lib import actor
from sessions_security import sessions
from sessions_security.models import UserSession
from tests.console import house
from tests.factories.accounts import (
    PASSWORD,
    AdminFactory,
    BuyerFactory,
    TotpDeviceFactory,
    VendorFactory,
    code_of,
)

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

INSIDE = [
    "/admin/",
    "/admin/accounts/user/",
    "/admin/finance/order/1/change/",
    "/admin/sessions_security/usersession/do/",
]


@pytest.mark.parametrize("path", INSIDE)
def test_stranger_is_sent_to_the_sign_in(path: str) -> None:
    answer = Client().get(path)

    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")


def test_address_without_its_slash_leads_to_the_console() -> None:
    answer = Client().get("/admin")

    assert (answer.status_code, answer["Location"]) == (302, "/admin/")


@pytest.mark.parametrize("factory", [BuyerFactory, VendorFactory])
def test_people_outside_the_staff_never_enter_even_with_password_and_code(
    factory: type[BuyerFactory],
) -> None:
    user = factory.create()
    device = TotpDeviceFactory.create(user=user)
    client = Client()

    client.post("/admin/login/", {"email": user.email, "password": PASSWORD})
    client.post("/admin/login/", {"step": "code", "code": code_of(device)})

    assert client.get("/admin/").status_code == 302
    assert not UserSession.objects.filter(user=user).exists()


def test_administrator_without_a_factor_never_enters() -> None:
    user = AdminFactory.create()
    client = Client()

    client.post("/admin/login/", {"email": user.email, "password": PASSWORD})
    client.post("/admin/login/", {"step": "code", "code": "000000"})

    assert client.get("/admin/").status_code == 302


def test_password_alone_does_not_enter() -> None:
    user, _device = house.person()
    client = Client()

    client.post("/admin/login/", {"email": user.email, "password": PASSWORD})

    assert client.get("/admin/").status_code == 302


def test_password_and_code_enter() -> None:
    visitor = house.visitor()

    assert visitor.client.get("/admin/").status_code == 200


def test_ended_session_is_out_with_the_next_request() -> None:
    visitor = house.visitor()
    session = UserSession.objects.get(user=visitor.user)

    sessions.end(session, by=actor.system("test"), why="test")

    assert visitor.client.get("/admin/").status_code == 302


def test_deactivated_administrator_is_out_with_the_next_request() -> None:
    visitor = house.visitor()

    administration.deactivate(visitor.user, reason="left the company", by=actor.system("test"))

    assert visitor.client.get("/admin/").status_code == 302


def test_demoted_administrator_is_out_with_the_next_request() -> None:
    visitor = house.visitor()

    type(visitor.user).objects.filter(pk=visitor.user.pk).update(user_type="BUYER")

    assert visitor.client.get("/admin/").status_code == 302


def test_signing_out_is_a_post_and_ends_the_session() -> None:
    visitor = house.visitor()

    assert visitor.client.get("/admin/logout/").status_code == 405
    assert visitor.client.get("/admin/").status_code == 200

    visitor.client.post("/admin/logout/")

    assert visitor.client.get("/admin/").status_code == 302
    assert UserSession.objects.get(user=visitor.user).revoked_at is not None


def test_header_says_who_is_there_and_until_when() -> None:
    visitor = house.visitor()

    page = visitor.client.get("/admin/", headers={"accept-language": "en"}).content.decode()

    assert visitor.user.email in page
    assert "ADMIN" in page
    assert "session ends" in page
    assert 'action="/admin/logout/"' in page


@pytest.mark.parametrize(
    "path",
    [
        "/admin/password_change/", "/admin/autocomplete/", "/admin/jsi18n/", "/admin/r/1/1/",
        "/admin/accounts/", "/admin/accounts/user/add/", "/admin/auth/group/", "/admin/axes/accessattempt/",
        "/admin/accounts/totpdevice/", "/admin/sessions_security/sessionsecret/", "/admin/nothing/",
    ],
)  # fmt: skip
def test_nothing_of_the_stock_admin_is_served_beside_the_declared_pages(path: str) -> None:
    assert house.visitor().client.get(path).status_code == 404
