"""Orders as they are told: amounts are JSON numbers written from their digits. And what bodies may say."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from accounts.api.shapes import lines, plain
from finance.money import to_decimal
from finance.order_changes import Cancelled
from finance.states import ItemStatus, OrderStatus
from mestore.lib import errors
from mestore.lib.shapes import Text

CANCELLED: Final = _("The order was cancelled.")
NAME_THE_ORDER: Final = _("Name the order by its id or its number.")
CURSOR_REQUIRED: Final = _("Pages this far back need the parameter cursor.")
#: What is kept as the reason of a cancellation that gave none.
NO_REASON: Final = "no reason given"
STATUSES: Final = tuple(status.value for status in OrderStatus)
LIST_PARAMETERS: Final = [
    OpenApiParameter("status", enum=list(STATUSES)),
    *(OpenApiParameter(name, OpenApiTypes.INT) for name in ("skip", "limit")),
    OpenApiParameter("cursor"),
]
_SHIPPING: Final = (
    "shipping_name", "shipping_phone", "shipping_email", "shipping_address", "shipping_city",
    "shipping_state", "shipping_postal_code", "shipping_country",
)  # fmt: skip


class StatusUnknown(errors.BadRequest):
    code = "ORDER_STATUS_UNKNOWN"
    message = _("There is no such order status.")


class OrderCancelRequest(serializers.Serializer[Any]):
    """Why an order is cancelled, and whether its money goes back."""

    reason = lines(500, min_length=1)
    refund_requested = serializers.BooleanField(default=True)


class PaidRequest(serializers.Serializer[Any]):
    """The approved payment that confirms an order."""

    provider = serializers.RegexField(r"\A[a-z0-9][a-z0-9_-]{0,31}\Z")
    reference = plain(128)
    method = plain(32, required=False, allow_blank=True, default="")
    installments = serializers.IntegerField(min_value=1, max_value=120, default=1)


class StatusRequest(serializers.Serializer[Any]):
    """Where an order goes. Shipping needs a tracking number, confirming the payment."""

    status = Text(max_length=32)
    notes = lines(500, required=False, allow_blank=True, default="")
    tracking_number = plain(64, required=False, allow_blank=True, default="")
    courier = plain(64, required=False, allow_blank=True, default="")
    estimated_delivery = serializers.DateField(required=False, allow_null=True, default=None)
    refund_requested = serializers.BooleanField(default=True)
    payment = PaidRequest(required=False, allow_null=True, default=None)


class ItemStatusRequest(serializers.Serializer[Any]):
    """How far a vendor is with a line."""

    status = serializers.ChoiceField(choices=[ItemStatus.PREPARING.value, ItemStatus.READY_TO_SHIP.value])


class TrackingTokenRequest(serializers.Serializer[Any]):
    """Which order a link is wanted for."""

    order_id = serializers.IntegerField(min_value=1, required=False, allow_null=True, default=None)
    order_number = plain(32, required=False, allow_blank=True, default="")


def summary(row: Any) -> dict[str, Any]:
    """One line of a list."""
    return {
        "id": row.pk, "order_number": row.order_number, "status": row.status,
        "payment_status": row.payment_status or "pending", "currency": row.currency,
        "total_amount": to_decimal(row.total_minor, row.currency),
        "refunded_amount": to_decimal(row.refunded_minor, row.currency),
        "refund_due_amount": to_decimal(row.refund_due_minor, row.currency), "items_count": row.items_count,
        "created_at": row.placed_at, "tracking_number": row.tracking_number or None,
    }  # fmt: skip


def admin_summary(row: Any) -> dict[str, Any]:
    """One line of the administration's list."""
    return {
        **summary(row), "buyer_id": row.buyer_id,
        "buyer_email": row.buyer.email if row.buyer else row.shipping_email or None,
        "buyer_name": row.buyer.get_full_name() if row.buyer else row.shipping_name or row.buyer_reference,
        "external_reference": row.external_reference,
    }  # fmt: skip


def detail(row: Any) -> dict[str, Any]:
    """One order with its lines, payments and refunds."""

    def money(minor: int) -> Decimal:
        return to_decimal(minor, row.currency)

    return {
        **summary(row), "buyer_id": row.buyer_id, "buyer_reference": row.buyer_reference or None,
        "external_reference": row.external_reference, "subtotal": money(row.subtotal_minor),
        "tax_amount": money(row.tax_minor), "shipping_cost": money(row.shipping_minor),
        "discount_amount": money(row.discount_minor), **{name: getattr(row, name) for name in _SHIPPING},
        "notes": row.notes or None, "courier": row.courier or None,
        "estimated_delivery": row.estimated_delivery, "shipping_events": row.shipping_events,
        "cancellation_reason": row.cancellation_reason or None, "confirmed_at": row.confirmed_at,
        "shipped_at": row.shipped_at, "delivered_at": row.delivered_at, "cancelled_at": row.cancelled_at,
        "updated_at": row.updated_at, "items": [item(line, row.currency) for line in row.item_rows],
        "refunds": [_refund(each) for each in row.refund_rows],
    }  # fmt: skip


