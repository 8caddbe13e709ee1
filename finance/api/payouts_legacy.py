"""Payouts in the words of the first system: `/comisiones/solicitar-pago` and the two histories."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.validators import RegexValidator
from django.http import HttpResponse
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import AdministrationView, person
from accounts.permissions import IsVendor
from finance import idempotency, list_query, payout_legacy, payout_reads
from finance.api import bank_accounts_shapes, payouts_shapes
from finance.api.payouts import READING
from finance.api.vendor_or_granted import VendorOrGrantedView
from finance.bank_accounts import AccountForm
from finance.models import Payout
from finance.states import BankAccountType
from mestore.lib import actor
from mestore.lib.shapes import Text, read

WORDS = {"SOLICITADO", "PROCESANDO", "PAGADO", "RECHAZADO"}
_MOST_OFFSET = 10_000
_NOT_ALLOWED = _("This holds characters that are not allowed.")


class OldPayoutRequest(serializers.Serializer[Any]):
    """A payout to an account that is named by its digits; Colombian pesos."""

    monto_solicitado = payouts_shapes.Amount()
    tipo_cuenta = serializers.ChoiceField([kind.value for kind in BankAccountType])
    numero_cuenta = Text(
        max_length=64,
        validators=[RegexValidator(r"\A[0-9]{8,50}\Z", _("This must be 8 to 50 digits."), "digits")],
    )
    banco = Text(
        min_length=3, max_length=100,
        validators=[RegexValidator(r"\A[^<>\x00-\x1f\x7f]*\Z", _NOT_ALLOWED, "malicious")],
    )  # fmt: skip
    observaciones = Text(
        max_length=500, required=False, allow_blank=True, allow_null=True, default="",
        validators=[RegexValidator(r"\A[^<>\x00-\x09\x0b-\x1f\x7f]*\Z", _NOT_ALLOWED, "malicious")],
    )  # fmt: skip

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Read the amount."""
        return {**attrs, "money": payouts_shapes.money(attrs["monto_solicitado"], "COP", "monto_solicitado")}


class OldRequestView(AdministrationView):
    """A vendor asks for money."""

    role = IsVendor
    step_up = {"POST": "payout.request"}

    @extend_schema(
        operation_id="comisiones_solicitar_pago", summary="Ask for a payout", deprecated=True,
        parameters=[OpenApiParameter(idempotency.HEADER, location="header", required=False)],
        request=OldPayoutRequest, responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request) -> HttpResponse:
        """Ask; the same request while it is open is the same payout."""
        key = idempotency.key_of(request) if idempotency.HEADER in request.headers else None
        given = read(OldPayoutRequest, request)
        vendor = person(request)
        name, kind, document = bank_accounts_shapes.holder_of(vendor)
        form = AccountForm(
            bank_name=given["banco"].strip(), account_type=BankAccountType(given["tipo_cuenta"]),
            number=given["numero_cuenta"], holder_name=name, document_type=kind, document=document,
        )  # fmt: skip
        answer = payout_legacy.request(
            vendor, form, amount=given["money"], observations=given["observaciones"] or "", key=key,
            by=actor.of(request), shape=_old,
        )  # fmt: skip
        return idempotency.respond(answer)


class OldHistoryView(VendorOrGrantedView):
    """How one payout came to where it stands."""

    needs = {"GET": READING}

    @extend_schema(
        operation_id="comisiones_payout_history", summary="Read the history of a payout",
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request, payout_id: UUID) -> Response:
        reader = person(request)
        row = payout_reads.find(payout_id, reader=reader)
        changes = payout_reads.told(payout_reads.changes_of(row))
        told = [payouts_shapes.old_change(one, reader_id=str(reader.pk)) for one in changes]
        return Response({"payout_request_id": row.pk, "total_cambios": len(told), "historial": told})


class OldHistoryAlias(OldHistoryView):
    """The same, by the name that the shipped front end calls."""

    @extend_schema(
        operation_id="commissions_payout_history", summary="Read the history of a payout",
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request, payout_id: UUID) -> Response:
        return super().get(request, payout_id)


class OldOwnHistoryView(AdministrationView):
    """The changes of all of a vendor's payouts."""

    role = IsVendor

    @extend_schema(
        operation_id="comisiones_my_payout_history", summary="List the changes of the own payouts",
        parameters=[
            OpenApiParameter(name, OpenApiTypes.STR)
            for name in ("fecha_inicio", "fecha_fin", "estado_filtro", "limit", "offset")
        ],
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        reader = list_query.Reader(request.query_params)
        since, until = reader.moment("fecha_inicio"), reader.moment("fecha_fin", is_end=True)
        word = reader.one_of("estado_filtro", WORDS)
        limit, offset = reader.whole("limit", 50, 1, 100), reader.whole("offset", 0, 0, _MOST_OFFSET)
        reader.raise_if_wrong()
        vendor = person(request)
        rows = payout_reads.changes_in(
            vendor.pk, since=since, until=until, word=word, limit=limit, offset=offset
        )
        return Response([payouts_shapes.old_change(row, reader_id=str(vendor.pk)) for row in rows])


def _old(row: Payout) -> dict[str, Any]:
    account = row.bank_account
    return {"id": row.pk, "monto_solicitado": row.amount.decimal,
            "estado": payout_reads.legacy_word(row.state), "tipo_cuenta": account.account_type,
            "banco": account.bank_name}  # fmt: skip
