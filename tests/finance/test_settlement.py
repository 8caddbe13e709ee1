"""Settlement: due money becomes available once, whatever is killed, repeated or raced."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import User
from finance import ledger, settlement
from finance.models import Commission, LedgerEntry, SettlementRun, StatementLine
from finance.money import MoneyError
from finance.postings import VENDOR_AVAILABLE, VENDOR_PENDING, VENDOR_RECEIVABLE
from finance.settlement_postings import settlement_posting
from monitoring.models import AuditEvent
from tests.factories.accounts import VendorFactory
from tests.finance.selling import BY, NET, fund, move, refund, sold

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit"])


@pytest.fixture
def vendor(transactional_db: None) -> User:
    return VendorFactory.create()


def net(book: UUID, kind: str, currency: str = "COP") -> int:
    return sum(row.net for row in ledger.balances(book) if (row.kind, row.currency) == (kind, currency))


def settle(**values: Any) -> list[settlement.Result]:
    return settlement.settle(by=BY, **values)


def statuses(*commissions: Commission) -> list[str]:
    return [Commission.objects.get(pk=one.pk).status for one in commissions]


# What must not be settled.


def test_nothing_is_settled_before_its_hold_is_over(vendor: User) -> None:
    young = sold(vendor, days_ago=6)

    (result,) = settle()

    assert (result.vendors, result.commissions, result.totals) == (0, 0, {})
    assert statuses(young) == ["APPROVED"]
    assert net(vendor.pk, VENDOR_AVAILABLE) == 0


@pytest.mark.parametrize("status", ["DISPUTED", "CANCELLED", "PAID", "REFUNDED"])
def test_disputed_cancelled_and_paid_ones_stay(vendor: User, status: str) -> None:
    commission = sold(vendor, status=status)

    settle()

    assert statuses(commission) == [status]
    assert net(vendor.pk, VENDOR_PENDING) == NET


def test_pending_above_the_limit_or_in_an_unnamed_currency_waits_for_a_person(
    vendor: User, settings: Any
) -> None:
    settings.COMMISSION_REVIEW_ABOVE = {"COP": 499_999}
    large, other = sold(vendor, status="PENDING"), sold(vendor, status="PENDING", currency="USD")

    settle()

    assert statuses(large, other) == ["PENDING", "PENDING"]


def test_rate_given_by_hand_is_never_approved_by_policy(vendor: User) -> None:
    """A rate of nothing is below every limit: only another person approves what somebody chose alone."""
    given = sold(
        vendor, status="PENDING", rule_snapshot='{"base":"goods","by_hand":"0190a0a0-0000"}', rate_ppm=0,
        commission_amount_minor=0, vendor_amount_minor=10_000_000,
    )  # fmt: skip
    by_rule = sold(vendor, status="PENDING", rule_snapshot='{"base":"goods","by_hand":""}')

    assert [one.commissions for one in settlement.forecast()] == [1]
    settle()

    assert statuses(given, by_rule) == ["PENDING", "PAID"]


def test_auto_approval_switched_off_leaves_every_pending_one(vendor: User, settings: Any) -> None:
    settings.COMMISSION_AUTO_APPROVE = False
    pending, approved = sold(vendor, status="PENDING"), sold(vendor)

    settle()

    assert statuses(pending, approved) == ["PENDING", "PAID"]
    assert net(vendor.pk, VENDOR_AVAILABLE) == NET


def test_hold_from_delivery_waits_for_the_delivery(vendor: User, settings: Any) -> None:
    settings.SETTLEMENT_HOLD_FROM = "delivered"
    here = sold(vendor, delivered_at=timezone.now() - dt.timedelta(days=8))
    late = sold(vendor, delivered_at=timezone.now() - dt.timedelta(days=1))
    never = sold(vendor)

    settle()

    assert statuses(here, late, never) == ["PAID", "APPROVED", "APPROVED"]


def test_a_moment_inside_the_hold_is_refused(vendor: User) -> None:
    with pytest.raises(settlement.DueInFuture):
        settle(due_before=timezone.now())

    assert not SettlementRun.objects.exists()


# What is settled.


def test_one_entry_per_vendor_currency_and_run(vendor: User) -> None:
    commissions = [sold(vendor), sold(vendor, status="PENDING"), sold(vendor, currency="USD")]

    (result,) = settle()

    assert (result.vendors, result.commissions) == (2, 3)
    assert result.totals == {"COP": 2 * NET, "USD": NET}
    entries = LedgerEntry.objects.filter(kind="settlement").order_by("source_event")
    assert [entry.source_event for entry in entries] == [
        f"settlement/{result.run}/COP", f"settlement/{result.run}/USD",
    ]  # fmt: skip
    rows = [Commission.objects.get(pk=one.pk) for one in commissions]
    assert [row.status for row in rows] == ["PAID"] * 3
    assert [row.settled_entry_id for row in rows] == [entries[0].pk, entries[0].pk, entries[1].pk]
    assert all(row.paid_at and (row.approved_at or row.status == "PAID") for row in rows)
    assert net(vendor.pk, VENDOR_PENDING) == 0
    assert ledger.available(vendor.pk, "COP").free == 2 * NET
    lines = StatementLine.objects.filter(book_id=vendor.pk, currency="COP")
    assert [(line.seq, line.amount_minor, line.balance_minor) for line in lines] == [(1, 2 * NET, 2 * NET)]


def test_a_refund_before_the_settlement_is_not_paid_out(vendor: User) -> None:
    commission, gone = sold(vendor), sold(vendor)
    refund(commission, 1_000_000)
    refund(gone, NET)

    (result,) = settle()

    assert result.totals == {"COP": NET - 1_000_000}
    assert statuses(commission, gone) == ["PAID", "PAID"]
    assert net(vendor.pk, VENDOR_PENDING) == 0


def test_a_refund_that_failed_before_is_paid_out_again(vendor: User) -> None:
    taken = refund(sold(vendor), 1_000_000)
    move(
        vendor.pk, "refund_clearing", VENDOR_PENDING, 1_000_000, reverses=taken.entry_id, whole=True,
        kind="refund_failed",
    )  # fmt: skip

    (result,) = settle()

    assert result.totals == {"COP": NET}


def test_a_sale_that_was_refunded_whole_posts_nothing_and_is_done(vendor: User) -> None:
    commission = sold(vendor)
    refund(commission, NET)

    (result,) = settle()

    assert (result.commissions, result.totals) == (1, {})
    row = Commission.objects.get(pk=commission.pk)
    assert (row.status, row.settled_entry_id) == ("PAID", None)
    assert not LedgerEntry.objects.filter(kind="settlement").exists()


@pytest.mark.parametrize(("owed", "left"), [(1, NET - 1), (NET, 0), (NET + 5, 0)])
def test_what_the_vendor_owes_is_taken_first(vendor: User, owed: int, left: int) -> None:
    sold(vendor)
    move(vendor.pk, VENDOR_RECEIVABLE, "refund_clearing", owed)

    settle()

    assert ledger.available(vendor.pk, "COP").free == left
    assert ledger.owed(vendor.pk, "COP") == max(0, owed - NET)
    assert net(vendor.pk, VENDOR_PENDING) == 0


def test_a_vendor_below_zero_is_named_and_the_others_are_settled(vendor: User) -> None:
    other = VendorFactory.create()
    broken, good = sold(vendor), sold(other)
    refund(broken, NET)
    refund(broken, 100)

    (result,) = settle()

    assert result.skipped == [vendor.pk]
    assert statuses(broken, good) == ["APPROVED", "PAID"]
    assert ledger.available(other.pk, "COP").free == NET


def test_many_vendors_are_settled_in_pages_and_chunks(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "PAGE", 3)
    monkeypatch.setattr(settlement, "MOST_KEYS", 2)
    monkeypatch.setattr(settlement, "MOST_COMMISSIONS", 3)
    vendors = VendorFactory.create_batch(7)
    for number, one in enumerate(vendors):
        for _ in range(number % 3 + 1):
            sold(one)
    seen: list[tuple[int, int]] = []

    (result,) = settle(progress=lambda *done: seen.append(done))

    assert (result.vendors, result.commissions) == (7, 13)
    assert seen[-1] == (7, 13)
    assert len(seen) >= 4
    run = SettlementRun.objects.get()
    assert (run.vendors, run.commissions, run.totals) == (7, 13, {"COP": 13 * NET})
    assert all(ledger.available(one.pk, "COP").free == (at % 3 + 1) * NET for at, one in enumerate(vendors))


def test_start_and_end_of_a_run_are_in_the_trail(vendor: User) -> None:
    sold(vendor)

    (result,) = settle()

    told = AuditEvent.objects.filter(target_id=str(result.run), type__startswith="settlement").order_by("id")
    assert [event.type for event in told] == ["settlement.started", "settlement.finished"]


# Killed, repeated, raced.


def test_a_second_run_settles_nothing_again(vendor: User) -> None:
    sold(vendor)
    settle()

    (again,) = settle()

    assert (again.vendors, again.totals) == (0, {})
    assert ledger.available(vendor.pk, "COP").free == NET


class Killed(BaseException):
    """Not an Exception: nothing in the program catches it."""


def dying_at_the_second(statement: str) -> Callable[..., Any]:
    """Make a wrapper that runs statements until one comes for the second time."""
    seen = Counter[str]()

    def died(execute: Callable[..., Any], text: str, parameters: Any, many: bool, context: Any) -> Any:
        seen[text] += 1
        if text == statement and seen[text] == 2:
            raise Killed
        return execute(text, parameters, many, context)

    return died


@pytest.mark.parametrize("statement", ["_LOCK", "_APPROVE", "_PAY", "_SUMS", "_OWED", "_COUNT"])
def test_killed_at_any_statement_the_next_run_completes_it_under_the_same_name(
    monkeypatch: pytest.MonkeyPatch, transactional_db: None, statement: str
) -> None:
    """The second vendor's transaction dies at each of its statements; what the first one got stays."""
    monkeypatch.setattr(settlement, "MOST_KEYS", 1)
    first, second = sorted(VendorFactory.create_batch(2), key=lambda one: one.pk)
    commissions = [sold(first), sold(second)]
    died = dying_at_the_second(getattr(settlement, statement))

    with connection.execute_wrapper(died), pytest.raises(Killed):
        settle()
    assert statuses(*commissions) == ["PAID", "APPROVED"]
    (run,) = SettlementRun.objects.filter(finished_at=None)

    resumed, new = settle()

    assert (resumed.run, resumed.resumed, resumed.vendors) == (run.pk, True, 1)
    assert new.vendors == 0
    assert statuses(*commissions) == ["PAID", "PAID"]
    run.refresh_from_db()
    assert (run.vendors, run.commissions, run.totals) == (2, 2, {"COP": 2 * NET})
    assert LedgerEntry.objects.filter(source_event=f"settlement/{run.pk}/COP").count() == 2
    assert [ledger.available(one.pk, "COP").free for one in (first, second)] == [NET, NET]


