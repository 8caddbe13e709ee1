"""`/vendors/{id}/statement`, `/vendors/{id}/balance`: a vendor's own, or any for the staff that may look."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final
from uuid import UUID

from django.http import HttpResponseBase, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import vendors
from accounts.models import User
from accounts.roles import Role
from finance import list_query, money, statements, vendor_balances
from finance.api.vendor_or_granted import VendorOrGrantedView, own
from finance.money import text_of
from finance.statements import Statement
from mestore.lib import actor

READING: Final = "transactions.read.read_only"
FORMATS: Final = {"json", "csv", "html"}
#: A page of its own style sheet and nothing else: no script, no frame, no form.
PRINT_POLICY: Final = (
    "default-src 'none'; style-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_PERIOD: Final = [
    OpenApiParameter("from", OpenApiTypes.STR, description="a day or a moment, in business time"),
    OpenApiParameter("to", OpenApiTypes.STR, description="a day (included) or a moment"),
    OpenApiParameter("currency", OpenApiTypes.STR),
]


class StatementView(VendorOrGrantedView):
    """The numbered movements of what a vendor has available."""

    needs = {"GET": READING}

    @extend_schema(
        operation_id="vendor_statement",
        summary="Read a vendor's statement",
        parameters=[
            *_PERIOD,
            OpenApiParameter("cursor", OpenApiTypes.STR),
            OpenApiParameter("limit", OpenApiTypes.INT),
            OpenApiParameter("format", OpenApiTypes.STR, enum=sorted(FORMATS)),
        ],
        responses={(200, "application/json"): OpenApiTypes.OBJECT, (200, "text/csv"): OpenApiTypes.STR,
                   (200, "text/html"): OpenApiTypes.STR},
    )  # fmt: skip
    def get(self, request: Request, vendor_id: UUID) -> HttpResponseBase:
        """Return a page of lines with the period's totals; as CSV, or as a page to print, all of them."""
        user = own(request, vendor_id, vendors.VendorNotFound)
        vendor = vendors.find(vendor_id)
        reader = list_query.Reader(request.query_params)
        since, until = reader.moment("from"), reader.moment("to", is_end=True)
        currency = reader.one_of("currency", set(money.EXPONENTS))
        form = reader.one_of("format", FORMATS) or _accepted(request)
        limit = reader.whole("limit", statements.DEFAULT_PAGE, 1, statements.LARGEST_PAGE)
        text = request.query_params.get("cursor", "")
        reader.raise_if_wrong()
        cursor = statements.cursor_in(text) if text else None
        statement = statements.read(vendor.pk, currency=currency, since=since, until=until, cursor=cursor)
        if form == "json":
            return Response(_page(statement, cursor.number if cursor else 0, limit))
        if user.role is not Role.VENDOR:
            statements.record_taken(statement, form, by=actor.of(request))
        return csv_answer(statement) if form == "csv" else print_answer(request, statement, vendor)


class BalanceView(VendorOrGrantedView):
    """What a vendor has, now or as of a day."""

    needs = {"GET": READING}

    @extend_schema(
        operation_id="vendor_balance",
        summary="Read a vendor's balances",
        parameters=[
            OpenApiParameter("as_of", OpenApiTypes.STR, description="without what occurred later"),
            OpenApiParameter("known_at", OpenApiTypes.STR, description="without what was recorded later"),
        ],
        responses=OpenApiTypes.OBJECT,
    )
    def get(self, request: Request, vendor_id: UUID) -> Response:
        """Return available, reserved, pending, in transit and owed by currency; a day counts to its end."""
        own(request, vendor_id, vendors.VendorNotFound)
        vendor = vendors.find(vendor_id)
        reader = list_query.Reader(request.query_params)
        as_of, known_at = reader.moment("as_of", is_end=True), reader.moment("known_at", is_end=True)
        reader.raise_if_wrong()
        found = vendor_balances.balances(vendor.pk, occurred_before=as_of, recorded_before=known_at)
        return Response(
            {
                "vendor_id": vendor.pk, "as_of": as_of, "known_at": known_at, "read_at": timezone.now(),
                "balances": [_balance(one) for one in found],
            }
        )  # fmt: skip


