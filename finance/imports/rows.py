"""What one line must hold, and the row it becomes in the staging table.

Each function takes the line's fields in the order of files.COLUMNS and gives the values of one staging row,
after the line number. They look at the line alone; what needs the other lines (duplicates, unknown orders and
sellers) is found afterwards by SQL, in staging.py. All raise LineRefused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime

from finance import money

from .files import Kind
from .reasons import LineRefused, Reason
from .sold import STATUS

Value = str | int | None
Validator = Callable[[Sequence[str]], tuple[Value, ...]]

# An order has at most 999 lines with two amounts each: its sums stay below the ledger's bound of 10^15.
MAX_AMOUNT_MINOR = 10**11

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:#/-]{0,63}")
_METHOD = re.compile(r"[a-z][a-z_]{0,31}")
_NUMBER = re.compile(r"[0-9]{1,3}")
_MOMENT = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")


def validator(kind: Kind, currency: str) -> Validator:
    """The function that checks lines of this kind; amounts are of `currency`."""
    if kind == "orders":
        return order_row
    if kind == "sellers":
        return seller_row
    if kind == "items":
        return lambda values: item_row(values, currency)
    return lambda values: payment_row(values, currency)


def order_row(values: Sequence[str]) -> tuple[Value, ...]:
    """(order, buyer, status of the file, purchased, approved, given to the carrier, delivered)."""
    order, customer, status, purchased, approved, carrier, delivered, estimated = values
    if status not in STATUS:
        raise LineRefused(Reason.UNKNOWN_STATUS, "order_status")
    _moment(estimated, "order_estimated_delivery_date")
    return (
        _identifier(order, "order_id"),
        _identifier(customer, "customer_id"),
        status,
        _moment(purchased, "order_purchase_timestamp"),
        _moment(approved, "order_approved_at"),
        _moment(carrier, "order_delivered_carrier_date"),
        _moment(delivered, "order_delivered_customer_date"),
    )


def item_row(values: Sequence[str], currency: str) -> tuple[Value, ...]:
    """(order, item number, product, seller, price, freight), amounts in minor units."""
    order, number, product, seller, limit, price, freight = values
    _moment(limit, "shipping_limit_date")
    return (
        _identifier(order, "order_id"),
        _number(number, "order_item_id", least=1),
        _identifier(product, "product_id"),
        _identifier(seller, "seller_id"),
        _amount(price, currency, "price", least=1),
        _amount(freight, currency, "freight_value"),
    )


def payment_row(values: Sequence[str], currency: str) -> tuple[Value, ...]:
    """(order, sequence, method, instalments, amount in minor units)."""
    order, sequence, method, installments, amount = values
    if not _METHOD.fullmatch(method):
        raise LineRefused(Reason.BAD_IDENTIFIER, "payment_type")
    return (
        _identifier(order, "order_id"),
        _number(sequence, "payment_sequential", least=1),
        method,
        _number(installments, "payment_installments", least=0),
        _amount(amount, currency, "payment_value"),
    )


def seller_row(values: Sequence[str]) -> tuple[Value, ...]:
    """(seller, postal code, city, state)."""
    seller, postal_code, city, state = values
    return (
        _identifier(seller, "seller_id"),
        _text(postal_code, "seller_zip_code_prefix", 16),
        _text(city, "seller_city", 100),
        _text(state, "seller_state", 50),
    )


def _identifier(text: str, column: str) -> str:
    if not _IDENTIFIER.fullmatch(text):
        raise LineRefused(Reason.BAD_IDENTIFIER, column)
    return text


def _text(text: str, column: str, longest: int) -> str:
    if len(text) > longest:
        raise LineRefused(Reason.BAD_TEXT, column)
    return text


def _number(text: str, column: str, *, least: int) -> int:
    if not _NUMBER.fullmatch(text) or int(text) < least:
        raise LineRefused(Reason.BAD_NUMBER, column)
    return int(text)


def _amount(text: str, currency: str, column: str, *, least: int = 0) -> int:
    try:
        minor = money.parse(text, currency).minor
    except money.MoneyError:
        raise LineRefused(Reason.BAD_AMOUNT, column) from None
    if not least <= minor <= MAX_AMOUNT_MINOR:
        raise LineRefused(Reason.BAD_AMOUNT, column)
    return minor


def _moment(text: str, column: str) -> str | None:
    """The moment as the file writes it (read as UTC), or None when the file leaves it out."""
    if not text:
        return None
    if not _MOMENT.fullmatch(text):
        raise LineRefused(Reason.BAD_TIMESTAMP, column)
    try:
        datetime.fromisoformat(text)
    except ValueError:  # the thirtieth of February
        raise LineRefused(Reason.BAD_TIMESTAMP, column) from None
    return text
