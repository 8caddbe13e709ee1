"""What the demo puts into its database, and that preparing it twice changes nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts import approvals, data_requests
from accounts.models import ApprovalRequest, DataRequest, Grant, User
from finance import payout_approvals, payout_batches, payouts, transactions
from finance.models import BankAccount, Order, Payout
from finance.money import Money
from finance.states import PayoutOrigin
from mestore.demo import people, sample_orders
from tests.factories.administration import acting
from tests.finance.selling import fund

COMMITTED = pytest.mark.django_db(transaction=True, databases=["default", "audit"])
FEW = 20


def test_inside_a_running_django_the_demo_refuses_to_start() -> None:
    with pytest.raises(CommandError, match="process of its own"):
        call_command("demo")


@COMMITTED
def test_the_administrator_may_open_every_page_of_the_console(tmp_path: Path) -> None:
    created = people.create(tmp_path / "people.json")
    admin = User.objects.by_email(created["admin"]["email"])

    assert [name for name in people.CONSOLE_PERMISSIONS if not admin.has_perm(name)] == []


@COMMITTED
def test_what_an_older_demo_lacks_is_added(tmp_path: Path) -> None:
    file = tmp_path / "people.json"
    first = people.create(file)
    User.objects.filter(email=first["finance_lead"]["email"]).update(
        email_key="gone", email="gone@example.com"
    )
    BankAccount.objects.all().delete()
    file.write_text(json.dumps({name: value for name, value in first.items() if name != "finance_lead"}))
    second = people.create(file)

    assert {**first, "finance_lead": second["finance_lead"]} == second
    assert User.objects.by_email(second["finance_lead"]["email"]).has_perm("payments.approve.system")
    assert BankAccount.objects.count() == len(people.VENDORS)
    assert people.create(file) == second
    assert file.stat().st_mode & 0o777 == 0o600


@COMMITTED
def test_the_demos_staff_carries_a_large_payout_through(tmp_path: Path, settings: Settings) -> None:
    """Three agree, a lead among them; one makes the file, another one hands it over."""
    created = people.create(tmp_path / "people.json")
    vendor = User.objects.get(pk=created["vendors"][0]["id"])
    admin, lead, superuser = (
        acting(User.objects.get(email=created[name]["email"]))
        for name in ("admin", "finance_lead", "superuser")
    )
    fund(vendor.pk, 5_000_000_000)
    payout = transactions.run(
        lambda: payouts.open_request(
            vendor, BankAccount.objects.get(vendor=vendor), Money(5_000_000_000, "COP"),
            origin=PayoutOrigin.BATCH, by=people.BY,
        )
    )  # fmt: skip
    assert (payout.approvals_needed, payout.needs_lead) == (3, True)
    for person in (admin, lead, superuser):
        payout = payout_approvals.approve(payout.pk, by=person, reason="asked for in writing")
    made = payout_batches.make(currency="COP", layout="csv", by=admin)
    assert made.batch is not None, made.left_out
    payout_batches.hand_over(made.batch.pk, reason="sent through the bank's portal", by=superuser)

    assert Payout.objects.get(pk=payout.pk).state == "in_transit"


@COMMITTED
def test_two_of_the_demos_staff_forget_a_person_who_asked(tmp_path: Path) -> None:
    created = people.create(tmp_path / "people.json")
    buyer = User.objects.get(pk=created["buyers"][0]["id"])
    asked = data_requests.make(buyer, kind=DataRequest.Kind.ERASURE, by=acting(buyer))
    admin, superuser = (
        acting(User.objects.get(email=created[name]["email"])) for name in ("admin", "superuser")
    )
    waiting = data_requests.approve(asked, reason="the person asked for it in writing", by=admin)
    assert isinstance(waiting, ApprovalRequest)
    approvals.approve(waiting.pk, by=superuser)

    assert DataRequest.objects.get(pk=asked.pk).state == "done"
    assert not User.objects.filter(pk=buyer.pk, email=created["buyers"][0]["email"]).exists()


@COMMITTED
def test_people_whose_credentials_are_known_are_not_created_again(tmp_path: Path) -> None:
    first = people.create(tmp_path / "people.json")
    admin = User.objects.by_email(first["admin"]["email"])
    Grant.objects.filter(user=admin, permission__name="users.update.global").delete()

    assert people.create(tmp_path / "people.json") == first
    assert User.objects.get(pk=admin.pk).has_perm("users.update.global")
    assert (tmp_path / "people.json").stat().st_mode & 0o777 == 0o600


@COMMITTED
def test_loading_orders_twice_changes_nothing(
    tmp_path: Path, sample_data: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SAMPLE_DATA = str(extract(sample_data, tmp_path / "data"))
    monkeypatch.setattr(sample_orders, "WITH_FILES", 5)
    created = people.create(tmp_path / "people.json")

    first = sample_orders.load(created, None, rejects=tmp_path)
    count = Order.objects.count()
    second = sample_orders.load(created, None, rejects=tmp_path)

    assert first == second
    assert first.endswith("5 made up, in COP")
    assert Order.objects.count() == count == FEW + 5


def extract(source: Path, target: Path) -> Path:
    """The first few orders of the marketplace's files, with all that belongs to them."""
    target.mkdir()
    wanted: set[str] = set()
    for name in ("orders", "items", "payments", "sellers"):
        file = sample_orders.FILES[name]
        with (source / file).open(newline="") as read, (target / file).open("w", newline="") as written:
            rows = csv.reader(read)
            writer = csv.writer(written)
            writer.writerow(next(rows))
            for number, row in enumerate(rows):
                if name == "orders" and number < FEW:
                    wanted.add(row[0])
                if name == "sellers" or row[0] in wanted:
                    writer.writerow(row)
    return target
