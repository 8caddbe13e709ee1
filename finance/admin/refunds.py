"""The console's page of refunds: which wait for their provider, which failed, whose money they were."""

from __future__ import annotations

from collections.abc import Iterable

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy, ngettext

from accounts import grants
from finance import refund_outcomes
from finance.admin.cells import amount
from finance.admin.order_actions import REFUND, STEP_UP
from finance.admin.refund_tables import REFUND_WORDS, parts_of
from finance.models import Refund
from finance.refund_approvals import REFUNDING
from finance.states import RefundStatus
from mestore.lib.actor import Actor
from mestore.lib.console import (
    ConsoleModelAdmin,
    Ordering,
    ReasonAction,
    SearchField,
    Table,
    WindowFilter,
    choice_filter,
    display,
)
from mestore.lib.console.actions import ReasonForm

grants.register_model_permission("finance.refund", view="orders.read.read_only", change=REFUNDING)


class PaidForm(ReasonForm):
    """The provider's own id of the refund."""

    provider_reference = forms.CharField(
        label=gettext_lazy("Provider's reference"), max_length=128, strip=True,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text=gettext_lazy("As the provider's report names it: it belongs to one refund for ever."),
    )  # fmt: skip


def _paid(refund: Refund, *, reason: str, provider_reference: str, by: Actor) -> None:
    refund_outcomes.mark_paid(refund.pk, provider_reference=provider_reference, note=reason, by=by)


def _failed(refund: Refund, *, reason: str, by: Actor) -> None:
    refund_outcomes.mark_failed(refund.pk, failure=reason, by=by)


def _waits(refund: Refund) -> bool:
    return refund.status == RefundStatus.POSTED


MARK_PAID = ReasonAction(
    name="paid",
    verb=gettext_lazy("Mark paid"),
    question=lambda count: ngettext("Mark %d refund paid?", "Mark %d refunds paid?", count) % count,
    effect=gettext_lazy("The buyer has the money: it leaves the clearing account of the provider."),
    undo=gettext_lazy("No."),
    done=lambda count: ngettext("%d refund is paid.", "%d refunds are paid.", count) % count,
    permission=REFUND,
    run=_paid,
    offered=_waits,
    step_up=STEP_UP,
    form=PaidForm,
)
MARK_FAILED = ReasonAction(
    name="failed",
    verb=gettext_lazy("Mark failed"),
    question=lambda count: ngettext("Mark %d refund failed?", "Mark %d refunds failed?", count) % count,
    effect=gettext_lazy(
        "The buyer is still to get it: the order shows the amount, its money is kept apart, and no "
        "settlement pays it to a vendor until it is refunded again or given up."
    ),
    undo=gettext_lazy("No. Refund the order again."),
    done=lambda count: ngettext("%d refund has failed.", "%d refunds have failed.", count) % count,
    permission=REFUND,
    run=_failed,
    offered=_waits,
    step_up=STEP_UP,
)


@admin.register(Refund)
class RefundAdmin(ConsoleModelAdmin):
    """Money that goes back to buyers."""

    group, position = "money", 15
    summary = gettext_lazy("Money that goes back to buyers, newest first.")
    empty = gettext_lazy("A refund appears here when an order is refunded, or cancelled after it was paid.")
    list_display = ("what", "state_mark", "created_at", "why", "back")
    list_select_related = ("order",)
    numeric_columns = ("back",)
    list_filter = (
        choice_filter(
            parameter="status",
            title=gettext_lazy("Status"),
            choices=[(status.value, word) for status, (_kind, word) in REFUND_WORDS.items()],
        ),
        WindowFilter.on("created_at"),
    )
    open_lookups = ("order_id",)
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    search_in = (SearchField("refund_number", "exact", str.upper), SearchField("id"))
    search_help_text = gettext_lazy("The whole refund number or id")
    reason_actions = (MARK_PAID, MARK_FAILED)
    sections = (
        (gettext_lazy("Refund"), ("id", "refund_number", "order_of", "back", "why")),
        (gettext_lazy("Provider"), ("provider", "provider_reference", "failure")),
        (gettext_lazy("Times"), ("created_at", "paid_at", "updated_at")),
    )

    def name_of(self, row: Refund) -> str:
        return row.refund_number

    def state_of(self, row: Refund) -> SafeString:
        return self.state_mark(row)

    @admin.display(description=gettext_lazy("refund"))
    def what(self, refund: Refund) -> SafeString:
        return display.two_lines(refund.refund_number, refund.order.order_number)

    @admin.display(description=gettext_lazy("status"))
    def state_mark(self, refund: Refund) -> SafeString:
        return display.state(*REFUND_WORDS[RefundStatus(refund.status)])

    @admin.display(description=gettext_lazy("order"))
    def order_of(self, refund: Refund) -> SafeString:
        url = reverse("admin:finance_order_change", args=[refund.order_id])
        return display.link(url, refund.order.order_number)

    @admin.display(description=gettext_lazy("reason"))
    def why(self, refund: Refund) -> str:
        return refund.reason

    @admin.display(description=gettext_lazy("amount"))
    def back(self, refund: Refund) -> SafeString:
        return amount(refund.amount_minor, refund.currency)

    def tables(self, request: HttpRequest, row: Refund) -> Iterable[Table]:
        yield parts_of(row)
