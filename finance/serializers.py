"""Orders and commissions as they are told to clients. Amounts are exact numbers, made from their digits."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from finance.models import Commission
from finance.models.commissions import rate_as_decimal
from finance.money import PPM, text_of, to_decimal
from mestore.lib import http

if TYPE_CHECKING:
    from finance.charging import Earned
    from finance.orders import PlacedOrder
    from finance.selectors import CommissionPage, Earnings


def order_placed(order: PlacedOrder) -> dict[str, Any]:
    """The answer to a new order."""
    form, price = order.form, order.form.price

    def money(minor: int) -> Any:
        return http.exact(text_of(minor, form.currency))

    items = [
        {
            "line": number, "product_id": line.product_id, "vendor_id": str(line.vendor_id),
            "name": line.name,
            "category": line.category, "unit_price": money(line.unit_price), "quantity": line.quantity,
            "line_total": money(line.total), "shipping_cost": money(shipping),
        }
        for number, (line, shipping) in enumerate(zip(form.lines, price.line_shipping, strict=True), 1)
    ]  # fmt: skip
    data = {
        "id": order.id, "order_number": order.number, "status": order.status.value,
        "payment_status": form.payment.status if form.payment else "pending",
        "buyer_id": form.buyer_id, "buyer_reference": form.buyer_reference or None,
        "external_reference": form.external_reference, "currency": form.currency,
        "subtotal": money(price.subtotal), "tax_amount": money(price.tax),
        "shipping_cost": money(price.shipping),
        "discount_amount": money(0), "total_amount": money(price.total), "items": items, **form.shipping,
        "notes": form.notes, "created_at": order.placed_at,
        "confirmed_at": order.placed_at if form.is_paid else None,
        "commissions": [_earned(earned) for earned in order.earned],
    }  # fmt: skip
    return {"success": True, "data": data, "message": _("The order was created.")}


def _earned(earned: Earned) -> dict[str, Any]:
    sale = earned.sale
    return {
        "id": str(earned.id), "commission_number": earned.number, "vendor_id": str(sale.vendor),
        "order_amount": http.exact(text_of(sale.base, sale.currency)),
        "commission_rate": rate_as_decimal(sale.rate_ppm),
        "commission_amount": http.exact(text_of(sale.commission, sale.currency)),
        "vendor_amount": http.exact(text_of(sale.vendor_amount, sale.currency)),
    }  # fmt: skip


def commission(row: Commission) -> dict[str, Any]:
    """One commission."""
    charged = to_decimal(row.commission_amount_minor, row.currency)
    return {
        "id": row.id, "commission_number": row.commission_number, "order_id": row.order_id,
        "vendor_id": row.vendor_id, "order_amount": to_decimal(row.order_amount_minor, row.currency),
        "commission_rate": row.rate, "commission_amount": charged,
        "vendor_amount": to_decimal(row.vendor_amount_minor, row.currency), "platform_amount": charged,
        "commission_type": row.commission_type, "status": row.status, "currency": row.currency,
        "calculated_at": row.calculated_at, "approved_at": row.approved_at, "paid_at": row.paid_at,
        "notes": row.notes or None, "created_at": row.created_at, "updated_at": row.updated_at,
    }  # fmt: skip


def commission_page(page: CommissionPage) -> dict[str, Any]:
    """One page of commissions."""
    return {
        "commissions": [commission(row) for row in page.rows], "total": page.total,
        "total_is_estimate": page.total_is_estimate, "limit": page.limit, "offset": page.offset,
        "page": page.offset // page.limit + 1, "page_size": page.limit,
        "total_pages": -(-page.total // page.limit), "has_next": page.next_cursor is not None,
        "has_prev": page.has_previous, "next_cursor": page.next_cursor, "summary": _page_summary(page),
    }  # fmt: skip


def _page_summary(page: CommissionPage) -> dict[str, Any] | None:
    """Sums of all that match, in pesos where there are any; None where there are more than are counted."""
    if page.sums is None:
        return None
    by_currency = {found.currency: found for found in page.sums}
    code = next(iter(by_currency)) if len(by_currency) == 1 else "COP"
    found = by_currency.get(code)
    amounts = (found.order_amount, found.commission, found.earnings) if found else (0, 0, 0)
    names = ("total_order_amount", "total_commission_amount", "total_vendor_earnings")
    return {
        "currency": code, "currencies": sorted(by_currency), "total_commissions": found.count if found else 0,
        **{name: to_decimal(minor, code) for name, minor in zip(names, amounts, strict=True)},
    }  # fmt: skip


def commission_for_staff(row: Commission) -> dict[str, Any]:
    """One commission with what stays inside the house."""
    return commission(row) | {
        "admin_notes": row.admin_notes or None, "approved_by_id": row.approved_by,
        "transaction_id": row.entry_id, "disputed_at": row.disputed_at, "resolved_at": row.resolved_at,
        "rule_id": row.rule_id, "rounding": row.rounding or None,
        "fee_tax_amount": to_decimal(row.fee_tax_minor, row.currency),
        "withheld_amount": to_decimal(row.withheld_minor, row.currency),
    }  # fmt: skip


def earnings(found: Earnings) -> dict[str, Any]:
    """What a vendor (or everybody) earned in a period, in one currency."""

    def money(minor: int) -> Decimal:
        return to_decimal(minor, found.currency)

    by_status = found.by_status
    sold = sum(row.order_amount for row in by_status.values())
    charged = sum(row.commission for row in by_status.values())
    waiting = sum(by_status[name].earnings for name in ("PENDING", "APPROVED") if name in by_status)
    paid = by_status["PAID"].earnings if "PAID" in by_status else 0
    return {
        "vendor_id": found.vendor_id,
        "period": {"start_date": found.start, "end_date": found.end},
        "summary": {
            "total_commissions": sum(row.count for row in by_status.values()),
            "total_order_amount": money(sold),
            "total_commission_amount": money(charged),
            "total_vendor_earnings": money(sum(row.earnings for row in by_status.values())),
            "paid_earnings": money(paid),
            "pending_earnings": money(waiting),
            "average_commission_rate": _average_rate(charged, sold),
        },
        "breakdown_by_status": _breakdown(found),
        "currency": found.currency,
        "currencies": list(found.currencies),
    }


def _breakdown(found: Earnings) -> Mapping[str, Any]:
    return {
        status: {"count": row.count, "earnings": to_decimal(row.earnings, found.currency)}
        for status, row in found.by_status.items()
    }


def _average_rate(charged: int, sold: int) -> Decimal:
    """Charged over sold, rounded to millionths."""
    return rate_as_decimal((charged * PPM * 2 + sold) // (2 * sold)) if sold else rate_as_decimal(0)
