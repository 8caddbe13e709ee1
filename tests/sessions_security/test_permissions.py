from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import RequestFactory
from rest_framework.request import Request
from rest_framework.views import APIView

from monitoring.models import AuditEvent
from sessions_security import permissions
from tests.factories import accounts as people

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


def request_of(user: Any) -> Request:
    base = RequestFactory().get("/api/v1/anything")
    base.user = user
    request = Request(base)
    request.user = user
    return request


def answer(rule: Any, user: Any) -> bool:
    return bool(rule().has_permission(request_of(user), APIView()))


NAME = "reports.export.global"

RULES = [
    permissions.HasPermission("orders.read.global"),
    permissions.IsVendor,
    permissions.IsStaff,
    permissions.IsMachine,
]


@pytest.mark.parametrize("rule", RULES)
def test_stranger_is_refused_without_a_line_in_the_trail(rule: Any) -> None:
    assert not answer(rule, AnonymousUser())
    assert not AuditEvent.objects.using("audit").exists()


@pytest.mark.parametrize("rule", RULES)
def test_refusal_of_somebody_signed_in_is_recorded(rule: Any) -> None:
    user = people.BuyerFactory.create()

    assert not answer(rule, user)

    event = AuditEvent.objects.using("audit").get(type="authz.denied")
    assert event.actor_id == str(user.pk)


def test_permission_opens_to_its_holder_only() -> None:
    holder, other = people.AdminFactory.create(), people.AdminFactory.create()
    people.grant(holder, NAME)

    assert answer(permissions.HasPermission(NAME), holder)
    assert not answer(permissions.HasPermission(NAME), other)


@pytest.mark.parametrize(
    ("rule", "factory", "opens"),
    [
        (permissions.IsVendor, people.VendorFactory, True),
        (permissions.IsVendor, people.AdminFactory, False),
        (permissions.IsStaff, people.AdminFactory, True),
        (permissions.IsStaff, people.SuperuserFactory, True),
        (permissions.IsStaff, people.MachineFactory, False),
        (permissions.IsMachine, people.MachineFactory, True),
        (permissions.IsMachine, people.SuperuserFactory, False),
    ],
)
def test_role_opens_to_itself_only(rule: Any, factory: Any, opens: bool) -> None:
    assert answer(rule, factory.create()) is opens
