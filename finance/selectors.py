"""Reads of orders and commissions: bounded, indexed, one statement each."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models import Count, JSONField, Q, QuerySet, Subquery, Sum
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.roles import STAFF
from finance.models import Commission
from mestore.lib import errors, sql

#: Up to here totals are counted and offsets are walked; beyond, totals are estimates and pages need a cursor.
COUNTED: Final = 10_000
_NEWEST_FIRST: Final = ("-calculated_at", "-id")

_ORDERS_BY_DAY = """
SELECT (placed_at AT TIME ZONE %(zone)s)::date AS day, currency, count(*), sum(total_minor)
FROM finance_order WHERE placed_at >= %(since)s AND placed_at < %(until)s GROUP BY 1, 2 ORDER BY 1, 2
"""
_COMMISSIONS_BY_DAY = """
SELECT (calculated_at AT TIME ZONE %(zone)s)::date AS day, currency, count(*), sum(commission_amount_minor)
FROM finance_commission WHERE calculated_at >= %(since)s AND calculated_at < %(until)s
GROUP BY 1, 2 ORDER BY 1, 2
"""


class CommissionNotFound(errors.NotFound):
    message = _("Commission not found.")


class NoEntry(errors.NotFound):
    """A commission of before the ledger, or one that nothing was posted for yet."""

    message = _("Nothing is posted for this commission.")


class NotOwnCommission(errors.Forbidden):
    message = _("Permission denied - can only access own commissions")


class CursorInvalid(errors.Unprocessable):
    message = _("The cursor is not one that was given out.")


@dataclass(frozen=True, slots=True)
class CommissionFilter:
    """What a list of commissions is narrowed to."""

    status: str | None = None
    kind: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    vendor_id: UUID | None = None
    order_id: int | None = None


@dataclass(frozen=True, slots=True)
class CurrencySum:
    """The commissions of one currency: how many, and their amounts in minor units."""

    currency: str
    count: int
    order_amount: int
    commission: int
    earnings: int


@dataclass(frozen=True, slots=True)
class CommissionPage:
    """One page, newest first. `next_cursor` is None on the last one.

    `sums` are of all that match, by currency; None where there are more than are counted.
    """

    rows: Sequence[Commission]
    sums: tuple[CurrencySum, ...] | None
    total: int
    total_is_estimate: bool
    limit: int
    offset: int
    has_previous: bool
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class StatusSum:
    """The commissions of one status: how many, and their amounts in minor units."""

    count: int
    order_amount: int
    commission: int
    earnings: int


@dataclass(frozen=True, slots=True)
class Earnings:
    """What was earned in one currency; `currencies` names all in which there is something."""

    vendor_id: UUID | None
    start: dt.datetime | None
    end: dt.datetime | None
    currency: str
    currencies: tuple[str, ...]
    by_status: Mapping[str, StatusSum]


@dataclass(frozen=True, slots=True)
class DaySum:
    """One business day in one currency: how many, and their sum in minor units."""

    day: dt.date
    currency: str
    count: int
    minor: int


class _CappedSums(Subquery):
    """Sums by currency over the rows of the inner queryset's slice: bounded, however many there are."""

    template = (
        "(SELECT coalesce(jsonb_agg(jsonb_build_array(s.currency, s.n, s.sold, s.charged, s.earned)), '[]')"
        " FROM (SELECT capped.currency, count(*) AS n, sum(order_amount_minor) AS sold,"
        " sum(commission_amount_minor) AS charged, sum(vendor_amount_minor) AS earned"
        " FROM (%(subquery)s) AS capped GROUP BY 1 ORDER BY 1) s)"
    )
    output_field = JSONField()


def commissions(narrowed: CommissionFilter, *, reader: User) -> QuerySet[Commission]:
    """Return the commissions that `reader` may see: a vendor's own, all for staff, none for anybody else."""
    if reader.user_type in STAFF:
        rows = Commission.objects.all() if narrowed.vendor_id is None else _of(narrowed.vendor_id)
    elif narrowed.vendor_id not in {None, reader.pk}:
        raise NotOwnCommission
    else:
        rows = _of(reader.pk)
    wanted = {
        "status": narrowed.status, "commission_type": narrowed.kind,
        "calculated_at__gte": narrowed.since, "calculated_at__lt": narrowed.until,
        "order_id": narrowed.order_id,
    }  # fmt: skip
    return rows.filter(**{name: value for name, value in wanted.items() if value is not None})


def commission(commission_id: UUID, *, reader: User) -> Commission:
    """Return one commission. Raises `CommissionNotFound`, and `NotOwnCommission` for another vendor's."""
    row = sql.get(Commission, commission_id)
    if row is None:
        raise CommissionNotFound
    if reader.user_type not in STAFF and row.vendor_id != reader.pk:
        raise NotOwnCommission
    return row


def sale_entry(commission_id: UUID, *, reader: User) -> UUID:
    """Return the ledger entry of a commission's sale. Raises as `commission` does; `NoEntry` without one."""
    found = commission(commission_id, reader=reader).entry_id
    if found is None:
        raise NoEntry
    return found


def commission_page(
    narrowed: CommissionFilter, *, reader: User, limit: int, offset: int = 0, cursor: str | None = None
) -> CommissionPage:
    """Return one page in one statement; two when the page is empty or there are more than can be counted.

    Raises `CursorInvalid` and `NotOwnCommission`.
    """
    matching = commissions(narrowed, reader=reader)
    capped = matching.order_by().values(
        "currency", "order_amount_minor", "commission_amount_minor", "vendor_amount_minor"
    )[: COUNTED + 1]
    paged = matching.filter(_after(cursor)) if cursor else matching
    rows = list(
        paged.annotate(found=_CappedSums(capped)).order_by(*_NEWEST_FIRST)[offset : offset + limit + 1]
    )
    sums = tuple(CurrencySum(*found) for found in rows[0].found) if rows else ()
    total = sum(found.count for found in sums) if rows else capped.count()
    is_estimate = total > COUNTED
    shown = rows[:limit]
    return CommissionPage(
        rows=shown,
        sums=None if is_estimate else sums,
        total=max(_estimate(matching), total) if is_estimate else total,
        total_is_estimate=is_estimate,
        limit=limit,
        offset=offset,
        has_previous=bool(cursor) or (offset > 0 and total > 0),
        next_cursor=_cursor(shown[-1]) if len(rows) > limit else None,
    )


