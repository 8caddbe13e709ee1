"""Payouts and bank accounts over HTTP: strangers, replays, wrong bodies, and the whole way."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from accounts.models import AddressChange, User
from finance.models import BankAccount, Payout
from mestore.lib.http import dumps
from monitoring.models import AuditEvent
from monitoring.outbox import OutboxMessage
from monitoring.signals import Signal
from tests.factories.accounts import BuyerFactory, VendorFactory
from tests.factories.administration import header
from tests.finance.payout_house import (
    MANAGING,
    account,
    approver,
    asked,
    cop,
    fund,
    staff,
    vendor_with,
)
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit"])
BANKING = {
    "bank_name": "Davivienda", "account_holder_name": "Ana Gómez", "account_number": "12345678901",
    "tipo_cuenta": "AHORROS",
}  # fmt: skip
ENTERED = {
    "bank_name": "Bancolombia", "account_type": "AHORROS", "account_number": "10987654321",
    "account_holder_name": "Ana Gómez",
}  # fmt: skip
OLD = {
    "monto_solicitado": 100000, "tipo_cuenta": "CORRIENTE", "numero_cuenta": "998877665544",
    "banco": "Banco de Bogotá",
}  # fmt: skip


def send(user: User, method: str, path: str, body: Any = None, *, fresh: bool = True, key: str = "") -> Any:
    headers = {**header(user, fresh=fresh), **({"Idempotency-Key": key} if key else {})}
    ask: Any = getattr(Client(), method)
    content = {} if body is None else {"data": dumps(body), "content_type": "application/json"}
    return ask(f"/api/v1/{path}", headers=headers, **content)


def body_of(where: BankAccount, amount: Any = "100000") -> dict[str, Any]:
    return {"amount": amount, "currency": "COP", "bank_account_id": str(where.pk)}


# --- Bank accounts ----------------------------------------------------------------------------------------


def test_vendor_without_a_factor_changes_no_bank_account() -> None:
    vendor = VendorFactory.create()
    for method, path, body in (
        ("post", f"vendors/{vendor.pk}/bank-accounts", ENTERED),
        ("put", "vendors/vendor/profile/banking", BANKING),
        ("put", "profile/datos-bancarios", OLD),
        ("post", "comisiones/solicitar-pago", OLD),
        ("post", "payouts/", {"amount": "10000", "currency": "COP", "bank_account_id": str(uuid4())}),
    ):
        answer = send(vendor, method, path, body, fresh=False, key="k")
        assert answer.status_code == 403, path
        assert answer.json()["error_code"] == "STEP_UP_REQUIRED", path
    assert not BankAccount.objects.exists()


def test_strangers_find_nothing() -> None:
    vendor, where = vendor_with("500000")
    other = VendorFactory.create()
    for method, path in (
        ("get", f"vendors/{vendor.pk}/bank-accounts"),
        ("post", f"vendors/{vendor.pk}/bank-accounts"),
        ("delete", f"vendors/{vendor.pk}/bank-accounts/{where.pk}"),
        ("delete", f"vendors/{other.pk}/bank-accounts/{where.pk}"),
        ("get", f"payouts/{asked(vendor, where).pk}"),
    ):
        assert send(other, method, path, ENTERED if method == "post" else None).status_code == 404, path
    assert send(BuyerFactory.create(), "get", f"vendors/{vendor.pk}/bank-accounts").status_code == 403
    assert Client().get(f"/api/v1/vendors/{vendor.pk}/bank-accounts").status_code in {401, 403}
    where.refresh_from_db()
    assert where.removed_at is None
    assert send(staff(), "get", f"vendors/{vendor.pk}/bank-accounts").status_code == 200
    assert send(staff(), "post", f"vendors/{vendor.pk}/bank-accounts", ENTERED).status_code == 403
    assert send(staff(MANAGING), "post", f"vendors/{vendor.pk}/bank-accounts", ENTERED).status_code == 201
    assert send(staff(MANAGING), "post", f"vendors/{other.pk}/bank-accounts", ENTERED).status_code == 201
    assert send(staff(MANAGING), "post", f"vendors/{uuid4()}/bank-accounts", ENTERED).status_code == 404


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"account_number": "123"}, "account_number"),
        ({"account_number": "１２３４５６７８９０１"}, "account_number"),
        ({"account_number": "1234-5678-90"}, "account_number"),
        ({"account_number": 12345678901}, "account_number"),
        ({"account_type": "ahorros"}, "account_type"),
        ({"bank_name": "a\x00b"}, "bank_name"),
        ({"bank_name": "<b>Bank</b>"}, "bank_name"),
        ({"currency": "XXX"}, "currency"),
        ({"bank_code": "ñ"}, "bank_code"),
        ({"document": "=1+1"}, "document"),
    ],
)
def test_wrong_account_is_named_by_its_field(changes: dict[str, Any], field: str) -> None:
    vendor = VendorFactory.create()
    answer = send(vendor, "post", f"vendors/{vendor.pk}/bank-accounts", {**ENTERED, **changes})
    assert answer.status_code in {400, 422}, answer.content
    if answer.status_code == 422:
        assert field in answer.content.decode()
    assert not BankAccount.objects.exists()


def test_number_is_sealed_and_shown_by_four_digits() -> None:
    vendor = VendorFactory.create()
    answer = send(vendor, "post", f"vendors/{vendor.pk}/bank-accounts", ENTERED)
    assert answer.status_code == 201
    assert answer.json()["account_number"] == "****4321"
    for path in (f"vendors/{vendor.pk}/bank-accounts",):
        assert "10987654321" not in send(vendor, "get", path).content.decode()
    row = BankAccount.objects.get()
    assert b"10987654321" not in bytes(row.__dict__["number"])
    assert row.number == "10987654321"
    events = AuditEvent.objects.filter(type__startswith="bank_account.") | AuditEvent.objects.filter(
        target_id=str(row.pk)
    )
    assert all(b"10987654321" not in bytes(event.canon) for event in events)


def test_both_addresses_and_the_former_one_are_told() -> None:
    vendor = VendorFactory.create(recovery_email="second@example.com")
    AddressChange.objects.create(
        user=vendor, kind=AddressChange.Kind.PRIMARY, address=vendor.email, former="former@example.com",
        auth_epoch=0,
        token_hash=b"1" * 32, cancel_hash=b"2" * 32, created_at="2026-01-01T00:00:00Z",
        expires_at="2099-01-01T00:00:00Z", confirmed_at=vendor.password_changed_at,
    )  # fmt: skip
    OutboxMessage.objects.all().delete()
    assert send(vendor, "post", f"vendors/{vendor.pk}/bank-accounts", ENTERED).status_code == 201
    assert OutboxMessage.objects.filter(template="bank_account_added").count() == 3


def test_equal_number_of_another_vendor_is_a_signal_and_no_answer() -> None:
    first, second = VendorFactory.create(), VendorFactory.create()
    answers = [send(one, "post", f"vendors/{one.pk}/bank-accounts", ENTERED) for one in (first, second)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert set(answers[0].json()) == set(answers[1].json())
    assert Signal.objects.filter(rule="payout.account_shared").count() == 1
    again = send(second, "post", f"vendors/{second.pk}/bank-accounts", ENTERED)
    assert (again.status_code, again.json()["error_code"]) == (409, "BANK_ACCOUNT_EXISTS")


def test_old_forms_write_the_same_rows() -> None:
    vendor = VendorFactory.create()
    first = send(vendor, "put", "vendors/vendor/profile/banking", BANKING)
    assert first.json()["account_number"] == "****8901"
    again = send(vendor, "put", "vendors/vendor/profile/banking", BANKING)
    assert again.json() == first.json(), "the same data again change nothing, nor the cooling-off"
    other = {"banco": "BBVA", "tipo_cuenta": "CORRIENTE", "numero_cuenta": "5555666677"}
    assert send(vendor, "put", "profile/datos-bancarios", other).json()["numero_cuenta"] == "****6677"
    listed = send(vendor, "get", f"vendors/{vendor.pk}/bank-accounts").json()["results"]
    assert [row["last_four"] for row in listed] == ["6677"]
    wrong = send(vendor, "put", "vendors/vendor/profile/banking", {**BANKING, "account_number": "123456789"})
    assert wrong.status_code == 422
    assert send(vendor, "put", "vendors/vendor/profile/banking", {}).status_code == 422


# --- Payouts ----------------------------------------------------------------------------------------------


def test_payout_over_http_once_per_key() -> None:
    vendor, where = vendor_with("500000")
    assert send(vendor, "post", "payouts/", body_of(where)).json()["error_code"] == "IDEMPOTENCY_KEY_REQUIRED"
    first = send(vendor, "post", "payouts/", body_of(where), key="k1")
    assert first.status_code == 201, first.content
    assert first.json()["amount"] == "100000.00"
    assert first.json()["state"] == "screened"
    again = send(vendor, "post", "payouts/", body_of(where), key="k1")
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
    other = send(vendor, "post", "payouts/", body_of(where, "200000"), key="k1")
    assert (other.status_code, other.json()["error_code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    too_much = send(vendor, "post", "payouts/", body_of(where, "900000"), key="k2")
    assert (too_much.status_code, too_much.json()["error_code"]) == (409, "INSUFFICIENT_FUNDS")
    assert Payout.objects.count() == 1
    listed = send(vendor, "get", "payouts/").json()
    assert [row["id"] for row in listed["results"]] == [first.json()["id"]]


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": "1e5"}, {"amount": "-1"}, {"amount": "100000.001"}, {"amount": True}, {"amount": None},
        {"amount": ["1"]}, {"amount": "9999"}, {"amount": "50000001"}, {"amount": "10000.01"},
        {"currency": "XXX"},
        {"currency": "JPY"}, {"bank_account_id": "nobody"}, {"bank_account_id": str(uuid4())},
    ],
)  # fmt: skip
def test_wrong_payouts_are_refused_without_a_trace(changes: dict[str, Any]) -> None:
    vendor, where = vendor_with("90000000")
    answer = send(vendor, "post", "payouts/", {**body_of(where), **changes}, key="k")
    assert answer.status_code == 422, answer.content
    assert not Payout.objects.exists()


def test_agreeing_over_http() -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    first, second = approver(), approver()
    seen = send(first, "get", f"payouts/{payout.pk}").json()
    assert (seen["approvals_needed"], seen["approvals_missing"]) == (2, 2)
    assert seen["reason"] == "screening: first_payout"
    assert send(vendor, "get", f"payouts/{payout.pk}").json()["reason"] is None
    path = f"payouts/{payout.pk}/approve"
    assert send(first, "post", path, {}, fresh=False).json()["error_code"] == "STEP_UP_REQUIRED"
    assert send(vendor, "post", path, {}).status_code == 403
    assert send(staff(), "post", path, {}).status_code == 403
    assert send(first, "post", path, {"content_hash": "0" * 64}).status_code == 409
    assert send(first, "post", path, {"content_hash": "zz"}).status_code == 422
    agreed = send(first, "post", path, {"content_hash": seen["content_hash"]})
    assert (agreed.status_code, agreed.json()["approvals_missing"]) == (200, 1)
    assert send(first, "post", path, {}).json()["error_code"] == "APPROVED_ALREADY"
    assert send(second, "post", path, {}).json()["state"] == "approved"
    cancelled = send(vendor, "post", f"payouts/{payout.pk}/cancel", {})
    assert cancelled.json()["state"] == "cancelled"
    refused = send(second, "post", f"payouts/{payout.pk}/reject", {"reason": "too late, it is gone"})
    assert (refused.status_code, refused.json()["error_code"]) == (409, "PAYOUT_STATE")
    changes = send(vendor, "get", f"payouts/{payout.pk}").json()["changes"]
    assert [change["after"] for change in changes] == ["requested", "screened", "approved", "cancelled"]


# --- The first system's words -----------------------------------------------------------------------------


def test_old_request_is_one_while_it_is_open() -> None:
    vendor = VendorFactory.create()
    fund(vendor, cop("500000"))
    outcomes = race([partial(send, vendor, "post", "comisiones/solicitar-pago", OLD)] * 6)
    bodies = {one.content for one in outcomes if not isinstance(one, BaseException)}
    assert len(bodies) == 1, outcomes
    (body,) = bodies
    assert b'"monto_solicitado":100000.00' in body.replace(b" ", b"")
    payout = Payout.objects.get()
    assert payout.state == "held"
    assert payout.state_reason.startswith("screening: cooling_off")
    answer = send(vendor, "post", "comisiones/solicitar-pago", OLD).json()
    assert answer == {
        "id": str(payout.pk), "monto_solicitado": 100000, "estado": "SOLICITADO", "tipo_cuenta": "CORRIENTE",
        "banco": "Banco de Bogotá",
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"monto_solicitado": 9999}, {"monto_solicitado": 50000001}, {"monto_solicitado": "x"},
        {"numero_cuenta": "1234567"}, {"numero_cuenta": "1" * 51}, {"banco": "ab"}, {"tipo_cuenta": "OTRA"},
        {"observaciones": "x" * 501},
    ],
)  # fmt: skip
def test_wrong_old_requests_are_refused(changes: dict[str, Any]) -> None:
    vendor = VendorFactory.create()
    fund(vendor, cop("90000000"))
    assert send(vendor, "post", "comisiones/solicitar-pago", {**OLD, **changes}).status_code == 422
    assert not Payout.objects.exists()
    assert not BankAccount.objects.exists()


def test_old_request_without_money_enters_nothing() -> None:
    vendor = VendorFactory.create()
    answer = send(vendor, "post", "comisiones/solicitar-pago", OLD)
    assert (answer.status_code, answer.json()["error_code"]) == (409, "INSUFFICIENT_FUNDS")
    assert not BankAccount.objects.exists()


def test_old_histories_tell_their_own() -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    send(vendor, "post", f"payouts/{payout.pk}/cancel", {"reason": "a mistake"})
    for path in ("comisiones", "commissions"):
        told = send(vendor, "get", f"{path}/payout-history/{payout.pk}").json()
        assert (told["payout_request_id"], told["total_cambios"]) == (str(payout.pk), 2)
        assert [row["estado_nuevo"] for row in told["historial"]] == ["SOLICITADO", "RECHAZADO"]
        assert told["historial"][1]["observaciones"] == "a mistake"
    other = VendorFactory.create()
    assert send(other, "get", f"comisiones/payout-history/{payout.pk}").status_code == 404
    assert send(other, "get", "comisiones/my-payout-history").json() == []
    listed = send(vendor, "get", "comisiones/my-payout-history?estado_filtro=RECHAZADO&limit=1").json()
    assert [row["estado_nuevo"] for row in listed] == ["RECHAZADO"]
    for query in ("limit=101", "estado_filtro=x", "fecha_inicio=never", "offset=-1"):
        assert send(vendor, "get", f"comisiones/my-payout-history?{query}").status_code == 422, query


def test_account_of_another_name_is_still_one_account() -> None:
    vendor, where = vendor_with("500000")
    assert account(vendor, "11122233344").pk != where.pk
    same = {**OLD, "numero_cuenta": "11122233344", "tipo_cuenta": "AHORROS", "banco": "bancolombia"}
    answer = send(vendor, "post", "comisiones/solicitar-pago", same)
    assert answer.status_code == 200, answer.content
    assert BankAccount.objects.count() == 2
