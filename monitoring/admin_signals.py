"""The console's page about signals: the worst first, what each rests on, and what was done about it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mestore.lib import charts, sql
from mestore.lib.actor import Actor
from mestore.lib.console import (
    ConsoleModelAdmin,
    Ordering,
    Panel,
    ReasonAction,
    SearchField,
    State,
    Table,
    WindowFilter,
    choice_filter,
    collect,
    display,
    panel,
)
from mestore.lib.console.actions import ReasonForm
from mestore.lib.console.filters import LinkFilter
from monitoring import alert_notices, alerts, events, selectors, triage
from monitoring.signals import ArchiveReason, Severity, Signal, SignalState

CHANGE = "monitoring.change_signal"
TIMELINE = 50
CHART_DAYS = 30
_MARKS = {
    Severity.INFO: State.PLAIN, Severity.LOW: State.PLAIN, Severity.MEDIUM: State.WARNING,
    Severity.HIGH: State.WARNING, Severity.CRITICAL: State.CRITICAL,
}  # fmt: skip
_STATES = {
    SignalState.OPEN: State.WARNING, SignalState.REVIEWING: State.UNKNOWN, SignalState.ARCHIVED: State.GOOD,
}  # fmt: skip

CHART_ROWS = 10_000
# Both charts from one reading: how many of each severity stand where, and how long they waited for a look.
_FIGURES = """
SELECT severity, state, count(state), count(triaged_at),
       coalesce(sum(extract(epoch FROM triaged_at - first_seen_at)), 0)::bigint
  FROM (SELECT severity, state, triaged_at, first_seen_at FROM monitoring_signal
         WHERE last_seen_at > %s ORDER BY last_seen_at DESC LIMIT %s) AS newest
 GROUP BY severity, state