def earnings(
    *, reader: User, vendor_id: UUID | None, since: dt.datetime | None, until: dt.datetime | None,
    currency: str | None = None,
) -> Earnings:  # fmt: skip
    """Return what was earned by the reader, or for staff by a vendor or by all. Raises `NotOwnCommission`.

    Amounts of two currencies are never added: without `currency` it is COP, or the only one there is.
    """
    owner = vendor_id if reader.user_type in STAFF else reader.pk
    rows = commissions(CommissionFilter(since=since, until=until, vendor_id=vendor_id), reader=reader)
    sums = (
        rows.order_by("currency", "status")
        .values_list("currency", "status")
        .annotate(
            Count("pk"), Sum("order_amount_minor"), Sum("commission_amount_minor"), Sum("vendor_amount_minor")
        )
    )
    found: dict[str, dict[str, StatusSum]] = {}
    for code, status, count, sold, charged, earned in sums:
        found.setdefault(code, {})[status] = StatusSum(count, int(sold), int(charged), int(earned))
    chosen = currency or (next(iter(found)) if len(found) == 1 else "COP")
    return Earnings(owner, since, until, chosen, tuple(sorted(found)), found.get(chosen, {}))


def earnings_period(
    period: str, *, today: dt.date | None = None
) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Return the moments between which a period of the contract lies, in business time; None is no bound.

    Raises KeyError for a period that there is not.
    """
    day = today or timezone.now().astimezone(_zone()).date()
    month = day.replace(day=1)
    ends = (month + dt.timedelta(days=32)).replace(day=1)
    starts = {
        "current_month": (month, ends), "last_month": (_months_before(month, 1), month),
        "last_3_months": (_months_before(month, 3), month), "ytd": (day.replace(month=1, day=1), ends),
        "all_time": (None, None),
    }[period]  # fmt: skip
    since, until = (None if bound is None else start_of(bound) for bound in starts)
    return since, until


def _months_before(first: dt.date, count: int) -> dt.date:
    for _month in range(count):
        first = (first - dt.timedelta(days=1)).replace(day=1)
    return first


def orders_by_day(*, days: int, until: dt.date | None = None) -> list[DaySum]:
    """Return orders and their totals for the `days` business days that end with `until` (default today)."""
    return _by_day(_ORDERS_BY_DAY, days, until)


def commissions_by_day(*, days: int, until: dt.date | None = None) -> list[DaySum]:
    """Return commissions and what they come to for the `days` business days that end with `until`."""
    return _by_day(_COMMISSIONS_BY_DAY, days, until)


def newest_order_day() -> dt.date | None:
    """Return the business day of the newest order, None when there is no order."""
    found = sql.fetch_one("SELECT placed_at FROM finance_order ORDER BY placed_at DESC, id DESC LIMIT 1")
    return found[0].astimezone(_zone()).date() if found else None


def start_of(day: dt.date) -> dt.datetime:
    """Return the moment at which a business day begins."""
    return dt.datetime.combine(day, dt.time(), tzinfo=_zone())


def in_business_time(moment: dt.datetime) -> dt.datetime:
    """Return a moment that was given without a zone as one of business time."""
    return moment.replace(tzinfo=_zone())


def _of(vendor_id: UUID) -> QuerySet[Commission]:
    return Commission.objects.filter(vendor_id=vendor_id)


def _after(cursor: str) -> Q:
    """Read a cursor: the moment and the id of the last row that was shown."""
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode("ascii")
        moment_text, _separator, id_text = text.partition(" ")
        moment, row_id = dt.datetime.fromisoformat(moment_text).astimezone(dt.UTC), UUID(id_text)
    except (ValueError, OverflowError, binascii.Error):
        raise CursorInvalid(
            details=[errors.FieldError("query -> cursor", CursorInvalid.message, "cursor_invalid")]
        ) from None
    # The first condition is implied by the second; it is what lets the index begin at the right place.
    return Q(calculated_at__lte=moment) & (Q(calculated_at__lt=moment) | Q(pk__lt=row_id))


def _cursor(row: Commission) -> str:
    text = f"{row.calculated_at.astimezone(dt.UTC).isoformat()} {row.pk}"
    return base64.urlsafe_b64encode(text.encode("ascii")).decode("ascii").rstrip("=")


def _estimate(rows: QuerySet[Commission]) -> int:
    """Ask the planner, which knows without counting."""
    plan = json.loads(rows.order_by().explain(format="json"))
    return int(plan[0]["Plan"]["Plan Rows"])


def _by_day(query: LiteralString, days: int, until: dt.date | None) -> list[DaySum]:
    last = until or timezone.now().astimezone(_zone()).date()
    bounds = {
        "zone": settings.BUSINESS_TIME_ZONE,
        "since": start_of(last - dt.timedelta(days=days - 1)),
        "until": start_of(last + dt.timedelta(days=1)),
    }
    return [
        DaySum(day, currency, count, int(minor))
        for day, currency, count, minor in sql.fetch_all(query, bounds)
    ]


def _zone() -> ZoneInfo:
    return ZoneInfo(settings.BUSINESS_TIME_ZONE)
