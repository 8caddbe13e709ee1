"""Placing an order: the storefront tells what was bought, we price it, and a paid order is a sale at once.

One transaction of at most five statements: claim the idempotency key; read what the decision needs; write
order, lines, payment, commissions and the stored answer; post the sale; record the events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import simplejson
from django.db import IntegrityError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from finance import charging, idempotency, ledger, numbers, sale_postings, serializers, transactions
from finance.charging import Earned, Part, PartLine, Terms
from finance.idempotency import Answer, Claim
from finance.models.orders import STOREFRONT
from finance.order_form import OrderForm
from finance.postings import Posting
from finance.states import OrderStatus
from mestore.lib import crypto, errors, sql
from mestore.lib.actor import Actor
from mestore.lib.errors import FieldError
from mestore.lib.http import dumps
from monitoring import audit, events

ROUTE: Final = "POST /api/v1/orders/"
CREATED: Final = 201

# What the decision needs, and the order's id, so that the answer can be stored with the order. A sale that is
# not refused is counted for its vendors here, where anybody counts, and learns the rules in force.
_FACTS = """
WITH facts AS MATERIALIZED (
    SELECT nextval('finance_order_id_seq'::regclass) AS id,
           (SELECT coalesce(array_agg(u.id), '{}') FROM accounts_user u
            JOIN accounts_vendorprofile p ON p.user_id = u.id
            WHERE u.id = ANY(%(vendors)s::uuid[]) AND u.user_type = 'VENDOR' AND u.is_active
              AND u.deleted_at IS NULL AND p.vendor_status = 'approved') AS vendors,
           %(buyer)s::uuid IS NULL OR EXISTS (
               SELECT FROM accounts_user u WHERE u.id = %(buyer)s::uuid AND u.user_type = 'BUYER'
                  AND u.is_active AND u.deleted_at IS NULL) AS has_buyer,
           EXISTS (SELECT FROM finance_order o
                   WHERE o.source = %(source)s::text
                     AND o.external_reference = %(reference)s::text) AS is_known
)
SELECT f.id, f.vendors, f.has_buyer, f.is_known, t.rules, t.volumes
FROM facts f
CROSS JOIN LATERAL finance_sale_terms(
    %(currency)s::text, %(at)s::timestamptz, %(month)s::date, %(since)s::timestamptz, %(parts)s::uuid[],
    %(bases)s::bigint[], %(products)s::text[], %(categories)s::text[], %(reference)s::text,
    %(is_paid)s::boolean AND f.has_buyer AND NOT f.is_known AND f.vendors @> %(vendors)s::uuid[]) t
"""

_WRITE = """
WITH items AS (
    INSERT INTO finance_orderitem (order_id, line, product_id, vendor_id, name, category, unit_price_minor,
                                   quantity, line_total_minor, shipping_minor, commission_minor, rate_ppm,
                                   rule_hash, rounding)
    SELECT %(id)s, i.line, i.product_id, i.vendor_id, i.name, i.category, i.unit_price_minor, i.quantity,
           i.line_total_minor, i.shipping_minor, i.commission, i.rate_ppm, decode(i.rule_hash, 'hex'),
           coalesce(i.rounding, '')
    FROM jsonb_to_recordset(%(items)s::jsonb) AS i (
        line int, product_id text, vendor_id uuid, name text, category text, unit_price_minor bigint,
        quantity int, line_total_minor bigint, shipping_minor bigint, commission bigint, rate_ppm int,
        rule_hash text, rounding text)
), payment AS (
    INSERT INTO finance_orderpayment (order_id, sequence, method, installments, amount_minor, provider,
                                      reference, status)
    SELECT %(id)s, 1, p.method, p.installments, %(total_minor)s, p.provider, p.reference, p.status
    FROM jsonb_to_recordset(%(payments)s::jsonb) AS p (
        method text, installments int, provider text, reference text, status text)
), earned AS (
    INSERT INTO finance_commission (id, commission_number, order_id, vendor_id, currency, order_amount_minor,
                                    rate_ppm, commission_amount_minor, vendor_amount_minor, commission_type,
                                    status, entry_id, rule_id, rule_hash, rule_snapshot, rounding,
                                    fee_tax_minor, withheld_minor, calculated_at, created_at, updated_at)
    SELECT c.id, c.number, %(id)s, c.vendor_id, %(currency)s, c.base, c.rate_ppm, c.commission,
           c.vendor_amount, c.kind, c.status, c.entry_id, c.rule_id, decode(c.rule_hash, 'hex'),
           c.rule_snapshot, c.rounding, c.fee_tax, c.withheld, %(now)s, %(now)s, %(now)s
    FROM jsonb_to_recordset(%(commissions)s::jsonb) AS c (
        id uuid, number text, vendor_id uuid, base bigint, rate_ppm int, commission bigint,
        vendor_amount bigint, kind text, status text, entry_id uuid, rule_id uuid, rule_hash text,
        rule_snapshot text, rounding text, fee_tax bigint, withheld bigint)
), answered AS (
    UPDATE finance_idempotencykey SET status = %(answer_status)s, body = %(answer)s WHERE id = %(claim)s
)
INSERT INTO finance_order (
    id, order_number, source, external_reference, buyer_id, buyer_reference, currency, status, subtotal_minor,
    tax_minor, shipping_minor, discount_minor, total_minor, shipping_name, shipping_phone, shipping_email,
    shipping_address, shipping_city, shipping_state, shipping_postal_code, shipping_country, notes, placed_at,
    confirmed_at, created_at, updated_at)
