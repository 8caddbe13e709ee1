"""What the audit trail and the database say of themselves on the dashboard."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mestore.lib import sql
from mestore.lib.console import Panel, State, collect, display, panel
from monitoring import cosigning, integrity, pools
from monitoring.signals import Severity

# Beyond this many, counting them would cost more than it tells.
COUNTED = 10_000
# They run each minute: after this, what they do not say means nothing.
DETECTORS_OLD = dt.timedelta(minutes=5)
# What waits in the trail and for a person, when the watched work last ran, how far the log is signed and what
# witnesses said last: the overview asks once.
_STANDING = """
SELECT p.many, p.oldest,
       (SELECT jsonb_object_agg(severity, many) FROM (
            SELECT severity, count(*) AS many FROM (
                SELECT severity FROM monitoring_signal WHERE NOT state = 'archived'
                 ORDER BY severity DESC, last_seen_at DESC LIMIT %(most)s) AS worst
             GROUP BY severity) AS open),
       (SELECT min(last_ran_at) FROM monitoring_watch),
       t.size, t.published_at, c.size, w.spoke, w.oldest, w.size
FROM (SELECT count(*) AS many, min(occurred_at) AS oldest
      FROM (SELECT occurred_at FROM audit_pending ORDER BY id LIMIT %(most)s) AS line) AS p
LEFT JOIN audit_tree t ON true
LEFT JOIN LATERAL (
    SELECT size FROM audit_checkpoint WHERE epoch = t.epoch ORDER BY size DESC LIMIT 1) AS c ON true
LEFT JOIN LATERAL (
    SELECT count(s.cosigned_at) AS spoke, min(s.cosigned_at) AS oldest, min(s.size) AS size
    FROM unnest(%(witnesses)s::text[]) AS wanted (name)
    LEFT JOIN LATERAL (
        SELECT cosigned_at, size FROM audit_cosignature WHERE epoch = t.epoch AND witness = wanted.name
        ORDER BY size DESC LIMIT 1) AS s ON true) AS w ON true