"""


class AssignForm(ReasonForm):
    """To whom."""

    to = forms.CharField(
        label=gettext_lazy("Owner"),
        max_length=254,
        help_text=gettext_lazy("The e-mail address of a member of the staff who may act on signals."),
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )


class AcknowledgeForm(ReasonForm):
    """For how long."""

    days = forms.IntegerField(
        label=gettext_lazy("Quiet for how many days"),
        min_value=1,
        max_value=triage.LONGEST_QUIET.days,
        initial=1,
        help_text=gettext_lazy("It counts on meanwhile, and comes back earlier should it become worse."),
    )


class ArchiveForm(ReasonForm):
    """As what."""

    archived_as = forms.ChoiceField(label=gettext_lazy("What it was"), choices=ArchiveReason.choices)


def _take(signal: Signal, *, reason: str, by: Actor) -> None:
    triage.assign(signal, to=by.id or "", reason=reason, by=by)


def _acknowledge(signal: Signal, *, days: int, reason: str, by: Actor) -> None:
    triage.acknowledge(signal, until=timezone.now() + dt.timedelta(days=days), reason=reason, by=by)


def _is_live(signal: Signal) -> bool:
    return signal.state != SignalState.ARCHIVED


TAKE = ReasonAction(
    name="take",
    verb=gettext_lazy("Take"),
    question=lambda count: ngettext("Take %d signal?", "Take %d signals?", count) % count,
    effect=gettext_lazy("You become the owner: others see that you look after it."),
    undo=gettext_lazy("Yes: it can be assigned to somebody else."),
    done=lambda count: ngettext("%d signal is yours.", "%d signals are yours.", count) % count,
    permission=CHANGE,
    run=_take,
    offered=_is_live,
)
ASSIGN = ReasonAction(
    name="assign",
    verb=gettext_lazy("Assign"),
    question=lambda count: ngettext("Assign %d signal?", "Assign %d signals?", count) % count,
    effect=gettext_lazy("The person becomes the owner."),
    undo=gettext_lazy("Yes: it can be assigned to somebody else."),
    done=lambda count: ngettext("%d signal assigned.", "%d signals assigned.", count) % count,
    permission=CHANGE,
    run=triage.assign,
    offered=_is_live,
    form=AssignForm,
)
REVIEW = ReasonAction(
    name="review",
    verb=gettext_lazy("Begin review"),
    question=lambda count: ngettext("Review %d signal?", "Review %d signals?", count) % count,
    effect=gettext_lazy("The signal is under review; the time until somebody looked ends here."),
    undo=gettext_lazy("No: what was looked at was looked at."),
    done=lambda count: ngettext("%d signal under review.", "%d signals under review.", count) % count,
    permission=CHANGE,
    run=triage.review,
    offered=lambda signal: signal.state == SignalState.OPEN,
)
ACKNOWLEDGE = ReasonAction(
    name="acknowledge",
    verb=gettext_lazy("Acknowledge"),
    question=lambda count: ngettext("Acknowledge %d signal?", "Acknowledge %d signals?", count) % count,
    effect=gettext_lazy("Nobody is mailed about it until then. It counts on, and opens again afterwards."),
    undo=gettext_lazy("Yes: acknowledge it for a shorter time."),
    done=lambda count: ngettext("%d signal acknowledged.", "%d signals acknowledged.", count) % count,
    permission=CHANGE,
    run=_acknowledge,
    offered=_is_live,
    form=AcknowledgeForm,
)
ARCHIVE = ReasonAction(
    name="archive",
    verb=gettext_lazy("Archive"),
    question=lambda count: ngettext("Archive %d signal?", "Archive %d signals?", count) % count,
    effect=gettext_lazy("The signal is closed. Should its rule see the same again, that is a new signal."),
    undo=gettext_lazy("No."),
    done=lambda count: ngettext("%d signal archived.", "%d signals archived.", count) % count,
    permission=CHANGE,
    run=triage.archive,
    offered=lambda signal: _is_live(signal) and not triage.needs_fresh_factor(signal),
    form=ArchiveForm,
)
ARCHIVE_CRITICAL = ReasonAction(
    name="archive_critical",
    verb=gettext_lazy("Archive (critical)"),
    question=lambda count: (
        ngettext("Archive %d critical signal?", "Archive %d critical signals?", count) % count
    ),
    effect=gettext_lazy("The signal is closed. Should its rule see the same again, that is a new signal."),
    undo=gettext_lazy("No."),
    done=lambda count: ngettext("%d signal archived.", "%d signals archived.", count) % count,
    permission=CHANGE,
    run=triage.archive,
    offered=lambda signal: _is_live(signal) and triage.needs_fresh_factor(signal),
    step_up=triage.ARCHIVE_CRITICAL,
    form=ArchiveForm,
)


class StateFilter(LinkFilter):
    """Where the work stands; without a choice, what is not archived."""

    title = gettext_lazy("State")
    parameter_name = "state"

    def lookups(self, request: Any, model_admin: Any) -> Any:  # noqa: ARG002 - Django's signature
        return [*SignalState.choices, ("quiet", _("quiet")), ("all", _("all"))]

    def queryset(self, request: Any, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if self.value() is None:
            return queryset.exclude(state=SignalState.ARCHIVED)
        return super().queryset(request, queryset)

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        if value == "all":
            return queryset
        if value == "quiet":
            return queryset.filter(acknowledged_until__isnull=False)
        return queryset.filter(state=value)

    def choices(self, changelist: Any) -> Any:
        nothing_chosen, *others = super().choices(changelist)
        return [{**nothing_chosen, "display": _("not archived")}, *others]


class OwnerFilter(LinkFilter):
    """Whose they are."""

    title = gettext_lazy("Owner")
    parameter_name = "owner"

    def lookups(self, request: Any, model_admin: Any) -> Any:  # noqa: ARG002 - Django's signature
        return [("mine", _("mine")), ("nobody", _("nobody's"))]

    def queryset(self, request: Any, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if self.value() == "mine":
            return queryset.filter(owner_id=request.user.pk)
        return super().queryset(request, queryset)

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:  # noqa: ARG002 - the only value
        return queryset.filter(owner_id=None)


@admin.register(Signal)
class SignalAdmin(ConsoleModelAdmin):
    """What asks for a person's attention, the worst first."""

    group, position = "watch", 5
    label = gettext_lazy("Signals")
    summary = gettext_lazy("What the rules saw that asks for a person. Archived ones are behind the filter.")
    empty = gettext_lazy("No rule saw anything that is not dealt with.")
    list_display = ("what", "severity_mark", "state_mark", "seen", "last_seen_at", "owner")
    numeric_columns = ("seen",)
    list_filter = (
        StateFilter,
        choice_filter(
            parameter="severity",
            title=gettext_lazy("Severity"),
            choices=[(str(value), label) for value, label in reversed(Severity.choices)],
        ),
        choice_filter(
            parameter="rule",
            title=gettext_lazy("Rule"),
            choices=lambda: [(rule.code, rule.title) for rule in alerts.declared()],
        ),
        OwnerFilter,
        WindowFilter.on("last_seen_at"),
    )
    open_lookups = ("entity_type", "entity_id")
    orderings = (
        Ordering("worst", gettext_lazy("worst first"), ("-severity", "-last_seen_at", "-id")),
        Ordering("newest", gettext_lazy("newest first"), ("-last_seen_at", "-id")),
    )
    search_in = (SearchField("id"), SearchField("entity_id"))
    search_help_text = gettext_lazy("The whole id of the signal, or of what it is about")
    reason_actions = (TAKE, ASSIGN, REVIEW, ACKNOWLEDGE, ARCHIVE, ARCHIVE_CRITICAL)
    sections = (
        (
            gettext_lazy("Signal"),
            ("title_of_rule", "rule", "severity_mark", "about", "seen", "first_seen_at", "last_seen_at",
             "runbook"),
        ),
        (
            gettext_lazy("Work"),
            ("state_mark", "owner", "triaged_at", "acknowledged_until", "acknowledged_why", "archived_at",
             "archived_as", "archived_why", "notified_at"),
        ),
    )  # fmt: skip

    def name_of(self, row: Signal) -> str:
        return alert_notices.title_of(row.rule)

    def state_of(self, row: Signal) -> SafeString:
        return self.severity_mark(row)

    def charts(self, request: HttpRequest) -> Iterable[Panel]:
        return collect(request, (where_they_stand,))

    def tables(self, request: HttpRequest, row: Signal) -> Iterable[Table]:
        return (_evidence(row), _timeline(request, row))

    @admin.display(description=gettext_lazy("signal"))
    def what(self, signal: Signal) -> SafeString:
        about = f"{signal.entity_type} {signal.entity_id}"
        return display.two_lines(alert_notices.title_of(signal.rule), display.short_id(about))

    @admin.display(description=gettext_lazy("what"))
    def title_of_rule(self, signal: Signal) -> str:
        return alert_notices.title_of(signal.rule)

    @admin.display(description=gettext_lazy("severity"))
    def severity_mark(self, signal: Signal) -> SafeString:
        severity = Severity(signal.severity)
        return display.chip(_MARKS[severity], severity.label)

    @admin.display(description=gettext_lazy("state"))
    def state_mark(self, signal: Signal) -> SafeString:
        state = SignalState(signal.state)
        mark = display.state(_STATES[state], state.label)
        if signal.acknowledged_until is None:
            return mark
        quiet = _("quiet until %(day)s") % {"day": f"{signal.acknowledged_until:%Y-%m-%d %H:%M} UTC"}
        return display.two_lines(mark, quiet)

    @admin.display(description=gettext_lazy("owner"))
    def owner(self, signal: Signal) -> str:
        return signal.owner_label or display.EMPTY

    @admin.display(description=gettext_lazy("about"))
    def about(self, signal: Signal) -> SafeString:
        return display.code(f"{signal.entity_type} {signal.entity_id}")

    @admin.display(description=gettext_lazy("what to do"))
    def runbook(self, signal: Signal) -> SafeString | str:
        try:
            return display.code(f"docs/operations.md#{alerts.get(signal.rule).runbook}")
        except alerts.UnknownRule:
            return _("This rule is not declared in this version.")


