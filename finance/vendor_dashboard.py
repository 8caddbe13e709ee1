"""What a vendor sees of the own sales: sums by day, by product, by state; bounded by the period asked for.

There is no catalogue here. What is told about products is what the sales tell: how many different ones were
sold. What only a catalogue knows (waiting for approval, refused, in stock) is not made up.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from finance import selectors
from finance.money import text_of
from mestore.lib import errors, spreadsheets, sql

LONGEST: Final = dt.timedelta(days=367)
HOME: Final = "COP"
#: How far back a product must have been sold to be counted.
PRODUCT_DAYS: Final = 365

_CURRENCIES: Final = """
SELECT DISTINCT currency FROM ledger_account
WHERE book_id = %s AND kind = 'vendor_pending' ORDER BY currency
"""
_BY_DAY: Final = """
SELECT (c.calculated_at AT TIME ZONE %(zone)s)::date, count(*), sum(c.order_amount_minor),
       sum(c.commission_amount_minor), sum(c.vendor_amount_minor - c.fee_tax_minor - c.withheld_minor)
FROM finance_commission c
WHERE c.vendor_id = %(vendor)s AND c.currency = %(currency)s AND c.calculated_at >= %(since)s
  AND c.calculated_at < %(until)s AND c.status NOT IN ('CANCELLED', 'REFUNDED')
GROUP BY 1 ORDER BY 1
"""
_BY_STATUS: Final = """
SELECT c.status, count(*), sum(c.order_amount_minor), sum(c.commission_amount_minor),
       sum(c.vendor_amount_minor - c.fee_tax_minor - c.withheld_minor)
FROM finance_commission c
WHERE c.vendor_id = %(vendor)s AND c.currency = %(currency)s AND c.calculated_at >= %(since)s
  AND c.calculated_at < %(until)s
GROUP BY 1 ORDER BY 1
"""
_PRODUCTS: Final = """
SELECT i.product_id, max(i.name), sum(i.quantity), sum(i.line_total_minor), count(DISTINCT i.order_id)
FROM finance_commission c JOIN finance_orderitem i ON i.order_id = c.order_id AND i.vendor_id = c.vendor_id
WHERE c.vendor_id = %(vendor)s AND c.currency = %(currency)s AND c.calculated_at >= %(since)s
  AND c.calculated_at < %(until)s AND c.status NOT IN ('CANCELLED', 'REFUNDED')
GROUP BY i.product_id ORDER BY 4 DESC, 1 LIMIT %(limit)s
"""
_PRODUCT_COUNT: Final = """
SELECT count(DISTINCT i.product_id), count(DISTINCT i.product_id) FILTER (WHERE c.calculated_at >= %(month)s),
       coalesce(sum(i.quantity) FILTER (WHERE c.calculated_at >= %(month)s), 0)
FROM finance_commission c JOIN finance_orderitem i ON i.order_id = c.order_id AND i.vendor_id = c.vendor_id
WHERE c.vendor_id = %(vendor)s AND c.calculated_at >= %(since)s AND c.calculated_at < %(until)s
  AND c.status NOT IN ('CANCELLED', 'REFUNDED')
"""


class PeriodTooLong(errors.Unprocessable):
    message = _("A report spans at most a year, and ends after it begins.")


@dataclass(frozen=True, slots=True)
class Sums:
    """Sales of one day, state or period, in minor units. `label` says which."""

    label: str
    sales: int = 0
    sold: int = 0
    commission: int = 0
    earned: int = 0


@dataclass(frozen=True, slots=True)
class Product:
    """One product's part of the sales."""

    product_id: str
    name: str
    units: int
    sold: int
    orders: int


@dataclass(frozen=True, slots=True)
class Products:
    """How many different products were sold in a year and in the month, and how many units in the month."""

    in_year: int
    in_month: int
    units: int


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose sales, in which currency, in which period."""

    vendor: UUID
    currency: str
    since: dt.datetime
    until: dt.datetime

    @property
    def values(self) -> dict[str, object]:
        return {
            "vendor": self.vendor, "currency": self.currency, "since": self.since, "until": self.until,
            "zone": settings.BUSINESS_TIME_ZONE,
        }  # fmt: skip


def scope(
    vendor: UUID, *, currency: str | None, since: dt.datetime | None, until: dt.datetime | None,
    now: dt.datetime,
) -> Scope:  # fmt: skip
    """Return what a report is about: by default the last 30 days. Raises PeriodTooLong."""
    end = until or now
    begin = since or end - dt.timedelta(days=30)
    if not dt.timedelta() < end - begin <= LONGEST:
        raise PeriodTooLong(
            details=[errors.FieldError("query -> fecha_fin", PeriodTooLong.message, "period_invalid")]
        )
    return Scope(vendor, currency or currency_of(vendor), begin, end)


def currency_of(vendor: UUID) -> str:
    """Return pesos, or the only currency in which a vendor ever sold."""
    found = [row[0] for row in sql.fetch_all(_CURRENCIES, [vendor])]
    return str(found[0]) if len(found) == 1 else HOME


def month_of(day: dt.date) -> tuple[dt.datetime, dt.datetime]:
    """Return the first moment of a business month and of the next one."""
    first = day.replace(day=1)
    following = (first + dt.timedelta(days=32)).replace(day=1)
    return selectors.start_of(first), selectors.start_of(following)


def by_day(wanted: Scope) -> Sequence[Sums]:
    """Return the days with sales, oldest first."""
    return [_sums(row) for row in sql.fetch_all(_BY_DAY, wanted.values)]


def by_status(wanted: Scope) -> Sequence[Sums]:
    """Return the sums by state of the commission."""
    return [_sums(row) for row in sql.fetch_all(_BY_STATUS, wanted.values)]


def total(label: str, rows: Sequence[Sums]) -> Sums:
    """Return the sum of sums."""
    return Sums(
        label, sum(row.sales for row in rows), sum(row.sold for row in rows),
        sum(row.commission for row in rows), sum(row.earned for row in rows),
    )  # fmt: skip


def top_products(wanted: Scope, *, limit: int) -> Sequence[Product]:
    """Return the products with the largest sales."""
    rows = sql.fetch_all(_PRODUCTS, wanted.values | {"limit": limit})
    return [Product(key, name, int(units), int(sold), orders) for key, name, units, sold, orders in rows]


def products_sold(vendor: UUID, *, month: dt.datetime, until: dt.datetime) -> Products:
    """Return how many different products the sales tell of."""
    values = {"vendor": vendor, "month": month, "until": until,
              "since": until - dt.timedelta(days=PRODUCT_DAYS)}  # fmt: skip
    row = sql.fetch_one(_PRODUCT_COUNT, values) or (0, 0, 0)
    return Products(int(row[0]), int(row[1]), int(row[2]))


def csv_rows(wanted: Scope) -> Iterator[str]:
    """Yield the days of a period as CSV."""
    yield spreadsheets.line(("fecha", "pedidos", "ventas", "comision", "ganancia", "moneda"))
    for day in by_day(wanted):
        amounts = (text_of(minor, wanted.currency) for minor in (day.sold, day.commission, day.earned))
        yield spreadsheets.line((day.label, str(day.sales), *amounts, wanted.currency))


def _sums(row: Sequence[object]) -> Sums:
    label, *figures = row
    return Sums(str(label), *(int(str(figure)) for figure in figures))
