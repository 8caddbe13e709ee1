"""What the integrity page says about the guards of the trail: as the trail itself saw them, hour by hour."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mestore.lib.console import Panel, State, display
from monitoring.guards_seen import Day

SOURCE = gettext_lazy("events of the trail, one each hour")


def figure(day: Day) -> Panel:
    """Whether the newest look found the guards as they should be, and how many hours of the day have none."""
    title, last = _("Guards of the trail"), day.newest
    words = ngettext(
        "%(many)s hour of the last day without a look", "%(many)s hours of the last day without a look",
        len(day.missing),
    )  # fmt: skip
    missing = words % {"many": display.number(len(day.missing))} if day.missing else ""
    if last is None:
        detail = missing or _("nobody has looked yet: does a worker run?")
        return Panel(title=title, detail=detail, source=SOURCE, state=State.UNKNOWN)
    seen = ngettext("%(many)s watched table", "%(many)s watched tables", last.tables)
    detail = seen % {"many": display.number(last.tables)}
    if last.first:
        detail = last.first[0]
    return Panel(
        title=title,
        value=_("in place") if last.is_whole else _("not whole"),
        detail="; ".join(text for text in (detail, missing) if text),
        source=SOURCE,
        as_of=last.at,
        state=State.CRITICAL if not last.is_whole else State.WARNING if missing else State.GOOD,
    )