def _evidence(signal: Signal) -> Table:
    rows = [
        (str(item.get("at", "")), name, _words(value))
        for item in signal.evidence
        if isinstance(item, dict)
        for name, value in item.items()
        if name != "at"
    ]
    return Table(
        title=_("Evidence"),
        headers=[_("Seen (UTC)"), _("What"), _("Value")],
        rows=rows,
        empty=_("The evidence was deleted: it was too old."),
        note=_("The newest %(count)d pieces at most. Accounts are shown as keyed digests of what was typed.")
        % {"count": alerts.ITEMS},
    )


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {one}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return display.EMPTY if value is None else str(value)


def _timeline(request: HttpRequest, signal: Signal) -> Table:
    page = selectors.events_page(target=(triage.TARGET, str(signal.pk)), limit=TIMELINE)
    may_open = request.user.has_perm("monitoring.view_auditevent")
    rows: list[Sequence[Any]] = []
    for event in page.events:
        word = _meaning(event.type)
        if may_open:
            word = display.link(reverse("admin:monitoring_auditevent_change", args=[event.pk]), word)
        who = display.short_id(event.actor_id or event.actor_kind)
        rows.append((display.moment(event.occurred_at, full=True), word, who))
    return Table(
        title=_("What was done"),
        headers=[_("When"), _("What"), _("By")],
        rows=rows,
        empty=_("Nobody has done anything about it."),
    )


