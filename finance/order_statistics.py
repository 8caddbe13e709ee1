"""Figures of the administration's dashboard: what was sold today, this week, this month, in business time.

Bounded by the month, not by the table: states are counted to 10,000 each.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils import timezone

from finance import selectors
from finance.order_reads import COUNTED
from finance.states import OrderStatus
from mestore.lib import sql

_TOP: Final = 10
# What was sold, less what went back of it; an order that was cancelled sold nothing.
_PERIODS: Final = """
SELECT o.currency,
       count(*) FILTER (WHERE o.placed_at >= %(day)s), count(*) FILTER (WHERE o.placed_at >= %(week)s),
       count(*) FILTER (WHERE o.placed_at >= %(month)s),
       coalesce(sum(s.sold) FILTER (WHERE o.placed_at >= %(day)s), 0),
       coalesce(sum(s.sold) FILTER (WHERE o.placed_at >= %(week)s), 0),
       coalesce(sum(s.sold) FILTER (WHERE o.placed_at >= %(month)s), 0)
FROM finance_order o CROSS JOIN LATERAL (
    SELECT CASE WHEN o.confirmed_at IS NOT NULL AND o.status <> 'cancelled'
                THEN o.total_minor - o.refunded_minor ELSE 0 END AS sold) s
WHERE o.placed_at >= %(since)s GROUP BY o.currency ORDER BY o.currency
"""
_STATES: Final = """
SELECT s.status, (SELECT count(*) FROM (
    SELECT 1 FROM finance_order o WHERE o.status = s.status LIMIT %(most)s) c)
FROM unnest(%(states)s::text[]) AS s (status)
"""
_BUYERS: Final = """
SELECT o.buyer_id, u.email, u.nombre, u.apellido, count(*), sum(o.total_minor - o.refunded_minor)
FROM finance_order o JOIN accounts_user u ON u.id = o.buyer_id
WHERE o.placed_at >= %(month)s AND o.currency = %(currency)s AND o.confirmed_at IS NOT NULL
  AND o.status <> 'cancelled'
GROUP BY o.buyer_id, u.email, u.nombre, u.apellido ORDER BY 6 DESC, 1 LIMIT %(top)s
"""


@dataclass(frozen=True, slots=True)
class Period:
    """Orders and what they brought, in minor units of one currency."""

    currency: str
    orders: tuple[int, int, int]
    revenue: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who bought most this month."""

    id: UUID
    email: str
    name: str
    orders: int
    minor: int


@dataclass(frozen=True, slots=True)
class Dashboard:
    """All of it. `currency` is the one of revenue and buyers."""

    currency: str
    periods: Sequence[Period]
    by_status: Mapping[str, int]
    buyers: Sequence[Buyer]

    @property
    def chosen(self) -> Period:
        """The figures of the currency that was chosen."""
        empty = Period(self.currency, (0, 0, 0), (0, 0, 0))
        return next((period for period in self.periods if period.currency == self.currency), empty)


def dashboard(*, currency: str = "COP") -> Dashboard:
    """Return the figures of today, of the week since Monday and of the month, in three statements."""
    today = timezone.now().astimezone(ZoneInfo(settings.BUSINESS_TIME_ZONE)).date()
    month = selectors.start_of(today.replace(day=1))
    week = selectors.start_of(today - dt.timedelta(days=today.weekday()))
    bounds: dict[str, Any] = {
        "day": selectors.start_of(today), "week": week, "month": month, "since": min(week, month),
        "currency": currency, "top": _TOP, "most": COUNTED,
        "states": [status.value for status in OrderStatus],
    }  # fmt: skip
    periods = [
        Period(code, (day, weekly, monthly), (int(first), int(second), int(third)))
        for code, day, weekly, monthly, first, second, third in sql.fetch_all(_PERIODS, bounds)
    ]
    buyers = [
        Buyer(buyer, email, f"{first} {last}".strip(), count, int(minor))
        for buyer, email, first, last, count, minor in sql.fetch_all(_BUYERS, bounds)
    ]
    return Dashboard(currency, periods, dict(sql.fetch_all(_STATES, bounds)), buyers)
