"""Disputes: one active per commission, decided once; strangers see none; the commission stands still."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client

from accounts.models import User
from finance import commissions, disputes, ledger
from finance.api.disputes import DECIDING
from finance.models import Commission, Dispute, OutboundEvent
from finance.states import DISPUTE_TRANSITIONS, CommissionStatus, DisputeStatus
from mestore.lib import actor, ids
from mestore.lib.actor import Actor
from monitoring import events
from monitoring.models import AuditEvent
from tests.factories.accounts import AdminFactory, BuyerFactory, VendorFactory, grant
from tests.factories.administration import acting
from tests.factories.finance import CommissionFactory, OrderFactory, sale
from tests.factories.sessions_security import bearer
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)
BY = actor.system("test")
WHY = "We looked at the rate together."


class Caller:
    """Somebody who is signed in and speaks JSON."""

    def __init__(self, user: User) -> None:
        self.headers = bearer(user)

    def get(self, path: str) -> Any:
        return Client().get(path, headers=self.headers)

    def post(self, path: str, body: Any) -> Any:
        return Client().post(path, body, content_type="application/json", headers=self.headers)


def sold(vendor: User | None = None, **values: Any) -> Commission:
    """A sale in the ledger with its commission."""
    vendor = vendor or VendorFactory.create()
    order = OrderFactory.create()
    entry = sale(vendor.pk, order.pk)
    with transaction.atomic():
        ledger.post_many([entry], by=BY)
    return CommissionFactory.create(order=order, vendor=vendor, entry_id=entry.entry_id, **values)


def opened(commission: Commission) -> Dispute:
    return disputes.open_dispute(
        commission.pk, subject="Wrong rate", description="It says five percent.", by=BY
    )


@pytest.mark.parametrize("status", [CommissionStatus.PENDING, CommissionStatus.APPROVED])
def test_a_disputed_commission_stands_still_until_it_is_decided(status: CommissionStatus) -> None:
    commission = sold(status=status)

    dispute = opened(commission)

    commission.refresh_from_db()
    assert (dispute.status, dispute.commission_status) == ("ABIERTO", status)
    assert commission.status == CommissionStatus.DISPUTED
    assert commission.disputed_at is not None
    disputes.resolve(dispute, reason=WHY, by=BY)
    commission.refresh_from_db()
    assert (commission.status, commission.resolved_at is not None) == (CommissionStatus.APPROVED, True)
    kinds = list(OutboundEvent.objects.order_by("id").values_list("type", flat=True))
    assert kinds == ["dispute.opened", "dispute.decided"]


def test_a_paid_commission_can_be_disputed_and_stays_paid() -> None:
    commission = sold(status=CommissionStatus.PAID)

    disputes.refuse(opened(commission), reason=WHY, by=BY)

    commission.refresh_from_db()
    assert commission.status == CommissionStatus.PAID


@pytest.mark.parametrize("status", [CommissionStatus.CANCELLED, CommissionStatus.REFUNDED])
def test_what_is_over_is_not_disputed(status: CommissionStatus) -> None:
    with pytest.raises(disputes.NotDisputable):
        opened(sold(status=status))
    assert not Dispute.objects.exists()


def test_there_is_one_active_dispute_of_a_commission_and_another_after_it() -> None:
    commission = sold()
    first = opened(commission)

    with pytest.raises(disputes.DisputeOpen):
        opened(commission)
    disputes.refuse(disputes.review(first, by=BY), reason=WHY, by=BY)
    opened(commission)

    assert [row.status for row in Dispute.objects.order_by("id")] == ["RECHAZADO", "ABIERTO"]


def test_twenty_at_once_open_one() -> None:
    commission = sold()

    results = race([lambda: opened(commission)] * 20)

    assert sum(isinstance(one, Dispute) for one in results) == 1
    assert sum(isinstance(one, disputes.DisputeOpen) for one in results) == 19


def test_two_who_decide_at_once_are_one_decision() -> None:
    dispute = opened(sold())

    results = race(
        [
            lambda: disputes.resolve(dispute, reason=WHY, by=BY),
            lambda: disputes.refuse(dispute, reason=WHY, by=BY),
        ]
    )

    assert sum(isinstance(one, disputes.DisputeDecided) for one in results) == 1
    decided = AuditEvent.objects.filter(type__in=[events.DISPUTE_RESOLVED, events.DISPUTE_REFUSED])
    assert decided.count() == 1


def test_the_database_allows_exactly_the_moves_of_the_table() -> None:
    for before in DisputeStatus:
        for after in DisputeStatus:
            dispute = Dispute.objects.create(
                commission=CommissionFactory.create(), vendor=VendorFactory.create(), subject="x",
                description="y", commission_status="PENDING", status=before,
            )  # fmt: skip
            allowed = before == after or after in DISPUTE_TRANSITIONS[before]
            try:
                with transaction.atomic():
                    Dispute.objects.filter(pk=dispute.pk).update(status=after)
                moved = True
            except IntegrityError:
                moved = False
            assert moved == allowed, (before, after)


def test_what_was_said_is_not_rewritten() -> None:
    dispute = opened(sold())

    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE finance_dispute SET description = 'never mind' WHERE id = %s", [dispute.pk])


# --- Over HTTP --------------------------------------------------------------------------------------------


def dispute_of(client: Caller, commission: Commission, **changes: Any) -> Any:
    body = {
        "transaction_id": str(commission.entry_id), "motivo": "Wrong rate",
        "descripcion": "It says five percent.", **changes,
    }  # fmt: skip
    return client.post("/api/v1/comisiones/dispute", body)


def test_a_vendor_disputes_its_own_sale_and_reads_it() -> None:
    commission = sold()
    client = Caller(commission.vendor)

    answer = dispute_of(client, commission)

    assert answer.status_code == 201
    told = answer.json()
    assert (told["success"], told["estado"]) == (True, "ABIERTO")
    assert client.get(f"/api/v1/disputes/{told['dispute_id']}").json()["motivo"] == "Wrong rate"
    assert [row["id"] for row in client.get("/api/v1/disputes").json()["results"]] == [told["dispute_id"]]
    again = dispute_of(client, commission)
    assert (again.status_code, again.json()["error_code"]) == (400, "DISPUTE_ALREADY_OPEN")


def test_another_vendor_disputes_and_reads_nothing() -> None:
    commission = sold()
    dispute = opened(commission)
    stranger = Caller(VendorFactory.create())

    assert dispute_of(stranger, commission).status_code == 404
    assert stranger.get(f"/api/v1/disputes/{dispute.pk}").status_code == 404
    assert stranger.get("/api/v1/disputes/").json()["results"] == []
    assert Caller(BuyerFactory.create()).get("/api/v1/disputes/").status_code == 403


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"motivo": "x" * 101}, "motivo"),
        ({"motivo": ""}, "motivo"),
        ({"descripcion": "too short"}, "descripcion"),
        ({"descripcion": "x" * 2_001}, "descripcion"),
        ({"transaction_id": "7"}, "transaction_id"),
    ],
)
def test_bad_bodies_are_refused_with_the_field(changes: dict[str, Any], field: str) -> None:
    commission = sold()

    answer = dispute_of(Caller(commission.vendor), commission, **changes)

    assert answer.status_code == 422
    assert any(field in one["field"] for one in answer.json()["details"])
    assert not Dispute.objects.exists()


def test_what_is_no_sale_is_not_found() -> None:
    commission = sold()
    client = Caller(commission.vendor)

    assert dispute_of(client, commission, transaction_id=str(uuid4())).status_code == 404
    assert client.get(f"/api/v1/comisiones/detalle/{uuid4()}").status_code == 404
    assert client.get("/api/v1/comisiones/detalle/seven").status_code == 422


def test_the_staff_decides_with_a_grant_only() -> None:
    dispute = opened(sold())
    admin = AdminFactory.create()
    client = Caller(admin)
    path = f"/api/v1/disputes/{dispute.pk}/resolve"

    assert client.post(path, {"reason": WHY}).status_code == 403
    grant(admin, DECIDING)
    assert client.post(path, {"reason": "short"}).status_code == 422
    answer = client.post(path, {"reason": WHY})

    assert (answer.status_code, answer.json()["status"], answer.json()["resolution"]) == (
        200,
        "RESUELTO",
        WHY,
    )
    assert client.post(path, {"reason": WHY}).status_code == 409
    assert Dispute.objects.get().decided_by == admin.pk


def test_the_staff_opens_one_with_a_grant_only() -> None:
    """A dispute holds a vendor's money back: the role alone is not enough."""
    commission = sold()
    admin = AdminFactory.create()
    client = Caller(admin)

    assert dispute_of(client, commission).status_code == 403
    assert not Dispute.objects.exists()
    grant(admin, DECIDING)
    assert dispute_of(client, commission).status_code == 201


