"""The console's page about the audit trail: what happened, and the exact bytes that prove it.

The right to see it comes with no role but the superuser's. `monitoring` knows no app above it: one of them
registers that right, and until it has done so this page is closed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mestore.lib import console, crypto
from mestore.lib.console import (
    ConsoleModelAdmin,
    Ordering,
    Panel,
    SearchField,
    State,
    Table,
    WindowFilter,
    collect,
    display,
)
from monitoring import (
    admin_jobs,  # noqa: F401 - declares its own page
    admin_signals,  # noqa: F401 - declares its own page
    event_filters,
    events,
    explorer,
    explorer_charts,
    revealing,
    saved_filters,
    selectors,
)
from monitoring.explorer import Standing
from monitoring.models import AuditEvent

OUTCOME_WORDS = {
    events.Outcome.SUCCESS: (State.GOOD, gettext_lazy("succeeded")),
    events.Outcome.FAILURE: (State.WARNING, gettext_lazy("failed")),
    events.Outcome.BLOCKED: (State.CRITICAL, gettext_lazy("refused")),
    events.Outcome.PARTIAL: (State.WARNING, gettext_lazy("partly")),
    events.Outcome.PENDING: (State.UNKNOWN, gettext_lazy("pending")),
    events.Outcome.CANCELLED: (State.UNKNOWN, gettext_lazy("cancelled")),
    events.Outcome.TIMEOUT: (State.WARNING, gettext_lazy("timed out")),
}
TYPED = ("type", "actor_id", "target_type", "target_id", "session_id", "since", "until")


@admin.register(AuditEvent)
class AuditEventAdmin(ConsoleModelAdmin):
    """Everything that was recorded, newest first."""

    group, position = "evidence", 10
    label = gettext_lazy("Audit")
    summary = gettext_lazy("What happened, newest first. Rows cannot be changed or removed by anybody.")
    empty = gettext_lazy("Events appear here as people and programs do things.")
    labels = {
        "id": gettext_lazy("id"),
        "type": gettext_lazy("type"),
        "occurred_at": gettext_lazy("when"),
        "actor_kind": gettext_lazy("kind of actor"),
        "actor_id": gettext_lazy("actor"),
        "actor_role": gettext_lazy("role"),
        "target_type": gettext_lazy("kind of target"),
        "target_id": gettext_lazy("target"),
        "session_id": gettext_lazy("session"),
        "request_id": gettext_lazy("request"),
    }
    secret_fields = ("canon", "pii_ct", "writer_mac", "leaf_hash")
    list_display = ("what", "outcome_mark", "occurred_at", "actor", "target", "came_from")
    list_filter = (
        WindowFilter.on("occurred_at"),
        console.choice_filter(
            parameter="outcome",
            title=gettext_lazy("Outcome"),
            choices=[(outcome.value, word) for outcome, (_kind, word) in OUTCOME_WORDS.items()],
        ),
        console.choice_filter(
            parameter="actor_kind",
            title=gettext_lazy("Actor"),
            choices=list(explorer_charts.KIND_WORDS.items()),
        ),
        event_filters.CategoryFilter,
        event_filters.CodeFilter,
        event_filters.ActorFilter,
        event_filters.TargetTypeFilter,
        event_filters.TargetFilter,
        event_filters.SessionFilter,
        event_filters.SinceFilter,
        event_filters.UntilFilter,
    )
    change_list_template = "console/audit_list.html"
    change_form_template = "console/audit_event.html"
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-occurred_at", "-id")),)
    search_in = (SearchField("id"), SearchField("actor_id"))
    search_help_text = gettext_lazy("The whole id of the event or of the actor")
    sections = (
        (
            gettext_lazy("Event"),
            ("id", "type", "meaning", "occurred_at", "actor_kind", "actor_id", "actor_role", "target_type",
             "target_id", "session_id", "request_id"),
        ),
        (
            gettext_lazy("Evidence"),
            ("sequenced", "place", "cosigned", "leaf", "leaf_check", "writer_check", "personal_values"),
        ),
        (gettext_lazy("Canonical bytes"), ("canonical",)),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
        """Lists read neither the bytes nor their proofs."""
        return super().get_queryset(request).defer("canon", "pii_ct", "writer_mac", "leaf_hash")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[event_filters.ExplorerList]:
        return event_filters.ExplorerList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The event in full, and how far it is proved: two statements."""
        try:
            event: Any = selectors.find(UUID(object_id))
        except (ValueError, selectors.EventNotFound):
            return None
        event.standing = explorer.standing(event.pk)
        event.document = _document(bytes(event.canon))
        event.changed = _changed(event.document)
        return event

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The list, with the fields to search by and the filters that this person keeps."""
        given = {name: values[-1] for name, values in request.GET.lists() if values[-1].strip()}
        current = {name: given[name] for name in saved_filters.PARAMETERS if name in given}
        context = {
            "saved": saved_filters.of(_key_of(request)) if self.has_view_permission(request) else [],
            "codes": [event.code for event in events.catalogue()],
            "typed": {name: given.get(name, "") for name in TYPED},
            "is_typed": any(name in given for name in TYPED),
            "kept": [(name, value) for name, value in current.items() if name not in TYPED],
            "current": list(current.items()),
            "current_query": urlencode(list(current.items())),
            "unbounded_days": event_filters.UNBOUNDED_DAYS,
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def charts(self, request: HttpRequest) -> Iterable[Panel]:
        if not self.has_view_permission(request):
            return ()
        return collect(request, (explorer_charts.activity,))

    def links(self, request: HttpRequest, row: Any) -> Iterable[tuple[str, str]]:
        if row.pii_ct is None and not revealing.captured_names(row.document):
            return ()
        return ((_("Reveal personal values"), reverse("console-event-reveal", args=[row.pk])),)

    def name_of(self, row: AuditEvent) -> str:
        return row.type

    @admin.display(description=gettext_lazy("event"))
    def what(self, event: AuditEvent) -> SafeString:
        return display.two_lines(self.meaning(event), event.type)

    @admin.display(description=gettext_lazy("request and session"))
    def came_from(self, event: AuditEvent) -> SafeString | str:
        if event.request_id is None:
            return display.EMPTY
        session = display.short_id(event.session_id) if event.session_id else ""
        return display.two_lines(display.short_id(event.request_id), session)

    @admin.display(description=gettext_lazy("outcome"))
    def outcome_mark(self, event: AuditEvent) -> SafeString:
        kind, word = OUTCOME_WORDS[events.Outcome(event.outcome)]
        return display.state(kind, word)

    def state_of(self, row: AuditEvent) -> SafeString:
        return self.outcome_mark(row)

    @admin.display(description=gettext_lazy("actor"))
    def actor(self, event: AuditEvent) -> SafeString:
        return display.two_lines(display.short_id(event.actor_id or event.actor_kind), event.actor_role)

    @admin.display(description=gettext_lazy("target"))
    def target(self, event: AuditEvent) -> SafeString | str:
        if event.target_type is None:
            return display.EMPTY
        return display.two_lines(display.short_id(event.target_id), event.target_type)

    @admin.display(description=gettext_lazy("meaning"))
    def meaning(self, event: AuditEvent) -> str:
        try:
            return _(events.get(event.type).description)
        except events.UnknownEvent:
            return _("This type is not in the catalogue of this version.")

    @admin.display(description=gettext_lazy("leaf hash"))
    def leaf(self, event: AuditEvent) -> SafeString:
        return display.code(bytes(event.leaf_hash).hex())

    @admin.display(description=gettext_lazy("bytes and hash"))
    def leaf_check(self, event: AuditEvent) -> SafeString:
        if hashlib.sha256(b"\x00" + bytes(event.canon)).digest() == bytes(event.leaf_hash):
            return display.state(State.GOOD, _("match"))
        return display.state(State.CRITICAL, _("do not match: the row was altered"))

    @admin.display(description=gettext_lazy("written by"))
    def writer_check(self, event: AuditEvent) -> SafeString:
        if event.writer_mac is None:
            return display.state(State.UNKNOWN, _("the database itself"))
        if crypto.verify_mac(bytes(event.canon), bytes(event.writer_mac), purpose="audit-writer"):
            return display.state(State.GOOD, _("this application"))
        return display.state(State.CRITICAL, _("somebody else: the writer's mark is not ours"))

    @admin.display(description=gettext_lazy("in the signed log"))
    def sequenced(self, event: AuditEvent) -> SafeString:
        standing = _standing(event)
        if standing.leaf_index is None:
            return display.state(State.UNKNOWN, _("waiting for its place in the log"))
        if standing.sealed_size is None:
            return display.state(State.UNKNOWN, _("in the log, not signed yet"))
        return display.state(
            State.GOOD,
            _("sealed in the checkpoint of size %(size)s") % {"size": display.number(standing.sealed_size)},
        )

    @admin.display(description=gettext_lazy("place in the log"))
    def place(self, event: AuditEvent) -> str:
        standing = _standing(event)
        if standing.leaf_index is None:
            return display.EMPTY
        place = {"leaf": display.number(standing.leaf_index), "log": standing.epoch}
        return _("leaf %(leaf)s of log %(log)d") % place

    @admin.display(description=gettext_lazy("cosigned"))
    def cosigned(self, event: AuditEvent) -> SafeString:
        standing = _standing(event)
        if standing.cosigned_size is None:
            return display.state(State.UNKNOWN, _("by nobody yet"))
        words = _("by %(names)s, at size %(size)s") % {
            "names": ", ".join(standing.witnesses), "size": display.number(standing.cosigned_size),
        }  # fmt: skip
        return display.state(State.GOOD, words)

    @admin.display(description=gettext_lazy("personal values"))
    def personal_values(self, event: AuditEvent) -> str:
        if event.pii_ct is not None:
            return _("sealed under the person's own key")
        if revealing.captured_names(_document(bytes(event.canon))):
            return _("kept beside the event, where they can be erased")
        return _("none")

    @admin.display(description=gettext_lazy("canonical JSON"))
    def canonical(self, event: AuditEvent) -> SafeString:
        return display.block(_readable(bytes(event.canon)))


def _changed(document: dict[str, Any]) -> Table | None:
    """What a captured event says about the fields of its row, in a table; None for other events."""
    changes = explorer.changes_in(document)
    if not changes:
        return None
    hidden = {"personal": _("personal: sealed"), "secret": _("secret: never recorded")}
    return Table(
        title=_("What changed"),
        headers=[_("Field"), _("Before"), _("After")],
        rows=[
            (
                display.code(one.name),
                hidden.get(one.note) or one.before or display.EMPTY,
                hidden.get(one.note) or one.after or display.EMPTY,
            )
            for one in changes
        ],
    )


def _standing(event: Any) -> Standing:
    found: Standing = event.standing
    return found


def _key_of(request: HttpRequest) -> UUID:
    return UUID(str(request.user.pk))


def _document(canon: bytes) -> dict[str, Any]:
    """What the bytes say; nothing where they are no JSON, which the page then shows as they are."""
    try:
        found = json.loads(canon)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _readable(canon: bytes) -> str:
    """Canonical JSON with line breaks; bytes that are none, as they are."""
    try:
        return json.dumps(json.loads(canon), indent=2, ensure_ascii=False)
    except ValueError:
        return canon.decode("utf-8", "backslashreplace")
