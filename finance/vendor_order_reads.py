"""A vendor's orders: those with a line of its own, and of those only these lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db.models import Q

from finance import order_reads
from finance.models import Order, OrderItem
from finance.order_locks import LARGEST_ID, OrderNotFound
from finance.order_reads import COUNTED, Counted, OrderPage, cursor_of, id_in
from mestore.lib import sql

# The newest orders of a vendor, so that the answer costs the same however much it has sold.
_SUMMARY: Final = """
WITH newest AS MATERIALIZED (
    SELECT DISTINCT i.order_id FROM finance_orderitem i WHERE i.vendor_id = %(vendor)s
    ORDER BY i.order_id DESC LIMIT %(most)s)
SELECT o.status, o.currency, count(DISTINCT o.id), count(i.id),
       count(i.id) FILTER (WHERE i.vendor_status = 'pending'),
       count(i.id) FILTER (WHERE i.vendor_status = 'preparing'),
       count(i.id) FILTER (WHERE i.vendor_status = 'ready_to_ship'),
       coalesce(sum(i.line_total_minor) FILTER (
           WHERE o.confirmed_at IS NOT NULL AND o.status <> 'cancelled'), 0)
FROM newest n JOIN finance_order o ON o.id = n.order_id
JOIN finance_orderitem i ON i.order_id = o.id AND i.vendor_id = %(vendor)s
GROUP BY o.status, o.currency
"""


@dataclass(frozen=True, slots=True)
class Summary:
    """Counters of a vendor's newest orders. `revenue` is minor units by currency, of what was sold."""

    by_status: Mapping[str, int]
    items: int
    by_item_status: Mapping[str, int]
    revenue: Mapping[str, int]

    @property
    def orders(self) -> int:
        """How many orders were counted: at most `COUNTED`."""
        return sum(self.by_status.values())


def page(
    vendor_id: UUID, *, status: str | None, limit: int, offset: int = 0, cursor: str | None = None
) -> OrderPage:
    """Return one page, newest first, in one statement; two where it is empty. Raises `CursorInvalid`."""
    own = OrderItem.objects.filter(vendor_id=vendor_id)
    if status is not None:
        own = own.filter(order__status=status)
    ids = own.order_by("-order_id").values("order_id").distinct()
    capped = ids[: COUNTED + 1]
    after = ids.filter(order_id__lt=id_in(cursor)) if cursor else ids
    wanted = Order.objects.filter(pk__in=after[offset : offset + limit + 1])
    rows = order_reads.with_rows(wanted, Q(vendor_id=vendor_id)).annotate(found=Counted(capped))
    found: list[Any] = list(rows.order_by("-pk"))
    total = found[0].found if found else capped.count()
    shown = found[:limit]
    following = cursor_of(shown[-1].pk) if len(found) > limit else None
    return OrderPage(shown, total, total > COUNTED, following)


def detail(order_id: int, *, vendor_id: UUID) -> Any:
    """Return one order with this vendor's lines. Raises `OrderNotFound` for one without any."""
    found = None
    if 0 < order_id <= LARGEST_ID:
        own = OrderItem.objects.filter(vendor_id=vendor_id, order_id=order_id).values("order_id")
        found = order_reads.with_rows(Order.objects.filter(pk__in=own), Q(vendor_id=vendor_id)).first()
    if found is None:
        raise OrderNotFound
    return found


def summary(vendor_id: UUID) -> Summary:
    """Return counters over the vendor's newest `COUNTED` orders, in one statement."""
    by_status: dict[str, int] = {}
    revenue: dict[str, int] = {}
    words = ("pending", "preparing", "ready_to_ship")
    by_item = dict.fromkeys(words, 0)
    items = 0
    for status, currency, orders, lines, *states, sold in sql.fetch_all(
        _SUMMARY, {"vendor": vendor_id, "most": COUNTED}
    ):
        by_status[status] = by_status.get(status, 0) + orders
        items += lines
        for word, count in zip(words, states, strict=True):
            by_item[word] += count
        if sold:
            revenue[currency] = revenue.get(currency, 0) + int(sold)
    return Summary(by_status, items, by_item, revenue)
