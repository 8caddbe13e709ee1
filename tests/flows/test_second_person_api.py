"""Two people, a review and an impersonation, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from accounts import delegation
from accounts.models import ApprovalRequest, Grant, User
from mestore.lib.actor import Actor
from sessions_security import impersonation, sessions, tokens
from sessions_security.models import StepUpProof, UserSession
from sessions_security.store import SessionStore
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])


class Person:
    """A superuser with a fresh factor, and their requests."""

    def __init__(self, *names: str) -> None:
        self.user: User = people.SuperuserFactory.create()
        people.grant(self.user, *names)
        device = people.TotpDeviceFactory.create(user=self.user)
        with transaction.atomic():
            self.session = made.session_of(self.user, amr=("pwd", "otp"))
            token = tokens.issue_access(self.session).access_token
        StepUpProof.objects.create(
            session=self.session, method="totp", factor=device.persistent_id,
            bound_at=self.session.created_at, proved_at=timezone.now(),
        )  # fmt: skip
        self.headers = {"Authorization": f"Bearer {token}"}

    def post(self, path: str, **body: Any) -> Any:
        address = f"/api/v1/admin/{path}"
        return Client().post(address, body, content_type="application/json", headers=self.headers)

    def get(self, path: str, **query: Any) -> Any:
        return Client().get(f"/api/v1/admin/{path}", query, headers=self.headers)

    def actor(self) -> Actor:
        return Actor(kind="user", id=str(self.user.pk), label=self.user.email, role=self.user.user_type)


def test_two_people_give_what_one_may_not() -> None:
    asker = Person("permissions.grant.global", "users.manage.system")
    second, holder = Person("permissions.grant.global"), people.AdminFactory.create()
    request = delegation.give(holder, "users.manage.system", by=asker.actor(), reason="asked for in writing")
    assert isinstance(request, ApprovalRequest)

    assert [row["id"] for row in second.get("approvals").json()["waiting"]] == [str(request.pk)]
    assert asker.get("approvals").json()["waiting"] == []
    assert asker.post(f"approvals/{request.pk}/approve").status_code == 403
    assert second.post(f"approvals/{request.pk}/applaud").status_code == 404
    approved = second.post(f"approvals/{request.pk}/approve")

    assert (approved.status_code, approved.json()["state"]) == (200, "done")
    assert Grant.objects.filter(user=holder, revoked_at=None).count() == 1
    assert second.post(f"approvals/{request.pk}/approve").status_code == 409


def test_stale_session_decides_nothing_and_who_asked_may_withdraw() -> None:
    asker = Person("permissions.grant.global", "users.manage.system")
    second = Person("permissions.grant.global")
    request = delegation.give(
        people.AdminFactory.create(), "users.manage.system", by=asker.actor(), reason="asked for in writing"
    )
    StepUpProof.objects.all().delete()

    refused = second.post(f"approvals/{request.pk}/approve")
    assert (refused.status_code, refused.json()["error_code"]) == (403, "STEP_UP_REQUIRED")
    assert second.post(f"approvals/{request.pk}/withdraw").status_code == 404
    assert asker.post(f"approvals/{request.pk}/withdraw").json()["state"] == "withdrawn"


def test_review_from_its_beginning_to_its_file() -> None:
    one, other = Person("permissions.revoke.global"), Person("permissions.revoke.global")
    begun = one.post("access-reviews")
    review = begun.json()["id"]
    assert begun.status_code == 201

    rows = one.get(f"access-reviews/{review}").json()
    assert len(rows["results"]) == 2
    assert rows["next"] is None
    for row in rows["results"]:
        by = other if row["user_id"] == str(one.user.pk) else one
        assert by.post(f"access-reviews/items/{row['id']}", outcome="keep").status_code == 200
    last = rows["results"][0]["id"]
    assert len(one.get(f"access-reviews/{review}", cursor=last).json()["results"]) == 1
    assert one.get(f"access-reviews/{review}", cursor="x").status_code == 422
    assert one.post(f"access-reviews/{review}/finish").json()["outcome_sha256"]
    asked = one.post(f"access-reviews/{review}/csv", reason="for the yearly audit")
    assert (asked.status_code, asked.json()["state"]) == (202, "open")
    assert one.get(f"access-reviews/{review}/csv").status_code == 405
    assert one.post(f"approvals/{asked.json()['id']}/approve").status_code == 403
    assert other.post(f"approvals/{asked.json()['id']}/approve").json()["state"] == "approved"
    assert other.post(f"access-reviews/{review}/csv").status_code == 422  # not what they asked for
    assert b"permissions.revoke.global" in one.post(f"access-reviews/{review}/csv").content
    assert one.post(f"access-reviews/{review}/csv").status_code == 422
    assert len(one.get("access-reviews").json()["results"]) == 1
    nowhere = "00000000-0000-0000-0000-000000000000"
    assert one.get(f"access-reviews/{nowhere}").status_code == 404
    assert Person("users.manage.global").get("access-reviews").status_code == 403


def test_support_sees_as_another_until_it_stops() -> None:
    support, buyer = Person("users.manage.global"), people.BuyerFactory.create()
    begun = support.post("impersonation", user_id=str(buyer.pk), reason="ticket 4711: no orders")
    assert begun.status_code == 201
    headers = {"Authorization": f"Bearer {begun.json()['access_token']}"}
    assert "refresh_token" not in begun.json()

    assert Client().get("/api/v1/auth/me", headers=headers).json()["id"] == str(buyer.pk)
    stopped = Client().post("/api/v1/admin/impersonation/stop", headers=headers)
    assert stopped.status_code == 204
    assert Client().get("/api/v1/auth/me", headers=headers).status_code == 401
    nobody = "00000000-0000-0000-0000-000000000000"
    assert support.post("impersonation", user_id=nobody, reason="ticket 4711").status_code == 404
    assert support.post("impersonation/stop").status_code == 409


def test_browser_changes_hands_and_comes_back(rf: Any) -> None:
    support, admin = Person("users.manage.global"), people.AdminFactory.create()
    own, cookie = made.cookie_of(support.user)
    request = _request(rf, cookie)

    begun = impersonation.begin_in_browser(request, admin, reason="ticket 4711: odd page", by=_by(own))
    answer = _answer()
    impersonation.keep_way_back(request, answer)
    assert answer.cookies[impersonation.ORIGIN_COOKIE].value == cookie
    assert (begun.kind, begun.user_id) == ("cookie", admin.pk)

    browser = Client()
    browser.cookies["__Host-sessionid"] = request.session.session_key
    page = browser.get("/admin/", secure=True)
    assert page.status_code == 200
    assert browser.get("/admin/security/", secure=True).status_code == 403

    back = _request(rf, request.session.session_key)
    back.COOKIES[impersonation.ORIGIN_COOKIE] = cookie
    back.user_session = back.session.user_session
    assert impersonation.stop_in_browser(back, _answer())
    assert back.session.session_key == cookie
    assert UserSession.objects.get(pk=begun.pk).revoked_why == impersonation.STOPPED


def test_cookie_of_somebody_else_is_not_a_way_back(rf: Any) -> None:
    support, other = Person("users.manage.global"), people.SuperuserFactory.create()
    own, cookie = made.cookie_of(support.user)
    _theirs, stolen = made.cookie_of(other)
    request = _request(rf, cookie)
    impersonation.begin_in_browser(
        request, people.AdminFactory.create(), reason="ticket 4711: odd page", by=_by(own)
    )
    back = _request(rf, request.session.session_key)
    back.COOKIES[impersonation.ORIGIN_COOKIE] = stolen
    back.user_session = back.session.user_session

    assert not impersonation.stop_in_browser(back, _answer())
    assert back.session.user_session is None


def _request(rf: Any, cookie: str) -> Any:
    request = rf.get("/admin/")
    request.COOKIES["__Host-sessionid"] = cookie
    request.session = SessionStore(cookie)
    request.user_session = request.session.user_session
    return request


def _answer() -> Any:
    return HttpResponse()


def _by(session: UserSession) -> Actor:
    return sessions.acting(made.HERE, session)
