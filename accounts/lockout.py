"""The one policy of failed attempts: who is refused, when, and for how long.

Each attempt is charged to the account it names and to the network it comes from (contract: sign-in 10 per
network and 5 per account in an hour, then 15 minutes of lock; administrators 3 and 3, then 30). Names count
in their normal form, known or not, and are stored as MACs only.

Attempts are decided in the order in which they *settle*, under the counter's row lock: when fifty guesses
run at once, the answers of the first five are told and all others are refused, the right one included. So
parallel guessing buys nothing, and no slot is lost to a sign-in that is still hashing.

Each lock that follows another within a day is longer. A network that was locked often enough is shut out of
every door for days. A pair of account and network has a day's budget of its own, against guessing slowly. On
a known device (`accounts.devices`) that device is counted in place of the account: what strangers do to an
account does not keep its owner out. Networks count for everybody.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from axes.handlers.database import AxesDatabaseHandler
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts import users
from accounts.models import LockoutCounter, User
from mestore.lib import crypto, errors, sql
from mestore.lib.actor import Actor
from mestore.lib.request import client_address, network_of
from monitoring import audit, events

# The connection in autocommit mode: a counter survives the rollback of what it counted.
_ALIAS = "audit"
_PURPOSE = "lockout"

LOGIN: Final = "login"
ADMIN_LOGIN: Final = "admin_login"
FACTOR: Final = "factor"
BACKUP_CODE: Final = "backup_code"
PASSKEY: Final = "passkey"
RISK: Final = "risk"
"""Not a door either: an account and network, or device, that was found too risky for every door."""
VIOLATIONS: Final = "violations"
"""Not a door: how often a network was locked, and the block of all doors that follows."""

_DAY = 86_400


class LockedOut(errors.TooManyRequests):
    """Too many failures for this account or from this network."""

    message = _("Too many failed attempts. Account temporarily locked.")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, as its counters know it."""

    kind: str
    account_key: bytes  # of the known device, where there is one
    network_key: bytes | None
    pair_key: bytes | None = None
    block_key: bytes | None = None
    risk_key: bytes | None = None
    owner_key: bytes = b""  # of the account, whether or not the attempt is charged to it
    device: UUID | None = None

    @property
    def is_known_device(self) -> bool:
        """Whether it is charged to a known device of the account, in place of the account."""
        return self.device is not None

    @property
    def keys(self) -> list[bytes]:
        """Of the counters that a failure is charged to."""
        return [key for key in (self.account_key, self.network_key, self.pair_key) if key]

    @property
    def doors(self) -> list[bytes]:
        """Of the counters that may refuse it."""
        return [*self.keys, *(key for key in (self.block_key, self.risk_key) if key)]


@dataclass(frozen=True, slots=True)
class Failure:
    """What charging a failure led to."""

    retry_after: int
    began_lock: bool
    beyond_budget: bool


# The second answer is about rows of wrong answers to one factor (`accounts.suspension`): asked along, because
# both questions come at every attempt.
_SELECT_LOCK = """
SELECT (SELECT max(extract(epoch FROM locked_until - clock_timestamp()))
          FROM accounts_lockoutcounter
         WHERE key = ANY(%s) AND locked_until > clock_timestamp()),
       EXISTS (SELECT FROM accounts_factorstreak WHERE key = %s AND suspended_at IS NOT NULL)
"""

# Rows are taken in the order of their keys, here and below, so that two attempts cannot wait for each other.
_CHARGE = """
INSERT INTO accounts_lockoutcounter AS c
       (key, kind, failures, budget, window_ends_at, locked_until, failed_at, account_key)
SELECT given.key, given.kind, 1, given.budget,
       CASE WHEN given.budget > 1 THEN moment + given.span::interval ELSE moment + %(lock)s::interval END,
       CASE WHEN given.budget > 1 THEN NULL ELSE moment + %(lock)s::interval END,
       moment, given.account_key
  FROM unnest(%(keys)s::bytea[], %(kinds)s::text[], %(budgets)s::int[], %(spans)s::text[],
              %(accounts)s::bytea[]) AS given(key, kind, budget, span, account_key),
       (SELECT clock_timestamp() AS moment) AS clock
 ORDER BY given.key
    ON CONFLICT (key) DO UPDATE
   SET failures = CASE WHEN c.window_ends_at <= excluded.failed_at THEN 1 ELSE c.failures + 1 END,
       budget = excluded.budget,
       window_ends_at = CASE
           WHEN c.window_ends_at <= excluded.failed_at THEN excluded.window_ends_at
           WHEN c.locked_until IS NULL AND c.failures + 1 >= excluded.budget
               THEN excluded.failed_at + %(lock)s::interval
           ELSE c.window_ends_at END,
       locked_until = CASE
           WHEN c.window_ends_at <= excluded.failed_at THEN excluded.locked_until
           WHEN c.locked_until IS NULL AND c.failures + 1 >= excluded.budget
               THEN excluded.failed_at + %(lock)s::interval
           ELSE c.locked_until END,
       failed_at = excluded.failed_at
RETURNING c.failures, c.budget, extract(epoch FROM c.locked_until - clock_timestamp()), c.key
"""

