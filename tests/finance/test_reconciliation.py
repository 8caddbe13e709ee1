"""Reports against the ledger: taken in once and whole, each difference found once, what is over vanishes."""

from __future__ import annotations

import datetime as dt
import json
import tracemalloc
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from accounts.models import User
from finance import ledger, reconciliation
from finance.models import (
    Commission,
    OrderPayment,
    ProviderRecord,
    ProviderReport,
    ReconciliationCase,
)
from finance.reconciliation_files import SIGNS, Record, Rejected, UnusableReport, records
from finance.states import CaseState, RecordKind, ReportKind
from mestore.lib import actor
from monitoring import events
from monitoring.models import AuditEvent, Signal
from tests.factories.accounts import VendorFactory
from tests.factories.finance import MOMENT, CommissionFactory, OrderFactory, sale
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)
BY = actor.system("test")
TOTAL = 13_400_000  # what the factory's sale comes to: goods, tax and shipping, in centavos
AT = MOMENT.isoformat()
HEADER = "reference,kind,amount,currency,occurred_at,fee"


def paid(reference: str, *, vendor: User | None = None, provider: str = "wompi") -> Commission:
    """An order that was paid and posted."""
    vendor = vendor or VendorFactory.create()
    order = OrderFactory.create(confirmed_at=MOMENT)
    OrderPayment.objects.create(
        order=order, sequence=1, amount_minor=TOTAL, provider=provider, reference=reference, status="approved"
    )
    entry = sale(vendor.pk, order.pk)
    with transaction.atomic():
        ledger.post_many([entry], by=BY)
    return CommissionFactory.create(order=order, vendor=vendor, entry_id=entry.entry_id)


