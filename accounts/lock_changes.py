"""What people do about locks: keep one closed for longer, shut a network out until a moment.

Lifting is in `accounts.lockout`. Both changes here are one statement whose rows are counted, in the
transaction of their audit event; both have an end within a month. A block counts at every door, where it
stands among the locks that a network earns itself; what is signed in already goes on.
"""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from accounts import hierarchy, lockout, selectors
from accounts.models import LockoutCounter
from mestore.lib import errors, sql
from mestore.lib.actor import Actor
from mestore.lib.request import UNKNOWN, network_of
from monitoring import audit, events

LONGEST: Final = timedelta(days=30)
STEP_UP: Final = "lockouts.change"
BLOCK: Final = "block"
"""The first word of the kind of a counter that a person closed."""

_EXTEND = """
UPDATE accounts_lockoutcounter AS c
   SET locked_until = ends.at, window_ends_at = greatest(c.window_ends_at, ends.at)
  FROM (SELECT key, least(locked_until + %(more)s::interval, clock_timestamp() + %(longest)s::interval) AS at
          FROM accounts_lockoutcounter
         WHERE key = %(key)s AND locked_until > clock_timestamp() FOR UPDATE) AS ends
 WHERE c.key = ends.key AND ends.at > c.locked_until
RETURNING c.locked_until
"""
# The count stands at its budget, so that no failure that is just settling makes the block a shorter lock.
_BLOCK = """
INSERT INTO accounts_lockoutcounter AS c
       (key, kind, failures, budget, window_ends_at, locked_until, failed_at)
SELECT %(key)s, %(kind)s, %(budget)s, %(budget)s, moment + %(span)s::interval, moment + %(span)s::interval,
       moment
  FROM (SELECT clock_timestamp() AS moment) AS clock
    ON CONFLICT (key) DO UPDATE
   SET kind = excluded.kind, failures = greatest(c.failures, excluded.budget), budget = excluded.budget,
       window_ends_at = greatest(c.window_ends_at, excluded.window_ends_at),
       locked_until = greatest(c.locked_until, excluded.locked_until)
RETURNING c.locked_until
"""


class LockOver(errors.Conflict):
    """There is no lock any more that could be prolonged, or it lasts for the longest time already."""

    message = _("This lock is over, or cannot last any longer.")


class NotOneNetwork(errors.Unprocessable):
    """What was given is no single network as failures are counted: an IPv4 address or an IPv6 /64."""

    message = _("Give one IPv4 address, or one IPv6 address or /64.")


class OwnNetwork(errors.Conflict):
    """Whoever blocks the network they sit in locks themselves out."""

    message = _("You are in this network yourself.")


def extend(counter: LockoutCounter, *, hours: int, reason: str, by: Actor) -> None:
    """Let a lock last `hours` longer, at most until a month from now.

    One that stands against somebody of the staff is prolonged only by who stands above them. Raises LockOver,
    hierarchy.NotAllowed, hierarchy.ReasonMissing, ValueError for no hours.
    """
    _demand_hours(hours)
    hierarchy.demand_reason(reason)
    authority = hierarchy.authority_of(by)
    owner = selectors.staff_behind(counter)
    if owner is not None:
        hierarchy.demand_over(authority, owner, by)
    key = bytes(counter.key)
    with transaction.atomic():
        row = sql.fetch_one(
            _EXTEND, {"key": key, "more": f"{hours} hours", "longest": f"{LONGEST.days} days"}
        )
        if row is None:
            raise LockOver
        audit.record(
            events.LOCK_EXTENDED, by=by, target=("lockout", key.hex()),
            data={"kind": counter.kind, "hours": hours, "until": row[0], "reason": reason},
        )  # fmt: skip


def block_network(text: str, *, hours: int, reason: str, by: Actor) -> LockoutCounter:
    """Shut the network `text` (an address, or a network as it is counted) out of every door for `hours`.

    A block that lasts longer already stays as it is. Raises NotOneNetwork, OwnNetwork, hierarchy.NotAllowed,
    hierarchy.ReasonMissing, ValueError for no hours.
    """
    _demand_hours(hours)
    hierarchy.demand_reason(reason)
    hierarchy.authority_of(by)  # nobody, machines and impersonators change nothing
    network = one_network(text)
    if by.address is not None and network_of(by.address) == network:
        raise OwnNetwork
    key = lockout.block_key(network)
    given = {
        "key": key, "kind": f"{BLOCK}:network", "budget": settings.NETWORK_VIOLATIONS,
        "span": f"{hours} hours",
    }  # fmt: skip
    with transaction.atomic():
        row = sql.fetch_one(_BLOCK, given)
        audit.record(
            events.NETWORK_BLOCKED, by=by, target=("lockout", key.hex()),
            data={"hours": hours, "until": row[0] if row else None, "reason": reason},
            personal={"network": network},
        )  # fmt: skip
    return LockoutCounter.objects.get(pk=key)


def one_network(text: str) -> str:
    """Return the name under which failures of the network `text` are counted. Raises NotOneNetwork.

    Callers without an address share one name; blocking it would block them all.
    """
    try:
        # A zone ("%eth0") means something on one machine only: with a blank in its place it is no address.
        found = ipaddress.ip_network(text.strip().replace("%", " "), strict=False)
    except ValueError:
        raise NotOneNetwork(details=_wrong()) from None
    is_mapped = isinstance(found, ipaddress.IPv6Network) and found.network_address.ipv4_mapped is not None
    name = network_of(str(found.network_address))
    # The shortest prefix that is still one name: an IPv6 /64, one IPv4 address in either notation.
    if found.prefixlen < (128 if is_mapped else 64 if found.version == 6 else 32) or name == UNKNOWN:
        raise NotOneNetwork(details=_wrong())
    return name


def _wrong() -> list[errors.FieldError]:
    return [errors.FieldError("address", NotOneNetwork.message, "network")]


def _demand_hours(hours: int) -> None:
    if not 1 <= hours <= LONGEST // timedelta(hours=1):
        raise ValueError("between an hour and a month")