# Locks that have just begun, by this very failure, become as long as the ones before them ask for.
_ESCALATE = """
WITH begun AS MATERIALIZED (
    SELECT key, 1 + CASE WHEN locks_end_at > clock_timestamp() THEN locks ELSE 0 END AS nth
      FROM accounts_lockoutcounter
     WHERE key = ANY(%(keys)s) AND locked_until > clock_timestamp()
     ORDER BY key FOR UPDATE
), timed AS (
    SELECT key, nth,
           clock_timestamp() + %(lock)s::interval
               * (%(multipliers)s::int[])[least(nth, cardinality(%(multipliers)s::int[]))] AS ends
      FROM begun
)
UPDATE accounts_lockoutcounter AS c
   SET locks = least(timed.nth, 1000), locked_until = timed.ends, window_ends_at = timed.ends,
       locks_end_at = timed.ends + %(memory)s::interval
  FROM timed WHERE c.key = timed.key
RETURNING extract(epoch FROM c.locked_until - clock_timestamp())
"""

# FOR UPDATE waits for attempts that are settling and sees what they left; a plain read would not.
_SETTLE = """
WITH held AS MATERIALIZED (
    SELECT key, locked_until FROM accounts_lockoutcounter WHERE key = ANY(%(keys)s) ORDER BY key FOR UPDATE
), barred AS (
    SELECT max(extract(epoch FROM locked_until - clock_timestamp())) AS seconds
      FROM (SELECT locked_until FROM held
             UNION ALL
            SELECT locked_until FROM accounts_lockoutcounter WHERE key = %(block)s) AS one
     WHERE locked_until > clock_timestamp()
), cleared AS (
    DELETE FROM accounts_lockoutcounter
     WHERE key = ANY(%(own)s)
       AND key IN (SELECT key FROM held)
       AND (SELECT seconds FROM barred) IS NULL
), streak AS MATERIALIZED (
    SELECT key, suspended_at FROM accounts_factorstreak WHERE key = %(owner)s FOR UPDATE
), begun_anew AS (
    DELETE FROM accounts_factorstreak
     WHERE key IN (SELECT key FROM streak WHERE suspended_at IS NULL)
       AND (SELECT seconds FROM barred) IS NULL
)
SELECT seconds, EXISTS (SELECT FROM streak WHERE suspended_at IS NOT NULL) FROM barred
"""


def attempt(kind: str, *, account: str, address: str | None, device: UUID | None = None) -> Attempt:
    """Describe one attempt on `account` (its normal form, or an id) from `address`.

    `device` is a known device of that very account (`devices.lane_of`), never what a request claims.
    """
    network = network_of(address) if address else None
    owner = _key(kind, "account", account)
    lane = str(device) if device is not None else network or ""
    # A known device has its own budget; neighbours in its network do not use it up.
    is_paired = network is not None and device is None and "pair" in settings.LOGIN_LIMITS.get(kind, ())
    return Attempt(
        kind=kind,
        account_key=_key(kind, "device", str(device)) if device is not None else owner,
        network_key=_key(kind, "network", network) if network else None,
        pair_key=_key(kind, "pair", crypto.row_binding(account, network)) if network and is_paired else None,
        block_key=_key(VIOLATIONS, "network", network) if network else None,
        risk_key=_key(RISK, "device" if device is not None else "pair", crypto.row_binding(account, lane)),
        owner_key=owner,
        device=device,
    )


def refuse_locked(this: Attempt) -> bool:
    """Let an attempt begin or raise LockedOut; say whether its factor is suspended. One statement."""
    seconds, is_suspended = sql.fetch_one(_SELECT_LOCK, [this.doors, this.owner_key], using=_ALIAS) or (
        0,
        True,
    )
    _refuse_if(seconds)
    return bool(is_suspended)