def test_deciding_is_no_way_around_the_second_person() -> None:
    """Who gave the rate by hand does not approve the commission, by no other name either."""
    admin, other = AdminFactory.create(), AdminFactory.create()
    commission = sold(rule_snapshot=f'{{"by_hand":"{admin.pk}"}}')
    dispute = opened(commission)

    for decide in (disputes.resolve, disputes.refuse):
        with pytest.raises(commissions.OwnRate):
            decide(dispute, reason=WHY, by=acting(admin))
    commission.refresh_from_db()
    assert commission.status == CommissionStatus.DISPUTED
    assert Dispute.objects.get().status == DisputeStatus.OPEN
    disputes.resolve(dispute, reason=WHY, by=acting(other))
    commission.refresh_from_db()
    assert (commission.status, commission.approved_by) == (CommissionStatus.APPROVED, other.pk)


def test_lists_are_paged_by_cursor() -> None:
    vendor = VendorFactory.create()
    made = [str(opened(sold(vendor)).pk) for _ in range(5)]
    client = Caller(vendor)

    first = client.get("/api/v1/disputes/?limit=3").json()
    second = client.get(f"/api/v1/disputes/?limit=3&cursor={first['next']}").json()

    assert [row["id"] for row in [*first["results"], *second["results"]]] == made[::-1]
    assert second["next"] is None
    assert client.get("/api/v1/disputes/?status=RESUELTO").json()["results"] == []
    assert client.get("/api/v1/disputes/?status=x").status_code == 422


