"""What an order's sales came to and what was taken back of them, read from the ledger and the refunds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from finance.models import Commission, Order
from finance.postings import (
    PLATFORM_FEE,
    SHIPPING_PAYABLE,
    TAX_PAYABLE_FEE,
    TAX_PAYABLE_GOODS,
    TAX_PAYABLE_WITHHOLDING,
)
from finance.refund_split import Figures, Sold
from finance.states import CommissionStatus
from mestore.lib import sql

# Whose part of a sale each credited account is. What is in no row here is the vendor's: pending, or rounding.
_FIGURE: Final = {
    PLATFORM_FEE: "commission",
    TAX_PAYABLE_FEE: "fee_tax",
    TAX_PAYABLE_WITHHOLDING: "withheld",
    SHIPPING_PAYABLE: "shipping",
    TAX_PAYABLE_GOODS: "tax",
}
# The money was settled once, and stays so whatever became of the commission later.
_SETTLED: Final = frozenset({CommissionStatus.PAID, CommissionStatus.REFUNDED})

_SALES = """
SELECT t.entry_id, c.kind, sum(t.amount)::bigint, max(d.provider)
FROM finance_commission k
JOIN ledger_transfer t ON t.book_id = k.vendor_id AND t.entry_id = k.entry_id
JOIN ledger_account c ON c.book_id = t.book_id AND c.id = t.credit
JOIN ledger_account d ON d.book_id = t.book_id AND d.id = t.debit
WHERE k.order_id = %s GROUP BY t.entry_id, c.kind
"""
_TAKEN = """
SELECT p.commission_id, sum(p.goods_minor)::bigint, sum(p.tax_minor)::bigint, sum(p.shipping_minor)::bigint,
       sum(p.commission_minor)::bigint, sum(p.fee_tax_minor)::bigint, sum(p.withheld_minor)::bigint
FROM finance_refundpart p JOIN finance_refund r ON r.id = p.refund_id
WHERE r.order_id = %s AND r.status <> 'failed' GROUP BY p.commission_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorSold(Sold):
    """One vendor's sale with the rows behind it; `provider` holds the buyer's money."""

    commission_id: UUID
    entry_id: UUID
    is_settled: bool
    provider: str
    base: int

    def base_of(self, figures: Figures) -> int:
        """How much of the commission's base these figures are: of the goods, or of everything."""
        return figures.goods if self.base == self.sale.goods else figures.total


def of_order(order: Order, *, lock: bool = False) -> list[VendorSold]:
    """Return the sales of an order, by commission id; none for an order that was not sold.

    With `lock` the commissions are locked first, so that none is settled while somebody decides by this.
    """
    rows = Commission.objects.filter(order_id=order.pk, entry_id__isnull=False).order_by("pk")
    commissions = list(rows.select_for_update(no_key=True) if lock else rows)
    if not commissions:
        return []
    sales: dict[UUID, dict[str, int]] = defaultdict(dict)
    providers: dict[UUID, str] = {}
    for entry_id, kind, amount, provider in sql.fetch_all(_SALES, [order.pk]):
        sales[entry_id][kind] = amount
        providers[entry_id] = provider
    taken = {row[0]: Figures(*row[1:]) for row in sql.fetch_all(_TAKEN, [order.pk])}
    return [
        VendorSold(
            vendor=row.vendor_id, sale=_figures(sales[_entry(row)]), taken=taken.get(row.pk, Figures()),
            commission_id=row.pk, entry_id=_entry(row), is_settled=is_settled(row),
            provider=providers.get(_entry(row), ""), base=row.order_amount_minor,
        )
        for row in commissions
    ]  # fmt: skip


def is_settled(row: Commission) -> bool:
    """Whether the vendor's money of this sale is no longer pending."""
    return row.settled_entry_id is not None or row.status in _SETTLED


def _entry(row: Commission) -> UUID:
    found: Any = row.entry_id
    return UUID(str(found))


def _figures(by_kind: dict[str, int]) -> Figures:
    known = {name: by_kind.get(kind, 0) for kind, name in _FIGURE.items()}
    vendor = sum(amount for kind, amount in by_kind.items() if kind not in _FIGURE)
    goods = vendor + known["commission"] + known["fee_tax"] + known["withheld"]
    return Figures(goods=goods, **known)
