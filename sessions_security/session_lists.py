"""Lists of sessions for people and programs: one's own, and those of everybody for who administers them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet, Subquery

from accounts.models import User
from sessions_security import selectors, sessions
from sessions_security.models import RefreshToken, SessionCutoff, UserSession

LARGEST = 100


@dataclass(frozen=True, slots=True)
class Page:
    """Sessions, newest first, and the id after which the next page begins; None at the end."""

    sessions: list[UserSession]
    next: UUID | None


def own(user: User, *, after: UUID | None = None, limit: int = LARGEST) -> Page:
    """Return live sessions of `user`, newest first. One statement."""
    return _page(sessions.live(user).select_related("client"), after, limit)


def of_everybody(
    *, user_id: UUID | None = None, kind: str | None = None, after: UUID | None = None, limit: int = LARGEST
) -> Page:
    """Return live sessions of everybody, or of one account or kind, newest first. One statement."""
    narrowed: dict[str, Any] = {}
    if user_id is not None:
        narrowed["user_id"] = user_id
    if kind is not None:
        narrowed["kind"] = kind
    return _page(selectors.live().filter(**narrowed).select_related("user", "client"), after, limit)


def tokens_issued(session_ids: Iterable[UUID]) -> dict[UUID, int]:
    """Return how many refresh tokens each session has had; sessions without any are absent. One statement."""
    rows = RefreshToken.objects.filter(session__in=list(session_ids)).values_list("session")
    return dict(rows.annotate(Count("pk")).order_by())


def with_cutoff(rows: QuerySet[UserSession]) -> QuerySet[UserSession]:
    """Annotate `cut_at`, the newest end of everybody's sessions, asked once per statement."""
    return rows.annotate(cut_at=Subquery(SessionCutoff.objects.order_by("-at").values("at")[:1]))


def _page(rows: QuerySet[UserSession], after: UUID | None, limit: int) -> Page:
    limit = max(1, min(limit, LARGEST))
    if after is not None:
        rows = rows.filter(pk__lt=after)
    found = list(rows.order_by("-pk")[: limit + 1])
    return Page(found[:limit], found[limit - 1].pk if len(found) > limit else None)
