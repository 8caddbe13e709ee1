"""Signing in, being there and leaving, told over HTTP."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import TotpDevice, User
from monitoring.models import AuditEvent
from sessions_security import keys, signin, tokens
from sessions_security.models import PendingSignIn, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)
committed = pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])

AUTH = "/api/v1/auth/"
Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]


def post(path: str, body: Any, *, client: Client | None = None, language: str = "es", **extra: Any) -> Any:
    headers = {"Accept-Language": language} | extra.pop("headers", {})
    return (client or Client()).post(
        AUTH + path, json.dumps(body), content_type="application/json", headers=headers, **extra
    )


def login(user: User, path: str = "login", **changes: Any) -> Any:
    return post(path, {"email": user.email, "password": people.PASSWORD} | changes)


def me(access_token: str) -> Any:
    return Client().get(AUTH + "me", headers={"Authorization": f"Bearer {access_token}"})


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(response.content)
    assert (response.status_code, body["error_code"]) == (status, code), body
    assert response["Content-Type"] == "application/problem+json"
    return body


def staff_with_device(factory: Any = people.AdminFactory) -> tuple[User, TotpDevice]:
    user = factory.create()
    return user, people.TotpDeviceFactory.create(user=user)


def mfa_token(user: User, path: str = "admin-login") -> str:
    token: str = problem(login(user, path), 401, "MFA_REQUIRED")["mfa_token"]
    return token


def strangers_may(monkeypatch: pytest.MonkeyPatch, requests: int) -> None:
    """Give strangers a small budget that does not refill while a slow test runs."""
    monkeypatch.setattr(settings, "RATE_LIMITS", {**settings.RATE_LIMITS, "anonymous": [(requests, 86_400)]})


def wrong_code(device: TotpDevice) -> str:
    """Six digits that are the code of no accepted step."""
    accepted = {people.code_of(device, steps=steps) for steps in (-2, -1, 0, 1)}
    return next(code for code in ("000000", "111111", "222222", "333333", "444444") if code not in accepted)


# Not getting in


def test_missing_token_is_401_and_says_how() -> None:
    response = Client().get(AUTH + "me")

    problem(response, 401, "UNAUTHORIZED")
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer mock-token", "bearer a.b.c", "Bearer " + "a" * 5_000]
)
def test_bad_token_is_401(header: str) -> None:
    response = Client().get(AUTH + "me", headers={"Authorization": header})

    problem(response, 401, "UNAUTHORIZED")
    assert response["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_bad_tokens_use_up_the_strangers_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 3
    strangers_may(monkeypatch, limit)
    client = Client(headers={"Authorization": "Bearer mock-token"})

    statuses = [client.get(AUTH + "me").status_code for _attempt in range(limit + 1)]

    assert statuses == [401] * limit + [429]
    refused = Client().get(AUTH + "me")
    assert int(refused["Retry-After"]) >= 1
    assert refused["X-RateLimit-Limit"] == str(limit)
    other_network = Client().get(AUTH + "me", REMOTE_ADDR="198.51.100.1")
    assert other_network.status_code == 401


def test_malformed_requests_use_it_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    strangers_may(monkeypatch, 3)

    statuses = [post("login", {}).status_code for _attempt in range(4)]

    assert statuses == [422, 422, 422, 429]


def test_signed_in_callers_have_the_budget_of_their_role() -> None:
    response = Client().get(AUTH + "me", headers=made.bearer(people.VendorFactory.create()))

    assert response["X-RateLimit-Limit"] == "500"
    assert response["X-RateLimit-Remaining"] == "499"


@pytest.mark.parametrize("path", ["login", "admin-login"])
def test_unknown_name_and_wrong_password_read_alike(path: str) -> None:
    user = people.BuyerFactory.create()

    wrong = post(path, {"email": user.email, "password": "wrong"})
    unknown = post(path, {"email": "nobody@example.com", "password": "wrong"})

    bodies = [problem(response, 401, "UNAUTHORIZED") for response in (wrong, unknown)]
    for varying in ("request_id", "timestamp"):
        assert bodies[0].pop(varying)
        assert bodies[1].pop(varying)
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "a@example.com"},
        {"email": "not an address", "password": "x"},
        {"email": "a@example.com", "password": ""},
        {"email": "a@example.com", "password": 12345678},
        {"email": "a@example.com", "password": 1.5},
        {"email": "a@example.com", "password": ["x"]},
        {"email": "a@example.com", "password": None},
        {"email": ["a@example.com"], "password": "x"},
        [],
        "text",
        None,
    ],
)
def test_malformed_sign_in_is_422_and_counted(body: Any) -> None:
    response = post("login", body)

    details = problem(response, 422, "VALIDATION_ERROR")["details"]
    assert all(detail["field"].startswith("body") for detail in details)
    assert response["X-RateLimit-Limit"]


def test_sign_in_that_is_not_json_is_refused_and_counted() -> None:
    broken = Client().post(AUTH + "login", "{", content_type="application/json")
    form = Client().post(AUTH + "login", {"email": "a@example.com"})

    problem(broken, 400, "BAD_REQUEST")
    problem(form, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert broken["X-RateLimit-Limit"]


def test_attempts_on_one_account_are_limited_wherever_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    user = people.BuyerFactory.create()
    limit = 3
    monkeypatch.setattr(
        settings, "SIGN_IN_RATE_LIMITS", {"network": [(30, 60)], "account": [(limit, 86_400)]}
    )

    answers = [
        post("login", {"email": user.email, "password": people.PASSWORD}, REMOTE_ADDR=f"198.51.100.{number}")
        for number in range(limit + 1)
    ]

    assert [answer.status_code for answer in answers] == [200] * limit + [429]


def test_closed_account_cannot_sign_in() -> None:
    user = people.BuyerFactory.create()
    User.objects.filter(pk=user.pk).update(is_active=False)

    problem(login(user), 401, "UNAUTHORIZED")


def test_machine_account_has_no_password_door() -> None:
    user = people.UserFactory.create(user_type="SYSTEM")

    problem(login(user), 401, "UNAUTHORIZED")
    problem(login(user, "admin-login"), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("factory", [people.AdminFactory, people.SuperuserFactory])
def test_staff_are_sent_to_their_own_entrance_only_after_the_right_password(factory: Any) -> None:
    user, _device = staff_with_device(factory)

    problem(login(user, password="wrong"), 401, "UNAUTHORIZED")
    problem(login(user), 403, "USE_ADMIN_LOGIN")

    assert not UserSession.objects.exists()
    assert AuditEvent.objects.using("audit").filter(type="auth.sign_in.refused").exists()


@pytest.mark.parametrize("factory", [people.BuyerFactory, people.VendorFactory])
def test_others_are_refused_at_the_administrators_entrance(factory: Any) -> None:
    user = factory.create()

    problem(login(user, "admin-login", password="wrong"), 401, "UNAUTHORIZED")
    problem(login(user, "admin-login"), 403, "FORBIDDEN")

    assert not UserSession.objects.exists()


@pytest.mark.parametrize("factory", [people.AdminFactory, people.SuperuserFactory])
def test_staff_without_a_factor_are_refused_with_a_clear_code(factory: Any) -> None:
    problem(login(factory.create(), "admin-login"), 403, "MFA_ENROLMENT_REQUIRED")

    assert not UserSession.objects.exists()


# Buyers and vendors


@pytest.mark.parametrize("factory", [people.BuyerFactory, people.VendorFactory])
def test_sign_in_answers_the_token_response_of_the_contract(factory: Any) -> None:
    user = factory.create()

    response = login(user)

    body = response.json()
    assert response.status_code == 200
    assert set(body) == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert (body["token_type"], body["expires_in"]) == ("bearer", settings.ACCESS_TOKEN_SECONDS)
    assert body["user"] == {
        "id": str(user.pk),
        "email": user.email,
        "user_type": user.user_type,
        "nombre": user.nombre,
        "is_active": True,
        "is_verified": False,
    }
    assert set(response.cookies) == {"__Host-device"}  # no session: the tokens are that
    assert response["Cache-Control"] == "no-store"
    assert me(body["access_token"]).json() == {
        "id": str(user.pk),
        "email": user.email,
        "nombre": user.nombre,
        "user_type": user.user_type,
        "email_verified": False,
        "phone_verified": False,
        "is_active": True,
        "is_verified": False,
    }


@pytest.mark.parametrize("path", ["login", "login/"])
def test_both_slashes_answer(path: str) -> None:
    assert login(people.BuyerFactory.create(), path).status_code == 200


def test_name_is_found_in_any_spelling() -> None:
    user = people.BuyerFactory.create(email="ana@example.com")

    assert login(user, email="ANA@Example.com").status_code == 200


def test_no_secret_is_stored_or_recorded_in_clear() -> None:
    user = people.BuyerFactory.create()
    body = login(user).json()

    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if table.startswith(("sessions_security_", "audit_")):
                cursor.execute(f"SELECT string_agg(t::text, '') FROM \"{table}\" t")  # noqa: S608  # names from the catalogue
                held = cursor.fetchone()[0] or ""
                for secret in (body["access_token"], body["refresh_token"], people.PASSWORD):
                    assert secret not in held
                    assert secret.encode().hex() not in held


def test_token_in_the_query_opens_nothing() -> None:
    token = login(people.BuyerFactory.create()).json()["access_token"]

    assert Client().get(AUTH + "me", {"access_token": token, "token": token}).status_code == 401


@committed
def test_sign_in_takes_at_most_twelve_statements_and_a_read_one() -> None:
    user = people.BuyerFactory.create()
    keys.ring()
    login(user)  # the connection pool and the keys are warm, as in a running service

    with (
        CaptureQueriesContext(connection) as sign_in,
        CaptureQueriesContext(connections["audit"]) as refusals,
    ):
        token = login(user).json()["access_token"]
    with CaptureQueriesContext(connection) as read:
        assert me(token).status_code == 200

    def ours(context: CaptureQueriesContext) -> list[str]:
        return [q["sql"] for q in context.captured_queries if q["sql"] not in {"BEGIN", "COMMIT"}]

    assert len(ours(sign_in)) + len(ours(refusals)) <= 12, ours(sign_in)
    assert len(ours(read)) == 1, ours(read)


# The second factor


@committed
def test_password_is_not_enough_when_a_factor_came_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    user = people.BuyerFactory.create()
    through = signin.open_tokens

    def later(*args: Any, **named: Any) -> signin.SignedIn:
        # The owner confirms an application between the password's answer and the session's beginning.
        people.TotpDeviceFactory.create(user=user)
        return through(*args, **named)

    monkeypatch.setattr(signin, "open_tokens", later)

    assert login(user).status_code == 401
    assert not UserSession.objects.filter(user=user).exists()


def test_administrator_signs_in_with_password_and_code() -> None:
    user, device = staff_with_device()

    first = problem(login(user, "admin-login"), 401, "MFA_REQUIRED")
    second = post(
        "mfa/verify", {"mfa_token": first["mfa_token"], "method": "totp", "code": people.code_of(device)}
    )

    assert first["methods"] == ["totp"]
    assert "access_token" not in first
    assert second.status_code == 200
    assert second.json()["user"]["user_type"] == "ADMIN"
    assert me(second.json()["access_token"]).status_code == 200
    assert UserSession.objects.get().amr == ["pwd", "otp"]


def test_buyer_with_a_confirmed_device_is_asked_too() -> None:
    user = people.BuyerFactory.create()
    device = people.TotpDeviceFactory.create(user=user)

    token = mfa_token(user, "login")

    assert post("mfa/verify", {"mfa_token": token, "code": people.code_of(device)}).status_code == 200


def test_unconfirmed_device_is_not_asked_for() -> None:
    user = people.BuyerFactory.create()
    people.TotpDeviceFactory.create(user=user, confirmed=False, confirmed_at=None)

    assert login(user).status_code == 200


def test_password_step_alone_opens_nothing() -> None:
    user, _device = staff_with_device()

    assert me(mfa_token(user)).status_code == 401
    assert not UserSession.objects.exists()


@pytest.mark.parametrize("token", ["x", "a" * 43, "é"])
def test_invented_mfa_token_is_refused(token: str) -> None:
    problem(post("mfa/verify", {"mfa_token": token, "code": "123456"}), 401, "MFA_TOKEN_INVALID")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"mfa_token": "x"},
        {"mfa_token": "x", "code": "1", "method": "sms"},
        {"mfa_token": "x", "code": 123456},
    ],
)
def test_malformed_second_step_is_422(body: dict[str, Any]) -> None:
    problem(post("mfa/verify", body), 422, "VALIDATION_ERROR")


def test_wrong_code_is_refused_and_the_right_one_still_works() -> None:
    user, device = staff_with_device()
    token = mfa_token(user)

    assert post("mfa/verify", {"mfa_token": token, "code": wrong_code(device)}).status_code == 401
    assert post("mfa/verify", {"mfa_token": token, "code": people.code_of(device)}).status_code == 200


@pytest.mark.parametrize("code", ["12345", "1234567", "१२३४५६", "+12345", "12 456", ""])
def test_slip_of_the_finger_costs_no_attempt(code: str) -> None:
    user, _device = staff_with_device()

    answer = post("mfa/verify", {"mfa_token": mfa_token(user), "code": code})

    assert answer.status_code in {400, 422}
    assert PendingSignIn.objects.get().attempts == 0


def test_mfa_token_works_once() -> None:
    user, device = staff_with_device()
    token = mfa_token(user)
    assert post("mfa/verify", {"mfa_token": token, "code": people.code_of(device)}).status_code == 200
    TotpDevice.objects.update(last_step=0)  # as if the code were fresh

    replay = post("mfa/verify", {"mfa_token": token, "code": people.code_of(device)})

    problem(replay, 401, "MFA_TOKEN_INVALID")
    assert UserSession.objects.count() == 1


def test_sixth_attempt_is_refused_even_with_the_right_code() -> None:
    user, device = staff_with_device()
    token = mfa_token(user)
    for _attempt in range(5):
        assert post("mfa/verify", {"mfa_token": token, "code": wrong_code(device)}).status_code in {401, 429}

    sixth = post("mfa/verify", {"mfa_token": token, "code": people.code_of(device)})

    problem(sixth, 401, "MFA_TOKEN_INVALID")
    assert not UserSession.objects.exists()


def test_mfa_token_expires() -> None:
    user, device = staff_with_device()
    token = mfa_token(user)
    PendingSignIn.objects.update(expires_at=F("created_at") - timedelta(seconds=1))

    problem(
        post("mfa/verify", {"mfa_token": token, "code": people.code_of(device)}), 401, "MFA_TOKEN_INVALID"
    )


@pytest.mark.parametrize("change", [{"password": "!other"}, {"is_active": False}])
def test_mfa_token_dies_when_the_account_changes(change: dict[str, Any]) -> None:
    user, device = staff_with_device()
    token = mfa_token(user)
    User.objects.filter(pk=user.pk).update(**change)

    problem(
        post("mfa/verify", {"mfa_token": token, "code": people.code_of(device)}), 401, "MFA_TOKEN_INVALID"
    )


def test_mfa_token_of_the_console_does_not_work_at_the_api() -> None:
    user, device = staff_with_device()
    token = mfa_token(user)
    PendingSignIn.objects.update(purpose="console")

    problem(
        post("mfa/verify", {"mfa_token": token, "code": people.code_of(device)}), 401, "MFA_TOKEN_INVALID"
    )


@committed
def test_one_code_sent_many_times_at_once_opens_one_session(race: Race) -> None:
    user, device = staff_with_device()
    token, code = mfa_token(user), people.code_of(device)

    answers = race([partial(post, "mfa/verify", {"mfa_token": token, "code": code})] * 5)

    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401]
    assert UserSession.objects.count() == 1


# Refreshing


def test_refresh_answers_new_tokens_and_no_account() -> None:
    first = login(people.BuyerFactory.create()).json()

    second = post("refresh-token", {"refresh_token": first["refresh_token"]})

    assert second.status_code == 200
    assert second.json()["user"] is None
    assert second.json()["refresh_token"] != first["refresh_token"]
    assert me(second.json()["access_token"]).status_code == 200
    problem(post("refresh-token", {"refresh_token": first["refresh_token"]}), 409, "REFRESH_TOKEN_JUST_USED")


@pytest.mark.parametrize(
    "body", [{}, {"refresh_token": ""}, {"refresh_token": 5}, {"refresh_token": "a" * 129}]
)
def test_malformed_refresh_is_422(body: dict[str, Any]) -> None:
    problem(post("refresh-token", body), 422, "VALIDATION_ERROR")


def test_invented_refresh_token_is_401() -> None:
    problem(post("refresh-token", {"refresh_token": "a" * 43}), 401, "UNAUTHORIZED")


# Leaving


def logout(access_token: str, body: Any = None, **extra: Any) -> Any:
    return post("logout", body or {}, headers={"Authorization": f"Bearer {access_token}"}, **extra)


def test_sign_out_needs_a_session() -> None:
    problem(post("logout", {}), 401, "UNAUTHORIZED")


def test_api_description_names_both_ways_to_prove_who_is_calling() -> None:
    described = Client().get("/api/schema/").json()

    assert set(described["components"]["securitySchemes"]) == {"bearer", "console_cookie"}


def test_after_sign_out_access_and_refresh_token_are_dead_on_the_next_request() -> None:
    user = people.BuyerFactory.create()
    one, other = login(user).json(), login(user).json()

    response = logout(one["access_token"])

    assert response.status_code == 200
    assert response.json()["success"] is True
    problem(me(one["access_token"]), 401, "UNAUTHORIZED")
    problem(logout(one["access_token"]), 401, "UNAUTHORIZED")
    problem(post("refresh-token", {"refresh_token": one["refresh_token"]}), 401, "UNAUTHORIZED")
    assert me(other["access_token"]).status_code == 200


def test_sign_out_without_a_body_works() -> None:
    token = login(people.BuyerFactory.create()).json()["access_token"]

    response = Client().generic("POST", AUTH + "logout/", headers={"Authorization": f"Bearer {token}"})

    assert response.status_code == 200


def test_sign_out_everywhere_ends_every_session_of_the_account() -> None:
    user = people.BuyerFactory.create()
    one, other = login(user).json(), login(user).json()

    assert logout(one["access_token"], {"revoke_all": True}).status_code == 200

    problem(me(other["access_token"]), 401, "UNAUTHORIZED")
    problem(post("refresh-token", {"refresh_token": other["refresh_token"]}), 401, "UNAUTHORIZED")


def test_revoke_all_must_be_a_truth_value() -> None:
    token = login(people.BuyerFactory.create()).json()["access_token"]

    problem(logout(token, {"revoke_all": "perhaps"}), 422, "VALIDATION_ERROR")


def test_closing_the_account_by_update_kills_its_tokens_on_the_next_request() -> None:
    user = people.BuyerFactory.create()
    body = login(user).json()
    assert me(body["access_token"]).status_code == 200

    User.objects.filter(pk=user.pk).update(is_active=False)

    problem(me(body["access_token"]), 401, "UNAUTHORIZED")
    problem(post("refresh-token", {"refresh_token": body["refresh_token"]}), 401, "UNAUTHORIZED")


def test_new_role_is_in_force_on_the_next_request() -> None:
    user = people.BuyerFactory.create()
    token = login(user).json()["access_token"]

    User.objects.filter(pk=user.pk).update(user_type="VENDOR")

    problem(me(token), 401, "UNAUTHORIZED")


def test_use_is_noted_after_a_minute() -> None:
    user = people.BuyerFactory.create()
    token = login(user).json()["access_token"]
    UserSession.objects.update(last_seen_at=F("last_seen_at") - timedelta(minutes=2))
    before = UserSession.objects.get().last_seen_at

    me(token)

    assert UserSession.objects.get().last_seen_at > before


# The console's cookie at the API


def browser(user: User, **options: Any) -> tuple[UserSession, Client]:
    session, value = made.cookie_of(user)
    client = Client(**options)
    client.cookies.load(made.cookies(value))
    return session, client


def test_cookie_opens_reading() -> None:
    _session, client = browser(people.AdminFactory.create())

    assert client.get(AUTH + "me").json()["user_type"] == "ADMIN"


def test_cookie_without_csrf_proof_changes_nothing() -> None:
    session, client = browser(people.AdminFactory.create(), enforce_csrf_checks=True)

    problem(post("logout", {}, client=client), 403, "CSRF_FAILED")

    session.refresh_from_db()
    assert session.revoked_at is None


def test_sign_out_by_cookie_kills_it_and_asks_the_browser_to_forget() -> None:
    session, client = browser(people.AdminFactory.create())
    value = client.cookies[settings.SESSION_COOKIE_NAME].value

    response = post("logout", {}, client=client)

    assert response.status_code == 200
    assert '"cookies"' in response["Clear-Site-Data"]
    session.refresh_from_db()
    assert session.revoked_why == "sign_out"
    replay = Client()
    replay.cookies.load(made.cookies(value))
    problem(replay.get(AUTH + "me"), 401, "UNAUTHORIZED")


def test_bad_bearer_is_not_saved_by_a_good_cookie() -> None:
    _session, client = browser(people.AdminFactory.create())

    problem(client.get(AUTH + "me", headers={"Authorization": "Bearer x"}), 401, "UNAUTHORIZED")


# Machines


def ask_token(client_id: str, key: str, body: Any = None, **extra: Any) -> Any:
    basic = base64.b64encode(f"{client_id}:{key}".encode()).decode()
    return Client().post(
        AUTH + "token",
        body if body is not None else {"grant_type": "client_credentials"},
        headers={"Authorization": f"Basic {basic}"},
        **extra,
    )


@pytest.fixture
def form() -> dict[str, str]:
    return {"content_type": "application/x-www-form-urlencoded"}


def test_machine_receives_a_token_that_works_and_nothing_to_refresh(form: dict[str, str]) -> None:
    client, key = made.machine()

    response = ask_token(client.client_id, key, "grant_type=client_credentials", **form)
    as_json = ask_token(
        client.client_id, key, {"grant_type": "client_credentials"}, content_type="application/json"
    )

    assert set(response.json()) == {"access_token", "token_type", "expires_in"}
    assert me(response.json()["access_token"]).json()["user_type"] == "SYSTEM"
    assert as_json.status_code == 200


def test_machine_with_a_wrong_key_is_refused(form: dict[str, str]) -> None:
    client, _key = made.machine()

    response = ask_token(client.client_id, "wrong", "grant_type=client_credentials", **form)

    problem(response, 401, "INVALID_CLIENT")
    assert response["WWW-Authenticate"].startswith("Basic")


def test_machine_from_another_network_is_refused(form: dict[str, str]) -> None:
    client, key = made.machine("192.0.2.0/24")

    problem(
        ask_token(client.client_id, key, "grant_type=client_credentials", **form),
        403,
        "CLIENT_NETWORK_NOT_ALLOWED",
    )


def test_token_of_a_machine_does_not_travel_to_another_network() -> None:
    client, _key = made.machine()
    headers = made.machine_bearer(client)

    assert Client().get(AUTH + "me", headers=headers).status_code == 200
    problem(Client().get(AUTH + "me", headers=headers, REMOTE_ADDR="198.51.100.1"), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("body", ["", "grant_type=password", "grant_type=refresh_token"])
def test_only_client_credentials_are_granted(body: str, form: dict[str, str]) -> None:
    client, key = made.machine()

    problem(ask_token(client.client_id, key, body, **form), 422, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic !!", "Basic " + base64.b64encode(b"no colon").decode(), "Basic /w==", "Basic Og=="],
)
def test_malformed_basic_header_is_refused(header: str) -> None:
    problem(Client().post(AUTH + "token", headers={"Authorization": header}), 401, "INVALID_CLIENT")


# Keys and words


def test_published_keys_verify_our_tokens_and_hold_nothing_private() -> None:
    response = Client().get("/.well-known/jwks.json")

    assert response["Cache-Control"] == "public, max-age=60"
    (key,) = response.json()["keys"]
    assert set(key) == {"kty", "crv", "use", "alg", "kid", "x"}
    problem(Client().post("/.well-known/jwks.json"), 405, "METHOD_NOT_ALLOWED")


def test_forged_token_is_recorded_an_expired_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    token = login(people.BuyerFactory.create()).json()["access_token"]
    header, payload, signature = token.split(".")
    forged = f"{header}.{payload}.{signature[:-4]}AAAA"
    refusals = AuditEvent.objects.using("audit").filter(type="auth.token.refused")

    assert me(forged).status_code == 401
    assert refusals.count() == 1

    an_hour_later = time.time() + 3_600
    monkeypatch.setattr(tokens, "time", SimpleNamespace(time=lambda: an_hour_later))
    assert me(token).status_code == 401
    assert refusals.count() == 1


def test_english_is_spoken_when_asked_for() -> None:
    answer = post("login", {"email": "a@example.com", "password": "x"}, language="en")

    assert answer.json()["error_message"] == "Incorrect e-mail or password"
