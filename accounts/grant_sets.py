"""Several permissions at once: all are given or taken back, or none; and what somebody holds altogether."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import delegation
from accounts.models import ApprovalRequest, Grant, User
from mestore.lib.actor import Actor


def give(
    user: User, names: Sequence[str], *, reason: str, by: Actor, expires_at: dt.datetime | None = None
) -> list[Grant | ApprovalRequest]:
    """Give every permission, or ask the second person where one is needed. Raises as `delegation.give`."""
    with transaction.atomic():
        return [
            delegation.give(user, name, by=by, reason=reason, expires_at=expires_at)
            for name in dict.fromkeys(names)
        ]


def revoke(user: User, names: Sequence[str], *, reason: str, by: Actor) -> list[Grant]:
    """Take every permission back. Raises as `delegation.revoke`."""
    with transaction.atomic():
        return [delegation.revoke(user, name, by=by, reason=reason) for name in dict.fromkeys(names)]


def in_force(user: User) -> list[Grant]:
    """Return the open grants of an account with their permissions, newest first. One statement."""
    living = Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now())
    rows = user.grants.filter(living, revoked_at__isnull=True).select_related("permission")
    return list(rows.order_by("-pk"))
