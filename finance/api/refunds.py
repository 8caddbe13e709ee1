"""`/orders/{id}/refunds` and `/refunds/…`: money back to buyers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.roles import STAFF, Role
from finance import idempotency, list_query, order_reads, refund_outcomes, refund_reads, refund_requests
from finance.api import refunds_shapes as shapes
from finance.api.access import RoleView, is_staff, reader_of
from finance.api.orders import READERS, REFUND_ACTION
from finance.models import Refund
from finance.refund_approvals import REFUNDING
from finance.refunds import Wish
from finance.states import RefundStatus
from mestore.lib import actor, guard
from mestore.lib.shapes import read

_MAKERS: Final = frozenset({Role.SYSTEM, *STAFF})
_LIST: Final = [OpenApiParameter(name, OpenApiTypes.STR) for name in ("status", "cursor", "limit")]


def _teller(request: Request) -> Callable[[Refund], dict[str, Any]]:
    """How this caller is told of refunds: buyers without what is between us and the vendors."""
    return shapes.refund_for_buyer if reader_of(request).user_type == Role.BUYER else shapes.refund


def _list(request: Request, order_id: int | None = None) -> Response:
    reader = list_query.Reader(request.query_params)
    status = reader.one_of("status", {status.value for status in RefundStatus})
    cursor, limit = reader.uuid("cursor"), reader.whole("limit", 50, 1, 100)
    reader.raise_if_wrong()
    rows, following = refund_reads.page(
        reader=reader_of(request), limit=limit, cursor=cursor, status=status, order_id=order_id
    )
    tell = _teller(request)
    return Response({"results": [tell(row) for row in rows], "next": following})


class OrderRefunds(RoleView):
    """The refunds of one order."""

    roles = {"GET": READERS, "POST": _MAKERS}
    needs = {"POST": REFUNDING}

    @extend_schema(
        operation_id="order_refunds_list", summary="List the refunds of an order", parameters=_LIST,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request, order_id: int) -> Response:
        """List the refunds of an order, newest first."""
        order_reads.summary(order_id, reader=reader_of(request))
        return _list(request, order_id)

    @extend_schema(
        operation_id="order_refunds_post", summary="Refund an order",
        parameters=[OpenApiParameter(idempotency.HEADER, location="header", required=True)],
        request=shapes.RefundRequest, responses={201: OpenApiTypes.OBJECT, 202: OpenApiTypes.OBJECT},
    )  # fmt: skip
    def post(self, request: Request, order_id: int) -> HttpResponse:
        """Refund an order, in part or whole, once per Idempotency-Key."""
        key = idempotency.key_of(request)
        given = read(shapes.RefundRequest, request)
        amount, items = shapes.amounts(given)
        order_reads.summary(order_id, reader=reader_of(request))
        if is_staff(request):
            guard.require(REFUND_ACTION, request)
        wish = Wish(
            order_id=order_id, reason=given["reason"], amount=amount, currency=given["currency"],
            provider=given["provider"], provider_reference=given["provider_reference"],
        )  # fmt: skip
        answer = refund_requests.request(wish, items=items, key=key, tell=shapes.refund, by=actor.of(request))
        return idempotency.respond(answer)


class Refunds(RoleView):
    """All refunds that the caller may see."""

    roles = {"GET": READERS}

    @extend_schema(
        operation_id="refunds_list", summary="List refunds", parameters=_LIST, responses=OpenApiTypes.OBJECT
    )
    def get(self, request: Request) -> Response:
        """List refunds, newest first."""
        return _list(request)


class OneRefund(RoleView):
    """One refund."""

    roles = {"GET": READERS}

    @extend_schema(operation_id="refunds_read", summary="Read a refund", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, refund_id: UUID) -> Response:
        """Return one refund with its parts."""
        return Response(_teller(request)(refund_reads.detail(refund_id, reader=reader_of(request))))


class RefundPaid(RoleView):
    """The provider paid."""

    roles = {"POST": _MAKERS}
    needs = {"POST": REFUNDING}

    @extend_schema(
        operation_id="refunds_paid", summary="Say that a refund reached its buyer",
        request=shapes.RefundPaidRequest, responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request, refund_id: UUID) -> Response:
        """Note the provider's confirmation; the same word twice changes nothing."""
        given = read(shapes.RefundPaidRequest, request)
        reader = reader_of(request)
        refund_reads.detail(refund_id, reader=reader)
        if is_staff(request):
            guard.require(REFUND_ACTION, request)
        refund_outcomes.mark_paid(refund_id, **given, by=actor.of(request))
        return Response(shapes.refund(refund_reads.detail(refund_id, reader=reader)))


class RefundFailed(RoleView):
    """The provider gave it up."""

    roles = {"POST": _MAKERS}
    needs = {"POST": REFUNDING}

    @extend_schema(
        operation_id="refunds_failed", summary="Say that a refund failed",
        request=shapes.RefundFailedRequest, responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request, refund_id: UUID) -> Response:
        """Undo a refund that the provider gave up; the same word twice changes nothing."""
        given = read(shapes.RefundFailedRequest, request)
        reader = reader_of(request)
        refund_reads.detail(refund_id, reader=reader)
        if is_staff(request):
            guard.require(REFUND_ACTION, request)
        refund_outcomes.mark_failed(refund_id, failure=given["failure"], by=actor.of(request))
        return Response(shapes.refund(refund_reads.detail(refund_id, reader=reader)))
