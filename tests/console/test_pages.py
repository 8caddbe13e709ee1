"""What every page of the console has in common: it reads only, is bounded, and obeys the strict policy."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext

from mestore.console import GROUPS
from mestore.lib.console import ConsoleModelAdmin, figures
from tests.console import house
from tests.harness import cases

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

STATEMENTS = 12
REGISTERED: list[Any] = list(admin.site._registry)


def _list_url(model: Any) -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/"


def _detail_url(model: Any) -> str:
    return f"{_list_url(model)}{model._default_manager.order_by('-pk').first().pk}/change/"


def _statements(client: Any, url: str) -> int:
    with CaptureQueriesContext(connection) as caught:
        assert client.get(url).status_code == 200
    spoken = [
        query["sql"] for query in caught if not re.match(r"(SAVEPOINT|RELEASE|BEGIN|COMMIT)", query["sql"])
    ]
    return len(spoken)


class _PolicyReader(HTMLParser):
    """Collects what a strict Content-Security-Policy would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.offences: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag == "style" or (tag == "script" and not names.get("src")):
            self.offences.append(f"<{tag}> inside the page")
        for name, value in attrs:
            if name == "style" or name.startswith("on"):
                self.offences.append(f"{name}= on <{tag}>")
            if name in {"href", "src", "action"} and re.match(
                r"(?i)\s*(javascript:|https?:|//)", value or ""
            ):
                self.offences.append(f"{name}={value}")


def _offences(html: str) -> list[str]:
    reader = _PolicyReader()
    reader.feed(html)
    return reader.offences


def judge_each_model(check: Callable[[Any], None]) -> None:
    """All models in one console: filling it takes longer than asking."""
    cases.judge(REGISTERED, check, name=lambda model: model._meta.label)


def test_list_and_detail_need_the_permission_of_their_model() -> None:
    house.fill(1)
    visitor = house.visitor()

    def check(model: Any) -> None:
        may = visitor.user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}")
        expected = 200 if may else 403

        assert visitor.client.get(_list_url(model)).status_code == expected
        assert visitor.client.get(_detail_url(model)).status_code == expected

    judge_each_model(check)


def test_audit_trail_is_not_implied_by_being_an_administrator() -> None:
    visitor = house.visitor()

    assert visitor.client.get("/admin/monitoring/auditevent/").status_code == 403
    assert "/admin/monitoring/auditevent/" not in visitor.client.get("/admin/").content.decode()


def test_audit_trail_opens_with_its_grant(admin_visitor: house.Visitor) -> None:
    assert admin_visitor.client.get("/admin/monitoring/auditevent/").status_code == 200


def test_no_page_changes_a_row(admin_visitor: house.Visitor) -> None:
    house.fill(1)
    client = admin_visitor.client
    request = client.get("/admin/").wsgi_request

    def check(model: Any) -> None:
        page = admin.site.get_model_admin(model)
        chosen = {"action": "delete_selected", "_selected_action": "1"}

        assert client.post(_list_url(model), chosen).status_code == 405
        assert client.post(_detail_url(model), {"_save": "1"}).status_code == 405
        assert client.get(f"{_list_url(model)}add/").status_code == 404
        assert client.post(_detail_url(model).replace("change", "delete")).status_code == 404
        assert not page.has_add_permission(request)
        assert not page.has_change_permission(request)
        assert not page.has_delete_permission(request)
        assert not page.get_actions(request)

    judge_each_model(check)


def test_pages_spend_a_fixed_number_of_statements(admin_visitor: house.Visitor) -> None:
    spent: dict[Any, tuple[int, int]] = {}

    def look(model: Any) -> tuple[int, int]:
        figures.forget()  # what is drawn above a list is computed anew
        client = admin_visitor.client
        return _statements(client, _list_url(model)), _statements(client, _detail_url(model))

    def with_few(model: Any) -> None:
        spent[model] = look(model)
        assert max(spent[model]) <= STATEMENTS

    def with_many(model: Any) -> None:
        assert look(model) == spent[model]

    house.fill(2)
    judge_each_model(with_few)
    house.fill(6)
    judge_each_model(with_many)


def test_overview_spends_at_most_twelve_statements(admin_visitor: house.Visitor) -> None:
    house.fill(3)

    assert _statements(admin_visitor.client, "/admin/") <= STATEMENTS


