"""What a rule would have done to last month's sales, before anybody approves it.

Sales are read with the terms they were charged by, streamed and bounded; the rule takes those lines for which
it would have gone before the rule that they were charged by. Nothing is written.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import simplejson
from django.db import transaction
from django.utils import timezone

from finance import charging, commission_rules
from finance.commission_rules import Line, Rule
from finance.money import Rounding, step_of
from mestore.lib import sql

#: Sales that a preview reads at most, and vendors that it names.
MOST_SALES: Final = 20_000
MOST_VENDORS: Final = 10

_SALES = """
SELECT c.vendor_id, c.order_amount_minor, c.commission_amount_minor, c.rate_ppm, c.rule_snapshot,
       coalesce(o.external_reference, ''),
       (SELECT jsonb_agg(jsonb_build_array(i.line, i.product_id, i.category, i.line_total_minor)
                         ORDER BY i.line)
        FROM finance_orderitem i WHERE i.order_id = c.order_id AND i.vendor_id = c.vendor_id)
FROM finance_commission c JOIN finance_order o ON o.id = c.order_id
WHERE c.currency = %(currency)s AND c.calculated_at >= %(since)s AND c.calculated_at < %(until)s
  AND (%(vendor)s::uuid IS NULL OR c.vendor_id = %(vendor)s::uuid)
ORDER BY c.calculated_at, c.id LIMIT %(most)s
"""


@dataclass(slots=True)
class Effect:
    """Commissions before and after, in minor units."""

    sales: int = 0
    before: int = 0
    after: int = 0

    @property
    def difference(self) -> int:
        """What the platform would have had more."""
        return self.after - self.before


@dataclass(slots=True)
class Preview:
    """What a rule would have done in a month. `is_partial`: only the month's first sales were read."""

    month: dt.date
    currency: str
    read: int = 0
    is_partial: bool = False
    affected: Effect = field(default_factory=Effect)
    vendors: list[tuple[UUID, Effect]] = field(default_factory=list)


def of(rule: Rule, *, today: dt.datetime | None = None) -> Preview:
    """Work out what `rule` would have done to the sales of the last whole business month."""
    _this, until = charging.month_of(today or timezone.now())
    month, since = charging.month_of(until - dt.timedelta(days=1))
    found = Preview(month, rule.currency)
    by_vendor: dict[UUID, Effect] = {}
    sold: dict[UUID, int] = {}
    asked = {
        "currency": rule.currency, "since": since, "until": until, "vendor": rule.vendor,
        "most": MOST_SALES + 1,
    }  # fmt: skip
    for row in _rows(asked):
        if found.read == MOST_SALES:
            found.is_partial = True
            continue
        found.read += 1
        vendor, base, before = row[0], row[1], row[2]
        after = _again(rule, row, sold.get(vendor, 0))
        sold[vendor] = sold.get(vendor, 0) + base
        if after is None:
            continue
        for effect in (found.affected, by_vendor.setdefault(vendor, Effect())):
            effect.sales += 1
            effect.before += before
            effect.after += after
    most = sorted(by_vendor.items(), key=lambda item: (-abs(item[1].difference), str(item[0])))
    found.vendors = most[:MOST_VENDORS]
    return found


def _rows(asked: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    with transaction.atomic():
        for batch in sql.stream(_SALES, asked):
            yield from batch


def _again(rule: Rule, row: Sequence[Any], sold: int) -> int | None:
    """Return what a sale's commission would have been, None where the rule takes none of its lines."""
    vendor, _base, _before, rate_ppm, snapshot, reference, items = row
    kept = _kept(rule.currency, rate_ppm, snapshot, _items(items))
    step = step_of(Rounding(kept["rounding"]), rule.currency)
    products = {number: (product, category) for number, product, category, _goods in _items(items)}
    total, taken = 0, []
    for group in kept["groups"]:
        own = commission_rules.from_terms(group["rule"])
        goes_first = commission_rules.rank(rule) > commission_rules.rank(own)
        lines = [
            Line(number, *products.get(number, ("", "")), goods, base)
            for number, goods, base, _share in group["lines"]
        ]
        moved = [
            line
            for line in lines
            if goes_first and commission_rules.matches(rule, line, vendor=vendor, order=reference)
        ]
        if not moved:
            total += group["fee_minor"]
            continue
        taken += moved
        stays = [line for line in lines if line not in moved]
        if stays:
            volume = group["volume_minor"]
            total += commission_rules.group_of(own, (), stays, volume=volume, step=step).fee.fee
    if not taken:
        return None
    return total + commission_rules.group_of(rule, (), taken, volume=sold, step=step).fee.fee


def _items(items: Any) -> list[tuple[int, str, str, int]]:
    decoded = simplejson.loads(items) if isinstance(items, str) else items
    return [tuple(item) for item in decoded or ()]


def _kept(
    currency: str, rate_ppm: int, snapshot: str, items: Sequence[tuple[int, str, str, int]]
) -> Mapping[str, Any]:
    """The kept terms; of a commission that is older than them, what they would have been."""
    if snapshot:
        kept: Mapping[str, Any] = simplejson.loads(snapshot)
        return kept
    rule = Rule(None, "before the rules", currency, rate_ppm)
    lines = [Line(number, product, category, goods, goods) for number, product, category, goods in items]
    charged = commission_rules.group_of(rule, (), lines, volume=None, step=1)
    return {
        "rounding": Rounding.HALF_UP.value,
        "groups": [
            {
                "rule": commission_rules.terms(rule), "volume_minor": None, "fee_minor": charged.fee.fee,
                "lines": [[line.number, line.goods, line.base, 0] for line in lines],
            }
        ] if lines else [],
    }  # fmt: skip
