"""The figures, charts and tables of the integrity page."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mestore.lib import charts
from mestore.lib.console import Panel, State, Table, collect, display, panel
from monitoring import cosigning, integrity, overdue, receipt_matching, verifications
from monitoring.cosigning import LastWord
from monitoring.integrity import Standing
from monitoring.verifications import Mode, Run

FULL_RUNS = 4
"""Full runs that are shown behind those of each minute, which would hide them."""
MODE_WORDS = {
    "tail": gettext_lazy("what came last"),
    "range": gettext_lazy("a range"),
    "full": gettext_lazy("everything"),
}
LOG = gettext_lazy("the signed log")


def figures(request: Any, now: Standing, words: Sequence[LastWord], runs: Sequence[Run]) -> list[Panel]:
    """What the page begins with."""
    moment = timezone.now()
    return [
        _size(now, moment),
        checkpoint(now, moment),
        pending(now, moment),
        witness(words, now.signed_size, moment),
        *collect(request, (receipts, sample)),
        verified(runs, moment),
    ]


def _size(now: Standing, moment: dt.datetime) -> Panel:
    return Panel(
        title=_("Events in the log"),
        value=display.number(now.size),
        detail=_("log %(number)d") % {"number": now.epoch},
        source=LOG,
        as_of=moment,
    )


def checkpoint(now: Standing, moment: dt.datetime) -> Panel:
    """How fresh the signature is."""
    title = _("Signed checkpoint")
    if now.signed_size is None or now.published_at is None:
        return Panel(
            title=title, value=_("never"), detail=_("nothing is signed yet: does a worker run?"), source=LOG,
            as_of=moment, state=State.WARNING,
        )  # fmt: skip
    is_old = integrity.is_old(now.published_at, integrity.CHECKPOINT_OLD, moment)
    unsigned = ngettext("%(many)s event not signed yet", "%(many)s events not signed yet", now.unsigned)
    return Panel(
        title=title,
        value=_("%(age)s ago") % {"age": display.age(now.published_at, moment)},
        detail=unsigned % {"many": display.number(now.unsigned)},
        source=LOG,
        as_of=moment,
        state=State.CRITICAL if is_old else State.GOOD,
    )


def pending(now: Standing, moment: dt.datetime) -> Panel:
    """What waits for its place in the log."""
    many = (
        f"{display.number(integrity.COUNTED)}+"
        if now.pending >= integrity.COUNTED
        else display.number(now.pending)
    )
    is_old = now.oldest is not None and integrity.is_old(now.oldest, integrity.PENDING_OLD, moment)
    detail = _("nothing waits")
    if now.oldest is not None:
        detail = _("oldest %(age)s") % {"age": display.age(now.oldest, moment)}
    return Panel(
        title=_("Waiting for a place"), value=many, detail=detail, source=_("queue of the audit trail"),
        as_of=moment, state=State.WARNING if is_old else State.GOOD,
    )  # fmt: skip


def witness(words: Sequence[LastWord], signed: int | None, moment: dt.datetime) -> Panel:
    """Whether somebody outside would notice a rewritten log."""
    title = _("Witnesses")
    if not words:
        return Panel(
            title=title, value=_("none"), detail=_("nobody outside would notice a rewritten log"),
            source=_("settings"), as_of=moment, state=State.CRITICAL,
        )  # fmt: skip
    silent = [one for one in words if one.cosigned_at is None]
    if silent:
        return Panel(
            title=title, value=_("silent"),
            detail=_("never heard of: %(name)s") % {"name": silent[0].witness},
            source=_("cosignatures"), as_of=moment, state=State.CRITICAL,
        )  # fmt: skip
    last = min(words, key=lambda one: one.cosigned_at or moment)
    is_behind = (last.size or 0) < (signed or 0)
    is_old = is_behind and integrity.is_old(last.cosigned_at, integrity.WITNESS_OLD, moment)
    return Panel(
        title=title,
        value=_("%(age)s ago") % {"age": display.age(last.cosigned_at or moment, moment)},
        detail=_("%(name)s saw %(size)s events")
        % {"name": last.witness, "size": display.number(last.size or 0)},
        source=_("cosignatures"),
        as_of=moment,
        state=State.CRITICAL if is_old else State.GOOD,
    )


@panel(gettext_lazy("Receipts"), source=gettext_lazy("log stream compared with the trail"))
def receipts(request: Any) -> Panel:  # noqa: ARG001 - a panel is asked with it
    """Whether what processes said they wrote is there, and the other way round."""
    found = receipt_matching.latest()
    source = _("log stream compared with the trail")
    if found is None:
        return Panel(title=_("Receipts"), detail=_("never compared"), source=source, state=State.UNKNOWN)
    wrong = found.unmatched
    return Panel(
        title=_("Receipts"),
        value=_("matched") if not wrong else _("%(many)s unmatched") % {"many": display.number(wrong)},
        detail=_("%(many)s receipts; %(event)s without event, %(receipt)s events without receipt")
        % {
            "many": display.number(found.receipts), "event": display.number(found.without_event),
            "receipt": display.number(found.without_receipt),
        },
        source=source,
        as_of=found.matched_at,
        state=State.CRITICAL if wrong else State.GOOD,
    )  # fmt: skip


@panel(gettext_lazy("Random sample"), source=gettext_lazy("events compared with the log"))
def sample(request: Any) -> Panel:  # noqa: ARG001 - a panel is asked with it
    """Leaves picked at random, compared with their events."""
    found = integrity.sampled()
    faults = len(found.sample.faults)
    words = ngettext("%(many)s event compared", "%(many)s events compared", found.sample.checked)
    return Panel(
        title=_("Random sample"),
        value=_("altered") if faults else (_("as sealed") if found.sample.checked else _("empty")),
        detail=words % {"many": display.number(found.sample.checked)},
        source=_("events compared with the log"),
        as_of=found.at,
        state=State.CRITICAL if faults else State.GOOD if found.sample.checked else State.UNKNOWN,
    )


def verified(runs: Sequence[Run], moment: dt.datetime) -> Panel:
    """The newest run over everything that came to its end."""
    title, source = _("Last full verification"), _("runs of the verifier")
    last = integrity.newest(runs, Mode.FULL)
    if last is None or last.finished_at is None:
        return Panel(title=title, source=source, state=State.UNKNOWN)
    is_old = integrity.is_old(last.finished_at, overdue.LIMIT, moment)
    rate = display.number(last.rows_per_second or 0)
    return Panel(
        title=title,
        value=_("sound") if not last.faults else _("not sound"),
        detail=_("%(many)s events, %(rate)s in a second")
        % {"many": display.number(last.upto - last.begin), "rate": rate},
        source=source,
        as_of=last.finished_at,
        state=State.CRITICAL if last.faults else State.WARNING if is_old else State.GOOD,
    )


def drawn(runs: Sequence[Run]) -> Iterable[Panel]:
    """Both charts."""
    return [_lags(), _rates(runs)]


def _lags() -> Panel:
    title, source = _("From event to signature"), LOG
    found = integrity.lags()
    if not found:
        return Panel(title=title, source=source, state=State.UNKNOWN)
    chart = charts.lines(
        title=title,
        subtitle=_("seconds that the first event under each checkpoint waited; newest %(many)d checkpoints")
        % {"many": integrity.CHECKPOINTS},
        categories=[f"{one.signed_at.astimezone(display.BOGOTA):%H:%M}" for one in found],
        series=[charts.Line(_("seconds"), [max(0, round(one.seconds)) for one in found])],
        category_name=_("Signed"),
        exact=display.number,
    )
    return Panel(title=title, chart=chart, source=source, as_of=found[-1].signed_at)


def _rates(runs: Sequence[Run]) -> Panel:
    title, source = _("Speed of verification"), _("runs of the verifier")
    done = [run for run in reversed(runs) if run.finished_at is not None and run.rows_per_second]
    if not done:
        return Panel(title=title, source=source, state=State.UNKNOWN)
    chart = charts.stacked_bars(
        title=title,
        subtitle=_("events in a second, newest %(many)d runs") % {"many": len(done)},
        categories=[f"{run.started_at.astimezone(display.BOGOTA):%H:%M}" for run in done],
        series=[charts.Series(_("events in a second"), [run.rows_per_second or 0 for run in done])],
        category_name=_("Began"),
        exact=display.number,
    )
    return Panel(title=title, chart=chart, source=source, as_of=done[-1].finished_at)


def witnesses_table(words: Sequence[LastWord]) -> Table:
    return Table(
        title=_("Each witness"),
        headers=[_("Witness"), _("Last word"), _("Events it saw"), _("Key")],
        rows=[
            (one.witness, display.moment(one.cosigned_at), _many(one.size), display.code(key))
            for one, key in zip(words, [str(one.key) for one in cosigning.configured()], strict=True)
        ],
        numeric=frozenset({2}),
        empty=_("No witness is configured: nobody outside would notice a rewritten log."),
        note=_("A witness signs a checkpoint only when the log it saw before is still its beginning."),
    )


def ended_tables(now: Standing) -> list[Table]:
    """The logs before this one, where there are any: each ended with a loss that was admitted."""
    if not now.ended:
        return []
    return [
        Table(
            title=_("Logs that ended"),
            headers=[_("Log"), _("Events"), _("Ended"), _("Why"), _("Agreed by")],
            rows=[
                (one.epoch, display.number(one.size), display.moment(one.ended_at), one.reason,
                 ", ".join(one.approved_by))
                for one in now.ended
            ],
            numeric=frozenset({1}),
            note=_("A log ends when part of it was lost, two people say so, and the next one begins."),
        )
    ]  # fmt: skip


def runs_table(runs: Sequence[Run]) -> Table:
    return Table(
        title=_("Verifications"),
        headers=[_("Began"), _("What"), _("Leaves"), _("Result"), _("In a second"), _("By")],
        rows=[
            (display.moment(run.started_at), MODE_WORDS.get(run.mode, run.mode),
             f"{display.number(run.begin)}–{display.number(run.upto)}", _result(run),
             _many(run.rows_per_second),
             _who(run.actor))
            for run in runs
        ],
        numeric=frozenset({2, 4}),
        empty=_("Nothing was verified yet. A worker verifies the newest each minute, and all of it nightly."),
    )  # fmt: skip


def read_runs() -> list[Run]:
    """The newest runs, and the newest full ones; one statement."""
    return verifications.latest(full=FULL_RUNS)


def _result(run: Run) -> Any:
    if run.faults:
        first = run.faults[0]
        words = ngettext("%(many)d fault", "%(many)d faults", len(run.faults)) % {"many": len(run.faults)}
        mark = display.state(State.CRITICAL, words)
        event = first.get("event")
        where = str(first.get("what", ""))
        if first.get("leaf") is not None:
            where = _("leaf %(leaf)s: %(what)s") % {"leaf": first["leaf"], "what": where}
        if event:
            where = display.link(reverse("admin:monitoring_auditevent_change", args=[event]), where)
        return display.two_lines(mark, where)
    if run.finished_at is None:
        return display.state(State.UNKNOWN, _("goes on, or was cut short"))
    return display.state(State.GOOD, _("sound"))


def _many(value: int | None) -> str:
    return display.EMPTY if value is None else display.number(value)


def _who(actor: str) -> Any:
    return display.short_id(actor)
