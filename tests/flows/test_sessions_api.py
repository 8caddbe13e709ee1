"""Where one is signed in, over HTTP: the list, ending one, the others, all; and what the staff may do."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import approvals
from accounts.models import ApprovalRequest, User
from mestore.lib import ids
from monitoring.models import AuditEvent
from sessions_security import everyone, impersonation, tokens
from sessions_security.models import StepUpProof, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made
from tests.harness import caches

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

URL = "/api/v1/sessions"
REASON = {"reason": "reported as stolen"}
OWN_WORDS = {"id", "kind", "device", "address", "country", "created_at", "last_seen_at", "expires_at", "amr",
             "current", "bound"}  # fmt: skip


class Person:
    """Somebody with a token, and their requests."""

    def __init__(self, user: User, *, fresh: bool = True, amr: tuple[str, ...] = ("pwd", "otp")) -> None:
        self.user = user
        with transaction.atomic():
            self.session = made.session_of(user, amr=amr)
            self.pair = tokens.issue_pair(self.session)
        if fresh:
            prove(self.session)
        self.headers = {"Authorization": f"Bearer {self.pair.access_token}"}

    def get(self, path: str = "", **query: Any) -> Any:
        return Client().get(f"{URL}{path}", query, headers=self.headers)

    def delete(self, session: Any) -> Any:
        return Client().delete(f"{URL}/{session}", headers=self.headers)

    def post(self, path: str, body: Any = None) -> Any:
        return Client().post(
            f"/api/v1/{path}", body or {}, content_type="application/json", headers=self.headers
        )

    def is_in(self) -> bool:
        return bool(Client().get("/api/v1/auth/me", headers=self.headers).status_code == 200)


def prove(session: UserSession, *, method: str = "totp") -> None:
    StepUpProof.objects.create(
        session=session, method=method, factor="test", bound_at=session.created_at, proved_at=timezone.now()
    )


def buyer(**values: Any) -> Person:
    return Person(people.BuyerFactory.create(), amr=("pwd",), **values)


def admin(*names: str, **values: Any) -> Person:
    user = people.AdminFactory.create()
    people.grant(user, *names)
    return Person(user, **values)


def stale(user: User) -> None:
    """As if every session and every proof of this account were from an hour ago."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sessions_security_usersession SET created_at = created_at - interval '1 hour' "
            "WHERE user_id = %s",
            [user.pk],
        )
        cursor.execute(
            "UPDATE sessions_security_stepupproof SET proved_at = proved_at - interval '1 hour' "
            "WHERE session_id IN (SELECT id FROM sessions_security_usersession WHERE user_id = %s)",
            [user.pk],
        )


# --- One's own ----------------------------------------------------------------------------------------------


def test_strangers_and_machines_have_no_sessions_to_see() -> None:
    client, _key = made.machine()
    robot = made.machine_bearer(client)

    for path in ("", "/revoke-others", "/revoke-all", f"/{ids.uuid7()}"):
        for send in (Client().get, Client().post, Client().delete):
            assert send(f"{URL}{path}").status_code in {401, 405}
    assert Client().get(URL, headers=robot).status_code == 403
    assert Client().post(f"{URL}/revoke-all", headers=robot).status_code == 403


@pytest.mark.parametrize("slash", ["", "/"])
def test_list_has_ones_own_live_sessions_of_both_kinds_and_nobody_elses(slash: str) -> None:
    me, other = buyer(), buyer()
    browser = made.session_of(me.user, kind="cookie")
    ended = made.session_of(me.user)
    UserSession.objects.filter(pk=ended.pk).update(revoked_at=timezone.now(), revoked_why="test")

    answer = me.get(slash)

    body = answer.json()
    assert answer["Cache-Control"] == "no-store"
    assert [row["id"] for row in body["results"]] == [str(browser.pk), str(me.session.pk)]
    assert body["next"] is None
    assert all(set(row) == OWN_WORDS for row in body["results"])
    assert [row["current"] for row in body["results"]] == [False, True]
    assert [row["kind"] for row in body["results"]] == ["cookie", "token"]
    assert not any(row["bound"] for row in body["results"])
    assert str(other.session.pk) not in answer.content.decode()
    assert me.pair.refresh_token not in answer.content.decode()


