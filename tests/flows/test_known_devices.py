"""Known devices over HTTP: the cookie after each full sign-in and never before, the lane, the list."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from accounts.models import KnownDevice, User
from sessions_security import signin
from tests.factories import accounts as people

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

AUTH = "/api/v1/auth/"
COOKIE = "__Host-device"


def post(client: Client, path: str, body: Any, **extra: Any) -> Any:
    return client.post(AUTH + path, json.dumps(body), content_type="application/json", **extra)


def login(
    client: Client, user: User, password: str = people.PASSWORD, path: str = "login", **extra: Any
) -> Any:
    return post(client, path, {"email": user.email, "password": password}, **extra)


def lock_out(user: User, path: str = "login") -> None:
    door = {"login": "login", "admin-login": "admin_login"}[path]
    for number in range(settings.LOGIN_LIMITS[door]["account"]):
        assert login(Client(), user, "guess", path, REMOTE_ADDR=f"198.51.100.{number}").status_code == 401
    assert login(Client(), user, path=path, REMOTE_ADDR="198.51.100.99").status_code == 429


@pytest.fixture
def buyer() -> User:
    made: User = people.BuyerFactory.create()
    return made


def test_cookie_is_closed_to_scripts_and_other_sites(buyer: User) -> None:
    morsel = login(Client(), buyer).cookies[COOKIE]

    assert (morsel["secure"], morsel["httponly"], morsel["samesite"], morsel["path"], morsel["domain"]) == (
        True, True, "Strict", "/", "",
    )  # fmt: skip
    assert morsel["max-age"] == settings.KNOWN_DEVICE_SECONDS


@pytest.mark.parametrize("password", ["wrong", people.PASSWORD])
def test_half_a_sign_in_leaves_no_cookie(password: str) -> None:
    device = people.TotpDeviceFactory.create()

    answer = login(Client(), device.user, password, "admin-login")

    assert answer.status_code == 401
    assert COOKIE not in answer.cookies
    assert not KnownDevice.objects.exists()


def test_owner_gets_in_from_a_known_device_while_strangers_lock_the_account(buyer: User) -> None:
    browser = Client()
    login(browser, buyer)
    lock_out(buyer)

    assert login(browser, buyer).status_code == 200
    assert KnownDevice.objects.count() == 1
    assert KnownDevice.objects.get().last_used_at is not None


def test_load_limit_of_the_account_is_not_used_up_by_strangers(
    buyer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "SIGN_IN_RATE_LIMITS", {"network": [(30, 60)], "account": [(2, 86_400)]})
    browser = Client()
    login(browser, buyer)
    login(Client(), buyer, "guess", REMOTE_ADDR="198.51.100.1")

    assert login(Client(), buyer, REMOTE_ADDR="198.51.100.2").status_code == 429
    assert login(browser, buyer).status_code == 200


def test_administrator_gets_in_with_both_steps_from_a_known_browser() -> None:
    device = people.TotpDeviceFactory.create()
    browser = Client()
    begun = login(browser, device.user, path="admin-login").json()
    wrong = {"mfa_token": begun["mfa_token"], "method": "totp", "code": "abc"}
    assert COOKIE not in post(browser, "mfa/verify", wrong).cookies
    done = post(browser, "mfa/verify", wrong | {"code": people.code_of(device)})
    assert (done.status_code, COOKIE in done.cookies) == (200, True)

    lock_out(device.user, "admin-login")

    assert login(browser, device.user, path="admin-login").json()["error_code"] == "MFA_REQUIRED"


def test_console_makes_its_browser_known() -> None:
    device = people.TotpDeviceFactory.create()
    browser = Client()
    fields = {"step": "password", "email": device.user.email, "password": people.PASSWORD}
    assert COOKIE not in browser.post("/admin/login/", fields).cookies

    done = browser.post("/admin/login/", {"step": "code", "code": people.code_of(device)})

    assert (done.status_code, COOKIE in done.cookies) == (302, True)
    assert KnownDevice.objects.get().user == device.user


@pytest.mark.parametrize("planted", ["", "A" * 43, "A" * 5_000, "ñ" * 43, "A" * 42 + "\x00"])
def test_value_that_somebody_planted_is_replaced(buyer: User, planted: str) -> None:
    browser = Client()
    browser.cookies[COOKIE] = planted

    answer = login(browser, buyer)

    assert answer.status_code == 200
    assert answer.cookies[COOKIE].value != planted
    assert len(answer.cookies[COOKIE].value) == 43


def test_browser_is_known_for_the_last_account_only(buyer: User) -> None:
    browser, other = Client(), people.BuyerFactory.create()
    first = login(browser, buyer).cookies[COOKIE].value
    second = login(browser, other).cookies[COOKIE].value

    assert first != second
    lock_out(buyer)
    assert login(browser, buyer).status_code == 429


def test_own_devices_are_listed_and_forgotten(buyer: User) -> None:
    browser, stranger = Client(), people.BuyerFactory.create()
    headers = {"Authorization": f"Bearer {login(browser, buyer).json()['access_token']}"}
    theirs = login(Client(), stranger).json()["access_token"]
    listed = browser.get(AUTH + "known-devices", headers=headers)
    (row,) = listed.json()["devices"]

    assert (row["current"], "no-store" in listed["Cache-Control"]) == (True, True)
    path = f"{AUTH}known-devices/{row['id']}"
    assert Client().delete(path, headers={"Authorization": f"Bearer {theirs}"}).status_code == 404
    assert Client().delete(path).status_code == 401
    assert browser.delete(path, headers=headers).status_code == 204
    assert browser.delete(path, headers=headers).status_code == 404
    assert browser.get(AUTH + "known-devices", headers=headers).json() == {"devices": []}


def test_suspended_factor_is_told_after_the_password_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "FACTOR_WRONG_IN_A_ROW", 1)
    device = people.TotpDeviceFactory.create()
    code = next(n for n in ("000000", "111111") if n != people.code_of(device))
    begun = login(Client(), device.user, path="admin-login").json()
    given = {"mfa_token": begun["mfa_token"], "method": "totp"}
    assert post(Client(), "mfa/verify", given | {"code": code}).status_code == 401

    refused = post(Client(), "mfa/verify", given | {"code": people.code_of(device)})

    assert (refused.status_code, refused.json()["error_code"]) == (403, "FACTOR_SUSPENDED")
    assert refused.json()["methods"] == []
    # No way round it: the password alone does not lead to adding a new factor.
    again = login(Client(), device.user, path="admin-login")
    assert again.json()["error_code"] == signin.MfaRequired.code
