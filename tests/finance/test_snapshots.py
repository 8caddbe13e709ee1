"""Snapshots of derived balances: never a row too few, whoever commits late; compared nightly; a restore."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from finance import ledger, money_jobs, snapshots
from finance.models import BalanceSnapshot
from finance.postings import PLATFORM_FEE, PSP_CLEARING, SUSPENSE
from monitoring.models import AuditEvent, Signal
from tests.finance.selling import BY, fund, move
from tests.harness import horizon

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])


@pytest.fixture
def book(transactional_db: None) -> UUID:
    return uuid4()


def net(book: UUID, kind: str = PLATFORM_FEE) -> int:
    return sum(row.net for row in ledger.balances(book) if row.kind == kind)


def pay(book: UUID, amount: int) -> None:
    move(book, PSP_CLEARING, PLATFORM_FEE, amount)


INSERT = """SELECT public.ledger_post(%s, gen_random_uuid(), 'test', now(), %s,
    jsonb_build_array(jsonb_build_array('psp_clearing', 'platform_fee', 'testpay', 'COP', %s::bigint)),
    decode(repeat('00', 32), 'hex'), '{"kind": "system", "id": "test"}'::jsonb)"""


def test_what_commits_after_the_snapshot_is_not_lost(book: UUID, app_dsn: str) -> None:
    """T33: one transaction writes 500 and stays open, another commits 1,100, the snapshot, then the first."""
    pay(book, 1)  # the accounts are there
    with psycopg.connect(app_dsn) as late:
        late.execute(INSERT, [book, "late", 500])
        pay(book, 1_100)

        snapshots.take()
        assert net(book) == 1_101
        late.commit()

    assert net(book) == 1_601
    snapshots.take()
    assert net(book) == 1_601
    pay(book, 9)
    assert net(book) == 1_610


def test_a_snapshot_and_what_came_after_it_are_the_whole(book: UUID) -> None:
    for amount in (10, 20, 30):
        pay(book, amount)
        horizon.wait()
        snapshots.take()
        assert net(book) == sum(range(10, amount + 10, 10))

    assert BalanceSnapshot.objects.filter(book_id=book).count() == 6
    assert snapshots.take() == 0


def test_books_are_taken_in_pages(transactional_db: None) -> None:
    books = [uuid4() for _ in range(5)]
    for one in books:
        pay(one, 7)
    horizon.wait()
    seen: list[int] = []

    taken = snapshots.take(page=2, progress=seen.append)

    assert (taken, seen) == (10, [4, 8, 10])
    assert all(net(one) == 7 for one in books)


def test_reservations_are_in_no_snapshot_until_they_are_posted(book: UUID) -> None:
    from tests.finance.selling import reserve, resolve

    fund(book, 100)
    held = reserve(book, 40)
    snapshots.take()
    assert net(book, "payout_in_transit") == 0

    resolve(book, held, 40)
    snapshots.take()

    assert net(book, "payout_in_transit") == 40


def test_runs_at_once_take_each_snapshot_once(book: UUID, race: Any) -> None:
    pay(book, 5)

    outcomes = race([snapshots.take] * 6)

    assert not [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert net(book) == 5
    assert money_jobs.verify_money(0)


def test_the_nightly_run_tells_of_a_snapshot_that_is_wrong(book: UUID, superuser_dsn: str) -> None:
    pay(book, 5)
    horizon.wait()
    snapshots.take()
    assert money_jobs.verify_money(0)
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute("UPDATE ledger_snapshot SET credit = credit + 1 WHERE credit > 0")

    assert not money_jobs.verify_money(0)

    (signal,) = Signal.objects.filter(rule="finance.verify_failed")
    assert "snapshots" in signal.evidence[0]["checks"]


# After a restore.


@pytest.fixture
def restored(book: UUID, superuser_dsn: str) -> UUID:
    """The snapshots say that ids had come much further than this cluster's have."""
    pay(book, 5)
    horizon.wait()
    snapshots.take()
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute("UPDATE ledger_snapshot SET horizon = '999999999'::xid8")
    return book


def run_command(*arguments: str) -> dict[str, int]:
    out = StringIO()
    call_command("finance_snapshots", *arguments, "--json", stdout=out, stderr=StringIO())
    told: dict[str, int] = json.loads(out.getvalue())
    return told


def test_snapshots_of_another_cluster_stop_the_command_and_the_job(restored: UUID) -> None:
    with pytest.raises(CommandError, match="rebuild") as error:
        run_command()

    assert error.value.returncode == 1
    assert money_jobs.take_snapshots(0) == 0
    assert not money_jobs.verify_money(0)


def test_rebuilding_makes_them_right_again(restored: UUID) -> None:
    pay(restored, 7)
    horizon.wait()

    told = run_command("--rebuild", "--reason", "restored from the backup of Monday")

    assert told == {"gone": 2, "taken": 2}
    assert net(restored) == 12
    assert money_jobs.verify_money(0)
    assert AuditEvent.objects.filter(type="ledger.snapshots_rebuilt").count() == 1


@pytest.mark.parametrize("arguments", [("--rebuild",), ("--rebuild", "--reason", " "), ("--keep", "0")])
def test_command_ends_with_2_where_it_is_told_too_little(
    transactional_db: None, arguments: tuple[str, ...]
) -> None:
    with pytest.raises(CommandError) as error:
        run_command(*arguments)

    assert error.value.returncode == 2


def test_thinning_out_keeps_the_newest(book: UUID) -> None:
    for _ in range(4):
        pay(book, 5)
        horizon.wait()
        run_command()

    assert run_command("--keep", "1") == {"gone": 6}
    assert net(book) == 20
    with transaction.atomic():
        move(book, SUSPENSE, PLATFORM_FEE, 1, by=BY)
    assert net(book) == 21