def test_lists_neither_count_nor_skip_rows(admin_visitor: house.Visitor) -> None:
    house.fill(2)
    for url in house.pages():
        with CaptureQueriesContext(connection) as caught:
            admin_visitor.client.get(url)
        for query in caught:
            # "OFFSET 0" skips none: it keeps the planner from taking a subquery apart.
            assert "OFFSET" not in query["sql"].replace("OFFSET 0)", ")")
            # A figure may count what a window or a bound holds; the list itself counts nothing.
            counted = query["sql"].upper()
            assert "COUNT(*)" not in counted or "LIMIT" in counted or "GROUP BY" in counted


def test_every_page_obeys_the_strict_content_policy(admin_visitor: house.Visitor) -> None:
    house.fill(2)
    lists = house.pages()
    addresses = ["/admin/", "/admin/nothing/", *lists, *(_detail_url(model) for model in REGISTERED)]
    addresses += [f"{url}?q=nothing-like-this" for url in lists]

    for url in addresses:
        answer = admin_visitor.client.get(url)
        assert _offences(answer.content.decode()) == [], url
        assert "default-src 'none'" in answer["Content-Security-Policy"]
        assert "unsafe" not in answer["Content-Security-Policy"]


def test_policy_reader_finds_what_it_looks_for() -> None:
    bad = (
        '<p style="x">a</p><a onclick="x">b</a><script>1</script><style></style><a href="javascript:1">c</a>'
    )

    assert len(_offences(bad)) == 5


def test_every_page_has_one_heading_a_skip_link_and_landmarks(admin_visitor: house.Visitor) -> None:
    house.fill(1)
    for url in ["/admin/", *house.pages(), *(_detail_url(model) for model in REGISTERED)]:
        html = admin_visitor.client.get(url).content.decode()
        assert html.count("<h1") == 1, url
        assert 'href="#content-start"' in html
        assert "<main" in html
        assert "<nav" in html
        assert "<script" not in html
        assert '<html lang="' in html


def test_sidebar_lists_every_page_once_in_a_known_group(admin_visitor: house.Visitor) -> None:
    groups = {key for key, _label in GROUPS}
    html = admin_visitor.client.get("/admin/").content.decode()
    sidebar = html.partition('<nav class="sidebar"')[2].partition("</nav>")[0]

    for model, page in admin.site._registry.items():
        assert isinstance(page, ConsoleModelAdmin)
        assert page.group in groups
        assert sidebar.count(f'href="{_list_url(model)}"') == int(page.in_sidebar)


@pytest.mark.parametrize(
    "unknown", ["nonsense", "0", "99999999999999999999999", "00000000-0000-0000-0000-000000000001", "%00"]
)
def test_detail_of_nothing_is_not_found(unknown: str, admin_visitor: house.Visitor) -> None:
    for url in house.pages():
        assert admin_visitor.client.get(f"{url}{unknown}/change/").status_code in {400, 404}, url


def test_session_page_shows_no_secret_and_no_hash(admin_visitor: house.Visitor) -> None:
    key = admin_visitor.client.cookies["__Host-sessionid"].value
    session = admin_visitor.user.sessions.get()
    secret = session.secret

    html = admin_visitor.client.get(
        f"/admin/sessions_security/usersession/{session.pk}/change/"
    ).content.decode()

    assert str(session.pk) in html
    assert key not in html
    assert bytes(secret.key_hash).hex() not in html


def test_audit_event_shows_its_bytes_and_that_they_match(admin_visitor: house.Visitor) -> None:
    house.fill(1)
    from monitoring.models import AuditEvent

    event = AuditEvent.objects.filter(type="order.recorded").first()
    assert event is not None
    url = f"/admin/monitoring/auditevent/{event.pk}/change/"

    html = admin_visitor.client.get(url, headers={"accept-language": "en"}).content.decode()

    assert bytes(event.leaf_hash).hex() in html
    assert "&quot;event&quot;: &quot;order.recorded&quot;" in html
    assert "match" in html
    assert "this application" in html


def test_ledger_entry_shows_its_transfers_and_its_leaf(admin_visitor: house.Visitor) -> None:
    house.fill(1)
    from finance.models import LedgerEntry
    from monitoring.models import AuditEvent

    entry = LedgerEntry.objects.filter(kind="sale").order_by("-id").first()
    assert entry is not None

    html = admin_visitor.client.get(f"/admin/finance/ledgerentry/{entry.pk}/change/").content.decode()

    assert "vendor_pending" in html
    assert "platform_fee" in html
    assert bytes(AuditEvent.objects.get(pk=entry.pk).leaf_hash).hex() in html
