"""What the integrity page says about rows of watched tables: when they were compared with the trail."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mestore.lib.console import Panel, State, Table, display
from monitoring import row_reconciliation, row_records
from monitoring.row_records import Record

RUNS = 10
SHOWN = 5
SOURCE = gettext_lazy("rows of watched tables compared with the trail")


def read() -> list[Record]:
    """The newest reconciliations; one statement."""
    return row_records.newest(RUNS)


def figure(records: Sequence[Record], moment: dt.datetime) -> Panel:
    """Whether the trail tells of every row that came, went or changed, as of the newest comparison."""
    title = _("Watched tables")
    if not records:
        return Panel(title=title, detail=_("never compared"), source=SOURCE, state=State.UNKNOWN)
    last = records[0]
    if not last.is_ours:
        return Panel(
            title=title, value=_("forged"), detail=_("the newest comparison was not written by this service"),
            source=SOURCE, as_of=last.taken_at, state=State.CRITICAL,
        )  # fmt: skip
    wrong, many = len(last.said["differences"]), int(last.said["tables"])
    words = ngettext("%(many)s table, %(rows)s rows", "%(many)s tables, %(rows)s rows", many)
    detail = words % {"many": display.number(many), "rows": display.number(int(last.said["rows"]))}
    if last.said["since"] is None:
        detail += "; " + _("counted for the first time")
    untold = ngettext("%(many)s difference", "%(many)s differences", wrong) % {"many": display.number(wrong)}
    begun_anew = last.said["since"] is None and len(records) > 1
    is_old = moment - last.taken_at > row_reconciliation.OLD
    return Panel(
        title=title,
        value=untold if wrong else _("as the trail tells"),
        detail=detail,
        source=SOURCE,
        as_of=last.taken_at,
        state=State.CRITICAL if wrong else State.WARNING if is_old or begun_anew else State.GOOD,
    )


def table(records: Sequence[Record]) -> Table:
    """The newest comparisons, with what the trail does not tell."""
    return Table(
        title=_("Comparisons of rows with the trail"),
        headers=[_("Taken"), _("Since"), _("Tables"), _("Rows"), _("Result"), _("By")],
        rows=[_row(one) for one in records],
        numeric=frozenset({2, 3}),
        empty=_("Nothing was compared yet. A worker compares every night."),
        note=_(
            "Rows that came, went or changed since the comparison before, against the events that tell of it:"
            " what was done while a trigger was off is here. Each compares with the one before."
        ),
    )


def _row(one: Record) -> tuple[Any, ...]:
    taken = display.moment(one.taken_at)
    if not one.is_ours:
        forged = display.state(State.CRITICAL, _("not written by this service"))
        return (taken, display.EMPTY, display.EMPTY, display.EMPTY, forged, display.EMPTY)
    said = one.said
    since = said["since"]
    return (
        taken,
        display.EMPTY if since is None else display.moment(dt.datetime.fromisoformat(since)),
        display.number(int(said["tables"])),
        display.number(int(said["rows"])),
        _result(said),
        display.short_id(str(said["actor"])),
    )


def _result(said: Any) -> Any:
    differences = said["differences"]
    if not differences:
        mark = display.state(State.GOOD, _("as the trail tells"))
        # Kept in English, in which its MAC was made; a note about one table stays so.
        notes = "; ".join(_(note) for note in said["notes"][:SHOWN])
        return display.two_lines(mark, notes) if notes else mark
    many = len(differences)
    words = ngettext("%(many)s difference", "%(many)s differences", many) % {"many": display.number(many)}
    named = "; ".join(f"{one['table']}: {one['what']}" for one in differences[:SHOWN])
    return display.two_lines(display.state(State.CRITICAL, words), named)