def admin_detail(row: Any) -> dict[str, Any]:
    """One order as the administration sees it."""
    transactions = [
        {
            "transaction_reference": payment["reference"] or None, "order_id": row.pk,
            "amount": to_decimal(payment["amount_minor"], row.currency), "currency": row.currency,
            "status": payment["status"], "payment_method_type": payment["method"] or None,
            "installments": payment["installments"], "gateway": payment["provider"],
            "gateway_transaction_id": payment["reference"] or None,
        }
        for payment in row.payment_rows
    ]  # fmt: skip
    return {**detail(row), **admin_summary(row), "transactions": transactions}


def item(line: Mapping[str, Any], currency: str) -> dict[str, Any]:
    """One line of an order."""
    return {
        "id": line["id"], "line": line["line"], "product_id": line["product_id"],
        "vendor_id": line["vendor_id"], "product_name": line["name"] or None,
        "category": line["category"] or None,
        "unit_price": to_decimal(line["unit_price_minor"], currency), "quantity": line["quantity"],
        "total_price": to_decimal(line["line_total_minor"], currency),
        "shipping_cost": to_decimal(line["shipping_minor"], currency), "status": line["vendor_status"],
    }  # fmt: skip


def _refund(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"], "refund_number": row["refund_number"], "status": row["status"],
        "amount": to_decimal(row["amount_minor"], row["currency"]), "currency": row["currency"],
    }  # fmt: skip


def tracking(row: Any) -> dict[str, Any]:
    """Where the parcel is: nothing about the buyer, nothing about money."""
    return {
        "order_id": row.pk, "order_number": row.order_number, "status": row.status,
        "tracking_number": row.tracking_number or None, "courier": row.courier or None,
        "estimated_delivery": row.estimated_delivery, "shipping_events": row.shipping_events,
        "created_at": row.placed_at, "confirmed_at": row.confirmed_at, "shipped_at": row.shipped_at,
        "delivered_at": row.delivered_at, "cancelled_at": row.cancelled_at,
    }  # fmt: skip


def public_tracking(row: Any) -> dict[str, Any]:
    """The same for whoever has the link: without the id of the order."""
    return {name: value for name, value in tracking(row).items() if name != "order_id"}


def detailed_tracking(row: Any) -> dict[str, Any]:
    """The same with what is in the parcel."""
    parcel = [
        {"product_name": line["name"] or None, "quantity": line["quantity"], "status": line["vendor_status"]}
        for line in row.item_rows
    ]
    return {**public_tracking(row), "items": parcel}


def cancelled(done: Cancelled) -> dict[str, Any]:
    """What became of a cancelled order and of its money."""
    order, refund = done.order, done.refund
    return {
        "order_id": order.pk, "order_number": order.order_number, "status": order.status,
        "cancelled_at": order.cancelled_at, "cancellation_reason": order.cancellation_reason,
        "refund_status": done.refund_status.value,
        "refund_id": refund.pk if refund else None,
        "refund_amount": to_decimal(refund.amount_minor, refund.currency) if refund else None,
        "currency": order.currency, "approval_id": done.approval_id,
    }  # fmt: skip


def moved(order: Any) -> dict[str, Any]:
    """An order after it moved."""
    return {
        "id": order.pk, "order_id": order.pk, "order_number": order.order_number, "status": order.status,
        "tracking_number": order.tracking_number or None, "courier": order.courier or None,
        "updated_at": dt.datetime.now(dt.UTC),
    }  # fmt: skip


def vendor_order(row: Any, vendor_id: UUID) -> dict[str, Any]:
    """An order as one of its vendors sees it: only that vendor's lines, and where they go."""
    own = [line for line in row.item_rows if line["vendor_id"] == str(vendor_id)]
    goods = sum(line["line_total_minor"] for line in own)
    return {
        "id": row.pk, "order_number": row.order_number, "status": row.status, "currency": row.currency,
        "total_amount": to_decimal(row.total_minor, row.currency),
        "vendor_items_total": to_decimal(goods, row.currency), "items_count": len(own),
        "created_at": row.placed_at, "confirmed_at": row.confirmed_at, "shipped_at": row.shipped_at,
        "delivered_at": row.delivered_at, "tracking_number": row.tracking_number or None,
        "shipping_name": row.shipping_name, "shipping_phone": row.shipping_phone,
        "shipping_address": row.shipping_address, "shipping_city": row.shipping_city,
        "shipping_state": row.shipping_state, "shipping_postal_code": row.shipping_postal_code,
        "items": [item(line, row.currency) for line in own],
    }  # fmt: skip
