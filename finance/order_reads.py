"""Reads of orders: each one statement, bounded, by an index; nobody sees what is not theirs.

A buyer's orders are the buyer's, the storefront's machine account has those that came through it, the staff
sees all. For anybody else there is no such order.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Case, IntegerField, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import JSONObject
from django.utils.translation import gettext_lazy as _

from accounts import users
from accounts.models import User
from accounts.roles import STAFF, Role
from finance.models import Order, OrderItem, OrderPayment, Refund
from finance.models.orders import STOREFRONT
from finance.order_locks import LARGEST_ID, OrderNotFound
from finance.states import PaymentStatus
from mestore.lib import errors

#: Up to here totals are counted and offsets are walked; beyond, totals are estimates and pages need a cursor.
COUNTED: Final = 10_000
_PAYMENTS: Final = OrderPayment.objects.filter(order=OuterRef("pk"))


class CursorInvalid(errors.Unprocessable):
    message = _("The cursor is not one that was given out.")


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """What a list is narrowed to. `search` is a whole number, id, reference, or a buyer's address."""

    status: str | None = None
    search: str = ""


@dataclass(frozen=True, slots=True)
class OrderPage:
    """One page, newest first. `next_cursor` is None on the last one."""

    rows: Sequence[Any]
    total: int
    total_is_estimate: bool
    next_cursor: str | None


class Counted(Subquery):
    """Counts the rows of a sliced queryset: constant cost whatever the table's size."""

    template = "(SELECT count(*) FROM (%(subquery)s) AS capped)"
    output_field = IntegerField()


def seen_by(reader: User) -> QuerySet[Order]:
    """Return the orders that `reader` may read through the API of orders."""
    if reader.user_type in STAFF:
        return Order.objects.all()
    if reader.user_type == Role.SYSTEM:
        return Order.objects.filter(source=STOREFRONT)
    return Order.objects.filter(buyer_id=reader.pk)


def page(
    narrowed: OrderFilter, *, reader: User, limit: int, offset: int = 0, cursor: str | None = None,
    counted: bool = True, with_buyer: bool = False,
) -> OrderPage:  # fmt: skip
    """Return one page in one statement; two where it is empty or there are more than can be counted.

    Without `counted` there is no total: 0. Raises `CursorInvalid`.
    """
    matching = _narrowed(seen_by(reader), narrowed)
    rows = matching.filter(pk__lt=id_in(cursor)) if cursor else matching
    rows = _summaries(rows).order_by("-pk")
    if with_buyer:
        rows = rows.select_related("buyer")
    return page_of(rows, matching if counted else None, limit, offset)


def page_of(rows: QuerySet[Any], matching: QuerySet[Any] | None, limit: int, offset: int) -> OrderPage:
    """Cut one page out of `rows`, which are newest first; `matching` is what the total counts."""
    capped = None if matching is None else matching.order_by().values("pk")[: COUNTED + 1]
    if capped is not None:
        rows = rows.annotate(found=Counted(capped))
    found = list(rows[offset : offset + limit + 1])
    shown = found[:limit]
    total = 0
    if matching is not None and capped is not None:
        total = int(found[0].found) if found else capped.count()
    is_estimate = total > COUNTED
    if matching is not None and is_estimate:
        total = max(total, estimate(matching))
    return OrderPage(shown, total, is_estimate, cursor_of(shown[-1].pk) if len(found) > limit else None)


def estimate(matching: QuerySet[Any]) -> int:
    """Ask the planner how many rows there are: it knows without counting."""
    plan = json.loads(matching.order_by().explain(format="json"))
    return int(plan[0]["Plan"]["Plan Rows"])


def detail(order_id: int, *, reader: User) -> Any:
    """Return one order with its `item_rows`, `payment_rows` and `refund_rows`, in one statement.

    Raises `OrderNotFound`, for those of others as well.
    """
    found = None
    if 0 < order_id <= LARGEST_ID:
        found = with_rows(seen_by(reader).filter(pk=order_id)).select_related("buyer").first()
    if found is None:
        raise OrderNotFound
    return found