VALUES (
    %(id)s, %(number)s, %(source)s, %(external_reference)s, %(buyer_id)s, %(buyer_reference)s, %(currency)s,
    %(status)s, %(subtotal_minor)s, %(tax_minor)s, %(shipping_total_minor)s, 0, %(total_minor)s,
    %(shipping_name)s, %(shipping_phone)s, %(shipping_email)s, %(shipping_address)s, %(shipping_city)s,
    %(shipping_state)s, %(shipping_postal_code)s, %(shipping_country)s, %(notes)s, %(now)s, %(confirmed_at)s,
    %(now)s, %(now)s)
"""


class VendorRefused(errors.Unprocessable):
    code = "VENDOR_NOT_AUTHORIZED"
    message = _("A vendor of this order is not known, not active or not approved.")


class BuyerRefused(errors.Unprocessable):
    code = "BUYER_NOT_FOUND"
    message = _("The buyer of this order is not known or not active.")


class OrderKnown(errors.Conflict):
    code = "ORDER_ALREADY_EXISTS"
    message = _("An order with this external reference exists already.")


_REFUSALS: Final[dict[str, type[errors.MeStoreError]]] = {
    refusal.code: refusal for refusal in (VendorRefused, BuyerRefused, OrderKnown)
}
# Where a twin with another idempotency key got ahead between our question and our write.
_RACES: Final[dict[str | None, type[errors.MeStoreError]]] = {
    "order_known_once_per_source": OrderKnown,
}


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """An order as it is written and told."""

    id: int
    number: str
    status: OrderStatus
    placed_at: datetime
    form: OrderForm
    earned: tuple[Earned, ...]


def place(form: OrderForm, *, key: str, by: Actor) -> Answer:
    """Place an order once per idempotency key and return the answer to send: 201 with the order.

    With an approved payment the order is confirmed, and the sale of each vendor and its commission are posted
    in the same transaction; else it is pending. Raises `VendorRefused`, `BuyerRefused` and
    `OrderKnown` (stored: the same key gets the same refusal), `idempotency.KeyReused` and
    `idempotency.TwinInFlight`.
    """
    request_hash = crypto.digest(form.identity())
    try:
        result = transactions.run(lambda: _place(form, key, request_hash, by))
    except IntegrityError as error:
        if refusal := _RACES.get(transactions.constraint_of(error)):
            raise refusal from error
        raise
    if isinstance(result, errors.MeStoreError):
        raise result
    return result


def _place(form: OrderForm, key: str, request_hash: bytes, by: Actor) -> Answer | errors.MeStoreError:
    """Do it inside one transaction; a refusal is returned, not raised, because it is to be kept."""
    claim = idempotency.claim(ROUTE, key, request_hash, by=by)
    if claim.stored is not None:
        return idempotency.refusal_from(claim.stored, _REFUSALS) or claim.stored
    now = timezone.now()
    order_id, refusal, terms = _decide(form, now)
    if refusal is not None:
        idempotency.store_refusal(claim, refusal)
        audit.record(events.ORDER_REFUSED, by=by, data={"code": refusal.code, "currency": form.currency})
        return refusal
    order = _order(order_id, form, terms, now)
    body = dumps(serializers.order_placed(order))
    _write(order, claim, body)
    ledger.post_many([_posting(order, earned) for earned in order.earned], by=by)
    audit.record_many(_events(order, by))
    return Answer(CREATED, body)


def _decide(form: OrderForm, now: datetime) -> tuple[int, errors.MeStoreError | None, Terms]:
    """Return the order's id to be, why it is refused, if it is, and by which terms it is charged."""
    asked = charging.question(
        parts_of(form), currency=form.currency, reference=form.external_reference, at=now
    ) | {
        "vendors": form.vendor_ids, "buyer": form.buyer_id, "source": STOREFRONT,
        "reference": form.external_reference, "is_paid": form.is_paid,
    }  # fmt: skip
    order_id, vendors, has_buyer, is_known, rules, volumes = sql.fetch_one(_FACTS, asked, prepare=True) or (
        0, [], False, False, None, None,
    )  # fmt: skip
    terms = charging.terms_from(rules, volumes)
    if unknown := set(form.vendor_ids) - set(vendors):
        details = [
            FieldError(
                f"body -> items -> {index} -> vendor_id", VendorRefused.message, "vendor_not_authorized"
            )
            for index, line in enumerate(form.lines)
            if line.vendor_id in unknown
        ]
        return order_id, VendorRefused(details=details), terms
    if not has_buyer:
        details = [FieldError("body -> buyer_id", BuyerRefused.message, "buyer_not_found")]
        return order_id, BuyerRefused(details=details), terms
    return order_id, OrderKnown() if is_known else None, terms


