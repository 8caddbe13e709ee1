"""What the money says on the dashboard."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Subquery, Sum
from django.db.models.functions import TruncDate
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from finance import ledger
from finance.models import Commission, Order, Payout
from finance.money import exponent, text_of
from finance.states import OrderStatus, PayoutState
from mestore.lib import charts
from mestore.lib.console import Panel, State, collect, display, panel

DAYS = 30
#: A page looks over this many entries; the whole ledger is checked by a command.
CHECKED_ENTRIES = 2_000
#: A payout that the bank confirmed in the window may have been asked for so much earlier.
LONGEST_WAY = dt.timedelta(days=30)
NOT_SOLD = (OrderStatus.PENDING, OrderStatus.CANCELLED, OrderStatus.REFUNDED)


def panels(request: Any) -> list[Panel]:
    return collect(request, (ledger_balance, orders_by_day, commissions_by_day, payouts_by_day))


@panel(
    gettext_lazy("Ledger"),
    source=gettext_lazy("newest entries"),
    permission="finance.view_ledgerentry",
    order=50,
    keep_seconds=60,
)
def ledger_balance(request: Any) -> Panel:
    """Whether debits and credits of the newest entries agree, with every entry's own control total."""
    now = timezone.now()
    found = ledger.check(newest=CHECKED_ENTRIES)
    if not found.entries:
        return Panel(
            title=_("Ledger"),
            value=_("empty"),
            detail=_("no entries yet"),
            source=_("ledger"),
            as_of=now,
            order=50,
        )
    entries = display.number(found.entries)
    return Panel(
        title=_("Ledger"),
        value=_("balanced") if found.is_balanced else _("not balanced"),
        detail=ngettext("newest entry", "newest %(entries)s entries", found.entries) % {"entries": entries},
        source=_("sums and control totals"),
        as_of=now,
        state=State.GOOD if found.is_balanced else State.CRITICAL,
        link=reverse("admin:finance_ledgerentry_changelist"),
        order=50,
    )


@panel(
    gettext_lazy("Orders by day"),
    source=gettext_lazy("orders"),
    permission="finance.view_order",
    order=11,
    keep_seconds=60,
)
def orders_by_day(request: Any) -> list[Panel]:
    """How many orders were placed on each day, how many of them count as sold, and how many in all."""
    now = timezone.now()
    rows = {
        row["day"]: row
        for row in _newest_days(Order.objects.all(), "placed_at").annotate(
            everything=Count("pk"), unsold=Count("pk", filter=Q(status__in=NOT_SOLD))
        )
    }
    if not rows:
        return [_nothing(_("Orders"), _("orders"), now, "admin:finance_order_changelist")]
    days = _window(max(rows), now)
    counts = [(rows.get(day, {}).get("everything", 0), rows.get(day, {}).get("unsold", 0)) for day in days]
    chart = charts.stacked_bars(
        title=_("Orders by day"),
        subtitle=_("sold (below) and not sold (on top), by the day they were placed; %(window)s")
        % _words(days),
        categories=_labels(days),
        series=[
            charts.Series(_("sold"), [everything - unsold for everything, unsold in counts]),
            charts.Series(_("not sold"), [unsold for _everything, unsold in counts]),
        ],
        category_name=_("Day"),
        exact=display.number,
        note=_note(days, now),
    )
    page, everything = "admin:finance_order_changelist", sum(count for count, _unsold in counts)
    total = Panel(
        title=_("Orders, 30 days"),
        value=display.number(everything),
        detail=_("%(sold)s sold")
        % {"sold": display.number(everything - sum(unsold for _all, unsold in counts))},
        source=_("orders to %(last)s") % {"last": days[-1].isoformat()},
        as_of=now,
        link=reverse(page),
        order=44,
    )
    return [total, _chart_panel(_("Orders by day"), chart, _("orders"), now, page, 11)]


@panel(
    gettext_lazy("Commission by day"),
    source=gettext_lazy("commissions"),
    permission="finance.view_commission",
    order=12,
    keep_seconds=60,
)
def commissions_by_day(request: Any) -> list[Panel]:
    """What each day's sales came to, split into vendors' part and commission, in their main currency."""
    now = timezone.now()
    found = _newest_days(Commission.objects.all(), "calculated_at", "currency").annotate(
        kept=Sum("commission_amount_minor"), vendors=Sum("vendor_amount_minor"), sales=Count("pk")
    )
    if not found:
        return [_nothing(_("Commission"), _("commissions"), now, "admin:finance_commission_changelist")]
    days = _window(max(row["day"] for row in found), now)
    rows = [row for row in found if row["day"] >= days[0]]
    currency = _main_currency(rows)
    kept = {row["day"]: int(row["kept"]) for row in rows if row["currency"] == currency}
    vendors = {row["day"]: int(row["vendors"]) for row in rows if row["currency"] == currency}
    others = sorted({row["currency"] for row in rows} - {currency})
    chart = charts.stacked_bars(
        title=_("Sales by day"),
        subtitle=_(
            "%(currency)s: what vendors get (below) and what the platform keeps (on top), together the gross,"
            " by the day the sale counted; %(window)s"
        )
        % {"currency": currency, **_words(days)},
        categories=_labels(days),
        series=[
            charts.Series(_("vendors"), [vendors.get(day, 0) for day in days]),
            charts.Series(_("commission"), [kept.get(day, 0) for day in days]),
        ],
        category_name=_("Day"),
        tick=lambda minor: _short(minor, currency),
        exact=lambda minor: _grouped(minor, currency),
        note=" ".join(filter(None, [_note(days, now), _not_drawn(others)])),
    )
    page = "admin:finance_commission_changelist"
    total = Panel(
        title=_("Commission, 30 days"),
        value=f"{_grouped(sum(kept.get(day, 0) for day in days), currency)} {currency}",
        detail=_("of %(sales)s sales")
        % {"sales": display.number(sum(row["sales"] for row in rows if row["currency"] == currency))},
        source=_("commissions to %(last)s") % {"last": days[-1].isoformat()},
        as_of=now,
        link=reverse(page),
        order=45,
    )
    return [total, _chart_panel(_("Sales by day"), chart, _("commissions"), now, page, 12)]


