"""The console's integrity page: whether the trail is what it was, who watches, evidence to take away."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import FileResponse, Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from mestore.lib import actor, guard
from mestore.lib.console import Place, ReasonAction, actions, places
from mestore.lib.console.actions import ReasonForm
from mestore.lib.errors import MeStoreError
from monitoring import (
    checkpoints,
    cosigning,
    evidence,
    guards_seen,
    integrity,
    integrity_figures,
    integrity_guards,
    integrity_months,
    integrity_rows,
    retirement,
    verification_jobs,
)
from monitoring.console_events import SEE, attachment, demand, shown
from monitoring.verifications import Mode

PAGE = "console-integrity"
LARGEST = 2**53

places.register(
    Place(group="evidence", position=20, label=gettext_lazy("Integrity"), url_name=PAGE, permission=SEE)
)


class VerifyForm(ReasonForm):
    """How much."""

    mode = forms.ChoiceField(
        label=gettext_lazy("What to verify"),
        choices=[(mode.value, integrity_figures.MODE_WORDS[mode.value]) for mode in Mode],
    )
    begin = forms.IntegerField(
        label=gettext_lazy("First leaf"), required=False, min_value=0, max_value=LARGEST,
        help_text=gettext_lazy("For a range only."),
    )  # fmt: skip
    end = forms.IntegerField(
        label=gettext_lazy("Up to leaf"), required=False, min_value=1, max_value=LARGEST,
        help_text=gettext_lazy("For a range only; the leaf itself is not verified. Empty: to the end."),
    )  # fmt: skip

    def clean_mode(self) -> Mode:
        return Mode(self.cleaned_data["mode"])


class EvidenceForm(ReasonForm):
    """Of what."""

    events = forms.CharField(
        label=gettext_lazy("Events"),
        required=False,
        max_length=40 * evidence.MOST_EVENTS,
        widget=forms.Textarea(attrs={"rows": 4, "autocomplete": "off", "spellcheck": "false"}),
        help_text=gettext_lazy("Their whole ids, one per line, at most 100. Each gets its own proof."),
    )
    old_size = forms.IntegerField(
        label=gettext_lazy("Prove that the log only grew since it had so many events"),
        required=False, min_value=1, max_value=LARGEST,
    )  # fmt: skip
    new_size = forms.IntegerField(
        label=gettext_lazy("… until it had so many (empty: until now)"),
        required=False, min_value=1, max_value=LARGEST,
    )  # fmt: skip

    def clean_events(self) -> list[UUID]:
        try:
            found = [UUID(text) for text in self.cleaned_data["events"].split()]
        except ValueError as wrong:
            raise ValidationError(_("One of these is not the whole id of an event.")) from wrong
        if len(found) > evidence.MOST_EVENTS:
            raise ValidationError(evidence.TooManyEvents.message)
        return found


VERIFY = ReasonAction(
    name="verify",
    verb=gettext_lazy("Verify now"),
    question=lambda _count: _("Verify the log now?"),
    effect=gettext_lazy("A worker compares events, tiles, checkpoints and cosignatures, in the background."),
    undo=gettext_lazy("There is nothing to undo: nothing is changed."),
    done=lambda _count: _("The verification is in line. Its result will be on this page."),
    permission=SEE,
    run=verification_jobs.ask,
    step_up=verification_jobs.STEP_UP,
    form=VerifyForm,
)  # fmt: skip
EVIDENCE = ReasonAction(
    name="evidence",
    verb=gettext_lazy("Download evidence"),
    question=lambda _count: _("Take evidence out of the house?"),
    effect=gettext_lazy(
        "A ZIP with the newest checkpoint, keys, the proofs asked for and a program that checks them."
        " It holds no personal values. The trail keeps who took what, and why."
    ),
    undo=gettext_lazy("No: what has left the house has left it."),
    done=lambda _count: "",
    permission=SEE,
    run=evidence.make,
    form=EvidenceForm,
)


@require_safe
def page(request: HttpRequest) -> HttpResponseBase:
    """The whole page."""
    demand(request)
    now, words, runs = integrity.standing(), cosigning.last_words(), integrity_figures.read_runs()
    months, rows = retirement.months(), integrity_rows.read()
    return shown(
        request,
        "console/integrity.html",
        title=_("Integrity"),
        summary=_("Whether the audit trail is what it was when it was written, and who would notice if not."),
        has_no_witness=not words,
        figures=[
            *integrity_figures.figures(request, now, words, runs),
            integrity_rows.figure(rows, timezone.now()),
            integrity_guards.figure(guards_seen.day()),
            integrity_months.figure(months, timezone.now()),
        ],
        charts=integrity_figures.drawn(runs),
        key=str(checkpoints.verifier(now.epoch)),
        root=now.signed_root.hex() if now.signed_root is not None else "",
        signed_size=now.signed_size,
        tables=[
            integrity_figures.witnesses_table(words),
            integrity_figures.runs_table(runs),
            integrity_rows.table(rows),
            integrity_months.table(months),
            *integrity_figures.ended_tables(now),
        ],
    )


@require_safe
def checkpoint(request: HttpRequest) -> HttpResponseBase:
    """The newest checkpoint with what witnesses signed under it, as a file."""
    demand(request)
    found = checkpoints.last()
    if found is None:
        raise Http404(_("Nothing is signed yet."))
    return attachment(cosigning.with_cosignatures(found).encode(), "mestore-checkpoint.txt")


@require_http_methods(["GET", "HEAD", "POST"])
def verify(request: HttpRequest) -> HttpResponseBase:
    """Ask what and why, then put the verification in line."""
    demand(request)
    request.step_up_back = request.path  # type: ignore[attr-defined]  # read at the edge
    guard.require(VERIFY.step_up, request)
    form = VerifyForm(request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return _asked(request, VERIFY, form)
    try:
        verification_jobs.ask(**form.cleaned_data, by=actor.of(request))
    except MeStoreError as refused:
        form.add_error(None, refused.message)
        return _asked(request, VERIFY, form, status=refused.status)
    messages.success(request, VERIFY.done(1))
    return HttpResponseRedirect(reverse(PAGE))


@require_http_methods(["GET", "HEAD", "POST"])
def evidence_pack(request: HttpRequest) -> HttpResponseBase:
    """Ask for what and why, then answer with the file."""
    demand(request)
    given = None
    if request.method == "POST":
        given = request.POST
    form = EvidenceForm(given, initial={"events": request.GET.get("event", "")[:40]})
    if not form.is_valid():
        return _asked(request, EVIDENCE, form)
    asked = form.cleaned_data
    pack = evidence.Pack(asked["events"], asked["old_size"], asked["new_size"])
    try:
        made = evidence.make(pack, reason=asked["reason"], by=actor.of(request))
    except MeStoreError as refused:
        form.add_error(None, refused.message)
        return _asked(request, EVIDENCE, form, status=refused.status)
    answer = FileResponse(made, content_type="application/zip", as_attachment=True, filename=evidence.NAME)
    answer["Cache-Control"] = "no-store"
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


def _asked(
    request: HttpRequest, action: ReasonAction, form: Any, *, status: int | None = None
) -> HttpResponseBase:
    name = checkpoints.origin(integrity.standing().epoch)
    back = (_("Integrity"), reverse(PAGE))
    return actions.ask(
        request, action, rows=[("log", name)], form=form, site=admin.site, back=back, status=status
    )
