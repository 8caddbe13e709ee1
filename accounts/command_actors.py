"""In whose name a command acts: what it is told is a claim, which the guards and the trail keep as such."""

from __future__ import annotations

from uuid import UUID

from accounts.models import User
from mestore.lib.actor import Actor


def named(name: str | None) -> Actor:
    """Return the actor behind an account's id or e-mail address. Raises ValueError where there is none."""
    if not name:
        raise ValueError("--by names the account in whose name this is done")
    try:
        user = User.objects.get(pk=UUID(name)) if _is_id(name) else User.objects.by_email(name)
    except User.DoesNotExist:
        raise ValueError("there is no such account") from None
    return Actor(kind="user", id=str(user.pk), role=user.user_type)


def _is_id(name: str) -> bool:
    try:
        UUID(name)
    except ValueError:
        return False
    return True
