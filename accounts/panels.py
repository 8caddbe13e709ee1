"""What the accounts say on the dashboard."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db.models import Count, IntegerField, Subquery
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import approvals, data_requests, factors, roles, selectors
from accounts.models import DataRequest, User
from mestore.lib.console import Panel, State, collect, panel


def panels(request: Any) -> list[Panel]:
    return collect(request, (staff_factors, locked_and_waiting))


@panel(
    gettext_lazy("MFA coverage, staff"),
    source=gettext_lazy("accounts"),
    permission="accounts.view_user",
    order=40,
)
def staff_factors(request: Any) -> Panel:
    """The share of open staff accounts that have a proved second factor. Without one they cannot enter."""
    found = User.objects.filter(user_type__in=roles.STAFF, is_active=True).aggregate(
        everybody=Count("pk"), covered=Count("pk", filter=factors.proved())
    )
    everybody, missing = found["everybody"], found["everybody"] - found["covered"]
    return Panel(
        title=_("MFA coverage, staff"),
        value=f"{100 * found['covered'] // everybody} %" if everybody else _("no staff"),
        detail=ngettext("%(missing)d of %(all)d missing", "%(missing)d of %(all)d missing", missing)
        % {"missing": missing, "all": everybody},
        source=_("accounts"),
        as_of=timezone.now(),
        state=State.WARNING if missing else State.GOOD,
        link=reverse("console-factors"),
        order=40,
    )


class _Count(Subquery):
    template = "(SELECT count(*) FROM (%(subquery)s) _counted)"
    output_field = IntegerField()
    empty_result_set_value = 0  # nothing can match: that is none, not unknown


@panel(
    gettext_lazy("Lockouts now"),
    source=gettext_lazy("failure counters"),
    permission="accounts.view_user",
    order=30,
)
def locked_and_waiting(request: Any) -> list[Panel]:
    """What is refused now, what waits for exactly this person's decision, who asks about their own data.

    One statement.
    """
    # Not the lazy `request.user`: what is remembered about permissions is remembered on the account itself.
    person = request.user_session.user
    waiting = approvals.waiting_for(person).order_by().select_related(None).values("pk")
    state = DataRequest.State
    asked = DataRequest.objects.filter(state__in=[state.WAITING, state.BUILDING]).order_by().values("pk")
    found = (
        User.objects.filter(pk=person.pk)
        .annotate(
            locked=_Count(selectors.locked_now().values("pk")),
            waiting=_Count(waiting),
            asked=_Count(asked),
            overdue=_Count(asked.filter(due_on__lt=data_requests.today())),
        )
        .values("locked", "waiting", "asked", "overdue")
        .get()
    )
    now = timezone.now()
    panels = [
        Panel(
            title=_("Lockouts now"),
            value=str(found["locked"]),
            detail=_("accounts and networks"),
            source=_("failure counters"),
            as_of=now,
            state=State.WARNING if found["locked"] else State.GOOD,
            link=reverse("console-lockouts"),
            order=30,
        )
    ]
    if request.user.has_perm("accounts.view_approvalrequest"):
        panels.append(_waiting(found["waiting"], now))
    if request.user.has_perm("accounts.view_datarequest"):
        panels.append(_own_data(found["asked"], found["overdue"], now))
    return panels


def _waiting(count: int, now: dt.datetime) -> Panel:
    return Panel(
        title=_("Approvals for you"),
        value=str(count),
        detail=_("asked by somebody else, for a day at most"),
        source=_("approvals"),
        as_of=now,
        state=State.WARNING if count else State.GOOD,
        link=reverse("admin:accounts_approvalrequest_changelist") + "?waits=waiting",
        order=35,
    )


def _own_data(waiting: int, overdue: int, now: dt.datetime) -> Panel:
    """How many people wait for an answer about their own data, and how many longer than the law allows."""
    state = State.WARNING if waiting else State.GOOD
    return Panel(
        title=_("Data requests"),
        value=str(waiting),
        detail=_("%(overdue)d overdue") % {"overdue": overdue},
        source=_("requests about own data"),
        as_of=now,
        state=State.CRITICAL if overdue else state,
        link=reverse("admin:accounts_datarequest_changelist"),
        order=36,
    )
