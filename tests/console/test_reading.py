"""Pages that show personal values: each view leaves one event, and none is shown without."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.http import HttpRequest

from mestore.lib import errors
from mestore.lib.console import reading
from monitoring import events
from monitoring.database.counting import count_statements
from monitoring.models import AuditEvent
from tests.console import house
from tests.factories.accounts import BuyerFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


def views() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(type=events.SENSITIVE_PAGE_VIEWED).order_by("id"))


def page(user: Any) -> str:
    return f"/admin/accounts/user/{user.pk}/change/"


def test_stranger_and_missing_row_leave_no_view(client: Any, admin_visitor: house.Visitor) -> None:
    user = BuyerFactory.create()

    assert client.get(page(user)).status_code in {302, 403, 404}
    assert admin_visitor.client.get(page(user).replace(str(user.pk)[:8], "00000000")).status_code == 404

    assert views() == []


def test_page_is_not_shown_when_the_view_cannot_be_recorded(admin_visitor: house.Visitor) -> None:
    user = BuyerFactory.create(email="hidden@example.com")

    def refuse(execute: Any, query: str, params: Any, many: bool, context: Any) -> Any:
        if "INSERT INTO audit_event" in query:
            raise DatabaseError("the trail is full")
        return execute(query, params, many, context)

    with connection.execute_wrapper(refuse):
        answer = admin_visitor.client.get(page(user))

    assert answer.status_code == 503
    assert b"hidden@example.com" not in answer.content


def test_nobody_registered_closes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_registered", reading._Registered())

    with pytest.raises(errors.SecurityServiceFailure):
        reading.note(HttpRequest(), "accounts_user", "1", ("contact",))


def test_each_view_of_a_person_is_one_event_with_classes_and_no_values(admin_visitor: house.Visitor) -> None:
    user = BuyerFactory.create(email="seen@example.com")

    with count_statements("default") as sent:
        assert admin_visitor.client.get(page(user)).status_code == 200
    assert admin_visitor.client.get(page(user)).status_code == 200

    first, second = views()
    said = json.loads(bytes(first.canon))
    assert sum("INSERT INTO audit_event" in statement for statement in sent) == 1
    assert (
        (first.target_type, first.target_id)
        == ("accounts_user", str(user.pk))
        == (
            second.target_type,
            second.target_id,
        )
    )
    assert first.actor_id == str(admin_visitor.user.pk)
    assert first.session_id
    assert first.request_id
    assert said["data"] == {"classes": ["contact", "identity"]}
    assert b"seen@example.com" not in bytes(first.canon)


def test_lists_and_pages_without_personal_values_leave_none(admin_visitor: house.Visitor) -> None:
    house.fill(1)

    assert admin_visitor.client.get("/admin/accounts/permission/").status_code == 200
    assert admin_visitor.client.get("/admin/").status_code == 200

    assert views() == []
