"""`finance_verify`: quiet about honest books; names what a superuser changed behind every guard."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from finance import invariants, ledger, settlement, verification
from finance.models import (
    BankAccount,
    Commission,
    LedgerEntry,
    LedgerTransfer,
    Order,
    Payout,
    Refund,
    RefundPart,
)
from finance.postings import PAYOUT_IN_TRANSIT, PENDING, VENDOR_AVAILABLE, Posting, Transfer
from mestore.lib import ids, sql
from monitoring.models import AuditEvent, Signal
from tests.factories.accounts import VendorFactory
from tests.factories.finance import OrderItemFactory
from tests.finance.selling import BY, NET, fund, move, sold
from tests.harness import horizon

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])


@dataclass
class Books:
    """Two vendors with all that can be broken: a sale, a settled one, a refund, a reservation, a payout."""

    vendor: User
    other: User
    sold: Commission
    settled: Commission
    refunded: Commission
    refund: Refund
    reserve: Posting
    payout: Payout | None = None


@pytest.fixture
def books(transactional_db: None) -> Books:
    vendor, other = VendorFactory.create_batch(2)
    young = complete(sold(vendor, days_ago=1))
    settled = complete(sold(vendor))
    refunded = complete(sold(other, days_ago=1))
    settlement.settle(by=BY)
    refund = given_back(refunded, 1_000_000)
    reserve = Posting(
        vendor.pk, ids.uuid7(), "payout_reserve", timezone.now(), "payout/x/reserve",
        (Transfer(VENDOR_AVAILABLE, PAYOUT_IN_TRANSIT, "", "COP", 500, PENDING, None),),
    )  # fmt: skip
    with transaction.atomic():
        ledger.post_many([reserve], by=BY)
    fund(vendor.pk, 300)
    horizon.wait()
    sql.fetch_one("SELECT taken FROM ledger_take_snapshots(NULL, 100)")
    return Books(vendor, other, young, settled, refunded, refund, reserve)


def complete(commission: Commission) -> Commission:
    """Give an order the line that its sale speaks of."""
    OrderItemFactory.create(order=commission.order, vendor=commission.vendor)
    return commission


def given_back(commission: Commission, amount: int) -> Refund:
    """A refund of goods as the refunds write it: entry, row and part; the commission stays whole."""
    posting = move(
        commission.vendor_id, "vendor_pending", "refund_clearing", amount, kind="refund",
        reverses=commission.entry_id,
    )  # fmt: skip
    with transaction.atomic():
        made = Refund.objects.create(
            refund_number=f"R-{ids.uuid7()}"[:32], order=commission.order, currency="COP",
            amount_minor=amount, reason="broken",
        )  # fmt: skip
        RefundPart.objects.create(
            refund=made, vendor=commission.vendor, commission=commission, goods_minor=amount, tax_minor=0,
            shipping_minor=0, base_minor=amount, commission_minor=0, entry_id=posting.entry_id,
        )  # fmt: skip
    return made


@pytest.fixture
def superuser(superuser_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        yield connection


def tamper(connection: psycopg.Connection[Any], table: str, statement: Any, values: Any = ()) -> None:
    """Run a statement with every trigger of a table, and all foreign keys, switched off; put them back."""
    triggers = connection.execute(
        "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal", [table]
    ).fetchall()
    connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    connection.execute("SET session_replication_role = replica")
    try:
        changed = connection.execute(statement, values)
        assert changed.rowcount > 0
    finally:
        connection.execute("RESET session_replication_role")
        for name, state in triggers:
            how = {"A": "ENABLE ALWAYS", "O": "ENABLE", "R": "ENABLE REPLICA", "D": "DISABLE"}[state]
            connection.execute(f"ALTER TABLE {table} {how} TRIGGER {name}")


def verify(**values: Any) -> verification.Report:
    return verification.verify(by=BY, **values)


def found(report: verification.Report) -> set[tuple[str, str]]:
    return {(one.check, one.row) for one in report.broken}


def test_honest_books_have_nothing_broken(books: Books) -> None:
    report = verify()

    assert report.broken == []
    assert report.entries == LedgerEntry.objects.count()
    assert report.checks == 14
    assert not Signal.objects.filter(rule="finance.verify_failed").exists()
    assert AuditEvent.objects.filter(type="money.verified").count() == 1


def test_an_empty_ledger_is_good(transactional_db: None) -> None:
    assert verify().is_good


# Each of them: table, statement (or what an UPDATE sets), and what is named. `%(…)s` are ids of the books.
TAMPERED: list[tuple[str, str, str, str]] = [
    ("ledger_transfer", "amount = amount + 1 WHERE entry_id = %(sale)s AND seq = 1",
     "control_totals", "sale"),
    ("ledger_transfer", "amount = amount + 1 WHERE entry_id = %(sale)s AND seq = 1",
     "signatures", "sale"),
    ("ledger_transfer", "DELETE FROM ledger_transfer WHERE entry_id = %(sale)s", "control_totals", "sale"),
    ("ledger_transfer", "DELETE FROM ledger_transfer WHERE entry_id = %(sale)s", "signatures", "sale"),
    ("ledger_entry", "DELETE FROM ledger_entry WHERE id = %(sale)s", "control_totals", "sale"),
    ("ledger_entry", "DELETE FROM ledger_entry WHERE id = %(sale)s", "commissions", "commission"),
    ("ledger_entry", "occurred_at = now() WHERE id = %(sale)s", "signatures", "sale"),
    ("ledger_entry", "source_event = 'order/0/sale' WHERE id = %(sale)s",
     "commissions", "commission"),
    ("ledger_transfer", "credit = 777 WHERE entry_id = %(sale)s AND seq = 1",
     "transfer_accounts", "first"),
    ("ledger_transfer", "currency = 'USD' WHERE entry_id = %(sale)s AND seq = 1",
     "transfer_accounts", "first"),
    ("ledger_account", ("kind = 'suspense' WHERE book_id = %(vendor)s AND kind = "
     "'platform_fee'"), "commissions", "commission"),
    ("ledger_transfer", ("INSERT INTO ledger_transfer (book_id, entry_id, seq, debit, credit, currency, "
     "amount, phase, pending_id) SELECT book_id, %(sale)s, 99, debit, credit, currency, amount + 1, "
     "'post', id FROM ledger_transfer WHERE entry_id = %(reserve)s RETURNING id"), "reservations", "newest"),
    ("ledger_reversal", "amount = amount + 1 WHERE entry_id = %(refund_entry)s",
     "reversals", "refund_entry"),
    ("ledger_reversal", "amount = 10^12 WHERE entry_id = %(refund_entry)s",
     "reversals", "refunded_sale"),
    ("ledger_guarded_balance", "posted = posted + 1 WHERE book_id = %(vendor)s",
     "guarded_balances", "account"),
    ("ledger_guarded_balance", "reserved = 0 WHERE book_id = %(vendor)s",
     "guarded_balances", "account"),
    ("ledger_guarded_balance", "DELETE FROM ledger_guarded_balance WHERE book_id = %(vendor)s",
     "guarded_balances", "account"),
    ("ledger_guarded_balance", "seq = seq + 1 WHERE book_id = %(vendor)s",
     "statements", "account"),
    ("ledger_statement_line", "balance = balance + 1 WHERE id = %(line)s",
     "statements", "line"),
    ("ledger_statement_line", "amount = amount + 1 WHERE id = %(line)s",
     "statements", "line"),
    ("ledger_statement_line", "seq = 9 WHERE id = %(line)s",
     "statements", "line"),
    ("ledger_statement_line", "DELETE FROM ledger_statement_line WHERE id = %(line)s",
     "statements", "line_entry"),
    ("ledger_snapshot", "credit = credit + 1 WHERE id = %(snapshot)s",
     "snapshots", "snapshot"),
    ("ledger_snapshot", "horizon = '99999999'::xid8 WHERE id = %(snapshot)s",
     "snapshots", "snapshot"),
    ("ledger_period_close", ("INSERT INTO ledger_period_close (closed_until, closed_at, closed_by, reason) "
     "SELECT now() - i, now() - i, 'me', 'forged' FROM (SELECT interval '1 hour' AS i) i"),
     "closed_periods", "sale"),
    ("finance_commission", ("commission_amount_minor = commission_amount_minor + 1, "
     "vendor_amount_minor = vendor_amount_minor - 1 WHERE id = %(commission)s"), "commissions", "commission"),
    ("finance_commission", "entry_id = gen_random_uuid() WHERE id = %(commission)s",
     "commissions", "commission"),
    ("finance_commission", "DELETE FROM finance_commission WHERE id = %(commission)s", "sales", "sale"),
    ("finance_commission", "DELETE FROM finance_commission WHERE id = %(commission)s", "sales", "order"),
    ("finance_order", "status = 'pending' WHERE id = %(order)s", "sales", "order"),
    ("finance_commission", "settled_entry_id = NULL WHERE id = %(settled)s",
     "settlements", "settlement"),
    ("finance_commission", ("settled_entry_id = gen_random_uuid() "
     "WHERE id = %(settled)s"), "settlements", "settled"),
    ("finance_commission", "status = 'APPROVED' WHERE id = %(settled)s",
     "settlements", "settled"),
    ("finance_order", "refunded_minor = 0 WHERE id = %(refunded_order)s",
     "refunds", "order_sum"),
    ("finance_commission", "refunded_minor = 0 WHERE id = %(refunded)s",
     "refunds", "commission_sum"),
    ("finance_refundpart", ("entry_id = gen_random_uuid() "
     "WHERE refund_id = %(refund)s"), "refunds", "refund_name"),
    ("finance_refundpart", ("goods_minor = goods_minor - 1 "
     "WHERE refund_id = %(refund)s"), "refunds", "refund_name"),
]  # fmt: skip


def names(books: Books) -> dict[str, Any]:
    """What statements and expectations speak of."""
    line = sql.fetch_one(
        "SELECT id, entry_id, account_id FROM ledger_statement_line WHERE book_id = %s ORDER BY seq LIMIT 1",
        [books.vendor.pk],
    )
    assert line is not None
    part = RefundPart.objects.get(refund=books.refund)
    settled = Commission.objects.get(pk=books.settled.pk)
    snapshot = sql.fetch_one(
        "SELECT id FROM ledger_snapshot WHERE book_id = %s AND account_id = %s", [books.vendor.pk, line[2]]
    )
    assert snapshot is not None
    first = LedgerTransfer.objects.get(entry_id=books.sold.entry_id, seq=1)
    return {
        "vendor": books.vendor.pk, "sale": books.sold.entry_id, "commission": books.sold.pk,
        "order": books.sold.order_id, "first": first.pk, "settled": settled.pk,
        "settlement": settled.settled_entry_id, "reserve": books.reserve.entry_id,
        "refund": books.refund.pk, "refund_entry": part.entry_id, "refunded": books.refunded.pk,
        "refunded_sale": books.refunded.entry_id, "refunded_order": books.refunded.order_id,
        "order_sum": f"order {books.refunded.order_id}", "commission_sum": f"commission {books.refunded.pk}",
        "refund_name": f"refund {books.refund.pk}", "line": line[0], "line_entry": f"entry {line[1]}",
        "account": line[2], "snapshot": snapshot[0],
    }  # fmt: skip


@pytest.mark.parametrize(("table", "statement", "check", "row"), TAMPERED, ids=lambda value: value[:60])
def test_what_a_superuser_changed_is_found_and_named(
    books: Books, superuser: psycopg.Connection[Any], table: str, statement: Any, check: str, row: str
) -> None:
    known = names(books)

    if not statement.startswith(("INSERT", "DELETE")):
        statement = f"UPDATE {table} SET {statement}"  # noqa: S608 - names of this file
    tamper(superuser, table, statement, known)

    if row == "newest":
        known["newest"] = LedgerTransfer.objects.order_by("-pk")[0].pk
    report = verify()
    assert (check, str(known[row])) in found(report)
    (signal,) = Signal.objects.filter(rule="finance.verify_failed")
    assert check in signal.evidence[0]["checks"]
    assert AuditEvent.objects.filter(type="money.verify_failed").count() == 1


# Payouts: which entries stand for which state.


@pytest.fixture
def payout(books: Books) -> Payout:
    account = BankAccount.objects.create(
        vendor=books.vendor, bank_name="Bank", account_type="AHORROS", holder_name="Ana", number="123456789",
        number_index=b"0" * 32, last_four="6789", fingerprint=b"1" * 32, created_by=uuid4(),
        usable_from=timezone.now() - dt.timedelta(days=4),
    )  # fmt: skip
    payout_id = ids.uuid7()
    reserve = Posting(
        books.vendor.pk, ids.uuid7(), "payout_reserve", timezone.now(), f"payout/{payout_id}/reserve",
        (Transfer(VENDOR_AVAILABLE, PAYOUT_IN_TRANSIT, "", "COP", 1_000, PENDING, None),),
    )  # fmt: skip
    content = sql.fetch_one(
        "SELECT finance_payout_content(%s, %s, 'COP', 1000, %s)",
        [payout_id, books.vendor.pk, b"1" * 32],
        using="owner",
    )
    assert content is not None
    with transaction.atomic():
        ledger.post_many([reserve], by=BY)
        return Payout.objects.create(
            id=payout_id, payout_number=f"P-{payout_id}"[:32], vendor=books.vendor, bank_account=account,
            currency="COP", amount_minor=1_000, origin="api", content_hash=content[0], approvals_needed=1,
            reserve_entry_id=reserve.entry_id, expires_at=timezone.now() + dt.timedelta(days=1),
        )  # fmt: skip


def test_a_payout_with_its_reservation_is_good(payout: Payout) -> None:
    assert verify().broken == []


@pytest.mark.parametrize(
    "change",
    [
        "state = 'paid'", "state = 'in_transit'", "state = 'cancelled'", "state = 'rejected'",
        "state = 'returned'", "amount_minor = 999", "post_entry_id = gen_random_uuid()",
        "reserve_entry_id = gen_random_uuid()",
    ],
)  # fmt: skip
def test_a_payout_whose_entries_are_not_those_of_its_state_is_named(
    payout: Payout, superuser: psycopg.Connection[Any], change: str
) -> None:
    tamper(superuser, "finance_payout", f"UPDATE finance_payout SET {change} WHERE id = %s", [payout.pk])  # noqa: S608

    assert ("payouts", str(payout.pk)) in found(verify())


# Narrowed, bounded, as a command.


def test_one_vendors_books_are_verified_alone(books: Books, superuser: psycopg.Connection[Any]) -> None:
    tamper(
        superuser, "ledger_transfer", "UPDATE ledger_transfer SET amount = amount + 1 WHERE entry_id = %s",
        [books.sold.entry_id],
    )  # fmt: skip

    assert not verify(vendor=books.vendor.pk).is_good
    other = verify(vendor=books.other.pk)
    assert other.is_good
    assert other.entries == LedgerEntry.objects.filter(book_id=books.other.pk).count()


def test_more_broken_rows_than_are_named_are_said_to_be_more(
    books: Books, superuser: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "MOST", 2)
    monkeypatch.setattr(verification, "PAGE", 2)
    tamper(superuser, "ledger_entry", "UPDATE ledger_entry SET mac = decode(repeat('00', 32), 'hex')")

    report = verify()

    assert [one.check for one in report.broken] == ["signatures"] * 2
    assert report.more == ["signatures"]
    assert report.entries == LedgerEntry.objects.count()


def run_command(*arguments: str) -> str:
    out = StringIO()
    call_command("finance_verify", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_command_says_good_with_its_figures(books: Books) -> None:
    told = json.loads(run_command("--json"))

    assert told["good"]
    assert told["broken"] == []
    assert "good" in run_command("--vendor", str(books.vendor.pk))
    assert "reservations:" in run_command("--rules")


def test_command_names_rows_and_ends_with_1(books: Books, superuser: psycopg.Connection[Any]) -> None:
    tamper(superuser, "finance_order", "UPDATE finance_order SET status = 'pending' WHERE id = %s",
           [books.sold.order_id])  # fmt: skip
    out = StringIO()

    with pytest.raises(CommandError) as error:
        call_command("finance_verify", stdout=out, stderr=StringIO())

    assert error.value.returncode == 1
    assert f"BROKEN: sales {books.sold.order_id}: pending" in out.getvalue()


def test_command_ends_with_2_for_an_id_that_is_none(transactional_db: None) -> None:
    with pytest.raises(CommandError) as error:
        run_command("--vendor", "nobody")

    assert error.value.returncode == 2


def test_the_document_names_every_rule() -> None:
    text = (Path(settings.BASE_DIR) / "docs" / "ledger.md").read_text(encoding="utf-8")

    named = re.findall(r"^\| `([a-z_]+)` \|", text.split("## Verification")[1], re.MULTILINE)

    assert named == [*(rule.name for rule in invariants.EVERY), verification.SIGNATURES]


def test_net_is_what_the_fixture_says(books: Books) -> None:
    assert ledger.available(books.vendor.pk, "COP").posted == NET + 300
    assert Order.objects.count() == 3
