"""Commissions."""

from __future__ import annotations

from django.contrib import admin
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from finance.admin.cells import (
    COMMISSION_WORDS,
    TYPE_WORDS,
    amount,
    entry_link,
    percent,
    vendor,
)
from finance.models import Commission
from finance.states import CommissionStatus, CommissionType
from mestore.lib import console
from mestore.lib.console import ConsoleModelAdmin, Ordering, SearchField, State, WindowFilter, display


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
