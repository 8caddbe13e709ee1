"""A new administrator in a real browser without scripts: enrols, prints codes, loses the phone, gets back in.

Then the worse day: the codes are lost, too.
"""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from django.core import mail
from django.db.models import F
from playwright.sync_api import Browser, Page, expect

from accounts import factor_resets, totp
from accounts.models import FactorReset, TotpDevice, User
from mestore.lib import actor
from monitoring import delivery
from monitoring.outbox import OutboxMessage
from tests.browser import test_console as console
from tests.console import house
from tests.factories.accounts import PASSWORD, AdminFactory, BuyerFactory, TotpDeviceFactory

pytestmark = console.pytestmark
chromium = console.chromium


@pytest.fixture
def newcomer(live_api: str, chromium: Browser) -> console.Visit:
    user = AdminFactory.create()
    return console.Visit(chromium, live_api, user, TotpDevice(user=user))


def password(page: Page, visit: console.Visit) -> None:
    page.goto(f"{visit.address}/admin/")
    page.fill("#id_email", visit.user.email)
    page.fill("#id_password", PASSWORD)
    page.get_by_role("button", name="Continue").click()


def enrol(page: Page, *, name: str, finish: str) -> None:
    """Add a telephone: name, picture, code."""
    page.get_by_label("What to call this telephone").fill(name)
    page.get_by_role("button", name="Show the picture").click()
    expect(page.locator(".qr svg")).to_be_visible()
    page.get_by_text("I cannot scan it").click()
    expect(page.locator("#totp-secret")).to_be_visible()
    secret = page.locator("#totp-secret").inner_text().replace(" ", "")
    page.get_by_label("Six-digit code").fill(totp.code_at(secret, totp.current_step()))
    page.get_by_role("button", name=finish, exact=True).click()


def kept(page: Page) -> list[str]:
    codes = page.locator("#backup-codes code")
    expect(codes).to_have_count(10)
    return codes.all_inner_texts()


def fits(page: Page, visit: console.Visit) -> None:
    """Nothing is wider than the screen, and nothing was said against the policy."""
    page.wait_for_load_state()
    assert page.viewport_size is not None
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"], page.url
    assert visit.said == []


@pytest.mark.parametrize("width", [1280, 390])
def test_new_administrator_enrols_keeps_codes_loses_the_phone_and_gets_back_in(
    width: int, newcomer: console.Visit, tmp_path: Path
) -> None:
    _context, page = newcomer.window(scripts=False, width=width)

    # The first day.
    password(page, newcomer)
    expect(page.get_by_role("heading", name="Protect your account")).to_be_visible()
    fits(page, newcomer)
    enrol(page, name="My phone", finish="Finish and sign in")
    codes = kept(page)
    fits(page, newcomer)
    with page.expect_download() as caught:
        page.get_by_role("link", name="Download").click()
    file = tmp_path / "codes.txt"
    caught.value.save_as(file)
    assert all(code in file.read_text() for code in codes)
    page.emulate_media(media="print")
    expect(page.locator("#backup-codes")).to_be_visible()
    expect(page.get_by_role("link", name="Download")).to_be_hidden()
    page.emulate_media(media="screen")
    page.get_by_role("link", name="I have kept them: continue").click()
    page.wait_for_selector("nav.sidebar")

    # The telephone is gone.
    page.get_by_role("button", name="Sign out").click()
    password(page, newcomer)
    page.get_by_text("Use a backup code").click()
    page.get_by_label("One of the codes that you printed").fill(codes[3])
    page.locator("details form button[type=submit]").click()
    fresh = page.locator("#replacement-code").inner_text()
    assert fresh not in codes
    fits(page, newcomer)
    page.get_by_role("link", name="Continue").click()

    # A new one takes its place.
    page.get_by_role("link", name="My security").click()
    expect(page.get_by_role("link", name="Add an authenticator application")).to_be_visible()
    fits(page, newcomer)
    page.get_by_role("link", name="Add an authenticator application").click()
    enrol(page, name="New phone", finish="Add")
    page.wait_for_selector(".messagelist .success")
    page.get_by_role("link", name="Remove My phone").click()
    expect(page.get_by_role("button", name="Remove")).to_be_visible()
    fits(page, newcomer)
    page.get_by_role("button", name="Remove").click()
    page.wait_for_selector(".messagelist .success")

    assert [one.name for one in TotpDevice.objects.filter(user=newcomer.user)] == ["New phone"]
    assert newcomer.said == []