"""


@dataclass(frozen=True, slots=True)
class Log:
    """How far the log is signed and seen. `spoke` of `wanted` witnesses have ever said something."""

    pending: int
    oldest: dt.datetime | None
    size: int
    published_at: dt.datetime | None
    signed: int
    wanted: int
    spoke: int
    seen_at: dt.datetime | None
    seen: int


def panels(request: Any) -> list[Panel]:
    return collect(request, (standing, database_pool))


@panel(gettext_lazy("Audit log"), source=gettext_lazy("queue of the audit trail"), order=60)
def standing(request: Any) -> list[Panel]:
    """The trail, and for those who may see them the signals: one statement."""
    names = [one.key.name for one in cosigning.configured()]
    row = sql.fetch_one(_STANDING, {"most": COUNTED, "witnesses": names}) or (0, *(None,) * 9)
    count, oldest, signals, ran_at, size, published_at, signed, spoke, seen_at, seen = row
    now = Log(count, oldest, size or 0, published_at, signed or 0, len(names), spoke or 0, seen_at, seen or 0)
    made = [_audit_log(now, may_see=request.user.has_perm("monitoring.view_auditevent"))]
    if request.user.has_perm("monitoring.view_signal"):
        found = {Severity(int(severity)): many for severity, many in _decoded(signals).items()}
        made.append(_signals(found, ran_at))
    return made


def _decoded(value: Any) -> dict[str, int]:
    # Whether the driver has decoded a JSON column depends on the connection.
    found: dict[str, int] = json.loads(value) if isinstance(value, str) else value or {}
    return found


def _signals(found: dict[Severity, int], ran_at: dt.datetime | None) -> Panel:
    """Open signals by severity, and how old the knowledge is that there are no others."""
    worst = max(found, default=None)
    state = State.GOOD
    if worst is not None:
        state = State.CRITICAL if worst >= Severity.HIGH else State.WARNING
    words = [f"{display.number(found[one])} {one.label}" for one in reversed(Severity) if one in found]
    ran = _("detectors: no data, they never ran")
    if ran_at is not None:
        ran = _("detectors last ran %(age)s ago") % {"age": display.age(ran_at)}
    if ran_at is None or timezone.now() - ran_at > DETECTORS_OLD:
        state = max(state, State.WARNING, key=(State.GOOD, State.WARNING, State.CRITICAL).index)
    return Panel(
        title=_("Open signals"),
        value=display.number(sum(found.values())),
        detail=" · ".join([*words, ran]),
        source=_("signals"),
        as_of=timezone.now(),
        state=state,
        link=reverse("admin:monitoring_signal_changelist"),
        order=5,
    )


def _audit_log(found: Log, *, may_see: bool) -> Panel:
    """Whether what happened is sealed in the signed log, and whether somebody outside saw it."""
    now = timezone.now()
    state, word = _sealing(found, now)
    watched, words = _watching(found, now)
    return Panel(
        title=_("Audit log"),
        value=word,
        detail=" · ".join([_pending_words(found), words]),
        source=_("the signed log"),
        as_of=now,
        state=max(state, watched, key=(State.GOOD, State.WARNING, State.CRITICAL).index),
        link=reverse("console-integrity") if may_see else "",
        order=60,
    )


def _sealing(found: Log, now: dt.datetime) -> tuple[State, str]:
    if found.published_at is None:
        return State.WARNING, _("not signed yet")
    if integrity.is_old(found.published_at, integrity.CHECKPOINT_OLD, now):
        return State.CRITICAL, _("unsigned for %(age)s") % {"age": display.age(found.published_at, now)}
    if found.oldest is not None and integrity.is_old(found.oldest, integrity.PENDING_OLD, now):
        return State.WARNING, _("behind")
    return State.GOOD, _("sealed")


def _pending_words(found: Log) -> str:
    events = ngettext("%(many)s event", "%(many)s events", found.size) % {"many": display.number(found.size)}
    if found.oldest is None:
        return events
    many = f"{display.number(COUNTED)}+" if found.pending >= COUNTED else display.number(found.pending)
    waits = ngettext("%(many)s event not sealed yet", "%(many)s events not sealed yet", found.pending)
    return f"{events} · {waits % {'many': many}} · {_('oldest %(age)s') % {'age': display.age(found.oldest)}}"


def _watching(found: Log, now: dt.datetime) -> tuple[State, str]:
    """What witnesses say: one that has seen all that is signed may be silent for as long as it likes."""
    if not found.wanted:
        return State.WARNING, _("no witness")
    if found.seen_at is None or found.spoke < found.wanted:
        return State.WARNING, _("a witness never spoke")
    words = _("witness %(age)s") % {"age": display.age(found.seen_at, now)}
    is_late = found.seen < found.signed and integrity.is_old(found.seen_at, integrity.WITNESS_OLD, now)
    return (State.CRITICAL if is_late else State.GOOD), words


@panel(gettext_lazy("Database pool"), source=gettext_lazy("this process"), order=70)
def database_pool(request: Any) -> Panel:
    """How much of this process's pool is in use, and whether anybody waits for a connection."""
    statistics = pools.pool_statistics().get("default")
    if statistics is None:
        return Panel(title=_("Database pool"), source=_("this process"), state=State.UNKNOWN, order=70)
    used = statistics["size"] - statistics["available"]
    waiting = statistics["requests_waiting"]
    return Panel(
        title=_("Database pool"),
        value=_("%(used)d of %(most)d") % {"used": used, "most": statistics["max"]},
        detail=ngettext("%(count)d waiting", "%(count)d waiting", waiting) % {"count": waiting},
        source=_("this process"),
        as_of=timezone.now(),
        state=State.WARNING if waiting else State.GOOD,
        order=70,
    )
