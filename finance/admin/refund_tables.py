"""What an order's page and a refund's page say about money that goes back."""

from __future__ import annotations

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from finance import refunds
from finance.admin.cells import amount, vendor
from finance.models import Order, Refund
from finance.refund_outcomes import total_of
from finance.states import RefundStatus
from mestore.lib.console import State, Table, display

REFUND_WORDS = {
    RefundStatus.POSTED: (State.UNKNOWN, gettext_lazy("waits for the provider")),
    RefundStatus.PAID: (State.GOOD, gettext_lazy("paid")),
    RefundStatus.FAILED: (State.CRITICAL, gettext_lazy("failed")),
}


def refunds_of(order: Order) -> Table:
    """The refunds of an order, newest first."""
    rows = [
        (
            display.link(reverse("admin:finance_refund_change", args=[row.pk]), row.refund_number),
            display.state(*REFUND_WORDS[RefundStatus(row.status)]),
            display.moment(row.created_at),
            row.reason,
            amount(row.amount_minor, row.currency),
        )
        for row in Refund.objects.filter(order=order).order_by("-id")[:100]
    ]
    return Table(
        title=_("Refunds"),
        headers=[_("Number"), _("Status"), _("Posted"), _("Reason"), _("Amount")],
        rows=rows,
        empty=_("Nothing of this order was refunded."),
        numeric=frozenset({4}),
    )


def preview_of(order: Order) -> Table:
    """What each vendor would bear if all that remains went back now; a part of it is shared the same way."""
    found = refunds.forecast(order)
    vendors = User.objects.select_related("vendor_profile").in_bulk([one.part.vendor for one in found])
    rows = []
    for one in found:
        part, owed, figures = one.part, one.owed, one.part.figures
        values = (
            figures.total, figures.goods, figures.tax + figures.shipping,
            figures.commission + figures.fee_tax + figures.withheld, figures.vendor - owed, owed,
        )  # fmt: skip
        rows.append((vendor(vendors[part.vendor]), *(amount(minor, order.currency) for minor in values)))
    return Table(
        title=_("If all that remains were refunded"),
        headers=[
            _("Vendor"),
            _("Goes back"),
            _("Goods"),
            _("Tax, shipping"),
            _("Charges back"),
            _("From balance"),
            _("Vendor owes"),
        ],
        rows=rows,
        empty=_("Nothing remains of this order that could go back."),
        numeric=frozenset(range(1, 7)),
    )  # fmt: skip


def parts_of(refund: Refund) -> Table:
    """Which vendor's sale gave what, and the entry that says so."""
    rows = [
        (
            vendor(part.vendor),
            amount(part.goods_minor, refund.currency),
            amount(part.tax_minor, refund.currency),
            amount(part.shipping_minor, refund.currency),
            amount(part.commission_minor + part.fee_tax_minor + part.withheld_minor, refund.currency),
            amount(part.owed_minor, refund.currency),
            amount(total_of(part), refund.currency),
            display.link(
                reverse("admin:finance_ledgerentry_change", args=[part.entry_id]),
                display.short_id(part.entry_id),
            ),
        )
        for part in refund.parts.select_related("vendor__vendor_profile").order_by("id")
    ]
    return Table(
        title=_("Parts"),
        headers=[
            _("Vendor"), _("Goods"), _("Tax"), _("Shipping"), _("Charges given back"), _("Vendor owed"),
            _("Went back"), _("Ledger entry"),
        ],
        rows=rows,
        empty=_("This refund has no parts."),
        numeric=frozenset(range(1, 7)),
    )  # fmt: skip
