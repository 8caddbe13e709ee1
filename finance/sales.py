"""A sale that counts after its order was placed: commissions and entries of an order that became confirmed.

Called inside the transaction that confirmed the order, with the order's row locked. What the lines are was
written when the order was placed; what they are charged is decided now.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

import simplejson

from finance import charging, ledger, sale_postings
from finance.charging import Earned, Override, Part, PartLine, Terms
from finance.models import Order, OrderItem
from finance.money import allocate_steps
from mestore.lib import sql
from mestore.lib.actor import Actor
from monitoring import audit, capture

_TERMS = """
SELECT t.rules, t.volumes FROM finance_sale_terms(
    %(currency)s::text, %(at)s::timestamptz, %(month)s::date, %(since)s::timestamptz, %(parts)s::uuid[],
    %(bases)s::bigint[], %(products)s::text[], %(categories)s::text[], %(reference)s::text, true) t
"""
_WRITE = """
WITH charged AS (
    UPDATE finance_orderitem o SET commission_minor = i.commission, rate_ppm = i.rate_ppm,
           rule_hash = decode(i.rule_hash, 'hex'), rounding = i.rounding
    FROM jsonb_to_recordset(%(lines)s::jsonb) AS i (
        line int, commission bigint, rate_ppm int, rule_hash text, rounding text)
    WHERE o.order_id = %(order)s AND o.line = i.line
)
INSERT INTO finance_commission (id, commission_number, order_id, vendor_id, currency, order_amount_minor,
                                rate_ppm, commission_amount_minor, vendor_amount_minor, commission_type,
                                status, entry_id, rule_id, rule_hash, rule_snapshot, rounding,
                                fee_tax_minor, withheld_minor, calculated_at, created_at, updated_at)
SELECT c.id, c.commission_number, c.order_id, c.vendor_id, c.currency, c.order_amount_minor, c.rate_ppm,
       c.commission_amount_minor, c.vendor_amount_minor, c.commission_type, c.status, c.entry_id, c.rule_id,
       c.rule_hash, c.rule_snapshot, c.rounding, c.fee_tax_minor, c.withheld_minor, c.calculated_at,
       c.calculated_at, c.calculated_at
FROM jsonb_populate_recordset(NULL::finance_commission, %(commissions)s::jsonb) c
"""


def post_sale(
    order: Order, *, provider: str, at: dt.datetime, by: Actor, only: Collection[UUID] | None = None,
    override: Override | None = None, posted_at: dt.datetime | None = None,
) -> list[Earned]:  # fmt: skip
    """Charge an order's vendors and post their sales, in the caller's transaction; return what was charged.

    `provider` holds the buyer's money, `at` is when the sale counts, and when it is posted unless `posted_at`
    says so (the books of `at` are closed). `only` names vendors, all without it.
    Five statements. Raises `ledger.AlreadyPosted` when one of the sales is in its book, and IntegrityError
    when an order has the commission already.
    """
    found = [part for part in parts_of(order) if only is None or part.vendor in only]
    if not found:
        return []
    reference = order.external_reference
    asked = charging.question(found, currency=order.currency, reference=reference, at=at)
    terms = charging.terms_from(*(sql.fetch_one(_TERMS, asked, prepare=True) or (None, None)))
    earned = _charge(order, found, terms, at, override)
    moment = capture.moment(at)
    rows = [charging.commission_row(one, order_id=order.pk, at=moment) for one in earned]
    # First: the rows that they tell of are not captured as well.
    audit.record_many(
        [charging.event_of(one, order.pk, by, row=row) for one, row in zip(earned, rows, strict=True)]
    )
    _write(order, earned, rows)
    ledger.post_many(
        [
            sale_postings.sale_posting(
                one.sale,
                entry_id=one.entry_id,
                order_id=order.pk,
                occurred_at=posted_at or at,
                provider=provider,
            )
            for one in earned
        ],
        by=by,
    )
    return earned


def parts_of(order: Order) -> list[Part]:
    """Return what each vendor sold in a stored order. The order's tax is split over them by their goods."""
    lines: dict[UUID, list[PartLine]] = {}
    items: Iterable[OrderItem] = OrderItem.objects.filter(order_id=order.pk).order_by("line")
    for item in items:
        lines.setdefault(item.vendor_id, []).append(
            PartLine(item.line, item.product_id, item.category, item.line_total_minor, item.shipping_minor)
        )
    if not lines:
        return []
    goods = [sum(line.goods for line in own) for own in lines.values()]
    policy = charging.policy_for(order.currency).fitting([order.tax_minor])
    taxes = allocate_steps(order.tax_minor, goods, policy.step)
    return [Part(vendor, tax, tuple(own)) for (vendor, own), tax in zip(lines.items(), taxes, strict=True)]


def _charge(
    order: Order, parts: Iterable[Part], terms: Terms, at: dt.datetime, override: Override | None
) -> list[Earned]:
    policy = charging.policy_for(order.currency)
    return [
        charging.earn(part, terms, policy, at=at, reference=order.external_reference, override=override)
        for part in parts
    ]


def _write(order: Order, earned: list[Earned], rows: list[dict[str, Any]]) -> None:
    lines: list[dict[str, Any]] = [row for one in earned for row in charging.line_terms(one)]
    sql.execute(
        _WRITE,
        {"order": order.pk, "lines": simplejson.dumps(lines), "commissions": simplejson.dumps(rows)},
    )
