"""Console pages about sessions beside their list: what limits them, and signing everybody out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import ApprovalRequest
from mestore.lib import actor, errors
from mestore.lib.console import Place, Table, actions, display, places
from sessions_security import ending, everyone, policy, selectors, stepup
from sessions_security.security_views import shown
from sessions_security.session_words import METHOD_WORDS

SEE, CHANGE = "sessions_security.view_usersession", "sessions_security.change_usersession"
ASSURANCE_WORDS: dict[str, str | Promise] = {
    "password": gettext_lazy("password; a factor where there is one"),
    "password+factor": gettext_lazy("password and factor, or a passkey"),
    "machine": gettext_lazy("signed assertion or client key"),
}
CHANGE_WORDS: dict[str, str | Promise] = {
    "network_near": gettext_lazy("Another network nearby"),
    "network_far": gettext_lazy("A network far away"),
    "country": gettext_lazy("Another country"),
    "agent": gettext_lazy("Another program"),
}
ANSWER_WORDS: dict[str, str | Promise] = {
    "ignore": gettext_lazy("nothing"),
    "note": gettext_lazy("is noted"),
    "challenge": gettext_lazy("asks for a factor"),
    "end": gettext_lazy("ends the session"),
}

places.register(
    Place(
        group="system",
        position=20,
        label=gettext_lazy("Session limits"),
        url_name="console-session-policy",
        permission=SEE,
    )
)


@require_safe
def limits(request: HttpRequest) -> HttpResponseBase:
    """What is set: how long sessions live, what they must have proved, and what a change of place does."""
    if not request.user.has_perm(SEE):
        raise PermissionDenied
    rows = policy.rows(settings.SESSION_POLICY, settings.SESSION_CHANGE_POLICY)
    return shown(
        request, "console/tables.html",
        title=_("Session limits"),
        summary=_("What the settings of this server say, as of now. Changing them takes a deployment."),
        tables=[_lives(rows), _changes(rows), _step_up()],
    )  # fmt: skip


@require_http_methods(["GET", "HEAD", "POST"])
def end_everyone(request: HttpRequest) -> HttpResponseBase:
    """Ask a second person to sign everybody out, or show what waits for them."""
    if not request.user.has_perm(CHANGE):
        raise PermissionDenied
    form = actions.ReasonForm(request.POST if request.method == "POST" else None)
    status = 400 if form.is_bound else 200
    if form.is_valid():
        try:
            asked = ending.ask_end_everyone(reason=form.cleaned_data["reason"], by=actor.of(request))
        except errors.MeStoreError as refused:
            form.add_error(None, str(refused.message))
            status = refused.status
        else:
            messages.success(request, _("Asked. Nothing has ended: a second person has to approve."))
            return HttpResponseRedirect(reverse("admin:accounts_approvalrequest_change", args=[asked.pk]))
    live = selectors.live_counts()
    return shown(
        request, "console/end_everyone.html", status=status,
        title=_("End everybody's sessions?"), form=form, waiting=_waiting(),
        live=display.number(sum(row.sessions for row in live)),
    )  # fmt: skip


confirmed_end_everyone = stepup.required(ending.STEP_UP, back="console-sessions-end-everyone")(end_everyone)


def _waiting() -> list[ApprovalRequest]:
    """Requests that wait for a second person, newest first."""
    opened = ApprovalRequest.objects.filter(
        action=everyone.PROCEDURE, state=ApprovalRequest.State.OPEN, expires_at__gt=timezone.now()
    )
    return list(opened.order_by("-pk")[:20])


def _lives(rows: list[policy.Row]) -> Table:
    return Table(
        title=_("How long a session lives, and what it must have proved"),
        headers=[_("Role"), _("Ends when idle for"), _("Ends at the latest after"), _("At the same time"),
                 _("Proved")],
        rows=[
            [
                row.role,
                display.EMPTY if row.idle_seconds is None else _span(row.idle_seconds),
                _span(row.absolute_seconds),
                _("%(count)d per kind") % {"count": row.max_sessions},
                ASSURANCE_WORDS.get(row.assurance, row.assurance),
            ]
            for row in rows
        ],
        note=_("From the setting SESSION_POLICY."),
    )  # fmt: skip


def _changes(rows: list[policy.Row]) -> Table:
    return Table(
        title=_("What follows when a session is used from elsewhere"),
        headers=[_("Role"), *CHANGE_WORDS.values()],
        rows=[[row.role, *_answers(row.changes)] for row in rows],
        note=_("From the setting SESSION_CHANGE_POLICY. Of several changes at once the strictest counts."),
    )


def _answers(changes: Mapping[Any, Any]) -> list[Any]:
    return [ANSWER_WORDS.get(changes[change], changes[change]) for change in CHANGE_WORDS]


def _step_up() -> Table:
    rows = []
    for action, rule in settings.STEP_UP.items():
        methods = ", ".join(str(METHOD_WORDS.get(method, method)) for method in rule["methods"])
        bound = _("that cannot be copied") if rule.get("device_bound") else ""
        rows.append([display.code(action), display.two_lines(methods, bound), _span(rule["max_age_seconds"])])
    return Table(
        title=_("What asks for a fresh factor"),
        headers=[_("Action"), _("By"), _("Not older than")],
        rows=rows,
        note=_(
            "From the setting STEP_UP. A password counts only where there is no factor, and no factor that is"
            " newer than the session."
        ),
    )


def _span(seconds: int) -> str:
    if seconds % 3_600 == 0:
        return _("%(hours)d h") % {"hours": seconds // 3_600}
    if seconds % 60 == 0:
        return _("%(minutes)d min") % {"minutes": seconds // 60}
    return _("%(seconds)d s") % {"seconds": seconds}
