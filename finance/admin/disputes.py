"""The console's page of disputes."""

from __future__ import annotations

from django.contrib import admin
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy, ngettext

from accounts import grants
from finance import disputes
from finance.admin.cells import amount, vendor
from finance.models import Dispute
from finance.states import ACTIVE_DISPUTES, DisputeStatus
from mestore.lib.console import (
    ConsoleModelAdmin,
    Ordering,
    ReasonAction,
    SearchField,
    State,
    choice_filter,
    display,
)

grants.register_model_permission(
    "finance.dispute", view="commissions.read.read_only", change="commissions.manage.global"
)
CHANGE = "finance.change_dispute"
WORDS = {
    DisputeStatus.OPEN: (State.WARNING, gettext_lazy("open")),
    DisputeStatus.IN_REVIEW: (State.UNKNOWN, gettext_lazy("under review")),
    DisputeStatus.RESOLVED: (State.GOOD, gettext_lazy("decided for the vendor")),
    DisputeStatus.REFUSED: (State.GOOD, gettext_lazy("decided against the vendor")),
}


def _is_active(dispute: Dispute) -> bool:
    return dispute.status in ACTIVE_DISPUTES


REVIEW = ReasonAction(
    name="review",
    verb=gettext_lazy("Take under review"),
    question=lambda count: ngettext("Review %d dispute?", "Review %d disputes?", count) % count,
    effect=gettext_lazy("The vendor sees that somebody looks at it."),
    undo=gettext_lazy("No; it is decided next."),
    done=lambda count: (
        ngettext("%d dispute is under review.", "%d disputes are under review.", count) % count
    ),
    permission=CHANGE,
    run=disputes.review,
    offered=lambda dispute: dispute.status == DisputeStatus.OPEN,
)
RESOLVE = ReasonAction(
    name="resolve",
    verb=gettext_lazy("Decide for the vendor"),
    question=lambda count: ngettext("Resolve %d dispute?", "Resolve %d disputes?", count) % count,
    effect=gettext_lazy(
        "The reason is told to the vendor and the commission goes on. What the vendor gets back is an "
        "adjustment of its own, which takes a second person."
    ),
    undo=gettext_lazy("No. The vendor may open another dispute."),
    done=lambda count: ngettext("%d dispute is decided.", "%d disputes are decided.", count) % count,
    permission=CHANGE,
    run=disputes.resolve,
    offered=_is_active,
)
REFUSE = ReasonAction(
    name="refuse",
    verb=gettext_lazy("Decide against the vendor"),
    question=lambda count: ngettext("Refuse %d dispute?", "Refuse %d disputes?", count) % count,
    effect=gettext_lazy("The reason is told to the vendor and the commission stands."),
    undo=gettext_lazy("No. The vendor may open another dispute."),
    done=lambda count: ngettext("%d dispute is decided.", "%d disputes are decided.", count) % count,
    permission=CHANGE,
    run=disputes.refuse,
    offered=_is_active,
)


@admin.register(Dispute)
class DisputeAdmin(ConsoleModelAdmin):
    """What vendors disagree with."""

    group, position = "money", 28
    summary = gettext_lazy("What vendors disagree with, newest first. A disputed commission is not settled.")
    empty = gettext_lazy("A dispute appears here when a vendor opens one.")
    list_display = ("what", "state_mark", "who", "charged", "opened_at")
    list_select_related = ("commission", "vendor__vendor_profile")
    numeric_columns = ("charged",)
    list_filter = (
        choice_filter(
            parameter="status",
            title=gettext_lazy("Status"),
            choices=[(status.value, word) for status, (_kind, word) in WORDS.items()],
        ),
    )
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    search_in = (SearchField("id"),)
    search_help_text = gettext_lazy("The id of the dispute")
    reason_actions = (REVIEW, RESOLVE, REFUSE)
    sections = (
        (
            gettext_lazy("Dispute"),
            ("what", "state_mark", "who", "about", "charged", "description", "opened_at"),
        ),
        (gettext_lazy("Decision"), ("resolution", "decided_at")),
    )

    def name_of(self, row: Dispute) -> str:
        return row.subject

    def state_of(self, row: Dispute) -> SafeString:
        return self.state_mark(row)

    @admin.display(description=gettext_lazy("subject"))
    def what(self, dispute: Dispute) -> SafeString:
        return display.two_lines(dispute.subject, dispute.commission.commission_number)

    @admin.display(description=gettext_lazy("status"))
    def state_mark(self, dispute: Dispute) -> SafeString:
        kind, word = WORDS[DisputeStatus(dispute.status)]
        return display.state(kind, word)

    @admin.display(description=gettext_lazy("vendor"))
    def who(self, dispute: Dispute) -> SafeString:
        return vendor(dispute.vendor)

    @admin.display(description=gettext_lazy("commission"))
    def about(self, dispute: Dispute) -> SafeString:
        place = reverse("admin:finance_commission_change", args=[dispute.commission_id])
        return display.link(place, dispute.commission.commission_number)

    @admin.display(description=gettext_lazy("charged"))
    def charged(self, dispute: Dispute) -> SafeString:
        return amount(dispute.commission.commission_amount_minor, dispute.commission.currency)