def csv_answer(statement: Statement) -> StreamingHttpResponse:
    """Return the whole statement as CSV, written while it is read: memory does not grow with it."""
    response = StreamingHttpResponse(statements.csv_rows(statement), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{_file_name(statement)}"'
    response["Cache-Control"] = "no-store"
    return response


def print_answer(request: Any, statement: Statement, vendor: User) -> TemplateResponse:
    """Return a page made for paper. Raises `statements.TooMuchToPrint`."""
    currency = statement.currency
    rows = [
        {
            "number": line.number, "at": line.recorded_at, "word": line.word, "source": line.source,
            "credit": text_of(line.credit, currency) if line.credit else "",
            "debit": text_of(line.debit, currency) if line.debit else "",
            "balance": text_of(line.balance, currency),
        }
        for line in statements.printed(statement)
    ]  # fmt: skip
    profile = getattr(vendor, "vendor_profile", None)
    context = {
        "statement": statement, "rows": rows, "made_at": timezone.now(),
        "vendor_name": str(profile or vendor), "last_day": _last_day(statement),
        "totals": {
            name: text_of(getattr(statement, name), currency)
            for name in ("opening", "closing", "credits", "debits")
        },
    }  # fmt: skip
    response = TemplateResponse(request, "finance/statement.html", context)
    response["Content-Security-Policy"] = PRINT_POLICY
    response["Cache-Control"] = "no-store"
    return response


def _page(statement: Statement, after: int, limit: int) -> dict[str, Any]:
    lines = statements.page(statement, after=after, limit=limit + 1)
    shown, currency = lines[:limit], statement.currency
    return {
        "vendor_id": statement.vendor, "currency": currency, "currencies": list(statement.currencies),
        "from": statement.since, "to": statement.until,
        "first_number": statement.after + 1 if statement.lines else None,
        "last_number": statement.upto if statement.lines else None,
        "opening_balance": text_of(statement.opening, currency),
        "closing_balance": text_of(statement.closing, currency),
        "credits": text_of(statement.credits, currency), "debits": text_of(statement.debits, currency),
        "line_count": statement.lines,
        "results": [
            {
                "number": line.number, "entry_id": line.entry_id, "kind": line.kind, "reference": line.source,
                "occurred_at": line.occurred_at, "recorded_at": line.recorded_at,
                "amount": text_of(line.amount, currency), "balance": text_of(line.balance, currency),
            }
            for line in shown
        ],
        "next": statements.cursor_after(statement, shown[-1].number).text() if len(lines) > limit else None,
    }  # fmt: skip


def _balance(one: vendor_balances.VendorBalance) -> dict[str, str]:
    return {
        "currency": one.currency,
        **{
            name: text_of(getattr(one, name), one.currency)
            for name in ("available", "reserved", "pending", "in_transit", "owed")
        },
    }


def _accepted(request: Request) -> str:
    """Say which form the Accept header asks for first; JSON where it asks for none of ours."""
    for part in request.headers.get("Accept", "").split(","):
        media = part.split(";")[0].strip().lower()
        if media in {"text/csv", "text/html"}:
            return media.removeprefix("text/")
        if media in {"application/json", "*/*"}:
            break
    return "json"


def _file_name(statement: Statement) -> str:
    first, last = statement.after + 1, statement.upto
    return f"statement-{statement.vendor}-{statement.currency}-{first}-{last}.csv"


def _last_day(statement: Statement) -> dt.datetime | None:
    """The last moment of the period: its end is the first one after it."""
    return None if statement.until is None else statement.until - dt.timedelta(seconds=1)
