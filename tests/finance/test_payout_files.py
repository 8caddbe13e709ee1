"""Bank files: what stands in them to the letter, who takes them, and the command."""

from __future__ import annotations

import datetime as dt
import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from accounts import approvals
from accounts.approvals import SecondPersonRequired
from accounts.hierarchy import NotAllowed
from accounts.models import ApprovalRequest, VendorProfile
from finance import bank_accounts, payout_batches, payout_ends, payout_outcomes
from finance.bank_files import (
    FileRefused,
    Payer,
    PaymentLine,
    PaymentOrder,
    PlainCsv,
    bank_code,
    folded,
    totals_of,
)
from finance.bank_files_pab import WIDTH, Pab
from finance.ledger_balances import available
from finance.models import BankAccount, OutboundEvent, Payout, PayoutBatch, WebhookEndpoint
from finance.payout_states import WrongState
from finance.postings import VENDOR_RECEIVABLE
from finance.states import BankAccountType, PayoutState
from mestore.lib import sql
from monitoring.models import AuditEvent
from monitoring.outbox import OutboxMessage
from monitoring.signals import Signal
from tests.factories.accounts import VendorFactory
from tests.factories.administration import acting
from tests.finance.payout_house import (
    APPROVING,
    EXPORTING,
    MANAGING,
    REASON,
    SYSTEM,
    account,
    approve,
    approver,
    asked,
    cop,
    file_of,
    fund,
    hand_over,
    sent,
    staff,
    vendor_with,
)
from tests.finance.selling import move
from tests.harness.racing import race

WHEN = dt.datetime(2026, 11, 22, 15, 0, tzinfo=dt.UTC)
PAYER = {"name": "MeStore", "document": "900123456", "account": "12345678901", "account_type": "CORRIENTE"}


def line(**changes: Any) -> PaymentLine:
    return PaymentLine(
        **{
            "reference": "PAY-20261122-ABCDEFGH", "minor": 12_345_600, "bank_name": "Bancolombia",
            "bank_code": "1007", "account_type": BankAccountType.SAVINGS, "number": "10987654321",
            "holder_name": "Ñandú & Cía. Ltda.", "document_type": "NIT", "document": "900765432", **changes,
        }
    )  # fmt: skip


def order(*lines: PaymentLine, currency: str = "COP") -> PaymentOrder:
    payer = Payer("MeStore", "900123456", "12345678901", BankAccountType.CHECKING)
    return PaymentOrder("BAT-1", currency, WHEN, WHEN.date(), payer, lines or (line(),))


# --- To the letter ----------------------------------------------------------------------------------------


def test_pab_record_by_record() -> None:
    control, detail = Pab().write(order(line(), line(minor=100))).split("\r\n")[:2]
    assert len(control) == len(detail) == WIDTH
    assert control[:115] == (
        "1" + "000000900123456" + "I" + " " * 15 + "220" + "PAGOS     " + "20261122" + "A1" + "20261122"
        + "000002" + "0" * 17 + "00000000012345700" + "12345678901" + "D"
    )  # fmt: skip
    assert control[115:] == " " * 149
    assert detail[:122] == (
        "6" + "000000900765432" + "NANDU CIA. LTDA.".ljust(30) + "000001007" + "00000010987654321"
        + " " + "37" + "00000000012345600" + "20261122" + "PAY-20261122-ABCDEFGH" + "3"
    )  # fmt: skip
    assert detail[122:] == "00000" + " " * 137


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"bank_code": ""}, "bank_code"), ({"document": ""}, "document"),
        ({"document_type": "X"}, "document"),
        ({"number": "1" * 18}, "account_number"), ({"minor": 150}, "amount_not_in_steps"),
        ({"holder_name": "名前"}, "holder_name"), ({"document": "12A"}, "document"),
    ],
)  # fmt: skip
def test_pab_refuses_what_it_cannot_say(changes: dict[str, Any], why: str) -> None:
    assert Pab().obstacle(line(**changes), "COP") == why
    with pytest.raises(FileRefused):
        Pab().write(order(line(**changes)))
    assert Pab().obstacle(line(), "USD") == "currency"


def test_csv_has_totals_and_no_formula() -> None:
    text = PlainCsv().write(order(line(holder_name="=HYPERLINK(1)", bank_name="@bank"), line(minor=100)))
    assert text.isascii()
    rows = text.splitlines()
    assert rows[0].startswith('"reference","amount"')
    assert '"HYPERLINK 1"' in rows[1]
    assert '"BANK"' in rows[1]
    assert rows[-1] == '"TOTAL","123457.00","COP","2","","","000021975308642","","",""'


