"""Sessions used from elsewhere: by cookie, by access token, by refresh token, and how they go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import TotpDevice, User
from monitoring.models import AuditEvent
from sessions_security import continuity, impersonation, places, policy, session_check, sessions, tokens
from sessions_security.models import RefreshToken, UserSession
from sessions_security.store import SessionStore
from tests.factories import accounts as people
from tests.factories import sessions_security as made

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)

Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]

AUTH = "/api/v1/auth/"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0 Safari/537.36"
HOME, NEXT_DOOR, FAR = "203.0.113.7", "203.0.200.1", "198.51.100.9"
AT_HOME = replace(made.HERE, address=HOME, agent=FIREFOX)
"""Where every session here begins."""


class Caller:
    """Somebody with an access token or a cookie, who can send it from anywhere."""

    def __init__(self, user: User, kind: str, *, country: str = "") -> None:
        self.user, self.kind = user, kind
        self.client = Client()
        self.headers: dict[str, str] = {}
        with transaction.atomic():
            self.session = made.session_of(user, kind=kind, by=AT_HOME)  # type: ignore[arg-type]
            if kind == "cookie":
                store = SessionStore()
                store.open(self.session)
                self.client.cookies[settings.SESSION_COOKIE_NAME] = store.session_key or ""
            else:
                self.pair = tokens.issue_pair(self.session)
                self.headers = {"Authorization": f"Bearer {self.pair.access_token}"}
        if country:
            UserSession.objects.filter(pk=self.session.pk).update(country=country)

    def get(self, path: str = AUTH + "me", *, address: str = HOME, agent: str = FIREFOX, **more: Any) -> Any:
        headers = {**self.headers, "User-Agent": agent, **more}
        return self.client.get(path, headers=headers, REMOTE_ADDR=address)

    def post(self, path: str, body: Any = None, *, address: str = HOME, agent: str = FIREFOX) -> Any:
        headers = {**self.headers, "User-Agent": agent}
        return self.client.post(
            AUTH + path, json.dumps(body or {}), content_type="application/json", headers=headers,
            REMOTE_ADDR=address,
        )  # fmt: skip

    def prove(self, *, address: str, agent: str = FIREFOX) -> Any:
        """Step up by password at the API, which a cookie may not without its form's proof."""
        body = {"method": "password", "password": people.PASSWORD}
        return self.post("step-up", body, address=address, agent=agent)

    def row(self) -> UserSession:
        return UserSession.objects.get(pk=self.session.pk)


def events(kind: str) -> int:
    """Count them on both connections: what is refused is recorded on one of its own, and tests roll back."""
    types = AuditEvent.objects.filter(type=f"session.{kind}").values_list("pk", flat=True)
    return len({*types, *types.using("audit")})