def parts_of(form: OrderForm) -> list[Part]:
    """Return what each vendor sells in an order, by the order of their first lines."""
    lines: dict[UUID, list[PartLine]] = {part.vendor: [] for part in form.price.parts}
    for number, (line, shipping) in enumerate(zip(form.lines, form.price.line_shipping, strict=True), 1):
        lines[line.vendor_id].append(PartLine(number, line.product_id, line.category, line.total, shipping))
    return [Part(part.vendor, part.tax, tuple(lines[part.vendor])) for part in form.price.parts]


def _order(order_id: int, form: OrderForm, terms: Terms, now: datetime) -> PlacedOrder:
    earned: tuple[Earned, ...] = ()
    if form.is_paid:
        policy = charging.policy_for(form.currency)
        earned = tuple(
            charging.earn(part, terms, policy, at=now, reference=form.external_reference)
            for part in parts_of(form)
        )
    status = OrderStatus.CONFIRMED if form.is_paid else OrderStatus.PENDING
    return PlacedOrder(order_id, numbers.order_number(now), status, now, form, earned)


def _write(order: PlacedOrder, claim: Claim, body: bytes) -> None:
    form = order.form
    sql.execute(
        _WRITE,
        {
            "id": order.id, "number": order.number, "source": STOREFRONT, "now": order.placed_at,
            "external_reference": form.external_reference, "buyer_id": form.buyer_id,
            "buyer_reference": form.buyer_reference, "currency": form.currency, "status": order.status.value,
            "subtotal_minor": form.price.subtotal, "tax_minor": form.price.tax,
            "shipping_total_minor": form.price.shipping, "total_minor": form.price.total, "notes": form.notes,
            "confirmed_at": order.placed_at if form.is_paid else None, **form.shipping,
            "items": simplejson.dumps(_item_rows(order)),
            "payments": simplejson.dumps([_payment_row(form)] if form.payment else []),
            "commissions": simplejson.dumps([charging.commission_row(earned) for earned in order.earned]),
            "answer_status": CREATED, "answer": idempotency.seal(claim, body), "claim": claim.id,
        },
    )  # fmt: skip


def _item_rows(order: PlacedOrder) -> list[Mapping[str, Any]]:
    form = order.form
    charged = {row["line"]: row for earned in order.earned for row in charging.line_terms(earned)}
    return [
        {
            "line": number, "product_id": line.product_id, "vendor_id": str(line.vendor_id),
            "name": line.name, "category": line.category, "unit_price_minor": line.unit_price,
            "quantity": line.quantity,
            "line_total_minor": line.total, "shipping_minor": shipping, **charged.get(number, {}),
        }
        for number, (line, shipping) in enumerate(zip(form.lines, form.price.line_shipping, strict=True), 1)
    ]  # fmt: skip


def _payment_row(form: OrderForm) -> Mapping[str, Any]:
    payment = form.payment
    return {} if payment is None else {name: getattr(payment, name) for name in payment.__slots__}


def _posting(order: PlacedOrder, earned: Earned) -> Posting:
    payment = order.form.payment
    return sale_postings.sale_posting(
        earned.sale,
        entry_id=earned.entry_id,
        order_id=order.id,
        occurred_at=order.placed_at,
        provider=payment.provider if payment else "",
    )


def _events(order: PlacedOrder, by: Actor) -> list[audit.Entry]:
    told = {
        "number": order.number, "status": order.status.value, "currency": order.form.currency,
        "total_minor": order.form.price.total, "vendors": len(order.form.price.parts),
    }  # fmt: skip
    recorded = [audit.Entry(events.ORDER_RECORDED, by, ("order", str(order.id)), told)]
    recorded.extend(charging.event_of(earned, order.id, by) for earned in order.earned)
    return recorded
