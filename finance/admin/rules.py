"""Commission rules: the list, proposing one, approving it as another person, what it would have done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import grants
from accounts.models import User
from finance import charging, rule_changes, rule_preview
from finance.admin.cells import TYPE_WORDS, amount, percent, vendor
from finance.admin.rule_form import RuleForm, in_business_time
from finance.models import CommissionRule
from finance.rule_preview import MOST_SALES, Preview
from finance.states import CommissionType, RuleStatus
from mestore.lib import actor, errors, ids
from mestore.lib.actor import Actor
from mestore.lib.console import ConsoleModelAdmin, Ordering, ReasonAction, SearchField, State, Table, display
from mestore.lib.console.actions import ReasonForm
from mestore.lib.console.filters import choice_filter

grants.register_model_permission(
    "finance.commissionrule", view="commissions.read.read_only", add="commissions.configure.global",
    change="commissions.approve.global",
)  # fmt: skip
PROPOSING = "finance.add_commissionrule"
STATUS_WORDS = {
    RuleStatus.PROPOSED: gettext_lazy("waits for a second person"),
    RuleStatus.ACTIVE: gettext_lazy("approved"),
    RuleStatus.WITHDRAWN: gettext_lazy("withdrawn"),
}


class EndForm(ReasonForm):
    """When a rule ends, and why."""

    at = forms.DateTimeField(
        label=gettext_lazy("Ends"), required=False, help_text=gettext_lazy("Bogotá time. Nothing: now."),
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "autocomplete": "off"}),
    )  # fmt: skip


def _approve(row: CommissionRule, *, reason: str, by: Actor) -> None:
    rule_changes.approve(row.pk, reason=reason, by=by)


def _withdraw(row: CommissionRule, *, reason: str, by: Actor) -> None:
    rule_changes.withdraw(row.pk, reason=reason, by=by)


def _end(row: CommissionRule, *, reason: str, at: Any = None, by: Actor) -> None:
    rule_changes.end(row.pk, reason=reason, at=in_business_time(at), by=by)


def _has_begun(row: CommissionRule) -> bool:
    return bool(row.valid.lower <= timezone.now())


def _is_over(row: CommissionRule) -> bool:
    return row.valid.upper is not None and row.valid.upper <= timezone.now()


APPROVE = ReasonAction(
    name="approve",
    verb=gettext_lazy("Approve"),
    question=lambda count: ngettext("Approve %d rule?", "Approve %d rules?", count) % count,
    effect=gettext_lazy("Sales are charged by it from its beginning on, where no other rule goes before it."),
    undo=gettext_lazy("It can be ended; sales that were charged by it stay as they are."),
    done=lambda count: ngettext("%d rule was approved.", "%d rules were approved.", count) % count,
    permission="finance.change_commissionrule",
    run=_approve,
    offered=lambda row: row.status == RuleStatus.PROPOSED,
    step_up="commission_rules.approve",
)
END = ReasonAction(
    name="end",
    verb=gettext_lazy("End"),
    question=lambda count: ngettext("End %d rule?", "End %d rules?", count) % count,
    effect=gettext_lazy("Sales are not charged by it any more, now or from the moment you give."),
    undo=gettext_lazy("No: another rule would be proposed and approved."),
    done=lambda count: ngettext("%d rule ends.", "%d rules end.", count) % count,
    permission=PROPOSING,
    run=_end,
    offered=lambda row: row.status == RuleStatus.ACTIVE and _has_begun(row) and not _is_over(row),
    form=EndForm,
)
WITHDRAW = ReasonAction(
    name="withdraw",
    verb=gettext_lazy("Withdraw"),
    question=lambda count: ngettext("Withdraw %d rule?", "Withdraw %d rules?", count) % count,
    effect=gettext_lazy("It never comes into force."),
    undo=gettext_lazy("No: it would be proposed anew."),
    done=lambda count: ngettext("%d rule was withdrawn.", "%d rules were withdrawn.", count) % count,
    permission=PROPOSING,
    run=_withdraw,
    offered=lambda row: (
        row.status == RuleStatus.PROPOSED or (row.status == RuleStatus.ACTIVE and not _has_begun(row))
    ),
)


@admin.register(CommissionRule)
class CommissionRuleAdmin(ConsoleModelAdmin):
    """What sales are charged by."""

    group, position = "money", 25
    summary = gettext_lazy(
        "What sales are charged by. Of the rules that match the highest priority wins, then the narrower"
        " one; without any, the rates of the settings hold."
    )
    empty = gettext_lazy("No rule: sales are charged by the rates of the settings.")
    list_display = ("what", "state", "scope", "rate_text", "begins", "until", "priority")
    list_select_related = ("vendor", "vendor__vendor_profile")
    list_filter = (
        choice_filter(
            parameter="status",
            title=gettext_lazy("Status"),
            choices=[(status.value, word) for status, word in STATUS_WORDS.items()],
        ),
    )
    orderings = (Ordering("recorded", gettext_lazy("newest recorded"), ("-id",)),)
    numeric_columns = ("rate_text", "priority")
    search_in = (SearchField("id"), SearchField("name", "exact"))
    search_help_text = gettext_lazy("The whole name or id of a rule")
    reason_actions = (APPROVE, END, WITHDRAW)
    sections = (
        (gettext_lazy("Rule"), ("id", "name", "type_word", "scope", "priority", "begins", "until", "reason")),
        (gettext_lazy("Terms"), ("rate_text", "fixed", "floor", "cap", "tier_lines", "terms_hash")),
        (gettext_lazy("People"), ("proposed_by", "approved_by", "created_at", "updated_at")),
    )

    @admin.display(description=gettext_lazy("rule"))
    def what(self, row: CommissionRule) -> SafeString:
        return display.two_lines(row.name, TYPE_WORDS[CommissionType(row.commission_type)])

    @admin.display(description=gettext_lazy("status"))
    def state(self, row: CommissionRule) -> SafeString | str:
        if row.status == RuleStatus.PROPOSED:
            return display.state(State.WARNING, STATUS_WORDS[RuleStatus.PROPOSED])
        if row.status == RuleStatus.WITHDRAWN:
            return str(STATUS_WORDS[RuleStatus.WITHDRAWN])
        if _is_over(row):
            return _("ended")
        return display.state(State.GOOD, _("in force")) if _has_begun(row) else _("begins later")

    def state_of(self, row: CommissionRule) -> SafeString | str:
        return self.state(row)

    @admin.display(description=gettext_lazy("for"))
    def scope(self, row: CommissionRule) -> SafeString | str:
        parts = [
            _("%(what)s %(which)s") % {"what": what, "which": which}
            for what, which in (
                (_("product"), row.product_id), (_("order"), row.order_reference),
                (_("category"), row.category),
            )
            if which
        ]  # fmt: skip
        text = ", ".join(parts) or (_("all goods") if row.vendor_id else _("everything"))
        return display.two_lines(vendor(row.vendor), text) if row.vendor_id else text

    @admin.display(description=gettext_lazy("rate"))
    def rate_text(self, row: CommissionRule) -> SafeString:
        return display.numeric(f"{percent(row.rate_ppm)}{' …' if row.tiers else ''}")

    @admin.display(description=gettext_lazy("begins"))
    def begins(self, row: CommissionRule) -> SafeString:
        return display.moment(row.valid.lower)

    @admin.display(description=gettext_lazy("ends"))
    def until(self, row: CommissionRule) -> SafeString | str:
        return display.moment(row.valid.upper) if row.valid.upper else _("open")

    @admin.display(description=gettext_lazy("type"))
    def type_word(self, row: CommissionRule) -> str:
        return str(TYPE_WORDS[CommissionType(row.commission_type)])

    @admin.display(description=gettext_lazy("fixed fee"))
    def fixed(self, row: CommissionRule) -> SafeString:
        return amount(row.fixed_minor, row.currency)

    @admin.display(description=gettext_lazy("at least"))
    def floor(self, row: CommissionRule) -> SafeString | str:
        return "" if row.floor_minor is None else amount(row.floor_minor, row.currency)

    @admin.display(description=gettext_lazy("at most"))
    def cap(self, row: CommissionRule) -> SafeString | str:
        return "" if row.cap_minor is None else amount(row.cap_minor, row.currency)

    @admin.display(description=gettext_lazy("volume tiers"))
    def tier_lines(self, row: CommissionRule) -> str:
        words = [
            _("from %(sold)s: %(rate)s") % {"sold": amount(sold, row.currency), "rate": percent(rate)}
            for sold, rate in row.tiers
        ]
        return "; ".join(words)

    @admin.display(description=gettext_lazy("SHA-256 of the terms"))
    def terms_hash(self, row: CommissionRule) -> SafeString:
        return display.code(bytes(row.rule_hash).hex())

    def list_links(self, request: HttpRequest) -> Iterable[tuple[str, str]]:
        if request.user.has_perm(PROPOSING):
            yield _("Propose a rule"), reverse("admin:finance_commissionrule_propose")

    def links(self, request: HttpRequest, row: CommissionRule) -> Iterable[tuple[str, str]]:
        yield (
            _("What it would have done last month"),
            reverse("admin:finance_commissionrule_preview", args=[row.pk]),
        )

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("propose/", wrap(self.propose_view), name="finance_commissionrule_propose"),
            path("<uuid:rule_id>/preview/", wrap(self.preview_view), name="finance_commissionrule_preview"),
        ]
        return own + super().get_urls()

    def propose_view(self, request: HttpRequest) -> HttpResponse:
        """The form: look at what the rule would have done, then propose it."""
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(("GET", "HEAD", "POST"))
        if not request.user.has_perm(PROPOSING):
            raise PermissionDenied
        form = RuleForm(request.POST if request.method == "POST" else None, initial={"currency": "COP"})
        shown: Preview | None = None
        if form.is_valid():
            try:
                if "preview" not in request.POST:
                    return self._propose(request, form)
                shown = self._look(form)
            except rule_changes.RuleInvalid as refused:
                _mark(form, refused)
        context = {
            **self.admin_site.each_context(request), "title": _("Propose a rule"), "list_title": self.title,
            "summary": _("It comes into force when another person has approved it."), "form": form,
            "back": reverse("admin:finance_commissionrule_changelist"),
            "tables": [] if shown is None else list(preview_tables(shown)),
        }  # fmt: skip
        status = 400 if form.errors else 200
        return TemplateResponse(request, "console/rule_form.html", context, status=status)

    def _propose(self, request: HttpRequest, form: RuleForm) -> HttpResponse:
        reason = form.cleaned_data["reason"]
        row = rule_changes.propose(form.proposal(), reason=reason, by=actor.of(request))
        messages.success(request, _("The rule waits for a second person to approve it."))
        return HttpResponseRedirect(reverse("admin:finance_commissionrule_change", args=[row.pk]))

    def _look(self, form: RuleForm) -> Preview:
        proposal = form.proposal()
        rule = proposal.rule(ids.uuid7())
        rule_changes.check(proposal, rule)
        return rule_preview.of(rule)

    def preview_view(self, request: HttpRequest, rule_id: Any) -> HttpResponse:
        """What a stored rule would have done last month."""
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(("GET", "HEAD"))
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, str(rule_id))
        if row is None:
            raise Http404
        context = {
            **self.admin_site.each_context(request),
            "title": _("What “%(name)s” would have done") % {"name": row.name},
            "back": (row.name, reverse("admin:finance_commissionrule_change", args=[row.pk])),
            "tables": list(preview_tables(rule_preview.of(charging.rule_of(row)))),
        }
        return TemplateResponse(request, "console/tables.html", context)


def preview_tables(found: Preview) -> Iterable[Table]:
    """Show a preview: the whole, then the vendors with the largest difference."""
    note = _("Sales of %(month)s in %(currency)s, read now: %(count)s.") % {
        "month": f"{found.month:%Y-%m}", "currency": found.currency, "count": display.number(found.read),
    }  # fmt: skip
    if found.is_partial:
        note += " " + _("Only the first %(most)s sales of the month were read.") % {
            "most": display.number(MOST_SALES)
        }
    whole = found.affected

    def cells(minor: int) -> SafeString:
        return amount(minor, found.currency)

    figures = (_("Sales it takes"), _("Commission then"), _("With this rule"), _("Difference"))
    yield Table(
        title=_("Last month with this rule"), headers=figures, note=note, numeric=frozenset(range(4)),
        rows=[
            (display.number(whole.sales), cells(whole.before), cells(whole.after), cells(whole.difference))
        ],
    )  # fmt: skip
    people = User.objects.select_related("vendor_profile").in_bulk([pk for pk, _effect in found.vendors])
    yield Table(
        title=_("Vendors with the largest difference"), headers=(_("Vendor"), *figures),
        numeric=frozenset(range(1, 5)), empty=_("The rule would have taken no sale of that month."),
        rows=[
            (
                vendor(people[pk]), display.number(effect.sales), cells(effect.before), cells(effect.after),
                cells(effect.difference),
            )
            for pk, effect in found.vendors
            if pk in people
        ],
    )  # fmt: skip


def _mark(form: RuleForm, refused: errors.MeStoreError) -> None:
    for detail in refused.details or ():
        name = detail.field.rpartition(" ")[2]
        form.add_error(name if name in form.fields else None, str(detail.message))
