"""Where failed sign-ins come from, drawn above the list of locks."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from django.db.models import Count
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import lockout_charts
from mestore.lib import charts
from mestore.lib.console import Panel, State, display, panel
from sessions_security.models import SignInAttempt

SPAN: Final = dt.timedelta(hours=1)
SHOWN: Final = 5
LOOKED_AT: Final = 20_000
"""The newest failures that are looked at: what the chart costs does not grow with an attack."""

_TITLE = gettext_lazy("Where failures come from")
_SOURCE = gettext_lazy("attempts to sign in")
_FAILED = (SignInAttempt.Outcome.WRONG, SignInAttempt.Outcome.REFUSED)


@panel(
    _TITLE,
    source=_SOURCE,
    permission="sessions_security.view_usersession",
    order=20,
    keep_seconds=lockout_charts.KEEP_SECONDS,
)
def top_sources(request: Any) -> Panel:  # noqa: ARG001  # every panel is asked by a request
    """The networks with the most failed sign-ins of the last hour. One statement."""
    now = timezone.now()
    newest = SignInAttempt.objects.filter(at__gt=now - SPAN, outcome__in=_FAILED).order_by("-at")
    found = list(
        SignInAttempt.objects.filter(pk__in=newest.values("pk")[:LOOKED_AT])
        .values_list("network", "outcome")
        .annotate(count=Count("pk"))
        .order_by()
    )
    if not found:
        return Panel(
            title=_TITLE, value=_("none"), detail=_("in the last hour"), source=_SOURCE, as_of=now,
            state=State.GOOD, order=20,
        )  # fmt: skip
    counts = {(network, outcome): count for network, outcome, count in found}
    networks = sorted(
        {network for network, _outcome in counts},
        key=lambda network: (-sum(counts.get((network, outcome), 0) for outcome in _FAILED), network),
    )[:SHOWN]
    chart = charts.stacked_bars(
        title=_TITLE,
        subtitle=_("networks with the most failed sign-ins of the last hour"),
        categories=[network or _("unknown") for network in networks],
        series=[
            charts.Series(outcome.label, [counts.get((network, outcome), 0) for network in networks])
            for outcome in _FAILED
        ],
        category_name=_("Network"),
        exact=display.number,
    )
    return Panel(title=_TITLE, chart=chart, source=_SOURCE, as_of=now, order=20)


lockout_charts.also(top_sources)
