"""Orders and commissions."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from finance.admin.cells import (
    COMMISSION_WORDS,
    ORDER_WORDS,
    TYPE_WORDS,
    amount,
    entry_link,
    percent,
    vendor,
)
from finance.models import Commission, Order
from finance.states import CommissionStatus, CommissionType, OrderStatus
from mestore.lib import console
from mestore.lib.console import ConsoleModelAdmin, Ordering, SearchField, State, Table, WindowFilter, display


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
        WindowFilter.on("placed_at"),
    )
    orderings = (
        Ordering("placed", gettext_lazy("newest placed"), ("-placed_at", "-id")),
        Ordering("recorded", gettext_lazy("newest recorded"), ("-id",)),
    )
    numeric_columns = ("total_amount",)
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
        (gettext_lazy("Amounts"), ("subtotal", "tax", "shipping", "discount", "total_amount")),
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
        return str(ORDER_WORDS.get(OrderStatus(order.status), order.status))

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

    def tables(self, request: HttpRequest, row: Order) -> Iterable[Table]:
        yield _items_of(row)
        yield _payments_of(row)
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


@admin.register(Commission)
class CommissionAdmin(ConsoleModelAdmin):
    """What the platform keeps of each vendor's part of each order."""

    group, position = "money", 20
    summary = gettext_lazy("One commission per vendor and order, by the moment the sale counted.")
    empty = gettext_lazy("A commission appears here for each vendor of an order that counts as sold.")
    list_display = ("what", "state", "vendor_name", "calculated_at", "rate_text", "kept", "paid_on")
    list_select_related = ("order", "vendor", "vendor__vendor_profile")
    list_filter = (
        console.choice_filter(
            parameter="status",
            title=gettext_lazy("Status"),
            choices=[(status.value, word) for status, word in COMMISSION_WORDS.items()],
        ),
        console.choice_filter(
            parameter="commission_type",
            title=gettext_lazy("Type"),
            choices=[(kind.value, word) for kind, word in TYPE_WORDS.items()],
        ),
        WindowFilter.on("calculated_at"),
    )
    open_lookups = ("vendor_id",)
    orderings = (
        Ordering("calculated", gettext_lazy("newest sale"), ("-calculated_at", "-id")),
        Ordering("recorded", gettext_lazy("newest recorded"), ("-id",)),
    )
    numeric_columns = ("rate_text", "kept", "paid_on")
    search_in = (SearchField("commission_number"), SearchField("id"))
    search_help_text = gettext_lazy("The whole commission number or id")
    sections = (
        (
            gettext_lazy("Commission"),
            ("id", "commission_number", "order_of", "vendor_name", "type_word", "entry", "notes"),
        ),
        (gettext_lazy("Amounts"), ("base", "rate_text", "kept", "paid_on")),
        (gettext_lazy("Times"), ("calculated_at", "approved_at", "paid_at", "created_at", "updated_at")),
    )

    @admin.display(description=gettext_lazy("commission"))
    def what(self, commission: Commission) -> SafeString:
        return display.two_lines(commission.commission_number, commission.order.order_number)

    @admin.display(description=gettext_lazy("status"))
    def state(self, commission: Commission) -> SafeString | str:
        word = COMMISSION_WORDS[CommissionStatus(commission.status)]
        if commission.status == CommissionStatus.DISPUTED:
            return display.state(State.WARNING, word)
        return str(word)

    def state_of(self, row: Commission) -> SafeString | str:
        return self.state(row)

    @admin.display(description=gettext_lazy("order"))
    def order_of(self, commission: Commission) -> SafeString:
        url = reverse("admin:finance_order_change", args=[commission.order_id])
        return display.link(url, commission.order.order_number)

    @admin.display(description=gettext_lazy("vendor"))
    def vendor_name(self, commission: Commission) -> SafeString:
        return vendor(commission.vendor)

    @admin.display(description=gettext_lazy("type"))
    def type_word(self, commission: Commission) -> str:
        return str(TYPE_WORDS[CommissionType(commission.commission_type)])

    @admin.display(description=gettext_lazy("base"))
    def base(self, commission: Commission) -> SafeString:
        return amount(commission.order_amount_minor, commission.currency)

    @admin.display(description=gettext_lazy("rate"))
    def rate_text(self, commission: Commission) -> SafeString:
        return display.numeric(percent(commission.rate_ppm))

    @admin.display(description=gettext_lazy("commission"))
    def kept(self, commission: Commission) -> SafeString:
        return amount(commission.commission_amount_minor, commission.currency)

    @admin.display(description=gettext_lazy("vendor amount"))
    def paid_on(self, commission: Commission) -> SafeString:
        return amount(commission.vendor_amount_minor, commission.currency)

    @admin.display(description=gettext_lazy("ledger entry"))
    def entry(self, commission: Commission) -> SafeString | str:
        return entry_link(commission.entry_id)
