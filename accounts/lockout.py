"""The one policy of failed attempts: who is refused, when, and for how long.

Each attempt is charged to the account it names and to the network it comes from (contract: sign-in 10 per
network and 5 per account in an hour, then 15 minutes of lock; administrators 3 and 3, then 30). Names count
in their normal form, known or not, and are stored as MACs only.

Attempts are decided in the order in which they *settle*, under the counter's row lock: when fifty guesses
run at once, the answers of the first five are told and all others are refused, the right one included. So
parallel guessing buys nothing, and no slot is lost to a sign-in that is still hashing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from axes.handlers.database import AxesDatabaseHandler
from django.conf import settings
from django.db import transaction
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


class LockedOut(errors.TooManyRequests):
    """Too many failures for this account or from this network."""

    message = _("Too many failed attempts. Account temporarily locked.")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, as its counters know it."""

    kind: str
    account_key: bytes
    network_key: bytes | None

    @property
    def keys(self) -> list[bytes]:
        return [self.account_key, *([self.network_key] if self.network_key else [])]


@dataclass(frozen=True, slots=True)
class Failure:
    """What charging a failure led to."""

    retry_after: int
    began_lock: bool
    beyond_budget: bool


_SELECT_LOCK = """
SELECT max(extract(epoch FROM locked_until - clock_timestamp()))
  FROM accounts_lockoutcounter
 WHERE key = ANY(%s) AND locked_until > clock_timestamp()
"""

# Rows are taken in the order of their keys, here and below, so that two attempts cannot wait for each other.
_CHARGE = """
INSERT INTO accounts_lockoutcounter AS c
       (key, kind, failures, budget, window_ends_at, locked_until, failed_at)
SELECT given.key, given.kind, 1, given.budget,
       CASE WHEN given.budget > 1 THEN moment + %(window)s::interval ELSE moment + %(lock)s::interval END,
       CASE WHEN given.budget > 1 THEN NULL ELSE moment + %(lock)s::interval END,
       moment
  FROM unnest(%(keys)s::bytea[], %(kinds)s::text[], %(budgets)s::int[]) AS given(key, kind, budget),
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
RETURNING c.failures, c.budget, extract(epoch FROM c.locked_until - clock_timestamp())
"""

# FOR UPDATE waits for attempts that are settling and sees what they left; a plain read would not.
_SETTLE = """
WITH held AS MATERIALIZED (
    SELECT key, locked_until FROM accounts_lockoutcounter WHERE key = ANY(%(keys)s) ORDER BY key FOR UPDATE
), barred AS (
    SELECT max(extract(epoch FROM locked_until - clock_timestamp())) AS seconds
      FROM held WHERE locked_until > clock_timestamp()
), cleared AS (
    DELETE FROM accounts_lockoutcounter
     WHERE key = %(account)s
       AND key IN (SELECT key FROM held)
       AND (SELECT seconds FROM barred) IS NULL
)
SELECT seconds FROM barred
"""


def attempt(kind: str, *, account: str, address: str | None) -> Attempt:
    """Describe one attempt on `account` (its normal form, or an id) from `address`."""
    network = network_of(address) if address else None
    return Attempt(
        kind=kind,
        account_key=_key(kind, "account", account),
        network_key=_key(kind, "network", network) if network else None,
    )


def refuse_locked(this: Attempt) -> None:
    """Let an attempt begin or raise LockedOut. One statement."""
    row = sql.fetch_one(_SELECT_LOCK, [this.keys], using=_ALIAS)
    _refuse_if(row[0] if row else None)


def charge(this: Attempt) -> Failure:
    """Count a failure for account and network, atomically, and say where that leaves them. One statement."""
    limits = settings.LOGIN_LIMITS[this.kind]
    rows = sql.fetch_all(
        _CHARGE,
        {
            "keys": this.keys,
            "kinds": [f"{this.kind}:account", f"{this.kind}:network"][: len(this.keys)],
            "budgets": [limits["account"], limits["network"]][: len(this.keys)],
            "window": _seconds(limits["window_seconds"]),
            "lock": _seconds(limits["lock_seconds"]),
        },
        using=_ALIAS,
    )
    return Failure(
        retry_after=max((_whole(seconds) for _failures, _budget, seconds in rows), default=0),
        began_lock=any(failures == budget for failures, budget, _lock in rows),
        beyond_budget=any(failures > budget for failures, budget, _lock in rows),
    )


def settle(this: Attempt) -> None:
    """Accept a right answer: forget the account's failures, or raise LockedOut when a lock came first.

    The network's failures stay: else one account of one's own would wash away guesses at all others.
    One statement.
    """
    row = sql.fetch_one(_SETTLE, {"keys": this.keys, "account": this.account_key}, using=_ALIAS)
    _refuse_if(row[0] if row else None)


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
    """End every lock and count of one account. Returns how many there were."""
    keys = _account_keys(user)
    with transaction.atomic():
        audit.record(events.LOCK_LIFTED, by=by, target=("user", str(user.pk)), data={"reason": reason})
    return LockoutCounter.objects.using(_ALIAS).filter(pk__in=keys).delete()[0]


def remove_ended(batch: int = 1_000) -> int:
    """Delete counters whose window is over, a batch at a time. Returns how many went."""
    return sql.execute(
        "DELETE FROM accounts_lockoutcounter WHERE key IN ("
        " SELECT key FROM accounts_lockoutcounter WHERE window_ends_at < clock_timestamp()"
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


def _account_keys(user: User) -> list[bytes]:
    names = {kind: str(user.pk) for kind in (FACTOR, BACKUP_CODE, PASSKEY)}
    return [_key(kind, "account", names.get(kind, user.email_key or "")) for kind in settings.LOGIN_LIMITS]


def _key(kind: str, scope: str, value: str) -> bytes:
    # Parts are length-prefixed: no name can be built that collides with another name and network.
    return crypto.mac(crypto.row_binding(kind, scope, value), purpose=_PURPOSE)


def _refuse_if(seconds: Any) -> None:
    if seconds is not None:
        raise LockedOut(retry_after=_whole(seconds))


def _whole(seconds: Any) -> int:
    return max(1, math.ceil(seconds)) if seconds is not None else 0


def _seconds(count: int) -> str:
    return f"{int(count)} seconds"
