"""Who is signed in, and who tried, on the dashboard."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db.models import Count, F, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import roles
from mestore.lib import charts
from mestore.lib.console import Panel, State, collect, display, panel
from monitoring import events, selectors
from sessions_security import cutoffs
from sessions_security.models import UserSession

HOURS = 24
SUCCEEDED = (events.SIGN_IN_SUCCEEDED,)
REFUSED = (events.SIGN_IN_FAILED, events.SIGN_IN_REFUSED, events.FACTOR_REFUSED)


def panels(request: Any) -> list[Panel]:
    return collect(request, (live_sessions, sign_ins))


@panel(
    gettext_lazy("Live sessions"),
    source=gettext_lazy("sessions"),
    permission="sessions_security.view_usersession",
    order=20,
)
def live_sessions(request: Any) -> Panel:
    """How many sessions are alive now, and how many of them are staff's."""
    now = timezone.now()
    alive = UserSession.objects.filter(
        Q(idle_expires_at=None) | Q(idle_expires_at__gt=now),
        cutoffs.not_cut_off(),
        revoked_at=None,
        absolute_expires_at__gt=now,
        auth_epoch=F("user__auth_epoch"),
    )
    found = alive.aggregate(
        everybody=Count("pk"), staff=Count("pk", filter=Q(user__user_type__in=roles.STAFF))
    )
    return Panel(
        title=_("Live sessions"),
        value=display.number(found["everybody"]),
        detail=ngettext("%(count)d staff", "%(count)d staff", found["staff"]) % {"count": found["staff"]},
        source=_("sessions"),
        as_of=now,
        state=State.PLAIN,
        link=reverse("admin:sessions_security_usersession_changelist") + "?state=live",
        order=20,
    )


@panel(
    gettext_lazy("Sign-ins, last 24 hours"),
    source=gettext_lazy("audit trail"),
    permission="sessions_security.view_usersession",
    order=10,
    keep_seconds=15,
)
def sign_ins(request: Any) -> Panel:
    """Sign-ins that succeeded and that were refused, per hour."""
    now = timezone.now()
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    hours = [this_hour - dt.timedelta(hours=back) for back in reversed(range(HOURS))]
    counted = selectors.counts_by_hour((*SUCCEEDED, *REFUSED), hours=HOURS)

    def of(codes: tuple[str, ...]) -> list[int]:
        return [sum(row.count for row in counted if row.hour == hour and row.code in codes) for hour in hours]

    chart = charts.stacked_bars(
        title=_("Sign-ins, last 24 hours"),
        subtitle=_("succeeded (below) and refused (on top), per hour, Bogotá time"),
        categories=[display.clock(hour) for hour in hours],
        series=[charts.Series(_("succeeded"), of(SUCCEEDED)), charts.Series(_("refused"), of(REFUSED))],
        category_name=_("Hour"),
        exact=display.number,
    )
    return Panel(
        title=_("Sign-ins, last 24 hours"), chart=chart, source=_("audit trail"), as_of=now, order=10
    )
