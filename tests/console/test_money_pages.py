"""The console's pages of settlements, balances, closes and the ledger: what they show, who may do what."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApprovalRequest, User
from finance import periods, settlement
from finance.admin.balances import GuardedBalanceAdmin
from finance.models import GuardedBalance, LedgerEntry
from finance.postings import VENDOR_RECEIVABLE
from monitoring.models import AuditEvent
from tests.console import house
from tests.factories.accounts import VendorFactory
from tests.finance.selling import BY, fund, move, refund, reserve, sold

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit"])
READ, MANAGE = "transactions.read.read_only", "transactions.manage.global"
REASON = "found in the month's review"


@pytest.fixture
def vendor(transactional_db: None) -> User:
    made = VendorFactory.create()
    sold(made)
    settlement.settle(by=BY)
    sold(made, days_ago=1)
    reserve(made.pk, 100)
    move(made.pk, VENDOR_RECEIVABLE, "refund_clearing", 40)
    return made


def staff(*permissions: str) -> Any:
    return house.visitor(permissions=(READ, "audit_logs.read.read_only", *permissions)).client


def account(vendor: User) -> GuardedBalance:
    return GuardedBalance.objects.get(book_id=vendor.pk)


def address(vendor: User, what: str = "change") -> str:
    return reverse(f"admin:finance_guardedbalance_{what}", args=[account(vendor).pk])


def test_balances_show_what_is_available_reserved_pending_and_owed(vendor: User) -> None:
    page = staff().get("/admin/finance/guardedbalance/", headers={"accept-language": "en"}).content.decode()

    for text in ("94,999.00", "1.00", "95,000.00", "0.40"):
        assert text in page


def test_an_account_shows_its_movements_and_leads_to_its_statement(vendor: User) -> None:
    client = staff()

    page = client.get(address(vendor), headers={"accept-language": "en"}).content.decode()
    paper = client.get(address(vendor, "statement"))
    rows = b"".join(client.get(address(vendor, "statement") + "?format=csv").streaming_content)

    assert "Settlement of sales" in page
    assert paper.status_code == 200
    assert b"95000.00" in paper.content
    assert rows.count(b"\n") == 4
    assert AuditEvent.objects.filter(type="statement.taken").count() == 2


def test_who_may_not_see_the_books_takes_no_statement(vendor: User, monkeypatch: Any) -> None:
    client = staff()
    monkeypatch.setattr(GuardedBalanceAdmin, "has_view_permission", lambda *_given: False)

    assert client.get(address(vendor, "statement")).status_code == 403
    assert not AuditEvent.objects.filter(type="statement.taken").exists()


def test_a_statement_of_no_account_is_not_found(vendor: User) -> None:
    client = staff()

    for key in ("0", "999999999", "nothing"):
        assert client.get(f"/admin/finance/guardedbalance/{key}/statement/").status_code == 404
    assert client.post(address(vendor, "statement")).status_code == 405


def journal(client: Any, vendor: User, **changes: Any) -> Any:
    form = {
        "action": "journal", "pk": account(vendor).pk, "debit": "suspense", "credit": "vendor_available",
        "amount": "15.00", "reason": REASON,
    } | changes  # fmt: skip
    return client.post("/admin/finance/guardedbalance/do/", form)


def test_a_journal_is_asked_for_and_posts_nothing_yet(vendor: User) -> None:
    before = LedgerEntry.objects.count()

    answer = journal(staff(MANAGE), vendor)

    assert answer.status_code == 302
    request = ApprovalRequest.objects.get(action="finance.journal")
    assert (request.target_id, request.details["amount"]) == (str(vendor.pk), "15.00")
    assert LedgerEntry.objects.count() == before


@pytest.mark.parametrize("changes", [{"amount": "1e3"}, {"credit": "suspense"}, {"reason": "no"}])
def test_a_wrong_journal_is_refused_on_the_page(vendor: User, changes: dict[str, str]) -> None:
    answer = journal(staff(MANAGE), vendor, **changes)

    assert answer.status_code in {400, 409}
    assert not ApprovalRequest.objects.exists()


def test_a_journal_needs_its_own_grant(vendor: User) -> None:
    assert journal(staff(), vendor).status_code == 403
    assert not ApprovalRequest.objects.exists()


def test_a_run_shows_what_it_settled(vendor: User) -> None:
    client = staff()
    entry = LedgerEntry.objects.get(kind="settlement")

    rows = client.get("/admin/finance/settlementrun/", headers={"accept-language": "en"}).content.decode()
    explored = client.get(
        reverse("admin:finance_ledgerentry_change", args=[entry.pk]), headers={"accept-language": "en"}
    ).content.decode()

    run = entry.source_event.split("/")[1]
    assert "95,000.00" in rows
    assert "finished" in rows
    assert f"/admin/finance/settlementrun/{run}/change/" in explored
    assert f"/admin/audit/{entry.pk}/proof/" in explored


def test_an_entry_shows_what_took_it_back_and_what_it_takes_back(vendor: User) -> None:
    commission = sold(vendor, days_ago=1)
    back = refund(commission, 500)
    client = staff()

    for shown, other in ((commission.entry_id, back.entry_id), (back.entry_id, commission.entry_id)):
        url = reverse("admin:finance_ledgerentry_change", args=[shown])
        assert str(other) in client.get(url).content.decode()


def test_entries_of_one_book_alone(vendor: User) -> None:
    other = VendorFactory.create()
    fund(other.pk, 5, source="test/of-the-other")

    page = staff().get(f"/admin/finance/ledgerentry/?book_id={vendor.pk}").content.decode()

    assert "settlement/" in page
    assert "test/of-the-other" not in page


def close(client: Any, day: dt.date) -> Any:
    return client.post("/admin/finance/periodclose/ask/", {"day": day.isoformat(), "reason": REASON})


def test_a_close_is_asked_for_and_closes_nothing_yet(vendor: User) -> None:
    client = staff(MANAGE)
    assert "/admin/finance/periodclose/ask/" in client.get("/admin/finance/periodclose/").content.decode()

    answer = close(client, dt.date(2026, 1, 31))

    assert answer.status_code == 302
    request = ApprovalRequest.objects.get(action="finance.close_period")
    assert request.details["closed_until"] == "2026-02-01T05:00:00+00:00"
    assert periods.closed_until() is None


def test_a_close_of_a_day_that_is_not_over_is_refused(vendor: User) -> None:
    answer = close(staff(MANAGE), timezone.now().date() + dt.timedelta(days=1))

    assert answer.status_code == 409
    assert not ApprovalRequest.objects.exists()


def test_a_close_needs_its_own_grant(vendor: User) -> None:
    client = staff()

    assert client.get("/admin/finance/periodclose/ask/").status_code == 403
    assert close(client, dt.date(2026, 1, 31)).status_code == 403
