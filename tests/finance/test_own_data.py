"""A person's own copy: masked accounts, payouts, refunds, statement numbers; nothing of anybody else."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from accounts.models import User
from finance import bank_accounts, own_data, refund_outcomes, refunds
from finance.refunds import Wish
from mestore.lib import own_data as registry
from mestore.lib.http import dumps
from tests.factories.accounts import BuyerFactory, VendorFactory
from tests.factories.administration import acting
from tests.finance.conftest import MACHINE
from tests.finance.payout_house import account, asked, sent, vendor_with
from tests.finance.refunding import place
from tests.finance.selling import fund

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit"])
NUMBER, DOCUMENT = "98765401234", "900123456"


def section(name: str, person: User) -> list[Any]:
    """The rows of one file of the archive, as they can be written."""
    found = next(one for one in registry.sections() if one.name == name)
    rows = list(found.rows(person.pk))
    assert dumps(rows)
    return rows


def whole(person: User) -> str:
    """Everything that finance contributes, as text."""
    names = (
        "orders", "sales", "bank_accounts", "payouts", "refunds_given", "refunds_received", "statement_lines",
    )  # fmt: skip
    return "".join(dumps(section(name, person)).decode() for name in names)


def test_a_person_without_anything_gets_empty_files() -> None:
    nobody = BuyerFactory.create()

    for name in ("bank_accounts", "payouts", "refunds_given", "refunds_received", "statement_lines"):
        assert section(name, nobody) == []


def test_whole_numbers_are_in_no_file() -> None:
    vendor = VendorFactory.create()
    row = account(vendor, NUMBER, document=DOCUMENT, document_type="NIT")
    bank_accounts.remove(vendor.pk, row.pk, by=acting(vendor))
    (told,) = section("bank_accounts", vendor)

    assert (told["account_number"], told["holder_document"]) == ("****1234", "****3456")
    assert told["removed_at"] is not None
    assert told["holder_name"] == row.holder_name
    assert NUMBER not in whole(vendor)
    assert DOCUMENT not in whole(vendor)


def test_payouts_are_told_with_each_step_and_without_who_decided() -> None:
    vendor, where = vendor_with("500000")
    first = sent(vendor, where)
    second = asked(vendor, where, "50000")
    told = section("payouts", vendor)

    assert [row["payout_number"] for row in told] == [first.payout_number, second.payout_number]
    assert told[0]["amount"] == Decimal("100000.00")
    assert told[0]["paid_to"]["account"] == f"****{where.last_four}"
    assert [step["state"] for step in told[0]["changes"]][-2:] == ["submitting", "in_transit"]
    assert set(told[0]["changes"][0]) == {"state", "changed_at"}


def test_statement_numbers_are_all_there_by_currency() -> None:
    vendor = VendorFactory.create()
    for amount, currency in ((500, "COP"), (7, "USD"), (1, "COP")):
        fund(vendor.pk, amount, currency=currency)
    told = section("statement_lines", vendor)

    assert sorted((row["currency"], row["number"], row["amount"], row["balance"]) for row in told) == [
        ("COP", 1, Decimal("5.00"), Decimal("5.00")), ("COP", 2, Decimal("0.01"), Decimal("5.01")),
        ("USD", 1, Decimal("0.07"), Decimal("0.07")),
    ]  # fmt: skip


def test_refund_is_told_to_both_sides_and_to_neither_of_the_other() -> None:
    buyer = BuyerFactory.create(email="camila.rojas@example.com")
    vendor, other = VendorFactory.create(), VendorFactory.create()
    order = place(vendor.pk, other.pk, buyer_id=str(buyer.pk))
    row = refunds.post(Wish(order_id=order.pk, reason="came back broken", amount=1_000_000), by=MACHINE)
    refund_outcomes.mark_paid(row.pk, provider_reference="rf-1", by=MACHINE)
    (got,) = section("refunds_received", buyer)
    (gave,) = section("refunds_given", vendor)

    assert (got["refund_number"], got["amount"], got["status"]) == (
        row.refund_number, Decimal("10000.00"), "paid",
    )  # fmt: skip
    assert (gave["refund_number"], gave["order_number"]) == (row.refund_number, order.order_number)
    assert 0 < gave["goods"] < Decimal("10000.00")
    assert section("refunds_received", vendor) == section("refunds_given", buyer) == []
    for word in (str(buyer.pk), buyer.email, str(other.pk), "came back broken"):
        assert word not in whole(vendor)


def test_many_rows_are_read_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_data, "PAGE", 2)
    vendor, where = vendor_with("500000")
    made = [asked(vendor, where, "50000").payout_number for _ in range(5)]

    assert [row["payout_number"] for row in section("payouts", vendor)] == made
