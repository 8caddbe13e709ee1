"""Reads of refunds: who may read the order reads its refunds."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Prefetch, QuerySet

from accounts.models import User
from finance import order_reads
from finance.models import Refund, RefundPart
from finance.refund_outcomes import RefundNotFound

_PARTS = Prefetch("parts", RefundPart.objects.order_by("id"))


def seen_by(reader: User) -> QuerySet[Refund]:
    """Return the refunds of orders that `reader` may read."""
    orders = order_reads.seen_by(reader)
    rows = Refund.objects.select_related("order").prefetch_related(_PARTS)
    return rows.filter(order__in=orders)


def page(
    *, reader: User, limit: int, cursor: UUID | None, status: str | None = None, order_id: int | None = None
) -> tuple[list[Refund], UUID | None]:
    """Return one page, newest first, and where the next one begins; two statements."""
    rows = seen_by(reader).order_by("-id")
    if status is not None:
        rows = rows.filter(status=status)
    if order_id is not None:
        rows = rows.filter(order_id=order_id)
    if cursor is not None:
        rows = rows.filter(pk__lt=cursor)
    found = list(rows[: limit + 1])
    return found[:limit], found[limit - 1].pk if len(found) > limit else None


def detail(refund_id: UUID, *, reader: User) -> Refund:
    """Return one refund with its parts. Raises `RefundNotFound`, for those of others as well."""
    found = seen_by(reader).filter(pk=refund_id).first()
    if found is None:
        raise RefundNotFound
    return found
