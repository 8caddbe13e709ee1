"""Writing the new orders, a batch per transaction, with items, payments, commissions, entries and events.

Whatever happens to the process, a batch is there whole or not at all, so that a repeated run finds what is
missing. While PostgreSQL works on one batch, the next one is read and computed in a second thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.db import IntegrityError, connection, transaction

from finance import charging, ledger, money, numbers, orders, periods, postings, sale_postings
from finance.charging import DatedRules, Part, PartLine, Policy
from finance.states import PaymentStatus
from mestore.lib.actor import Actor
from monitoring import audit, capture, events

from .sold import SOLD_STATUSES, STATUS
from .staging import BATCH_LOCK, Staging
from .vendors import vendor_id

_ORDERS = """
    SELECT seq, order_id, customer_id, status, purchased_at, approved_at, carrier_at, delivered_at, digest,
           nextval('finance_order_id_seq')
    FROM import_new WHERE seq > %s AND seq <= %s ORDER BY seq"""
_ITEMS = """
    SELECT seq, number, product_id, seller_id, price_minor, freight_minor
    FROM import_new_item WHERE seq > %s AND seq <= %s ORDER BY seq, number"""
_PAYMENTS = """
    SELECT seq, sequence, method, installments, amount_minor
    FROM import_new_payment WHERE seq > %s AND seq <= %s ORDER BY seq, sequence"""

_COPY_ORDERS = """
    COPY finance_order (id, order_number, source, external_reference, source_digest, buyer_reference,
        currency, status, subtotal_minor, tax_minor, shipping_minor, total_minor, shipping_country, placed_at,
        confirmed_at, shipped_at, delivered_at, created_at) FROM STDIN"""
_COPY_ITEMS = """
    COPY finance_orderitem (order_id, line, product_id, vendor_id, unit_price_minor, quantity,
        line_total_minor, shipping_minor, commission_minor, rate_ppm, rule_hash, rounding) FROM STDIN"""
_COPY_PAYMENTS = """
    COPY finance_orderpayment (order_id, sequence, method, installments, amount_minor, provider, status)
        FROM STDIN"""
_COPY_COMMISSIONS = """
    COPY finance_commission (id, commission_number, order_id, vendor_id, currency, order_amount_minor,
        rate_ppm, commission_amount_minor, vendor_amount_minor, commission_type, entry_id, rule_id, rule_hash,
        rule_snapshot, rounding, fee_tax_minor, withheld_minor, calculated_at, created_at) FROM STDIN"""

# Plans of foreign keys and of ledger_post are made once per connection, while the tables may still be empty;
# the import then fills them by the ten thousand. An index is right for each of these look-ups at any size.
_BEGIN_BATCH = """
    SELECT pg_advisory_xact_lock(%s), set_config('enable_seqscan', 'off', true),
           set_config('jit', 'off', true)"""

# A payment of the file was taken; only orders that nobody paid for, or that were undone, are without a yes.
_PAYMENT_STATUS = {
    "created": PaymentStatus.PENDING.value,
    "canceled": PaymentStatus.CANCELLED.value,
    "unavailable": PaymentStatus.CANCELLED.value,
}

Row = tuple[Any, ...]
# What a line of an order that does not count as sold has of a charge.
_NOT_SOLD: Row = (None, None, None, "")
ATTEMPTS = 3


@dataclass(slots=True)
class Batch:
    """The rows of some orders, ready to be written."""

    made: datetime = field(default_factory=lambda: datetime.now(UTC))
    orders: list[Row] = field(default_factory=list)
    items: list[Row] = field(default_factory=list)
    payments: list[Row] = field(default_factory=list)
    commissions: list[Row] = field(default_factory=list)
    postings: list[postings.Posting] = field(default_factory=list)
    events: list[audit.Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Import:
    """What all orders of one import share."""

    source: str
    currency: str
    policy: Policy
    rules: DatedRules
    now: datetime
    by: Actor
    #: Up to when the books are closed: sales before it are posted now.
    closed: datetime | None


def write(
    staging: Staging, count: int, *, source: str, currency: str, batch_size: int,
    advance: Callable[[int], None], by: Actor, and_last: Callable[[], None],
) -> None:  # fmt: skip
    """Write the `count` orders of import_new; `and_last` runs inside the transaction of the last batch."""
    policy, rules = charging.policy_for(currency), charging.dated_rules(currency)
    shared = _Import(source, currency, policy, rules, datetime.now(UTC), by, periods.closed_until())
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="import-reader") as reader:

        def read(start: int) -> Future[Batch] | None:
            return reader.submit(_read, staging, start, batch_size, shared) if start < count else None

        upcoming = read(0)
        for start in range(0, count, batch_size):
            current, upcoming = upcoming, read(start + batch_size)
            finish = and_last if start + batch_size >= count else None
            advance(_write_one(current, partial(read, start), finish, by))


def _write_one(
    coming: Future[Batch] | None, read_again: Callable[[], Future[Batch] | None],
    finish: Callable[[], None] | None, by: Actor,
) -> int:  # fmt: skip
    """Write one batch in one transaction, how many orders it had. Raises IntegrityError.

    Order and commission numbers are random: one may be taken already, once in many million orders. The batch
    is then computed again with other numbers.
    """
    for attempt in range(1, ATTEMPTS + 1):
        batch = coming.result() if coming else Batch()
        try:
            with transaction.atomic():
                _insert(batch, by)
                if finish:
                    finish()
        except IntegrityError:
            if attempt == ATTEMPTS:
                raise
            coming = read_again()
        else:
            break
    return len(batch.orders)


def _read(staging: Staging, start: int, size: int, shared: _Import) -> Batch:
    """Read the staged lines of some orders, reserve their ids, and compute all that will be written."""
    span = [start, start + size]
    items = _by_order(staging.all(_ITEMS, span))
    payments = _by_order(staging.all(_PAYMENTS, span))
    batch = Batch()
    for seq, *order in staging.all(_ORDERS, span):
        _add(batch, order, items.get(seq, []), payments.get(seq, []), shared)
    return batch


def _by_order(rows: list[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for seq, *rest in rows:
        found.setdefault(seq, []).append(tuple(rest))
    return found


def _add(batch: Batch, order: list[Any], items: list[Row], payments: list[Row], shared: _Import) -> None:
    """Put one order's rows into the batch."""
    reference, customer, status, purchased, approved, carrier, delivered, digest, order_id = order
    placed = purchased or approved or carrier or delivered or shared.now
    goods, freight = sum(item[3] for item in items), sum(item[4] for item in items)
    number = numbers.order_number(placed)
    batch.orders.append(
        (
            order_id, number, shared.source, reference, digest, customer, shared.currency, STATUS[status],
            goods, 0, freight, goods + freight, "", placed, approved, carrier, delivered, batch.made,
        )
    )  # fmt: skip
    charged: dict[int, Row] = {}
    if status in SOLD_STATUSES:
        for part in _parts(items, shared):
            _add_sale(batch, order_id, part, approved or placed, reference, charged, shared)
    for line, product, seller, price, shipping in items:
        batch.items.append(
            (order_id, line, product, vendor_id(shared.source, seller), price, 1, price, shipping,
             *charged.get(line, _NOT_SOLD))
        )  # fmt: skip
    paid = _PAYMENT_STATUS.get(status, PaymentStatus.APPROVED.value)
    for sequence, method, installments, amount in payments:
        batch.payments.append((order_id, sequence, method, installments, amount, shared.source, paid))
    batch.events.append(
        audit.Entry(
            events.ORDER_RECORDED,
            by=shared.by,
            target=("order", str(order_id)),
            data={
                "number": number,
                "source": shared.source,
                "reference": reference,
                "status": STATUS[status],
                "total": money.text_of(goods + freight, shared.currency),
                "currency": shared.currency,
                "row": _row_told(batch.orders[-1]),
            },
        )
    )


