"""`/disputes/…`: what vendors disagree with, and what the staff decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.base import AdministrationView
from accounts.permissions import IsVendorOrStaff
from finance import disputes, list_query
from finance.api.disputes_shapes import DisputeReasonRequest, dispute
from finance.models import Dispute
from finance.states import DisputeStatus
from mestore.lib import actor
from mestore.lib.shapes import read

DECIDING = "commissions.manage.global"


class DisputesView(APIView):
    """A vendor's own disputes, all for the staff; newest first."""

    permission_classes = [IsVendorOrStaff]

    @extend_schema(
        operation_id="disputes_list", summary="List disputes",
        parameters=[OpenApiParameter(name, OpenApiTypes.STR) for name in ("status", "cursor", "limit")],
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        reader = list_query.Reader(request.query_params)
        status = reader.one_of("status", {one.value for one in DisputeStatus})
        before, limit = reader.uuid("cursor"), reader.whole("limit", 50, 1, 100)
        reader.raise_if_wrong()
        rows = disputes.readable(_reader(request)).order_by("-id")
        if status:
            rows = rows.filter(status=status)
        if before:
            rows = rows.filter(pk__lt=before)
        found = list(rows[: limit + 1])
        more = found[limit - 1].pk if len(found) > limit else None
        return Response({"results": [dispute(row) for row in found[:limit]], "next": more})


class DisputeView(APIView):
    """One dispute."""

    permission_classes = [IsVendorOrStaff]

    @extend_schema(operation_id="disputes_read", summary="Read a dispute", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, dispute_id: UUID) -> Response:
        return Response(dispute(disputes.find(dispute_id, reader=_reader(request))))


class _Decision(AdministrationView):
    needs = {"POST": DECIDING}
    decide: Callable[..., Dispute]

    def _post(self, request: Request, dispute_id: UUID) -> Response:
        given = read(DisputeReasonRequest, request)
        found = disputes.find(dispute_id, reader=_reader(request))
        decided = type(self).decide(found, reason=given["reason"], by=actor.of(request))
        return Response(dispute(decided))


class ReviewView(_Decision):
    """Somebody looks at it."""

    decide = staticmethod(disputes.review)

    @extend_schema(
        operation_id="disputes_review", summary="Take a dispute under review", request=DisputeReasonRequest,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request, dispute_id: UUID) -> Response:
        return self._post(request, dispute_id)


class ResolveView(_Decision):
    """The vendor is right."""

    decide = staticmethod(disputes.resolve)

    @extend_schema(
        operation_id="disputes_resolve", summary="Decide a dispute for the vendor",
        request=DisputeReasonRequest, responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request, dispute_id: UUID) -> Response:
        return self._post(request, dispute_id)


class RefuseView(_Decision):
    """The charge stands."""

    decide = staticmethod(disputes.refuse)

    @extend_schema(
        operation_id="disputes_reject", summary="Decide a dispute against the vendor",
        request=DisputeReasonRequest, responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request, dispute_id: UUID) -> Response:
        return self._post(request, dispute_id)


def _reader(request: Request) -> Any:
    return request.user