def summary(order_id: int, *, reader: User) -> Any:
    """Return one order without what belongs to it. Raises `OrderNotFound`."""
    found = None
    if 0 < order_id <= LARGEST_ID:
        found = _summaries(seen_by(reader).filter(pk=order_id)).first()
    if found is None:
        raise OrderNotFound
    return found


def by_number(number: str) -> Any:
    """Return the order with this number, for who may follow it. Raises `OrderNotFound`."""
    found = with_rows(Order.objects.filter(order_number=number)).first()
    if found is None:
        raise OrderNotFound
    return found


def with_rows(orders: QuerySet[Order], items: Q | None = None) -> QuerySet[Order]:
    """Add what belongs to each order as lists of mappings; `items` narrows the lines."""
    lines = OrderItem.objects.filter(items or Q(), order=OuterRef("pk")).order_by("line")
    refunds = Refund.objects.filter(order=OuterRef("pk")).order_by("id")
    return _summaries(orders).annotate(
        item_rows=ArraySubquery(lines.values(row=_json(_ITEM))),
        payment_rows=ArraySubquery(_PAYMENTS.order_by("sequence").values(row=_json(_PAYMENT))),
        refund_rows=ArraySubquery(refunds.values(row=_json(_REFUND))[:200]),
    )


_ITEM: Final = (
    "id", "line", "product_id", "vendor_id", "name", "category", "unit_price_minor", "quantity",
    "line_total_minor", "shipping_minor", "vendor_status",
)  # fmt: skip
_PAYMENT: Final = ("sequence", "method", "installments", "amount_minor", "provider", "reference", "status")
_REFUND: Final = (
    "id", "refund_number", "amount_minor", "currency", "status", "provider", "provider_reference", "failure",
)  # fmt: skip


def _json(names: Sequence[str]) -> JSONObject:
    return JSONObject(**{name: name for name in names})


def _summaries(orders: QuerySet[Order]) -> QuerySet[Order]:
    """Add `items_count` and `payment_status`: approved if one payment is, else what was said last."""
    lines = OrderItem.objects.filter(order=OuterRef("pk")).values("pk")
    approved_first = Case(When(status=PaymentStatus.APPROVED.value, then=Value(0)), default=Value(1))
    said = _PAYMENTS.order_by(approved_first, "-sequence").values("status")[:1]
    return orders.annotate(items_count=Counted(lines), payment_status=Subquery(said))


def _narrowed(orders: QuerySet[Order], narrowed: OrderFilter) -> QuerySet[Order]:
    if narrowed.status is not None:
        orders = orders.filter(status=narrowed.status)
    word = narrowed.search
    if not word:
        return orders
    if word.isascii() and word.isdigit() and int(word) <= LARGEST_ID:
        return orders.filter(Q(pk=int(word)) | Q(source=STOREFRONT, external_reference=word))
    if "@" in word:
        buyer = User.objects.filter(email_key=users.identifier(word)).values("pk")
        return orders.filter(buyer__in=buyer)
    return orders.filter(Q(order_number=word.upper()) | Q(source=STOREFRONT, external_reference=word))


def cursor_of(row_id: int) -> str:
    """Write where a page ended."""
    return base64.urlsafe_b64encode(b"o%d" % row_id).decode("ascii").rstrip("=")


def id_in(cursor: str) -> int:
    """Read where a page ended. Raises `CursorInvalid`."""
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode("ascii")
        row_id = int(text[1:]) if text[:1] == "o" and text[1:].isdigit() else -1
    except (ValueError, binascii.Error):
        row_id = -1
    if not 0 < row_id <= LARGEST_ID:
        raise CursorInvalid(
            details=[errors.FieldError("query -> cursor", CursorInvalid.message, "cursor_invalid")]
        )
    return row_id