@given(st.text(max_size=60), st.integers(1, 10**13))
def test_any_name_makes_a_record_of_the_right_width(name: str, pesos: int) -> None:
    one = line(holder_name=f"A{name}", minor=pesos * 100)
    text = Pab().write(order(one))
    assert [len(record) for record in text.split("\r\n")] == [WIDTH, WIDTH, 0]
    assert text.isascii()
    assert text.split("\r\n")[1][76:92].isdigit()
    assert not set(folded(name)) & set("=+@\t\r\n")


@given(st.lists(st.integers(1, 10**12), max_size=30))
def test_totals_add_up(amounts: list[int]) -> None:
    lines = [line(minor=minor, number=str(minor)) for minor in amounts]
    found = totals_of(lines)
    assert (found.count, found.minor, found.accounts) == (len(amounts), sum(amounts), sum(amounts) % 10**15)


def test_banks_are_found_by_their_names() -> None:
    assert bank_code("Banco de Bogotá") == "1001"
    assert bank_code("BANCOLOMBIA") == "1007"
    assert bank_code("Banco Davivienda") == "1051"
    assert bank_code("somewhere") == ""


# --- Who takes them ---------------------------------------------------------------------------------------

database = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])


@database
def test_who_makes_a_file_does_not_hand_it_over() -> None:
    vendor, where = vendor_with("500000")
    payout = approve(asked(vendor, where))
    maker = staff(EXPORTING)
    for person in (staff(), staff(APPROVING)):
        with pytest.raises(NotAllowed):
            payout_batches.make(currency="COP", layout="csv", by=acting(person))
    made = payout_batches.make(currency="COP", layout="csv", by=acting(maker))
    assert made.batch is not None
    with pytest.raises(payout_batches.SamePerson):
        hand_over(made.batch, maker)
    with pytest.raises(NotAllowed):
        hand_over(made.batch, staff())
    with pytest.raises(NotAllowed):
        payout_batches.hand_over(made.batch.pk, reason=REASON, by=SYSTEM)
    file = hand_over(made.batch)
    assert payout.payout_number.encode() in file.content
    assert where.number is not None
    assert where.number.encode() in file.content
    row = sql.fetch_one("SELECT file FROM finance_payoutbatch WHERE id = %s", [made.batch.pk])
    assert row is not None
    assert where.number.encode() not in bytes(row[0])


@database
def test_file_is_taken_once_more_with_a_second_person_and_is_gone_then() -> None:
    vendor, where = vendor_with("500000")
    batch = file_of(approve(asked(vendor, where)))
    first, second = staff(EXPORTING), staff(EXPORTING)
    content = hand_over(batch, first).content
    with pytest.raises(SecondPersonRequired):
        hand_over(batch, first)
    payout_batches.ask_again(batch.pk, reason=REASON, by=acting(first))
    request = ApprovalRequest.objects.get()
    approvals.approve(request.pk, by=acting(second))
    assert hand_over(batch, first).content == content
    with pytest.raises(payout_batches.BatchGone):
        hand_over(batch, first)
    taken = AuditEvent.objects.filter(type="payout_file.taken", target_id=str(batch.pk))
    assert taken.count() == 2
    assert available(vendor.pk, "COP").free == 40_000_000


@database
def test_two_who_hand_over_at_once_send_once() -> None:
    vendor, where = vendor_with("500000")
    batch = file_of(approve(asked(vendor, where)))
    outcomes = race([partial(hand_over, batch, staff(EXPORTING)) for _ in range(4)])
    assert sum(isinstance(one, payout_batches.File) for one in outcomes) == 1, outcomes
    assert sum(isinstance(one, SecondPersonRequired) for one in outcomes) == 3
    assert available(vendor.pk, "COP").free == 40_000_000


@database
def test_handing_over_takes_as_many_statements_for_many_as_for_one() -> None:
    """Also with somebody who listens: events, their jobs, mails and the trail are written together."""
    WebhookEndpoint.objects.create(name="shop", url="https://shop.example.com/hook", secret="x" * 44)
    people, taken = [approver() for _ in range(2)], []
    for many in (1, 6):
        payouts_made = [approve(asked(*vendor_with("500000")), *people) for _ in range(many)]
        batch = file_of()
        exporter = staff(EXPORTING)
        with CaptureQueriesContext(connection) as queries:
            hand_over(batch, exporter)
        taken.append(len(queries))
        for payout in payouts_made:
            payout.refresh_from_db()
            assert payout.state == PayoutState.IN_TRANSIT
            assert payout.post_entry_id is not None
            told = OutboundEvent.objects.get(type="payout.sent", subject_id=str(payout.pk))
            assert told.deliveries.count() == 1
            changes = payout.changes.order_by("id").values_list("after", flat=True)
            assert list(changes)[-1] == "in_transit"
        assert (
            OutboxMessage.objects.filter(
                template="payout_told", subject__in=[str(payout.vendor_id) for payout in payouts_made]
            ).count()
            >= 2 * many
        )
    assert taken[0] == taken[1], taken


