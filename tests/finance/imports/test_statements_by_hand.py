"""Statements of twenty vendors, added up by hand from the files of the real orders, to the last cent.

What is expected is computed here with `Decimal` and plain loops from the CSV files, with rates written out
again: nothing of ours is asked. What is compared is what came out at the other end: the statement as JSON and
as CSV, the balance, the commissions, and what the ledger holds for the platform and for each tax office.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from finance import settlement
from finance.imports import run
from finance.imports.run import Files
from mestore.lib import actor, sql
from tests.factories.accounts import AdminFactory
from tests.factories.administration import Caller

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit"])

BY = actor.system("test")
CENT = Decimal("0.01")
ZERO = Decimal("0.00")
NAMES = ("orders", "order_items", "order_payments", "sellers")
SOLD = {"approved", "processing", "invoiced", "shipped", "delivered"}
# Of the goods; of the commission; of the goods again.
COMMISSION, COMMISSION_TAX = Decimal("0.05"), Decimal("0.19")
WITHHELD = {"retefuente": Decimal("0.025"), "reteica": Decimal("0.00966")}
#: The first settlement takes what counted before this moment, the second one the rest.
CUT = dt.datetime(2018, 1, 15, tzinfo=dt.UTC)
VENDORS = 20
_COMMISSIONS = """
SELECT count(*), sum(order_amount_minor), sum(commission_amount_minor), sum(fee_tax_minor),
       sum(withheld_minor), count(*) FILTER (WHERE status = 'PAID')
FROM finance_commission WHERE vendor_id = %s"""
_HELD = """
SELECT c.kind, sum(t.amount) FROM ledger_transfer t
JOIN ledger_account c ON c.book_id = t.book_id AND c.id = t.credit
JOIN ledger_entry e ON e.book_id = t.book_id AND e.id = t.entry_id
WHERE t.book_id = %s AND e.kind = 'sale' GROUP BY c.kind"""


@dataclass(frozen=True)
class Sale:
    """What one vendor's part of one order comes to."""

    at: dt.datetime
    gross: Decimal
    freight: Decimal
    commission: Decimal
    tax: Decimal
    withheld: Decimal

    @property
    def net(self) -> Decimal:
        return self.gross - self.commission - self.tax - self.withheld

    @property
    def is_tie(self) -> bool:
        """Whether the commission lies exactly between two cents."""
        return (self.gross * COMMISSION / CENT) % 1 == Decimal("0.5")


@dataclass(frozen=True)
class Ledgers:
    """Each seller's sales, and how many of the orders with them came to nothing."""

    sales: dict[str, list[Sale]]
    cancelled: dict[str, int]


def records(folder: Path, name: str) -> Iterator[dict[str, str]]:
    with (folder / f"olist_{name}.csv").open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def rounded(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_UP)


def by_hand(folder: Path) -> Ledgers:
    orders = {row["order_id"]: row for row in records(folder, "orders")}
    goods: dict[tuple[str, str], list[tuple[Decimal, Decimal]]] = defaultdict(list)
    for row in records(folder, "order_items"):
        key = row["seller_id"], row["order_id"]
        goods[key].append((Decimal(row["price"]), Decimal(row["freight_value"])))
    sales: dict[str, list[Sale]] = defaultdict(list)
    cancelled: dict[str, int] = defaultdict(int)
    for (seller, order), items in sorted(goods.items()):
        row = orders[order]
        if row["order_status"] not in SOLD:
            cancelled[seller] += row["order_status"] in {"canceled", "unavailable"}
            continue
        gross = sum((price for price, _freight in items), ZERO)
        freight = sum((freight for _price, freight in items), ZERO)
        commission = rounded(gross * COMMISSION)
        left = gross - commission
        tax = min(rounded(commission * COMMISSION_TAX), left)
        left -= tax
        withheld = ZERO
        for rate in WITHHELD.values():
            kept = min(rounded(gross * rate), left)
            left, withheld = left - kept, withheld + kept
        moment = row["order_approved_at"] or row["order_purchase_timestamp"]
        at = dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC)
        sales[seller].append(Sale(at, gross, freight, commission, tax, withheld))
    return Ledgers(dict(sales), dict(cancelled))


