"""The shapes of orders and commissions, for the published API description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from finance.states import CommissionStatus, CommissionType, PaymentStatus

AMOUNT: Final = {
    "description": "plain digits, as a string or a number, with no more decimals than the currency has",
    "oneOf": [{"type": "string", "pattern": r"^(0|[1-9][0-9]{0,14})(\.[0-9]{1,4})?$"}, {"type": "number"}],
}
_TEXT: Final = {"type": "string"}
_UUID: Final = {"type": "string", "format": "uuid"}
_NUMBER: Final = {"type": "number"}
_COUNT: Final = {"type": "integer"}
_MOMENT: Final = {"type": "string", "format": "date-time"}
_NULLABLE_MOMENT: Final = {**_MOMENT, "nullable": True}


def _object(required: list[str] | None = None, **members: Any) -> dict[str, Any]:
    return {"type": "object", "properties": members, **({"required": required} if required else {})}


def _answer(schema: Mapping[str, Any], description: str) -> OpenApiResponse:
    return OpenApiResponse(response=dict(schema), description=description)


ORDER: Final = _object(
    [
        "currency",
        "items",
        "shipping_name",
        "shipping_phone",
        "shipping_address",
        "shipping_city",
        "shipping_state",
    ],
    buyer_id=_UUID,
    buyer_reference=_TEXT,
    currency=_TEXT,
    external_reference=_TEXT,
    items={
        "type": "array",
        "items": _object(
            ["product_id", "vendor_id", "unit_price", "quantity"],
            product_id=_TEXT,
            vendor_id=_UUID,
            name=_TEXT,
            category=_TEXT,
            unit_price=AMOUNT,
            quantity=_COUNT,
        ),
    },
    shipping_name=_TEXT,
    shipping_phone=_TEXT,
    shipping_email=_TEXT,
    shipping_address=_TEXT,
    shipping_city=_TEXT,
    shipping_state=_TEXT,
    shipping_postal_code=_TEXT,
    shipping_country=_TEXT,
    notes=_TEXT,
    payment=_object(
        ["provider", "reference", "status"],
        provider=_TEXT,
        reference=_TEXT,
        status={"type": "string", "enum": [status.value for status in PaymentStatus]},
        method=_TEXT,
        installments=_COUNT,
        amount=AMOUNT,
    ),
)
ORDER_PLACED: Final = _answer(
    _object(
        success={"type": "boolean"},
        data=_object(
            id=_COUNT,
            order_number=_TEXT,
            status=_TEXT,
            payment_status=_TEXT,
            currency=_TEXT,
            subtotal=_NUMBER,
            tax_amount=_NUMBER,
            shipping_cost=_NUMBER,
            discount_amount=_NUMBER,
            total_amount=_NUMBER,
            items={"type": "array", "items": _object()},
            commissions={"type": "array", "items": _object()},
        ),
        message=_TEXT,
    ),
    "The order, or the first answer again when the key was used before (Idempotent-Replayed: true).",
)
_COMMISSION: Final = _object(
    id=_UUID,
    commission_number=_TEXT,
    order_id=_COUNT,
    vendor_id=_UUID,
    order_amount=_NUMBER,
    commission_rate=_NUMBER,
    commission_amount=_NUMBER,
    vendor_amount=_NUMBER,
    platform_amount=_NUMBER,
    commission_type=_TEXT,
    status=_TEXT,
    currency=_TEXT,
    calculated_at=_MOMENT,
    approved_at=_NULLABLE_MOMENT,
    paid_at=_NULLABLE_MOMENT,
    notes={**_TEXT, "nullable": True},
    created_at=_MOMENT,
    updated_at=_MOMENT,
)
COMMISSION: Final = _answer(_COMMISSION, "The commission.")
COMMISSION_PAGE: Final = _answer(
    _object(
        commissions={"type": "array", "items": _COMMISSION},
        total=_COUNT,
        total_is_estimate={"type": "boolean"},
        limit=_COUNT,
        offset=_COUNT,
        page=_COUNT,
        page_size=_COUNT,
        total_pages=_COUNT,
        has_next={"type": "boolean"},
        has_prev={"type": "boolean"},
        next_cursor={**_TEXT, "nullable": True},
        summary={
            **_object(
                currency=_TEXT,
                currencies={"type": "array", "items": _TEXT},
                total_commissions=_COUNT,
                total_order_amount=_NUMBER,
                total_commission_amount=_NUMBER,
                total_vendor_earnings=_NUMBER,
            ),
            "nullable": True,
        },
    ),
    "One page, newest first. `total` is exact to 10,000; `summary` is null beyond.",
)
EARNINGS: Final = _answer(
    _object(
        vendor_id={**_UUID, "nullable": True},
        period=_object(start_date=_NULLABLE_MOMENT, end_date=_NULLABLE_MOMENT),
        summary=_object(
            total_commissions=_COUNT,
            total_order_amount=_NUMBER,
            total_commission_amount=_NUMBER,
            total_vendor_earnings=_NUMBER,
            paid_earnings=_NUMBER,
            pending_earnings=_NUMBER,
            average_commission_rate=_NUMBER,
        ),
        breakdown_by_status=_object(),
        currency=_TEXT,
        currencies={"type": "array", "items": _TEXT},
    ),
    "Sums in one currency; `currencies` names all that there are.",
)

_PERIOD: Final = [OpenApiParameter("date_from"), OpenApiParameter("date_to"), OpenApiParameter("vendor_id")]
COMMISSION_PARAMETERS: Final = [
    OpenApiParameter("status", enum=[status.value for status in CommissionStatus]),
    OpenApiParameter("commission_type", enum=[kind.value for kind in CommissionType]),
    *_PERIOD,
    OpenApiParameter("limit", type=int),
    OpenApiParameter("offset", type=int),
    OpenApiParameter("page", type=int),
    OpenApiParameter("cursor"),
]
EARNINGS_PARAMETERS: Final = [*_PERIOD, OpenApiParameter("currency")]
