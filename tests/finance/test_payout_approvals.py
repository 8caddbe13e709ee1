"""Four eyes: who may agree to a payout, to what exactly, for how long. Asked of code and database."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import connections
from psycopg import errors as pg

from accounts import administration
from accounts.hierarchy import NotAllowed, ReasonMissing
from accounts.models import Grant, User
from finance import payout_approvals, payout_batches, payout_ends
from finance.models import Payout, PayoutApproval
from finance.payout_approvals import ApprovedAlready, ContentChanged, OwnPayout
from finance.payout_content import content_hash
from finance.payout_states import WrongState
from finance.states import PayoutState
from mestore.lib import ids
from monitoring.models import AuditEvent
from tests.factories.accounts import AdminFactory, grant
from tests.factories.administration import acting
from tests.finance.payout_house import (
    APPROVING,
    EXPORTING,
    REASON,
    SYSTEM,
    account,
    approve,
    approver,
    asked,
    file_of,
    hand_over,
    staff,
    vendor_with,
)
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
Connection = psycopg.Connection[Any]
APPROVE = """INSERT INTO finance_payoutapproval
    (payout_id, approver_id, as_lead, content_hash, reason, approved_at)
    SELECT id, %s, true, content_hash, '', %s FROM finance_payout WHERE id = %s"""


@pytest.fixture
def runtime(app_dsn: str) -> Iterator[Connection]:
    with psycopg.connect(app_dsn, autocommit=True) as connection:
        yield connection


def age(payout: Payout) -> None:
    """Let a day pass for the approvals of a payout: only the owner can, with the triggers off."""
    triggers = ("finance_payoutapproval_guard", "finance_payoutapproval_append_only")
    with connections["owner"].cursor() as cursor:
        for name in triggers:
            cursor.execute(f"ALTER TABLE finance_payoutapproval DISABLE TRIGGER {name}")
        cursor.execute(
            "UPDATE finance_payoutapproval SET approved_at = approved_at - interval '25 hours'"
            " WHERE payout_id = %s", [payout.pk],
        )  # fmt: skip
        for name in triggers:
            cursor.execute(f"ALTER TABLE finance_payoutapproval ENABLE ALWAYS TRIGGER {name}")


def constraint_of(error: psycopg.Error) -> str | None:
    return error.diag.constraint_name


def test_who_asked_or_entered_the_account_does_not_approve() -> None:
    vendor, where = vendor_with("500000")
    grant(vendor, APPROVING)
    User.objects.filter(pk=vendor.pk).update(security_clearance_level=5)
    payout = asked(vendor, where)
    with pytest.raises(OwnPayout):
        approve(payout, User.objects.get(pk=vendor.pk))
    assert AuditEvent.objects.filter(type="payout.approval_refused", actor_id=str(vendor.pk)).count() == 1
    editor = approver()
    other = account(User.objects.get(pk=vendor.pk), "33355566677")
    # The editor entered the account in the vendor's name.
    with connections["owner"].cursor() as cursor:
        cursor.execute("ALTER TABLE finance_bankaccount DISABLE TRIGGER finance_bankaccount_guard")
        cursor.execute("UPDATE finance_bankaccount SET created_by = %s WHERE id = %s", [editor.pk, other.pk])
        cursor.execute("ALTER TABLE finance_bankaccount ENABLE ALWAYS TRIGGER finance_bankaccount_guard")
    second = asked(vendor, type(other).objects.get(pk=other.pk))
    with pytest.raises(OwnPayout):
        approve(second, editor)
    assert not PayoutApproval.objects.exists()


def test_without_the_permission_nobody_approves() -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    for person in (AdminFactory.create(), staff(EXPORTING)):
        with pytest.raises(NotAllowed):
            approve(payout, person)
    with pytest.raises(NotAllowed):
        payout_approvals.approve(payout.pk, by=SYSTEM)
    closed = approver()
    User.objects.filter(pk=closed.pk).update(is_active=False)
    with pytest.raises(NotAllowed):
        approve(payout, closed)


def test_same_person_counts_once() -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    person = approver()
    outcomes = race([partial(approve, payout, person)] * 6)
    assert sum(isinstance(one, ApprovedAlready) for one in outcomes) == 5, outcomes
    payout.refresh_from_db()
    assert payout.state == PayoutState.SCREENED
    assert payout_approvals.standing(payout).missing(payout) == 1


def test_two_at_once_are_two_and_approve_it_once() -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    outcomes = race([partial(approve, payout, approver()), partial(approve, payout, approver())])
    assert not [one for one in outcomes if isinstance(one, BaseException)]
    payout.refresh_from_db()
    assert payout.state == PayoutState.APPROVED
    assert AuditEvent.objects.filter(type="payout.approved", target_id=str(payout.pk)).count() == 1
    with pytest.raises(WrongState):
        approve(payout, approver())


def test_other_content_than_was_seen_is_refused() -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    with pytest.raises(ContentChanged):
        payout_approvals.approve(payout.pk, by=acting(approver()), content=b"\0" * 32)
    assert not PayoutApproval.objects.exists()


def test_large_payout_needs_a_lead() -> None:
    vendor, where = vendor_with("90000000")
    payout = asked(vendor, where, "50000000")
    assert (payout.approvals_needed, payout.needs_lead) == (3, True)
    approve(payout, approver(), approver(), approver())
    payout.refresh_from_db()
    assert payout.state == PayoutState.SCREENED
    assert payout_approvals.standing(payout).missing(payout) == 1
    assert approve(payout, approver(lead=True)).state == PayoutState.APPROVED


def test_approvals_of_yesterday_do_not_count_and_may_be_given_again() -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    people = approver(), approver()
    approve(payout, *people)
    age(payout)
    made = payout_batches.make(currency="COP", layout="csv", by=SYSTEM)
    assert made.batch is None
    payout.refresh_from_db()
    assert (payout.state, payout.state_reason) == (PayoutState.SCREENED, "approvals do not count any more")
    assert approve(payout, *people).state == PayoutState.APPROVED


def test_approver_who_may_no_longer_sends_it_back() -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    gone, stays = approver(), approver()
    approve(payout, gone, stays)
    for taken in Grant.objects.filter(user=gone):
        taken.revoked_at = taken.granted_at
        taken.save()
    assert payout_batches.make(currency="COP", layout="csv", by=SYSTEM).batch is None
    payout.refresh_from_db()
    assert payout.state == PayoutState.SCREENED
    assert approve(payout, approver()).state == PayoutState.APPROVED


def test_approver_who_lost_the_permission_stops_the_file_too() -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    gone = approver()
    approve(payout, gone, approver())
    batch = file_of(payout)
    administration.deactivate(gone, reason=REASON, by=SYSTEM)
    with pytest.raises(payout_batches.BatchStale):
        hand_over(batch)
    payout_batches.discard(batch.pk, reason=REASON, by=SYSTEM)
    payout.refresh_from_db()
    assert payout.state == PayoutState.REJECTED


def test_held_by_hand_is_let_go_by_a_hand_only() -> None:
    vendor, where = vendor_with("500000")
    payout = approve(asked(vendor, where))
    with pytest.raises(ReasonMissing):
        payout_approvals.hold(payout.pk, reason="no", by=acting(approver()))
    payout_approvals.hold(payout.pk, reason=REASON, by=acting(approver()))
    assert payout_approvals.screen_again(10, by=SYSTEM) == 0
    with pytest.raises(NotAllowed):
        payout_approvals.release(payout.pk, reason=REASON, by=acting(vendor))
    released = payout_approvals.release(payout.pk, reason=REASON, by=acting(approver()))
    assert released.state == PayoutState.SCREENED
    payout_ends.reject(payout.pk, reason=REASON, by=acting(approver()))


# --- The runtime role with SQL of its own -----------------------------------------------------------------


def test_database_refuses_maker_and_stale_content(runtime: Connection) -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    with pytest.raises(pg.CheckViolation) as refused:
        runtime.execute(APPROVE, [vendor.pk, "now", payout.pk])
    assert constraint_of(refused.value) == "payout_approval_by_another"
    with pytest.raises(pg.CheckViolation) as refused:
        runtime.execute(
            "INSERT INTO finance_payoutapproval (payout_id, approver_id, as_lead, content_hash, reason)"
            " VALUES (%s, %s, false, sha256('x'), '')", [payout.pk, approver().pk],
        )  # fmt: skip
    assert constraint_of(refused.value) == "payout_approval_of_content"


def test_database_refuses_to_send_without_approvals(runtime: Connection) -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    with pytest.raises(pg.CheckViolation) as refused:
        runtime.execute("UPDATE finance_payout SET state = 'approved' WHERE id = %s", [payout.pk])
    assert constraint_of(refused.value) == "payout_approved_by_enough"
    approve(payout)
    age(payout)
    with pytest.raises(pg.CheckViolation) as refused:
        runtime.execute("UPDATE finance_payout SET state = 'submitting' WHERE id = %s", [payout.pk])
    assert constraint_of(refused.value) == "payout_approved_by_enough"


def test_database_says_when_an_approval_was_given(runtime: Connection) -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    person = approver()
    runtime.execute(APPROVE, [person.pk, "2099-01-01", payout.pk])
    row = runtime.execute(
        "SELECT approved_at < now() + interval '1 hour' FROM finance_payoutapproval"
    ).fetchone()
    assert row == (True,)
    with pytest.raises(pg.UniqueViolation):
        runtime.execute(APPROVE, [person.pk, "now", payout.pk])


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE finance_payout SET amount_minor = amount_minor + 100", "payout_frozen"),
        ("UPDATE finance_payout SET requested_by = gen_random_uuid()", "payout_frozen"),
        ("UPDATE finance_payout SET approvals_needed = 1", "payout_frozen"),
        ("UPDATE finance_payout SET content_hash = sha256('x')", "payout_frozen"),
        ("UPDATE finance_payout SET state = 'paid'", "payout_transition_allowed"),
        ("UPDATE finance_bankaccount SET bank_name = 'other'", "bank_account_frozen"),
        ("UPDATE finance_bankaccount SET usable_from = now()", "bank_account_frozen"),
        ("UPDATE finance_bankaccount SET created_by = gen_random_uuid()", "bank_account_frozen"),
    ],
)
def test_database_keeps_what_was_asked_for(runtime: Connection, statement: str, constraint: str) -> None:
    vendor, where = vendor_with("500000")
    asked(vendor, where)
    with pytest.raises(pg.CheckViolation) as refused:
        runtime.execute(statement)
    assert constraint_of(refused.value) == constraint


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE finance_payoutapproval SET as_lead = true",
        "DELETE FROM finance_payoutapproval",
        "DELETE FROM finance_payout",
        "TRUNCATE finance_payoutapproval",
        "INSERT INTO finance_payoutchange (payout_id, before, after) SELECT id, 'x', 'y' FROM finance_payout",
        "DELETE FROM finance_payoutchange",
    ],
)
def test_runtime_role_cannot_rewrite_history(runtime: Connection, statement: str) -> None:
    vendor, where = vendor_with("500000")
    approve(asked(vendor, where), approver())
    with pytest.raises((pg.InsufficientPrivilege, pg.RaiseException)):
        runtime.execute(statement)


def test_request_with_another_account_than_the_hash_is_refused(runtime: Connection) -> None:
    vendor, where = vendor_with("500000")
    payout = asked(vendor, where)
    other = account(vendor, "22233344455")
    with pytest.raises(pg.CheckViolation) as refused:
        runtime.execute(
            "INSERT INTO finance_payout (id, payout_number, vendor_id, bank_account_id, currency,"
            " amount_minor, state, origin, content_hash, approvals_needed, reserve_entry_id, expires_at)"
            " SELECT %s, 'x', vendor_id, %s, currency, amount_minor, 'requested', 'api', content_hash, 1,"
            " reserve_entry_id, expires_at FROM finance_payout WHERE id = %s",
            [ids.uuid7(), other.pk, payout.pk],
        )
    assert constraint_of(refused.value) == "payout_content_hash"


@pytest.mark.parametrize("state", ["submitting", "in_transit", "paid"])
def test_payout_is_not_born_further_on_than_requested(runtime: Connection, state: str) -> None:
    """A row that begins as sent would need no approval: states are come to, one by one."""
    vendor, where = vendor_with("500000")
    asked(vendor, where)
    born = ids.uuid7()
    with pytest.raises(pg.CheckViolation) as refused:
        runtime.execute(
            "INSERT INTO finance_payout (id, payout_number, vendor_id, bank_account_id, currency,"
            " amount_minor, state, origin, content_hash, approvals_needed, reserve_entry_id, expires_at)"
            " SELECT %s, 'x', p.vendor_id, b.id, p.currency, p.amount_minor, %s, 'api', %s, 1,"
            " p.reserve_entry_id, p.expires_at FROM finance_payout p"
            " JOIN finance_bankaccount b ON b.id = p.bank_account_id",
            [born, state, content_hash(born, vendor.pk, "COP", 10_000_000, bytes(where.fingerprint))],
        )
    assert constraint_of(refused.value) == "payout_transition_allowed"
