"""Commissions."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from finance import commission_explain, commissions
from finance.admin.cells import (
    COMMISSION_WORDS,
    TYPE_WORDS,
    amount,
    entry_link,
    percent,
    vendor,
)
from finance.commission_explanation import GroupExplanation, Step
from finance.models import Commission
from finance.money import text_of
from finance.states import CommissionStatus, CommissionType
from mestore.lib import console
from mestore.lib.actor import Actor
from mestore.lib.console import (
    ConsoleModelAdmin,
    Ordering,
    ReasonAction,
    SearchField,
    State,
    Table,
    WindowFilter,
    display,
)

WHY_WORDS = {
    "priority": gettext_lazy("its priority is higher"),
    "product": gettext_lazy("it names the product"),
    "order": gettext_lazy("it names the order"),
    "category": gettext_lazy("it names the category"),
    "vendor": gettext_lazy("it names the vendor"),
    "id": gettext_lazy("it is the newer one"),
    "only": gettext_lazy("no other rule matched"),
    "default": gettext_lazy("no rule matched: the rate of the settings"),
}
STEP_WORDS = {
    "base": gettext_lazy("base"),
    "tier": gettext_lazy("volume tier"),
    "rate": gettext_lazy("rate"),
    "fixed": gettext_lazy("fixed fee"),
    "floor": gettext_lazy("floor"),
    "cap": gettext_lazy("cap"),
    "goods": gettext_lazy("never more than the goods"),
    "fee_tax": gettext_lazy("tax on the commission"),
}


def _approve(row: Commission, *, reason: str, by: Actor) -> None:
    commissions.approve(row.pk, notes=reason, by=by)


APPROVE = ReasonAction(
    name="approve",
    verb=gettext_lazy("Approve"),
    question=lambda count: ngettext("Approve %d commission?", "Approve %d commissions?", count) % count,
    effect=gettext_lazy("Its money is settled to the vendor when the hold is over."),
    undo=gettext_lazy("A dispute stops it until it is settled."),
    done=lambda count: (
        ngettext("%d commission was approved.", "%d commissions were approved.", count) % count
    ),
    permission="finance.change_commission",
    run=_approve,
    offered=lambda row: row.status == CommissionStatus.PENDING,
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
    reason_actions = (APPROVE,)
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
        (
            gettext_lazy("Amounts"),
            ("base", "rate_text", "kept", "paid_on", "fee_tax", "withheld", "given_back"),
        ),
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

    @admin.display(description=gettext_lazy("tax on the commission"))
    def fee_tax(self, commission: Commission) -> SafeString:
        return amount(commission.fee_tax_minor, commission.currency)

    @admin.display(description=gettext_lazy("withheld"))
    def withheld(self, commission: Commission) -> SafeString:
        return amount(commission.withheld_minor, commission.currency)

    @admin.display(description=gettext_lazy("given back with refunds"))
    def given_back(self, commission: Commission) -> SafeString:
        return amount(commission.reversed_minor, commission.currency)

    def tables(self, request: HttpRequest, row: Commission) -> Iterable[Table]:
        """How it came about: the rules that matched, and the arithmetic step by step."""
        try:
            found = commission_explain.of(row)
        except commission_explain.NoTerms:
            return
        for group in found.told.groups:
            yield _steps_of(group, row.currency)
        if any(group.rivals for group in found.told.groups):
            yield _rivals_of(found.told.groups)
        yield _deductions_of(found.told.deductions, row.currency, agrees=found.agrees)


def _steps_of(group: GroupExplanation, currency: str) -> Table:
    lines = ", ".join(str(line[0]) for line in group.lines[:20]) + (" …" if len(group.lines) > 20 else "")
    return Table(
        title=_("Charged by “%(rule)s”") % {"rule": group.rule.name},
        note=_("Lines %(lines)s. It was chosen because: %(why)s.")
        % {"lines": lines, "why": WHY_WORDS[group.why]},
        headers=[_("Step"), _("Figures"), _("Amount")],
        rows=[_step(step, currency) for step in group.steps],
        numeric=frozenset({2}),
    )


def _rivals_of(groups: Iterable[GroupExplanation]) -> Table:
    return Table(
        title=_("Rules that matched too"),
        headers=[_("Rule"), _("Rate"), _("Priority"), _("What the rule that won has over it")],
        rows=[
            (
                display.link(
                    reverse("admin:finance_commissionrule_change", args=[rival.rule.id]), rival.rule.name
                ),
                percent(rival.rule.rate_ppm),
                rival.rule.priority,
                WHY_WORDS[rival.why],
            )
            for group in groups
            for rival in group.rivals
        ],
        numeric=frozenset({1, 2}),
    )


def _deductions_of(steps: Iterable[Step], currency: str, *, agrees: bool) -> Table:
    note = _("Done again just now, from the terms that were kept: it is what was charged.")
    if not agrees:
        note = _("Done again just now, from the terms that were kept: it is NOT what was charged.")
    return Table(
        title=_("What comes off the vendor's money besides"),
        note=note,
        headers=[_("Step"), _("Figures"), _("Amount")],
        rows=[_step(step, currency) for step in steps],
        numeric=frozenset({2}),
    )


def _step(step: Step, currency: str) -> tuple[str, str, SafeString]:
    return (
        str(STEP_WORDS.get(step.name, step.name)),
        step.figures,
        display.amount(text_of(step.minor, currency), currency),
    )
