"""Opening an account and proving its addresses, told over HTTP."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from accounts.models import User, VendorProfile
from monitoring import delivery
from monitoring.models import OutboxMessage
from tests.factories import accounts as people

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

PASSWORD = "four blue lamps on the river"
VENDOR = {
    "email": "tienda@example.com",
    "password": PASSWORD,
    "full_name": "Ana María Gómez",
    "phone": "300 123 4567",
    "business_name": "Tienda de Ana",
    "city": "Medellín",
    "business_type": "persona_natural",
    "primary_category": "hogar",
    "terms_accepted": True,
}
VENDEDOR = {
    "email": "tienda@example.com",
    "password": PASSWORD,
    "nombre": "Ana",
    "apellido": "Gómez",
    "cedula": "1032456789",
    "telefono": "+57 300 123 4567",
    "ciudad": "Cali",
    "empresa": "Tienda de Ana",
    "direccion": "Calle 1 # 2-3",
}


def post(path: str, body: Any, token: str = "") -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Client().post(
        "/api/v1/" + path, json.dumps(body), content_type="application/json", headers=headers
    )


def register(email: str = "ana@example.com", **changes: Any) -> Any:
    return post("auth/register", {"email": email, "password": PASSWORD} | changes)


def token_of(answer: Any) -> str:
    assert answer.status_code == 201, answer.content
    token: str = answer.json()["access_token"]
    return token


def code_received() -> str:
    delivery.send(OutboxMessage.objects.latest("created_at").pk)
    found = re.search(r"\b[0-9]{6}\b", str(mail.outbox[-1].body))
    assert found
    return found.group()


# Registration


@pytest.mark.parametrize("role", ["ADMIN", "SUPERUSER", "SYSTEM", "admin", "", None, 1, ["BUYER"]])
def test_privileged_or_unknown_role_is_422(role: Any) -> None:
    answer = register(user_type=role)

    assert answer.status_code == 422
    assert not User.objects.exists()


def test_fields_nobody_asked_for_change_nothing() -> None:
    answer = register(
        is_staff=True, role="SUPERUSER", security_clearance_level=5, account_verified=True,
        email_verified=True, is_verified=True, id="00000000-0000-0000-0000-000000000001", source="x",
        auth_epoch=9,
    )  # fmt: skip

    token_of(answer)
    user = User.objects.get()
    assert (user.user_type, user.security_clearance_level, user.auth_epoch) == ("BUYER", 3, 1)
    assert (user.account_verified, user.email_verified) == (False, False)


@pytest.mark.parametrize(
    "body",
    [
        {}, [], None, "x",
        {"email": "ana@example.com"},
        {"email": "ana@example.com", "password": "short"},
        {"email": "ana@example.com", "password": ["x"]},
        {"email": "ana@example.com", "password": 123456789012345678},
        {"email": "ana@example.com", "password": PASSWORD, "nombre": "Ana\nGómez"},
        {"email": "ana@example.com", "password": PASSWORD, "nombre": "A" * 101},
        {"email": "ana@example.com", "password": PASSWORD, "nombre": {"a": 1}},
        {"email": "ana@example.com", "password": PASSWORD, "telefono": "12"},
    ],
)  # fmt: skip
def test_malformed_registration_is_422(body: Any) -> None:
    answer = post("auth/register", body)

    assert answer.status_code == 422, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert not User.objects.exists()


@pytest.mark.parametrize("text", [PASSWORD + "\x00", "\ud800" * 20])
def test_text_that_is_none_is_400(text: str) -> None:
    assert register(password=text).status_code == 400
    assert register(email="ana@example.com" + text[-1]).status_code == 400


def test_huge_body_is_413() -> None:
    assert register(password="x" * 1_000_000).status_code == 413


def test_ten_thousand_emoji_are_refused_quickly() -> None:
    assert register(password="🙂" * 700).status_code in {413, 422}


def test_buyer_registers_is_signed_in_and_cannot_register_twice() -> None:
    answer = register(nombre="Ana", telefono="3001234567")

    body = answer.json()
    assert answer.status_code == 201
    assert set(body) == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert body["user"] is None
    me = Client().get("/api/v1/auth/me", headers={"Authorization": f"Bearer {body['access_token']}"}).json()
    assert (me["email"], me["user_type"], me["nombre"]) == ("ana@example.com", "BUYER", "Ana")
    assert User.objects.get().telefono == "+573001234567"

    again = register()
    assert (again.status_code, again.json()["error_code"]) == (400, "BAD_REQUEST")
    assert register().status_code == 429


def test_vendor_registers_at_the_common_entrance() -> None:
    token_of(register(user_type="VENDOR"))

    assert VendorProfile.objects.get().vendor_status == "pending_approval"


def test_hidden_registration_is_202_for_both(settings: Any) -> None:
    settings.REGISTRATION_HIDE_EXISTING = True
    people.BuyerFactory.create(email="old@example.com")

    answers = [register("old@example.com"), register("new@example.com")]
    answers.append(post("vendors/register", VENDOR))
    answers.append(post("vendedores/registro", VENDEDOR | {"email": "other@example.com"}))

    assert [answer.status_code for answer in answers] == [202] * 4
    assert len({answer.content for answer in answers}) == 1
    assert post("vendedores/registro", VENDEDOR).status_code == 429, "the second try on one address"


def test_vendor_registers_with_a_shop() -> None:
    answer = post("vendors/register", VENDOR)

    body = answer.json()
    user = User.objects.get()
    assert answer.status_code == 201, body
    assert body["vendor_id"] == str(user.pk)
    assert (body["full_name"], body["business_name"]) == ("Ana María Gómez", "Tienda de Ana")
    assert body["status"] == "pending_approval"
    assert set(body["next_steps"]) == {"add_products", "view_dashboard"}
    assert {"email", "message", "created_at"} <= set(body)
    assert (user.nombre, user.apellido, user.telefono) == ("Ana", "María Gómez", "+573001234567")
    assert post("vendors/register", VENDOR).status_code == 400


def test_vendor_is_active_at_once_where_the_setting_says_so(settings: Any) -> None:
    settings.VENDOR_AUTO_APPROVE = True

    assert post("vendors/register", VENDOR).json()["status"] == "active"
    assert VendorProfile.objects.get().vendor_status == "approved"


@pytest.mark.parametrize(
    "changes",
    [
        {"terms_accepted": False}, {"terms_accepted": "true"}, {"terms_accepted": 1},
        {"terms_accepted": None}, {"phone": "6012345678"}, {"phone": ""}, {"full_name": "A"},
        {"full_name": "A" * 201},
        {"full_name": "A" * 101}, {"business_type": "other"}, {"primary_category": "weapons"},
        {"business_name": "x\ty"}, {"password": "Abcdef1g"}, {"city": ""},
    ],
)  # fmt: skip
def test_vendor_with_a_wrong_field_is_422(changes: dict[str, Any]) -> None:
    answer = post("vendors/register", VENDOR | changes)

    assert answer.status_code == 422
    (name,) = changes
    assert f"body -> {name}" in [detail["field"] for detail in answer.json()["details"]]
    assert not User.objects.exists()


def test_older_vendor_form_registers_and_signs_in() -> None:
    answer = post("vendedores/registro", VENDEDOR)

    body = answer.json()
    assert answer.status_code == 201, body
    assert body["success"] is True
    assert body["vendedor"]["telefono"] == "+573001234567"
    assert body["vendedor"]["vendor_status"] == "pending_approval"
    signed_in = post("vendedores/login", {"email": VENDEDOR["email"], "password": PASSWORD})
    assert signed_in.status_code == 200
    assert signed_in.json()["user"]["user_type"] == "VENDOR"
    assert post("vendors/login/", {"email": VENDEDOR["email"], "password": PASSWORD}).status_code == 200


@pytest.mark.parametrize("cedula", ["12345", "12345678901", "12345a", "１２３４５６", 1032456789, ""])
def test_older_vendor_form_wants_a_card_number(cedula: Any) -> None:
    assert post("vendedores/registro", VENDEDOR | {"cedula": cedula}).status_code == 422


def test_card_of_somebody_else_is_400() -> None:
    assert post("vendedores/registro", VENDEDOR).status_code == 201

    answer = post("vendedores/registro", VENDEDOR | {"email": "other@example.com"})

    assert answer.status_code == 400


def test_buyer_at_the_vendors_entrance_gets_the_answer_of_a_wrong_password() -> None:
    buyer = people.BuyerFactory.create()
    wrong = post("vendedores/login", {"email": buyer.email, "password": "wrong"})
    right = post("vendedores/login", {"email": buyer.email, "password": people.PASSWORD})

    assert (wrong.status_code, right.status_code) == (401, 401)
    assert wrong.json()["detail"] == right.json()["detail"]


# Verification


@pytest.mark.parametrize(
    "path", ["send-verification-email", "send-verification-sms", "verify-email-otp", "verify-phone-otp",
             "send-otp", "verify-otp", "verify-email", "resend-verification"],
)  # fmt: skip
def test_stranger_verifies_nothing(path: str) -> None:
    assert post("auth/" + path, {"otp_type": "EMAIL", "otp_code": "123456"}).status_code == 401


def test_newcomer_proves_the_address() -> None:
    token = token_of(register())

    sent = post("auth/send-verification-email", {"otp_type": "EMAIL"}, token)
    body = sent.json()
    assert sent.status_code == 200
    assert body["success"] is True
    assert set(body["verification_status"]) == {
        "email_verified", "phone_verified", "has_active_otp", "otp_type", "otp_expires_at",
        "can_request_new_otp", "is_otp_blocked", "otp_attempts",
    }  # fmt: skip
    assert body["verification_status"]["has_active_otp"] is True
    assert body["verification_status"]["can_request_new_otp"] is False

    code = code_received()
    assert mail.outbox[-1].to == ["ana@example.com"]
    assert post("auth/verify-email-otp", {"otp_code": code[:5]}, token).status_code == 400
    wrong = post("auth/verify-email-otp", {"otp_code": f"{(int(code) + 1) % 1_000_000:06d}"}, token)
    assert wrong.status_code == 400
    right = post("auth/verify-email-otp/", {"otp_code": code}, token)
    assert right.status_code == 200
    assert right.json()["verification_status"]["email_verified"] is True
    assert post("auth/verify-email-otp", {"otp_code": code}, token).status_code == 400
    assert post("auth/send-verification-email", {"otp_type": "EMAIL"}, token).status_code == 400


def test_code_cannot_be_asked_for_twice_in_a_minute() -> None:
    token = token_of(register())
    post("auth/resend-verification", {}, token)

    answer = post("auth/send-otp", {"otp_type": "EMAIL"}, token)

    assert answer.status_code == 429
    assert 0 < int(answer["Retry-After"]) <= 60


def test_telephone_is_proved_by_the_general_names(capsys: pytest.CaptureFixture[str]) -> None:
    token = token_of(register(telefono="3001234567"))
    assert post("auth/send-otp", {"otp_type": "SMS"}, token).status_code == 200
    delivery.send(OutboxMessage.objects.latest("created_at").pk)
    found = re.search(r"\b[0-9]{6}\b", capsys.readouterr().out)
    assert found

    answer = post("auth/verify-otp", {"otp_type": "SMS", "otp_code": found.group()}, token)

    assert answer.status_code == 200
    assert User.objects.get().phone_verified


def test_path_and_type_that_contradict_are_422() -> None:
    token = token_of(register())

    assert post("auth/send-verification-sms", {"otp_type": "EMAIL"}, token).status_code == 422
    assert post("auth/send-otp", {"otp_type": "PIGEON"}, token).status_code == 422
    assert post("auth/verify-email-otp", {}, token).status_code == 422
    assert post("auth/send-verification-sms", {"otp_type": "SMS"}, token).status_code == 400, "no telephone"


def test_code_signs_nobody_in() -> None:
    token = token_of(register())
    post("auth/send-verification-email", {}, token)
    code = code_received()

    answer = post("auth/login", {"email": "ana@example.com", "password": code})

    assert answer.status_code == 401
