"""What the audit trail and the database say of themselves on the dashboard."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mestore.lib import sql
from mestore.lib.console import Panel, State, collect, display, panel
from monitoring import pools
from monitoring.signals import Severity

# Beyond this many, counting them would cost more than it tells.
COUNTED = 10_000
# They run each minute: after this, what they do not say means nothing.
DETECTORS_OLD = dt.timedelta(minutes=5)
# What waits in the trail and for a person, and when the watched work last ran: the overview asks once.
_STANDING = """
SELECT count(*), min(occurred_at),
       (SELECT jsonb_object_agg(severity, many) FROM (
            SELECT severity, count(*) AS many FROM (
                SELECT severity FROM monitoring_signal WHERE NOT state = 'archived'
                 ORDER BY severity DESC, last_seen_at DESC LIMIT %(most)s) AS worst
             GROUP BY severity) AS open),
       (SELECT min(last_ran_at) FROM monitoring_watch)
FROM (SELECT occurred_at FROM audit_pending ORDER BY id LIMIT %(most)s) AS oldest
"""


def panels(request: Any) -> list[Panel]:
    return collect(request, (standing, database_pool))


@panel(gettext_lazy("Audit log"), source=gettext_lazy("queue of the audit trail"), order=60)
def standing(request: Any) -> list[Panel]:
    """The trail, and for those who may see them the signals: one statement."""
    count, oldest, signals, ran_at = sql.fetch_one(_STANDING, {"most": COUNTED}) or (0, None, None, None)
    made = [_audit_pending(count, oldest, may_see=request.user.has_perm("monitoring.view_auditevent"))]
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


def _audit_pending(count: int, oldest: dt.datetime | None, *, may_see: bool) -> Panel:
    """Whether events are being recorded, and how many are not sealed in the signed log yet."""
    many = f"{display.number(COUNTED)}+" if count >= COUNTED else display.number(count)
    detail = _("all of them sealed")
    if oldest is not None:
        words = ngettext("%(many)s event not sealed yet", "%(many)s events not sealed yet", count)
        detail = f"{words % {'many': many}} · {_('oldest %(age)s') % {'age': display.age(oldest)}}"
    return Panel(
        title=_("Audit log"),
        value=_("recording"),
        detail=detail,
        source=_("queue of the audit trail"),
        as_of=timezone.now(),
        state=State.PLAIN,
        link=reverse("admin:monitoring_auditevent_changelist") if may_see else "",
        order=60,
    )


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
