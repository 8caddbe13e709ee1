"""What an import ends with: figures of what the system now holds for the orders of the files.

They are computed by SQL from the stored rows, so a repeated or resumed run shows the same totals as one clean
run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from finance import ledger, money

from .sold import SOLD_STATUSES, STATUS
from .staging import Staging


@dataclass(frozen=True, slots=True)
class Totals:
    """Stored orders of the files, in minor units. `gross` is the sold items' prices without freight."""

    orders: int
    items: int
    vendors: int
    sold: int
    gross: int
    commission: int
    vendor_net: int
    sold_without_items: int
    payment_differences: int


@dataclass(frozen=True, slots=True)
class Report:
    """The end of one import."""

    totals: Totals
    currency: str
    rejected: int
    new_orders: int
    already_present: int
    new_vendors: int
    dry_run: bool
    elapsed_seconds: float
    ledger_sums: dict[str, int] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether this run wrote anything."""
        return not self.dry_run and (self.new_orders > 0 or self.new_vendors > 0)

    def as_json(self) -> dict[str, Any]:
        """The report for machines: money as strings with the currency's decimals."""
        totals = self.totals
        return {
            "orders": totals.orders,
            "items": totals.items,
            "vendors": totals.vendors,
            "sold": totals.sold,
            "sold_statuses": list(SOLD_STATUSES),
            "gross": self.text(totals.gross),
            "commission": self.text(totals.commission),
            "vendor_net": self.text(totals.vendor_net),
            "currency": self.currency,
            "rejected": self.rejected,
            "new_orders": self.new_orders,
            "already_present": self.already_present,
            "new_vendors": self.new_vendors,
            "changed": self.changed,
            "dry_run": self.dry_run,
            "sold_without_items": totals.sold_without_items,
            "payment_differences": totals.payment_differences,
            "ledger_sums": {
                currency: money.text_of(minor, currency) for currency, minor in self.ledger_sums.items()
            },
            "elapsed_seconds": round(self.elapsed_seconds, 3),
        }

    def text(self, minor: int) -> str:
        """An amount of this report's currency, written with its decimals."""
        return money.text_of(minor, self.currency)


# A sold order of ours is one past its confirmation; `import_content` names the orders of these files.
_HELD = """
    CREATE TEMP TABLE import_held AS
    SELECT f.id, f.status = ANY(%s) AS counts, c.items_minor <> c.paid_minor AS differs
    FROM import_content c JOIN finance_order f ON f.source = %s AND f.external_reference = c.order_id"""
_TOTALS = """
    WITH goods AS (SELECT i.order_id, count(*) AS items, sum(i.line_total_minor) AS minor
                   FROM finance_orderitem i JOIN import_held h ON h.id = i.order_id GROUP BY i.order_id),
         fees AS (SELECT sum(c.commission_amount_minor) AS commission, sum(c.vendor_amount_minor) AS net
                  FROM finance_commission c JOIN import_held h ON h.id = c.order_id)
    SELECT count(*), coalesce(sum(g.items), 0),
           count(*) FILTER (WHERE h.counts AND g.items > 0),
           coalesce(sum(g.minor) FILTER (WHERE h.counts), 0),
           coalesce((SELECT commission FROM fees), 0), coalesce((SELECT net FROM fees), 0),
           count(*) FILTER (WHERE h.counts AND g.items IS NULL),
           count(*) FILTER (WHERE h.counts AND g.items > 0 AND h.differs)
    FROM import_held h LEFT JOIN goods g ON g.order_id = h.id"""
_VENDORS = """
    SELECT count(*) FROM import_seller s
    JOIN accounts_user u ON u.source = %s AND u.external_reference = s.seller_id"""

_COUNTING = sorted({STATUS[status] for status in SOLD_STATUSES})


def totals(staging: Staging, *, source: str) -> Totals:
    """Add up what is stored for the orders and sellers of the files."""
    staging.connection.execute(_HELD, [_COUNTING, source])
    staging.connection.execute("ANALYZE import_held")
    orders, items, sold, gross, commission, net, empty, differing = (int(n) for n in staging.one(_TOTALS))
    vendors = int(staging.one(_VENDORS, [source])[0])
    return Totals(orders, items, vendors, sold, gross, commission, net, empty, differing)


def ledger_sums() -> dict[str, int]:
    """Debits minus credits of the whole ledger per currency: always zero."""
    return ledger.currency_sums()
