"""`/commissions/transactions/history`, `/comisiones/…`, `/pagos/historial`: what happened to vendors' money.

The Spanish addresses are those of the first system. They were open to everybody; here one signs in, and sees
one's own (docs/api.md, deliberate breaks).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.db.models import Exists, OuterRef
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.permissions import IsStaff, IsVendorOrStaff
from finance import disputes, history, list_query, selectors
from finance.api import disputes_shapes
from finance.api.disputes import DECIDING
from finance.api.vendor_or_granted import VendorOrGrantedView
from finance.history import Page, Transaction, Wanted
from finance.models import Commission, OrderPayment
from finance.money import PPM, to_decimal
from mestore.lib import actor, errors
from mestore.lib.errors import FieldError
from mestore.lib.shapes import read

DONE: Final = "COMPLETADA"
LEGACY_LIMIT: Final = 1_000
_PARAMETERS: Final = [
    OpenApiParameter(name, OpenApiTypes.STR)
    for name in ("transaction_type", "vendor_id", "date_from", "date_to", "cursor", "limit", "offset")
]


class TransactionIdInvalid(errors.Unprocessable):
    message = _("This must be a UUID.")


class HistoryView(APIView):
    """Transactions, newest first: a vendor's own, all for the staff."""

    permission_classes = [IsVendorOrStaff]

    @extend_schema(
        operation_id="transactions_history", summary="List what happened to a vendor's money",
        parameters=_PARAMETERS, responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        wanted = _wanted(request)
        found = history.page(wanted, reader=_reader(request))
        return Response(
            {
                "transactions": [_transaction(row) for row in found.rows],
                "pagination": _pagination(found, wanted),
                "summary": {"total_transactions": found.total, "by_type": found.counts},
                "filters_applied": {
                    "transaction_type": wanted.types[0] if wanted.types else None,
                    "vendor_id": wanted.vendor_id, "date_from": wanted.since, "date_to": wanted.until,
                },
            }
        )  # fmt: skip


class PaymentsHistoryView(APIView):
    """All transactions, for the staff."""

    permission_classes = [IsStaff]

    @extend_schema(
        operation_id="pagos_historial", summary="List all transactions", parameters=_PARAMETERS,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        wanted = _wanted(request)
        found = history.page(wanted, reader=_reader(request))
        return Response({"pagos": [_transaction(row) for row in found.rows], **_pagination(found, wanted)})


class LegacyCommissionsView(APIView):
    """Commissions in the words of the first system."""

    permission_classes = [IsVendorOrStaff]

    @extend_schema(
        operation_id="comisiones_list", summary="List commissions (first system's words)",
        parameters=[
            OpenApiParameter(name, OpenApiTypes.STR)
            for name in ("fecha_inicio", "fecha_fin", "metodo_pago", "limit", "offset")
        ],
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        reader = list_query.Reader(request.query_params)
        since, until = reader.moment("fecha_inicio"), reader.moment("fecha_fin", is_end=True)
        limit = reader.whole("limit", 100, 1, LEGACY_LIMIT)
        offset = reader.whole("offset", 0, 0, selectors.COUNTED)
        method = request.query_params.get("metodo_pago", "")
        reader.raise_if_wrong()
        narrowed = selectors.CommissionFilter(since=since, until=until)
        rows = selectors.commissions(narrowed, reader=_reader(request)).filter(entry_id__isnull=False)
        if method:
            paid = OrderPayment.objects.filter(order_id=OuterRef("order_id"), method__iexact=method[:32])
            rows = rows.filter(Exists(paid))
        counted = rows.order_by().values("pk")[: selectors.COUNTED + 1].count()
        shown = rows.order_by("-calculated_at", "-id")[offset : offset + limit]
        return Response({"comisiones": [_legacy(row, "fecha") for row in shown], "total_registros": counted})


class LegacyCommissionView(APIView):
    """One commission in the words of the first system."""

    permission_classes = [IsVendorOrStaff]

    @extend_schema(
        operation_id="comisiones_detalle", summary="Read a commission (first system's words)",
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request, transaction_id: str) -> Response:
        found = history.commission_of(_uuid(transaction_id), reader=_reader(request))
        return Response(_legacy(found, "fecha_transaccion"))


class LegacyDisputeView(VendorOrGrantedView):
    """A vendor disputes the commission of a sale; so does the staff that holds the grant to decide."""

    needs = {"POST": DECIDING}

    @extend_schema(
        operation_id="comisiones_dispute", summary="Dispute the commission of a sale",
        request=disputes_shapes.LegacyDisputeRequest, responses={201: OpenApiTypes.OBJECT},
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        given = read(disputes_shapes.LegacyDisputeRequest, request)
        commission = history.commission_of(given["transaction_id"], reader=_reader(request))
        dispute = disputes.open_dispute(
            commission.pk, subject=given["motivo"], description=given["descripcion"], by=actor.of(request)
        )
        told = {
            "success": True, "message": _("The dispute was opened."), "dispute_id": dispute.pk,
            "estado": dispute.status,
        }  # fmt: skip
        return Response(told, status=201)


def _wanted(request: Request) -> Wanted:
    reader = list_query.Reader(request.query_params)
    kind = reader.one_of("transaction_type", set(history.KINDS))
    wanted = Wanted(
        types=(kind,) if kind else (), vendor_id=reader.uuid("vendor_id"), since=reader.moment("date_from"),
        until=reader.moment("date_to", is_end=True), limit=reader.whole("limit", 50, 1, 100),
        offset=reader.whole("offset", 0, 0, history.COUNTED), before=reader.uuid("cursor"),
    )  # fmt: skip
    reader.raise_if_wrong()
    return wanted


def _pagination(found: Page, wanted: Wanted) -> Mapping[str, Any]:
    return {
        "total": found.total, "total_is_estimate": found.is_estimate, "limit": wanted.limit,
        "offset": wanted.offset, "has_next": found.next is not None, "next_cursor": found.next,
    }  # fmt: skip


def _transaction(row: Transaction) -> Mapping[str, Any]:
    return {
        "id": row.id, "transaction_id": row.id, "reference": f"TXN-{row.id.hex[-12:].upper()}",
        "transaction_type": row.type, "status": DONE, "estado": DONE, "vendor_id": row.vendor_id,
        "order_id": row.order_id, "currency": row.currency, "amount": to_decimal(row.amount, row.currency),
        "vendor_amount": to_decimal(row.own, row.currency),
        "commission_amount": to_decimal(row.fee, row.currency), "created_at": row.occurred_at,
        "recorded_at": row.recorded_at,
    }  # fmt: skip


def _legacy(row: Commission, moment: str) -> Mapping[str, Any]:
    return {
        "transaction_id": row.entry_id, moment: row.calculated_at,
        "monto_total": to_decimal(row.order_amount_minor, row.currency),
        "porcentaje_comision": Decimal(row.rate_ppm) * 100 / PPM,
        "monto_comision": to_decimal(row.commission_amount_minor, row.currency),
        "monto_vendedor": to_decimal(row.vendor_amount_minor, row.currency), "moneda": row.currency,
    }  # fmt: skip


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise TransactionIdInvalid(
            details=[FieldError("path -> transaction_id", TransactionIdInvalid.message, "uuid_parsing")]
        ) from None


def _reader(request: Request) -> Any:
    return request.user
