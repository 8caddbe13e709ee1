"""What the demo puts into its database, and that preparing it twice changes nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts.models import Grant, User
from finance.models import Order
from mestore.demo import people, sample_orders

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
