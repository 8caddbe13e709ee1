"""`/admin/orders…`: all orders, for superusers."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.lists import Reader
from accounts.roles import Role
from finance import order_reads, order_statistics
from finance.api import orders_shapes as shapes
from finance.api.access import RoleView, reader_of
from finance.api.orders import MOVING, cancel, move, read_list
from finance.money import EXPONENTS, to_decimal
from mestore.lib.shapes import read

_SUPERUSERS: Final = frozenset({Role.SUPERUSER})


class AdminOrders(RoleView):
    """All orders."""

    roles = {"GET": _SUPERUSERS}

    @extend_schema(
        operation_id="admin_orders_list", summary="List all orders",
        parameters=[*shapes.LIST_PARAMETERS, OpenApiParameter("search")], responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """List orders, newest first; `search` is a whole number, id, reference or buyer's address."""
        query = read_list(request, with_search=True)
        page = order_reads.page(
            query.narrowed, reader=reader_of(request), limit=query.limit, offset=query.offset,
            cursor=query.cursor, with_buyer=True,
        )  # fmt: skip
        return Response(
            {
                "orders": [shapes.admin_summary(row) for row in page.rows], "total": page.total,
                "total_is_estimate": page.total_is_estimate, "skip": query.offset, "limit": query.limit,
                "next_cursor": page.next_cursor,
            }
        )  # fmt: skip


class AdminOrder(RoleView):
    """One order."""

    roles = {"GET": _SUPERUSERS, "DELETE": _SUPERUSERS}
    needs = {"DELETE": MOVING}

    @extend_schema(operation_id="admin_orders_read", summary="Read any order", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, order_id: int) -> Response:
        """Return an order with its lines, payments and refunds."""
        return Response(shapes.admin_detail(order_reads.detail(order_id, reader=reader_of(request))))

    @extend_schema(
        operation_id="admin_orders_cancel", summary="Cancel any order", request=shapes.OrderCancelRequest,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def delete(self, request: Request, order_id: int) -> Response:
        """Cancel an order, with a JSON body; nothing is deleted."""
        done = cancel(request, order_id, read(shapes.OrderCancelRequest, request))
        told = shapes.cancelled(done)
        refund_info: dict[str, Any] = {
            name: told[name]
            for name in ("refund_status", "refund_id", "refund_amount", "currency", "approval_id")
        }
        return Response(
            {
                "success": True, "message": shapes.CANCELLED, "order_id": done.order.pk,
                "status": done.order.status, "cancellation_reason": done.order.cancellation_reason,
                "refund_info": refund_info,
            }
        )  # fmt: skip


class AdminOrderStatus(RoleView):
    """Moving an order on."""

    roles = {"PATCH": _SUPERUSERS}
    needs = {"PATCH": MOVING}

    @extend_schema(
        operation_id="admin_orders_move", summary="Move any order on", request=shapes.StatusRequest,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def patch(self, request: Request, order_id: int) -> Response:
        """Move an order to another state: 400 for no state, 409 for one it cannot come to."""
        return Response({"success": True, **move(request, order_id, read(shapes.StatusRequest, request))})


class AdminOrderStatistics(RoleView):
    """The dashboard."""

    roles = {"GET": _SUPERUSERS}

    @extend_schema(
        operation_id="admin_orders_dashboard", summary="Sum up orders",
        parameters=[OpenApiParameter("currency")], responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """Return orders and revenue of today, this week and this month, and who bought most."""
        reader = Reader(request.query_params)
        currency = reader.one_of("currency", set(EXPONENTS)) or "COP"
        reader.raise_if_wrong()
        found = order_statistics.dashboard(currency=currency)
        spans = ("today", "week", "month")
        chosen = found.chosen
        totals = [sum(period.orders[at] for period in found.periods) for at in range(len(spans))]
        return Response(
            {
                **{f"total_orders_{span}": count for span, count in zip(spans, totals, strict=True)},
                **{
                    f"revenue_{span}": to_decimal(minor, currency)
                    for span, minor in zip(spans, chosen.revenue, strict=True)
                },
                "currency": currency, "currencies": [period.currency for period in found.periods],
                "orders_by_status": dict(found.by_status),
                "pending_orders_count": found.by_status["pending"],
                "processing_orders_count": found.by_status["processing"],
                "top_buyers": [
                    {
                        "buyer_id": buyer.id, "email": buyer.email, "name": buyer.name,
                        "orders_count": buyer.orders, "total_spent": to_decimal(buyer.minor, currency),
                    }
                    for buyer in found.buyers
                ],
            }
        )  # fmt: skip
