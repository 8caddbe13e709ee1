"""Passkeys on the console's real pages, with the authenticator that Chromium pretends to have."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import CDPSession, Locator, Page, expect

from accounts.models import Passkey
from sessions_security.models import StepUpProof, UserSession
from tests.browser import test_console as console
from tests.factories.accounts import PASSWORD, AdminFactory

pytestmark = console.pytestmark
chromium = console.chromium
visit = console.visit


@pytest.fixture(autouse=True)
def _domain(live_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "WEBAUTHN_RP_ID", "localhost")
    monkeypatch.setattr(settings, "WEBAUTHN_ORIGINS", [live_api])


def window(visit: console.Visit) -> Page:
    """A window that forgets nothing between pages, with an authenticator in the machine."""
    _context, page = visit.window()
    return page


def plug_in(page: Page, **changes: Any) -> tuple[CDPSession, str]:
    """Give the machine of `page` an authenticator that verifies its user."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    made = devtools.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
                **changes,
            }
        },
    )
    return devtools, made["authenticatorId"]


def add_passkey(visit: console.Visit, page: Page) -> None:
    visit.sign_in(page)
    page.goto(f"{visit.address}/admin/security/passkey/")
    page.fill("#id_name", "This computer")
    page.click("form[data-passkey=create] button[type=submit]")
    expect(page.locator(".messagelist .success")).to_be_visible()


def message(page: Page) -> Locator:
    """What the form says when no passkey came."""
    return page.locator("[data-passkey-message]")


def sign_out(page: Page, visit: console.Visit) -> None:
    page.context.clear_cookies()
    page.goto(f"{visit.address}/admin/login/")


def test_an_administrator_adds_a_passkey_and_signs_in_with_nothing_else(visit: console.Visit) -> None:
    page = window(visit)
    plug_in(page)

    add_passkey(visit, page)

    passkey = Passkey.objects.get(user=visit.user)
    assert passkey.name == "This computer"
    sign_out(page, visit)
    page.click("form[data-passkey=get] button[type=submit]")
    page.wait_for_selector("nav.sidebar")
    session = UserSession.objects.filter(user=visit.user).latest("created_at")
    assert "mfa" in session.amr
    assert visit.said == []


def test_password_and_passkey_and_confirming_with_it(visit: console.Visit) -> None:
    page = window(visit)
    plug_in(page)
    add_passkey(visit, page)
    sign_out(page, visit)

    page.fill("#id_email", visit.user.email)
    page.fill("#id_password", PASSWORD)
    page.click("main form:first-of-type button[type=submit]")
    expect(page.locator("#id_password")).to_have_count(0)  # the page before has such a button, too
    page.click("form[data-passkey=get] button[type=submit]")
    page.wait_for_selector("nav.sidebar")
    StepUpProof.objects.all().delete()
    page.goto(f"{visit.address}/admin/security/passkey/")
    assert "/admin/confirm/" in page.url
    page.click("form[data-passkey=get] button[type=submit]")
    page.wait_for_url("**/admin/security/passkey/")

    assert StepUpProof.objects.get().method == "passkey"
    assert visit.said == []


def test_a_new_administrator_enters_with_a_passkey_as_the_first_factor(visit: console.Visit) -> None:
    page = window(visit)
    plug_in(page)
    newcomer = AdminFactory.create()
    page.goto(f"{visit.address}/admin/login/")
    page.fill("#id_email", newcomer.email)
    page.fill("#id_password", PASSWORD)
    page.click("main form:first-of-type button[type=submit]")

    page.click("details summary")
    page.click("form[data-passkey=create] button[type=submit]")
    expect(page.locator("#backup-codes code")).to_have_count(10)

    assert Passkey.objects.filter(user=newcomer).count() == 1
    page.goto(f"{visit.address}/admin/security/")
    expect(page.locator("nav.sidebar")).to_have_count(1)
    assert visit.said == []


def test_a_copied_key_is_noticed_in_the_browser(visit: console.Visit) -> None:
    page = window(visit)
    devtools, authenticator = plug_in(page)
    add_passkey(visit, page)
    held = devtools.send("WebAuthn.getCredentials", {"authenticatorId": authenticator})["credentials"]
    Passkey.objects.update(sign_count=held[0]["signCount"] + 100)
    sign_out(page, visit)

    page.click("form[data-passkey=get] button[type=submit]")
    page.wait_for_selector("#sign-in-error")

    assert Passkey.objects.get().suspended_why == "counter"
    assert page.locator("nav.sidebar").count() == 0


def test_who_has_no_passkey_is_told_and_goes_on_with_a_password(visit: console.Visit) -> None:
    page = window(visit)
    plug_in(page)
    sign_out(page, visit)

    page.click("form[data-passkey=get] button[type=submit]")
    expect(message(page)).to_contain_text("Nothing was chosen")
    expect(page.locator("form[data-passkey=get] button")).to_be_enabled()
    visit.sign_in(page)


def test_who_did_nothing_yet_sees_no_message(visit: console.Visit) -> None:
    page = window(visit)
    sign_out(page, visit)

    expect(page.locator("form[data-passkey=get] button")).to_be_enabled()
    expect(message(page)).to_have_count(1)
    expect(message(page)).to_be_hidden()


def test_a_press_before_the_script_is_there_sends_nothing(visit: console.Visit) -> None:
    page = window(visit)
    page.route("**/console/passkeys*.js", lambda route: route.abort())
    sign_out(page, visit)

    expect(page.locator("form[data-passkey=get] button")).to_be_disabled()
    visit.sign_in(page)


def test_a_key_that_does_not_verify_its_user_is_not_enough(visit: console.Visit) -> None:
    page = window(visit)
    plug_in(page, hasUserVerification=False, isUserVerified=False, transport="usb")
    visit.sign_in(page)
    page.goto(f"{visit.address}/admin/security/passkey/")

    page.click("form[data-passkey=create] button[type=submit]")
    expect(message(page)).to_contain_text("Nothing was chosen")

    assert not Passkey.objects.exists()


def test_without_scripts_the_page_says_so(visit: console.Visit) -> None:
    _context, page = visit.window(scripts=False)

    page.goto(f"{visit.address}/admin/login/")

    expect(page.locator("noscript")).to_contain_text("JavaScript", use_inner_text=True)
    expect(page.locator("form[data-passkey=get] button")).to_be_disabled()
