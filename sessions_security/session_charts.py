"""What is drawn above the list of sessions, from the samples that the worker writes."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mestore.lib import charts
from mestore.lib.console import Panel, State, display, panel
from sessions_security import samples
from sessions_security.models import UserSession

HOURS = 24
STEP = dt.timedelta(minutes=30)
LATE = 3 * samples.EVERY
_SOURCE = gettext_lazy("samples of the worker, every 5 minutes")
_AGES, _CONCURRENT = gettext_lazy("Age of live sessions"), gettext_lazy("Sessions at the same time")
_SEE = "sessions_security.view_usersession"


@panel(_AGES, source=_SOURCE, permission=_SEE, order=10)
def ages(request: Any) -> Panel:  # noqa: ARG001  # every panel is asked by a request
    """How long ago the live sessions began, in whole hours, at the last sample."""
    newest = samples.newest()
    if newest is None or timezone.now() - newest.at > LATE:
        return _absent(_AGES, newest.at if newest else None, 10)
    hours = range(max([*newest.ages, 7]) + 1)
    chart = charts.stacked_bars(
        title=_AGES,
        subtitle=_("sessions by whole hours since they began"),
        categories=[_("%(hours)d h") % {"hours": hour} for hour in hours],
        series=[charts.Series(_("sessions"), [newest.ages.get(hour, 0) for hour in hours])],
        category_name=_("Age"),
        exact=display.number,
    )
    return Panel(title=_AGES, chart=chart, source=_SOURCE, as_of=newest.at, order=10)


@panel(_CONCURRENT, source=_SOURCE, permission=_SEE, order=20)
def concurrent(request: Any) -> Panel:  # noqa: ARG001
    """The most sessions that were live at the same time, per half hour of the last day."""
    now = timezone.now()
    first = _half_hour(now) - dt.timedelta(hours=HOURS) + STEP
    found = samples.since(first)
    if not found:
        return _absent(_CONCURRENT, None, 20)
    times = [first + STEP * number for number in range(int(dt.timedelta(hours=HOURS) / STEP))]
    chart = charts.lines(
        title=_CONCURRENT,
        subtitle=_("most in each half hour of the last 24 hours, Bogotá time; a gap was not measured"),
        categories=[display.clock(moment) for moment in times],
        series=[
            charts.Line(_("browsers"), _most(found, times, UserSession.Kind.COOKIE)),
            charts.Line(_("tokens"), _most(found, times, UserSession.Kind.TOKEN)),
        ],
        category_name=_("Half hour from"),
        exact=display.number,
    )
    return Panel(title=_CONCURRENT, chart=chart, source=_SOURCE, as_of=found[-1].at, order=20)


def _most(found: list[samples.Moment], times: list[dt.datetime], kind: str) -> list[int | None]:
    most: dict[dt.datetime, int] = {}
    for moment in found:
        slot = _half_hour(moment.at)
        most[slot] = max(most.get(slot, 0), moment.of_kind(kind))
    return [most.get(moment) for moment in times]


def _half_hour(moment: dt.datetime) -> dt.datetime:
    return moment - dt.timedelta(seconds=moment.timestamp() % STEP.total_seconds())


def _absent(title: Any, since: dt.datetime | None, order: int) -> Panel:
    return Panel(
        title=title, source=_SOURCE, state=State.UNKNOWN, since=since, order=order,
        detail=_("the worker writes the first sample within 5 minutes"),
    )  # fmt: skip