def _row_told(order: Row) -> dict[str, Any]:
    """What the event tells of an order's row, so that the database need not capture that as well."""
    (
        order_id, number, source, reference, _digest, _customer, currency, status, goods, tax, freight, total,
        _country, *moments,
    ) = order  # fmt: skip
    told = {
        "id": order_id, "order_number": number, "source": source, "external_reference": reference,
        "currency": currency, "status": status, "subtotal_minor": goods, "tax_minor": tax,
        "shipping_minor": freight, "total_minor": total, **orders.AS_MADE,
    }  # fmt: skip
    named = zip(
        ("placed_at", "confirmed_at", "shipped_at", "delivered_at", "created_at"), moments, strict=True
    )
    return told | {name: capture.moment(at) for name, at in named if at is not None}


def _parts(items: list[Row], shared: _Import) -> Iterator[Part]:
    """What each vendor of an order sold."""
    sellers: dict[str, list[PartLine]] = {}
    for line, product, seller, price, shipping in items:
        sellers.setdefault(seller, []).append(PartLine(line, product, "", price, shipping))
    for seller, lines in sellers.items():
        yield Part(vendor_id(shared.source, seller), 0, tuple(lines))


def _add_sale(
    batch: Batch, order_id: int, part: Part, at: datetime, reference: str, charged: dict[int, Row],
    shared: _Import,
) -> None:  # fmt: skip
    """Put one vendor's commission, entry and event into the batch, and each line's part into `charged`."""
    earned = charging.earn(part, shared.rules.at(at), shared.policy, at=at, reference=reference)
    sale = earned.sale
    batch.commissions.append(
        (
            earned.id, earned.number, order_id, sale.vendor, sale.currency, sale.base, sale.rate_ppm,
            sale.commission, sale.vendor_amount, earned.kind, earned.entry_id, earned.rule_id,
            charging.snapshot_hash(earned.snapshot), earned.snapshot, earned.rounding.value, sale.fee_tax,
            sale.withheld_total, at, batch.made,
        )
    )  # fmt: skip
    batch.postings.append(
        sale_postings.sale_posting(
            sale,
            entry_id=earned.entry_id,
            order_id=order_id,
            provider=shared.source,
            occurred_at=periods.posted_at(at, closed=shared.closed, now=shared.now),
        )
    )
    row = charging.commission_row(earned, order_id=order_id, at=capture.moment(at))
    row["created_at"] = capture.moment(batch.made)
    batch.events.append(charging.event_of(earned, order_id, shared.by, row=row))
    for row in charging.line_terms(earned):
        charged[row["line"]] = (
            row["commission"], row["rate_ppm"], bytes.fromhex(row["rule_hash"]), row["rounding"],
        )  # fmt: skip


def _insert(batch: Batch, by: Actor) -> None:
    """Write one batch in the current transaction."""
    # Django does not translate the driver's errors on COPY by itself.
    with connection.wrap_database_errors, connection.cursor() as cursor:
        cursor.execute(_BEGIN_BATCH, [BATCH_LOCK])
        # First: the rows that they tell of are not captured as well.
        audit.record_many(batch.events)
        for statement, rows in (
            (_COPY_ORDERS, batch.orders),
            (_COPY_ITEMS, batch.items),
            (_COPY_PAYMENTS, batch.payments),
            (_COPY_COMMISSIONS, batch.commissions),
        ):
            if rows:
                with cursor.copy(statement) as copy:
                    for row in rows:
                        copy.write_row(row)
    ledger.post_many(batch.postings, by=by)
