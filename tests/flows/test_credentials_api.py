"""Passwords, addresses and profile, told over HTTP; and what an account gets whose password must change."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import passwords
from accounts.models import User
from monitoring.models import OutboxMessage
from sessions_security.models import StepUpProof, UserSession
from tests.factories import accounts as people

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

AUTH = "/api/v1/auth/"
NEW = "un caballo que canta boleros"


def call(
    method: str, path: str, body: Any = None, *, token: str = "", language: str = "en", **extra: Any
) -> Any:
    headers = {"Accept-Language": language} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = "" if body is None else json.dumps(body)
    return Client().generic(
        method, AUTH + path, data, content_type="application/json", headers=headers, **extra
    )


def post(path: str, body: Any = None, **options: Any) -> Any:
    return call("POST", path, body, **options)


def login(user: User, password: str = people.PASSWORD) -> Any:
    return post("login", {"email": user.email, "password": password})


def token_of(user: User, password: str = people.PASSWORD) -> str:
    return str(login(user, password).json()["access_token"])


def link_in(template: str) -> str:
    message = OutboxMessage.objects.filter(template=template).latest("created_at")
    found = re.search(r"token=(\S+)", json.loads(message.payload or "{}")["text"])
    assert found
    return found.group(1)


def staff_token(user: User) -> str:
    device = people.TotpDeviceFactory.create(user=user, confirmed_at=timezone.now())
    answer = post("admin-login", {"email": user.email, "password": people.PASSWORD}).json()
    body = {"mfa_token": answer["mfa_token"], "method": "totp", "code": people.code_of(device)}
    return str(post("mfa/verify", body).json()["access_token"])


# Changing


def test_changed_password_works_and_everything_older_does_not() -> None:
    user = people.BuyerFactory.create()
    old, other = token_of(user), token_of(user)

    answer = post("change-password", {"current_password": people.PASSWORD, "new_password": NEW}, token=old)

    assert answer.status_code == 200, answer.content
    assert answer["Cache-Control"] == "no-store"
    assert call("GET", "me", token=answer.json()["access_token"]).status_code == 200
    assert {call("GET", "me", token=gone).status_code for gone in (old, other)} == {401}
    assert login(user).status_code == 401
    assert login(user, NEW).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"new_password": NEW}, 422, "VALIDATION_ERROR"),
        ({"current_password": people.PASSWORD}, 422, "VALIDATION_ERROR"),
        ({"current_password": "wrong", "new_password": NEW}, 400, "WRONG_PASSWORD"),
        ({"current_password": people.PASSWORD, "new_password": "passwordpassword"}, 422, "VALIDATION_ERROR"),
        (
            {"current_password": people.PASSWORD, "new_password": NEW, "confirm_password": "x"},
            422,
            "VALIDATION_ERROR",
        ),
        ({"current_password": people.PASSWORD, "new_password": 12345678901234567}, 422, "VALIDATION_ERROR"),
        ({"current_password": people.PASSWORD, "new_password": "\ud800" * 20}, 400, "BAD_REQUEST"),
        ({"current_password": people.PASSWORD, "new_password": "\x00"}, 400, "BAD_REQUEST"),
        ({"current_password": people.PASSWORD, "new_password": "x" * 1_000_000}, 413, "PAYLOAD_TOO_LARGE"),
        ([], 422, "VALIDATION_ERROR"),
    ],
    ids=range(10),
)
def test_refused_change_says_why_and_changes_nothing(body: Any, status: int, code: str) -> None:
    user = people.BuyerFactory.create()
    token = token_of(user)

    answer = post("change-password", body, token=token)

    assert answer.status_code == status, answer.content
    assert answer.json()["error_code"] == code
    assert call("GET", "me", token=token).status_code == 200
    assert login(user).status_code == 200


def test_reason_names_the_field_and_what_is_wrong_with_it() -> None:
    token = token_of(people.BuyerFactory.create())
    body = {"current_password": people.PASSWORD, "new_password": "passwordpassword"}

    details = post("change-password", body, token=token).json()["details"]

    assert [(one["field"], one["error_type"]) for one in details] == [("body -> new_password", "known")]
    assert "list" in details[0]["message"]


def test_who_has_a_factor_must_have_proved_it_just_now() -> None:
    admin = people.AdminFactory.create()
    token = staff_token(admin)
    body = {"current_password": people.PASSWORD, "new_password": "k7-verde"}
    UserSession.objects.update(created_at=timezone.now() - dt.timedelta(minutes=30))
    StepUpProof.objects.update(proved_at=timezone.now() - dt.timedelta(minutes=6))
    answer = post("change-password", body, token=token)
    assert (answer.status_code, answer.json()["error_code"]) == (403, "STEP_UP_REQUIRED")

    StepUpProof.objects.update(proved_at=timezone.now(), bound_at=timezone.now() - dt.timedelta(hours=1))
    assert post("change-password", body, token=token).status_code == 200


# Forgotten


def test_answer_is_the_same_for_known_and_unknown_addresses() -> None:
    user = people.BuyerFactory.create()

    known = post("forgot-password", {"email": user.email}, REMOTE_ADDR="198.51.100.1")
    unknown = post("forgot-password", {"email": "nobody@example.com"}, REMOTE_ADDR="198.51.100.2")

    assert known.status_code == unknown.status_code == 200
    assert known.json() == unknown.json()
    assert known.json()["success"] is True
    assert post("forgot-password", {"email": "x"}).status_code == 422
    assert post("forgot-password", {}).status_code == 422


def test_link_is_validated_and_used_once() -> None:
    user = people.BuyerFactory.create()
    post("forgot-password", {"email": user.email})
    token = link_in("password_reset")
    assert post("validate-reset-token", {"token": token}).json()["valid"] is True
    assert post(f"validate-reset-token?token={token}").json()["valid"] is True
    assert 32 <= len(token) <= 100

    body = {"token": token, "new_password": NEW, "confirm_password": NEW}
    refused = post("reset-password", body | {"new_password": "short", "confirm_password": "short"})
    done = post("reset-password", body)

    assert refused.status_code == 422
    assert done.status_code == 200, done.content
    assert "access_token" not in done.json()
    again = post("reset-password", body)
    assert (again.status_code, again.json()["error_code"]) == (400, "RESET_TOKEN_INVALID")
    assert post("validate-reset-token", {"token": token}).json()["valid"] is False
    assert login(user, NEW).status_code == 200


def test_reset_never_skips_the_second_factor() -> None:
    user = people.BuyerFactory.create()
    people.TotpDeviceFactory.create(user=user)
    post("forgot-password", {"email": user.email})

    post("reset-password", {"token": link_in("password_reset"), "new_password": NEW})

    answer = login(user, NEW)
    assert (answer.status_code, answer.json()["error_code"]) == (401, "MFA_REQUIRED")


def test_pending_sign_in_dies_with_the_reset() -> None:
    user = people.BuyerFactory.create()
    device = people.TotpDeviceFactory.create(user=user)
    pending = login(user).json()["mfa_token"]
    post("forgot-password", {"email": user.email})
    post("reset-password", {"token": link_in("password_reset"), "new_password": NEW})

    answer = post("mfa/verify", {"mfa_token": pending, "method": "totp", "code": people.code_of(device)})

    assert answer.status_code == 401


@pytest.mark.parametrize("path", ["reset-password", "validate-reset-token", "cancel-email-change"])
@pytest.mark.parametrize("token", ["x" * 64, "", 5, None, "x" * 101, "\x00"], ids=range(6))
def test_hostile_tokens_are_answered_quickly(path: str, token: Any) -> None:
    answer = post(path, {"token": token, "new_password": NEW})

    assert answer.status_code in {200, 400, 422}
    assert path != "validate-reset-token" or answer.status_code != 200 or answer.json()["valid"] is False


# Addresses and profile


def test_address_is_changed_by_the_link_in_the_new_mailbox() -> None:
    user = people.BuyerFactory.create()
    token = token_of(user)

    asked = post("change-email", {"email": "new@example.org"}, token=token)
    assert asked.status_code == 202, asked.content
    assert call("GET", "me", token=token).json()["email"] == user.email
    confirmed = post("confirm-email", {"token": link_in("address_confirm")}, token=token)

    assert confirmed.status_code == 200, confirmed.content
    assert confirmed.json()["email"] == "new@example.org"
    assert post("login", {"email": "new@example.org", "password": people.PASSWORD}).status_code == 200
    assert login(user).status_code == 401


def test_present_address_stops_the_change_without_signing_in() -> None:
    user = people.BuyerFactory.create()
    token = token_of(user)
    post("change-email", {"email": "new@example.org"}, token=token)

    stopped = post("cancel-email-change", {"token": link_in("address_change_requested")})

    assert stopped.status_code == 200
    assert post("confirm-email", {"token": link_in("address_confirm")}, token=token).status_code == 400


def test_second_address_comes_and_goes() -> None:
    user = people.BuyerFactory.create()
    token = token_of(user)
    post("recovery-email", {"email": "second@example.org"}, token=token)
    post("confirm-email", {"token": link_in("address_confirm")}, token=token)
    assert call("GET", "profile", token=token).json()["recovery_email"] == "second@example.org"

    assert call("DELETE", "recovery-email", token=token).status_code == 200

    assert call("GET", "profile", token=token).json()["recovery_email"] == ""


def test_old_sign_in_does_not_change_addresses() -> None:
    user = people.BuyerFactory.create()
    token = token_of(user)
    UserSession.objects.update(created_at=timezone.now() - dt.timedelta(minutes=6))

    for method, path in (("POST", "change-email"), ("POST", "recovery-email"), ("DELETE", "recovery-email")):
        answer = call(method, path, {"email": "new@example.org"}, token=token)
        assert (answer.status_code, answer.json()["error_code"]) == (403, "STEP_UP_REQUIRED"), path


def test_profile_takes_no_power() -> None:
    user = people.BuyerFactory.create()
    token = token_of(user)
    body = {
        "nombre": "Eva", "user_type": "SUPERUSER", "email": "x@example.org", "security_clearance_level": 5,
        "email_verified": True, "is_active": False, "recovery_email": "x@example.org",
    }  # fmt: skip

    answer = call("PUT", "profile", body, token=token)

    assert answer.status_code == 200
    stored = User.objects.get(pk=user.pk)
    assert stored.nombre == answer.json()["nombre"] == "Eva"
    assert (stored.user_type, stored.email, stored.email_verified) == ("BUYER", user.email, False)
    assert stored.recovery_email == ""
    assert call("PATCH", "profile", {"language": "en"}, token=token).json()["language"] == "en"
    assert call("PATCH", "profile", {"language": "xx"}, token=token).status_code == 422
    assert call("PATCH", "profile", {"nombre": "a\nb"}, token=token).status_code == 422


# Forced change


def test_account_that_must_change_gets_nothing_else() -> None:
    user = people.BuyerFactory.create()
    stored = passwords.hashed("passwordpassword")
    User.objects.filter(pk=user.pk).update(password=stored, password_changed_at=timezone.now())
    token = token_of(user, "passwordpassword")

    for method, path in (("GET", "profile"), ("POST", "change-email"), ("POST", "send-verification-email")):
        answer = call(method, path, {}, token=token)
        assert (answer.status_code, answer.json()["error_code"]) == (403, "PASSWORD_CHANGE_REQUIRED"), path
    assert (
        Client().get("/api/v1/commissions/", headers={"Authorization": f"Bearer {token}"}).status_code == 403
    )
    assert call("GET", "me", token=token).status_code == 200

    done = post("change-password", {"current_password": "passwordpassword", "new_password": NEW}, token=token)
    assert call("GET", "profile", token=done.json()["access_token"]).status_code == 200
