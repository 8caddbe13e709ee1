"""Lists of accounts: pages, cursors, searches, figures, and what they cost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import user_lists
from accounts.api import lists
from accounts.models import User
from accounts.user_lists import Page, Wanted
from mestore.lib import sql
from tests.factories.accounts import (
    AdminFactory,
    BuyerFactory,
    ImportedVendorFactory,
    SuperuserFactory,
    VendorFactory,
)
from tests.harness import cases

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
NOW = dt.datetime(2026, 3, 4, 12, tzinfo=dt.UTC)


@pytest.fixture
def people(db: None) -> list[User]:
    """Seven people, some alike in what lists are ordered by, some without address or sign-in."""
    made = [
        BuyerFactory.create(created_at=NOW - dt.timedelta(hours=number // 2), nombre=f"Name{number}")
        for number in range(4)
    ]
    made += [VendorFactory.create(created_at=NOW, last_login=NOW), ImportedVendorFactory.create()]
    made += [AdminFactory.create(last_login=NOW - dt.timedelta(days=1), is_active=False)]
    return made


def walk(wanted: Wanted, read: Callable[[Wanted], Page] = user_lists.page_of_users) -> list[Any]:
    rows: list[Any] = []
    page = read(wanted)
    while True:
        rows += page.rows
        if page.next_cursor is None:
            return rows
        page = read(replace(wanted, cursor=page.next_cursor))
        assert page.has_previous


@pytest.mark.parametrize("order", sorted(user_lists.ORDERS))
def test_pages_of_two_show_everybody_once_in_order(people: list[User], order: str) -> None:
    whole = list(user_lists.page_of_users(Wanted(order=order, size=100)).rows)

    by_cursor = walk(Wanted(order=order, size=2))
    by_number = [
        row for skip in range(0, 8, 2) for row in
        user_lists.page_of_users(Wanted(order=order, size=2, skip=skip)).rows
    ]  # fmt: skip

    assert len(whole) == len(people)
    assert by_cursor == by_number == whole
    keys = [row.order_key for row in whole]
    assert keys == sorted(keys, reverse=user_lists.ORDERS[order].falls)


NEVER_GIVEN = (
    "x", "é", "AAAA", "bnVsbA", "W10", "WyJhIl0", "W251bGwsbnVsbF0",
    "WyJcdTAwMDAiLCIwMTkwYTBhMC0wMDAwLTcwMDAtODAwMC0wMDAwMDAwMDAwMDEiXQ",
)  # fmt: skip
WITHOUT_ZONE = "WyIyMDI2LTAzLTA0VDEyOjAwOjAwIiwiMDE5MGEwYTAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDAwMDAxIl0"


@pytest.mark.parametrize(
    ("order", "cursor"),
    [
        *(
            (order, cursor)
            for order in ("created_at_desc", "email_asc", "is_active")
            for cursor in NEVER_GIVEN
        ),
        ("created_at_desc", WITHOUT_ZONE),
        ("last_login_asc", WITHOUT_ZONE),
        ("is_active", WITHOUT_ZONE),
    ],
)
def test_a_cursor_that_was_never_given_out_is_refused(order: str, cursor: str) -> None:
    with pytest.raises(user_lists.CursorInvalid):
        user_lists.page_of_users(Wanted(cursor=cursor, order=order))


def test_deleted_accounts_have_a_list_of_their_own() -> None:
    living = BuyerFactory.create()
    dead = BuyerFactory.create(is_active=False, deleted_at=NOW)

    assert list(user_lists.page_of_users(Wanted()).rows) == [living]
    assert list(user_lists.page_of_users(Wanted(deleted=True)).rows) == [dead]


@pytest.mark.parametrize("text", ["ana@shop", "ANA@SHOP", "Esm", "esm", "Ruiz", "ＡＮＡ@"])
def test_a_search_finds_beginnings_in_any_case(text: str) -> None:
    BuyerFactory.create_batch(2)
    wanted = BuyerFactory.create(
        email="ana@shop.example", email_key="ana@shop.example", nombre="Esmeralda", apellido="Ruiz"
    )

    assert list(user_lists.page_of_users(Wanted(search=text)).rows) == [wanted]
    assert list(user_lists.page_of_users(Wanted(search=str(wanted.pk))).rows) == [wanted]


@pytest.mark.parametrize("text", ["%", "_", "\\", "'; --", "a%", "x" * 254])
def test_what_a_search_says_is_no_pattern(text: str) -> None:
    BuyerFactory.create_batch(2)

    assert list(user_lists.page_of_users(Wanted(search=text)).rows) == []
    assert user_lists.page_of_users(Wanted(search=text)).total == 0


def test_a_search_for_something_common_is_cut_in_the_order_of_the_alphabet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    users = [BuyerFactory.create(nombre=f"Zoe{number}") for number in range(4)]
    monkeypatch.setattr(user_lists, "SEARCHED", 3)

    page = user_lists.page_of_users(Wanted(search="zoe"))
    few = user_lists.page_of_users(Wanted(search="zoe1"))

    assert list(page.rows) == users[2::-1]
    assert (page.total, page.total_is_estimate) == (3, True)
    assert (few.total, few.total_is_estimate) == (1, False)


def test_a_search_among_the_narrowed_misses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    BuyerFactory.create_batch(4, nombre="Zoe")
    admin = AdminFactory.create(nombre="Zoe Z")
    monkeypatch.setattr(user_lists, "SEARCHED", 3)

    found = user_lists.page_of_users(Wanted(search="zoe", narrowed={"user_type": "ADMIN"}))

    assert list(found.rows) == [admin]


def test_lists_narrow_by_state_address_and_columns() -> None:
    open_one = BuyerFactory.create(email_verified=True)
    closed = VendorFactory.create(is_active=False, account_verified=True)

    def found(**values: Any) -> list[User]:
        return list(user_lists.page_of_users(Wanted(**values)).rows)

    assert found(status="active") == found(status="email_verified") == [open_one]
    assert found(status="inactive") == found(status="verified") == [closed]
    assert found(email=open_one.email.upper()) == [open_one]
    assert found(narrowed={"user_type": "VENDOR"}) == [closed]


def test_staff_and_vendors_have_lists_of_their_own() -> None:
    BuyerFactory.create()
    staff = [AdminFactory.create(), SuperuserFactory.create()]
    shops = [VendorFactory.create().vendor_profile for _number in range(3)]

    assert walk(Wanted(size=1), user_lists.page_of_staff) == staff[::-1]
    newest = walk(Wanted(size=2), lambda wanted: user_lists.page_of_vendors(wanted, status="approved"))
    assert newest == shops[::-1]
    assert user_lists.page_of_vendors(Wanted(), status="rejected").total == 0
    searched = user_lists.page_of_vendors(Wanted(search=shops[0].user.email), status=None)
    assert list(searched.rows) == [shops[0]]


def test_a_page_costs_one_statement_and_shops_none() -> None:
    VendorFactory.create_batch(5)

    with CaptureQueriesContext(connection) as statements:
        page = user_lists.page_of_users(Wanted(size=3))
        names = [row.vendor_profile.business_name for row in page.rows]

    assert len(names) == 3
    assert len(statements) == 1


def test_beyond_what_is_counted_totals_are_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    BuyerFactory.create_batch(4)
    monkeypatch.setattr(user_lists, "COUNTED", 2)

    page = user_lists.page_of_users(Wanted(size=1))

    assert page.total_is_estimate
    assert page.total >= 3


def test_figures_count_the_living_by_kind() -> None:
    BuyerFactory.create(account_verified=True, created_at=timezone.now() - dt.timedelta(days=31))
    VendorFactory.create(is_active=False)
    pending = VendorFactory.create()
    pending.vendor_profile.vendor_status = "pending_approval"
    pending.vendor_profile.save()
    AdminFactory.create()
    SuperuserFactory.create()
    BuyerFactory.create(is_active=False, deleted_at=NOW)

    with CaptureQueriesContext(connection) as statements:
        found = user_lists.statistics()

    assert len(statements) == 2
    assert not found.is_estimate
    assert found.figures == {
        "total_users": 5, "total_vendors": 2, "total_buyers": 1, "total_admins": 1, "total_superusers": 1,
        "verified_users": 1, "active_users": 4, "inactive_users": 1, "pending_vendors": 1,
        "recent_registrations": 4,
    }  # fmt: skip


@pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)
def test_in_a_huge_table_the_planner_is_asked_in_two_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    BuyerFactory.create_batch(20)
    VendorFactory.create_batch(10)
    sql.execute("ANALYZE accounts_user", using="owner")
    sql.execute("ANALYZE accounts_vendorprofile", using="owner")
    monkeypatch.setattr(user_lists, "_EXACT_ROWS", 5)

    with CaptureQueriesContext(connection) as statements:
        found = user_lists.statistics()

    assert len(statements) == 2
    assert found.is_estimate
    assert 15 <= found.figures["total_buyers"] <= 25
    assert 25 <= found.figures["total_users"] <= 35
    assert 5 <= found.figures["total_vendors"] <= 15


_MANY = """
    INSERT INTO accounts_user (
        id, email, email_key, password, user_type, nombre, apellido, telefono, ciudad, empresa, direccion,
        is_active, account_verified, email_verified, phone_verified, security_clearance_level, department_id,
        employee_id, auth_epoch, force_password_change, created_at, updated_at, last_login
    )
    SELECT gen_random_uuid(), 'p' || n || '@example.com', 'p' || n || '@example.com', 'x', 'BUYER',
        'Name', 'Other', '', '', '', '', true, true, true, false, 3, '', '', 1, false,
        %(first)s + n * interval '1 second', now(),
        CASE WHEN n %% 4 > 0 THEN %(first)s + n * interval '1 minute' END
    FROM generate_series(1, 5000) AS n
"""


@pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)
def test_few_sign_ins_of_a_time_are_found_in_their_index_whatever_the_order() -> None:
    sql.execute(_MANY, {"first": NOW}, using="owner")
    sql.execute("ANALYZE accounts_user", using="owner")
    cases.judge(["created_at_desc", "email_asc", "is_active"], _found_in_their_index)


def _found_in_their_index(order: str) -> None:
    ask = {"sort_by": order, "last_login_before": (NOW + dt.timedelta(minutes=30)).isoformat()}

    with CaptureQueriesContext(connection) as statements:
        few = user_lists.page_of_users(lists.users(ask))
        none = user_lists.page_of_users(lists.users({**ask, "last_login_before": "2001-01-01"}))
        many = user_lists.page_of_users(lists.users({"sort_by": order, "last_login_after": "2026-03-04"}))

    assert (few.total, none.total, many.total) == (22, 0, 3_750)
    found = [sql.fetch_all("EXPLAIN " + one["sql"]) for one in statements.captured_queries[:3:2]]
    for plan in ("".join(line for (line,) in rows) for rows in found):
        assert "user_list_last_login" in plan
        assert "Seq Scan" not in plan
    assert len(statements) <= 5
