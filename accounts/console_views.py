"""Console pages about people that are not the list of one model: lockouts, and who has a second factor."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from accounts import (
    console_actions,
    identity_panels,
    lockout_charts,
    lockout_lists,
    roles,
    selectors,
    suspension,
)
from accounts.models import LockoutCounter, User
from mestore.lib import actor, charts
from mestore.lib.console import Panel, Place, ReasonAction, State, Table, actions, display, panel, places

SEE_LOCKOUTS, CHANGE = "accounts.view_user", "accounts.change_user"
_SHOWN = 200
_LONGEST_SEARCH = 254
_LONGEST_CURSOR = 128

KIND_WORDS: dict[str, str | Promise] = {
    "login": gettext_lazy("signing in"),
    "admin_login": gettext_lazy("signing in, staff"),
    "factor": gettext_lazy("one-time codes"),
    "totp": gettext_lazy("one-time codes"),
    "backup_code": gettext_lazy("backup codes"),
    "passkey": gettext_lazy("passkeys"),
    "otp": gettext_lazy("verification codes"),
    "register": gettext_lazy("registration"),
    "reset": gettext_lazy("password reset"),
    "change_password": gettext_lazy("changing the password"),
    "risk": gettext_lazy("too risky"),
    "violations": gettext_lazy("locks in a row"),
    "block": gettext_lazy("blocked by an administrator"),
}
_SCOPE_WORDS: dict[str, str | Promise] = {
    "account": gettext_lazy("an account"),
    "network": gettext_lazy("a network"),
    "pair": gettext_lazy("an account from one network"),
    "device": gettext_lazy("an account on a known device"),
}

places.register(
    Place(group="watch", position=20, label=gettext_lazy("Lockouts"), url_name="console-lockouts",
          permission=SEE_LOCKOUTS)
)  # fmt: skip
places.register(
    Place(group="people", position=15, label=gettext_lazy("Factors"), url_name="console-factors",
          permission=SEE_LOCKOUTS)
)  # fmt: skip

LIFT = ReasonAction(
    name="lift",
    verb=gettext_lazy("Unlock"),
    question=lambda _count: _("Unlock this before its time?"),
    effect=gettext_lazy("The count begins again at zero: the full number of attempts is open at once."),
    undo=gettext_lazy("No. New failures lock it again."),
    done=lambda _count: _("Unlocked."),
    permission=CHANGE,
    run=console_actions.lift,
)


@require_safe
def lockouts(request: HttpRequest) -> HttpResponseBase:
    """Who and what is refused at this moment; with a search also counts below the limit."""
    demand(request, SEE_LOCKOUTS)
    text = request.GET.get("q", "").strip()[:_LONGEST_SEARCH].replace("\x00", "")
    kind = request.GET.get("kind", "")
    kind = kind if kind in KIND_WORDS else ""
    if text:
        page = lockout_lists.Page(list(selectors.counters_named(text)[:_SHOWN]), "")
    else:
        page = lockout_lists.page(kind=kind, older=request.GET.get("older", "")[:_LONGEST_CURSOR])
    older = urlencode({"older": page.older} | ({"kind": kind} if kind else {})) if page.older else ""
    return _shown(
        request,
        "console/lockouts.html",
        title=_("Lockouts"),
        summary=_("What is refused after too many failures; what ends last comes first. Names are kept as "
                  "keys only: search by the whole address to find an account or a network."),
        query=text,
        kind=kind,
        kinds=KIND_WORDS.items(),
        rows=[_counter_row(row) for row in page.rows],
        panels=[] if text else lockout_charts.panels(request),
        older=older,
        newest=bool(request.GET.get("older")),
        may_lift=request.user.has_perm(CHANGE),
    )  # fmt: skip


def lift(request: HttpRequest, key: str) -> HttpResponseBase:
    """Ask for the reason, then end one lock or count."""
    demand(request, SEE_LOCKOUTS, CHANGE)
    counter = counter_of(key)
    back = (_("Lockouts"), reverse("console-lockouts"))
    form = actions.ReasonForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        LIFT.run(counter, reason=form.cleaned_data["reason"], by=actor.of(request))
        messages.success(request, LIFT.done(1))
        return HttpResponseRedirect(back[1])
    return actions.ask(
        request, LIFT, rows=[(key, counter_name(counter))], form=form, site=admin.site, back=back
    )


@require_safe
def factors_page(request: HttpRequest) -> HttpResponseBase:
    """How many have a second factor, by role, and who of the staff has none."""
    demand(request, SEE_LOCKOUTS)
    bare = list(selectors.staff_without_factor().order_by("-pk")[: _SHOWN + 1])
    return _shown(
        request,
        "console/factors.html",
        title=_("Factors"),
        summary=_(
            "Who proves more than a password, who of the staff does not, and which accounts nobody uses."
        ),
        panels=[*identity_panels.panels(request), *coverage(request)],
        tables=[_without_factor(bare), *_unused_staff()],
    )


@panel(
    gettext_lazy("Second factors by role"),
    source=gettext_lazy("accounts"),
    permission=SEE_LOCKOUTS,
    keep_seconds=60,
)
def coverage(request: HttpRequest) -> Panel:  # noqa: ARG001 - the same for everybody who may see it
    """The share of open accounts with a second factor, by role. Counts every account: kept for a minute."""
    counts = [row for row in selectors.by_role() if row.role != roles.Role.SYSTEM]
    covered = [round(100 * (row.coverage or 0)) for row in counts]
    title = _("Second factors by role")
    chart = charts.stacked_bars(
        title=title,
        subtitle=_("share of open accounts with a factor (below) and without one (on top), in percent"),
        categories=[_counted(row) for row in counts],
        series=[
            charts.Series(_("with a factor"), covered),
            charts.Series(
                _("without"),
                [100 - share if row.active else 0 for row, share in zip(counts, covered, strict=True)],
            ),
        ],
        category_name=_("Role"),
        tick=lambda value: f"{value}%",
    )
    return Panel(title=title, chart=chart, source=_("accounts"), as_of=timezone.now())


def counter_name(counter: LockoutCounter) -> str:
    """What a counter counts, in words: "signing in: a network"."""
    kind, _sep, scope = counter.kind.partition(":")
    return f"{KIND_WORDS.get(kind, kind)}: {_SCOPE_WORDS.get(scope, scope)}"


def counter_state(counter: LockoutCounter) -> Any:
    """Whether attempts are refused now, in a word with its mark."""
    if counter.locked_until is not None and counter.locked_until > timezone.now():
        return display.state(State.CRITICAL, _("locked"))
    if counter.window_ends_at <= timezone.now():
        return display.state(State.UNKNOWN, _("over"))
    return display.state(State.WARNING, _("counting"))


def counters_table(user: User) -> Table:
    """The failure counts of one account, for its page."""
    return Table(
        title=_("Failed attempts"),
        headers=[_("What"), _("State"), _("Failures"), _("Last failure"), _("Until")],
        rows=[
            (KIND_WORDS.get(method, method), display.state(State.CRITICAL, _("suspended")), "", "", "")
            for method in sorted(suspension.suspended(user))
        ]
        + [
            (counter_name(row), counter_state(row), f"{row.failures} / {row.budget}",
             display.moment(row.failed_at), display.moment(row.locked_until or row.window_ends_at))
            for row in selectors.counters_of(user)[:20]
        ],
        empty=_("No failed attempts are counted against this account now."),
    )  # fmt: skip


def _counter_row(counter: LockoutCounter) -> dict[str, Any]:
    return {
        "key": base64.urlsafe_b64encode(bytes(counter.key)).decode(),
        "what": display.two_lines(counter_name(counter), bytes(counter.key).hex()[:12]),
        "name": counter_name(counter),
        "state": counter_state(counter),
        "failures": f"{counter.failures} / {counter.budget}",
        "failed": display.moment(counter.failed_at),
        "until": display.moment(counter.locked_until or counter.window_ends_at),
        "is_locked": counter.locked_until is not None and counter.locked_until > timezone.now(),
    }


def counter_of(key: str) -> LockoutCounter:
    """Return the counter that an address of the console names. Raises Http404."""
    try:
        found = LockoutCounter.objects.filter(pk=base64.urlsafe_b64decode(key.encode())).first()
    except (binascii.Error, ValueError):
        found = None
    if found is None:
        raise Http404(_("This lock is over already."))
    return found


def _without_factor(people: list[User]) -> Table:
    return Table(
        title=_("Staff without a factor"),
        note=_("They cannot enter: with their next sign-in they are led to adding one."),
        headers=[_("Account"), _("Role"), _("Last sign-in"), _("Created")],
        rows=[
            (display.link(reverse("admin:accounts_user_change", args=[user.pk]), str(user)), user.user_type,
             display.moment(user.last_login), display.moment(user.created_at))
            for user in people[:_SHOWN]
        ],
        empty=_("Everybody on the staff has one."),
    )  # fmt: skip


def _unused_staff() -> list[Table]:
    staff = User.objects.filter(user_type__in=roles.STAFF).order_by("-pk")
    parts = (
        (_("Staff without a sign-in for 90 days"), identity_panels.dormant(staff)),
        (_("Staff who never signed in"), identity_panels.never(staff)),
    )
    return [
        Table(
            title=title,
            headers=[_("Account"), _("Role"), _("Last sign-in"), _("With a second factor"), _("Created")],
            rows=[
                (display.link(reverse("admin:accounts_user_change", args=[user.pk]), str(user)),
                 user.user_type, display.moment(user.last_login), display.moment(user.last_strong_login),
                 display.moment(user.created_at))
                for user in rows[:_SHOWN]
            ],
            empty=_("Nobody."),
        )
        for title, rows in parts
    ]  # fmt: skip


def _counted(row: selectors.RoleCount) -> str:
    return f"{row.role} {display.number(row.with_factor)} / {display.number(row.active)}"


def demand(request: HttpRequest, *permissions: str) -> None:
    """Raise PermissionDenied unless the person holds every one of `permissions`."""
    if not all(request.user.has_perm(permission) for permission in permissions):
        raise PermissionDenied


def _shown(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    request.current_app = admin.site.name
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context})
