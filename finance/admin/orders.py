"""Orders: what was bought, how it moves, and giving the money back."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from finance.admin.cells import COMMISSION_WORDS, ORDER_WORDS, amount, percent, vendor
from finance.admin.order_actions import ORDER_ACTIONS
from finance.admin.refund_tables import preview_of, refunds_of
from finance.models import Order
from finance.states import CommissionStatus, OrderStatus
from mestore.lib import console
from mestore.lib.console import ConsoleModelAdmin, Ordering, SearchField, Table, WindowFilter, display


@admin.register(Order)
class OrderAdmin(ConsoleModelAdmin):
    """Orders as money."""

    group, position = "money", 10
    summary = gettext_lazy("Orders by the moment they were placed, newest first.")
    empty = gettext_lazy("Orders appear here when the storefront posts one or `import_orders` reads a file.")
    list_display = ("what", "state", "placed_at", "source", "total_amount")
    list_select_related = ("buyer",)
    list_filter = (
        console.choice_filter(
            parameter="status",
            title=gettext_lazy("Status"),
            choices=[(status.value, word) for status, word in ORDER_WORDS.items()],
        ),
        console.choice_filter(
            parameter="refund",
            title=gettext_lazy("Refund"),
            choices=[("due", gettext_lazy("still to be refunded"))],
            narrow=lambda rows, _value: rows.filter(refund_due_minor__gt=0),
        ),
        WindowFilter.on("placed_at"),
    )
    orderings = (
        Ordering("placed", gettext_lazy("newest placed"), ("-placed_at", "-id")),
        Ordering("recorded", gettext_lazy("newest recorded"), ("-id",)),
    )
    numeric_columns = ("total_amount",)
    reason_actions = ORDER_ACTIONS
    labels = {"shipping_city": gettext_lazy("city"), "shipping_country": gettext_lazy("country")}
    search_in = (SearchField("order_number", "exact", str.upper), SearchField("id"))
    search_help_text = gettext_lazy("The whole order number or id")
    sections = (
        (
            gettext_lazy("Order"),
            (
                "id",
                "order_number",
                "source",
                "external_reference",
                "buyer_name",
                "shipping_city",
                "shipping_country",
            ),
        ),
        (
            gettext_lazy("Amounts"),
            (
                "subtotal",
                "tax",
                "shipping",
                "discount",
                "total_amount",
                "refunded",
                "refund_due",
            ),
        ),
        (
            gettext_lazy("Delivery"),
            ("tracking_number", "courier", "estimated_delivery", "cancellation_reason"),
        ),
        (
            gettext_lazy("Times"),
            (
                "placed_at",
                "confirmed_at",
                "shipped_at",
                "delivered_at",
                "cancelled_at",
                "created_at",
                "updated_at",
            ),
        ),
    )

    @admin.display(description=gettext_lazy("order"))
    def what(self, order: Order) -> SafeString:
        return display.two_lines(order.order_number, order.external_reference or order.buyer_reference)

    @admin.display(description=gettext_lazy("status"))
    def state(self, order: Order) -> str:
        word = str(ORDER_WORDS.get(OrderStatus(order.status), order.status))
        return _("%(status)s, refund due") % {"status": word} if order.refund_due_minor else word

    def state_of(self, row: Order) -> str:
        return self.state(row)

    @admin.display(description=gettext_lazy("buyer"))
    def buyer_name(self, order: Order) -> str:
        return str(order.buyer) if order.buyer else order.buyer_reference

    @admin.display(description=gettext_lazy("subtotal"))
    def subtotal(self, order: Order) -> SafeString:
        return amount(order.subtotal_minor, order.currency)

    @admin.display(description=gettext_lazy("tax"))
    def tax(self, order: Order) -> SafeString:
        return amount(order.tax_minor, order.currency)

    @admin.display(description=gettext_lazy("shipping"))
    def shipping(self, order: Order) -> SafeString:
        return amount(order.shipping_minor, order.currency)

    @admin.display(description=gettext_lazy("discount"))
    def discount(self, order: Order) -> SafeString:
        return amount(order.discount_minor, order.currency)

    @admin.display(description=gettext_lazy("total"))
    def total_amount(self, order: Order) -> SafeString:
        return amount(order.total_minor, order.currency)

    @admin.display(description=gettext_lazy("refunded"))
    def refunded(self, order: Order) -> SafeString:
        return amount(order.refunded_minor, order.currency)

    @admin.display(description=gettext_lazy("still to be refunded"))
    def refund_due(self, order: Order) -> SafeString:
        return amount(order.refund_due_minor, order.currency)

    def tables(self, request: HttpRequest, row: Order) -> Iterable[Table]:
        yield _items_of(row)
        yield _payments_of(row)
        if request.user.has_perm("finance.view_refund"):
            yield refunds_of(row)
            yield preview_of(row)
        if request.user.has_perm("finance.view_commission"):
            yield _commissions_of(row)


def _items_of(order: Order) -> Table:
    items = order.items.select_related("vendor__vendor_profile").order_by("line")[:200]
    return Table(
        title=_("Items"),
        headers=[
            "#",
            _("Product"),
            _("Vendor"),
            _("Quantity"),
            _("Unit price"),
            _("Line total"),
            _("Shipping"),
        ],
        rows=[
            (
                item.line,
                display.two_lines(item.name or item.product_id, item.category),
                vendor(item.vendor),
                item.quantity,
                amount(item.unit_price_minor, order.currency),
                amount(item.line_total_minor, order.currency),
                amount(item.shipping_minor, order.currency),
            )
            for item in items
        ],
        empty=_("This order has no items."),
        numeric=frozenset({3, 4, 5, 6}),
    )


def _payments_of(order: Order) -> Table:
    return Table(
        title=_("Payments"),
        headers=["#", _("Method"), _("Provider"), _("Installments"), _("Status"), _("Amount")],
        rows=[
            (
                payment.sequence,
                payment.method,
                payment.provider,
                payment.installments,
                payment.status,
                amount(payment.amount_minor, order.currency),
            )
            for payment in order.payments.order_by("sequence")[:100]
        ],
        empty=_("No provider has reported a payment for this order."),
        numeric=frozenset({3, 5}),
    )


def _commissions_of(order: Order) -> Table:
    found = order.commissions.select_related("vendor__vendor_profile").order_by("commission_number")[:100]
    return Table(
        title=_("Commissions"),
        headers=[
            _("Number"),
            _("Vendor"),
            _("Status"),
            _("Base"),
            _("Rate"),
            _("Commission"),
            _("Vendor amount"),
        ],
        rows=[
            (
                display.link(
                    reverse("admin:finance_commission_change", args=[commission.pk]),
                    commission.commission_number,
                ),
                vendor(commission.vendor),
                COMMISSION_WORDS[CommissionStatus(commission.status)],
                amount(commission.order_amount_minor, commission.currency),
                percent(commission.rate_ppm),
                amount(commission.commission_amount_minor, commission.currency),
                amount(commission.vendor_amount_minor, commission.currency),
            )
            for commission in found
        ],
        empty=_("No commission: the order has not counted as sold."),
        numeric=frozenset({3, 4, 5, 6}),
    )