def _meaning(code: str) -> Any:
    try:
        return _(events.get(code).description)
    except events.UnknownEvent:
        return code


@panel(gettext_lazy("Signals of 30 days"), source=gettext_lazy("signals"))
def where_they_stand(request: Any) -> list[Panel]:  # noqa: ARG001 - a panel is asked with it
    """How far the work on the signals of a month is, and how long they waited for a look."""
    now = timezone.now()
    rows = sql.fetch_all(_FIGURES, [now - dt.timedelta(days=CHART_DAYS), CHART_ROWS])
    return [_funnel(rows, now), _time_to_triage(rows, now)]


def _funnel(rows: Sequence[sql.Row], now: dt.datetime) -> Panel:
    def counted(state: str, *, serious: bool) -> int:
        return sum(row[2] for row in rows if row[1] == state and (row[0] >= Severity.HIGH) is serious)

    title = _("Signals of 30 days")
    chart = charts.stacked_bars(
        title=title,
        subtitle=_("by where the work on them stands; high and critical on top"),
        categories=[str(state.label) for state in SignalState],
        series=[
            charts.Series(_("lower"), [counted(state, serious=False) for state in SignalState]),
            charts.Series(_("high and critical"), [counted(state, serious=True) for state in SignalState]),
        ],
        category_name=_("State"),
        exact=display.number,
    )
    return Panel(title=title, chart=chart, source=_("signals"), as_of=now)


def _time_to_triage(rows: Sequence[sql.Row], now: dt.datetime) -> Panel:
    title = _("Mean time until somebody looked")
    if not sum(row[3] for row in rows):
        return Panel(title=title, source=_("signals"), state=State.UNKNOWN)
    waited = {severity: _mean_minutes(rows, severity) for severity in Severity}
    chart = charts.stacked_bars(
        title=title,
        subtitle=_("minutes from the first sight, by severity, signals of 30 days"),
        categories=[str(severity.label) for severity in Severity],
        series=[charts.Series(_("minutes"), [waited[severity] for severity in Severity])],
        category_name=_("Severity"),
        exact=display.number,
    )
    return Panel(title=title, chart=chart, source=_("signals"), as_of=now)


def _mean_minutes(rows: Sequence[sql.Row], severity: Severity) -> int:
    looked_at = sum(row[3] for row in rows if row[0] == severity)
    seconds = sum(row[4] for row in rows if row[0] == severity)
    return int(seconds / looked_at / 60) if looked_at else 0