def test_device_is_told_in_words_and_the_earlier_end_is_the_end() -> None:
    me = buyer()
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
    UserSession.objects.filter(pk=me.session.pk).update(agent=agent)

    row = Client().get(URL, headers={**me.headers, "User-Agent": agent}).json()["results"][0]

    assert row["device"] in {"Firefox en Linux", "Firefox on Linux"}
    assert me.session.idle_expires_at is not None
    assert row["expires_at"][:16] == me.session.idle_expires_at.isoformat()[:16]
    assert row["address"] == "127.0.0.1"


def test_pages_are_walked_by_cursor_without_gap() -> None:
    me = buyer()
    for _ in range(4):
        made.session_of(me.user)
    seen, query = [], {"limit": "2"}
    for _ in range(3):
        page = me.get(**query).json()
        seen += [row["id"] for row in page["results"]]
        query["cursor"] = page["next"] or ""

    assert query["cursor"] == ""
    assert len(set(seen)) == len(seen) == 5


@pytest.mark.parametrize(
    "query",
    [{"limit": "0"}, {"limit": "101"}, {"limit": "-1"}, {"limit": "x"}, {"limit": "9" * 5000},
     {"limit": "٣"}, {"cursor": "x"}, {"cursor": "\x00"}],
    ids=["none", "more", "less", "word", "huge", "arabic", "cursor", "nul"],
)  # fmt: skip
def test_wrong_query_is_named(query: dict[str, str]) -> None:
    answer = buyer().get(**query)

    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["details"][0]["field"] == f"query -> {next(iter(query))}"


def test_list_is_two_statements_however_many_sessions() -> None:
    me = buyer()
    me.get()
    counts = []
    for _ in range(2):
        made.session_of(me.user)
        with CaptureQueriesContext(connection) as statements:
            me.get()
        counts.append(len([one for one in statements if "signingkey" not in (one["sql"] or "")]))

    assert counts[0] == counts[1] == 2, [one["sql"] for one in statements]  # the session, the list


def test_ended_session_is_out_with_its_next_request_cookie_and_token_alike() -> None:
    me = buyer()
    elsewhere = Person(me.user, amr=("pwd",))
    browser, value = made.cookie_of(me.user)

    assert me.delete(elsewhere.session.pk).status_code == 204
    assert me.delete(browser.pk).status_code == 204

    assert not elsewhere.is_in()
    client = Client()
    client.cookies.load(made.cookies(value))
    assert client.get("/admin/security/").status_code == 302
    renewed = Client().post(
        "/api/v1/auth/refresh-token", {"refresh_token": elsewhere.pair.refresh_token},
        content_type="application/json",
    )  # fmt: skip
    assert renewed.status_code == 401
    assert me.is_in()
    ended = AuditEvent.objects.filter(type="session.ended", target_id=str(elsewhere.session.pk)).get()
    assert (ended.actor_id, ended.session_id) == (str(me.user.pk), str(me.session.pk))


def test_session_of_somebody_else_unknown_and_ended_ones_are_not_there() -> None:
    me, other = buyer(), buyer()
    gone = made.session_of(me.user)
    UserSession.objects.filter(pk=gone.pk).update(revoked_at=timezone.now(), revoked_why="test")

    for target in (other.session.pk, ids.uuid7(), gone.pk):
        assert me.delete(target).status_code == 404
    assert other.is_in()


def test_ending_the_present_session_is_signing_out_and_needs_nothing_fresh() -> None:
    me = buyer(fresh=False)
    stale(me.user)

    assert me.delete(me.session.pk).status_code == 204
    assert not me.is_in()


