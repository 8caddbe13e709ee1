"""Console page for requests of people about their own data: by when, what the law keeps, the answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import consents, data_requests, grants
from accounts.models import DataRequest, User
from mestore.lib import console
from mestore.lib.console import (
    ConsoleModelAdmin,
    Ordering,
    ReasonAction,
    SearchField,
    State,
    Table,
    display,
)

grants.register_model_permission(
    "accounts.datarequest", view="users.read.read_only", change=data_requests.DECIDING
)
Kind = DataRequest.Kind

APPROVE_EXPORT = ReasonAction(
    name="grant_export",
    verb=gettext_lazy("Grant the copy"),
    question=lambda count: ngettext("Grant %d copy?", "Grant %d copies?", count) % count,
    effect=gettext_lazy(
        "The worker makes an archive of what is kept about the person. Only the person can download it, for a"
        " week, after confirming who they are. Nobody here sees it."
    ),
    undo=gettext_lazy("No. The archive goes by itself after a week."),
    done=lambda count: ngettext("%d copy granted.", "%d copies granted.", count) % count,
    permission="accounts.change_datarequest",
    run=data_requests.approve,
    offered=lambda row: row.kind == Kind.EXPORT and row.state == DataRequest.State.WAITING,
    step_up=data_requests.DECIDE_STEP_UP,
)
ASK_ERASURE = ReasonAction(
    name="ask_erasure",
    verb=gettext_lazy("Ask to forget"),
    question=lambda count: (
        ngettext(
            "Ask a second person to forget %d account?", "Ask a second person to forget %d accounts?", count
        )
        % count
    ),
    effect=gettext_lazy(
        "When a second person approves within a day, the account is removed with everything personal about"
        " it, in the audit trail too. The person gets a last message."
    ),
    undo=gettext_lazy("Yes, until the second person approves. After that, no."),
    done=lambda count: (
        ngettext("%d request waits for a second person.", "%d requests wait for a second person.", count)
        % count
    ),
    permission="accounts.change_datarequest",
    run=data_requests.approve,
    offered=lambda row: row.kind == Kind.ERASURE and row.state == DataRequest.State.WAITING,
    step_up=data_requests.DECIDE_STEP_UP,
)
REJECT = ReasonAction(
    name="reject",
    verb=gettext_lazy("Refuse"),
    question=lambda count: ngettext("Refuse %d request?", "Refuse %d requests?", count) % count,
    effect=gettext_lazy(
        "The person is told that it was refused, and reads the reason in their account, in your words."
    ),
    undo=gettext_lazy("No. The person may ask again."),
    done=lambda count: ngettext("%d request refused.", "%d requests refused.", count) % count,
    permission="accounts.change_datarequest",
    run=data_requests.reject,
    offered=lambda row: row.state == DataRequest.State.WAITING,
    step_up=data_requests.DECIDE_STEP_UP,
)


def _narrow(rows: Any, value: str) -> Any:
    waiting = rows.filter(state__in=[DataRequest.State.WAITING, DataRequest.State.BUILDING])
    if value == "overdue":
        return waiting.filter(due_on__lt=data_requests.today())
    if value == "open":
        return waiting
    return rows.exclude(state__in=[DataRequest.State.WAITING, DataRequest.State.BUILDING])


@admin.register(DataRequest)
class DataRequestAdmin(ConsoleModelAdmin):
    """Who asked for what about their own data, and by when they are answered."""

    group, position = "people", 55
    label = gettext_lazy("Data requests")
    summary = gettext_lazy(
        "People who ask for a copy of their data or to be forgotten. A copy is due in 10 working days, being"
        " forgotten in 15 (Ley 1581 de 2012)."
    )
    empty = gettext_lazy("Requests appear here when somebody asks about their own data.")
    list_display = ("who", "kind", "state_mark", "due", "asked_at", "decided_by_label")
    list_filter = (
        console.choice_filter(
            parameter="waits",
            title=gettext_lazy("State"),
            choices=[
                ("overdue", gettext_lazy("overdue")),
                ("open", gettext_lazy("open")),
                ("over", gettext_lazy("answered")),
            ],
            narrow=_narrow,
        ),
    )
    # What is open stands before what is answered, what is overdue before that.
    orderings = (
        Ordering("due", gettext_lazy("due first"), ("urgent_on", "pk")),
        Ordering("newest", gettext_lazy("newest first"), ("-pk",)),
    )
    open_lookups = ("person_id",)
    search_in = (SearchField("person_id"), SearchField("id"))
    search_help_text = gettext_lazy("The whole id of the account or of the request")
    personal_classes = ("contact",)
    sections = (
        (gettext_lazy("Request"), ("account", "kind", "state_mark", "asked_at", "due", "reason")),
        (gettext_lazy("Answer"), ("decided_at", "decided_by_label", "answer", "must_stay")),
        (
            gettext_lazy("Archive"),
            ("ready_at", "expires_at", "archive_bytes", "archive_sha256", "downloads"),
        ),
    )
    reason_actions = (APPROVE_EXPORT, ASK_ERASURE, REJECT)
    numeric_columns = ("archive_bytes", "downloads")

    def page_read(self, rows: Sequence[DataRequest]) -> None:
        """One statement names everybody on the page."""
        known = _names({row.person_id for row in rows})
        for row in rows:
            row.person_name = known.get(row.person_id)

    def name_of(self, row: DataRequest) -> str:
        return f"{row.get_kind_display()}: {_name(row)}"

    def state_of(self, row: DataRequest) -> SafeString:
        return self.state_mark(row)

    @admin.display(description=gettext_lazy("account"))
    def who(self, row: DataRequest) -> SafeString:
        return display.two_lines(_name(row), display.short_id(row.person_id))

    @admin.display(description=gettext_lazy("account"))
    def account(self, row: DataRequest) -> SafeString | str:
        name = _name(row)
        if row.person_name is None:
            return name
        return display.link(reverse("admin:accounts_user_change", args=[row.person_id]), name)

    @admin.display(description=gettext_lazy("state"))
    def state_mark(self, row: DataRequest) -> SafeString:
        if row.is_overdue(data_requests.today()):
            return display.state(State.CRITICAL, _("overdue"))
        if row.is_open():
            return display.state(State.WARNING, row.get_state_display())
        good = row.state in {DataRequest.State.READY, DataRequest.State.DONE}
        return display.state(State.GOOD if good else State.UNKNOWN, row.get_state_display())

    @admin.display(description=gettext_lazy("to be answered until"))
    def due(self, row: DataRequest) -> str:
        return row.due_on.isoformat()

    @admin.display(description=gettext_lazy("must be kept"))
    def must_stay(self, row: DataRequest) -> str:
        """What forbids an erasure: as it was when it was refused, or as it is now."""
        if row.kind != Kind.ERASURE:
            return ""
        found = row.kept if not row.is_open() else data_requests.kept_by_law(row.person_id)
        return ", ".join(found)


def consents_of(request: HttpRequest, user: User) -> Iterable[Table]:  # noqa: ARG001 - asked of all
    """Show what an account agreed to, on its page. One statement."""
    rows = consents.decisions(user.pk)[:20]
    yield Table(
        title=_("Consents"),
        headers=[_("Text"), _("Version"), _("Given"), _("When"), _("How")],
        rows=[
            (row.document, f"{row.version} ({row.language})", display.yes_no(row.given),
             display.moment(row.at), row.get_channel_display())
            for row in rows
        ],
        empty=_("This account was not asked yet, or has not answered."),
    )  # fmt: skip


def _names(person_ids: set[UUID]) -> dict[UUID, str]:
    return {user.pk: str(user) for user in User.objects.filter(pk__in=person_ids)}


def _name(row: DataRequest) -> str:
    if row.person_name == "":
        row.person_name = _names({row.person_id}).get(row.person_id)
    return row.person_name or str(_("forgotten"))
