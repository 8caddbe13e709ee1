"""Placing an order: the storefront tells what was bought, we price it, and a paid order is a sale at once.

One transaction of two statements: claim the idempotency key and read what the decision needs; write order,
lines, payment, commissions, the stored answer and the events, and post the sale. Nothing is sold as often as
this happens, so both repeat words of others (`idempotency`, `ledger`, `audit`), which a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import IntegrityError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from finance import charging, idempotency, ledger, numbers, sale_postings, serializers, transactions
from finance.charging import Earned, Part, PartLine, Terms
from finance.idempotency import Answer, Asked, Claim
from finance.models.orders import STOREFRONT
from finance.order_form import OrderForm
from finance.postings import Posting
from finance.states import OrderStatus
from mestore.lib import crypto, errors, json_text, sql
from mestore.lib.actor import Actor
from mestore.lib.errors import FieldError
from mestore.lib.http import dumps
from monitoring import audit, capture, events

ROUTE: Final = "POST /api/v1/orders/"
CREATED: Final = 201

# The key, and what the decision needs: the order's id, so that the answer can be stored with the order. A
# sale that is not refused is counted for its vendors here, where anybody counts, and learns the rules in
# force. For a key that was claimed before nothing is drawn or counted.
_ASK = """
WITH claim AS (
    INSERT INTO finance_idempotencykey (scope, key, request_hash)
    VALUES (%(scope)s, %(key)s, %(request_hash)s)
    ON CONFLICT (scope, key) DO NOTHING RETURNING id
), facts AS MATERIALIZED (
    SELECT c.id AS claim, nextval('finance_order_id_seq'::regclass) AS id,
           (SELECT coalesce(array_agg(v.id), '{}') FROM unnest(%(vendors)s::uuid[]) AS v (id)
            WHERE (SELECT u.user_type = 'VENDOR' AND u.is_active AND u.deleted_at IS NULL AND (
                     SELECT p.vendor_status = 'approved' FROM accounts_vendorprofile p WHERE p.user_id = u.id)
                   FROM accounts_user u WHERE u.id = v.id)) AS vendors,
           %(buyer)s::uuid IS NULL OR EXISTS (
               SELECT FROM accounts_user u WHERE u.id = %(buyer)s::uuid AND u.user_type = 'BUYER'
                  AND u.is_active AND u.deleted_at IS NULL) AS has_buyer,
           EXISTS (SELECT FROM finance_order o
                   WHERE o.source = %(source)s::text
                     AND o.external_reference = %(reference)s::text) AS is_known
    FROM claim c
)
SELECT f.claim, f.id, f.vendors, f.has_buyer, f.is_known, t.rules, t.volumes
FROM facts f
CROSS JOIN LATERAL finance_sale_terms(
    %(currency)s::text, %(at)s::timestamptz, %(month)s::date, %(since)s::timestamptz, %(parts)s::uuid[],
    %(bases)s::bigint[], %(products)s::text[], %(categories)s::text[], %(reference)s::text,
    %(is_paid)s::boolean AND f.has_buyer AND NOT f.is_known AND f.vendors @> %(vendors)s::uuid[]) t
