"""What is drawn above the audit explorer: events per hour by area, and who did most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mestore.lib import charts
from mestore.lib.console import Panel, display, panel
from monitoring import explorer
from monitoring.explorer import Activity, Doer

KIND_WORDS = {
    "user": gettext_lazy("person"),
    "machine": gettext_lazy("program"),
    "system": gettext_lazy("MeStore itself"),
    "anonymous": gettext_lazy("unknown caller"),
    "database": gettext_lazy("the database, past the application"),
}


@panel(gettext_lazy("Events per hour"), source=gettext_lazy("audit trail"), keep_seconds=30)
def activity(request: Any) -> Sequence[Panel]:  # noqa: ARG001 - the same for everybody who may see it
    """Both charts, from one reading."""
    now = timezone.now()
    found = explorer.activity(now)
    return [
        Panel(title=_("Events per hour"), chart=_hours(found), source=_("audit trail"), as_of=now),
        Panel(title=_("Who did most"), chart=_actors(found), source=_("audit trail"), as_of=now),
    ]


def _note(found: Activity) -> str:
    if not found.is_cut:
        return ""
    return _("Only the newest %(most)s events are counted; what is older is not drawn.") % {
        "most": display.number(explorer.COUNTED)
    }


def _hours(found: Activity) -> Any:
    return charts.stacked_bars(
        title=_("Events per hour"),
        subtitle=_("last 24 hours, by area; hours on Bogotá's clock"),
        categories=[display.clock(hour) for hour in found.hours],
        series=[
            charts.Series(_("access and security"), found.by_area["access"]),
            charts.Series(_("money"), found.by_area["money"]),
            charts.Series(_("everything else"), found.by_area["other"]),
        ],
        category_name=_("Hour"),
        exact=display.number,
        note=_note(found),
    )


def _actors(found: Activity) -> Any:
    return charts.ranked(
        title=_("Who did most"),
        subtitle=_("events of the last 24 hours, at most 8 actors"),
        rows=[charts.Rank(_name(doer), doer.count) for doer in found.actors],
        name_header=_("Actor"),
        value_header=_("Events"),
        exact=display.number,
        note=_note(found),
    )


def _name(doer: Doer) -> Any:
    """The actor, as a link to what they did."""
    kind = KIND_WORDS.get(doer.kind, doer.kind)
    base = reverse("admin:monitoring_auditevent_changelist")
    if doer.actor_id is None:
        query, words = {"actor_kind": doer.kind}, str(kind)
    else:
        query, words = {"actor_id": doer.actor_id}, f"{kind} …{doer.actor_id[-6:]}"
    return display.link(f"{base}?{urlencode(query)}", words)
