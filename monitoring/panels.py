"""What the audit trail and the database say of themselves on the dashboard."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mestore.lib import sql
from mestore.lib.console import Panel, State, collect, display, panel
from monitoring import pools

# Beyond this many, counting them would cost more than it tells.
COUNTED = 10_000
_PENDING = """
SELECT count(*), min(occurred_at) FROM (SELECT occurred_at FROM audit_pending ORDER BY id LIMIT %s) AS oldest
"""


def panels(request: Any) -> list[Panel]:
    return collect(request, (audit_pending, database_pool))


@panel(gettext_lazy("Audit log"), source=gettext_lazy("queue of the audit trail"), order=60)
def audit_pending(request: Any) -> Panel:
    """Whether events are being recorded, and how many are not sealed in the signed log yet."""
    count, oldest = sql.fetch_one(_PENDING, [COUNTED]) or (0, None)
    may_see = request.user.has_perm("monitoring.view_auditevent")
    many = f"{display.number(COUNTED)}+" if count >= COUNTED else display.number(count)
    detail = _("all of them sealed")
    if count:
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
