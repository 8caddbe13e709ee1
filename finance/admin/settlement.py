"""Runs of the settlement, and the closes of the books."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import grants
from finance import periods, selectors
from finance.admin.cells import amount
from finance.models import PeriodClose, SettlementRun
from mestore.lib import actor, guard
from mestore.lib.console import ConsoleModelAdmin, Ordering, ReasonAction, SearchField, State, Table, display
from mestore.lib.console import actions as console_actions
from mestore.lib.console.actions import ReasonForm
from mestore.lib.errors import MeStoreError

VIEW = "transactions.read.read_only"
grants.register_model_permission("finance.settlementrun", view=VIEW)
grants.register_model_permission("finance.periodclose", view=VIEW, change=periods.ASKING)


@admin.register(SettlementRun)
class SettlementRunAdmin(ConsoleModelAdmin):
    """What became available to vendors, run by run."""

    group = "money"
    position = 35
    label = gettext_lazy("Settlements")
    summary = gettext_lazy(
        "Each run moves what vendors earned from pending to available when its hold is over; "
        "what they owe is taken first."
    )
    empty = gettext_lazy("Runs appear here when the worker settles, every morning, or by manage.py settle.")
    list_display = ("started", "due_before", "vendor_count", "commission_count", "moved")
    numeric_columns = ("vendor_count", "commission_count", "moved")
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-started_at", "-id")),)
    search_in = (SearchField("id"),)
    search_help_text = gettext_lazy("The whole id of the run")
    sections = (
        (gettext_lazy("Run"), ("id", "due_before")),
        (gettext_lazy("Times"), ("started_at", "finished_at")),
        (gettext_lazy("Settled"), ("vendor_count", "commission_count")),
    )

    @admin.display(description=gettext_lazy("started"))
    def started(self, run: SettlementRun) -> SafeString:
        return display.two_lines(display.moment(run.started_at), self.state_of(run))

    @admin.display(description=gettext_lazy("vendors and currencies"))
    def vendor_count(self, run: SettlementRun) -> SafeString:
        return display.numeric(display.number(run.vendors))

    @admin.display(description=gettext_lazy("commissions"))
    def commission_count(self, run: SettlementRun) -> SafeString:
        return display.numeric(display.number(run.commissions))

    @admin.display(description=gettext_lazy("moved"))
    def moved(self, run: SettlementRun) -> SafeString | str:
        sums = [amount(int(minor), currency) for currency, minor in sorted(run.totals.items())]
        if len(sums) > 1:
            return display.two_lines(sums[0], _("and %(count)d other currencies") % {"count": len(sums) - 1})
        return sums[0] if sums else _("nothing was due")

    def name_of(self, row: SettlementRun) -> str:
        return _("Settlement of %(day)s") % {"day": f"{row.started_at:%Y-%m-%d %H:%M}"}

    def state_of(self, row: SettlementRun) -> SafeString:
        if row.finished_at is None:
            return display.state(State.WARNING, _("under way, or stopped: the next run completes it"))
        return display.state(State.GOOD, _("finished"))

    def tables(self, request: HttpRequest, row: SettlementRun) -> Iterable[Table]:
        yield Table(
            title=_("Settled by currency"),
            headers=[_("Currency"), _("Amount")],
            rows=[(name, amount(int(minor), name)) for name, minor in sorted(row.totals.items())],
            empty=_("Nothing was due."),
            note=_("Each vendor has one entry per currency; its source names this run."),
            numeric=frozenset({1}),
        )


class CloseForm(ReasonForm):
    """Up to the end of which day."""

    day = forms.DateField(
        label=gettext_lazy("Last day that is closed"),
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text=gettext_lazy("In business time. Nothing of this day or before is posted any more."),
    )


def _ask_for_close(_row: Any, *, day: dt.date, reason: str, by: actor.Actor) -> None:
    periods.ask(selectors.start_of(day + dt.timedelta(days=1)), reason=reason, by=by)


ASK = ReasonAction(
    name="close",
    verb=gettext_lazy("Close a period"),
    question=lambda _count: _("Ask for the books to be closed?"),
    effect=gettext_lazy("A second person decides. With their yes nothing of before is posted any more."),
    undo=gettext_lazy("No: a close stays. What is found out later is posted with a moment of now."),
    done=lambda _count: _("Asked. Somebody else has to approve it."),
    permission="finance.change_periodclose",
    run=_ask_for_close,
    step_up=periods.STEP_UP,
    form=CloseForm,
)


@admin.register(PeriodClose)
class PeriodCloseAdmin(ConsoleModelAdmin):
    """Up to when the books are closed."""

    group = "money"
    position = 75
    label = gettext_lazy("Closed periods")
    summary = gettext_lazy("Nothing that occurred before the newest of these is posted any more.")
    empty = gettext_lazy("The books were never closed.")
    list_display = ("until", "closed_at", "why")
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    sections = (
        (gettext_lazy("Close"), ("id", "closed_until", "reason")),
        (gettext_lazy("Who and when"), ("closed_by", "closed_at")),
    )

    @admin.display(description=gettext_lazy("closed until"))
    def until(self, close: PeriodClose) -> SafeString:
        return display.moment(close.closed_until)

    @admin.display(description=gettext_lazy("reason"))
    def why(self, close: PeriodClose) -> str:
        return close.reason

    def list_links(self, request: HttpRequest) -> Iterable[tuple[str, str]]:
        if ASK.allowed(request):
            yield str(ASK.verb), reverse("admin:finance_periodclose_ask")

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.ask_view)
        return [path("ask/", view, name="finance_periodclose_ask"), *super().get_urls()]

    def ask_view(self, request: HttpRequest) -> HttpResponse:
        """Ask up to when and why, then ask a second person."""
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(("GET", "HEAD", "POST"))
        if not self.has_view_permission(request) or not ASK.allowed(request):
            raise PermissionDenied
        request.step_up_back = request.path  # type: ignore[attr-defined]  # read at the edge
        guard.require(ASK.step_up, request)
        form = CloseForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            return self._asked(request, form)
        try:
            ASK.run(None, **form.cleaned_data, by=actor.of(request))
        except MeStoreError as refused:
            form.add_error(None, str(refused.message))
            return self._asked(request, form, status=refused.status)
        messages.success(request, ASK.done(1))
        return HttpResponseRedirect(reverse("admin:finance_periodclose_changelist"))

    def _asked(self, request: HttpRequest, form: CloseForm, status: int | None = None) -> HttpResponse:
        until = periods.closed_until()
        words = display.moment(until) if until else _("The books were never closed.")
        return console_actions.ask(
            request, ASK, rows=[("books", str(words))], form=form, site=self.admin_site,
            back=(self.title, reverse("admin:finance_periodclose_changelist")), status=status,
        )  # fmt: skip
