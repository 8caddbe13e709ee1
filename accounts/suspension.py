"""Factors that were answered wrongly too often in a row are suspended: no guess counts any more.

The windows of `accounts.lockout` slow guessing down; this ends it. Only a right answer begins the row anew.
A suspended factor still is one of the account's factors, so it never becomes a way in without any; the
others go on working. It comes back when its owner removes a factor or makes new backup codes (which takes
another proof), by a recovery, or by an administrator. Whether a factor is suspended, and the end of a row
by a right answer, are asked and written along with the locks (`lockout.refuse_locked`, `lockout.settle`).
"""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.db import transaction

from accounts import lockout
from accounts.models import FactorStreak, User
from mestore.lib import sql
from mestore.lib.actor import Actor
from monitoring import audit, events

_ALIAS = "audit"  # as the counters of `lockout`: a wrong answer counts whatever becomes of the request

# The names that `accounts.factors` gives its methods, and their doors.
DOORS: Final = {"totp": lockout.FACTOR, "backup_code": lockout.BACKUP_CODE, "passkey": lockout.PASSKEY}

_NOTE_WRONG = """
INSERT INTO accounts_factorstreak AS s (key, method, wrong, last_at, suspended_at)
SELECT %(key)s, %(method)s, 1, moment, CASE WHEN %(most)s <= 1 THEN moment END
  FROM (SELECT clock_timestamp() AS moment) AS clock
    ON CONFLICT (key) DO UPDATE
   SET wrong = s.wrong + 1, last_at = excluded.last_at,
       suspended_at = CASE WHEN s.suspended_at IS NULL AND s.wrong + 1 >= %(most)s THEN excluded.last_at
                           ELSE s.suspended_at END
RETURNING suspended_at = last_at
"""


def note_wrong(this: lockout.Attempt, method: str) -> bool:
    """Count a wrong answer; say whether it was the one that suspends the factor. One statement."""
    given = {"key": this.owner_key, "method": method, "most": settings.FACTOR_WRONG_IN_A_ROW}
    row = sql.fetch_one(_NOTE_WRONG, given, using=_ALIAS)
    return bool(row and row[0])


def suspended(user: User) -> frozenset[str]:
    """Return which kinds of factor of `user` are suspended. One statement."""
    rows = FactorStreak.objects.using(_ALIAS).filter(pk__in=_keys(user), suspended_at__isnull=False)
    return frozenset(rows.values_list("method", flat=True))


def resume(user: User, method: str, *, reason: str, by: Actor) -> bool:
    """Let a suspended kind of factor count again; say whether it was suspended.

    Whether `by` stands above the account is for the caller to ask.
    """
    mine = FactorStreak.objects.using(_ALIAS).filter(pk__in=_keys(user, method), suspended_at__isnull=False)
    if not mine.delete()[0]:
        return False
    with transaction.atomic():
        audit.record(
            events.FACTOR_RESUMED, by=by, target=("user", str(user.pk)), subject=str(user.pk),
            data={"factor": method, "reason": reason},
        )  # fmt: skip
    return True


def forget(user: User) -> None:
    """Begin every row of `user` anew: another factor was just proved, or all of them end.

    Runs in the transaction of that change.
    """
    FactorStreak.objects.filter(pk__in=_keys(user)).delete()


def _keys(user: User, *methods: str) -> list[bytes]:
    return [
        lockout.attempt(DOORS[method], account=str(user.pk), address=None).owner_key
        for method in methods or DOORS
    ]
