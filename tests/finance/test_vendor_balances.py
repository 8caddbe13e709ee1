"""What a vendor has: in every state of the money, now and as of any day on both axes."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from finance import vendor_balances
from finance.postings import (
    PSP_CLEARING,
    REFUND_CLEARING,
    VENDOR_AVAILABLE,
    VENDOR_PENDING,
    VENDOR_RECEIVABLE,
    VOID,
)
from finance.vendor_balances import VendorBalance
from tests.factories.accounts import AdminFactory, VendorFactory
from tests.factories.administration import Caller
from tests.finance.selling import fund, move, reserve, resolve

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit"])


@pytest.fixture
def vendor(transactional_db: None) -> User:
    return VendorFactory.create()


def now(vendor: User, **values: Any) -> VendorBalance:
    (found,) = vendor_balances.balances(vendor.pk, **values)
    return found


def test_nobody_has_nothing(vendor: User) -> None:
    assert vendor_balances.balances(vendor.pk) == []
    assert Caller(vendor).get(f"vendors/{vendor.pk}/balance").json()["balances"] == []


def test_every_state_of_the_money_is_told_apart(vendor: User) -> None:
    fund(vendor.pk, 1_000)
    move(vendor.pk, PSP_CLEARING, VENDOR_PENDING, 300)
    move(vendor.pk, VENDOR_RECEIVABLE, REFUND_CLEARING, 40)
    reserve(vendor.pk, 200)
    sent = reserve(vendor.pk, 100)
    resolve(vendor.pk, sent, 100)

    assert now(vendor) == VendorBalance("COP", 700, 200, 300, 100, 40)


def test_currencies_are_never_added(vendor: User) -> None:
    fund(vendor.pk, 1_000)
    fund(vendor.pk, 7, currency="USD")

    told = Caller(AdminFactory.create()).get(f"vendors/{vendor.pk}/balance").json()

    assert [(one["currency"], one["available"]) for one in told["balances"]] == [
        ("COP", "10.00"), ("USD", "0.07"),
    ]  # fmt: skip


def test_as_of_the_day_it_happened(vendor: User) -> None:
    then = timezone.now() - dt.timedelta(days=3)
    move(vendor.pk, PSP_CLEARING, VENDOR_AVAILABLE, 1_000, occurred_at=then)
    fund(vendor.pk, 50)

    assert now(vendor).available == 1_050
    assert now(vendor, occurred_before=then + dt.timedelta(days=1)).available == 1_000
    assert now(vendor, occurred_before=then).available == 0


def test_as_it_was_known_then(vendor: User) -> None:
    """What was recorded late about an early day is not what was known on that day."""
    before = timezone.now()
    long_ago = before - dt.timedelta(days=30)
    move(vendor.pk, PSP_CLEARING, VENDOR_AVAILABLE, 1_000, occurred_at=long_ago)

    assert now(vendor, recorded_before=before).available == 0
    assert now(vendor, occurred_before=before).available == 1_000
    assert now(vendor, occurred_before=before, recorded_before=before).available == 0


def test_a_reservation_of_then_counts_until_it_was_resolved(vendor: User) -> None:
    fund(vendor.pk, 1_000)
    held = reserve(vendor.pk, 200)
    between = timezone.now()
    resolve(vendor.pk, held, 200, phase=VOID)

    assert now(vendor, recorded_before=between) == VendorBalance("COP", 800, 200)
    assert now(vendor) == VendorBalance("COP", 1_000, 0)


@pytest.mark.parametrize("name", ["as_of", "known_at"])
def test_a_day_that_is_none_is_named(vendor: User, name: str) -> None:
    answer = Caller(vendor).get(f"vendors/{vendor.pk}/balance", **{name: "soon"})

    assert answer.status_code == 422
    assert answer.json()["details"][0]["field"] == f"query -> {name}"


def test_days_come_over_http(vendor: User) -> None:
    then = timezone.now() - dt.timedelta(days=10)
    move(vendor.pk, PSP_CLEARING, VENDOR_AVAILABLE, 1_000, occurred_at=then)
    caller, day = Caller(vendor), (then - dt.timedelta(days=2)).date().isoformat()

    (one,) = caller.get(f"vendors/{vendor.pk}/balance", as_of=day).json()["balances"]
    assert one["available"] == "0.00"
    (one,) = caller.get(f"vendors/{vendor.pk}/balance").json()["balances"]
    assert one == {
        "currency": "COP", "available": "10.00", "reserved": "0.00", "pending": "0.00", "in_transit": "0.00",
        "owed": "0.00",
    }  # fmt: skip
