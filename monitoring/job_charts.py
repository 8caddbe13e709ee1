"""How deep the line of jobs was over the last day, as the jobs page draws it."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mestore.lib import charts
from mestore.lib.console import Panel, State, display, panel
from monitoring import job_depth
from monitoring.job_depth import Depth

SPAN: Final = dt.timedelta(hours=24)
STEP: Final = dt.timedelta(minutes=30)
_TITLE, _SOURCE = gettext_lazy("Depth of the line"), gettext_lazy("samples of the worker, every minute")


@panel(_TITLE, source=_SOURCE, permission="procrastinate.view_procrastinatejob", order=10)
def depth(request: Any) -> Panel:  # noqa: ARG001 - every panel is asked by a request
    """The most jobs that waited, ran and had failed, per half hour of the last day."""
    slots, found = _day()
    if not found:
        return Panel(
            title=_TITLE, source=_SOURCE, state=State.UNKNOWN, order=10,
            detail=_("a worker that runs writes the first sample within a minute"),
        )  # fmt: skip
    at = {one.slot: one for one in found}
    steps = [at.get(slot) for slot in slots]
    chart = charts.lines(
        title=_TITLE,
        subtitle=_("most jobs in each half hour of the last 24 hours, Bogotá time; in a gap no worker ran"),
        categories=[display.clock(slot) for slot in slots],
        series=[
            charts.Line(_("waiting"), [None if one is None else one.waiting for one in steps]),
            charts.Line(_("running"), [None if one is None else one.running for one in steps]),
            charts.Line(_("failed"), [None if one is None else one.failed for one in steps]),
        ],
        category_name=_("Half hour from"),
        exact=display.number,
        note=_longest(found),
    )
    return Panel(title=_TITLE, chart=chart, source=_SOURCE, as_of=max(one.at for one in found), order=10)


def _day() -> tuple[list[dt.datetime], list[Depth]]:
    now = timezone.now()
    last = now - dt.timedelta(seconds=now.timestamp() % STEP.total_seconds())
    first = last - SPAN + STEP
    return [first + STEP * number for number in range(int(SPAN / STEP))], job_depth.since(first, STEP)


def _longest(found: list[Depth]) -> str:
    """How long the oldest job had to wait at the worst."""
    worst = max(found, key=lambda one: one.oldest_seconds or 0)
    if not worst.oldest_seconds:
        return _("No job had to wait.")
    return _("The longest that a job had waited: %(seconds)s s, in the half hour from %(clock)s.") % {
        "seconds": display.number(worst.oldest_seconds), "clock": display.clock(worst.slot),
    }  # fmt: skip
