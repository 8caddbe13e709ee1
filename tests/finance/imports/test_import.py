"""What an import takes, refuses, repeats and reports."""

from __future__ import annotations

import csv
import datetime as dt
import json
import os
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError
from django.utils import timezone, translation

from accounts.models import User
from finance import numbers, periods, verification
from finance.imports import batches, rejects, run
from finance.imports.files import UnusableFile
from finance.imports.report import Report
from finance.imports.run import Files
from finance.imports.staging import RUN_LOCK
from finance.imports.vendors import vendor_id
from finance.models import Commission, LedgerEntry, LedgerTransfer, Order, OrderItem, OrderPayment
from mestore.lib import actor
from monitoring import events
from monitoring.models import AuditEvent
from tests.finance.imports import marketplace
from tests.finance.imports.marketplace import Marketplace, item, order, payment, seller
from tests.finance.test_told_rows import told, visible

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit"])


def imported(files: Files, folder: Path, **options: Any) -> Report:
    return run.import_orders(
        files=files, currency="BRL", rejects_file=folder / "rejects.csv", by=actor.system("test"), **options
    )


def rejected(folder: Path) -> list[tuple[str, str, str]]:
    with (folder / "rejects.csv").open(encoding="utf-8", newline="") as stream:
        return [(row["file"], row["line"], row["reason"]) for row in csv.DictReader(stream)]


def command(files: Files, *more: str) -> list[str]:
    named = {
        "orders": files.orders,
        "items": files.items,
        "payments": files.payments,
        "sellers": files.sellers,
    }
    return [
        "import_orders", "--currency", "BRL", *more,
        *(part for name, path in named.items() for part in (f"--{name}", str(path))),
    ]  # fmt: skip


def test_bad_lines_are_named_and_good_lines_go_in(tmp_path: Path) -> None:
    market = marketplace.good()
    market.orders += [order("o1"), order("o4", "sold"), "o5,buyer", order("o6")]
    market.items += [
        item("o1", 1),
        item("o4", 1),
        item("o6", 1, "nobody"),
        item("o6", 2, "seller1", "ten"),
        item("o6", 3, "seller1", "10.00", "1.00"),
        item("o9", 1),
    ]
    market.payments += [payment("o1"), payment("o9"), payment("o6", amount="-1")]
    market.sellers += [seller("seller1"), "seller3,1"]

    report = imported(market.write(tmp_path / "in"), tmp_path)

    assert rejected(tmp_path) == [
        ("sellers.csv", "4", "duplicate"),
        ("sellers.csv", "5", "wrong_column_count"),
        ("orders.csv", "5", "duplicate"),
        ("orders.csv", "6", "unknown_status"),
        ("orders.csv", "7", "wrong_column_count"),
        ("items.csv", "7", "duplicate"),
        ("items.csv", "8", "unknown_order"),
        ("items.csv", "9", "unknown_seller"),
        ("items.csv", "10", "bad_amount"),
        ("items.csv", "12", "unknown_order"),
        ("payments.csv", "5", "duplicate"),
        ("payments.csv", "6", "unknown_order"),
        ("payments.csv", "7", "bad_amount"),
    ]
    assert report.rejected == 13
    assert report.totals.orders == 4
    assert OrderItem.objects.get(order__external_reference="o6").line == 3
    assert report.as_json()["gross"] == "230.20"
    assert report.as_json()["commission"] == "11.52"  # 5.01 (5.005), 0.02 (0.015), 5.99, 0.50


def test_line_after_a_refused_twin_is_taken(tmp_path: Path) -> None:
    market = Marketplace(
        orders=[order("o1", "sold"), order("o1")], items=[item("o1", 1, "nobody"), item("o1", 1)], payments=[]
    )

    report = imported(market.write(tmp_path / "in"), tmp_path)

    assert rejected(tmp_path) == [("orders.csv", "2", "unknown_status"), ("items.csv", "2", "unknown_seller")]
    assert (report.totals.orders, report.totals.items, report.totals.sold) == (1, 1, 1)


def test_orders_without_accepted_items_are_stored_but_not_sold(tmp_path: Path) -> None:
    market = Marketplace(
        orders=[order("o1"), order("o2", "unavailable"), order("o3", "created")],
        items=[item("o2"), item("o3")],
        payments=[payment("o1")],
    )

    report = imported(market.write(tmp_path / "in"), tmp_path)

    assert (report.totals.orders, report.totals.sold, report.totals.sold_without_items) == (3, 0, 1)
    assert not Commission.objects.exists()
    assert not LedgerEntry.objects.exists()
    assert dict(Order.objects.values_list("external_reference", "status")) == {
        "o1": "delivered", "o2": "cancelled", "o3": "pending",
    }  # fmt: skip