def file(folder: Path, *lines: str, name: str = "report.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([HEADER, *lines, ""]))
    return path


def line(reference: str, amount: str = "134000.00", kind: str = "payment", currency: str = "COP") -> str:
    return f"{reference},{kind},{amount},{currency},{AT},100.00"


def take(path: Path, **values: Any) -> ProviderReport:
    given = {"kind": ReportKind.PROVIDER, "provider": "wompi", **values}
    return reconciliation.take_in(path, by=BY, **given).report


def cases() -> list[tuple[str, str, int | None, int | None]]:
    rows = ReconciliationCase.objects.filter(state=CaseState.OPEN).order_by("reference", "kind")
    return list(rows.values_list("kind", "reference", "ledger_minor", "provider_minor"))


def test_what_agrees_opens_no_case(tmp_path: Path) -> None:
    for reference in ("a", "b"):
        paid(reference)
    report = take(file(tmp_path, line("a"), line("b")))

    found = reconciliation.compare(report, by=BY)

    assert found == reconciliation.Compared(0, 0, 0)
    assert report.record_count == 2
    assert report.totals == [
        {"kind": "payment", "currency": "COP", "count": 2, "minor": 2 * TOTAL, "fee_minor": 20_000}
    ]
    assert not Signal.objects.exists()


def test_every_kind_of_difference_is_named(tmp_path: Path) -> None:
    paid("equal")
    paid("less")
    pending = OrderFactory.create(status="pending")
    OrderPayment.objects.create(
        order=pending, sequence=1, amount_minor=1, provider="wompi", reference="unposted", status="approved"
    )
    report = take(
        file(
            tmp_path, line("equal"), line("less", "133999.99"), line("never"), line("unposted"),
            line("twice"), line("twice"),
        )
    )  # fmt: skip

    found = reconciliation.compare(report, by=BY)

    assert cases() == [
        ("amount_differs", "less", TOTAL, TOTAL - 1),
        ("missing_in_ledger", "never", None, TOTAL),
        ("missing_in_ledger", "twice", None, 2 * TOTAL),
        ("reported_twice", "twice", None, 2 * TOTAL),
        ("state_differs", "unposted", None, TOTAL),
    ]
    assert (found.differences, found.opened) == (5, 5)
    assert Signal.objects.get().rule == reconciliation.FOUND.code


def test_orders_of_a_split_cart_share_their_payment(tmp_path: Path) -> None:
    paid("cart")
    paid("cart")

    reconciliation.compare(take(file(tmp_path, line("cart", "268000.00"))), by=BY)

    assert cases() == []


def test_another_currency_is_a_difference(tmp_path: Path) -> None:
    paid("a")

    reconciliation.compare(take(file(tmp_path, line("a", currency="USD"))), by=BY)

    assert [case[0] for case in cases()] == ["currency_differs"]


def test_what_the_report_leaves_out_of_its_time_is_missing(tmp_path: Path) -> None:
    paid("told")
    paid("untold")
    paid("of another provider", provider="payu")
    day = dt.timedelta(days=1)

    reconciliation.compare(take(file(tmp_path, line("told")), since=MOMENT - day, until=MOMENT + day), by=BY)
    assert cases() == [("missing_at_provider", "untold", TOTAL, None)]

    late = take(file(tmp_path, line("untold"), name="late.csv"))
    reconciliation.compare(late, by=BY)
    assert reconciliation.compare_recent(by=BY) == 0
    assert cases() == []
    assert ReconciliationCase.objects.get().state == CaseState.VANISHED


def test_without_a_period_nothing_is_missing(tmp_path: Path) -> None:
    paid("untold")
    paid("told")

    reconciliation.compare(take(file(tmp_path, line("told"))), by=BY)

    assert cases() == []


def test_refunds_and_chargebacks(tmp_path: Path) -> None:
    report = take(
        file(tmp_path, line("re-1", "10.00", kind="refund"), line("cb-1", "5.00", kind="chargeback"))
    )

    reconciliation.compare(report, by=BY)

    assert cases() == [
        ("missing_in_ledger", "cb-1", None, -500), ("missing_in_ledger", "re-1", None, -1_000),
    ]  # fmt: skip


def test_sweeps_are_compared_between_provider_and_bank(tmp_path: Path) -> None:
    sent = take(file(tmp_path, line("s-1", "100.00", "sweep"), line("s-2", "50.00", "sweep")))
    reconciliation.compare(sent, by=BY)
    assert [case[:2] for case in cases()] == [("missing_at_bank", "s-1"), ("missing_at_bank", "s-2")]

    came = take(
        file(tmp_path, line("s-1", "100.00", "sweep"), line("s-2", "49.00", "sweep"), name="bank.csv"),
        kind=ReportKind.BANK, provider="bancolombia",
    )  # fmt: skip
    reconciliation.compare(came, by=BY)
    reconciliation.compare(sent, by=BY)

    assert {case[:2] for case in cases()} == {("amount_differs", "s-2")}


def test_a_payout_that_we_do_not_know_left_the_bank(tmp_path: Path) -> None:
    report = take(
        file(tmp_path, line("PAY-X", "100.00", "payout"), line("PAY-X", "100.00", "return")),
        kind=ReportKind.BANK, provider="bancolombia",
    )  # fmt: skip

    reconciliation.compare(report, by=BY)

    assert [case[:2] for case in cases()] == [("missing_in_ledger", "PAY-X")]


def test_comparing_twice_finds_nothing_new_and_a_change_is_told(tmp_path: Path) -> None:
    report = take(file(tmp_path, line("a")))
    assert reconciliation.compare(report, by=BY).opened == 1
    assert reconciliation.compare(report, by=BY) == reconciliation.Compared(1, 0, 0)

    paid("a")

    assert reconciliation.compare(report, by=BY) == reconciliation.Compared(0, 0, 1)
    assert AuditEvent.objects.filter(type=events.BOOKS_COMPARED).count() == 3


def test_what_is_explained_is_not_found_again_what_is_corrected_is(tmp_path: Path) -> None:
    report = take(file(tmp_path, line("a"), line("b")))
    reconciliation.compare(report, by=BY)
    first, second = ReconciliationCase.objects.order_by("reference")

    reconciliation.explain(first, reason="a payment of a voucher", by=BY)
    reconciliation.correct(second, reason="the order was confirmed", by=BY)
    found = reconciliation.compare(report, by=BY)

    assert found.opened == 1
    assert [case[1] for case in cases()] == ["b"]
    with pytest.raises(reconciliation.CaseDecided):
        reconciliation.explain(first, reason="once more", by=BY)


def test_two_who_decide_are_one_decision(tmp_path: Path) -> None:
    reconciliation.compare(take(file(tmp_path, line("a"))), by=BY)
    case = ReconciliationCase.objects.get()

    results = race([lambda: reconciliation.explain(case, reason="the one and the other", by=BY)] * 6)

    assert sum(isinstance(one, reconciliation.CaseDecided) for one in results) == 5
    assert AuditEvent.objects.filter(type=events.CASE_DECIDED).count() == 1


def test_a_file_is_taken_in_once_also_by_two_at_once(tmp_path: Path) -> None:
    path = file(tmp_path, *(line(f"r-{number}") for number in range(50)))

    results = race([lambda: take(path)] * 4)

    assert sum(isinstance(one, ProviderReport) for one in results) == 1
    assert sum(isinstance(one, reconciliation.ReportKnown) for one in results) == 3
    assert ProviderRecord.objects.count() == 50


def test_comparisons_at_once_open_each_case_once(tmp_path: Path) -> None:
    report = take(file(tmp_path, *(line(f"r-{number}") for number in range(40))))

    results = race([lambda: reconciliation.compare(report, by=BY)] * 4)

    assert sum(one.opened for one in results if isinstance(one, reconciliation.Compared)) == 40
    assert ReconciliationCase.objects.count() == 40


def test_a_file_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(reconciliation.ReportEmpty):
        take(file(tmp_path, "a,payment,ten,COP,yesterday,0"))
    with pytest.raises(UnusableReport):
        take(tmp_path / "nowhere.csv")

    assert not ProviderReport.objects.exists()
    assert not ProviderRecord.objects.exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (line(""), "reference"),
        (line("x" * 129), "reference"),
        (line("a", kind="gift"), "kind"),
        (line("a", kind="payout"), "kind"),
        (line("a", amount="-1"), "amount_invalid"),
        (line("a", amount="1e3"), "amount_invalid"),
        (line("a", amount="1.001"), "amount_too_precise"),
        (line("a", amount="10000000000000.01"), "amount_too_large"),
        (line("a", currency="XXX"), "currency_unknown"),
        (f"a,payment,1,COP,{AT},NaN", "amount_invalid"),
        ("a,payment,1,COP,31/12/2026,0", "occurred_at"),
        ("a,payment,1", "malformed"),
        ('a,"payment,1,COP', "malformed"),
    ],
)
def test_bad_lines_are_left_out_with_their_reason(tmp_path: Path, text: str, why: str) -> None:
    found = list(records(file(tmp_path, line("good"), text), ReportKind.PROVIDER))

    assert isinstance(found[0], Record)
    assert found[1] == Rejected(3, why)


