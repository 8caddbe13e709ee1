"""Signing in to the console and leaving it, as a browser without JavaScript does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.db.models import F
from django.test import Client

from accounts.models import TotpDevice, User
from monitoring.models import AuditEvent
from sessions_security import console_views, limits
from sessions_security.models import PendingSignIn, SessionSecret, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

LOGIN, LOGOUT, HOME = "/admin/login/", "/admin/logout/", "/admin/"
COOKIE = settings.SESSION_COOKIE_NAME


@pytest.fixture
def admin() -> User:
    user: User = people.AdminFactory.create()
    return user


@pytest.fixture
def device(admin: User) -> TotpDevice:
    made_device: TotpDevice = people.TotpDeviceFactory.create(user=admin)
    return made_device


def password_step(browser: Client, user: User, **changes: str) -> Any:
    fields = {"step": "password", "email": user.email, "password": people.PASSWORD} | changes
    return browser.post(LOGIN, fields)


def code_step(browser: Client, device: TotpDevice, **changes: str) -> Any:
    return browser.post(LOGIN, {"step": "code", "code": people.code_of(device)} | changes)


def signed_in(user: User, device: TotpDevice) -> Client:
    browser = Client()
    password_step(browser, user)
    assert code_step(browser, device).status_code == 302
    return browser


# Not getting in


def test_console_is_closed_to_strangers() -> None:
    response = Client().get(HOME)

    assert response.status_code == 302
    assert response["Location"].startswith(LOGIN)


def test_stranger_sees_the_password_form_and_gets_no_session() -> None:
    response = Client().get(LOGIN)

    assert response.status_code == 200
    assert 'name="password"' in response.content.decode()
    assert COOKIE not in response.cookies
    assert "no-store" in response["Cache-Control"]
    assert not UserSession.objects.exists()


def test_form_without_csrf_proof_is_refused(admin: User, device: TotpDevice) -> None:
    assert password_step(Client(enforce_csrf_checks=True), admin).status_code == 403


def test_unknown_wrong_and_not_staff_read_alike(admin: User, device: TotpDevice) -> None:
    buyer = people.BuyerFactory.create()

    answers = [
        password_step(Client(), admin, password="wrong"),
        password_step(Client(), admin, email="nobody@example.com"),
        password_step(Client(), buyer),
    ]

    assert {answer.status_code for answer in answers} == {401}
    assert len({str(answer.context["error"]) for answer in answers}) == 1
    assert not PendingSignIn.objects.exists()


def test_administrator_without_a_factor_is_led_to_add_one_and_is_not_in(admin: User) -> None:
    browser = Client()

    response = password_step(browser, admin)

    assert response["Location"].startswith("/admin/first-factor/")
    assert not UserSession.objects.exists()
    assert browser.get(HOME)["Location"].startswith(LOGIN)


def test_password_is_never_shown_again(admin: User) -> None:
    response = password_step(Client(), admin, password="needle-in-the-page")

    assert "needle-in-the-page" not in response.content.decode()
    assert admin.email in response.content.decode()


def test_what_was_typed_is_shown_as_text(admin: User) -> None:
    response = password_step(Client(), admin, email='"><script>alert(1)</script>', next='"><b>x')

    assert "<script>alert" not in response.content.decode()
    assert "<b>x" not in response.content.decode()


def test_password_alone_does_not_open_the_console(admin: User, device: TotpDevice) -> None:
    browser = Client()

    password_step(browser, admin)

    assert browser.get(HOME).status_code == 302
    assert not UserSession.objects.exists()


def test_session_with_a_password_only_does_not_open_the_console(admin: User) -> None:
    _session, value = made.cookie_of(admin)
    browser = Client()
    browser.cookies.load(made.cookies(value))

    assert browser.get(HOME).status_code == 302


@pytest.mark.parametrize("cookie", [None, "x", "a" * 43])
def test_code_without_a_pending_sign_in_begins_again(device: TotpDevice, cookie: str | None) -> None:
    browser = Client()
    if cookie:
        browser.cookies.load({console_views.PENDING_COOKIE: cookie})

    response = code_step(browser, device)

    assert response.status_code == 401
    assert 'name="password"' in response.content.decode()


def test_wrong_code_stays_at_the_code(admin: User, device: TotpDevice) -> None:
    browser = Client()
    password_step(browser, admin)

    response = code_step(browser, device, code="12345")

    assert response.status_code == 400
    assert 'name="code"' in response.content.decode()
    assert code_step(browser, device).status_code == 302


def test_sixth_code_is_refused_even_if_right(admin: User, device: TotpDevice) -> None:
    browser = Client()
    password_step(browser, admin)
    for _attempt in range(5):
        code_step(browser, device, code="000000")

    assert code_step(browser, device).status_code == 401
    assert not UserSession.objects.exists()


def test_pending_sign_in_of_the_api_does_not_work_here(admin: User, device: TotpDevice) -> None:
    browser = Client()
    password_step(browser, admin)
    PendingSignIn.objects.update(purpose="admin")

    assert code_step(browser, device).status_code == 401


def test_old_pending_sign_in_shows_the_password_form_again(admin: User, device: TotpDevice) -> None:
    browser = Client()
    password_step(browser, admin)
    assert 'name="code"' in browser.get(LOGIN).content.decode()
    PendingSignIn.objects.update(expires_at=F("created_at") - timedelta(seconds=1))

    response = browser.get(LOGIN)

    assert response.status_code == 401
    assert 'name="password"' in response.content.decode()
    assert response.cookies[console_views.PENDING_COOKIE].value == ""


def test_beginning_again_forgets_the_first_step(admin: User, device: TotpDevice) -> None:
    browser = Client()
    password_step(browser, admin)

    response = browser.post(LOGIN, {"step": "restart", "next": "/admin/accounts/"})

    assert response["Location"] == "/admin/login/?next=%2Fadmin%2Faccounts%2F"
    assert 'name="password"' in browser.get(LOGIN).content.decode()


def test_attempts_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 3
    monkeypatch.setattr(
        settings, "SIGN_IN_RATE_LIMITS", {"network": [(30, 60)], "account": [(limit, 86_400)]}
    )
    for number in range(limit):
        Client().post(LOGIN, {"email": "x@example.com", "password": "x"}, REMOTE_ADDR=f"198.51.100.{number}")

    response = Client().post(LOGIN, {"email": "x@example.com", "password": "x"})

    assert response.status_code == 429
    assert int(response["Retry-After"]) >= 1


# Getting in


def test_password_and_code_open_the_console(admin: User, device: TotpDevice) -> None:
    browser = Client()

    first = password_step(browser, admin)
    second = code_step(browser, device)

    assert (first.status_code, first["Location"]) == (302, LOGIN)
    assert (second.status_code, second["Location"]) == (302, HOME)
    assert browser.get(HOME).status_code == 200
    session = UserSession.objects.get()
    assert (session.kind, session.amr) == ("cookie", ["pwd", "otp"])
    assert AuditEvent.objects.filter(type="auth.sign_in.succeeded", actor_id=str(admin.pk)).count() == 1


def test_code_may_be_typed_in_groups(admin: User, device: TotpDevice) -> None:
    browser = Client()
    password_step(browser, admin)
    code = people.code_of(device)

    assert code_step(browser, device, code=f" {code[:3]} {code[3:]} ").status_code == 302


def test_cookies_are_locked_down(admin: User, device: TotpDevice) -> None:
    browser = Client()

    pending = password_step(browser, admin).cookies[console_views.PENDING_COOKIE]
    session = code_step(browser, device).cookies[COOKIE]

    for cookie, same_site in ((pending, "Strict"), (session, "Lax")):
        assert cookie.key.startswith("__Host-")
        assert cookie["secure"] is True
        assert cookie["httponly"] is True
        assert cookie["path"] == "/"
        assert cookie["domain"] == ""
        assert cookie["samesite"] == same_site
    assert browser.cookies[console_views.PENDING_COOKIE].value == ""


def test_session_id_offered_before_signing_in_is_not_taken_over(admin: User, device: TotpDevice) -> None:
    planted = "a" * 43
    browser = Client()
    browser.cookies.load({COOKIE: planted})

    password_step(browser, admin)
    code_step(browser, device)

    assert browser.cookies[COOKIE].value not in {"", planted}


def test_signing_in_over_somebody_elses_session_ends_that_one(admin: User, device: TotpDevice) -> None:
    other, value = made.cookie_of(people.SuperuserFactory.create())
    browser = Client()
    browser.cookies.load(made.cookies(value))

    password_step(browser, admin)
    code_step(browser, device)

    other.refresh_from_db()
    assert other.revoked_at is not None
    assert browser.cookies[COOKIE].value != value
    assert UserSession.objects.get(revoked_at=None).user_id == admin.pk


def test_csrf_secret_changes_at_sign_in(admin: User, device: TotpDevice) -> None:
    browser = Client()
    browser.get(LOGIN)
    before = browser.cookies[settings.CSRF_COOKIE_NAME].value

    password_step(browser, admin)
    code_step(browser, device)

    assert browser.cookies[settings.CSRF_COOKIE_NAME].value != before


def test_signed_in_browser_is_sent_on(admin: User, device: TotpDevice) -> None:
    browser = signed_in(admin, device)

    assert browser.get(LOGIN, {"next": "/admin/accounts/"})["Location"] == "/admin/accounts/"


@pytest.mark.parametrize(
    "target",
    [
        "https://attacker.example/",
        "//attacker.example/",
        "///attacker.example/",
        "/\\attacker.example/",
        "\\\\attacker.example/",
        "javascript:alert(1)",
        "http:attacker.example",
        " /admin/",
        "/\t/attacker.example",
        "/admin/login/",
        "/admin/logout/",
        "admin/",
        "",
        "/" + "a" * 5_000,
    ],
)
def test_next_leads_nowhere_but_inside(admin: User, device: TotpDevice, target: str) -> None:
    browser = Client()
    password_step(browser, admin, next=target)

    assert code_step(browser, device, next=target)["Location"] == HOME


def test_next_survives_both_steps(admin: User, device: TotpDevice) -> None:
    browser = Client()
    target = "/admin/accounts/user/?o=1"

    first = password_step(browser, admin, next=target)
    form = browser.get(first["Location"])

    assert f'name="next" value="{target}"' in form.content.decode()
    assert code_step(browser, device, next=target)["Location"] == target


# Staying and leaving


def test_page_of_the_console_notes_the_use(admin: User, device: TotpDevice) -> None:
    browser = signed_in(admin, device)
    UserSession.objects.update(last_seen_at=F("last_seen_at") - timedelta(minutes=2))
    before = UserSession.objects.get().last_seen_at

    response = browser.get(HOME)

    assert UserSession.objects.get().last_seen_at > before
    assert response["X-RateLimit-Limit"] == "1000"


@pytest.mark.parametrize(
    "change",
    [{"is_active": False}, {"user_type": "BUYER"}, {"password": "!other"}],
)
def test_change_of_the_account_throws_out_on_the_next_request(
    admin: User, device: TotpDevice, change: dict[str, Any]
) -> None:
    browser = signed_in(admin, device)

    User.objects.filter(pk=admin.pk).update(**change)

    assert browser.get(HOME).status_code == 302
    assert browser.cookies[COOKIE].value == ""


@pytest.mark.parametrize("end", ["idle_expires_at", "absolute_expires_at"])
def test_time_throws_out(admin: User, device: TotpDevice, end: str) -> None:
    browser = signed_in(admin, device)
    past = F("created_at") - timedelta(seconds=1)
    ends: dict[str, Any] = {"idle_expires_at": past, end: past}
    UserSession.objects.update(created_at=F("created_at") - timedelta(days=1), **ends)

    assert browser.get(HOME).status_code == 302


def test_sign_out_kills_the_cookie_and_asks_the_browser_to_forget(admin: User, device: TotpDevice) -> None:
    browser = signed_in(admin, device)
    value = browser.cookies[COOKIE].value

    response = browser.post(LOGOUT)

    assert (response.status_code, response["Location"]) == (302, LOGIN)
    assert '"cookies"' in response["Clear-Site-Data"]
    assert not SessionSecret.objects.exists()
    assert UserSession.objects.get().revoked_why == "sign_out"
    replay = Client()
    replay.cookies.load(made.cookies(value))
    assert replay.get(HOME).status_code == 302


def test_sign_out_needs_a_post_with_proof(admin: User, device: TotpDevice) -> None:
    browser = signed_in(admin, device)
    browser.handler.enforce_csrf_checks = True

    assert browser.get(LOGOUT).status_code == 405
    assert browser.post(LOGOUT).status_code == 403
    assert UserSession.objects.get().revoked_at is None


def test_sign_out_of_nobody_is_harmless() -> None:
    assert Client().post(LOGOUT)["Location"] == LOGIN


# Bad days


def test_database_away_is_503_with_a_page_never_a_way_in(
    admin: User, device: TotpDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = signed_in(admin, device)

    def gone(*_arguments: Any, **_options: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr("mestore.lib.sql.fetch_one", gone)
    page = browser.get(HOME)
    api = browser.get("/api/v1/auth/me")

    assert (page.status_code, page["Retry-After"]) == (503, "5")
    assert (api.status_code, api.json()["error_code"]) == (503, "SECURITY_SERVICE_FAILURE")


def test_use_that_cannot_be_noted_does_not_spoil_the_answer(
    admin: User, device: TotpDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = signed_in(admin, device)
    UserSession.objects.update(last_seen_at=F("last_seen_at") - timedelta(minutes=2))

    def gone(*_arguments: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr("mestore.lib.sql.execute", gone)

    assert browser.get(HOME).status_code == 200


def test_stranger_over_the_limit_is_told_in_the_form_they_understand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "RATE_LIMITS", {**settings.RATE_LIMITS, "anonymous": [(1, 86_400)]})
    Client().get(LOGIN)

    page, program = Client().get(LOGIN), Client().get("/.well-known/jwks.json")

    assert page.status_code == program.status_code == 429
    assert program["Content-Type"] == "application/problem+json"
    assert page["Content-Type"].startswith("text/html")
    assert int(page["Retry-After"]) >= 1


@pytest.mark.parametrize("path", sorted(limits.UNLIMITED_PATHS))
def test_our_own_monitors_are_not_counted(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "RATE_LIMITS", {**settings.RATE_LIMITS, "anonymous": [(1, 86_400)]})

    assert 429 not in {Client().get(path).status_code for _attempt in range(3)}
