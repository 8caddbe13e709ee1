"""The console in a real browser: sign-in with password and code, every page, both themes, two widths.

A page fails on any message in the browser's console (which is where it reports violations of the content
policy) and when anything is wider than the screen.

What a click brings is there later: it is asked for by `expect`, which waits, never by a look at the moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from accounts.models import TotpDevice, User
from monitoring.models import AuditEvent
from sessions_security.models import UserSession
from tests.console import house
from tests.factories.accounts import PASSWORD, BuyerFactory, code_of

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 60_000  # how long a page may take says more about the machine than about the page
expect.set_options(timeout=PATIENCE_MS)
Look = tuple[Literal["light", "dark"], int]
LOOKS: tuple[Look, ...] = (("light", 1280), ("light", 390), ("dark", 1280), ("dark", 390))
HAS_CHANGED = """([scheme, width, patience]) => new Promise(answer => {
    setTimeout(() => answer(false), patience);
    const look = () => innerWidth === width && matchMedia(`(prefers-color-scheme: ${scheme})`).matches
        ? answer(true) : requestAnimationFrame(look);
    look();
})"""
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"]),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed (apt install chromium)"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    # Playwright's synchronous interface runs a loop in this thread, which Django would take for async code.
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS, timeout=PATIENCE_MS)
        yield browser
        browser.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


class Visit:
    """One person's browser on the running service."""

    def __init__(self, chromium: Browser, address: str, user: User, device: TotpDevice) -> None:
        self.chromium, self.address, self.user, self.device = chromium, address, user, device
        self.said: list[str] = []
        self.state: Any = None

    def window(
        self, *, scheme: str = "light", width: int = 1280, scripts: bool = True
    ) -> tuple[BrowserContext, Page]:
        context = self.chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]  # one of Playwright's own words
            locale="en-US",
            storage_state=self.state,
            java_script_enabled=scripts,
        )
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        return context, page

    def look_at(self, addresses: Sequence[str]) -> Iterator[tuple[Page, Look]]:
        """Each address with everything on it opened, laid out in both themes and both widths.

        It is loaded once, in the next of the four looks each time, and then changes to the others.
        """
        context, page = self.window()
        for number, address in enumerate(addresses):
            first = number % len(LOOKS)
            for look in (*LOOKS[first:], *LOOKS[:first]):
                scheme, width = look
                page.emulate_media(color_scheme=scheme)
                page.set_viewport_size({"width": width, "height": 900})
                if look == LOOKS[first]:
                    answer = page.goto(self.address + address)
                    assert answer is not None
                    assert answer.status == 200, address
                    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
                assert page.evaluate(HAS_CHANGED, [scheme, width, PATIENCE_MS]), (address, look)
                yield page, look
        context.close()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.said.append(message.text)

    def type_code(self, page: Page) -> None:
        page.fill("#id_code", code_of(self.device))
        page.click("main form:first-of-type button[type=submit]")

    def sign_in(self, page: Page) -> None:
        page.goto(f"{self.address}/admin/")
        page.fill("#id_email", self.user.email)
        page.fill("#id_password", PASSWORD)
        page.click("main button[type=submit]")
        self.type_code(page)
        page.wait_for_selector("nav.sidebar, .errornote:visible")
        if page.locator(".errornote:visible").count():
            self.type_code(
                page
            )  # the thirty seconds were over while it was typed: the next code, as people do
            page.wait_for_selector("nav.sidebar")
        self.state = page.context.storage_state()


@pytest.fixture
def visit(live_api: str, chromium: Browser) -> Visit:
    user, device = house.person(permissions=(house.DANGEROUS, house.AUDIT))
    return Visit(chromium, live_api, user, device)


def _details(page: Page, lists: list[str], address: str) -> list[str]:
    """The first row of each list."""
    found = []
    for url in lists:
        page.goto(address + url)
        link = page.locator("table.rows tbody th a").first
        if link.count():
            found.append(str(link.get_attribute("href")))
    return found


def test_every_page_is_clean_in_both_themes_and_both_widths(visit: Visit) -> None:
    house.fill(2)
    _context, page = visit.window()
    visit.sign_in(page)
    lists = house.pages()
    addresses = ["/admin/", *lists, *_details(page, lists, visit.address)]
    buyer = BuyerFactory.create()
    addresses.append(f"/admin/accounts/user/do/?action=deactivate&pk={buyer.pk}")
    addresses += ["/admin/integrity/", "/admin/integrity/verify/", "/admin/integrity/evidence/"]
    addresses.append("/admin/monitoring/auditevent/?outcome=FAILURE&actor_id=nobody")

    assert len(addresses) > 2 * len(lists)
    for page, (scheme, width) in visit.look_at(addresses):
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{page.url} is {wide} px wide at {width} ({scheme})"
    assert visit.said == []


def test_sign_in_page_and_error_page_are_clean(visit: Visit) -> None:
    for scheme in ("light", "dark"):
        for width in (1280, 390):
            context, page = visit.window(scheme=scheme, width=width)
            page.goto(f"{visit.address}/admin/")
            expect(page.locator("#id_email")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            context.close()
    assert visit.said == []


def test_whole_way_works_without_scripts(visit: Visit) -> None:
    buyer = BuyerFactory.create()
    _context, page = visit.window(scripts=False)
    visit.sign_in(page)

    page.goto(f"{visit.address}/admin/accounts/user/{buyer.pk}/change/")
    page.get_by_role("button", name="Deactivate").click()
    page.get_by_label("Reason").fill("asked for by its owner")
    page.get_by_role("button", name="Deactivate").click()
    page.wait_for_selector(".messagelist .success")

    buyer.refresh_from_db()
    assert not buyer.is_active
    assert AuditEvent.objects.filter(type="user.deactivated", target_id=str(buyer.pk)).exists()

    page.get_by_role("button", name="Sign out").click()
    page.wait_for_selector("#id_email")
    assert UserSession.objects.get(user=visit.user).revoked_at is not None
    page.goto(f"{visit.address}/admin/")
    expect(page.locator("#id_email")).to_be_visible()


def test_keyboard_reaches_the_content_first_and_shows_where_it_is(visit: Visit) -> None:
    _context, page = visit.window()
    visit.sign_in(page)
    page.goto(f"{visit.address}/admin/accounts/user/")

    page.keyboard.press("Tab")
    expect(page.locator("a.skip-to-content-link")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")

    expect(page.locator("main :focus")).to_have_css("outline-width", "2px")


def test_fingers_get_targets_of_44_pixels(visit: Visit) -> None:
    house.fill(1)
    _context, page = visit.window()
    visit.sign_in(page)
    context = visit.chromium.new_context(
        viewport={"width": 390, "height": 900}, has_touch=True, is_mobile=True, storage_state=visit.state
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()

    page.goto(f"{visit.address}/admin/accounts/user/")
    for selector in ("button", ".sidebar a", "summary", "input[type=search]", ".pick label"):
        heights = page.eval_on_selector_all(
            selector, "all => all.map(one => one.getBoundingClientRect().height)"
        )
        assert heights, selector
        assert min(heights) >= 44, selector