def test_each_vendor_of_an_order_has_its_commission_entry_and_events(tmp_path: Path) -> None:
    imported(marketplace.good().write(tmp_path / "in"), tmp_path)

    stored = Order.objects.get(external_reference="o1")
    first, second = (vendor_id(run.SOURCE, name) for name in ("seller1", "seller2"))
    fees = {fee.vendor_id: fee for fee in Commission.objects.filter(order=stored)}
    assert (fees[first].order_amount_minor, fees[first].commission_amount_minor) == (10_010, 501)
    assert (fees[second].order_amount_minor, fees[second].commission_amount_minor) == (30, 2)
    entry = LedgerEntry.objects.get(id=str(fees[first].entry_id))
    assert (entry.book_id, entry.occurred_at) == (first, stored.confirmed_at)
    parts = LedgerTransfer.objects.filter(entry_id=entry.id).values_list(
        "debit__kind", "credit__kind", "amount_minor"
    )
    assert set(parts) == {
        ("psp_clearing", "vendor_pending", 9_509),
        ("psp_clearing", "platform_fee", 501),
        ("psp_clearing", "shipping_payable", 950),
    }
    recorded = AuditEvent.objects.filter(type=events.COMMISSION_CALCULATED).values_list(
        "target_id", flat=True
    )
    assert set(recorded) == {str(fee.pk) for fee in Commission.objects.all()}
    assert AuditEvent.objects.filter(type=events.ORDER_RECORDED, target_id=str(stored.pk)).count() == 1


def test_orders_and_commissions_are_told_and_not_captured_again(tmp_path: Path, superuser_dsn: str) -> None:
    imported(marketplace.good().write(tmp_path / "in"), tmp_path)

    assert not AuditEvent.objects.filter(type="capture.insert", target_type__startswith="finance_o").exists()
    assert not AuditEvent.objects.filter(type="capture.insert", target_type="finance_commission").exists()
    for stored in Order.objects.all():
        assert told("finance_order", stored.pk) == visible(superuser_dsn, "finance_order", stored.pk)
    for fee in Commission.objects.all():
        assert told("finance_commission", fee.pk) == visible(superuser_dsn, "finance_commission", fee.pk)


def test_imported_vendor_cannot_sign_in(tmp_path: Path) -> None:
    imported(marketplace.good().write(tmp_path / "in"), tmp_path)

    vendor = User.objects.get(source=run.SOURCE, external_reference="seller2")

    assert vendor.pk == vendor_id(run.SOURCE, "seller2")
    assert not vendor.has_usable_password()
    assert (vendor.email, vendor.email_key) == ("", None)
    assert not vendor.may_sign_in
    assert vendor.vendor_profile.vendor_status == "approved"
    assert vendor.vendor_profile.city == "rio de janeiro, brasil"


def test_second_import_of_the_same_files_changes_nothing(tmp_path: Path) -> None:
    files = marketplace.good().write(tmp_path / "in")
    first = imported(files, tmp_path)
    before = (AuditEvent.objects.count(), LedgerEntry.objects.count(), OrderPayment.objects.count())

    second = imported(files, tmp_path)

    assert second.totals == first.totals
    assert (first.changed, first.new_orders, first.already_present) == (True, 3, 0)
    assert (second.changed, second.new_orders, second.already_present) == (False, 0, 3)
    assert before == (AuditEvent.objects.count(), LedgerEntry.objects.count(), OrderPayment.objects.count())
    assert AuditEvent.objects.filter(type=events.IMPORT_FINISHED).count() == 1


def test_order_whose_lines_were_corrected_is_reported_and_left_alone(tmp_path: Path) -> None:
    market = marketplace.good()
    market.items[1] = item("o1", 2, "seller2", "bad")
    imported(market.write(tmp_path / "in"), tmp_path)
    market.items[1] = item("o1", 2, "seller2", "0.30")

    again = imported(market.write(tmp_path / "in"), tmp_path)

    assert rejected(tmp_path) == [("orders.csv", "2", "already_imported_with_other_contents")]
    assert (again.changed, again.rejected, again.totals.items) == (False, 1, 4)
    assert OrderItem.objects.filter(order__external_reference="o1").count() == 1


