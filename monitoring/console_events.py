"""What can be done with one event of the audit trail in the console: take its proof, see its personal values.

Both leave an event themselves: who looked at what, and for the values why.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from mestore.lib import actor, guard
from mestore.lib.console import ReasonAction, Table, actions, display
from mestore.lib.errors import MeStoreError
from monitoring import audit, events, evidence, revealing, saved_filters
from monitoring.revealing import Revealed

SEE = "monitoring.view_auditevent"
TARGET = "audit_event"
LIST = "admin:monitoring_auditevent_changelist"

REVEAL = ReasonAction(
    name="reveal",
    verb=gettext_lazy("Reveal"),
    question=lambda _count: _("Reveal the personal values of this event?"),
    effect=gettext_lazy("They are shown once, on the next page. The trail keeps who saw them, and why."),
    undo=gettext_lazy("No: what was seen was seen."),
    done=lambda _count: _("Revealed."),
    permission=SEE,
    run=revealing.reveal,
    step_up=revealing.STEP_UP,
)  # fmt: skip


@require_POST
def proof(request: HttpRequest, event_id: UUID) -> HttpResponseBase:
    """The proof of one event as a file."""
    demand(request)
    by = actor.of(request)
    with transaction.atomic():
        text = evidence.proof_text(event_id)
        audit.record(events.AUDIT_PROOF_DOWNLOADED, by=by, target=(TARGET, str(event_id)))
    return attachment(text.encode(), f"{event_id}.tlog-proof")


@require_http_methods(["GET", "HEAD", "POST"])
def reveal(request: HttpRequest, event_id: UUID) -> HttpResponseBase:
    """Ask for the reason, then show the values, once."""
    demand(request)
    event = revealing.find(event_id)
    if event is None:
        raise Http404(_("There is no such event, or it has no personal values."))
    request.step_up_back = request.path  # type: ignore[attr-defined]  # read at the edge
    guard.require(REVEAL.step_up, request)
    form = actions.ReasonForm(request.POST if request.method == "POST" else None)
    page = reverse("admin:monitoring_auditevent_change", args=[event_id])
    if form.is_valid():
        found = revealing.reveal(event, reason=form.cleaned_data["reason"], by=actor.of(request))
        return _unkept(shown(
            request, "console/tables.html", title=_("Personal values of an event"),
            summary=_("Shown once: they are kept by no page, and the trail says that you saw them."),
            tables=[_values(found)], back=(_("The event"), page),
        ))  # fmt: skip
    return _unkept(
        actions.ask(
            request, REVEAL, rows=[(str(event_id), f"{event.type} {event_id}")], form=form, site=admin.site,
            back=(_("The event"), page),
        )
    )  # fmt: skip


@require_POST
def save_filter(request: HttpRequest) -> HttpResponseBase:
    """Keep what the explorer shows under a name."""
    demand(request)
    owner = _owner(request)
    given = {key: value for key, value in request.POST.items() if isinstance(value, str)}
    try:
        kept = saved_filters.save(owner, name=given.pop("filter_name", ""), given=given)
    except MeStoreError as refused:
        messages.error(request, refused.message)
        return HttpResponseRedirect(reverse(LIST))
    return HttpResponseRedirect(f"{reverse(LIST)}?{kept.query}")


@require_POST
def remove_filter(request: HttpRequest, filter_id: UUID) -> HttpResponseBase:
    """Forget one of one's own filters."""
    demand(request)
    saved_filters.remove(_owner(request), filter_id)
    return HttpResponseRedirect(reverse(LIST))


def demand(request: HttpRequest, permission: str = SEE) -> None:
    """Raise PermissionDenied for whoever lacks `permission`."""
    if not request.user.has_perm(permission):
        raise PermissionDenied


def shown(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    """A page of the console."""
    request.current_app = admin.site.name
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context})


def attachment(content: bytes, name: str, kind: str = "text/plain; charset=utf-8") -> HttpResponse:
    """A file to keep, by a name that is ours; never shown in the browser and never cached."""
    answer = HttpResponse(content, content_type=kind)
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return _unkept(answer)


def _unkept(answer: HttpResponse) -> HttpResponse:
    answer["Cache-Control"] = "no-store"
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


def _owner(request: HttpRequest) -> UUID:
    return UUID(str(request.user.pk))


def _values(found: Revealed) -> Table:
    return Table(
        title=_("Personal values"),
        headers=[_("What"), _("Value")],
        rows=list(_rows(found)),
        empty=_absence(found),
    )


def _rows(found: Revealed) -> Iterator[tuple[Any, Any]]:
    for name, value in found.values:
        yield display.code(name), value
    for name in found.erased:
        yield display.code(name), _("erased")


def _absence(found: Revealed) -> str:
    if found.state == "erased":
        return _erased_words(found.erased_at)
    return _("These values cannot be read: what is stored does not open under the person's key.")


def _erased_words(at: dt.datetime | None) -> str:
    if at is None:
        return _(
            "The person's data was erased: nobody can read these values any more. The proof still holds."
        )
    return _(
        "The person's data was erased on %(day)s: nobody can read these values any more."
        " The proof still holds."
    ) % {"day": f"{at:%Y-%m-%d}"}
