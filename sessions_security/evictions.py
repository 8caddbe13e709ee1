"""What follows when a sign-in ends the oldest session of an account, because its role allows no more.

The person is told: it may be somebody else's sign-in. An account that runs into its limit again and again is
shared, tried out or automated, and somebody should look. Machines are neither told nor watched: a client that
asks for a new token instead of keeping one does this all day.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Final
from uuid import UUID

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.roles import Role
from mestore.lib import throttle
from mestore.lib.actor import Actor
from mestore.lib.throttle import Limit
from monitoring import alerts, delivery
from monitoring.alerts import Severity
from sessions_security.models import UserSession

LIMIT: Final = "limit"
"""Why such a session ended."""
WATCHED: Final = dt.timedelta(days=1)
SIGNAL = alerts.declare(
    alerts.Rule(
        "sessions.evictions", _("An account runs into its number of sessions"), Severity.MEDIUM, "evictions"
    )
)
_MAIL = Limit("eviction-mail", 1, 3_600)


def tell(user: User, evicted: Collection[UUID], *, by: Actor) -> None:
    """Mail `user` that their sessions were ended by the sign-in of `by`; raise a signal when it is often.

    Runs in the sign-in's transaction, which holds the account. One mail an hour; staff is always told.
    """
    if not evicted or user.user_type == Role.SYSTEM:
        return
    if user.is_staff or throttle.hit([(_MAIL, str(user.pk))]).allowed:
        context = {
            "count": len(evicted),
            "address": by.address or "",
            "agent": by.agent,
            "at": timezone.now(),
        }
        delivery.notify(user, "session_evicted", context, by=by)
    since = timezone.now() - WATCHED
    ended = UserSession.objects.filter(user=user, revoked_why=LIMIT, revoked_at__gt=since).count()
    if ended >= settings.SESSION_EVICTIONS_TO_LOOK_AT:
        evidence = {"ended_in_a_day": ended, "address": by.address or "", "role": str(user.user_type)}
        alerts.raise_signal(SIGNAL, entity=("user", str(user.pk)), evidence=evidence)