def chosen(books: Ledgers) -> list[str]:
    """Twenty sellers: large and small, with cancelled orders beside sold ones, with halves of cents."""

    def gross(seller: str) -> Decimal:
        return sum((sale.gross for sale in books.sales.get(seller, [])), ZERO)

    ranked = sorted(books.sales, key=lambda seller: (-gross(seller), seller))
    once = sorted(seller for seller in ranked if len(books.sales[seller]) == 1)
    mixed = [seller for seller in ranked if books.cancelled.get(seller)]
    nothing = sorted(seller for seller in books.cancelled if seller not in books.sales)
    ties = [seller for seller in ranked if any(sale.is_tie for sale in books.sales[seller])]
    later = [seller for seller in ranked if all(sale.at >= CUT for sale in books.sales[seller])]
    first = [ranked[0], ranked[-1], *once[:1], *nothing[:1], *mixed[:5], *ties[-2:], *later[:1]]
    found = list(dict.fromkeys(first))
    spread = ranked[:: len(ranked) // (2 * VENDORS)]
    return found + [seller for seller in spread if seller not in found][: VENDORS - len(found)]


def total(sales: list[Sale], what: str) -> Decimal:
    return sum((getattr(sale, what) for sale in sales), ZERO)


@pytest.fixture
def rates(settings: Any) -> None:
    """Taxes that this currency does not have by itself, so that there is something to add up."""
    settings.COMMISSION_TAX_PPM = {"BRL": 190_000}
    settings.WITHHOLDINGS = {
        "BRL": [
            {"name": "retefuente", "ppm": 25_000, "of": "goods"},
            {"name": "reteica", "ppm": 9_660, "of": "goods"},
        ]
    }


@pytest.mark.usefixtures("rates")
def test_statements_of_twenty_vendors_are_what_their_orders_come_to(
    sample_data: Path, tmp_path: Path
) -> None:
    books = by_hand(sample_data)
    sellers = chosen(books)
    assert len(sellers) == VENDORS
    run.import_orders(
        files=Files(*(sample_data / f"olist_{name}.csv" for name in NAMES)), currency="BRL",
        rejects_file=tmp_path / "rejects.csv", by=BY,
    )  # fmt: skip
    for before in (CUT, None):
        assert [result.skipped for result in settlement.settle(due_before=before, by=BY)] == [[]]

    staff = Caller(AdminFactory.create())
    for seller in sellers:
        sales = books.sales.get(seller, [])
        vendor = User.objects.get(source=run.SOURCE, external_reference=seller)
        nets = [total([sale for sale in sales if (sale.at < CUT) is early], "net") for early in (True, False)]
        lines = [net for net in nets if net]
        _compare_commissions(vendor, sales)
        _compare_statement(staff, vendor, lines)
        _compare_csv(staff, vendor, lines)
        _compare_balance(staff, vendor, sum(lines, ZERO))


def _compare_commissions(vendor: User, sales: list[Sale]) -> None:
    """Each part of what the buyers paid for goods, as commissions and as the ledger have it."""
    row = sql.fetch_one(_COMMISSIONS, [vendor.pk])
    assert row is not None
    count, *sums, paid = row
    wanted = [total(sales, what) for what in ("gross", "commission", "tax", "withheld")]
    assert (count, paid) == (len(sales), len(sales))
    assert [_from_minor(one) for one in sums] == wanted
    held = {kind: _from_minor(minor) for kind, minor in sql.fetch_all(_HELD, [vendor.pk])}
    expected = {
        "vendor_pending": total(sales, "net"), "platform_fee": wanted[1], "tax_payable:fee": wanted[2],
        "tax_payable:withholding": wanted[3], "shipping_payable": total(sales, "freight"),
    }  # fmt: skip
    assert held == {kind: amount for kind, amount in expected.items() if amount}


def _compare_statement(staff: Caller, vendor: User, lines: list[Decimal]) -> None:
    told = staff.get(f"vendors/{vendor.pk}/statement", currency="BRL").json()
    running = [sum(lines[: number + 1], ZERO) for number in range(len(lines))]
    assert [(line["number"], line["kind"], line["amount"], line["balance"]) for line in told["results"]] == [
        (number, "settlement", str(amount), str(balance))
        for number, (amount, balance) in enumerate(zip(lines, running, strict=True), 1)
    ]
    assert (told["opening_balance"], told["closing_balance"]) == ("0.00", str(sum(lines, ZERO)))
    assert (told["credits"], told["debits"]) == (str(sum(lines, ZERO)), "0.00")
    assert (told["line_count"], told["currency"], told["next"]) == (len(lines), "BRL", None)


def _compare_csv(staff: Caller, vendor: User, lines: list[Decimal]) -> None:
    answer = staff.get(f"vendors/{vendor.pk}/statement", currency="BRL", format="csv")
    text = b"".join(answer.streaming_content).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    moved = [row for row in rows if row["number"]]
    assert [Decimal(row["credit"]) for row in moved] == lines
    assert [row["debit"] for row in moved] == [""] * len(lines)
    assert (rows[0]["kind"], rows[0]["balance"]) == ("opening", "0.00")
    assert (rows[-1]["kind"], rows[-1]["balance"]) == ("closing", str(sum(lines, ZERO)))


def _compare_balance(staff: Caller, vendor: User, net: Decimal) -> None:
    told = staff.get(f"vendors/{vendor.pk}/balance").json()["balances"]
    expected = {
        "currency": "BRL", "available": str(net), "reserved": "0.00", "pending": "0.00",
        "in_transit": "0.00", "owed": "0.00",
    }  # fmt: skip
    assert told == ([expected] if net else [])


def _from_minor(minor: int | None) -> Decimal:
    return (Decimal(minor or 0) / 100).quantize(CENT)
