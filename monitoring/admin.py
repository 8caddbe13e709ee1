"""The console's page about the audit trail: what happened, and the exact bytes that prove it.

The right to see it comes with no role but the superuser's. `monitoring` knows no app above it: one of them
registers that right, and until it has done so this page is closed.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mestore.lib import console, crypto
from mestore.lib.console import ConsoleModelAdmin, Ordering, SearchField, State, WindowFilter, display
from monitoring import (
    admin_signals,  # noqa: F401 - declares its own page
    events,
)
from monitoring.models import AuditEvent, AuditPending

OUTCOME_WORDS = {
    events.Outcome.SUCCESS: (State.GOOD, gettext_lazy("succeeded")),
    events.Outcome.FAILURE: (State.WARNING, gettext_lazy("failed")),
    events.Outcome.BLOCKED: (State.CRITICAL, gettext_lazy("refused")),
    events.Outcome.PARTIAL: (State.WARNING, gettext_lazy("partly")),
    events.Outcome.PENDING: (State.UNKNOWN, gettext_lazy("pending")),
    events.Outcome.CANCELLED: (State.UNKNOWN, gettext_lazy("cancelled")),
    events.Outcome.TIMEOUT: (State.WARNING, gettext_lazy("timed out")),
}


def _codes() -> list[tuple[str, str]]:
    return [(event.code, event.code) for event in events.catalogue()]


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
    list_display = ("what", "outcome_mark", "occurred_at", "actor", "target")
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
            choices=[
                ("user", gettext_lazy("person")),
                ("machine", gettext_lazy("program")),
                ("system", gettext_lazy("MeStore itself")),
                ("anonymous", gettext_lazy("unknown caller")),
            ],
        ),
        console.choice_filter(parameter="type", title=gettext_lazy("Type"), choices=_codes),
    )
    open_lookups = ("actor_id", "target_type", "target_id")
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-occurred_at", "-id")),)
    search_in = (SearchField("id"), SearchField("actor_id"))
    search_help_text = gettext_lazy("The whole id of the event or of the actor")
    sections = (
        (
            gettext_lazy("Event"),
            ("id", "type", "meaning", "occurred_at", "actor_kind", "actor_id", "actor_role", "target_type",
             "target_id", "session_id", "request_id"),
        ),
        (gettext_lazy("Evidence"), ("leaf", "leaf_check", "writer_check", "sequenced", "personal")),
        (gettext_lazy("Canonical bytes"), ("canonical",)),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
        """Lists read neither the bytes nor their proofs."""
        return super().get_queryset(request).defer("canon", "pii_ct", "writer_mac", "leaf_hash")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        waiting = AuditPending.objects.filter(pk=OuterRef("pk"))
        event = super().get_object(request, object_id, from_field)
        if event is None:
            return None
        # Everything at once, in place of one statement per deferred column.
        return AuditEvent.objects.annotate(is_waiting=Exists(waiting)).get(pk=event.pk)

    def name_of(self, row: AuditEvent) -> str:
        return row.type

    @admin.display(description=gettext_lazy("event"))
    def what(self, event: AuditEvent) -> str:
        return event.type

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
            return events.get(event.type).description
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
        if getattr(event, "is_waiting", False):
            return display.state(State.UNKNOWN, _("waiting to be sequenced"))
        return display.state(State.GOOD, _("yes"))

    @admin.display(description=gettext_lazy("personal values"))
    def personal(self, event: AuditEvent) -> str:
        return _("sealed under the person's own key") if event.pii_ct is not None else _("none")

    @admin.display(description=gettext_lazy("canonical JSON"))
    def canonical(self, event: AuditEvent) -> SafeString:
        return display.block(_readable(bytes(event.canon)))


def _readable(canon: bytes) -> str:
    """Canonical JSON with line breaks; bytes that are none, as they are."""
    try:
        return json.dumps(json.loads(canon), indent=2, ensure_ascii=False)
    except ValueError:
        return canon.decode("utf-8", "backslashreplace")