def test_same_files_in_another_currency_are_other_contents(tmp_path: Path) -> None:
    files = marketplace.good().write(tmp_path / "in")
    imported(files, tmp_path)

    again = run.import_orders(files=files, currency="USD", rejects_file=None, by=actor.system("test"))

    assert (again.changed, again.rejected) == (False, 3)


def test_dry_run_writes_nothing_but_the_rejects(tmp_path: Path) -> None:
    market = marketplace.good()
    market.items.append("broken")

    report = imported(market.write(tmp_path / "in"), tmp_path, dry_run=True)

    assert (report.changed, report.new_orders, report.rejected, report.totals.orders) == (False, 3, 1, 0)
    assert rejected(tmp_path) == [("items.csv", "7", "wrong_column_count")]
    assert not Order.objects.exists()
    assert not User.objects.filter(source=run.SOURCE).exists()


def test_vendors_without_orders_are_imported_with_one_event_at_the_end(tmp_path: Path) -> None:
    market = Marketplace(orders=[], items=[], payments=[], sellers=[seller("s1"), seller("s2")])

    report = imported(market.write(tmp_path / "in"), tmp_path)

    assert (report.changed, report.totals.vendors, report.new_vendors) == (True, 2, 2)
    assert AuditEvent.objects.filter(type=events.IMPORT_FINISHED).count() == 1


def test_totals_are_those_of_an_independent_computation(tmp_path: Path) -> None:
    files = marketplace.generated(700).write(tmp_path / "in")
    wanted = marketplace.expected(files)

    report = imported(files, tmp_path, batch_size=64)

    check(report, wanted)


def test_totals_of_the_real_files_are_those_of_an_independent_computation(
    sample_data: Path, tmp_path: Path
) -> None:
    files = Files(
        *(
            sample_data / f"olist_{name}.csv"
            for name in ("orders", "order_items", "order_payments", "sellers")
        )
    )
    wanted = marketplace.expected(files)

    report = imported(files, tmp_path)

    check(report, wanted)
    assert not (tmp_path / "rejects.csv").exists()


def check(report: Report, wanted: marketplace.Expected) -> None:
    said = report.as_json()
    assert (said["orders"], said["items"], said["sold"]) == (wanted.orders, wanted.items, wanted.sold)
    amounts = [Decimal(said[name]) for name in ("gross", "commission", "vendor_net")]
    assert amounts == [wanted.gross, wanted.commission, wanted.vendor_net]
    assert (said["rejected"], said["ledger_sums"]) == (0, {"BRL": "0.00"})


def test_number_that_is_taken_already_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["ORD-1", "ORD-1", "ORD-2", "ORD-1", "ORD-2", "ORD-3"])
    monkeypatch.setattr(numbers, "order_number", lambda moment: next(drawn))

    report = imported(marketplace.good().write(tmp_path / "in"), tmp_path)

    assert report.totals.orders == 3
    assert AuditEvent.objects.filter(type=events.IMPORT_FINISHED).count() == 1


def test_database_that_keeps_refusing_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "order_number", lambda moment: "ORD-1")

    with pytest.raises(IntegrityError):
        imported(marketplace.good().write(tmp_path / "in"), tmp_path)

    assert not Order.objects.exists()
    assert batches.ATTEMPTS > 1


def test_currency_must_be_known_and_without_taxes(tmp_path: Path) -> None:
    files = marketplace.good().write(tmp_path / "in")

    for currency in ("XXX", "brl", "COP"):
        with pytest.raises(UnusableFile, match=currency):
            run.import_orders(files=files, currency=currency, rejects_file=None, by=actor.system("test"))


def test_rejects_cannot_become_formulas_or_terminal_commands(tmp_path: Path) -> None:
    market = Marketplace(orders=["=cmd|' /C calc'!A0", "@x", "\x1b[2J"], items=[], payments=[])

    imported(market.write(tmp_path / "in"), tmp_path)

    with (tmp_path / "rejects.csv").open(encoding="utf-8", newline="") as stream:
        raw = [row["raw"] for row in csv.DictReader(stream)]
    assert raw == ["'=cmd|' /C calc'!A0", "'@x", "\\x1b[2J"]