@database
@pytest.mark.parametrize("wrong", ["approver", "vendor", "debt", "account"])
def test_one_payout_that_may_not_go_any_more_keeps_the_whole_file_here(wrong: str) -> None:
    person, stranger = approver(), approver()
    good = approve(asked(*vendor_with("500000")), person, approver())
    vendor, where = vendor_with("500000")
    bad = approve(asked(vendor, where), person, stranger)
    batch = file_of()
    if wrong == "approver":
        stranger.grants.all().delete()
    elif wrong == "vendor":
        VendorProfile.objects.filter(user=vendor).update(vendor_status="rejected")
    elif wrong == "debt":
        move(vendor.pk, VENDOR_RECEIVABLE, "refund_clearing", 1)
    else:
        bank_accounts.remove(vendor.pk, where.pk, by=acting(vendor))

    with pytest.raises(payout_batches.BatchStale):
        hand_over(batch)
    states = set(Payout.objects.filter(pk__in=[good.pk, bad.pk]).values_list("state", flat=True))
    assert states == {"submitting"}


@database
def test_file_that_waited_too_long_is_thrown_away_only() -> None:
    vendor, where = vendor_with("500000")
    payout = approve(asked(vendor, where))
    batch = file_of(payout)
    with override_settings(PAYOUT_FILE_HOURS=0), pytest.raises(payout_batches.BatchStale):
        hand_over(batch)
    payout_batches.discard(batch.pk, reason=REASON, by=SYSTEM)
    payout.refresh_from_db()
    assert payout.state == PayoutState.REJECTED
    assert available(vendor.pk, "COP").free == 50_000_000
    with pytest.raises(payout_batches.BatchGone):
        hand_over(batch)


@database
def test_account_that_was_altered_gets_nothing() -> None:
    vendor, where = vendor_with("500000")
    payout = approve(asked(vendor, where))
    forged = BankAccount.objects.get(pk=where.pk)
    forged.number = "66666666666"
    forged.save(update_fields=["number"])
    assert not bank_accounts.is_intact(BankAccount.objects.get(pk=where.pk))
    made = payout_batches.make(currency="COP", layout="csv", by=SYSTEM)
    assert made.batch is None
    assert made.left_out == ((payout.payout_number, "account_altered"),)
    payout.refresh_from_db()
    assert payout.state == PayoutState.HELD
    assert Signal.objects.filter(rule="payout.account_altered").count() == 1


@database
def test_layout_leaves_out_what_it_cannot_say() -> None:
    vendor, _where = vendor_with("500000")
    plain = account(vendor, "55566677788", document="", document_type="")
    payout = approve(asked(vendor, plain))
    with pytest.raises(payout_batches.PayerMissing):
        payout_batches.make(currency="COP", layout="pab", by=SYSTEM)
    with override_settings(PAYOUT_PAYER=PAYER):
        made = payout_batches.make(currency="COP", layout="pab", by=SYSTEM)
        assert made.left_out == ((payout.payout_number, "document"),)
        payout.refresh_from_db()
        assert payout.state == PayoutState.APPROVED
        good = VendorFactory.create()
        fund(good, cop("500000"))
        approve(asked(good, account(good, "11223344556")))
        batch = file_of(layout="pab")
    assert hand_over(batch).content.decode().startswith("1000000900123456I")


# --- Unknown outcomes -------------------------------------------------------------------------------------


