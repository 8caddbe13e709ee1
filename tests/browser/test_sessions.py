"""One person, two browsers: the one signs the other out, without scripts; a page that watches itself."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from sessions_security.models import UserSession
from tests.browser import test_console as console
from tests.console import house
from tests.factories.accounts import TotpDeviceFactory

pytestmark = console.pytestmark
chromium = console.chromium


@pytest.fixture
def two(live_api: str, chromium: Browser) -> tuple[console.Visit, console.Visit]:
    """The same administrator at a desk and with a laptop, each with a factor of its own."""
    user, device = house.person(permissions=(house.DANGEROUS, house.AUDIT))
    other = TotpDeviceFactory.create(user=user, name="laptop")
    return console.Visit(chromium, live_api, user, device), console.Visit(chromium, live_api, user, other)


def test_one_browser_ends_the_session_of_another(two: tuple[console.Visit, console.Visit]) -> None:
    desk, laptop = two
    _context, lost = laptop.window(scripts=False, width=390)
    laptop.sign_in(lost)
    _context, page = desk.window(scripts=False)
    desk.sign_in(page)

    page.goto(f"{desk.address}/admin/security/")
    rows = page.locator("section", has=page.get_by_role("heading", name="Where you are signed in"))
    expect(rows.locator("tbody tr")).to_have_count(2)
    rows.get_by_role("button", name="End", exact=True).click()
    expect(page.get_by_text("The session was ended.")).to_be_visible()
    expect(rows.locator("tbody tr")).to_have_count(1)

    # The laptop watches a list that loads itself: the very next load finds nobody signed in.
    lost.goto(f"{laptop.address}/admin/sessions_security/usersession/?refresh=30")
    assert "/admin/login/" in lost.url
    expect(lost.locator("#id_email")).to_be_visible()
    page.goto(f"{desk.address}/admin/sessions_security/usersession/?refresh=30")
    expect(page.locator('meta[http-equiv="refresh"]')).to_have_attribute("content", "30")
    page.get_by_role("link", name="off").click()
    expect(page.locator('meta[http-equiv="refresh"]')).to_have_count(0)
    assert UserSession.objects.filter(user=desk.user, revoked_at=None).count() == 1
    assert desk.said == []
    assert laptop.said == []