# --- History ----------------------------------------------------------------------------------------------


def test_history_tells_a_vendor_its_own_sales_exactly() -> None:
    commission = sold()
    sold()
    client = Caller(commission.vendor)

    told = client.get("/api/v1/commissions/transactions/history")

    (row,) = told.json()["transactions"]
    assert row["transaction_id"] == str(commission.entry_id)
    assert (row["transaction_type"], row["estado"]) == ("VENTA", "COMPLETADA")
    assert b'"amount": 134000.00' in told.content or b'"amount":134000.00' in told.content
    assert (row["vendor_amount"], row["commission_amount"]) == (95000.0, 5000.0)
    assert row["order_id"] == commission.order_id
    assert told.json()["summary"] == {"total_transactions": 1, "by_type": {"VENTA": 1}}
    assert client.get("/commissions/transactions/history/").json()["transactions"] == [row]


def test_history_of_all_is_the_staffs_and_a_period_needs_a_vendor() -> None:
    commission = sold()
    sold()
    staff = Caller(AdminFactory.create())

    assert len(staff.get("/api/v1/pagos/historial").json()["pagos"]) == 2
    refused = staff.get("/api/v1/commissions/transactions/history?date_from=2026-01-01")
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (422, "query -> vendor_id")
    one = f"/api/v1/commissions/transactions/history?date_from=2026-01-01&vendor_id={commission.vendor_id}"
    assert len(staff.get(one).json()["transactions"]) == 1
    assert staff.get(one + "&date_to=2026-01-31").json()["transactions"] == []
    assert Caller(commission.vendor).get("/api/v1/pagos/historial").status_code == 403


def test_history_of_another_vendor_is_refused() -> None:
    commission = sold()
    path = f"/api/v1/commissions/transactions/history?vendor_id={commission.vendor_id}"

    assert Caller(VendorFactory.create()).get(path).status_code == 403


def test_history_is_paged_by_cursor_without_losing_or_repeating() -> None:
    vendor = VendorFactory.create()
    made = {str(sold(vendor).entry_id) for _ in range(5)}
    client = Caller(vendor)
    found: list[str] = []
    cursor = ""
    while True:
        page = client.get(f"/api/v1/commissions/transactions/history?limit=2{cursor}").json()
        found += [row["id"] for row in page["transactions"]]
        if not page["pagination"]["has_next"]:
            break
        cursor = f"&cursor={page['pagination']['next_cursor']}"

    assert sorted(found) == sorted(made)
    assert found == sorted(found, reverse=True)


def test_legacy_words_are_kept() -> None:
    commission = sold()
    client = Caller(commission.vendor)
    wanted = {
        "transaction_id": str(commission.entry_id), "monto_total": 100000.0, "porcentaje_comision": 5.0,
        "monto_comision": 5000.0, "monto_vendedor": 95000.0, "moneda": "COP",
    }  # fmt: skip

    listed = client.get("/api/v1/comisiones").json()
    one = client.get(f"/api/v1/comisiones/detalle/{commission.entry_id}/").json()

    assert listed["total_registros"] == 1
    assert {name: listed["comisiones"][0][name] for name in wanted} == wanted
    assert {name: one[name] for name in wanted} == wanted
    assert "fecha" in listed["comisiones"][0]
    assert "fecha_transaccion" in one
    assert client.get("/api/v1/comisiones/?metodo_pago=NEQUI").json()["comisiones"] == []
    assert client.get("/api/v1/comisiones/?fecha_inicio=yesterday").status_code == 422
    assert Client().get("/api/v1/comisiones/").status_code == 401


def test_the_trail_names_who_opened_it() -> None:
    commission = sold()
    by = Actor(kind="user", id=str(ids.uuid7()))
    dispute = disputes.open_dispute(commission.pk, subject="x", description="y" * 10, by=by)

    assert AuditEvent.objects.get(type=events.DISPUTE_OPENED).actor_id == by.id
    assert dispute.vendor_id == commission.vendor_id
