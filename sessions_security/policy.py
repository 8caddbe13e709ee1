"""How long a session lives and how many a person may have: pure rules over the policy table.

The table is a setting (role → idle, absolute, maximum); this module reads no clock and imports no framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

TOUCH_EVERY = timedelta(seconds=60)
"""How often "last seen" is written at most: an idle end may come this much early, never late."""


class NoPolicy(LookupError):
    """The role is not in the policy table: such an account may not have a session."""


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """What one role's sessions must obey. `idle` is None for roles that do not idle out."""

    idle: timedelta | None
    absolute: timedelta
    max_sessions: int

    def ends(self, start: datetime) -> tuple[datetime | None, datetime]:
        """Return when a session begun (or seen) at `start` ends: by idling, and at the latest."""
        latest = start + self.absolute
        return (min(start + self.idle, latest) if self.idle else None), latest


def for_role(table: Mapping[str, Mapping[str, int | None]], role: str) -> SessionPolicy:
    """Return the policy of `role`; raise `NoPolicy` for a role without a usable line, never a default."""
    try:
        line = table[role]
        absolute, most = line["absolute_seconds"], line["max_sessions"]
        idle = line["idle_seconds"]
    except KeyError:
        raise NoPolicy(f"SESSION_POLICY has no complete line for role {role!r}") from None
    if not absolute or not most or absolute < 0 or most < 0 or (idle is not None and idle <= 0):
        raise NoPolicy(f"SESSION_POLICY has an impossible line for role {role!r}")
    return SessionPolicy(
        idle=timedelta(seconds=idle) if idle is not None else None,
        absolute=timedelta(seconds=absolute),
        max_sessions=most,
    )
