"""What the integrity page says about the months of the trail: held, due, archived, given up."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mestore.lib.console import Panel, State, Table, display
from monitoring import retirement
from monitoring.archives import named
from monitoring.retirement import Month

SHOWN = 60
_WORDS = {
    retirement.State.HELD: gettext_lazy("held"),
    retirement.State.DUE: gettext_lazy("due"),
    retirement.State.ARCHIVED: gettext_lazy("archived, waits for a second person"),
    retirement.State.DECIDED: gettext_lazy("given up, its table stands still"),
    retirement.State.RETIRED: gettext_lazy("retired"),
}
_STATES = {
    retirement.State.HELD: State.GOOD,
    retirement.State.DUE: State.WARNING,
    retirement.State.ARCHIVED: State.WARNING,
    retirement.State.DECIDED: State.WARNING,
    retirement.State.RETIRED: State.GOOD,
}


def figure(months: Sequence[Month], moment: dt.datetime) -> Panel:
    """How much of the trail stands, how much is archived only, and what comes next."""
    held = [one for one in months if one.state is not retirement.State.RETIRED]
    past = [one for one in held if one.state is not retirement.State.HELD]
    retired = len(months) - len(held)
    words = ngettext("%(many)s month retired", "%(many)s months retired", retired)
    detail = words % {"many": display.number(retired)}
    if past:
        due = ngettext("%(many)s month is due", "%(many)s months are due", len(past))
        detail += "; " + due % {"many": display.number(len(past))}
    elif held:
        detail += "; " + _("%(month)s is due on %(day)s") % {
            "month": named(held[0].month), "day": held[0].due_on.isoformat(),
        }  # fmt: skip
    return Panel(
        title=_("Months held"),
        value=display.number(len(held)),
        detail=detail,
        source=_("tables of the audit trail"),
        as_of=moment,
        state=State.WARNING if past else State.GOOD,
    )


def table(months: Sequence[Month]) -> Table:
    """The months that are more than simply held, and the one that is due next; newest first."""
    held = [one for one in months if one.state is retirement.State.HELD]
    told = [one for one in months if one.state is not retirement.State.HELD] + held[:1]
    return Table(
        title=_("Months of the trail"),
        headers=[_("Month"), _("State"), _("Due on"), _("Events"), _("Archive"), _("SHA-256"), _("Given up")],
        rows=[_row(one) for one in reversed(told[-SHOWN:])],
        numeric=frozenset({3}),
        empty=_("The trail has no months yet."),
        note=ngettext(
            "Each month stands for %(many)d whole month; then two people may archive and drop it.",
            "Each month stands for %(many)d whole months; then two people may archive and drop it.",
            settings.AUDIT_MONTHS,
        )
        % {"many": settings.AUDIT_MONTHS},
    )


def _row(one: Month) -> tuple[Any, ...]:
    manifest = one.manifest
    return (
        named(one.month),
        display.state(_STATES[one.state], _WORDS[one.state]),
        one.due_on.isoformat(),
        display.EMPTY if manifest is None else display.number(manifest.events),
        display.EMPTY if manifest is None else display.code(manifest.file),
        display.EMPTY if manifest is None else display.code(manifest.sha256.hex()),
        display.EMPTY if one.decided_at is None else display.moment(one.decided_at),
    )