"""

# The first posting takes the events with it; an order that is not paid has none: they are written alone.
# What is written comes as one document whose members are named after the columns. psycopg remembers what it
# made of a statement only up to 4,096 characters.
_WRITE = """
WITH placed AS (
    INSERT INTO finance_order (
      id, order_number, source, external_reference, buyer_id, buyer_reference, currency, status,
      subtotal_minor, tax_minor, shipping_minor, discount_minor, total_minor, shipping_name, shipping_phone,
      shipping_email, shipping_address, shipping_city, shipping_state, shipping_postal_code,
      shipping_country, notes, placed_at, confirmed_at, created_at, updated_at)
    SELECT id, order_number, source, external_reference, buyer_id, buyer_reference, currency, status,
      subtotal_minor, tax_minor, shipping_minor, 0, total_minor, shipping_name, shipping_phone,
      shipping_email, shipping_address, shipping_city, shipping_state, shipping_postal_code,
      shipping_country, notes, placed_at, confirmed_at, placed_at, placed_at
    FROM jsonb_populate_record(NULL::finance_order, %(document)s::jsonb -> 'order')
), items AS (
    INSERT INTO finance_orderitem (
      order_id, line, product_id, vendor_id, name, category, unit_price_minor, quantity,
      line_total_minor, shipping_minor, commission_minor, rate_ppm, rule_hash, rounding)
    SELECT order_id, line, product_id, vendor_id, name, category, unit_price_minor, quantity,
      line_total_minor, shipping_minor, commission_minor, rate_ppm, rule_hash, rounding
    FROM jsonb_populate_recordset(NULL::finance_orderitem, %(document)s::jsonb -> 'items')
), payment AS (
    INSERT INTO finance_orderpayment (
      order_id, sequence, method, installments, amount_minor, provider, reference, status)
    SELECT order_id, 1, method, installments, amount_minor, provider, reference, status
    FROM jsonb_populate_recordset(NULL::finance_orderpayment, %(document)s::jsonb -> 'payments')
), earned AS (
    INSERT INTO finance_commission (
      id, commission_number, order_id, vendor_id, currency, order_amount_minor, rate_ppm,
      commission_amount_minor, vendor_amount_minor, commission_type, status, entry_id, rule_id, rule_hash,
      rule_snapshot, rounding, fee_tax_minor, withheld_minor, calculated_at, created_at, updated_at)
    SELECT id, commission_number, order_id, vendor_id, currency, order_amount_minor, rate_ppm,
      commission_amount_minor, vendor_amount_minor, commission_type, status, entry_id, rule_id, rule_hash,
      rule_snapshot, rounding, fee_tax_minor, withheld_minor, calculated_at, calculated_at, calculated_at
    FROM jsonb_populate_recordset(NULL::finance_commission, %(document)s::jsonb -> 'commissions')
), answered AS (
    UPDATE finance_idempotencykey SET status = %(answer_status)s, body = %(answer)s WHERE id = %(claim)s
), posted AS (
    SELECT count(*) AS sales, max(public.ledger_post(e.book, e.entry, e.kind, e.occurred_at, e.source,
      e.transfers, decode(e.mac, 'hex'), %(document)s::jsonb -> 'poster', e.reverses, e.whole,
      CASE WHEN e.n = 1 THEN %(events)s::json END)) AS told
    FROM ROWS FROM (jsonb_to_recordset(%(document)s::jsonb -> 'postings') AS (
      book uuid, entry uuid, kind text, occurred_at timestamptz, source text, transfers jsonb, mac text,
      reverses uuid, whole boolean)) WITH ORDINALITY AS e (book, entry, kind, occurred_at, source, transfers,
      mac, reverses, whole, n)
)
SELECT CASE WHEN p.sales = 0 THEN public.audit_write(%(events)s::json) ELSE p.told END FROM posted p
"""


# What the order's event tells of its row, and what every new order has in its other columns.
_TOLD = (
    "id", "order_number", "source", "external_reference", "buyer_id", "currency", "status", "subtotal_minor",
    "tax_minor", "shipping_minor", "total_minor", "placed_at", "confirmed_at",
)  # fmt: skip
AS_MADE: Final[dict[str, Any]] = {
    "discount_minor": 0, "refunded_minor": 0, "refund_due_minor": 0, "tracking_number": "", "courier": "",
}  # fmt: skip


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
    now, asked = timezone.now(), idempotency.asked(ROUTE, key, by=by)
    facts = _ask(form, asked, request_hash, now)
    if facts is None:
        _row, stored = idempotency.recall(asked, request_hash, by=by)
        return idempotency.refusal_from(stored, _REFUSALS) or stored
    claim = Claim(facts.claim, asked.binding)
    if (refusal := _refusal(form, facts)) is not None:
        idempotency.store_refusal(claim, refusal)
        audit.record(events.ORDER_REFUSED, by=by, data={"code": refusal.code, "currency": form.currency})
        return refusal
    order = _order(facts.order_id, form, facts.terms, now)
    body = dumps(serializers.order_placed(order))
    _write(order, claim, body, by)
    return Answer(CREATED, body)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the database says of an order that is to be: its key, its id, who may sell and buy, the terms."""

    claim: int
    order_id: int
    vendors: frozenset[UUID]
    has_buyer: bool
    is_known: bool
    terms: Terms


def _ask(form: OrderForm, key: Asked, request_hash: bytes, now: datetime) -> _Facts | None:
    """Claim the key and return what the decision needs; None when the key was claimed before."""
    question = charging.question(
        parts_of(form), currency=form.currency, reference=form.external_reference, at=now
    ) | {
        "scope": key.scope, "key": key.key, "request_hash": request_hash,
        "vendors": sql.array(form.vendor_ids),
        "buyer": form.buyer_id, "source": STOREFRONT, "reference": form.external_reference,
        "is_paid": form.is_paid,
    }  # fmt: skip
    with idempotency.twin_told():
        row = sql.fetch_one(_ASK, question, prepare=True)
    if row is None:
        return None
    claim, order_id, vendors, has_buyer, is_known, rules, volumes = row
    terms = charging.terms_from(rules, volumes)
    return _Facts(claim, order_id, frozenset(vendors), has_buyer, is_known, terms)