def posted() -> str:
    before = len(mail.outbox)
    for message in OutboxMessage.objects.order_by("created_at", "pk"):
        delivery.send(message.pk)
    return "\n".join(str(message.body) for message in mail.outbox[before:])


def test_phone_and_codes_are_gone_and_two_proofs_open_the_way(newcomer: console.Visit) -> None:
    TotpDeviceFactory.create(user=newcomer.user)
    _context, page = newcomer.window(scripts=False)
    password(page, newcomer)

    page.get_by_role("link", name="Get back in another way").click()
    page.get_by_label("E-mail").fill(newcomer.user.email)
    page.get_by_role("button", name="Mail me a code").click()
    page.wait_for_selector("#id_mailed")
    code = re.search(r"\b[A-Z2-7]{8}\b", posted())
    assert code
    page.get_by_label("Code from the message").fill(code[0])
    page.get_by_role("button", name="Send the code").click()
    expect(page.get_by_text("One proof is in.")).to_be_visible()
    page.get_by_label("E-mail").fill(newcomer.user.email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Send the password").click()
    page.get_by_text("Both proofs are in.").wait_for()
    fits(page, newcomer)
    FactorReset.objects.update(
        due_at=F("due_at") - dt.timedelta(days=2), requested_at=F("requested_at") - dt.timedelta(days=2)
    )
    factor_resets.carry_out_due(by=actor.system("test"))

    # A day later, in a browser that has forgotten the sign-in it was in.
    _context, page = newcomer.window(scripts=False)
    password(page, newcomer)
    enrol(page, name="New phone", finish="Finish and sign in")
    assert len(set(kept(page))) == 10
    assert newcomer.said == []


def test_a_superuser_sees_as_somebody_else_and_comes_back(live_api: str, chromium: Browser) -> None:
    user, device = house.person(superuser=True, permissions=("users.manage.global", house.DANGEROUS))
    admin: User = AdminFactory.create()
    visit = console.Visit(chromium, live_api, user, device)
    _context, page = visit.window(scripts=False)
    visit.sign_in(page)

    page.goto(f"{visit.address}/admin/accounts/user/{admin.pk}/change/")
    page.get_by_role("link", name="Act as this account").click()
    page.get_by_label("Reason").fill("helping with a complaint")
    page.get_by_role("button", name="Act as this account").click()
    page.get_by_role("link", name="See the console as this account").click()
    expect(page.locator(".banner")).to_contain_text(f"You see this as {admin.email}")
    fits(page, visit)
    page.locator(".banner").get_by_role("button", name="Stop").click()

    expect(page.locator(".banner")).to_have_count(0)
    expect(page.locator(".who")).to_contain_text(user.email)
    expect(page.locator("nav.sidebar")).to_be_visible()


def test_pages_about_oneself_and_each_other_are_clean_in_both_themes_and_widths(
    live_api: str, chromium: Browser
) -> None:
    house.fill(1)
    user, device = house.person(
        superuser=True,
        permissions=("permissions.grant.global", "permissions.revoke.global", house.DANGEROUS),
    )
    buyer = BuyerFactory.create()
    visit = console.Visit(chromium, live_api, user, device)
    _context, page = visit.window()
    visit.sign_in(page)
    addresses = [
        "/admin/security/", "/admin/security/authenticator/", "/admin/security/passkey/",
        "/admin/security/backup-codes/", f"/admin/security/factors/{device.pk}/remove/",
        "/admin/confirm/?action=factors.enrol", "/admin/confirm/?action=keys.rotate", "/admin/lockouts/",
        "/admin/factors/", "/admin/reviews/start/", f"/admin/grants/give/{buyer.pk}/", "/admin/recovery/",
        "/admin/recovery/cancel/x/",
    ]  # fmt: skip
    for page, _look in visit.look_at(addresses):
        fits(page, visit)