@database
@pytest.mark.parametrize(
    ("outcome", "state"), [("paid", PayoutState.PAID), ("returned", PayoutState.RETURNED)]
)
def test_unknown_outcome_ends_by_evidence_and_a_second_person(outcome: str, state: PayoutState) -> None:
    vendor, where = vendor_with("500000")
    payout = sent(vendor, where)
    with override_settings(PAYOUT_ANSWER_DAYS=0):
        assert payout_outcomes.without_answer(10, by=SYSTEM) == 1
    payout.refresh_from_db()
    assert payout.state == PayoutState.UNKNOWN
    assert available(vendor.pk, "COP").free == 40_000_000, "the money stays where it is"
    assert Signal.objects.filter(rule="payout.outcome_unknown").count() == 1
    with pytest.raises(WrongState):
        payout_ends.cancel(payout.pk, vendor_id=vendor.pk, by=SYSTEM)
    with pytest.raises(WrongState):
        payout_ends.reject(payout.pk, reason=REASON, by=SYSTEM)
    assert payout.batch_id is not None
    answer = f"reference,outcome,amount\n{payout.payout_number},paid,100000\n".encode()
    read = payout_outcomes.import_answer(payout.batch_id, answer, by=SYSTEM)
    assert [one.result for one in read.lines] == ["needs a second person"]
    asker, other = staff(MANAGING), staff(MANAGING)
    with pytest.raises(payout_outcomes.ResolutionUnknown):
        payout_outcomes.ask_to_resolve(payout.pk, outcome="perhaps", evidence=REASON, by=acting(asker))
    request = payout_outcomes.ask_to_resolve(payout.pk, outcome=outcome, evidence=REASON, by=acting(asker))
    with pytest.raises(approvals.NotYours):
        approvals.approve(request.pk, by=acting(asker))
    approvals.approve(request.pk, by=acting(other))
    payout.refresh_from_db()
    assert payout.state == state
    assert available(vendor.pk, "COP").free == (40_000_000 if outcome == "paid" else 50_000_000)


@database
@pytest.mark.parametrize("outcome", ["paid", "returned"])
def test_unknown_before_the_file_left_is_settled_from_the_reservation(outcome: str) -> None:
    vendor, where = vendor_with("500000")
    payout = approve(asked(vendor, where))
    batch = file_of(payout)
    payout_outcomes.mark_unknown(payout.pk, reason=REASON, by=acting(staff(MANAGING)))
    with pytest.raises(payout_batches.BatchStale):
        hand_over(batch)
    request = payout_outcomes.ask_to_resolve(
        payout.pk, outcome=outcome, evidence=REASON, by=acting(staff(MANAGING))
    )
    approvals.approve(request.pk, by=acting(staff(MANAGING)))
    payout.refresh_from_db()
    assert payout.state == (PayoutState.PAID if outcome == "paid" else PayoutState.REJECTED)
    found = available(vendor.pk, "COP")
    assert (found.free, found.reserved) == (40_000_000 if outcome == "paid" else 50_000_000, 0)


# --- The command ------------------------------------------------------------------------------------------


def command(*arguments: str) -> dict[str, Any]:
    out = io.StringIO()
    try:
        call_command("payouts", *arguments, "--json", stdout=out)
    except CommandError as error:
        found = json.loads(out.getvalue()) if out.getvalue() else {}
        return {**found, "exit": error.returncode}
    return {**json.loads(out.getvalue()), "exit": 0}


@database
def test_batch_run_asks_once_and_says_why_not() -> None:
    vendor, _where = vendor_with("123456.78")
    vendor_with("10000")
    vendor_with("500000", cooled=False)
    assert [row["vendor"] for row in command("due")["due"]] == [str(vendor.pk)]
    assert command("run")["exit"] == 2, "the settings say for nobody"
    assert command("run", "--dry-run")["due"][0]["amount"] == "123456.00"
    assert not Payout.objects.exists()
    with override_settings(PAYOUT_RUN_FOR="everybody"):
        first = command("run")
        assert (first["exit"], first["asked"][0]["amount"]) == (0, "123456.00")
        again = command("run")
    assert again["asked"] == []
    assert Payout.objects.count() == 1
    assert Payout.objects.get().requested_by is None
    assert available(vendor.pk, "COP").free == 78


@database
def test_command_makes_files_and_reads_answers(tmp_path: Path) -> None:
    vendor, where = vendor_with("500000")
    assert command("export") == {"batch": None, "left_out": [], "exit": 1}
    payout = approve(asked(vendor, where))
    made = command("export")
    assert (made["exit"], made["payouts"], made["total"]) == (0, 1, "100000.00")
    batch = PayoutBatch.objects.get()
    hand_over(batch)
    answer = tmp_path / "answer.csv"
    answer.write_text(f"reference;outcome;amount\n{payout.payout_number};Pagado;100000\nX;Pagado;1\n")
    told = command("answer", made["batch"], str(answer))
    assert (told["exit"], told["done"], len(told["open"])) == (1, 1, 1)
    assert command("answer", "BAT-NONE", str(answer))["exit"] == 2
    assert command("answer", made["batch"], str(tmp_path / "none"))["exit"] == 2
    payout.refresh_from_db()
    assert payout.state == PayoutState.PAID
