"""Orders and commissions over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from finance import idempotency, list_query, order_form, orders, schemas, selectors, serializers
from mestore.lib import actor
from mestore.lib.http import ExactJSONRenderer, PlainText, text_file
from monitoring import audit, events, proofs, trail_pages
from sessions_security.permissions import IsMachine, IsVendor, IsVendorOrStaff


class OrdersView(APIView):
    """The storefront's machine account places orders."""

    permission_classes = [IsMachine]

    @extend_schema(
        operation_id="orders_place",
        summary="Place an order",
        parameters=[OpenApiParameter(idempotency.HEADER, location="header", required=True)],
        request={"application/json": schemas.ORDER},
        responses={201: schemas.ORDER_PLACED},
    )
    def post(self, request: Request) -> HttpResponse:
        """Place an order once per Idempotency-Key; an approved payment makes it a sale at once."""
        key = idempotency.key_of(request)
        form = read_order(request)
        return idempotency.respond(orders.place(form, key=key, by=actor.of(request)))


class CommissionsView(APIView):
    """A vendor's own commissions; all of them for administrators."""

    permission_classes = [IsVendorOrStaff]

    @extend_schema(
        operation_id="commissions_list",
        summary="List commissions",
        parameters=schemas.COMMISSION_PARAMETERS,
        responses=schemas.COMMISSION_PAGE,
    )
    def get(self, request: Request) -> Response:
        """List commissions, newest first."""
        query = list_query.read_list(request.query_params)
        page = selectors.commission_page(
            query.narrowed,
            reader=_reader(request),
            limit=query.limit,
            offset=query.offset,
            cursor=query.cursor,
        )
        return Response(serializers.commission_page(page))


class CommissionView(APIView):
    """One commission."""

    permission_classes = [IsVendorOrStaff]

    @extend_schema(operation_id="commissions_read", summary="Read a commission", responses=schemas.COMMISSION)
    def get(self, request: Request, commission_id: UUID) -> Response:
        """Return one commission: a vendor's own, or any for administrators."""
        row = selectors.commission(commission_id, reader=_reader(request))
        return Response(serializers.commission(row))


class CommissionProofView(APIView):
    """The proof that a vendor's sale stands in the signed log: a file that needs nobody's word any more."""

    permission_classes = [IsVendor]
    renderer_classes = [PlainText, ExactJSONRenderer]

    @extend_schema(
        operation_id="commissions_proof",
        summary="Take the proof of a sale away",
        responses={(200, "text/plain"): OpenApiTypes.STR},
    )
    def get(self, request: Request, commission_id: UUID) -> HttpResponse:
        """Return the proof of the sale's entry in the vendor's own book (C2SP tlog-proof)."""
        entry = selectors.sale_entry(commission_id, reader=_reader(request))
        proof = proofs.of_event(entry).text()
        trail_pages.record_proof(entry, by=actor.of(request))
        return text_file(f"{entry}.tlog-proof", proof)


class EarningsView(APIView):
    """What was earned in a period."""

    permission_classes = [IsVendorOrStaff]

    @extend_schema(
        operation_id="commissions_earnings",
        summary="Summarise earnings",
        parameters=schemas.EARNINGS_PARAMETERS,
        responses=schemas.EARNINGS,
    )
    def get(self, request: Request) -> Response:
        """Sum up commissions and earnings by status, in one currency."""
        query = list_query.read_earnings(request.query_params)
        found = selectors.earnings(
            reader=_reader(request), vendor_id=query.vendor_id, since=query.since, until=query.until,
            currency=query.currency,
        )  # fmt: skip
        return Response(serializers.earnings(found))


def read_order(request: Request) -> order_form.OrderForm:
    """Return the order in the body; that card data was refused is recorded, the data is not."""
    try:
        return order_form.read(request.data)
    except order_form.CardDataRefused as refusal:
        place = refusal.details[0].field if refusal.details else ""
        audit.record_refusal(events.CARD_DATA_REFUSED, by=actor.of(request), data={"field": place})
        raise


def _reader(request: Request) -> Any:
    return request.user