@panel(
    gettext_lazy("Payouts by day"),
    source=gettext_lazy("payouts"),
    permission="finance.view_payout",
    order=13,
    keep_seconds=60,
)
def payouts_by_day(request: Any) -> list[Panel]:
    """What the bank confirmed as paid on each of the last thirty days, in the main currency."""
    now = timezone.now()
    since = now - dt.timedelta(days=DAYS + 1)
    # Ids begin with the moment of the request: one range of the index by state, whatever was paid before.
    oldest = UUID(int=int((since - LONGEST_WAY).timestamp() * 1_000) << 80)
    payouts: QuerySet[Any] = Payout.objects.all()
    by_day: QuerySet[Any, dict[str, Any]] = (
        payouts.filter(state=PayoutState.PAID, pk__gte=oldest, paid_at__gte=since)
        .annotate(day=TruncDate("paid_at", tzinfo=display.BOGOTA))
        .order_by()
        .values("day", "currency")
    )
    found = list(by_day.annotate(paid=Sum("amount_minor"), sales=Count("pk")))
    page = "admin:finance_payout_changelist"
    if not found:
        return [_nothing(_("Payouts, 30 days"), _("payouts"), now, page)]
    days = _window(max(row["day"] for row in found), now)
    rows = [row for row in found if row["day"] >= days[0]]
    currency = _main_currency(rows)
    paid = {row["day"]: int(row["paid"]) for row in rows if row["currency"] == currency}
    others = sorted({row["currency"] for row in rows} - {currency})
    chart = charts.stacked_bars(
        title=_("Payouts by day"),
        subtitle=_("%(currency)s that the bank confirmed as paid; %(window)s")
        % {"currency": currency, **_words(days)},
        categories=_labels(days),
        series=[charts.Series(currency, [paid.get(day, 0) for day in days])],
        category_name=_("Day"),
        tick=lambda minor: _short(minor, currency),
        exact=lambda minor: _grouped(minor, currency),
        note=_not_drawn(others),
    )
    return [_chart_panel(_("Payouts by day"), chart, _("payouts"), now, page, 13)]


def _newest_days(rows: QuerySet[Any], column: str, *also: str) -> QuerySet[Any, dict[str, Any]]:
    """Rows of the month before the newest one, by day in Bogotá: one statement, one range of an index."""
    newest = rows.order_by(f"-{column}").values(column)[:1]
    days: QuerySet[Any, dict[str, Any]] = (
        rows.filter(**{f"{column}__gt": Subquery(newest) - dt.timedelta(days=DAYS + 1)})
        .annotate(day=TruncDate(column, tzinfo=display.BOGOTA))
        .order_by()
        .values("day", *also)
    )
    return days


def _window(last: dt.date, now: dt.datetime) -> list[dt.date]:
    """The thirty days up to today, or up to the newest day with data when that is older."""
    today = now.astimezone(display.BOGOTA).date()
    end = today if abs((today - last).days) < DAYS else last
    return [end - dt.timedelta(days=back) for back in reversed(range(DAYS))]


def _main_currency(rows: Iterable[dict[str, Any]]) -> str:
    sales: dict[str, int] = {}
    for row in rows:
        sales[row["currency"]] = sales.get(row["currency"], 0) + row["sales"]
    return max(sales, key=lambda currency: (sales[currency], currency))


def _labels(days: list[dt.date]) -> list[str]:
    return [day.strftime("%m-%d") for day in days]


def _words(days: list[dt.date]) -> dict[str, str]:
    return {
        "window": _("%(first)s to %(last)s") % {"first": days[0].isoformat(), "last": days[-1].isoformat()}
    }


def _note(days: list[dt.date], now: dt.datetime) -> str:
    """Old data says that it is old."""
    if days[-1] == now.astimezone(display.BOGOTA).date():
        return ""
    return _("There is nothing newer than %(last)s: these are the last 30 days that have data.") % {
        "last": days[-1].isoformat()
    }


def _not_drawn(currencies: list[str]) -> str:
    return _("Not drawn: %(currencies)s.") % {"currencies": ", ".join(currencies)} if currencies else ""


def _grouped(minor: int, currency: str) -> str:
    return display.grouped(text_of(minor, currency))


def _short(minor: int, currency: str) -> str:
    """An amount for the axis, where numbers are round: "12 k", "1.5 M"."""
    major = minor // 10 ** exponent(currency)
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if major >= size:
            whole, rest = divmod(major * 10 // size, 10)
            return f"{whole}.{rest} {unit}" if rest else f"{whole} {unit}"
    return str(major) if minor % 10 ** exponent(currency) == 0 else _grouped(minor, currency)


def _chart_panel(
    title: str, chart: SafeString, source: str, now: dt.datetime, page: str, order: int
) -> Panel:
    return Panel(title=title, chart=chart, source=source, as_of=now, link=reverse(page), order=order)


def _nothing(title: str, source: str, now: dt.datetime, page: str) -> Panel:
    return Panel(
        title=title, value=_("none yet"), detail=_("nothing has been recorded"), source=source, as_of=now,
        state=State.PLAIN, link=reverse(page), order=55,
    )  # fmt: skip