def test_lines_that_are_no_text_or_without_end_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "bytes.csv"
    path.write_bytes(
        HEADER.encode() + b"\n\xff\xfe\n" + b"x" * 100_000 + b"\n" + line("good").encode() + b"\n"
    )

    found = list(records(path, ReportKind.PROVIDER))

    assert [type(one) for one in found] == [Rejected, Rejected, Record]
    assert [one.why for one in found if isinstance(one, Rejected)] == ["malformed", "too_long"]


@pytest.mark.parametrize("first", ["", "reference,kind", "a,b,c,d,e", HEADER + ",fee"])
def test_a_file_without_the_columns_is_refused(tmp_path: Path, first: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(first + "\n" + line("a") + "\n")

    with pytest.raises(UnusableReport):
        list(records(path, ReportKind.PROVIDER))


def test_signs_say_which_way_money_goes() -> None:
    assert SIGNS[ReportKind.PROVIDER, RecordKind.SWEEP] == -SIGNS[ReportKind.BANK, RecordKind.SWEEP]
    assert set(SIGNS.values()) == {1, -1}


def test_imported_orders_are_compared_with_what_was_paid_for_them() -> None:
    equal, other = paid("a").order, paid("b").order
    OrderPayment.objects.filter(order=other).update(amount_minor=TOTAL - 5)

    found = reconciliation.compare_orders("storefront", by=BY)

    assert (found.differences, cases()) == (
        1, [("amount_differs", other.order_number, other.total_minor, TOTAL - 5)],
    )  # fmt: skip
    assert equal.order_number not in {case[1] for case in cases()}
    assert reconciliation.compare_orders("elsewhere", by=BY).differences == 0


def test_the_command_says_by_its_exit_code_whether_there_are_differences(tmp_path: Path) -> None:
    paid("a")
    out = StringIO()
    call_command(
        "reconcile", "import", str(file(tmp_path, line("a"))), "--kind", "provider", "--provider", "wompi",
        "--json", stdout=out,
    )  # fmt: skip
    assert json.loads(out.getvalue())["differences"] == 0

    with pytest.raises(SystemExit) as ended:
        call_command(
            "reconcile", "import", str(file(tmp_path, line("b"), "nonsense", name="b.csv")),
            "--kind", "provider", "--provider", "wompi", "--since", "2026-03-01", "--until", "2026-03-31",
            stdout=(out := StringIO()),
        )  # fmt: skip
    assert ended.value.code == 3
    assert "rejects: line 3: malformed" in out.getvalue()
    with pytest.raises(SystemExit):
        call_command("reconcile", "cases", "--json", stdout=(out := StringIO()))
    assert json.loads(out.getvalue())["cases"][0]["reference"] == "b"
    with pytest.raises(CommandError, match=str(reconciliation.ReportKnown.message)):
        call_command(
            "reconcile", "import", str(tmp_path / "b.csv"), "--kind", "provider", "--provider", "wompi"
        )


def test_taking_a_report_in_holds_no_list_of_its_lines(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = file(tmp_path, *(line(f"r-{number}") for number in range(count)), name=f"{count}.csv")
        tracemalloc.start()
        report = take(path)
        _now, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert report.record_count == count == ProviderRecord.objects.filter(report=report).count()
        return most

    peak(100)  # what is loaded on first use

    # Chunks of a file; a list of the lines would be three times as long.
    assert peak(60_000) < 1.5 * peak(20_000)