@pytest.fixture(params=["token", "cookie"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def countries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world of two countries: networks that begin with 203 are in one, all others in the other."""
    monkeypatch.setattr(places, "country_of", lambda address: "CO" if address.startswith("203.") else "PE")


# What is no change


def test_same_place_costs_no_statement_of_its_own(kind: str) -> None:
    caller = Caller(people.BuyerFactory.create(), kind)
    caller.get()

    with CaptureQueriesContext(connection) as queries:
        assert caller.get().status_code == 200

    # The session, with its account, and nothing that has to do with places.
    assert [one["sql"] for one in queries if "usersession" in (one["sql"] or "")][1:] == []
    assert events("moved") == events("challenged") == 0


@pytest.mark.parametrize("address", ["203.0.113.200", NEXT_DOOR])
def test_who_shops_goes_on_near_by_unrecorded(kind: str, address: str) -> None:
    caller = Caller(people.BuyerFactory.create(), kind)

    assert caller.get(address=address).status_code == 200
    assert events("moved") == 0


def test_new_version_of_the_browser_is_no_other_program(kind: str) -> None:
    caller = Caller(people.AdminFactory.create(), kind)

    assert caller.get(agent=FIREFOX.replace("133.0", "134.0")).status_code == 200


def test_machine_is_bound_by_its_networks_and_nothing_else() -> None:
    client, _key = made.machine("0.0.0.0/0")
    with transaction.atomic():
        by = replace(AT_HOME)
        session = sessions.start(client.user, kind="token", amr=("key",), by=by, client=client)
        token = tokens.issue_access(session).access_token
    headers = {"Authorization": f"Bearer {token}", "User-Agent": "other/2"}

    assert Client().get(AUTH + "me", headers=headers, REMOTE_ADDR=FAR).status_code == 200


# What is noted


def test_a_thousand_requests_from_one_other_place_are_one_line() -> None:
    caller = Caller(people.BuyerFactory.create(), "token")
    session = caller.row()
    session.user = caller.user
    request = _request(FAR)

    for _number in range(1_000):
        continuity.check(session, request)
    continuity.check(session, _request("198.18.0.1"))

    assert events("moved") == 2
    recorded = AuditEvent.objects.filter(type="session.moved").first()
    assert recorded is not None
    assert recorded.session_id == str(session.pk)


def test_staff_next_door_is_noted_and_goes_on(kind: str) -> None:
    caller = Caller(people.AdminFactory.create(), kind)

    assert [caller.get(address=NEXT_DOOR).status_code for _again in range(3)] == [200] * 3
    assert events("moved") == 1


# What is challenged


@pytest.mark.parametrize("change", [{"agent": CHROME}, {"agent": ""}, {"address": FAR}])
def test_change_is_challenged_there_and_not_noticed_at_home(
    kind: str, change: dict[str, str], countries: None
) -> None:
    caller = Caller(people.VendorFactory.create(), kind, country="CO")

    for _again in range(3):
        refused = caller.get(**change)
        assert (refused.status_code, refused.json()["error_code"]) == (403, "STEP_UP_REQUIRED")
    assert refused.json()["action"] == "session.continue"
    assert refused.json()["methods"] == ["password"]
    assert caller.get().status_code == 200
    assert events("challenged") == 1
    assert events("ended") == 0


def test_challenged_request_is_no_use_of_the_session(kind: str) -> None:
    caller = Caller(people.BuyerFactory.create(), kind)
    earlier = timezone.now() - timedelta(minutes=5)
    UserSession.objects.filter(pk=caller.session.pk).update(last_seen_at=earlier)

    assert caller.get(agent=CHROME).status_code == 403

    assert caller.row().last_seen_at == earlier


@pytest.mark.parametrize(
    "path", ["", "mfa/devices", "change-password", "mfa/totp/enroll", "passkeys/register/options", "sessions"]
)
def test_everything_else_is_closed_meanwhile(path: str) -> None:
    caller = Caller(people.BuyerFactory.create(), "token")

    for answer in (caller.get(AUTH + path, agent=CHROME), caller.post(path, agent=CHROME)):
        assert answer.status_code in {403, 404, 405}
        assert answer.status_code != 403 or answer.json()["error_code"] == "STEP_UP_REQUIRED"


def test_signing_out_is_open_meanwhile() -> None:
    caller = Caller(people.BuyerFactory.create(), "token")

    assert caller.post("logout", agent=CHROME).status_code == 200
    assert caller.row().revoked_why == "sign_out"


def test_proof_from_there_lets_it_go_on_there_and_at_home(countries: None) -> None:
    caller = Caller(people.BuyerFactory.create(), "token", country="CO")
    assert caller.get(address=FAR).status_code == 403

    assert caller.prove(address=FAR).status_code == 204

    assert caller.row().confirmed_networks == ["198.51.100.0/24"]
    assert caller.get(address="198.51.100.77").status_code == 200
    assert caller.get(address=HOME).status_code == 200
    assert caller.get(address="198.52.0.1").status_code == 403
    assert events("confirmed") == 1


def test_proof_from_another_program_makes_it_the_sessions() -> None:
    caller = Caller(people.BuyerFactory.create(), "token")

    assert caller.prove(address=HOME, agent=CHROME).status_code == 204

    row = caller.row()
    assert (row.agent, row.confirmed_networks) == (CHROME, [])
    assert caller.get(agent=CHROME).status_code == 200
    assert caller.get().status_code == 403


def test_wrong_proof_confirms_nothing(countries: None) -> None:
    caller = Caller(people.BuyerFactory.create(), "token", country="CO")

    wrong = caller.post("step-up", {"method": "password", "password": "guess"}, address=FAR)

    assert wrong.status_code == 401
    assert caller.get(address=FAR).status_code == 403
    assert events("confirmed") == 0


def test_proof_at_home_does_not_count_elsewhere(countries: None) -> None:
    caller = Caller(people.BuyerFactory.create(), "token", country="CO")

    assert caller.prove(address=HOME).status_code == 204

    assert caller.get(address=FAR).status_code == 403
    assert caller.row().confirmed_networks == []


def test_proof_in_one_session_confirms_no_other(countries: None) -> None:
    user = people.BuyerFactory.create()
    one, other = Caller(user, "token", country="CO"), Caller(user, "token", country="CO")

    one.prove(address=FAR)

    assert other.get(address=FAR).status_code == 403


def test_eight_networks_are_kept_and_the_oldest_makes_room() -> None:
    caller = Caller(people.BuyerFactory.create(), "token")
    session = caller.row()
    session.user = caller.user
    for number in [*range(10), 5]:
        session.refresh_from_db(fields=["confirmed_networks"])
        continuity.confirm(session, _request(f"198.{number}.1.1"), method="password")

    kept = caller.row().confirmed_networks

    assert kept == [f"198.{number}.1.0/24" for number in range(2, 10)]
    assert len(kept) == policy.CONFIRMED_NETWORKS


def test_method_that_the_action_does_not_name_confirms_nothing(settings: Any) -> None:
    caller = Caller(people.BuyerFactory.create(), "token")
    session = caller.row()
    session.user = caller.user
    rule = {"methods": ["passkey"], "max_age_seconds": 60}
    settings.STEP_UP = {**settings.STEP_UP, "session.continue": rule}

    continuity.confirm(session, _request(FAR), method="password")

    assert caller.row().confirmed_networks == []


def test_session_that_ended_meanwhile_is_not_confirmed() -> None:
    caller = Caller(people.BuyerFactory.create(), "token")
    session = caller.row()
    session.user = caller.user
    sessions.end(session, by=made.HERE, why="console")

    continuity.confirm(session, _request(FAR), method="password")

    assert caller.row().confirmed_networks == []
    assert events("confirmed") == 0


@pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])
def test_simultaneous_confirmations_are_all_kept(race: Race) -> None:
    caller = Caller(people.BuyerFactory.create(), "token")
    session = caller.row()
    session.user = caller.user

    race(
        [
            partial(continuity.confirm, session, _request(f"198.{number}.1.1"), method="password")
            for number in range(6)
        ]
    )

    assert sorted(caller.row().confirmed_networks) == [f"198.{number}.1.0/24" for number in range(6)]


def test_refresh_goes_on_under_a_challenge_and_what_it_gives_is_challenged(countries: None) -> None:
    caller = Caller(people.BuyerFactory.create(), "token", country="CO")

    given = caller.post("refresh-token", {"refresh_token": caller.pair.refresh_token}, address=FAR)

    assert given.status_code == 200
    caller.headers = {"Authorization": f"Bearer {given.json()['access_token']}"}
    assert caller.get(address=FAR).status_code == 403
    assert caller.get(address=HOME).status_code == 200


# The console


def test_console_leads_to_its_confirm_page_and_a_code_from_there_opens_it() -> None:
    device = people.TotpDeviceFactory.create()
    caller = Caller(device.user, "cookie")
    caller.client = Client(headers={"User-Agent": FIREFOX})
    for form in (
        {"email": device.user.email, "password": people.PASSWORD},
        {"step": "code", "code": people.code_of(device)},
    ):
        caller.client.post("/admin/login/", form, REMOTE_ADDR=HOME)
    caller.session = UserSession.objects.exclude(pk=caller.session.pk).get()
    before = caller.client.cookies[settings.SESSION_COOKIE_NAME].value

    led = caller.get("/admin/security/", address=FAR)
    assert (led.status_code, led["Location"]) == (
        302, "/admin/confirm/?action=session.continue&next=%2Fadmin%2Fsecurity%2F",
    )  # fmt: skip
    assert caller.get(led["Location"], address=FAR).status_code == 200
    TotpDevice.objects.update(last_step=0)  # as if the next step had come
    confirmed = caller.client.post(
        "/admin/confirm/",
        {
            "action": "session.continue",
            "method": "totp",
            "code": people.code_of(device),
            "next": "/admin/",
        },
        headers={"User-Agent": FIREFOX},
        REMOTE_ADDR=FAR,
    )

    assert confirmed.status_code == 302
    assert caller.client.cookies[settings.SESSION_COOKIE_NAME].value != before
    assert caller.get("/admin/security/", address=FAR).status_code == 200
    assert caller.row().confirmed_networks == ["198.51.100.0/24"]
    # The owner's old cookie died with the rotation, as after every step-up.
    old = Client()
    old.cookies[settings.SESSION_COOKIE_NAME] = before
    assert old.get("/admin/security/", headers={"User-Agent": FIREFOX}, REMOTE_ADDR=HOME).status_code == 302


# What ends


@pytest.mark.parametrize("change", [{"agent": CHROME}, {"address": FAR}])
def test_staff_from_another_program_or_country_is_over_everywhere(
    kind: str, change: dict[str, str], countries: None
) -> None:
    caller = Caller(people.AdminFactory.create(), kind, country="CO")

    ended = caller.get(**change)

    assert (ended.status_code, ended.json()["error_code"]) == (401, "SESSION_MOVED")
    assert "WWW-Authenticate" in ended
    assert caller.get().status_code == 401
    assert caller.row().revoked_why == "moved"
    assert events("ended") == 1


def test_console_says_why_it_is_over() -> None:
    caller = Caller(people.SuperuserFactory.create(), "cookie")

    ended = caller.get("/admin/", agent=CHROME)

    assert ended.status_code == 401
    assert "se usó desde otro lugar" in ended.content.decode()
    assert caller.user.email not in ended.content.decode()
    assert caller.get("/admin/")["Location"].startswith("/admin/login/")


def test_stolen_refresh_token_of_the_staff_ends_the_session_unused(countries: None) -> None:
    caller = Caller(people.AdminFactory.create(), "token", country="CO")

    refused = caller.post("refresh-token", {"refresh_token": caller.pair.refresh_token}, address=FAR)

    assert refused.status_code == 401
    assert caller.row().revoked_why == "moved"
    assert not RefreshToken.objects.filter(parent_id__isnull=False).exists()
    assert caller.get().status_code == 401


def test_impersonation_ends_with_any_change() -> None:
    admin = people.SuperuserFactory.create()
    people.grant(admin, "users.manage.global")
    own = made.session_of(admin, kind="cookie", by=AT_HOME)
    by = sessions.acting(AT_HOME, own)
    found = impersonation.begin(own, people.BuyerFactory.create(), reason="ticket 4711", by=by)
    with transaction.atomic():
        headers = {"Authorization": f"Bearer {tokens.issue_access(found).access_token}"}

    answer = Client().get(AUTH + "me", headers={**headers, "User-Agent": FIREFOX}, REMOTE_ADDR=NEXT_DOOR)

    assert (answer.status_code, answer.json()["error_code"]) == (401, "SESSION_MOVED")
    assert UserSession.objects.get(pk=found.pk).revoked_why == "moved"
    assert UserSession.objects.get(pk=own.pk).revoked_at is None


@pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])
def test_simultaneous_requests_from_elsewhere_end_it_once(race: Race) -> None:
    caller = Caller(people.AdminFactory.create(), "token")

    def use() -> int:
        headers = {**caller.headers, "User-Agent": CHROME}
        status: int = Client().get(AUTH + "me", headers=headers, REMOTE_ADDR=HOME).status_code
        return status

    assert race([use] * 8) == [401] * 8
    assert events("ended") == 1


# Assurance


def test_staff_session_of_a_password_alone_is_refused_and_ended(kind: str) -> None:
    user = people.BuyerFactory.create()
    caller = Caller(user, kind)
    # As a role written around the trigger that ends the account's sessions: the epoch is put back by force.
    User.objects.filter(pk=user.pk).update(user_type="ADMIN")
    epoch = User.objects.get(pk=user.pk).auth_epoch
    UserSession.objects.filter(pk=caller.session.pk).update(auth_epoch=epoch)

    assert caller.get().status_code == 401

    assert caller.row().revoked_why == session_check.BELOW
    assert [caller.get().status_code for _again in range(2)] == [401, 401]
    assert events("ended") == 1


def test_refresh_token_of_such_a_session_gives_nothing() -> None:
    caller = Caller(people.AdminFactory.create(), "token")
    UserSession.objects.filter(pk=caller.session.pk).update(amr=["pwd"])

    refused = caller.post("refresh-token", {"refresh_token": caller.pair.refresh_token})

    assert refused.status_code == 401
    assert caller.row().revoked_why == session_check.BELOW


def test_impersonation_on_top_of_such_a_session_is_dead() -> None:
    admin = people.SuperuserFactory.create()
    people.grant(admin, "users.manage.global")
    own = made.session_of(admin, kind="cookie", by=AT_HOME)
    found = impersonation.begin(
        own, people.BuyerFactory.create(), reason="ticket 4711", by=sessions.acting(AT_HOME, own)
    )
    UserSession.objects.filter(pk=own.pk).update(amr=["pwd"])

    assert session_check.by_token(found.pk, found.user_id, address=HOME) is None


def _request(address: str, agent: str = FIREFOX) -> Any:
    return RequestFactory().get("/", REMOTE_ADDR=address, HTTP_USER_AGENT=agent)
