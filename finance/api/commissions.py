"""`/commissions/…`: calculate, approve, explain; earnings by period; all commissions for the staff."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.base import AdministrationView
from accounts.roles import STAFF, Role
from finance import (
    commission_explain,
    commissions,
    list_query,
    order_reads,
    schemas,
    selectors,
    serializers,
)
from finance.api import commissions_shapes as shapes
from finance.api.access import RoleView, reader_of
from mestore.lib import actor
from mestore.lib.shapes import read
from sessions_security.permissions import IsVendorOrStaff

CALCULATING = "commissions.manage.global"
APPROVING = "commissions.approve.global"
PERIODS = ("current_month", "last_month", "last_3_months", "ytd", "all_time")


class CalculateView(AdministrationView):
    """The commission of a vendor on an order."""

    needs = {"POST": CALCULATING}

    @extend_schema(
        operation_id="commissions_calculate", summary="Calculate a commission",
        request=shapes.CalculateRequest, responses={200: schemas.COMMISSION, 201: schemas.COMMISSION},
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        """Return the one that there is (200), or make it and post the sale (201)."""
        given = read(shapes.CalculateRequest, request)
        wanted = commissions.Request(
            given["order_id"], given["commission_type"], given.get("custom_rate"), given.get("vendor_id")
        )
        row, is_new = commissions.calculate(wanted, by=actor.of(request))
        return Response(serializers.commission(row), status=201 if is_new else 200)


class ApproveView(AdministrationView):
    """The approval of a commission."""

    needs = {"PATCH": APPROVING}

    @extend_schema(
        operation_id="commissions_approve", summary="Approve a commission", request=shapes.ApproveRequest,
        responses=schemas.COMMISSION,
    )  # fmt: skip
    def patch(self, request: Request, commission_id: UUID) -> Response:
        """Approve a pending commission."""
        given = read(shapes.ApproveRequest, request)
        row = commissions.approve(commission_id, notes=given.get("notes") or "", by=actor.of(request))
        return Response(serializers.commission(row))


class ProcessView(RoleView):
    """All commissions of an order."""

    roles = {"POST": frozenset({Role.SYSTEM, *STAFF})}
    needs = {"POST": CALCULATING}

    @extend_schema(
        operation_id="commissions_process", summary="Charge an order",
        parameters=[OpenApiParameter("force_recalculate", OpenApiTypes.BOOL)], request=None,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request, order_id: int) -> Response:
        """Charge what is not charged yet; a repetition changes nothing."""
        reader = list_query.Reader(request.query_params)
        again = reader.one_of("force_recalculate", {"true", "false"}) == "true"
        reader.raise_if_wrong()
        order_reads.summary(order_id, reader=reader_of(request))
        done = commissions.process(order_id, again=again, by=actor.of(request))
        rows = [serializers.commission(row) for row in done.commissions]
        return Response({"order_id": done.order_id, "created": done.created, "commissions": rows})


class ExplainView(APIView):
    """How a commission came about."""

    permission_classes = [IsVendorOrStaff]

    @extend_schema(
        operation_id="commissions_explain", summary="Explain a commission", responses=OpenApiTypes.OBJECT
    )
    def get(self, request: Request, commission_id: UUID) -> Response:
        """Tell which rules were considered, which won and why, and the arithmetic step by step."""
        return Response(
            shapes.explanation(commission_explain.explain(commission_id, reader=reader_of(request)))
        )


class VendorEarningsView(APIView):
    """What was earned in a period of the contract."""

    permission_classes = [IsVendorOrStaff]

    @extend_schema(
        operation_id="commissions_vendor_earnings", summary="Earnings of a period",
        parameters=[OpenApiParameter("period", OpenApiTypes.STR, enum=PERIODS)], responses=schemas.EARNINGS,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """Sum up the commissions of a period, in one currency; this month's without one."""
        reader = list_query.Reader(request.query_params)
        period = reader.one_of("period", set(PERIODS)) or "current_month"
        vendor_id = reader.uuid("vendor_id")
        reader.raise_if_wrong()
        since, until = selectors.earnings_period(period)
        found = selectors.earnings(reader=reader_of(request), vendor_id=vendor_id, since=since, until=until)
        return Response({"period_name": period, **serializers.earnings(found)})


class AdminCommissionsView(AdministrationView):
    """All commissions, with what stays inside the house."""

    @extend_schema(
        operation_id="commissions_admin_list", summary="List all commissions",
        parameters=schemas.COMMISSION_PARAMETERS, responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """List commissions, newest first; filters besides: `vendor_id`, `order_id`."""
        query = list_query.read_list(request.query_params)
        page = selectors.commission_page(
            query.narrowed, reader=reader_of(request), limit=query.limit, offset=query.offset,
            cursor=query.cursor,
        )  # fmt: skip
        told: dict[str, Any] = serializers.commission_page(page)
        rows = [serializers.commission_for_staff(row) for row in page.rows]
        return Response(told | {"commissions": rows})
