"""Console pages that prolong a lock or shut a network out; both ask for a reason and a fresh factor."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import console_views, lock_changes
from accounts.models import LockoutCounter
from mestore.lib import actor, guard
from mestore.lib.actor import Actor
from mestore.lib.console import ReasonAction, actions
from mestore.lib.errors import MeStoreError

_SPANS = [
    (1, gettext_lazy("1 hour")),
    (24, gettext_lazy("1 day")),
    (168, gettext_lazy("7 days")),
    (720, gettext_lazy("30 days")),
]


class SpanForm(actions.ReasonForm):
    """For how long."""

    hours = forms.TypedChoiceField(label=gettext_lazy("For how long"), choices=_SPANS, coerce=int, initial=24)


class BlockForm(SpanForm):
    """Which network, and for how long."""

    field_order = ("address", "hours", "reason")
    address = forms.CharField(
        label=gettext_lazy("Network"),
        max_length=64,
        help_text=gettext_lazy("One IPv4 address, or one IPv6 address, whose whole /64 is meant."),
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )


def _block(_row: None, *, address: str, hours: int, reason: str, by: Actor) -> None:
    lock_changes.block_network(address, hours=hours, reason=reason, by=by)


EXTEND = ReasonAction(
    name="extend",
    verb=gettext_lazy("Prolong"),
    question=lambda _count: _("Let this lock last longer?"),
    effect=gettext_lazy("What is refused stays refused for so much longer, at most for 30 days from now."),
    undo=gettext_lazy("Yes: Unlock ends it."),
    done=lambda _count: _("Prolonged."),
    permission=console_views.CHANGE,
    run=lock_changes.extend,
    step_up=lock_changes.STEP_UP,
    form=SpanForm,
)
BLOCK = ReasonAction(
    name="block",
    verb=gettext_lazy("Block"),
    question=lambda _count: _("Block a network?"),
    effect=gettext_lazy(
        "Nobody signs in, registers or recovers an account from there. Whoever is signed in already stays so."
    ),
    undo=gettext_lazy("Yes: it ends by itself, and Unlock ends it earlier."),
    done=lambda _count: _("Blocked."),
    permission=console_views.CHANGE,
    run=_block,
    step_up=lock_changes.STEP_UP,
    form=BlockForm,
)


def extend(request: HttpRequest, key: str) -> HttpResponseBase:
    """Ask how much longer and why, then prolong one lock."""
    console_views.demand(request, console_views.SEE_LOCKOUTS, console_views.CHANGE)
    counter = console_views.counter_of(key)
    return _asked(request, EXTEND, counter, [(key, console_views.counter_name(counter))])


def block(request: HttpRequest) -> HttpResponseBase:
    """Ask which network, until when and why, then shut it out."""
    console_views.demand(request, console_views.SEE_LOCKOUTS, console_views.CHANGE)
    return _asked(request, BLOCK, None, [("", _("a network"))])


def _asked(
    request: HttpRequest, action: ReasonAction, row: LockoutCounter | None, rows: list[tuple[str, str]]
) -> HttpResponseBase:
    request.step_up_back = request.path  # type: ignore[attr-defined]  # read at the edge
    guard.require(action.step_up, request)
    back = (_("Lockouts"), reverse("console-lockouts"))
    form = action.form(request.POST if request.method == "POST" else None)
    shown: dict[str, Any] = {"rows": rows, "form": form, "site": admin.site, "back": back}
    if not form.is_valid():
        return actions.ask(request, action, **shown)
    try:
        action.run(row, **form.cleaned_data, by=actor.of(request))
    except MeStoreError as refused:
        form.add_error(None, str(refused.message))
        return actions.ask(request, action, **shown, status=refused.status)
    messages.success(request, action.done(1))
    return HttpResponseRedirect(back[1])
