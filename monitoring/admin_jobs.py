"""The console's page about work in the background: what waits, what failed, what is not delivered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob

from mestore.lib.console import (
    ConsoleModelAdmin,
    Ordering,
    Panel,
    ReasonAction,
    SearchField,
    State,
    Table,
    choice_filter,
    collect,
    display,
)
from monitoring import export_cursors, job_charts, jobs
from monitoring.export_cursors import Kept
from monitoring.jobs import Line

CHANGE = "procrastinate.change_procrastinatejob"
TIMELINE = 50
STATUS_WORDS = {
    "todo": (State.UNKNOWN, gettext_lazy("waiting")),
    "doing": (State.GOOD, gettext_lazy("running")),
    "succeeded": (State.GOOD, gettext_lazy("done")),
    "failed": (State.CRITICAL, gettext_lazy("failed")),
    "cancelled": (State.WARNING, gettext_lazy("parked")),
    "aborted": (State.WARNING, gettext_lazy("stopped")),
}
EVENT_WORDS = {
    "deferred": gettext_lazy("came into the line"),
    "started": gettext_lazy("began"),
    "deferred_for_retry": gettext_lazy("put back in line"),
    "failed": gettext_lazy("failed"),
    "succeeded": gettext_lazy("done"),
    "cancelled": gettext_lazy("parked"),
    "abort_requested": gettext_lazy("asked to stop"),
    "aborted": gettext_lazy("stopped"),
    "scheduled": gettext_lazy("due at a time"),
}
CHANNEL_WORDS = {"mail": gettext_lazy("e-mail"), "sms": gettext_lazy("text message")}

RETRY = ReasonAction(
    name="retry",
    verb=gettext_lazy("Retry"),
    question=lambda count: ngettext("Retry %d job?", "Retry %d jobs?", count) % count,
    effect=gettext_lazy("The job is put back in line and runs as soon as a worker is free."),
    undo=gettext_lazy("No: what the job does, it does. While it waits it can be parked."),
    done=lambda count: ngettext("%d job is in line again.", "%d jobs are in line again.", count) % count,
    permission=CHANGE,
    run=jobs.retry,
    offered=lambda job: job.status == "failed",
)
PARK = ReasonAction(
    name="park",
    verb=gettext_lazy("Park"),
    question=lambda count: ngettext("Park %d job?", "Park %d jobs?", count) % count,
    effect=gettext_lazy("The job is taken out of the line and does not run."),
    undo=gettext_lazy("No: the work has to be asked for anew where it came from."),
    done=lambda count: ngettext("%d job is parked.", "%d jobs are parked.", count) % count,
    permission=CHANGE,
    run=jobs.park,
    offered=lambda job: job.status == "todo",
    step_up=jobs.PARK,
)


@admin.register(ProcrastinateJob)
class JobAdmin(ConsoleModelAdmin):
    """Jobs, newest first, under what waits by task, on which channel, and for which receiver."""

    group, position = "system", 40
    label = gettext_lazy("Jobs and deliveries")
    summary = gettext_lazy(
        "What waits, runs or failed in the background. A job that ended well leaves the list."
    )
    empty = gettext_lazy(
        "Nothing waits and nothing failed. Jobs appear here while they wait, and when they fail."
    )
    labels = {
        "id": gettext_lazy("job"),
        "queue_name": gettext_lazy("queue"),
        "attempts": gettext_lazy("attempts"),
        "scheduled_at": gettext_lazy("not before"),
        "priority": gettext_lazy("priority"),
    }
    secret_fields = ("args", "lock", "queueing_lock")
    list_display = ("what", "status_mark", "tries", "scheduled_at")
    numeric_columns = ("tries",)
    list_filter = (
        choice_filter(
            parameter="status",
            title=gettext_lazy("State"),
            choices=[(key, word) for key, (_kind, word) in STATUS_WORDS.items() if key != "succeeded"],
        ),
    )
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-id",)),)
    search_in = (SearchField("id"),)
    search_help_text = gettext_lazy("The number of the job")
    sections = (
        (
            gettext_lazy("Job"),
            ("id", "task", "status_mark", "queue_name", "attempts", "priority", "scheduled_at"),
        ),
    )
    reason_actions = (RETRY, PARK)
    change_list_template = "console/jobs.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProcrastinateJob]:
        """What a job is about is not read."""
        rows: QuerySet[ProcrastinateJob] = super().get_queryset(request)
        return rows.defer("args", "lock", "queueing_lock")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        above = list(self.above()) if self.has_view_permission(request) else []
        return super().changelist_view(request, {"above_tables": above, **(extra_context or {})})

    def above(self) -> Iterable[Table]:
        """What waits, by task and by channel."""
        yield _by_task(jobs.queue())
        yield _by_channel(jobs.messages())
        yield _by_receiver(export_cursors.every())

    def charts(self, request: HttpRequest) -> list[Panel]:
        return collect(request, (job_charts.depth,))

    def name_of(self, row: Any) -> str:
        return str(row.task_name)

    def state_of(self, row: Any) -> SafeString:
        return self.status_mark(row)

    def tables(self, request: HttpRequest, row: Any) -> Iterable[Table]:  # noqa: ARG002
        happened = ProcrastinateEvent.objects.filter(job_id=row.pk).order_by("-pk")[:TIMELINE]
        return (
            Table(
                title=_("What happened"),
                headers=[_("When"), _("What")],
                rows=[
                    (display.moment(one.at, full=True), EVENT_WORDS.get(one.type, one.type))
                    for one in happened
                ],
                empty=_("Nothing yet."),
            ),
        )

    @admin.display(description=gettext_lazy("task"))
    def what(self, job: ProcrastinateJob) -> SafeString:
        return display.two_lines(job.task_name, _("job %(number)s") % {"number": job.pk})

    @admin.display(description=gettext_lazy("task"))
    def task(self, job: ProcrastinateJob) -> SafeString:
        return display.code(job.task_name)

    @admin.display(description=gettext_lazy("attempts"))
    def tries(self, job: ProcrastinateJob) -> SafeString:
        return display.numeric(display.number(job.attempts))

    @admin.display(description=gettext_lazy("state"))
    def status_mark(self, job: ProcrastinateJob) -> SafeString:
        return _state(job.status)


def _state(status: str) -> SafeString:
    kind, word = STATUS_WORDS.get(status, (State.UNKNOWN, status))
    return display.state(kind, word)


def _by_task(found: list[Line]) -> Table:
    return Table(
        title=_("By task"),
        headers=[_("Task"), _("State"), _("Jobs"), _("Most attempts"), _("Oldest")],
        rows=[
            (display.code(line.task), _state(line.status), display.number(line.many),
             display.number(line.attempts), _ago(line.since))
            for line in found
        ],
        numeric=frozenset({2, 3}),
        empty=_("Nothing waits and nothing failed."),
        note=_cut(sum(line.many for line in found)),
    )  # fmt: skip


def _by_channel(found: list[jobs.Mail]) -> Table:
    return Table(
        title=_("Messages that wait"),
        headers=[_("Channel"), _("Messages"), _("Tried before"), _("Most attempts"), _("Oldest"),
                 _("Trouble")],
        rows=[
            (CHANNEL_WORDS.get(line.channel, line.channel), display.number(line.many),
             display.number(line.again), display.number(line.attempts), _ago(line.since),
             display.code(line.trouble))
            for line in found
        ],
        numeric=frozenset({1, 2, 3}),
        empty=_("Every message has been sent or given up."),
        note=_cut(sum(line.many for line in found)),
    )  # fmt: skip


def _by_receiver(found: list[Kept]) -> Table:
    return Table(
        title=_("Export of the audit trail"),
        headers=[_("Receiver"), _("Events behind"), _("Waiting since"), _("Last delivery"),
                 _("Failures in a row"), _("Trouble")],
        rows=[
            (display.code(kept.destination), display.number(kept.behind), display.moment(kept.waiting_since),
             display.moment(kept.delivered_at), display.number(kept.failures), display.code(kept.last_error))
            for kept in found
        ],
        numeric=frozenset({1, 4}),
        empty=_("No receiver is configured: the trail leaves the house only when somebody takes it."),
    )  # fmt: skip


def _ago(since: Any) -> str:
    return _("no data") if since is None else _("%(age)s ago") % {"age": display.age(since)}


def _cut(many: int) -> str:
    if many < jobs.COUNTED:
        return ""
    return _("Only the oldest %(most)s are counted.") % {"most": display.number(jobs.COUNTED)}
