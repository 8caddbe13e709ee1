"""Vendors and their back office over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User, VendorProfile
from monitoring.models import OutboxMessage
from tests.factories.accounts import AdminFactory, BuyerFactory, VendorFactory, grant
from tests.factories.administration import Caller

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
OFFICE_ROUTES = [
    ("get", "vendedores/list"),
    ("post", f"vendedores/{ID}/approve"),
    ("post", f"vendedores/{ID}/reject"),
    ("post", f"vendors/{ID}/approve"),
    ("post", f"vendors/{ID}/reject"),
    ("get", f"vendedores/{ID}/notes"),
    ("post", f"vendedores/{ID}/notes"),
    ("get", f"vendedores/{ID}/audit-log"),
    ("post", f"vendedores/{ID}/documents/{ID}/verify"),
    ("put", f"vendedores/{ID}/documents/{ID}/verify"),
    ("post", "vendedores/bulk/approve"),
    ("post", "vendedores/bulk/suspend"),
    ("post", "vendedores/bulk/email"),
]
DOCUMENT = {"document_type": "rut", "file_name": "rut.pdf", "sha256": "ab" * 32}
PROFILE = "vendors/vendor/profile"


def told(response: Any) -> Any:
    assert response.status_code < 300, response.content
    return response.json()


def waiting() -> User:
    made: User = VendorFactory.create(profile__vendor_status="pending_approval")
    return made


@pytest.fixture
def office() -> Caller:
    made = AdminFactory.create()
    grant(
        made, "vendors.approve.global", "vendors.manage.global", "users.update.global",
        "audit_logs.read.read_only",
    )  # fmt: skip
    return Caller(made)


@pytest.mark.parametrize("make", [BuyerFactory, VendorFactory])
def test_the_back_office_is_for_the_staff(make: Any) -> None:
    caller = Caller(make.create())

    for method, path in OFFICE_ROUTES:
        assert getattr(caller, method)(path).status_code == 403, path


def test_a_role_alone_only_looks_at_the_list() -> None:
    caller = Caller(AdminFactory.create())

    for method, path in OFFICE_ROUTES[1:]:
        assert getattr(caller, method)(path).status_code == 403, path
    assert caller.get("vendedores/list").status_code == 200


@pytest.mark.parametrize("family", ["vendedores", "vendors"])
def test_a_vendor_is_approved_and_rejected(office: Caller, family: str) -> None:
    vendor = waiting()

    assert told(office.post(f"{family}/{vendor.pk}/approve"))["vendor"]["vendor_status"] == "approved"
    assert office.post(f"{family}/{vendor.pk}/approve").status_code == 409
    assert office.post(f"{family}/{vendor.pk}/reject", {"rejection_reason": "no"}).status_code == 422
    answer = office.post(f"{family}/{vendor.pk}/reject", {"rejection_reason": "papers are missing"})
    assert told(answer)["vendor"]["decision_reason"] == "papers are missing"
    assert office.post(f"{family}/{uuid4()}/approve").status_code == 404


def test_the_list_narrows_and_costs_the_same(office: Caller) -> None:
    office.get("vendedores/list")
    costs = []
    for _round in range(2):
        VendorFactory.create_batch(5)
        pending = waiting()
        with CaptureQueriesContext(connection) as statements:
            body = told(office.get("vendedores/list", size=100))
        costs.append(len(statements))

    assert costs[0] == costs[1] <= 12
    assert body["total"] == 12
    newest = told(office.get("vendedores/list", status="pending_approval", limit=1))
    assert [row["vendor_id"] for row in newest["vendors"]] == [str(pending.pk)]
    assert newest["has_next"]
    assert office.get("vendedores/list", status="sleeping").status_code == 422


def test_many_vendors_at_once(office: Caller) -> None:
    one, other, buyer = waiting(), waiting(), BuyerFactory.create()
    ids = [str(one.pk), str(other.pk), str(buyer.pk)]

    approved = told(office.post("vendedores/bulk/approve", {"vendor_ids": ids}))
    written = told(
        office.post("vendedores/bulk/email", {"vendor_ids": ids, "subject": "News", "message": "Hello\nyou"})
    )
    suspended = told(office.post("vendedores/bulk/suspend", {"vendor_ids": ids}))

    for body in (approved, written, suspended):
        assert (body["successful"], body["failed"]) == (2, 1)
        assert body["failed_users"][0]["user_id"] == str(buyer.pk)
    assert VendorProfile.objects.filter(vendor_status="approved").count() == 2
    assert OutboxMessage.objects.filter(template="vendor_message").count() == 2
    assert User.objects.get(pk=buyer.pk).is_active
    assert not User.objects.filter(pk__in=[one.pk, other.pk], is_active=True).exists()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("bulk/approve", {}),
        ("bulk/approve", {"vendor_ids": [ID] * 101}),
        ("bulk/suspend", {"vendor_ids": ["x"]}),
        ("bulk/email", {"vendor_ids": [ID]}),
        ("bulk/email", {"vendor_ids": [ID], "subject": "a\nb", "message": "x"}),
        (f"{ID}/notes", {}),
        (f"{ID}/notes", {"text": "  "}),
        (f"{ID}/notes", {"text": "x" * 2001}),
        (f"{ID}/documents/{ID}/verify", {"status": "rejected"}),
        (f"{ID}/documents/{ID}/verify", {"status": "lost"}),
        (f"{ID}/documents", DOCUMENT | {"sha256": "zz"}),
        (f"{ID}/documents", DOCUMENT | {"document_type": "passport"}),
        (f"{ID}/documents", DOCUMENT | {"file_name": "<x>"}),
    ],
)
def test_wrong_bodies_are_refused(office: Caller, path: str, body: dict[str, Any]) -> None:
    assert office.post(f"vendedores/{path}", body).status_code == 422


def test_notes_and_trail_are_the_back_offices(office: Caller) -> None:
    vendor = waiting()
    path = f"vendedores/{vendor.pk}"

    assert office.post(f"{path}/notes", {"note": "called twice"}).status_code == 201
    office.post(f"{path}/approve")

    assert [note["text"] for note in told(office.get(f"{path}/notes"))["notes"]] == ["called twice"]
    trail = [event["event"] for event in told(office.get(f"{path}/audit-log"))["results"]]
    assert {"vendor.noted", "vendor.approved"} <= set(trail)
    assert Caller(vendor).get(f"{path}/notes").status_code == 403
    assert office.get(f"vendedores/{BuyerFactory.create().pk}/audit-log").status_code == 404


def test_documents_are_handed_in_by_their_vendor_and_judged_by_others(office: Caller) -> None:
    vendor, other = waiting(), waiting()
    path = f"vendedores/{vendor.pk}/documents"
    theirs = Caller(vendor)

    document = theirs.post(path, DOCUMENT)
    assert document.status_code == 201
    assert theirs.post(path, DOCUMENT).status_code == 409
    one = f"{path}/{document.json()['id']}"
    stranger = Caller(other)
    for answer in (stranger.get(path), stranger.post(path, DOCUMENT), stranger.delete(one)):
        assert answer.status_code == 404
    assert theirs.post(f"{one}/verify").status_code == 403
    assert told(office.post(f"{one}/verify"))["status"] == "verified"
    assert office.put(f"{one}/verify", {"status": "rejected", "reason": "unreadable"}).status_code == 409
    assert theirs.delete(one).status_code == 409
    assert [row["status"] for row in told(theirs.get(path))["documents"]] == ["verified"]
    assert office.delete(one).status_code == 204
    assert told(office.get(path))["documents"] == []
    assert Caller(AdminFactory.create()).get(path).status_code == 403


# --- The own shop -----------------------------------------------------------------------------------------


def test_a_vendor_keeps_the_own_shop() -> None:
    vendor = waiting()
    caller = Caller(vendor)
    given = {
        "business_name": "Tienda Uno", "city": "Cali", "business_type": "empresa",
        "vendor_status": "approved",
        "social_media_links": {"instagram": "https://example.com/uno"}, "business_hours": {"lunes": "9-17"},
        "business_description": "Todo\npara la casa", "primary_category": "hogar", "user": str(uuid4()),
    }  # fmt: skip

    body = told(caller.put(PROFILE, given))

    assert (body["business_name"], body["city"]) == ("Tienda Uno", "Cali")
    assert body["social_media_links"] == {"instagram": "https://example.com/uno"}
    assert VendorProfile.objects.get(pk=vendor.pk).vendor_status == "pending_approval"
    assert told(caller.get(f"{PROFILE}/complete"))["is_complete"]
    assert told(caller.get(PROFILE))["email"] == vendor.email


def test_a_new_shop_says_what_it_lacks() -> None:
    body = told(Caller(waiting()).get(f"{PROFILE}/complete/"))

    assert (body["is_complete"], body["completion_percentage"]) == (False, 20)
    assert "city" in body["missing_fields"]


@pytest.mark.parametrize("place", [f"{PROFILE}/avatar", "vendors/vendor/avatar"])
def test_a_picture_is_an_https_address(place: str) -> None:
    caller = Caller(waiting())

    for wrong in ("http://example.com/a.png", "javascript:alert(1)", "https://a b", "https://x'\"><", 5):
        assert caller.post(place, {"avatar_url": wrong}).status_code == 422, wrong
    address = "https://example.com/a.png"
    assert told(caller.post(place, {"avatar_url": address}))["avatar_url"] == address
    assert told(caller.delete(place))["avatar_url"] is None


@pytest.mark.parametrize("place", [f"{PROFILE}/notifications", "vendors/vendor/notifications"])
def test_messages_are_chosen_by_name(place: str) -> None:
    caller = Caller(waiting())

    for wrong in ({}, {"A": True}, {"x": "perhaps"}, {f"n{number}": True for number in range(21)}):
        body = {"notification_preferences": wrong} if wrong else {}
        assert caller.put(place, body).status_code == 422, wrong
    told(caller.put(place, {"notification_preferences": {"new_order": True}}))
    assert told(caller.get(PROFILE))["notification_preferences"] == {"new_order": True}


@pytest.mark.parametrize(
    "body",
    [
        {"business_name": ""}, {"business_name": "<b>"}, {"website_url": "ftp://x"}, {"business_type": "ngo"},
        {"primary_category": "armas"}, {"social_media_links": {"x": "http://y"}}, {"business_hours": [1]},
        {"business_hours": {f"d{number}": "x" for number in range(21)}}, {"social_media_links": {"A B": ""}},
    ],
)  # fmt: skip
def test_what_a_shop_cannot_say(body: dict[str, Any]) -> None:
    assert Caller(waiting()).put(PROFILE, body).status_code == 422


@pytest.mark.parametrize("make", [BuyerFactory, AdminFactory])
def test_only_vendors_have_a_shop(make: Any) -> None:
    caller = Caller(make.create())

    assert caller.get(PROFILE).status_code == 403
    assert caller.put(PROFILE, {"city": "Cali"}).status_code == 403
    assert caller.get(f"{PROFILE}/complete").status_code == 403
