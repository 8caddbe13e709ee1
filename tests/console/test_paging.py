"""Newer and older: every row exactly once, whatever happens between two pages."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.utils import timezone

from finance.admin import OrderAdmin
from finance.models import Order
from mestore.lib.console import paging
from tests.console import house
from tests.factories.accounts import VendorFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

URL = "/admin/finance/order/"


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OrderAdmin, "list_per_page", 3)


def _orders(moments: list[dt.datetime]) -> list[Order]:
    vendor = VendorFactory.create()
    return [house.sale(vendor, moment) for moment in moments]


def _numbers(answer: Any) -> list[str]:
    return re.findall(r"<span>(ORD-[^<]+)</span>", answer.content.decode())


def _link(answer: Any, word: str) -> str | None:
    found = re.search(rf'href="(\?[^"]*\b{word}=[^"]*)"', answer.content.decode())
    return found.group(1).replace("&amp;", "&") if found else None


def _walk(client: Any, start: str, word: str) -> list[list[str]]:
    pages: list[list[str]] = []
    link: str | None = start
    while link is not None:
        answer = client.get(URL + link)
        assert answer.status_code == 200
        pages.append(_numbers(answer))
        link = _link(answer, word)
        assert len(pages) < 20
    return pages


def test_rows_with_the_same_time_come_once_each(admin_visitor: house.Visitor) -> None:
    orders = _orders([timezone.now()] * 8)

    seen = [number for page in _walk(admin_visitor.client, "", "older") for number in page]

    assert seen == [order.order_number for order in sorted(orders, key=lambda order: -order.pk)]


def test_the_way_back_shows_the_same_pages(admin_visitor: house.Visitor) -> None:
    now = timezone.now()
    _orders([now - dt.timedelta(minutes=n % 3) for n in range(9)])
    client = admin_visitor.client
    there = _walk(client, "", "older")
    second = _link(client.get(URL), "older")
    third = _link(client.get(URL + str(second)), "older")

    back = _walk(client, str(third), "newer")

    assert back == there[::-1]


def test_rows_that_arrive_meanwhile_repeat_nothing(admin_visitor: house.Visitor) -> None:
    now = timezone.now()
    _orders([now - dt.timedelta(minutes=n) for n in range(6)])
    first = admin_visitor.client.get(URL)

    _orders([now + dt.timedelta(minutes=1)] * 2)
    second = admin_visitor.client.get(URL + str(_link(first, "older")))

    assert set(_numbers(first)).isdisjoint(_numbers(second))
    assert len(_numbers(second)) == 3


def test_first_page_has_nothing_newer_and_last_nothing_older(admin_visitor: house.Visitor) -> None:
    now = timezone.now()
    _orders([now - dt.timedelta(minutes=n) for n in range(4)])

    first = admin_visitor.client.get(URL)
    last = admin_visitor.client.get(URL + str(_link(first, "older")))

    assert _link(first, "newer") is None
    assert _link(last, "older") is None
    assert len(_numbers(last)) == 1


def test_paging_keeps_filters_and_order_and_a_new_filter_begins_at_the_newest(
    admin_visitor: house.Visitor,
) -> None:
    now = timezone.now()
    _orders([now - dt.timedelta(minutes=n) for n in range(5)])

    first = admin_visitor.client.get(f"{URL}?status=confirmed&o=recorded")
    older = _link(first, "older")
    second = admin_visitor.client.get(URL + str(older))

    assert "status=confirmed" in str(older)
    assert "o=recorded" in str(older)
    filters = re.findall(r'href="(\?[^"]*window=[^"]*)"', second.content.decode())
    assert filters
    assert not any("older=" in link for link in filters)


@pytest.mark.parametrize(
    "query",
    [
        "older=!!!", "older=bm9wZQ", "older=W10", "older=" + "A" * 700, "newer=eyJhIjogMX0",
        f"older={paging.encode(['x', '1'])}", f"older={paging.encode(['2020-01-01T00:00:00', '1'])}",
        f"older={paging.encode(['2020-01-01T00:00:00+00:00', 'x'])}",
        f"older={paging.encode(['2020-01-01T00:00:00+00:00', '9' * 30])}&newer={paging.encode(['x', '1'])}",
        "o=total_minor", "o=1", "o=-placed_at", "window=year", "status=nothing",
    ],
)  # fmt: skip
def test_what_cannot_be_read_leads_back_to_the_whole_list(query: str, admin_visitor: house.Visitor) -> None:
    answer = admin_visitor.client.get(f"{URL}?{query}")

    assert answer.status_code == 302
    assert answer["Location"] == f"{URL}?e=1"
    assert admin_visitor.client.get(f"{URL}?e=1").status_code == 200


def test_search_finds_a_whole_number_in_any_case_and_nothing_else(admin_visitor: house.Visitor) -> None:
    wanted, other = _orders([timezone.now()] * 2)
    client = admin_visitor.client

    assert _numbers(client.get(URL, {"q": wanted.order_number.lower()})) == [wanted.order_number]
    assert _numbers(client.get(URL, {"q": str(other.pk)})) == [other.order_number]
    for nothing in (wanted.order_number[:-1], "%", "１２", "9" * 30, "'", "x\x00y"):
        answer = client.get(URL, {"q": nothing})
        assert answer.status_code in {200, 400}
        assert answer.status_code == 400 or _numbers(answer) == [] or "\x00" in nothing


def test_e_mail_is_found_by_its_beginning(admin_visitor: house.Visitor) -> None:
    email = admin_visitor.user.email
    client = admin_visitor.client

    assert (
        email
        in client.get("/admin/accounts/user/", {"q": email[:8].upper()})
        .content.decode()
        .partition("<table")[2]
    )
    assert "<table" not in client.get("/admin/accounts/user/", {"q": email[:2]}).content.decode()
