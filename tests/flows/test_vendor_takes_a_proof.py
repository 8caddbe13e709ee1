"""A vendor takes away the proof of an own sale over the API; nobody else's, and nobody else does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from finance import orders
from finance.models import Commission
from mestore.lib import merkle, notes
from monitoring import checkpoints, events, sequencer
from monitoring.models import AuditEvent
from tests.factories.accounts import AdminFactory, BuyerFactory, VendorFactory
from tests.factories.administration import Caller
from tests.factories.finance import CommissionFactory
from tests.finance.conftest import MACHINE, form, order_body, vendor  # noqa: F401 - fixtures

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)


@pytest.fixture
def sale(order_body: Callable[..., dict[str, Any]]) -> Commission:  # noqa: F811 - the fixture
    orders.place(form(order_body()), key="key-1", by=MACHINE)
    return Commission.objects.select_related("vendor").get()


def test_others_get_nothing(sale: Commission) -> None:
    sequencer.drain()
    for factory in (BuyerFactory, AdminFactory, VendorFactory):
        assert Caller(factory.create()).get(f"commissions/{sale.pk}/proof").status_code == 403
    assert not AuditEvent.objects.filter(type=events.AUDIT_PROOF_DOWNLOADED).exists()


def test_before_the_sale_is_sealed_it_says_when_to_come_back(sale: Commission) -> None:
    answer = Caller(sale.vendor).get(f"commissions/{sale.pk}/proof")

    assert (answer.status_code, answer.json()["error_code"]) == (409, "NOT_SEALED_YET")


def test_a_commission_without_a_posting_has_none(transactional_db: None) -> None:
    row = CommissionFactory.create(entry_id=None)

    assert Caller(row.vendor).get(f"commissions/{row.pk}/proof").status_code == 404


def test_it_convinces_whoever_has_the_logs_key(sale: Commission) -> None:
    sequencer.drain()

    answer = Caller(sale.vendor).get(f"commissions/{sale.pk}/proof/")
    proof = notes.parse_proof(answer.content.decode())

    assert answer["Content-Disposition"] == f'attachment; filename="{sale.entry_id}.tlog-proof"'
    notes.verify_proof(proof, merkle.leaf_hash(proof.extra), log=checkpoints.verifier(1))
    said = json.loads(proof.extra)
    assert (said["id"], said["book"]) == (str(sale.entry_id), str(sale.vendor_id))
    assert AuditEvent.objects.filter(
        type=events.AUDIT_PROOF_DOWNLOADED, target_id=str(sale.entry_id), actor_id=str(sale.vendor_id)
    ).exists()
