"""What is drawn above the list of locks: failures in time, and what apps above know of where they come from.

An app that sees more of an attempt than accounts do adds its panel with `also` when its pages are declared.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mestore.lib import charts
from mestore.lib.console import Panel, State, collect, display, panel
from mestore.lib.console.figures import Guarded
from monitoring import events, selectors

SEE: Final = "accounts.view_user"
SPAN: Final = dt.timedelta(hours=2)
STEP: Final = dt.timedelta(minutes=5)
KEEP_SECONDS: Final = 15

_TITLE = gettext_lazy("Failures, every 5 minutes")
_SOURCE = gettext_lazy("audit trail")
_KINDS: Final = (
    (gettext_lazy("wrong password"), (events.SIGN_IN_FAILED,)),
    (gettext_lazy("wrong second factor"), (events.FACTOR_REFUSED,)),
    (gettext_lazy("refused by a rule"), (events.SIGN_IN_REFUSED, events.SIGN_IN_RISK_REFUSED)),
)
_more: list[Guarded] = []


def also(builder: Guarded) -> None:
    """Show the panel of `builder`, once, above the list of locks."""
    if builder not in _more:
        _more.append(builder)


def panels(request: Any) -> list[Panel]:
    """The charts that this person may see."""
    return collect(request, (failures, *_more))


@panel(_TITLE, source=_SOURCE, permission=SEE, order=10, keep_seconds=KEEP_SECONDS)
def failures(request: Any) -> Panel:  # noqa: ARG001  # every panel is asked by a request
    """Failed and refused attempts of the last two hours by kind, in steps of five minutes. One statement."""
    now = timezone.now()
    last = selectors.step_of(now, STEP)
    times = [last - STEP * back for back in reversed(range(int(SPAN / STEP)))]
    codes = [code for _word, kinds in _KINDS for code in kinds]
    counted = selectors.counts_by_step(codes, since=times[0], step=STEP)
    if not counted:
        return Panel(
            title=_TITLE, value=_("none"), detail=_("in the last two hours"), source=_SOURCE, as_of=now,
            state=State.GOOD, order=10,
        )  # fmt: skip
    chart = charts.stacked_bars(
        title=_TITLE,
        subtitle=_("attempts that failed or were refused in the last two hours, Bogotá time"),
        categories=[display.clock(moment) for moment in times],
        series=[
            charts.Series(word, [sum(counted.get((at, code), 0) for code in kinds) for at in times])
            for word, kinds in _KINDS
        ],
        category_name=_("From"),
        exact=display.number,
    )
    return Panel(title=_TITLE, chart=chart, source=_SOURCE, as_of=now, order=10)
