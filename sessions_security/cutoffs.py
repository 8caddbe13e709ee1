"""Which sessions a "sign everybody out" ended: all that began no later than the newest `SessionCutoff`.

The raw statements repeat the words of `session_check.LIVE`; querysets use `not_cut_off`.
"""

from __future__ import annotations

import datetime as dt

from django.db.models import Q, Subquery, Value
from django.db.models.functions import Coalesce

from sessions_security.models import SessionCutoff

_BEFORE_ANY = dt.datetime.min.replace(tzinfo=dt.UTC)


def not_cut_off() -> Q:
    """Return the condition on `UserSession` that it began after the newest end of all sessions.

    The database asks once per statement, however many sessions it looks at.
    """
    newest = SessionCutoff.objects.order_by("-at").values("at")[:1]
    return Q(created_at__gt=Coalesce(Subquery(newest), Value(_BEFORE_ANY)))
