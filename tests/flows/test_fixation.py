"""A cookie from before a step opens nothing after it, at every step; and looking at a page begins nothing."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.conf import settings
from django.db.models import F
from django.test import Client
from django.utils import timezone

from accounts.models import TotpDevice, User
from sessions_security import store
from sessions_security.models import SessionSecret, StepUpProof, UserSession
from tests.console import house
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

COOKIE = settings.SESSION_COOKIE_NAME
HOME, LOGIN = "/admin/", "/admin/login/"
REASON = "helping with a complaint"


def cookie_of(browser: Client) -> str:
    return browser.cookies[COOKIE].value


def next_code(device: TotpDevice) -> str:
    """A code that has not been used, as half a minute later."""
    TotpDevice.objects.filter(pk=device.pk).update(last_step=0)
    return people.code_of(device)


def opens_console(cookie: str) -> bool:
    browser = Client()
    browser.cookies.load({COOKIE: cookie})
    answer = browser.get(HOME)
    return answer.status_code == 200 or not answer.headers["Location"].startswith(LOGIN)


# Each step


def test_password_step_with_a_planted_cookie_leaves_the_planted_session_where_it_was() -> None:
    attacker = house.visitor()
    planted = cookie_of(attacker.client)
    victim, device = house.person()
    browser = Client()
    browser.cookies.load({COOKIE: planted})

    browser.post(LOGIN, {"email": victim.email, "password": people.PASSWORD})

    # Halfway, nobody is anybody else: what the planted cookie opens is the attacker's own session or nothing.
    assert not UserSession.objects.filter(user=victim).exists()
    browser.post(LOGIN, {"step": "code", "code": people.code_of(device)})
    assert not opens_console(planted)
    assert cookie_of(browser) != planted
    assert UserSession.objects.filter(user=victim, revoked_at=None).count() == 1
    assert not UserSession.objects.filter(user=attacker.user, revoked_at=None).exists()


def test_second_sign_in_in_one_browser_ends_what_it_had() -> None:
    visitor = house.visitor()
    before = cookie_of(visitor.client)
    other, device = house.person()

    house.enter(other, device, visitor.client)

    assert cookie_of(visitor.client) != before
    assert not opens_console(before)


def test_two_browsers_of_one_person_do_not_share_anything() -> None:
    user, device = house.person()
    first = house.enter(user, device)
    second = Client()
    second.post(LOGIN, {"email": user.email, "password": people.PASSWORD})
    second.post(LOGIN, {"step": "code", "code": next_code(device)})

    assert cookie_of(first) != cookie_of(second)
    first.post("/admin/logout/")
    assert opens_console(cookie_of(second))


def test_step_up_gives_a_new_cookie_and_the_old_one_is_dead() -> None:
    visitor = house.visitor()
    before = cookie_of(visitor.client)
    StepUpProof.objects.update(proved_at=F("proved_at") - dt.timedelta(days=1))

    answer = visitor.client.post(
        "/admin/confirm/",
        {"action": "factors.enrol", "next": HOME, "method": "totp",
         "code": next_code(visitor.device)},
    )  # fmt: skip

    assert answer.status_code == 302
    assert cookie_of(visitor.client) != before
    assert not opens_console(before)
    assert opens_console(cookie_of(visitor.client))


def test_failed_step_up_changes_nothing() -> None:
    visitor = house.visitor()
    before = cookie_of(visitor.client)

    visitor.client.post("/admin/confirm/", {"action": "factors.enrol", "method": "totp", "code": "000000"})

    assert cookie_of(visitor.client) == before
    assert opens_console(before)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"user_type": "SUPERUSER"}, id="promoted"),
        pytest.param({"user_type": "BUYER"}, id="demoted"),
        pytest.param({"security_clearance_level": 1}, id="clearance"),
        pytest.param({"password": "!changed"}, id="password"),
        pytest.param({"is_active": False}, id="disabled"),
        pytest.param({"deleted_at": timezone.now(), "is_active": False}, id="deleted"),
    ],
)
def test_change_of_role_state_or_password_ends_cookie_and_token(change: dict[str, Any]) -> None:
    visitor = house.visitor()
    cookie = cookie_of(visitor.client)
    _session, pair = made.tokens_of(visitor.user)
    headers = {"Authorization": f"Bearer {pair.access_token}"}

    User.objects.filter(pk=visitor.user.pk).update(**change)

    assert not opens_console(cookie)
    assert Client().get("/api/v1/auth/me", headers=headers).status_code == 401


def test_impersonation_has_a_cookie_of_its_own_that_dies_with_it() -> None:
    visitor = house.visitor(superuser=True, permissions=("users.manage.global", house.DANGEROUS))
    own = cookie_of(visitor.client)

    visitor.client.post(f"/admin/impersonation/{people.AdminFactory.create().pk}/", {"reason": REASON})
    inside = cookie_of(visitor.client)
    assert inside != own
    assert opens_console(inside)
    visitor.client.post("/admin/impersonation/stop/")

    assert not opens_console(inside)
    assert cookie_of(visitor.client) != inside


def test_sign_in_from_another_site_is_refused() -> None:
    user, _device = house.person()
    browser = Client(enforce_csrf_checks=True)

    answer = browser.post(
        LOGIN, {"email": user.email, "password": people.PASSWORD}, headers={"Origin": "https://evil.example"}
    )

    assert answer.status_code == 403
    assert not UserSession.objects.exists()


# Nothing begins by looking


@pytest.mark.parametrize("path", [HOME, LOGIN, "/api/v1/auth/me", "/api/schema/", "/livez", "/health"])
@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Purpose": "prefetch;prerender"}, {"Purpose": "prefetch"}, {"X-Moz": "prefetch"}],
    ids=["plain", "prerender", "prefetch", "moz"],
)  # fmt: skip
def test_looking_begins_no_session(path: str, headers: dict[str, str]) -> None:
    browser = Client()

    for _number in range(2):
        browser.get(path, headers=headers)
        browser.head(path, headers=headers)

    assert not UserSession.objects.exists()
    assert not SessionSecret.objects.exists()
    assert COOKIE not in browser.cookies


def test_credentials_in_the_address_begin_nothing() -> None:
    user = people.BuyerFactory.create()

    for path in (LOGIN, "/api/v1/auth/login"):
        Client().get(path, {"email": user.email, "password": people.PASSWORD})

    assert not UserSession.objects.exists()


def test_hundred_thousand_cookies_are_all_different_and_have_256_bits() -> None:
    values = {store._new_secret() for _number in range(100_000)}

    assert len(values) == 100_000
    assert {len(value) for value in values} == {43}
