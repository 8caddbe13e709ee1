"""What the tables of orders and commissions refuse, whoever writes them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from finance import states
from finance.models import Commission, IdempotencyKey, LedgerAccount, Order, OrderPayment
from finance.models.commissions import rate_as_decimal
from finance.postings import PLATFORM_BOOK
from tests.factories.finance import CommissionFactory, OrderFactory, OrderItemFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


def refused(write: Callable[[], Any], constraint: str) -> None:
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        write()


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"total_minor": 1}, "order_total_adds_up"),
        ({"discount_minor": 1}, "order_total_adds_up"),
        ({"subtotal_minor": -1}, "order_amounts_in_bounds"),
        ({"subtotal_minor": 10**15}, "order_amounts_in_bounds"),
        ({"subtotal_minor": 0, "tax_minor": 0, "shipping_minor": 0}, "order_total_positive"),
        ({"status": "lost"}, "order_status_known"),
        ({"currency": "cop"}, "order_currency_code"),
    ],
)
def test_an_order_that_is_none_is_refused(values: dict[str, Any], constraint: str) -> None:
    refused(lambda: OrderFactory.create(**values), constraint)


def test_only_an_imported_order_may_be_empty() -> None:
    nothing = {"subtotal_minor": 0, "tax_minor": 0, "shipping_minor": 0}

    assert OrderFactory.create(source="marketplace", status="cancelled", **nothing).total_minor == 0


def test_an_external_reference_is_known_once_per_source() -> None:
    OrderFactory.create(external_reference="x")
    OrderFactory.create(external_reference="x", source="marketplace")
    OrderFactory.create(external_reference=None)
    OrderFactory.create(external_reference=None)

    refused(lambda: OrderFactory.create(external_reference="x"), "order_known_once_per_source")


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"quantity": 0}, "order_item"),
        ({"quantity": 1_000_001}, "order_item"),
        ({"unit_price_minor": 0}, "order_item_amounts_in_bounds"),
        ({"line_total_minor": 1}, "order_item_total_adds_up"),
        ({"line": 0}, "order_item_counts_in_bounds"),
        ({"shipping_minor": -1}, "order_item_counts_in_bounds"),
    ],
)
def test_a_line_that_is_none_is_refused(values: dict[str, Any], constraint: str) -> None:
    refused(lambda: OrderItemFactory.create(**values), constraint)


def test_a_payment_that_is_none_is_refused() -> None:
    order = OrderFactory.create()
    good = {
        "order": order,
        "sequence": 1,
        "amount_minor": 5,
        "provider": "p",
        "reference": "r",
        "status": "approved",
    }
    made = OrderPayment.objects.create(**good)
    assert str(made) == f"{order.pk}/1"

    refused(lambda: OrderPayment.objects.create(**good), "order_payment_sequence_once")
    refused(
        lambda: OrderPayment.objects.create(**good | {"sequence": 2, "reference": "s", "amount_minor": -1}),
        "order_payment_numbers_in_bounds",
    )
    refused(
        lambda: OrderPayment.objects.create(**good | {"sequence": 2, "reference": "s", "status": "expired"}),
        "order_payment_status_known",
    )
    OrderPayment.objects.create(**good | {"sequence": 2, "reference": ""})
    OrderPayment.objects.create(**good | {"sequence": 3, "reference": ""})


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"vendor_amount_minor": 1}, "commission_amounts_add_up"),
        ({"commission_amount_minor": -1}, "commission_amounts_in_bounds"),
        ({"order_amount_minor": 0, "commission_amount_minor": 0}, "commission_amounts_in_bounds"),
        ({"rate_ppm": 1_000_001}, "commission_rate_in_bounds"),
        ({"rate_ppm": -1}, "commission_rate_in_bounds"),
        ({"status": "Pending"}, "commission_status_known"),
        ({"commission_type": "FREE"}, "commission_type_known"),
        ({"currency": "1"}, "commission_currency_code"),
    ],
)
def test_a_commission_that_is_none_is_refused(values: dict[str, Any], constraint: str) -> None:
    refused(lambda: CommissionFactory.create(**values), constraint)


def test_one_commission_per_order_and_vendor() -> None:
    made = CommissionFactory.create()

    refused(
        lambda: CommissionFactory.create(order=made.order, vendor=made.vendor),
        "commission_once_per_order_and_vendor",
    )


@pytest.mark.parametrize(
    ("model", "factory", "table"),
    [
        (Order, OrderFactory, states.ORDER_TRANSITIONS),
        (Commission, CommissionFactory, states.COMMISSION_TRANSITIONS),
    ],
)
def test_the_database_allows_exactly_the_moves_of_the_table(
    model: Any, factory: Any, table: states.Transitions
) -> None:
    for before, after in product(table, repeat=2):
        row = factory(status=before)
        if states.may_move(table, before, after):
            assert model.objects.filter(pk=row.pk).update(status=after) == 1
        else:
            refused(lambda: model.objects.filter(pk=row.pk).update(status=after), "cannot go from")  # noqa: B023


@pytest.mark.parametrize(
    "change",
    [
        {"total_minor": 1, "subtotal_minor": 1},
        {"currency": "USD"},
        {"order_number": "ORD-1"},
        {"source": "other"},
    ],
)
def test_an_orders_identity_and_amounts_never_change(change: dict[str, Any]) -> None:
    row = OrderFactory.create()

    refused(lambda: Order.objects.filter(pk=row.pk).update(**change), "never change")


@pytest.mark.parametrize("change", [{"commission_amount_minor": 0}, {"rate_ppm": 1}, {"currency": "USD"}])
def test_a_commissions_amounts_never_change(change: dict[str, Any]) -> None:
    row = CommissionFactory.create()

    refused(lambda: Commission.objects.filter(pk=row.pk).update(**change), "never change")


def test_rows_say_what_they_are() -> None:
    line = OrderItemFactory.create(line=3)

    assert str(line) == f"{line.order_id}/3"
    assert str(CommissionFactory.create(commission_number="COM-1")) == "COM-1"
    assert str(IdempotencyKey(scope="s", key="k")) == "s k"
    account = LedgerAccount(kind="rounding", provider="", currency="COP", book_id=PLATFORM_BOOK)
    assert str(account) == f"rounding COP ({PLATFORM_BOOK})"


def test_rates_are_written_with_four_decimals_or_more() -> None:
    assert [str(rate_as_decimal(ppm)) for ppm in (50_000, 0, 1_000_000, 123_456)] == [
        "0.0500", "0.0000", "1.0000", "0.123456",
    ]  # fmt: skip
    assert CommissionFactory.create().rate == Decimal("0.05")
