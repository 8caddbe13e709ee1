"""Passkeys on the console's real pages, with the authenticator that Chromium pretends to have."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import CDPSession, Page

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
    page.set_default_timeout(15_000)
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
    page.wait_for_selector(".messagelist .success, .errornote:visible")


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
    page.wait_for_selector("text=/[A-Z2-7]{4}/")

    assert Passkey.objects.filter(user=newcomer).count() == 1
    page.goto(f"{visit.address}/admin/security/")
    assert page.locator("nav.sidebar").count() == 1
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
    page.wait_for_selector("[data-passkey-message]:visible")

    assert page.locator("form[data-passkey=get] button").is_enabled()
    visit.sign_in(page)


def test_a_key_that_does_not_verify_its_user_is_not_enough(visit: console.Visit) -> None:
    page = window(visit)
    plug_in(page, hasUserVerification=False, isUserVerified=False, transport="usb")
    visit.sign_in(page)
    page.goto(f"{visit.address}/admin/security/passkey/")

    page.click("form[data-passkey=create] button[type=submit]")
    page.wait_for_selector("[data-passkey-message]:visible")

    assert not Passkey.objects.exists()


def test_without_scripts_the_page_says_so(visit: console.Visit) -> None:
    _context, page = visit.window(scripts=False)

    page.goto(f"{visit.address}/admin/login/")

    assert "JavaScript" in page.locator("noscript").inner_text()
