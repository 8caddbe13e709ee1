"""`/vendedores/dashboard/…`: the first system's reports, from the sales that are here (docs/api.md)."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any, Final

from django.http import HttpResponseBase, StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import AdministrationView, person
from accounts.permissions import IsVendor
from finance import list_query, money, selectors, serializers, vendor_dashboard
from finance.money import to_decimal
from finance.vendor_dashboard import Scope, Sums
from mestore.lib.console import display

_PERIOD: Final = [
    OpenApiParameter(name, OpenApiTypes.STR) for name in ("fecha_inicio", "fecha_fin", "moneda")
]
_CHANGE: Final = Decimal("0.01")


class Report(AdministrationView):
    """What the reports share: a vendor's own sales, in a period of at most a year."""

    role = IsVendor

    def scope(self, request: Request) -> Scope:
        """Read the period and the currency. Raises list_query.QueryInvalid and PeriodTooLong."""
        reader = list_query.Reader(request.query_params)
        since = reader.moment("fecha_inicio")
        until = reader.moment("fecha_fin", is_end=True)
        currency = reader.one_of("moneda", set(money.EXPONENTS))
        reader.raise_if_wrong()
        return vendor_dashboard.scope(
            person(request).pk, currency=currency, since=since, until=until, now=timezone.now()
        )