def charge(this: Attempt) -> Failure:
    """Count a failure for account, network and pair, atomically, and say where that leaves them.

    One statement; one or two more when a lock begins.
    """
    limits = settings.LOGIN_LIMITS[this.kind]
    rows = _count(_counters(this, limits), lock=limits["lock_seconds"])
    waits = [row.seconds for row in rows]
    begun = [row.key for row in rows if row.failures == row.budget]
    if begun and this.kind not in settings.NEVER_ESCALATED:
        waits += _escalate(
            begun, limits["lock_seconds"], settings.LOCK_MULTIPLIERS, settings.LOCK_MEMORY_SECONDS
        )
        if this.block_key is not None and this.network_key in begun:
            waits += _note_violation(this.block_key)
    return Failure(
        retry_after=max((_whole(seconds) for seconds in waits), default=0),
        began_lock=bool(begun),
        beyond_budget=any(row.failures > row.budget for row in rows),
    )


def settle(this: Attempt) -> bool:
    """Accept a right answer: forget the account's failures, or raise LockedOut when a lock came first.

    Returns False when the factor was suspended first. The network's failures stay: else one account of one's
    own would wash away guesses at all others. One statement.
    """
    own = [key for key in (this.account_key, this.pair_key) if key]
    given = {"keys": this.keys, "own": own, "block": this.block_key, "owner": this.owner_key}
    seconds, is_suspended = sql.fetch_one(_SETTLE, given, using=_ALIAS) or (0, True)
    _refuse_if(seconds)
    return not is_suspended


def hold(this: Attempt, seconds: int) -> None:
    """Lock the lane of `this` (its account on its device, else in its network) for every door. One statement.

    Others who try the same account are not held, nor is the account.
    """
    if this.risk_key is not None:
        counter = _Counter(this.risk_key, f"{RISK}:lane", 1, seconds, this.owner_key)
        _count([counter], lock=seconds)


def lift(counter: LockoutCounter, *, reason: str, by: Actor) -> None:
    """End one lock or count before its time, with an audit event."""
    with transaction.atomic():
        audit.record(
            events.LOCK_LIFTED,
            by=by,
            target=("lockout", bytes(counter.key).hex()),
            data={"kind": counter.kind, "failures": counter.failures, "reason": reason},
        )
    LockoutCounter.objects.using(_ALIAS).filter(pk=counter.pk).delete()


def lift_account(user: User, *, reason: str, by: Actor) -> int:
    """End every lock and count of one account, its pairs and known devices. Returns how many there were.

    Whether `by` stands above the account is for the caller to ask.
    """
    keys = keys_of_account(user.email_key or "", str(user.pk))
    with transaction.atomic():
        audit.record(events.LOCK_LIFTED, by=by, target=("user", str(user.pk)), data={"reason": reason})
    mine = Q(pk__in=keys) | Q(account_key__in=keys)
    return LockoutCounter.objects.using(_ALIAS).filter(mine).delete()[0]


def lift_network(address: str, *, reason: str, by: Actor) -> int:
    """End every lock and count of the network of `address`, and its block. Returns how many there were."""
    network = network_of(address)
    keys = keys_of_network(address)
    with transaction.atomic():
        audit.record(events.LOCK_LIFTED, by=by, target=("network", network), data={"reason": reason})
    return LockoutCounter.objects.using(_ALIAS).filter(pk__in=keys).delete()[0]


def keys_of_account(*names: str) -> list[bytes]:
    """Return the keys that counters of one account have, by any of its names (normal form, id)."""
    return [_key(kind, "account", name) for kind in settings.LOGIN_LIMITS for name in names if name]


def keys_of_network(address: str) -> list[bytes]:
    """Return the keys that counters of one network have."""
    network = network_of(address)
    return [_key(kind, "network", network) for kind in (*settings.LOGIN_LIMITS, VIOLATIONS)]


def remove_ended(batch: int = 1_000) -> int:
    """Delete counters whose window and memory are over, a batch at a time. Returns how many went."""
    return sql.execute(
        "DELETE FROM accounts_lockoutcounter WHERE key IN ("
        " SELECT key FROM accounts_lockoutcounter WHERE window_ends_at < clock_timestamp()"
        " AND (locks_end_at IS NULL OR locks_end_at < clock_timestamp())"
        " ORDER BY window_ends_at LIMIT %s FOR UPDATE SKIP LOCKED)",
        [batch],
        using=_ALIAS,
    )


