"""The console's pages of reconciliation: reports, and the cases where they differ from the ledger."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib import admin
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import grants
from finance import reconciliation
from finance.admin.cells import amount
from finance.models import ProviderReport, ReconciliationCase
from finance.states import CaseKind, CaseState, ReportKind
from mestore.lib.console import (
    ConsoleModelAdmin,
    Ordering,
    ReasonAction,
    SearchField,
    State,
    Table,
    choice_filter,
    display,
)

grants.register_model_permission(
    "finance.reconciliationcase", view="transactions.read.read_only", change="transactions.manage.global"
)
grants.register_model_permission("finance.providerreport", view="transactions.read.read_only")
CHANGE = "finance.change_reconciliationcase"
KIND_WORDS = {
    CaseKind.MISSING_IN_LEDGER: gettext_lazy("not in the ledger"),
    CaseKind.MISSING_AT_PROVIDER: gettext_lazy("not in the provider's report"),
    CaseKind.MISSING_AT_BANK: gettext_lazy("not in the bank's report"),
    CaseKind.AMOUNT_DIFFERS: gettext_lazy("another amount"),
    CaseKind.CURRENCY_DIFFERS: gettext_lazy("another currency"),
    CaseKind.STATE_DIFFERS: gettext_lazy("another state"),
    CaseKind.REPORTED_TWICE: gettext_lazy("reported twice"),
}
STATE_WORDS = {
    CaseState.OPEN: (State.WARNING, gettext_lazy("to be decided")),
    CaseState.EXPLAINED: (State.GOOD, gettext_lazy("explained")),
    CaseState.CORRECTED: (State.GOOD, gettext_lazy("corrected")),
    CaseState.VANISHED: (State.UNKNOWN, gettext_lazy("vanished")),
}
REPORT_WORDS = {
    ReportKind.PROVIDER: gettext_lazy("payment provider"),
    ReportKind.BANK: gettext_lazy("bank"),
}
_SHOWN_CASES = 100


def _is_open(case: ReconciliationCase) -> bool:
    return case.state == CaseState.OPEN


EXPLAIN = ReasonAction(
    name="explain",
    verb=gettext_lazy("Explain"),
    question=lambda count: ngettext("Explain %d case?", "Explain %d cases?", count) % count,
    effect=gettext_lazy("The difference is right as it is, for the reason given; it is not found again."),
    undo=gettext_lazy("No. A difference of another amount is a case of its own."),
    done=lambda count: ngettext("%d case is explained.", "%d cases are explained.", count) % count,
    permission=CHANGE,
    run=reconciliation.explain,
    offered=_is_open,
)
CORRECT = ReasonAction(
    name="correct",
    verb=gettext_lazy("Corrected"),
    question=lambda count: (
        ngettext("Close %d case as corrected?", "Close %d cases as corrected?", count) % count
    ),
    effect=gettext_lazy("It was put right elsewhere; say where. Found again, it opens another case."),
    undo=gettext_lazy("No; if it is still there, the next comparison finds it."),
    done=lambda count: ngettext("%d case is closed.", "%d cases are closed.", count) % count,
    permission=CHANGE,
    run=reconciliation.correct,
    offered=_is_open,
)


@admin.register(ReconciliationCase)
class ReconciliationCaseAdmin(ConsoleModelAdmin):
    """Differences between ledger, provider and bank."""

    group, position = "money", 50
    label = gettext_lazy("Reconciliation")
    summary = gettext_lazy("Where ledger, provider and bank differ, newest first.")
    empty = gettext_lazy("`manage.py reconcile import` takes a report in; a difference becomes a case here.")
    list_display = ("what", "state_mark", "provider", "in_ledger", "in_report", "opened_at")
    numeric_columns = ("in_ledger", "in_report")
    list_filter = (
        choice_filter(
            parameter="state",
            title=gettext_lazy("State"),
            choices=[(state.value, word) for state, (_kind, word) in STATE_WORDS.items()],
        ),
        choice_filter(
            parameter="kind",
            title=gettext_lazy("Difference"),
            choices=[(kind.value, word) for kind, word in KIND_WORDS.items()],
        ),
    )
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    search_in = (SearchField("id"),)
    search_help_text = gettext_lazy("The id of the case")
    reason_actions = (EXPLAIN, CORRECT)
    sections = (
        (
            gettext_lazy("Difference"),
            ("what", "state_mark", "provider", "in_ledger", "in_report", "about", "source", "opened_at"),
        ),
        (gettext_lazy("Decision"), ("resolution", "decided_at")),
    )

    def name_of(self, row: ReconciliationCase) -> str:
        return row.reference

    def state_of(self, row: ReconciliationCase) -> SafeString:
        return self.state_mark(row)

    @admin.display(description=gettext_lazy("difference"))
    def what(self, case: ReconciliationCase) -> SafeString:
        return display.two_lines(KIND_WORDS[CaseKind(case.kind)], case.reference)

    @admin.display(description=gettext_lazy("state"))
    def state_mark(self, case: ReconciliationCase) -> SafeString:
        kind, word = STATE_WORDS[CaseState(case.state)]
        return display.state(kind, word)

    @admin.display(description=gettext_lazy("in the ledger"))
    def in_ledger(self, case: ReconciliationCase) -> SafeString | str:
        return "–" if case.ledger_minor is None else amount(case.ledger_minor, case.currency)

    @admin.display(description=gettext_lazy("in the report"))
    def in_report(self, case: ReconciliationCase) -> SafeString | str:
        return "–" if case.provider_minor is None else amount(case.provider_minor, case.currency)

    @admin.display(description=gettext_lazy("about"))
    def about(self, case: ReconciliationCase) -> SafeString | str:
        if not case.target_type:
            return "–"
        try:
            place = reverse(f"admin:finance_{case.target_type}_change", args=[case.target_id])
        except NoReverseMatch:
            return f"{case.target_type} {case.target_id}"
        return display.link(place, f"{case.target_type} {case.target_id}")

    @admin.display(description=gettext_lazy("report"))
    def source(self, case: ReconciliationCase) -> SafeString | str:
        if case.report_id is None:
            return _("comparison of imported orders")
        return display.link(
            reverse("admin:finance_providerreport_change", args=[case.report_id]), case.report
        )


@admin.register(ProviderReport)
class ProviderReportAdmin(ConsoleModelAdmin):
    """Reports that were taken in."""

    group, position = "money", 51
    label = gettext_lazy("Reports of providers and banks")
    summary = gettext_lazy("Which reports were taken in, newest first, and what they add up to.")
    empty = gettext_lazy("`manage.py reconcile import` takes one in.")
    list_display = ("what", "kind_word", "record_count", "rejected_count", "imported_at", "matched_at")
    numeric_columns = ("record_count", "rejected_count")
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    search_in = (SearchField("id"),)
    search_help_text = gettext_lazy("The id of the report")
    sections = (
        (
            gettext_lazy("Report"),
            ("what", "kind_word", "since", "until", "imported_by", "imported_at", "matched_at", "file_hash"),
        ),
        (gettext_lazy("Lines"), ("record_count", "rejected_count")),
    )

    def name_of(self, row: ProviderReport) -> str:
        return row.file_name

    @admin.display(description=gettext_lazy("report"))
    def what(self, report: ProviderReport) -> SafeString:
        return display.two_lines(report.file_name, report.provider)

    @admin.display(description=gettext_lazy("of"))
    def kind_word(self, report: ProviderReport) -> str:
        return str(REPORT_WORDS[ReportKind(report.kind)])

    @admin.display(description=gettext_lazy("SHA-256 of the file"))
    def file_hash(self, report: ProviderReport) -> SafeString:
        return display.code(bytes(report.file_digest).hex())

    def tables(self, request: HttpRequest, row: ProviderReport) -> Iterable[Table]:
        """What it adds up to, and where it differs."""
        yield Table(
            title=_("Totals"),
            headers=(_("Kind"), _("Lines"), _("Amount"), _("Fees")),
            rows=[
                (
                    one["kind"], one["count"], amount(one["minor"], one["currency"]),
                    amount(one["fee_minor"], one["currency"]),
                )
                for one in row.totals
            ],
            empty=_("Nothing."),
            numeric=frozenset({1, 2, 3}),
        )  # fmt: skip
        cases = row.cases.order_by("-id")[:_SHOWN_CASES]
        yield Table(
            title=_("Differences"),
            headers=(_("Reference"), _("Difference"), _("State")),
            rows=[
                (
                    display.link(
                        reverse("admin:finance_reconciliationcase_change", args=[case.pk]), case.reference
                    ),
                    KIND_WORDS[CaseKind(case.kind)],
                    display.state(*STATE_WORDS[CaseState(case.state)]),
                )
                for case in cases
            ],
            empty=_("It says what the ledger says."),
        )