class SummaryView(Report):
    """The month at a glance."""

    @extend_schema(operation_id="vendedores_resumen", summary="Read the month", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the month's sales. Products are counted by what was sold; a catalogue is not here."""
        now, vendor = timezone.now(), person(request)
        begin, end = vendor_dashboard.month_of(now.astimezone(display.BOGOTA).date())
        currency = vendor_dashboard.currency_of(vendor.pk)
        days = vendor_dashboard.by_day(Scope(vendor.pk, currency, begin, end))
        month = vendor_dashboard.total("month", days)
        products = vendor_dashboard.products_sold(vendor.pk, month=begin, until=end)
        return Response(
            {
                "total_productos": products.in_year, "productos_aprobados": products.in_year,
                # Only a catalogue knows these.
                "productos_pendientes": None, "productos_rechazados": None,
                "productos_activos": products.in_month, "ventas_mes": month.sales,
                "ingresos_mes": to_decimal(month.sold, currency),
                "comision_total": to_decimal(month.commission, currency),
                "estadisticas_mes": {
                    "mes": begin.astimezone(display.BOGOTA).strftime("%Y-%m"), "moneda": currency,
                    "unidades": products.units, "ganancia_neta": to_decimal(month.earned, currency),
                    "ticket_promedio": _average(month, currency),
                    "por_dia": [_day(day, currency) for day in days],
                },
            }
        )  # fmt: skip


class SalesView(Report):
    """Sales by day."""

    @extend_schema(
        operation_id="vendedores_ventas", summary="Read sales by day", parameters=_PERIOD,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        wanted = self.scope(request)
        days = vendor_dashboard.by_day(wanted)
        whole = vendor_dashboard.total("total", days)
        return Response(
            {
                **_period(wanted), "ventas": [_day(day, wanted.currency) for day in days],
                "total": _figures(whole, wanted.currency),
            }
        )  # fmt: skip


class TopProductsView(Report):
    """The products with the largest sales."""

    @extend_schema(
        operation_id="vendedores_productos_top", summary="Read the best products",
        parameters=[*_PERIOD, OpenApiParameter("limite", OpenApiTypes.INT)], responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        reader = list_query.Reader(request.query_params)
        limit = reader.whole("limite", 10, 1, 50)
        reader.raise_if_wrong()
        wanted = self.scope(request)
        rows = vendor_dashboard.top_products(wanted, limit=limit)
        return Response(
            {
                **_period(wanted),
                "productos": [
                    {
                        "producto_id": row.product_id, "nombre": row.name, "unidades": row.units,
                        "pedidos": row.orders, "ventas": to_decimal(row.sold, wanted.currency),
                    }
                    for row in rows
                ],
            }
        )  # fmt: skip


class CommissionsView(Report):
    """What was charged, by the state of the commission."""

    @extend_schema(
        operation_id="vendedores_comisiones", summary="Read commissions by state", parameters=_PERIOD,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        wanted = self.scope(request)
        rows = vendor_dashboard.by_status(wanted)
        return Response(
            {
                **_period(wanted),
                "por_estado": {row.label: _figures(row, wanted.currency) for row in rows},
                "total": _figures(vendor_dashboard.total("total", rows), wanted.currency),
            }
        )  # fmt: skip


class ComparisonView(Report):
    """This month against the last one."""

    @extend_schema(
        operation_id="vendedores_comparativa", summary="Compare two months", responses=OpenApiTypes.OBJECT
    )
    def get(self, request: Request) -> Response:
        vendor, today = person(request), timezone.now().astimezone(display.BOGOTA).date()
        currency = vendor_dashboard.currency_of(vendor.pk)
        begin, end = vendor_dashboard.month_of(today)
        before = vendor_dashboard.month_of(today.replace(day=1) - dt.timedelta(days=1))
        now = vendor_dashboard.by_day(Scope(vendor.pk, currency, begin, end))
        then = vendor_dashboard.by_day(Scope(vendor.pk, currency, *before))
        month = vendor_dashboard.total("actual", now)
        last = vendor_dashboard.total("anterior", then)
        return Response(
            {
                "moneda": currency,
                "periodo_actual": _figures(month, currency),
                "periodo_anterior": _figures(last, currency),
                # In percent of the last month; nothing where that had nothing.
                "variacion": {
                    "pedidos": _change(last.sales, month.sales), "ventas": _change(last.sold, month.sold),
                    "comision": _change(last.commission, month.commission),
                    "ganancia": _change(last.earned, month.earned),
                },
            }
        )  # fmt: skip


class OrdersView(Report):
    """The newest sales, one per order."""

    @extend_schema(
        operation_id="vendedores_ordenes", summary="List the own sales",
        parameters=[
            OpenApiParameter("cursor", OpenApiTypes.STR), OpenApiParameter("limit", OpenApiTypes.INT),
        ],
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        reader = list_query.Reader(request.query_params)
        limit = reader.whole("limit", list_query.DEFAULT_LIMIT, 1, list_query.LARGEST_LIMIT)
        reader.raise_if_wrong()
        page = selectors.commission_page(
            selectors.CommissionFilter(), reader=person(request), limit=limit,
            cursor=request.query_params.get("cursor") or None,
        )  # fmt: skip
        return Response(
            {
                "ordenes": [serializers.commission(row) for row in page.rows], "total": page.total,
                "total_is_estimate": page.total_is_estimate, "next_cursor": page.next_cursor,
            }
        )  # fmt: skip


class ExportView(Report):
    """Sales by day, as a file."""

    @extend_schema(
        operation_id="vendedores_exportar", summary="Take sales by day away as CSV", parameters=_PERIOD,
        responses={(200, "text/csv"): OpenApiTypes.STR},
    )  # fmt: skip
    def get(self, request: Request) -> HttpResponseBase:
        wanted = self.scope(request)
        response = StreamingHttpResponse(
            vendor_dashboard.csv_rows(wanted), content_type="text/csv; charset=utf-8"
        )
        response["Content-Disposition"] = f'attachment; filename="ventas-{wanted.currency}.csv"'
        response["Cache-Control"] = "no-store"
        return response


class OrdersAlias(OrdersView):
    """The same, by the name that shipped front ends use."""

    @extend_schema(
        operation_id="vendors_ordenes", summary="List the own sales", responses=OpenApiTypes.OBJECT
    )
    def get(self, request: Request) -> Response:
        return super().get(request)


class ComparisonAlias(ComparisonView):
    """The same, by the name that shipped front ends use."""

    @extend_schema(
        operation_id="vendors_comparativa", summary="Compare two months", responses=OpenApiTypes.OBJECT
    )
    def get(self, request: Request) -> Response:
        return super().get(request)


def _period(wanted: Scope) -> dict[str, Any]:
    return {"fecha_inicio": wanted.since, "fecha_fin": wanted.until, "moneda": wanted.currency}


def _day(day: Sums, currency: str) -> dict[str, Any]:
    return {"fecha": day.label, **_figures(day, currency)}


def _figures(row: Sums, currency: str) -> dict[str, Any]:
    return {
        "pedidos": row.sales, "ventas": to_decimal(row.sold, currency),
        "comision": to_decimal(row.commission, currency), "ganancia": to_decimal(row.earned, currency),
    }  # fmt: skip


def _average(month: Sums, currency: str) -> Decimal | None:
    """The mean sale, rounded half up to the minor unit; nothing where nothing was sold."""
    if not month.sales:
        return None
    return to_decimal((month.sold * 2 + month.sales) // (2 * month.sales), currency)


def _change(before: int, after: int) -> Decimal | None:
    return None if not before else (Decimal(after - before) * 100 / before).quantize(_CHANGE)
