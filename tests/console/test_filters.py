"""Every filter of every list answers, narrows as it says, and shows each state in words."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.contrib import admin
from django.db import transaction
from django.utils import timezone

from mestore.lib import actor, ids
from mestore.lib.actor import Actor
from mestore.lib.console import is_secret
from mestore.lib.console.filters import LinkFilter
from mestore.lib.console.secrecy import open_field
from monitoring import audit, events
from monitoring.models import AuditEvent
from sessions_security import clients, sessions
from sessions_security.models import UserSession
from tests.console import house
from tests.factories.accounts import BuyerFactory, ImportedVendorFactory, VendorFactory, grant
from tests.harness import cases

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

REGISTERED: list[Any] = list(admin.site._registry)
ENGLISH = {"accept-language": "en"}


def _url(model: Any) -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/"


def _table(visitor: house.Visitor, address: str) -> str:
    answer = visitor.client.get(address, headers=ENGLISH)
    assert answer.status_code == 200, address
    return str(answer.content.decode().partition('<table class="rows"')[2])


def test_every_link_of_every_filter_leads_to_a_list(admin_visitor: house.Visitor) -> None:
    def check(model: Any) -> None:
        html = admin_visitor.client.get(_url(model)).content.decode()
        links = set(
            re.findall(
                r'href="(\?[^"]+)"', html.partition('<details class="filters"')[2].partition("</details>")[0]
            )
        )

        for link in sorted(links)[:60]:
            assert admin_visitor.client.get(_url(model) + link.replace("&amp;", "&")).status_code == 200, link

    house.fill(1)
    cases.judge(REGISTERED, check, name=lambda model: model._meta.label)


def test_windows_hold_what_happened_in_them(admin_visitor: house.Visitor) -> None:
    now, vendor = timezone.now(), VendorFactory.create()
    orders = {days: house.sale(vendor, now - dt.timedelta(days=days)) for days in (0, 3, 20, 90)}

    for window, expected in {"hour": {0}, "week": {0, 3}, "month": {0, 3, 20}}.items():
        table = _table(admin_visitor, f"/admin/finance/order/?window={window}")
        assert {days for days, order in orders.items() if order.order_number in table} == expected
    assert orders[0].order_number in _table(admin_visitor, "/admin/finance/order/?window=today")


def test_live_and_ended_sessions_are_told_apart(admin_visitor: house.Visitor) -> None:
    people = BuyerFactory.create_batch(4)
    live, ended, expired, outlived = (
        sessions.start(user, kind="token", amr=("pwd",), by=actor.system("test")) for user in people
    )
    sessions.end(ended, by=actor.system("test"), why="test")
    past = timezone.now() - dt.timedelta(minutes=1)
    UserSession.objects.filter(pk=expired.pk).update(idle_expires_at=past)
    type(people[3]).objects.filter(pk=people[3].pk).update(auth_epoch=99)
    base = "/admin/sessions_security/usersession/"

    alive, over = _table(admin_visitor, f"{base}?state=live"), _table(admin_visitor, f"{base}?state=over")

    assert people[0].email in alive
    assert people[0].email not in over
    for user in people[1:3]:
        assert user.email in over
        assert user.email not in alive
    words = {ended: "ended", expired: "expired", outlived: "ended with a change of the account", live: "live"}
    for session, word in words.items():
        html = admin_visitor.client.get(f"{base}{session.pk}/change/", headers=ENGLISH).content.decode()
        assert f"<span>{word}</span>" in html


def test_sessions_of_one_account_are_reached_by_its_id(admin_visitor: house.Visitor) -> None:
    mine, other = BuyerFactory.create_batch(2)
    for user in (mine, other):
        sessions.start(user, kind="token", amr=("pwd",), by=actor.system("test"))

    table = _table(admin_visitor, f"/admin/sessions_security/usersession/?user_id={mine.pk}")

    assert mine.email in table
    assert other.email not in table
    assert admin_visitor.client.get("/admin/sessions_security/usersession/?user_id=x").status_code == 302


def test_accounts_show_their_state_in_words(admin_visitor: house.Visitor) -> None:
    states = {
        BuyerFactory.create(): "active",
        BuyerFactory.create(is_active=False): "deactivated",
        BuyerFactory.create(is_active=False, deleted_at=timezone.now()): "deleted",
        ImportedVendorFactory.create(): "imported, cannot sign in",
    }
    for user, word in states.items():
        html = admin_visitor.client.get(
            f"/admin/accounts/user/{user.pk}/change/", headers=ENGLISH
        ).content.decode()
        assert f"<span>{word}</span>" in html


def test_grants_show_their_state_in_words(admin_visitor: house.Visitor) -> None:
    user = BuyerFactory.create()
    past = timezone.now() - dt.timedelta(days=2)
    (in_force,) = grant(user, "users.read.read_only")
    (expired,) = grant(user, "orders.read.read_only", granted_at=past, expires_at=past + dt.timedelta(days=1))
    (revoked,) = grant(user, "vendors.read.read_only", revoked_at=timezone.now())

    for row, word in {in_force: "in force", expired: "expired", revoked: "revoked"}.items():
        html = admin_visitor.client.get(
            f"/admin/accounts/grant/{row.pk}/change/", headers=ENGLISH
        ).content.decode()
        assert f"<span>{word}</span>" in html
    account = admin_visitor.client.get(
        f"/admin/accounts/user/{user.pk}/change/", headers=ENGLISH
    ).content.decode()
    assert "orders.read.read_only" in account


def test_machine_client_of_a_closed_account_is_shown_as_closed(admin_visitor: house.Visitor) -> None:
    client, _key = clients.create("robot", networks=["10.0.0.0/8"], by=house.BY)
    address = f"/admin/sessions_security/machineclient/{client.pk}/change/"
    before = admin_visitor.client.get(address, headers=ENGLISH).content.decode()

    type(client.user).objects.filter(pk=client.user_id).update(is_active=False)

    after = admin_visitor.client.get(address, headers=ENGLISH).content.decode()
    assert "<span>active</span>" in before
    assert "<span>deactivated</span>" in after
    assert "10.0.0.0/8" in after


def test_trail_is_searched_by_actor_and_filtered_by_target(admin_visitor: house.Visitor) -> None:
    target = str(ids.uuid7())
    with transaction.atomic():
        audit.record(
            events.SIGNED_OUT,
            by=Actor(kind="user", id=str(admin_visitor.user.pk)),
            target=("session", target),
        )
    base = "/admin/monitoring/auditevent/"

    assert "auth.signed_out" in _table(admin_visitor, f"{base}?q={admin_visitor.user.pk}")
    assert _table(admin_visitor, f"{base}?target_type=session&target_id={target}").count("<tr") == 2
    assert "auth.signed_out" not in _table(admin_visitor, f"{base}?outcome=PENDING")


def test_event_without_target_or_known_type_still_shows(admin_visitor: house.Visitor) -> None:
    page: Any = admin.site.get_model_admin(AuditEvent)
    bare = AuditEvent(
        id=ids.uuid7(), type="something.older", outcome="SUCCESS", actor_kind="system", canon=b"\xff",
        leaf_hash=b"x" * 32, writer_mac=b"y" * 32, occurred_at=timezone.now(),
    )  # fmt: skip

    assert page.target(bare) == "—"
    assert "not in the catalogue" in page.meaning(bare)
    assert "do not match" in page.leaf_check(bare)
    assert "somebody else" in page.writer_check(bare)
    assert "\\xff" in page.canonical(bare)


def test_filter_without_a_narrowing_is_a_mistake() -> None:
    with pytest.raises(NotImplementedError):
        LinkFilter.narrow(object.__new__(LinkFilter), AuditEvent.objects.none(), "x")


def test_names_that_are_no_column_are_closed() -> None:
    assert open_field(AuditEvent, "nothing", ()) is None
    assert open_field(AuditEvent, "canon", ()) is None
    assert open_field(AuditEvent, "type", ("type",)) is None
    field = open_field(AuditEvent, "type", ())
    assert field is not None
    assert not is_secret(field)
