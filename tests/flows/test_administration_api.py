"""The administration of people over HTTP: every door asks the same questions."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import ApprovalRequest, Grant, Permission, User
from mestore.lib.http import dumps
from monitoring import delivery
from monitoring.models import AuditEvent, OutboxMessage
from tests.factories.accounts import (
    PASSWORD,
    AdminFactory,
    BuyerFactory,
    SuperuserFactory,
    VendorFactory,
    grant,
)
from tests.factories.administration import ALL, REASON, Caller, superuser

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
SUPERUSER_ROUTES = [
    ("get", "superuser-admin/users"),
    ("post", "superuser-admin/users"),
    ("get", "superuser-admin/users/stats"),
    ("post", "superuser-admin/users/bulk-action"),
    ("get", "superuser-admin/users/deleted"),
    ("get", "superuser-admin/health"),
    ("get", f"superuser-admin/users/{ID}"),
    ("put", f"superuser-admin/users/{ID}"),
    ("delete", f"superuser-admin/users/{ID}"),
    ("get", f"superuser-admin/users/{ID}/dependencies"),
    ("delete", f"superuser-admin/users/{ID}/permanent?confirm=true"),
    ("post", f"superuser-admin/users/{ID}/restore"),
    ("get", f"superuser-admin/users/{ID}/audit"),
    ("post", "admin/users"),
    ("post", "admin/permissions/grant"),
    ("post", "admin/permissions/revoke"),
]
GRANTED_ROUTES = [
    ("put", f"admin/users/{ID}"),
    ("delete", f"admin/users/{ID}"),
    ("post", f"admin/users/{ID}/reset"),
    ("get", f"admin/audit/user/{ID}"),
    ("get", "admin/audit/recent-changes"),
    ("put", f"user-management/users/{ID}/action"),
    ("get", "admins"),
    ("post", "admins"),
    ("post", "admins/bulk-action"),
    ("get", f"admins/{ID}"),
    ("put", f"admins/{ID}"),
    ("get", f"admins/{ID}/permissions"),
    ("post", f"admins/{ID}/permissions/grant"),
    ("post", f"admins/{ID}/permissions/revoke"),
]
STAFF_ROUTES = [
    ("get", "admin/users"),
    ("get", f"admin/users/{ID}"),
    ("get", "admin/users/stats/summary"),
    ("get", f"admin/users/{ID}/status"),
    ("get", f"admin/users/{ID}/permissions"),
    ("get", "user-management/stats"),
    ("get", "user-management/users"),
]
LISTS = (
    "superuser-admin/users",
    "superuser-admin/users/deleted",
    "admin/users",
    "user-management/users",
    "admins",
)


def send(caller: Caller, method: str, path: str) -> Any:
    return getattr(caller, method)(path)


def told(response: Any) -> Any:
    assert response.status_code < 300, response.content
    return response.json()


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error_code"]


@pytest.fixture
def boss() -> Caller:
    made = superuser()
    grant(made, "audit_logs.read.read_only")
    return Caller(made)


# --- Who may not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [BuyerFactory, VendorFactory])
def test_nobody_outside_the_staff_enters(make: Any) -> None:
    caller = Caller(make.create())

    for method, path in [*SUPERUSER_ROUTES, *GRANTED_ROUTES, *STAFF_ROUTES]:
        assert code(send(caller, method, path)) == (403, "FORBIDDEN"), path


def test_an_administrator_enters_no_superusers_door_whatever_is_granted() -> None:
    admin = AdminFactory.create()
    grant(admin, *ALL, "audit_logs.read.read_only")
    caller = Caller(admin)

    for method, path in SUPERUSER_ROUTES:
        assert code(send(caller, method, path)) == (403, "FORBIDDEN"), path


def test_without_a_grant_a_role_opens_the_views_alone() -> None:
    for factory in (AdminFactory, SuperuserFactory):
        caller = Caller(factory.create())
        for method, path in GRANTED_ROUTES:
            if factory is SuperuserFactory and "/audit/" in path:
                continue  # a superuser watches by role
            assert code(send(caller, method, path)) == (403, "FORBIDDEN"), path
        for method, path in STAFF_ROUTES:
            assert send(caller, method, path).status_code in {200, 404}, path


def test_refusals_leave_their_trace() -> None:
    Caller(AdminFactory.create()).get("superuser-admin/users")

    assert AuditEvent.objects.using("audit").filter(type="authz.denied").exists()


def test_a_password_session_alone_opens_nothing_that_needs_a_factor() -> None:
    from tests.factories.sessions_security import bearer

    target, caller = BuyerFactory.create(), superuser()
    header = bearer(caller)

    response = Caller(caller).client.put(
        f"/api/v1/superuser-admin/users/{target.pk}", dumps({"nombre": "Eva"}),
        content_type="application/json", headers=header,
    )  # fmt: skip

    assert response.status_code in {401, 403}


# --- Lists ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LISTS)
def test_a_list_costs_few_statements_whatever_is_in_it(boss: Caller, path: str) -> None:
    boss.get(path)  # the first use of a grant and of a session is written down
    costs = []
    for _round in range(2):
        AdminFactory.create_batch(10)
        VendorFactory.create_batch(10)
        BuyerFactory.create_batch(5, is_active=False, deleted_at=timezone.now())
        with CaptureQueriesContext(connection) as statements:
            assert boss.get(path, size=100).status_code == 200
        costs.append(len(statements))

    assert costs[0] == costs[1] <= 12, costs


def test_a_list_has_the_contracts_members(boss: Caller) -> None:
    VendorFactory.create_batch(3)

    body = told(boss.get("superuser-admin/users/", size=2, user_type="VENDOR"))

    assert {
        "users", "total", "page", "size", "total_pages", "has_next", "has_previous", "filters_applied",
        "summary_stats",
    } <= set(body)  # fmt: skip
    assert (body["total"], body["total_pages"], body["has_next"], body["has_previous"]) == (3, 2, True, False)
    assert body["users"][0]["vendor_status"] == "approved"
    more = told(boss.get("superuser-admin/users", size=2, user_type="VENDOR", cursor=body["next_cursor"]))
    assert (len(more["users"]), more["has_next"], more["has_previous"]) == (1, False, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", "101"), ("size", "0"), ("page", "0"), ("page", "-1"), ("page", "１"),
        ("page", "9" * 11),
        ("page", "600"), ("offset", "10001"), ("skip", "x"), ("sort_by", "password"), ("status", "nobody"),
        ("user_type", "buyer"), ("is_active", "perhaps"), ("created_after", "yesterday"),
        ("search", "a\x00b"),
        ("clearance_min", "6"), ("cursor", "never"), ("search", "x" * 255),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", LISTS)
def test_what_a_query_says_wrongly_is_named(boss: Caller, path: str, name: str, value: str) -> None:
    response = boss.get(path, **{name: value})

    assert code(response) == (422, "VALIDATION_ERROR")
    assert [detail["field"] for detail in response.json()["details"]] == [f"query -> {name}"]


@pytest.mark.parametrize(
    "query",
    [
        {"created_after": "2026-01-01", "created_before": "2030-01-01T00:00:00+00:00"},
        {"clearance_min": "3", "clearance_max": "3", "is_active": "TRUE", "is_verified": "0"},
        {"department_id": "", "search": "", "email": "", "status": "all", "sort_by": "email_desc"},
        {"last_login_before": "2030-01-01", "email": "nobody@example.com"},
        {"search": "%", "sort_by": "last_login_desc", "offset": "10"},
    ],
)
def test_filters_are_taken(boss: Caller, query: dict[str, str]) -> None:
    assert boss.get("superuser-admin/users", **query).status_code == 200


def test_figures_have_the_contracts_names(boss: Caller) -> None:
    body = told(boss.get("superuser-admin/users/stats"))

    assert body["totalSuperusers"] == 1
    assert set(body) == {
        "totalUsers", "totalVendors", "totalBuyers", "totalAdmins", "totalSuperusers", "verifiedUsers",
        "activeUsers", "inactiveUsers", "pendingVendors", "recentRegistrations", "isEstimate",
    }  # fmt: skip
    assert told(boss.get("user-management/stats"))["total_superusers"] == 1
    assert told(boss.get("superuser-admin/health"))["service"] == "superuser-admin"


# --- One account ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["superuser-admin/users", "admin/users", "admins"])
def test_details_show_no_secret_and_leave_a_trace(boss: Caller, path: str) -> None:
    user = AdminFactory.create(security_clearance_level=4)

    response = boss.get(f"{path}/{user.pk}")

    assert told(response)["email"] == user.email
    assert user.password not in response.content.decode()
    assert not {"password", "password_hash", "auth_epoch", "email_key"} & set(response.json())
    assert AuditEvent.objects.filter(type="user.details_read", target_id=str(user.pk)).exists()
    assert boss.get(f"{path}/{uuid4()}").status_code == 404


@pytest.mark.parametrize("path", ["superuser-admin/users", "admin/users"])
def test_who_is_invited_sets_the_password_alone(boss: Caller, path: str) -> None:
    body = {"email": "new@example.com", "password": PASSWORD, "nombre": "Luz", "user_type": "VENDOR"}

    response = boss.post(path, body)

    assert response.status_code == 201
    assert (response.json()["has_password"], response.json()["invitation_sent"]) == (False, True)
    user = User.objects.get(email_key="new@example.com")
    assert not user.may_sign_in
    for message in OutboxMessage.objects.all():
        delivery.send(message.pk)
    assert [sent.to for sent in mail.outbox] == [["new@example.com"]]
    assert code(boss.post(path, body)) == (400, "BAD_REQUEST")


@pytest.mark.parametrize(
    "body",
    [
        {}, {"email": "x"}, {"email": 5}, {"email": "a@b.co", "user_type": "SYSTEM"},
        {"email": "a@b.co", "user_type": "ROOT"}, {"email": "a@b.co", "nombre": "<script>"},
        {"email": "a@b.co", "nombre": "x" * 101}, {"email": "a@b.co", "security_clearance_level": 6},
        {"email": "a@b.co", "security_clearance_level": "high"}, {"email": "a@b.co", "telefono": "12"},
        {"email": "a@b.co", "nombre": ["a"]}, {"email": "a" * 300 + "@b.co"},
        {"email": "a@b.co", "direccion": "a\u0007"},
    ],
)  # fmt: skip
def test_what_no_account_can_be_opened_with(boss: Caller, body: dict[str, Any]) -> None:
    before = User.objects.count()

    assert code(boss.post("superuser-admin/users", body)) == (422, "VALIDATION_ERROR")
    assert User.objects.count() == before


def test_what_a_form_does_not_know_changes_nothing(boss: Caller) -> None:
    target = BuyerFactory.create()
    given = {
        "nombre": "Eva", "auth_epoch": 99, "is_superuser": True, "is_staff": True, "id": str(uuid4()),
        "email_key": "x@example.com", "deleted_at": "2026-01-01", "email": target.email, "grants": ["x"],
    }  # fmt: skip

    body = told(boss.put(f"superuser-admin/users/{target.pk}/", given))

    row = User.objects.get(pk=target.pk)
    assert body["nombre"] == row.nombre == "Eva"
    assert (row.auth_epoch, row.email_key, row.user_type) == (target.auth_epoch, target.email_key, "BUYER")


@pytest.mark.parametrize("path", ["superuser-admin/users", "admin/users"])
def test_nobody_sets_a_password_or_an_address(boss: Caller, path: str) -> None:
    target = BuyerFactory.create()

    assert code(boss.put(f"{path}/{target.pk}", {"password": PASSWORD})) == (403, "PASSWORD_IS_THE_OWNERS")
    assert boss.put(f"{path}/{target.pk}", {"email": "mine@example.com"}).status_code == 422
    assert User.objects.get(pk=target.pk).password == target.password


def test_a_role_needs_a_fresh_factor_and_a_second_person() -> None:
    target, person = BuyerFactory.create(), superuser()
    path, given = f"admin/users/{target.pk}", {"user_type": "SUPERUSER", "reason": REASON}

    assert code(Caller(person, fresh=False).put(path, given)) == (403, "STEP_UP_REQUIRED")
    waiting = Caller(person).put(path, given)

    assert waiting.status_code == 202
    assert waiting.json()["user_type"] == User.objects.get(pk=target.pk).user_type == "BUYER"
    assert ApprovalRequest.objects.filter(action="users.set_role", about=target).count() == 1


def test_an_administrator_makes_nobody_an_equal() -> None:
    admin, target = AdminFactory.create(), BuyerFactory.create()
    grant(admin, "users.update.global", "users.manage.global")
    caller = Caller(admin)

    for role in ("ADMIN", "SUPERUSER", "SYSTEM"):
        assert caller.put(f"admin/users/{target.pk}", {"user_type": role}).status_code == 403
        assert caller.put(f"admin/users/{admin.pk}", {"user_type": role}).status_code in {200, 403}

    assert not ApprovalRequest.objects.exists()
    assert User.objects.get(pk=admin.pk).user_type == "ADMIN"


@pytest.mark.parametrize("path", ["superuser-admin/users", "admin/users"])
def test_a_deleted_account_is_out_at_once_and_comes_back(boss: Caller, path: str) -> None:
    target = BuyerFactory.create()
    theirs = Caller(target)

    body = told(boss.delete(f"{path}/{target.pk}?reason=left%20the%20shop"))

    assert {
        "success", "user_id", "email", "deleted_at", "dependencies_checked", "data_cleanup", "warnings",
        "deleted_by", "reason",
    } <= set(body)  # fmt: skip
    assert theirs.get("auth/me").status_code == 401
    assert boss.delete(f"{path}/{target.pk}").status_code == 404
    assert [row["id"] for row in told(boss.get("superuser-admin/users/deleted"))["users"]] == [str(target.pk)]
    assert told(boss.post(f"superuser-admin/users/{target.pk}/restore"))["user"]["is_active"]
    assert boss.post(f"superuser-admin/users/{target.pk}/restore").status_code == 409


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_a_removal_for_ever_is_confirmed_twice() -> None:
    person, target = superuser(), BuyerFactory.create(is_active=False, deleted_at=timezone.now())
    path = f"superuser-admin/users/{target.pk}/permanent"

    assert code(Caller(person, fresh=False).delete(f"{path}?confirm=true")) == (403, "STEP_UP_REQUIRED")
    fresh = Caller(person)
    assert fresh.delete(path).status_code == 400
    assert fresh.delete(f"{path}?confirm=perhaps").status_code == 422
    dependencies = told(fresh.get(f"superuser-admin/users/{target.pk}/dependencies"))
    assert dependencies["can_be_removed"]
    assert told(fresh.delete(f"{path}?confirm=true"))["success"]
    assert not User.objects.filter(pk=target.pk).exists()


def test_a_reset_is_started_and_mailed_never_chosen(boss: Caller) -> None:
    target = BuyerFactory.create()

    assert told(boss.post(f"admin/users/{target.pk}/reset", {"new_password": PASSWORD}))["reset_link_sent"]

    assert User.objects.get(pk=target.pk).password == target.password
    assert OutboxMessage.objects.filter(subject=str(target.pk), template="password_reset_started").exists()
    assert boss.post(f"admin/users/{uuid4()}/reset").status_code == 404


def test_the_state_of_an_account_is_told(boss: Caller) -> None:
    target = BuyerFactory.create(is_active=False)

    body = told(boss.get(f"admin/users/{target.pk}/status"))

    assert (body["id"], body["is_active"]) == (str(target.pk), False)
    assert body["account_locked_until"] is None
    assert told(boss.get("admin/users/stats/summary"))["inactive_users"] == 1


def test_who_never_signed_in_did_so_neither_before_nor_after(boss: Caller) -> None:
    BuyerFactory.create()
    seen = BuyerFactory.create(last_login=timezone.now())

    for query in ({"last_login_after": "2020-01-01"}, {"last_login_before": "2040-01-01"}):
        rows = told(boss.get("admin/users", user_type="BUYER", **query))["users"]
        assert [row["id"] for row in rows] == [str(seen.pk)]


def test_the_trail_of_an_account_is_paged(boss: Caller) -> None:
    target = BuyerFactory.create()
    for name in ("Eva", "Luz", "Sol"):
        boss.put(f"superuser-admin/users/{target.pk}", {"nombre": name})

    first = told(boss.get(f"superuser-admin/users/{target.pk}/audit", limit=2))
    rest = told(boss.get(f"admin/audit/user/{target.pk}", limit=2, cursor=first["next"]))

    assert [event["event"] for event in [*first["results"], *rest["results"]]] == ["user.updated"] * 3
    assert rest["next"] is None
    assert b"Eva" not in dumps(first)
    recent = told(boss.get("admin/audit/recent-changes", limit=2))["results"]
    assert [event["category"] for event in recent] == ["USER_MANAGEMENT"] * 2
    assert boss.get("admin/audit/recent-changes", limit="many").status_code == 422


# --- Many accounts, the older page ------------------------------------------------------------------------


def test_an_action_on_many_tells_of_each(boss: Caller) -> None:
    users, unknown = BuyerFactory.create_batch(2), uuid4()
    ids = [str(user.pk) for user in users]

    body = told(
        boss.post(
            "superuser-admin/users/bulk-action",
            {"user_ids": [*ids, str(unknown)], "action": "deactivate", "reason": "spam"},
        )
    )

    assert (body["success"], body["total_requested"], body["successful"], body["failed"]) == (False, 3, 2, 1)
    assert body["successful_users"] == ids
    assert body["failed_users"][0]["user_id"] == str(unknown)
    assert not User.objects.filter(pk__in=ids, is_active=True).exists()


@pytest.mark.parametrize(
    "body",
    [
        {}, {"user_ids": [], "action": "activate"}, {"user_ids": ["x"], "action": "activate"},
        {"user_ids": [ID] * 101, "action": "activate"}, {"user_ids": [ID], "action": "delete"},
        {"user_ids": ID, "action": "activate"}, {"user_ids": [ID], "action": "update_clearance"},
        {"user_ids": [ID], "action": "update_clearance", "parameters": {"clearance": 6}},
        {"user_ids": [ID], "action": "update_clearance", "parameters": [1]},
        {"user_ids": [ID], "action": "activate", "reason": 5},
    ],
)  # fmt: skip
def test_wrong_bodies_of_actions_are_refused(boss: Caller, body: dict[str, Any]) -> None:
    assert code(boss.post("superuser-admin/users/bulk-action", body)) == (422, "VALIDATION_ERROR")


def test_clearance_in_bulk_needs_a_fresh_factor() -> None:
    person, target = superuser(), BuyerFactory.create()
    body = {
        "user_ids": [str(target.pk)], "action": "update_clearance",
        "parameters": {"security_clearance_level": 2},
    }  # fmt: skip

    stale = Caller(person, fresh=False).post("superuser-admin/users/bulk-action", body)
    fresh = Caller(person).post("superuser-admin/users/bulk-action", body)

    assert code(stale) == (403, "STEP_UP_REQUIRED")
    assert told(fresh)["successful"] == 1
    assert User.objects.get(pk=target.pk).security_clearance_level == 2


def test_a_superuser_changes_ten_things_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.BULK_ACTIONS == [(10, 60)]
    # In a longer window, so that none comes back while a slow machine uses them up.
    monkeypatch.setattr(settings, "BULK_ACTIONS", [(10, 6_000)])
    monkeypatch.setattr(settings, "ADMINISTRATION_WRITES", [(10, 6_000)])
    caller = Caller(superuser())
    path = "superuser-admin/users/bulk-action"
    body = {"user_ids": [ID], "action": "activate"}

    answers = [caller.post(path, body).status_code for _try in range(11)]

    assert answers == [200] * 10 + [429]
    assert caller.get("superuser-admin/users").status_code == 200


def test_the_older_page_has_four_actions_and_spares_superusers(boss: Caller) -> None:
    target, other = BuyerFactory.create(), SuperuserFactory.create(security_clearance_level=4)
    path = f"user-management/users/{target.pk}/action"

    assert not told(boss.put(path, {"action": "suspend"}))["user"]["is_active"]
    assert told(boss.put(path, {"action": "activate"}))["user"]["is_active"]
    assert told(boss.put(path, {"action": "verify"}))["user"]["is_verified"]
    assert told(boss.put(path, {"action": "delete"}))["user"]["deleted_at"]
    assert boss.put(path, {"action": "promote"}).status_code == 422
    for action in ("suspend", "delete"):
        answer = boss.put(f"user-management/users/{other.pk}/action", {"action": action})
        assert answer.status_code == 403
    assert User.objects.get(pk=other.pk).is_active


# --- Permissions ------------------------------------------------------------------------------------------


def test_a_permission_is_given_seen_and_taken_back(boss: Caller) -> None:
    target = AdminFactory.create()
    holder = User.objects.get(user_type="SUPERUSER")
    grant(holder, "analytics.read.global")
    number = Permission.objects.get(name="analytics.read.global").pk
    body = {"user_id": str(target.pk), "permission_id": number}

    assert told(boss.post("admin/permissions/grant", body))["grant"]["permission"]["id"] == number
    assert code(boss.post("admin/permissions/grant", body)) == (409, "CONFLICT")
    held = told(boss.get(f"admin/users/{target.pk}/permissions"))
    assert [row["permission"]["name"] for row in held["permissions"]] == ["analytics.read.global"]
    assert "users.read.read_only" in held["role_permissions"]
    assert told(boss.post("admin/permissions/revoke", body))["revoked"] == "analytics.read.global"
    assert boss.post("admin/permissions/revoke", body).status_code == 409
    assert not Grant.objects.filter(user=target, revoked_at=None).exists()


@pytest.mark.parametrize("wanted", ["no.such.thing", "999999999", "9" * 30, "１"])
def test_a_permission_that_is_not_there_is_not_found(boss: Caller, wanted: str) -> None:
    target = AdminFactory.create(security_clearance_level=4)
    many = {"permission_ids": [wanted], "reason": REASON}

    one = boss.post("admin/permissions/grant", {"user_id": str(target.pk), "permission_id": wanted})

    assert one.status_code == 404
    assert boss.post(f"admins/{target.pk}/permissions/grant", many).status_code == 404


def test_a_dangerous_permission_waits_for_a_second_person(boss: Caller) -> None:
    target = AdminFactory.create()

    response = boss.post(
        "admin/permissions/grant", {"user_id": str(target.pk), "permission_id": "users.manage.global"}
    )

    assert response.status_code == 202
    assert response.json()["waiting_for_approval"]["action"] == "permissions.grant"
    assert not Grant.objects.filter(user=target).exists()


def test_giving_asks_for_a_fresh_factor() -> None:
    caller = Caller(superuser(), fresh=False)
    target = AdminFactory.create()

    for path in ("admin/permissions/grant", f"admins/{target.pk}/permissions/grant"):
        assert code(caller.post(path)) == (403, "STEP_UP_REQUIRED")


# --- Administrators among themselves ----------------------------------------------------------------------


def test_an_administrator_is_invited_with_less_clearance_than_ones_own(boss: Caller) -> None:
    body = {"email": "new@example.com", "nombre": "Luz", "apellido": "Ruiz", "security_clearance_level": 5}

    assert boss.post("admins", body).status_code == 403
    response = boss.post("admins", body | {"security_clearance_level": 4})

    assert response.status_code == 201
    assert response.json()["user_type"] == "BUYER"
    assert response.json()["waiting_for_approval"][0]["details"] == {"from": "BUYER", "to": "ADMIN"}
    assert boss.post("admins", body | {"security_clearance_level": 4}).status_code == 409
    for role in ("BUYER", "VENDOR", "SYSTEM"):
        answer = boss.post("admins", {"email": "other@example.com", "user_type": role})
        assert answer.status_code == 422


def test_only_a_superuser_invites_a_superuser() -> None:
    admin = AdminFactory.create()
    grant(admin, *ALL)
    caller = Caller(admin)

    for role in ("ADMIN", "SUPERUSER"):
        body = {"email": "new@example.com", "user_type": role, "security_clearance_level": 1}
        assert caller.post("admins", body).status_code == 403
    assert not User.objects.filter(email_key="new@example.com").exists()


@pytest.mark.parametrize("path", ["admins", "admin/users", "superuser-admin/users"])
@pytest.mark.parametrize("role", ["ADMIN", "SUPERUSER"])
def test_who_is_invited_to_the_staff_waits_for_a_second_person_above(
    boss: Caller, path: str, role: str
) -> None:
    body = {"email": "new@example.com", "user_type": role, "security_clearance_level": 4}

    response = boss.post(path, body | {"reason": REASON})

    assert response.status_code == 201
    assert response.json()["user_type"] == "BUYER"
    (asked,) = response.json()["waiting_for_approval"]
    assert asked["action"] == "users.set_role"
    lower = AdminFactory.create()
    grant(lower, "permissions.grant.global")
    decision = f"admin/approvals/{asked['id']}/approve"
    for one in (boss, Caller(lower)):
        assert one.post(decision).status_code == 403
    assert User.objects.get(email_key="new@example.com").user_type == "BUYER"
    assert Caller(superuser()).post(decision).status_code == 200
    assert User.objects.get(email_key="new@example.com").user_type == role


def test_the_second_persons_yes_sends_the_link_that_opens_the_account(boss: Caller) -> None:
    body = {"email": "new@example.com", "user_type": "ADMIN", "security_clearance_level": 4}
    told = boss.post("admins", body | {"reason": REASON}).json()
    (asked,) = told["waiting_for_approval"]
    assert told["invitation_sent"] is False
    assert not OutboxMessage.objects.exists()
    assert Caller(superuser()).post(f"admin/approvals/{asked['id']}/approve").status_code == 200
    for message in OutboxMessage.objects.all():
        delivery.send(message.pk)
    invitation = next(str(sent.body) for sent in mail.outbox if sent.to == ["new@example.com"])
    token = re.search(r"token=([\w-]+)", invitation)
    assert token

    chosen = {"token": token[1], "new_password": PASSWORD, "confirm_password": PASSWORD}
    answer = Client().post("/api/v1/auth/reset-password", chosen, content_type="application/json")

    assert answer.status_code == 200
    assert User.objects.get(email_key="new@example.com").may_sign_in


def test_a_refused_invitation_leaves_nobody_on_the_staff(boss: Caller) -> None:
    body = {"email": "new@example.com", "user_type": "SUPERUSER", "security_clearance_level": 4}
    (asked,) = boss.post("admins", body | {"reason": REASON}).json()["waiting_for_approval"]

    refused = Caller(superuser()).post(f"admin/approvals/{asked['id']}/refuse", {"reason": REASON})

    assert refused.status_code == 200
    assert User.objects.get(email_key="new@example.com").user_type == "BUYER"


def test_nobody_approves_a_rank_above_their_own(boss: Caller) -> None:
    target, lower = BuyerFactory.create(), AdminFactory.create()
    grant(lower, "permissions.grant.global")
    boss.put(f"admin/users/{target.pk}", {"user_type": "SUPERUSER", "reason": REASON})
    asked = ApprovalRequest.objects.get(about=target)

    assert Caller(lower).post(f"admin/approvals/{asked.pk}/approve").status_code == 403

    assert User.objects.get(pk=target.pk).user_type == "BUYER"
    assert ApprovalRequest.objects.get().state == "open"


def test_first_permissions_come_with_the_account_or_not_at_all(boss: Caller) -> None:
    grant(User.objects.get(user_type="SUPERUSER"), "analytics.read.global")
    body = {"email": "new@example.com", "security_clearance_level": 4}

    wrong = boss.post("admins", body | {"initial_permissions": ["analytics.read.global", "no.such.thing"]})
    assert wrong.status_code == 404
    assert not User.objects.filter(email_key="new@example.com").exists()
    given = ["analytics.read.global", "users.manage.global"]
    told = boss.post("admins", body | {"initial_permissions": given}).json()
    (asked,) = told["waiting_for_approval"]
    assert (asked["action"], asked["details"]["permissions"]) == ("users.set_role", given)
    assert told["permissions"] == []
    invited = User.objects.get(email_key="new@example.com")
    assert not Grant.objects.filter(user=invited).exists()

    assert Caller(superuser()).post(f"admin/approvals/{asked['id']}/approve").status_code == 200

    held = Grant.objects.filter(user=invited, revoked_at=None).values_list("permission__name", flat=True)
    assert sorted(held) == given


def test_who_is_refused_the_rank_keeps_no_permission_of_it(boss: Caller) -> None:
    grant(User.objects.get(user_type="SUPERUSER"), "analytics.read.global")
    body = {"email": "new@example.com", "security_clearance_level": 4, "reason": REASON}
    told = boss.post("admins", body | {"initial_permissions": ["analytics.read.global"]}).json()
    (asked,) = told["waiting_for_approval"]

    refused = Caller(superuser()).post(f"admin/approvals/{asked['id']}/refuse", {"reason": REASON})

    assert refused.status_code == 200
    assert not Grant.objects.filter(user__email_key="new@example.com").exists()


def test_permissions_of_an_invitation_are_not_given_by_who_lost_them_meanwhile(boss: Caller) -> None:
    inviter = User.objects.get(user_type="SUPERUSER")
    grant(inviter, "analytics.read.global")
    body = {"email": "new@example.com", "security_clearance_level": 4, "reason": REASON}
    told = boss.post("admins", body | {"initial_permissions": ["analytics.read.global"]}).json()
    (asked,) = told["waiting_for_approval"]
    Grant.objects.filter(user=inviter, permission__name="analytics.read.global").update(
        revoked_at=timezone.now(), revoked_why="test", revoked_by_label="test"
    )

    assert Caller(superuser()).post(f"admin/approvals/{asked['id']}/approve").status_code == 403

    assert User.objects.get(email_key="new@example.com").user_type == "BUYER"
    assert not Grant.objects.filter(user__email_key="new@example.com").exists()
    assert ApprovalRequest.objects.get(pk=asked["id"]).state == "open"


def test_nobody_invites_with_what_they_do_not_hold(boss: Caller) -> None:
    body = {"email": "new@example.com", "security_clearance_level": 4}

    not_held = boss.post("admins", body | {"initial_permissions": ["commissions.manage.global"]})

    assert not_held.status_code == 403

    assert not User.objects.filter(email_key="new@example.com").exists()


def test_equals_in_clearance_are_out_of_reach(boss: Caller) -> None:
    equal, lower = AdminFactory.create(), AdminFactory.create(security_clearance_level=4)

    assert boss.put(f"admins/{equal.pk}", {"nombre": "Eva"}).status_code == 403
    assert told(boss.put(f"admins/{lower.pk}", {"nombre": "Eva"}))["nombre"] == "Eva"
    assert boss.put(f"admins/{lower.pk}", {"security_clearance_level": 5}).status_code == 403
    body = {"user_ids": [str(equal.pk), str(lower.pk)], "action": "lock", "reason": REASON}
    assert told(boss.post("admins/bulk-action", body))["successful_users"] == [str(lower.pk)]
    assert User.objects.get(pk=lower.pk).is_locked


def test_buyers_are_no_administrators(boss: Caller) -> None:
    buyer = BuyerFactory.create()

    assert told(boss.get("admins"))["total"] == 1
    assert boss.get(f"admins/{buyer.pk}").status_code == 404
    assert boss.put(f"admins/{buyer.pk}", {"nombre": "Eva"}).status_code == 404
    assert boss.get(f"admins/{buyer.pk}/permissions").status_code == 404


@pytest.mark.parametrize("reason", ["", "short", None, 12])
def test_among_administrators_a_reason_is_said(boss: Caller, reason: Any) -> None:
    target = AdminFactory.create(security_clearance_level=4)
    bulk = {"user_ids": [str(target.pk)], "action": "lock", "reason": reason}
    permissions = {"permission_ids": ["analytics.read.global"], "reason": reason}

    assert boss.post("admins/bulk-action", bulk).status_code == 422
    for word in ("grant", "revoke"):
        assert boss.post(f"admins/{target.pk}/permissions/{word}", permissions).status_code == 422


def test_many_permissions_are_given_and_taken_together(boss: Caller) -> None:
    names = ["analytics.read.global", "vendors.approve.global"]
    grant(User.objects.get(user_type="SUPERUSER"), names[0])
    target = AdminFactory.create(security_clearance_level=4)
    path = f"admins/{target.pk}/permissions"

    given = told(boss.post(f"{path}/grant", {"permission_ids": names, "reason": REASON}))
    assert len(given["permissions"]) == len(told(boss.get(path))["permissions"]) == 2
    wrong = boss.post(
        f"{path}/revoke", {"permission_ids": [names[0], "users.manage.global"], "reason": REASON}
    )
    assert wrong.status_code == 409
    assert Grant.objects.filter(user=target, revoked_at=None).count() == 2
    assert (
        len(told(boss.post(f"{path}/revoke", {"permission_ids": names, "reason": REASON}))["permissions"])
        == 2
    )