def _refusal(form: OrderForm, facts: _Facts) -> errors.MeStoreError | None:
    """Return why the order is refused, if it is."""
    if unknown := set(form.vendor_ids) - facts.vendors:
        details = [
            FieldError(
                f"body -> items -> {index} -> vendor_id", VendorRefused.message, "vendor_not_authorized"
            )
            for index, line in enumerate(form.lines)
            if line.vendor_id in unknown
        ]
        return VendorRefused(details=details)
    if not facts.has_buyer:
        details = [FieldError("body -> buyer_id", BuyerRefused.message, "buyer_not_found")]
        return BuyerRefused(details=details)
    return OrderKnown() if facts.is_known else None


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


def _write(order: PlacedOrder, claim: Claim, body: bytes, by: Actor) -> None:
    """Write all of it with one statement. Raises as `ledger.post_many` and `audit.record_many` do."""
    earned, at = order.earned, capture.moment(order.placed_at)
    row = _order_row(order, at)
    commissions = [charging.commission_row(one, order_id=order.id, at=at) for one in earned]
    told = audit.batch(_events(order, row, commissions, by))
    document = {
        "order": row,
        "items": _item_rows(order),
        "payments": _payment_rows(order),
        "commissions": commissions,
        "postings": ledger.rows([_posting(order, one) for one in earned]),
        "poster": ledger.poster(by),
    }
    values = {
        "document": _text(document), "events": told.text(), "answer_status": CREATED,
        "answer": idempotency.seal(claim, body), "claim": claim.id,
    }  # fmt: skip
    with ledger.refusals_named(), audit.batch_refusals_named():
        written = sql.fetch_one(_WRITE, values, prepare=True)
    told.complete(written[0] if written else 0)


_text = json_text.writer()


def _order_row(order: PlacedOrder, at: str) -> Mapping[str, Any]:
    form = order.form
    return {
        "id": order.id, "order_number": order.number, "source": STOREFRONT,
        "external_reference": form.external_reference,
        "buyer_id": None if form.buyer_id is None else str(form.buyer_id),
        "buyer_reference": form.buyer_reference, "currency": form.currency, "status": order.status.value,
        "subtotal_minor": form.price.subtotal, "tax_minor": form.price.tax,
        "shipping_minor": form.price.shipping, "total_minor": form.price.total, "notes": form.notes,
        "placed_at": at, "confirmed_at": at if form.is_paid else None, **form.shipping,
    }  # fmt: skip


def _item_rows(order: PlacedOrder) -> list[Mapping[str, Any]]:
    form = order.form
    charged = {row["line"]: row for earned in order.earned for row in charging.line_terms(earned)}
    return [
        {
            "order_id": order.id, "line": number, "product_id": line.product_id,
            "vendor_id": str(line.vendor_id), "name": line.name, "category": line.category,
            "unit_price_minor": line.unit_price, "quantity": line.quantity, "line_total_minor": line.total,
            "shipping_minor": shipping, **_charged(charged.get(number)),
        }
        for number, (line, shipping) in enumerate(zip(form.lines, form.price.line_shipping, strict=True), 1)
    ]  # fmt: skip


def _charged(terms: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a line keeps of its charge; nothing yet where the order is not paid."""
    if terms is None:
        return {"rounding": ""}
    return {
        "commission_minor": terms["commission"], "rate_ppm": terms["rate_ppm"],
        "rule_hash": f"\\x{terms['rule_hash']}", "rounding": terms["rounding"],
    }  # fmt: skip


def _payment_rows(order: PlacedOrder) -> list[Mapping[str, Any]]:
    payment = order.form.payment
    if payment is None:
        return []
    told = {name: getattr(payment, name) for name in payment.__slots__}
    return [{"order_id": order.id, "amount_minor": order.form.price.total, **told}]


def _posting(order: PlacedOrder, earned: Earned) -> Posting:
    payment = order.form.payment
    return sale_postings.sale_posting(
        earned.sale,
        entry_id=earned.entry_id,
        order_id=order.id,
        occurred_at=order.placed_at,
        provider=payment.provider if payment else "",
    )


def _events(
    order: PlacedOrder, row: Mapping[str, Any], commissions: list[dict[str, Any]], by: Actor
) -> list[audit.Entry]:
    """Return what happened. The rows are told with it, so that the database need not capture them as well."""
    told = {
        "number": order.number, "status": order.status.value, "currency": order.form.currency,
        "total_minor": order.form.price.total, "vendors": len(order.form.price.parts),
        "row": {name: row[name] for name in _TOLD if row[name] is not None} | AS_MADE
        | {"created_at": row["placed_at"]},
    }  # fmt: skip
    recorded = [audit.Entry(events.ORDER_RECORDED, by, ("order", str(order.id)), told)]
    recorded.extend(
        charging.event_of(one, order.id, by, row=charged)
        for one, charged in zip(order.earned, commissions, strict=True)
    )
    return recorded
