"""What changes something goes through one page: what will happen, to how many, can it be undone, why.

The page only asks. The use case it calls decides, changes and writes the audit event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mestore.lib import actor, guard
from mestore.lib.actor import Actor
from mestore.lib.errors import MeStoreError

if TYPE_CHECKING:
    from mestore.lib.console.admin import ConsoleModelAdmin

Text = str | Promise
REASON_MIN, REASON_MAX = 10, 500
ROWS_MAX = 100


class ReasonForm(forms.Form):
    """The reason, which the audit trail keeps."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        min_length=REASON_MIN,
        max_length=REASON_MAX,
        strip=True,
        widget=forms.Textarea(attrs={"rows": 3, "autocomplete": "off"}),
        help_text=gettext_lazy("At least 10 characters. It is kept in the audit trail with your name."),
    )

    def others(self) -> list[forms.BoundField]:
        """What is asked besides the reason."""
        return [field for field in self if field.name != "reason"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonAction:
    """A dangerous action on some rows of one model.

    `permission` is a Django permission name; `run(row, reason=…, by=…)` is the use case, which
    raises a MeStoreError to refuse; a `form` with more fields than the reason hands them over by name.
    `effect` says in one sentence what will happen, `undo` whether it can be undone; `offered` tells for which rows the action makes sense; `step_up` names what a fresh
    factor is asked for, before the reason is.
    """

    name: str
    verb: Text
    question: Callable[[int], str]
    effect: Text
    undo: Text
    done: Callable[[int], str]
    permission: str
    run: Callable[..., object]
    offered: Callable[[Any], bool] = bool
    step_up: str = ""
    form: type[ReasonForm] = ReasonForm

    def allowed(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(self.permission))


def confirm(page: ConsoleModelAdmin, request: HttpRequest) -> HttpResponse:
    """Show the confirmation (GET) or carry the action out (POST, with the reason)."""
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(("GET", "HEAD", "POST"))
    sent = request.POST if request.method == "POST" else request.GET
    action = _named(page, sent.get("action", ""))
    if not page.has_view_permission(request) or not action.allowed(request):
        raise PermissionDenied
    rows = _rows(page, request, sent.getlist("pk"))
    fitting = [row for row in rows if action.offered(row)]
    if not fitting:
        messages.warning(request, _("Nothing was selected that this can be done to. Nothing was changed."))
        return HttpResponseRedirect(_list_url(page))
    if action.step_up:
        # Whoever sent the form proves a factor and finds the same question again.
        came = urlencode([("action", action.name), *(("pk", str(row.pk)) for row in fitting)])
        request.step_up_back = f"{request.path}?{came}"  # type: ignore[attr-defined]  # read at the edge
        guard.require(action.step_up, request)
    form = action.form(request.POST if request.method == "POST" else None)
    if form.is_valid():
        return _carry_out(page, request, action, fitting, form)
    return _page(page, request, action, fitting, form, left_out=len(rows) - len(fitting))


def _named(page: ConsoleModelAdmin, name: str) -> ReasonAction:
    for action in page.reason_actions:
        if action.name == name:
            return action
    raise Http404


def _rows(page: ConsoleModelAdmin, request: HttpRequest, keys: Sequence[str]) -> list[Any]:
    """The rows asked for, at most ROWS_MAX, in one statement; keys that are none are left out."""
    primary = page.model._meta.pk
    wanted = []
    for key in keys[:ROWS_MAX]:
        try:
            wanted.append(primary.to_python(key))
        except (ValidationError, ValueError):
            continue
    queryset = page.get_queryset(request).filter(pk__in=wanted)
    if page.list_select_related:
        queryset = queryset.select_related(*page.list_select_related)
    return list(queryset)


def _carry_out(
    page: ConsoleModelAdmin, request: HttpRequest, action: ReasonAction, rows: list[Any], form: ReasonForm
) -> HttpResponse:
    by = actor.of(request)
    done, refusals = _run(action, rows, form.cleaned_data, by)
    if not done:
        for refusal in refusals:
            form.add_error(None, refusal)
        return _page(page, request, action, rows, form, status=409)
    messages.success(request, action.done(done))
    for refusal in refusals:
        messages.error(request, refusal)
    if len(rows) == 1:
        return HttpResponseRedirect(_detail_url(page, rows[0]))
    return HttpResponseRedirect(_list_url(page))


def _run(action: ReasonAction, rows: list[Any], answers: dict[str, Any], by: Actor) -> tuple[int, list[str]]:
    """How many rows were changed, and why each of the others was refused."""
    refusals = []
    for row in rows:
        try:
            action.run(row, **answers, by=by)
        except MeStoreError as refused:
            refusals.append(f"{row}: {refused.message}")
    return len(rows) - len(refusals), refusals


def _page(
    page: ConsoleModelAdmin,
    request: HttpRequest,
    action: ReasonAction,
    rows: list[Any],
    form: ReasonForm,
    *,
    left_out: int = 0,
    status: int | None = None,
) -> HttpResponse:
    if status is None:
        status = 400 if form.is_bound else 200
    context = {
        **page.admin_site.each_context(request),
        "opts": page.opts,
        "title": action.question(len(rows)),
        "list_title": page.title,
        "action": action,
        "rows": [(str(row.pk), page.name_of(row)) for row in rows],
        "left_out": left_out,
        "form": form,
        "cancel_url": _detail_url(page, rows[0]) if len(rows) == 1 else _list_url(page),
    }
    request.current_app = page.admin_site.name
    return TemplateResponse(request, "console/reason.html", context, status=status)


def ask(
    request: HttpRequest,
    action: ReasonAction,
    *,
    rows: Sequence[tuple[str, str]],
    form: ReasonForm,
    site: Any,
    back: tuple[Text, str],
    status: int | None = None,
) -> HttpResponse:
    """The same page for something that has no list of its own: `rows` are keys and names, `back` a label and
    an address.
    """
    if status is None:
        status = 400 if form.is_bound else 200
    context = {
        **site.each_context(request), "title": action.question(len(rows)), "list_title": back[0],
        "action": action, "rows": rows, "left_out": 0, "form": form, "cancel_url": back[1],
    }  # fmt: skip
    return TemplateResponse(request, "console/reason.html", context, status=status)


def _list_url(page: ConsoleModelAdmin) -> str:
    return reverse(f"admin:{page.opts.app_label}_{page.opts.model_name}_changelist")


def _detail_url(page: ConsoleModelAdmin, row: Any) -> str:
    return reverse(f"admin:{page.opts.app_label}_{page.opts.model_name}_change", args=[quote(row.pk)])