def test_ending_others_needs_a_factor_of_the_last_fifteen_minutes() -> None:
    me = Person(people.BuyerFactory.create(), fresh=False, amr=("pwd",))
    people.TotpDeviceFactory.create(user=me.user)
    elsewhere = Person(me.user, amr=("pwd",))
    stale(me.user)

    for answer in (
        me.delete(elsewhere.session.pk), me.post("sessions/revoke-others"), me.post("sessions/revoke-all"),
    ):  # fmt: skip
        assert answer.status_code == 403
        problem = answer.json()
        assert problem["error_code"] == "STEP_UP_REQUIRED"
        assert (problem["action"], problem["max_age"]) == ("sessions.revoke", 900)
    assert elsewhere.is_in()


def test_account_without_a_factor_confirms_with_the_password() -> None:
    me = buyer(fresh=False)
    elsewhere = Person(me.user, amr=("pwd",), fresh=False)
    stale(me.user)

    refused = me.delete(elsewhere.session.pk)
    assert (refused.status_code, refused.json()["methods"]) == (403, ["password"])

    proved = me.post("auth/step-up", {"method": "password", "password": people.PASSWORD})
    assert proved.status_code in {200, 204}
    assert me.delete(elsewhere.session.pk).status_code == 204


def test_others_end_and_the_present_one_stays() -> None:
    me = buyer()
    elsewhere = Person(me.user, amr=("pwd",))

    answer = me.post("sessions/revoke-others/")

    assert (answer.status_code, answer.json()) == (200, {"ended": 1})
    assert me.is_in()
    assert not elsewhere.is_in()
    assert me.post("sessions/revoke-others").json() == {"ended": 0}


def test_all_end_with_the_present_one() -> None:
    me = buyer()
    elsewhere = Person(me.user, amr=("pwd",))

    assert me.post("sessions/revoke-all").json() == {"ended": 2}
    assert not me.is_in()
    assert not elsewhere.is_in()


def test_nobody_ends_anything_while_impersonating() -> None:
    support = admin(impersonation.PERMISSION)
    target = Person(people.BuyerFactory.create(), amr=("pwd",))
    begun = support.post("admin/impersonation", {"user_id": str(target.user.pk), "reason": "asked by phone"})
    headers = {"Authorization": f"Bearer {begun.json()['access_token']}"}

    ended = Client().delete(f"{URL}/{target.session.pk}", headers=headers)
    everything = Client().post(f"{URL}/revoke-all", headers=headers)

    assert (ended.status_code, everything.status_code) == (403, 403)
    assert target.is_in()


# --- The staff ----------------------------------------------------------------------------------------------


def test_staff_see_everybodys_and_narrow_by_account_and_kind() -> None:
    one, other = buyer(), buyer()
    made.session_of(one.user, kind="cookie")
    staff = admin()

    def rows(**query: str) -> list[dict[str, Any]]:
        answer = Client().get("/api/v1/admin/sessions/", query, headers=staff.headers)
        assert answer.status_code == 200, answer.content
        found: list[dict[str, Any]] = answer.json()["results"]
        return found

    assert {row["user_id"] for row in rows()} == {str(p.user.pk) for p in (one, other, staff)}
    assert [row["kind"] for row in rows(user=str(one.user.pk))] == ["cookie", "token"]
    assert [row["user_id"] for row in rows(kind="cookie")] == [str(one.user.pk)]
    assert rows(user=str(ids.uuid7())) == []
    assert rows(user=str(one.user.pk))[0]["email"] == one.user.email
    for query in ({"kind": "x"}, {"user": "x"}):
        assert Client().get("/api/v1/admin/sessions", query, headers=staff.headers).status_code == 422


