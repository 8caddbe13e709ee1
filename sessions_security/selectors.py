"""What the console and the API read about sessions. Nothing here writes."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone

from sessions_security import cutoffs
from sessions_security.models import UserSession


@dataclass(frozen=True, slots=True)
class LiveCount:
    """How many sessions of one kind are live in one role."""

    role: str
    kind: str
    sessions: int


def live_sessions(*, before: UUID | None = None, limit: int = 50) -> list[UserSession]:
    """Return live sessions of everybody, newest first, starting after the id `before`; one statement."""
    found = live().select_related("user").order_by("-id")
    if before is not None:
        found = found.filter(pk__lt=before)
    return list(found[:limit])


def live_counts() -> list[LiveCount]:
    """Return how many sessions are live, by role and kind; one statement over live rows only."""
    rows = (
        live()
        .values_list("user__user_type", "kind")
        .annotate(Count("pk"))
        .order_by("user__user_type", "kind")
    )
    return [LiveCount(role, kind, count) for role, kind, count in rows]


def live() -> QuerySet[UserSession]:
    """Return the sessions of everybody that are alive now, in no order."""
    now = timezone.now()
    return UserSession.objects.filter(
        Q(idle_expires_at=None) | Q(idle_expires_at__gt=now),
        cutoffs.not_cut_off(),
        revoked_at=None,
        absolute_expires_at__gt=now,
        auth_epoch=F("user__auth_epoch"),
        user__is_active=True,
        user__deleted_at=None,
    )