class LockoutHandler(AxesDatabaseHandler):  # type: ignore[misc] # the library has no types
    """django-axes' seat for this policy: its middleware and backend ask here, its own counting is off.

    Nothing that was typed is stored: the base class would keep raw user names and request parameters.
    """

    def is_locked(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> bool:
        """Say whether the account or network of these credentials is locked."""
        try:
            refuse_locked(self._attempt(request, credentials))
        except LockedOut:
            return True
        return False

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """Return the highest count of the account or network of these credentials."""
        keys = self._attempt(request, credentials).keys
        counts = LockoutCounter.objects.using(_ALIAS).filter(pk__in=keys).values_list("failures", flat=True)
        return max(counts, default=0)

    def user_login_failed(
        self,
        sender: object,  # noqa: ARG002 - the signature of a signal's receiver
        credentials: dict[str, Any],
        request: HttpRequest | None = None,
        **kwargs: Any,  # noqa: ARG002 - as above
    ) -> None:
        """Charge a failure of Django's own `authenticate`, should anything call it."""
        if request is not None and not getattr(request, "axes_locked_out", False):
            request.axes_locked_out = charge(self._attempt(request, credentials)).beyond_budget  # type: ignore[attr-defined] # axes' own mark

    def user_logged_in(self, sender: object, request: HttpRequest, user: Any, **kwargs: Any) -> None:
        """Nothing: `settle` did it when the password was right."""

    def user_logged_out(self, sender: object, request: HttpRequest, user: Any, **kwargs: Any) -> None:
        """Nothing: the end of a session is the session's own record."""

    def reset_attempts(
        self,
        *,
        ip_address: str | None = None,
        username: str | None = None,
        ip_or_username: bool = False,  # noqa: ARG002 - each counter stands alone: both are always forgotten
    ) -> int:
        """Forget the counters of a network, an account name, or both (axes' commands call this)."""
        keys = [
            _key(kind, scope, value)
            for kind in settings.LOGIN_LIMITS
            for scope, value in (
                ("network", network_of(ip_address) if ip_address else None),
                ("account", users.identifier(username) if username else None),
            )
            if value
        ]
        return LockoutCounter.objects.using(_ALIAS).filter(pk__in=keys).delete()[0]

    @staticmethod
    def _attempt(django_request: HttpRequest, credentials: Mapping[str, Any] | None) -> Attempt:
        name = str((credentials or {}).get("username") or "")
        return attempt(ADMIN_LOGIN, account=users.identifier(name), address=client_address(django_request))


@dataclass(frozen=True, slots=True)
class _Counter:
    key: bytes
    kind: str
    budget: int
    span: int  # of its window, in seconds
    account_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Counted:
    failures: int
    budget: int
    seconds: Any  # of the lock it is in, if it is in one
    key: bytes


def _counters(this: Attempt, limits: Mapping[str, int]) -> list[_Counter]:
    window = limits["window_seconds"]
    whom, owner = ("device", this.owner_key) if this.is_known_device else ("account", None)
    counters = [_Counter(this.account_key, f"{this.kind}:{whom}", limits["account"], window, owner)]
    if this.network_key is not None:
        counters.append(_Counter(this.network_key, f"{this.kind}:network", limits["network"], window))
    if this.pair_key is not None:
        counters.append(_Counter(this.pair_key, f"{this.kind}:pair", limits["pair"], _DAY, this.owner_key))
    return counters


def _count(counters: list[_Counter], *, lock: int) -> list[_Counted]:
    rows = sql.fetch_all(
        _CHARGE,
        {
            "keys": [one.key for one in counters],
            "kinds": [one.kind for one in counters],
            "budgets": [one.budget for one in counters],
            "spans": [_seconds(one.span) for one in counters],
            "accounts": [one.account_key for one in counters],
            "lock": _seconds(lock),
        },
        using=_ALIAS,
    )
    return [_Counted(failures, budget, seconds, bytes(key)) for failures, budget, seconds, key in rows]


def _escalate(keys: list[bytes], lock: int, multipliers: list[int], memory: int) -> list[Any]:
    given = {"keys": keys, "lock": _seconds(lock), "multipliers": multipliers, "memory": _seconds(memory)}
    return [row[0] for row in sql.fetch_all(_ESCALATE, given, using=_ALIAS)]


def _note_violation(block_key: bytes) -> list[Any]:
    """Count a lock of a network; shut it out when that was one too many. Returns the seconds it is out."""
    counter = _Counter(block_key, f"{VIOLATIONS}:network", settings.NETWORK_VIOLATIONS, _DAY)
    (row,) = _count([counter], lock=_DAY)
    if row.failures != row.budget:
        return [row.seconds]
    return _escalate([block_key], _DAY, settings.NETWORK_BLOCK_DAYS, settings.NETWORK_BLOCK_MEMORY_SECONDS)


def _key(kind: str, scope: str, value: str | bytes) -> bytes:
    # Parts are length-prefixed: no name can be built that collides with another name and network.
    return crypto.mac(crypto.row_binding(kind, scope, value), purpose=_PURPOSE)


def _refuse_if(seconds: Any) -> None:
    if seconds is not None:
        raise LockedOut(retry_after=_whole(seconds))


def _whole(seconds: Any) -> int:
    return max(1, math.ceil(seconds)) if seconds is not None else 0


def _seconds(count: int) -> str:
    return f"{int(count)} seconds"