def test_who_is_not_staff_or_holds_no_right_ends_nothing() -> None:
    target = buyer()
    for caller in (buyer(), Person(people.VendorFactory.create(), amr=("pwd",)), admin()):
        caches.forget()
        for path in (
            f"admin/sessions/{target.session.pk}/end", f"admin/users/{target.user.pk}/end-sessions",
            "admin/sessions/end-everyone",
        ):  # fmt: skip
            assert caller.post(path, REASON).status_code == 403
    assert target.is_in()


def test_administrator_ends_one_or_all_of_an_account_for_a_reason() -> None:
    staff, target = admin("users.update.global"), buyer()
    elsewhere = Person(target.user, amr=("pwd",))

    assert staff.post(f"admin/sessions/{target.session.pk}/end", {"reason": "short"}).status_code == 422
    assert staff.post(f"admin/sessions/{target.session.pk}/end").status_code == 422
    assert target.is_in()
    assert staff.post(f"admin/sessions/{target.session.pk}/end", REASON).status_code == 204
    assert not target.is_in()
    assert elsewhere.is_in()
    assert staff.post(f"admin/sessions/{target.session.pk}/end", REASON).status_code == 409
    assert staff.post(f"admin/users/{target.user.pk}/end-sessions/", REASON).json() == {"ended": 1}
    assert not elsewhere.is_in()
    for path in (f"admin/sessions/{ids.uuid7()}/end", f"admin/users/{ids.uuid7()}/end-sessions"):
        assert staff.post(path, REASON).status_code == 404
    event = AuditEvent.objects.filter(type="session.ended", target_id=str(target.session.pk)).get()
    assert event.actor_id == str(staff.user.pk)
    assert REASON["reason"] not in bytes(event.canon).decode()  # personal: sealed


def test_stale_proof_ends_nobodys_session() -> None:
    staff, target = admin("users.update.global", fresh=False), buyer()

    for path in (
        f"admin/sessions/{target.session.pk}/end", f"admin/users/{target.user.pk}/end-sessions",
        "admin/sessions/end-everyone",
    ):  # fmt: skip
        answer = staff.post(path, REASON)
        assert (answer.status_code, answer.json()["error_code"]) == (403, "STEP_UP_REQUIRED")
        assert answer.json()["action"] == "users.end_sessions"
    assert target.is_in()


def test_nobody_ends_sessions_of_somebody_beside_or_above_them_by_any_door() -> None:
    staff = admin("users.update.global")
    peer, above = admin(), Person(people.SuperuserFactory.create())

    for target in (peer, above):
        for path in (f"admin/sessions/{target.session.pk}/end", f"admin/users/{target.user.pk}/end-sessions"):
            assert staff.post(path, REASON).status_code == 403
        assert target.is_in()
    assert (
        AuditEvent.objects.using("audit")
        .filter(type="user.administration_refused", actor_id=str(staff.user.pk))
        .exists()
    )
    # One's own is one's own, at any rank.
    elsewhere = Person(staff.user)
    assert staff.post(f"admin/sessions/{elsewhere.session.pk}/end", REASON).status_code == 204


def test_everybody_is_signed_out_by_two_people_only() -> None:
    asker = admin(everyone.ASKING)
    second_user = people.SuperuserFactory.create()
    people.grant(second_user, everyone.APPROVING)
    second, bystander = Person(second_user), buyer()

    asked = asker.post("admin/sessions/end-everyone", {"reason": "keys may have leaked"})
    assert asked.status_code == 202
    assert bystander.is_in()
    assert asker.post("admin/sessions/end-everyone", {"reason": "keys may have leaked"}).status_code == 409
    request = UUID(asked.json()["id"])
    assert asker.post(f"admin/approvals/{request}/approve").status_code == 403

    approved = second.post(f"admin/approvals/{request}/approve")

    assert (approved.status_code, approved.json()["state"]) == (200, "done"), approved.content
    assert not any(one.is_in() for one in (asker, second, bystander))
    assert ApprovalRequest.objects.get(pk=request).action == everyone.PROCEDURE
    assert approvals.asked_by(asker.user).count() == 1
