"""`/payouts/…`: asking for money, agreeing to it, and reading where it is."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import AdministrationView, person
from accounts.permissions import IsVendor
from accounts.roles import Role
from finance import idempotency, list_query, payout_approvals, payout_ends, payout_reads, payouts
from finance.api import payouts_shapes as shapes
from finance.api.vendor_or_granted import VendorOrGrantedView
from finance.models import Payout
from finance.states import PayoutState
from mestore.lib import actor
from mestore.lib.shapes import read

READING = "payments.read.read_only"


class PayoutsView(VendorOrGrantedView):
    """A vendor's own payouts, all for the staff; a vendor asks for one."""

    needs = {"GET": READING}
    step_up = {"POST": "payout.request"}

    def get_permissions(self) -> list[Any]:
        return [IsVendor()] if self.request.method == "POST" else super().get_permissions()

    @extend_schema(
        operation_id="payouts_list", summary="List payouts",
        parameters=[OpenApiParameter(name, OpenApiTypes.STR) for name in ("state", "cursor", "limit")],
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        reader = list_query.Reader(request.query_params)
        state = reader.one_of("state", {one.value for one in PayoutState})
        before, limit = reader.uuid("cursor"), reader.whole("limit", 50, 1, 100)
        reader.raise_if_wrong()
        rows, following = payout_reads.page(person(request), state=state, before=before, limit=limit)
        return Response({"results": [shapes.payout(row) for row in rows], "next": following})

    @extend_schema(
        operation_id="payouts_request", summary="Ask for a payout",
        parameters=[OpenApiParameter(idempotency.HEADER, location="header", required=True)],
        request=shapes.PayoutRequest, responses={201: OpenApiTypes.OBJECT},
    )  # fmt: skip
    def post(self, request: Request) -> HttpResponse:
        """Reserve the amount once per Idempotency-Key, and let people decide about it."""
        key = idempotency.key_of(request)
        given = read(shapes.PayoutRequest, request)
        answer = payouts.request(
            person(request), amount=given["money"], bank_account_id=given["bank_account_id"], key=key,
            by=actor.of(request), shape=shapes.payout,
        )  # fmt: skip
        return idempotency.respond(answer)


class PayoutView(VendorOrGrantedView):
    """One payout."""

    needs = {"GET": READING}

    @extend_schema(operation_id="payouts_read", summary="Read a payout", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, payout_id: UUID) -> Response:
        reader = person(request)
        row = payout_reads.find(payout_id, reader=reader)
        staff = reader.role is not Role.VENDOR
        told = _for_staff(row) if staff else shapes.payout(row)
        told["changes"] = [shapes.change(one, staff=staff) for one in payout_reads.changes_of(row)]
        if staff:
            told["approvals"] = [shapes.approval(one) for one in payout_reads.approvals_of(row)]
        return Response(told)


class ApproveView(AdministrationView):
    """Agree to a payout."""

    needs = {"POST": payout_approvals.APPROVING}
    step_up = {"POST": payout_approvals.STEP_UP}

    @extend_schema(
        operation_id="payouts_approve", summary="Agree to a payout", request=shapes.PayoutDecisionRequest,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request, payout_id: UUID) -> Response:
        """Agree; with the last approval that it needs the payout is approved."""
        given = read(shapes.PayoutDecisionRequest, request)
        content = bytes.fromhex(given["content_hash"]) or None
        row = payout_approvals.approve(
            payout_id, reason=given["reason"], content=content, by=actor.of(request)
        )
        return Response(_for_staff(row))


class RejectView(AdministrationView):
    """Say no to a payout."""

    needs = {"POST": payout_approvals.APPROVING}
    step_up = {"POST": payout_approvals.STEP_UP}

    @extend_schema(
        operation_id="payouts_reject", summary="Reject a payout", request=shapes.PayoutRejectRequest,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request, payout_id: UUID) -> Response:
        """Reject; the amount is free again and the vendor is told."""
        given = read(shapes.PayoutRejectRequest, request)
        return Response(
            _for_staff(payout_ends.reject(payout_id, reason=given["reason"], by=actor.of(request)))
        )


class CancelView(AdministrationView):
    """A vendor takes the own request back."""

    role = IsVendor

    @extend_schema(
        operation_id="payouts_cancel", summary="Cancel a payout", request=shapes.PayoutCancelRequest,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request, payout_id: UUID) -> Response:
        """Cancel what was not sent yet."""
        given = read(shapes.PayoutCancelRequest, request)
        row = payout_ends.cancel(
            payout_id, vendor_id=person(request).pk, reason=given["reason"], by=actor.of(request)
        )
        return Response(shapes.payout(row))


def _for_staff(row: Payout) -> dict[str, Any]:
    missing = payout_approvals.standing(row).missing(row) if row.state == PayoutState.SCREENED else 0
    return shapes.for_staff(row, missing=missing)