def test_rejects_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(reason: str, detail: str) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(rejects, "explain", fail)
    market = Marketplace(orders=["bad"], items=[], payments=[])

    with pytest.raises(OSError, match="disk full"):
        imported(market.write(tmp_path / "in"), tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_command_ends_with_one_line_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = marketplace.good().write(tmp_path / "in")

    call_command(*command(files, "--json", "--rejects", str(tmp_path / "rejects.csv")))

    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    said = json.loads(line)
    promised = """orders items vendors sold sold_statuses gross commission vendor_net currency rejected
        new_orders already_present changed sold_without_items payment_differences elapsed_seconds"""
    assert set(promised.split()) <= said.keys()
    assert (said["currency"], said["gross"], said["payment_differences"]) == ("BRL", "220.20", 0)
    assert "220.20" in printed.err


def test_command_says_that_nothing_was_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = marketplace.good().write(tmp_path / "in")
    with translation.override("en"):
        call_command(*command(files))
        first = capsys.readouterr().out

        call_command(*command(files))

    assert "Nothing was changed" in capsys.readouterr().out
    assert "Nothing was changed" not in first


def test_command_exits_3_when_lines_were_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    market = marketplace.good()
    market.orders.append("bad")

    with pytest.raises(SystemExit) as ended:
        call_command(*command(market.write(tmp_path / "in"), "--json", "--rejects", str(tmp_path / "r.csv")))

    assert ended.value.code == 3
    assert json.loads(capsys.readouterr().out)["rejected"] == 1
    assert (tmp_path / "r.csv").exists()


def test_command_refuses_unusable_input(tmp_path: Path) -> None:
    files = marketplace.good().write(tmp_path / "in")
    files.items.write_text("nothing\n", encoding="utf-8")

    with pytest.raises(CommandError, match="items") as header:
        call_command(*command(files))
    with pytest.raises(CommandError, match="batch-size"):
        call_command(*command(files, "--batch-size", "0"))

    assert header.value.returncode == 1


def test_command_says_that_rejects_cannot_be_written(tmp_path: Path) -> None:
    market = marketplace.good()
    market.orders.append("bad")

    with pytest.raises(CommandError, match="away") as refusal:
        call_command(*command(market.write(tmp_path / "in"), "--rejects", str(tmp_path / "away" / "r.csv")))

    assert refusal.value.returncode == 1


def test_rejects_do_not_take_the_place_of_an_input_or_a_device(tmp_path: Path) -> None:
    market = marketplace.good()
    market.orders.append("bad")
    files = market.write(tmp_path / "in")
    before = files.items.read_bytes()
    (tmp_path / "hard").hardlink_to(files.items)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe")

    for taken in (files.items, *(tmp_path / name for name in ("hard", "link", "pipe", "in"))):
        with pytest.raises(CommandError, match=taken.name) as refusal:
            call_command(*command(files, "--rejects", str(taken)))
        assert refusal.value.returncode == 1

    assert files.items.read_bytes() == before
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "pipe").is_fifo()
    assert not Order.objects.exists()


def test_second_import_at_once_is_refused(
    tmp_path: Path, app_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finance.imports.staging.LOCK_PATIENCE", "50ms")
    files = marketplace.good().write(tmp_path / "in")

    with psycopg.connect(app_dsn) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [RUN_LOCK])
        with pytest.raises(CommandError) as refusal:
            call_command(*command(files))

    assert refusal.value.returncode == 4
    assert not Order.objects.exists()


def test_help_has_an_example(tmp_path: Path) -> None:
    import sys

    shown = subprocess.run(
        [sys.executable, "manage.py", "import_orders", "--help"], capture_output=True, text=True, check=True
    )

    assert "--sellers sellers.csv" in shown.stdout


def test_sales_of_closed_books_are_posted_now_and_count_as_of_then(tmp_path: Path) -> None:
    """A close refuses what occurred before it; orders found later are still orders."""
    periods.close(timezone.now() - dt.timedelta(hours=1), reason="the month is over", by=actor.system("test"))

    report = imported(marketplace.good().write(tmp_path / "in"), tmp_path)

    entries = list(LedgerEntry.objects.all())
    assert (report.new_orders > 0, len(entries) > 0) == (True, True)
    closed = periods.closed_until()
    assert closed is not None
    assert all(entry.occurred_at >= closed for entry in entries)
    assert all(row.calculated_at < closed for row in Commission.objects.all())
    assert verification.verify(by=actor.system("test")).broken == []