def test_what_comes_due_for_a_settled_vendor_waits_for_the_next_run(vendor: User) -> None:
    run = SettlementRun.objects.create(due_before=timezone.now() - dt.timedelta(days=7))
    settled = sold(vendor)
    settlement._settle_or_split(
        run, [settlement._Key(vendor.pk, "COP", 1)], settlement.Result(run.pk, run.due_before), BY
    )
    late = sold(vendor)

    resumed, new = settle()

    assert (resumed.vendors, resumed.skipped) == (0, [])
    assert new.vendors == 1
    assert statuses(settled, late) == ["PAID", "PAID"]
    assert ledger.available(vendor.pk, "COP").free == 2 * NET


def test_a_date_is_refused_while_a_run_with_another_one_is_left(vendor: User) -> None:
    SettlementRun.objects.create(due_before=timezone.now() - dt.timedelta(days=9))

    with pytest.raises(settlement.RunUnderWay):
        settle(due_before=timezone.now() - dt.timedelta(days=8))


def test_eight_runs_at_once_settle_each_vendor_once(transactional_db: None, race: Any) -> None:
    vendors = VendorFactory.create_batch(6)
    for one in vendors:
        sold(one)
        sold(one)

    outcomes = race([settle] * 8)

    assert not [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    results = [result for outcome in outcomes for result in outcome]
    assert sum(result.vendors for result in results) == 6
    assert not any(result.skipped for result in results)
    assert LedgerEntry.objects.filter(kind="settlement").count() == 6
    assert all(ledger.available(one.pk, "COP").free == 2 * NET for one in vendors)
    assert not SettlementRun.objects.filter(finished_at=None).exists()


def test_race_with_refunds_pays_out_what_they_left(transactional_db: None, race: Any) -> None:
    """Each refund locks its commission as the refunds do, and takes from where the money then is."""
    vendors = VendorFactory.create_batch(6)
    commissions = [sold(one) for one in vendors]

    def give_back(commission: Commission) -> str:
        with transaction.atomic():
            row = Commission.objects.select_for_update().get(pk=commission.pk)
            kind = VENDOR_PENDING if row.status == "APPROVED" else VENDOR_AVAILABLE
            refund(row, 500_000, debit=kind)
            return kind

    outcomes = race([settle, *(partial(give_back, one) for one in commissions)])

    assert not [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert statuses(*commissions) == ["PAID"] * 6
    for one in vendors:
        assert ledger.available(one.pk, "COP").free == NET - 500_000
        assert net(one.pk, VENDOR_PENDING) == 0


def test_race_with_disputes_either_settles_or_stays(transactional_db: None, race: Any) -> None:
    vendors = VendorFactory.create_batch(6)
    commissions = [sold(one) for one in vendors]

    def dispute(commission: Commission) -> int:
        return Commission.objects.filter(pk=commission.pk, status="APPROVED").update(status="DISPUTED")

    outcomes = race([settle, *(partial(dispute, one) for one in commissions)])

    assert not [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for one, commission in zip(vendors, commissions, strict=True):
        status = statuses(commission)[0]
        assert status in {"PAID", "DISPUTED"}
        assert ledger.available(one.pk, "COP").free == (NET if status == "PAID" else 0)


# The command.


def run_command(*arguments: str) -> str:
    out = StringIO()
    call_command("settle", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_dry_run_tells_and_changes_nothing(vendor: User) -> None:
    commission = sold(vendor)

    told = json.loads(run_command("--dry-run", "--json"))

    assert told["due"] == [
        {"currency": "COP", "vendors": 1, "commissions": 1, "amount_before_refunds": "95000.00"}
    ]
    assert statuses(commission) == ["APPROVED"]
    assert not SettlementRun.objects.exists()


def test_command_tells_what_it_settled(vendor: User) -> None:
    sold(vendor)

    told = json.loads(run_command("--json"))

    assert told["good"]
    assert told["runs"][0]["totals"] == {"COP": "95000.00"}
    assert "nothing was due" in run_command()


def test_command_ends_with_1_when_a_vendor_was_skipped(vendor: User) -> None:
    broken = sold(vendor)
    refund(broken, NET)
    refund(broken, 100)

    with pytest.raises(CommandError, match=str(vendor.pk)) as error:
        run_command()

    assert error.value.returncode == 1


@pytest.mark.parametrize("day", ["2999-01-01", "yesterday", "2026-13-01"])
def test_command_ends_with_2_for_a_moment_that_is_none(transactional_db: None, day: str) -> None:
    with pytest.raises(CommandError) as error:
        run_command("--due-before", day)

    assert error.value.returncode == 2


# The pure part.


@given(amount=st.integers(1, 10**15), owed=st.integers(0, 10**15))
def test_posting_moves_the_whole_and_nets_no_more_than_is_owed(amount: int, owed: int) -> None:
    posting = settlement_posting(
        book=uuid4(), currency="COP", amount=amount, owed=owed, run=uuid4(), entry_id=uuid4(),
        occurred_at=timezone.now(),
    )  # fmt: skip

    parts = {transfer.credit: transfer.amount for transfer in posting.transfers}
    assert posting.control_total == amount
    assert parts.get(VENDOR_RECEIVABLE, 0) == min(amount, owed)
    assert all(transfer.debit == VENDOR_PENDING and transfer.amount > 0 for transfer in posting.transfers)


@pytest.mark.parametrize(("amount", "owed"), [(0, 0), (-1, 0), (1, -1)])
def test_posting_of_nothing_is_refused(amount: int, owed: int) -> None:
    with pytest.raises(MoneyError):
        settlement_posting(
            book=uuid4(), currency="COP", amount=amount, owed=owed, run=uuid4(), entry_id=uuid4(),
            occurred_at=timezone.now(),
        )  # fmt: skip


def test_money_available_before_is_kept(vendor: User) -> None:
    fund(vendor.pk, 700)
    sold(vendor)

    settle()

    assert ledger.available(vendor.pk, "COP").free == NET + 700
