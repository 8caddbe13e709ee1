"""`/vendor/orders…`: what a vendor has to send, its own lines only."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from finance import order_changes, vendor_order_reads
from finance.api import orders_shapes as shapes
from finance.api.access import reader_of
from finance.api.orders import read_list
from finance.money import to_decimal
from finance.states import ItemStatus, OrderStatus
from mestore.lib import actor
from mestore.lib.shapes import read
from sessions_security.permissions import IsVendor


class VendorOrders(APIView):
    """The vendor's orders."""

    permission_classes = [IsVendor]

    @extend_schema(
        operation_id="vendor_orders_list", summary="List a vendor's orders",
        parameters=shapes.LIST_PARAMETERS, responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """List the orders with a line of this vendor, newest first."""
        query = read_list(request)
        vendor_id = reader_of(request).pk
        page = vendor_order_reads.page(
            vendor_id, status=query.narrowed.status, limit=query.limit, offset=query.offset,
            cursor=query.cursor,
        )  # fmt: skip
        return Response(
            {
                "orders": [shapes.vendor_order(row, vendor_id) for row in page.rows], "total": page.total,
                "total_is_estimate": page.total_is_estimate, "skip": query.offset, "limit": query.limit,
                "next_cursor": page.next_cursor,
            }
        )  # fmt: skip


class VendorOrder(APIView):
    """One order."""

    permission_classes = [IsVendor]

    @extend_schema(
        operation_id="vendor_orders_read", summary="Read a vendor's order", responses=OpenApiTypes.OBJECT
    )
    def get(self, request: Request, order_id: int) -> Response:
        """Return an order with this vendor's lines."""
        vendor_id = reader_of(request).pk
        row = vendor_order_reads.detail(order_id, vendor_id=vendor_id)
        return Response(shapes.vendor_order(row, vendor_id))


class VendorItemStatus(APIView):
    """How far a line is."""

    permission_classes = [IsVendor]

    @extend_schema(
        operation_id="vendor_orders_item_status", summary="Say how far a line is",
        request=shapes.ItemStatusRequest, responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def patch(self, request: Request, order_id: int, item_id: int) -> Response:
        """Set the progress of one of the vendor's lines."""
        given = read(shapes.ItemStatusRequest, request)
        order, item = order_changes.advance_item(
            order_id, item_id, ItemStatus(given["status"]), vendor_id=reader_of(request).pk,
            by=actor.of(request),
        )  # fmt: skip
        return Response(
            {
                "order_id": order.pk, "order_number": order.order_number, "item_id": item.pk,
                "line": item.line, "status": item.vendor_status, "order_status": order.status,
            }
        )  # fmt: skip


class VendorSummary(APIView):
    """Counters."""

    permission_classes = [IsVendor]

    @extend_schema(
        operation_id="vendor_orders_summary", summary="Count a vendor's orders", responses=OpenApiTypes.OBJECT
    )
    def get(self, request: Request) -> Response:
        """Return counters over the vendor's newest 10,000 orders."""
        found = vendor_order_reads.summary(reader_of(request).pk)
        revenue: dict[str, Any] = {
            currency: to_decimal(minor, currency) for currency, minor in sorted(found.revenue.items())
        }
        counts = {f"{status.value}_orders": found.by_status.get(status, 0) for status in OrderStatus}
        return Response(
            {
                "total_orders": found.orders, "total_items": found.items, **counts,
                "orders_by_status": dict(found.by_status), "items_by_status": dict(found.by_item_status),
                "total_revenue": revenue.get("COP", to_decimal(0, "COP")), "currency": "COP",
                "revenue_by_currency": revenue,
            }
        )  # fmt: skip
