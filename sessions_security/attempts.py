"""One row for each attempt to sign in, and what the rows say about the next one.

The row is written before the password is looked at, as a wrong one: whatever happens then, the attempt is
counted. It commits on its own (alias `audit`), so no rollback forgets it. Names, known or not, are kept as
MACs with a purpose of their own: what people type there by mistake is not stored.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from accounts import users
from accounts.models import User
from mestore.lib import crypto, ids, sql
from mestore.lib.actor import Actor
from mestore.lib.request import network_of
from sessions_security import places
from sessions_security.models import UserSession
from sessions_security.places import Place

ACCEPTED: Final = "accepted"
WRONG: Final = "wrong"
REFUSED: Final = "refused"

_ALIAS = "audit"
_NAME_PURPOSE = "sign-in-attempt"
_AGENT_PURPOSE = "sign-in-agent"
# Rows that one question looks at, newest first: enough for every threshold, and a bound for its cost.
_ENOUGH = 2_000

# Counts see the table as it was before this row. The account behind the name is looked up whether or not
# there is one, by the same index.
_BEGIN = """
WITH made AS (
    INSERT INTO sessions_security_signinattempt
        (id, at, account_key, device_id, network, agent_key, country, latitude, longitude, purpose, outcome,
         score)
    VALUES (%(id)s, %(now)s, %(account_key)s, %(device_id)s, %(network)s, %(agent_key)s, %(country)s,
            %(latitude)s, %(longitude)s, %(purpose)s, %(outcome)s, 0)
), whom AS (
    SELECT id FROM accounts_user WHERE email_key = %(name)s
), near AS MATERIALIZED (
    SELECT outcome, at, account_key FROM sessions_security_signinattempt
     WHERE network = %(network)s AND at > %(now)s - interval '1 hour' ORDER BY at DESC LIMIT %(enough)s
), on_device AS MATERIALIZED (
    SELECT account_key, network FROM sessions_security_signinattempt
     WHERE %(has_cookie)s AND agent_key = %(agent_key)s AND at > %(now)s - interval '1 day'
     ORDER BY at DESC LIMIT %(enough)s
)
SELECT (SELECT count(*) FROM near WHERE outcome = 'wrong'),
       (SELECT count(*) FROM near WHERE outcome = 'wrong' AND at > %(now)s - interval '5 minutes'),
       (SELECT count(DISTINCT account_key) FROM near WHERE outcome = 'accepted'),
       (SELECT count(*) FROM (
            SELECT FROM sessions_security_signinattempt
             WHERE account_key = %(account_key)s AND at > %(now)s - interval '1 hour' AND outcome = 'wrong'
             LIMIT %(enough)s) AS one),
       (SELECT greatest(%(new)s, score - floor(extract(epoch FROM %(now)s - updated_at) / 3600)
                                         * %(decay)s)::int
          FROM sessions_security_networkreputation WHERE network = %(network)s AND expires_at > %(now)s),
       (SELECT count(DISTINCT account_key) FROM (
            SELECT account_key FROM on_device UNION ALL SELECT %(account_key)s) AS names),
       (SELECT count(DISTINCT network) FROM (
            SELECT network FROM on_device UNION ALL SELECT %(network)s) AS networks),
       last.at, last.latitude, last.longitude,
       EXISTS (SELECT FROM sessions_security_usersession s, whom
                WHERE s.user_id = whom.id AND s.country = %(country)s),
       EXISTS (SELECT FROM sessions_security_usersession s, whom
                WHERE s.user_id = whom.id AND s.country <> '')
  FROM (SELECT) AS always
  LEFT JOIN LATERAL (
      SELECT a.at, a.latitude, a.longitude FROM sessions_security_signinattempt a, whom
       WHERE a.user_id = whom.id AND a.outcome = 'accepted' ORDER BY a.at DESC LIMIT 1) AS last ON true
"""
_FINISH = """
UPDATE sessions_security_signinattempt SET outcome = %s, score = %s WHERE id = %s
"""
_NOTE = """
INSERT INTO sessions_security_signinattempt
    (id, at, account_key, device_id, network, agent_key, country, purpose, outcome, score)
VALUES (%(id)s, %(now)s, %(account_key)s, %(device_id)s, %(network)s, %(agent_key)s, '', %(purpose)s,
        %(outcome)s, 0)
"""
# The session's own row is not among the earlier ones. An attempt that began the session at once, without a
# second step, becomes the accepted one; else there is a row of its own, and what the step of the password was
# found to risk stands with that step.
_COMPLETE = """
WITH done AS (
    UPDATE sessions_security_signinattempt
       SET outcome = 'accepted', user_id = %(user)s, score = %(score)s
     WHERE id = %(attempt)s::uuid
), made AS (
    INSERT INTO sessions_security_signinattempt
        (id, at, account_key, user_id, device_id, network, agent_key, country, latitude, longitude, purpose,
         outcome, score)
    SELECT %(id)s::uuid, %(now)s::timestamptz, %(account_key)s::bytea, %(user)s::uuid, %(device_id)s::uuid,
           %(network)s, %(agent_key)s::bytea, %(country)s, %(latitude)s::float8, %(longitude)s::float8,
           %(purpose)s, 'accepted', 0
     WHERE %(attempt)s::uuid IS NULL
), claimed AS (
    UPDATE sessions_security_pendingsignin SET used_at = %(now)s
     WHERE id = %(pending)s::uuid AND used_at IS NULL RETURNING id
), earlier AS (
    SELECT s.network, s.agent, s.country, s.created_at FROM sessions_security_usersession s
     WHERE s.user_id = %(user)s AND s.id <> %(session)s
       AND NOT EXISTS (SELECT FROM sessions_security_impersonation i WHERE i.session_id = s.id)
)
SELECT coalesce(%(score)s,
                (SELECT score FROM sessions_security_signinattempt
                  WHERE account_key = %(account_key)s AND network = %(network)s AND outcome = 'accepted'
                    AND user_id IS NULL AND at > %(now)s - interval '15 minutes'
                  ORDER BY at DESC LIMIT 1), 0),
       %(pending)s::uuid IS NULL OR EXISTS (SELECT FROM claimed),
       EXISTS (SELECT FROM accounts_user WHERE id = %(user)s AND created_at > %(now)s - interval '1 day'),
       EXISTS (SELECT FROM accounts_knowndevice WHERE id = %(device_id)s::uuid AND user_id = %(user)s),
       EXISTS (SELECT FROM earlier),
       EXISTS (SELECT FROM earlier WHERE network = %(network)s AND agent = %(agent)s
                                     AND created_at > %(now)s - interval '1 day'),
       EXISTS (SELECT FROM earlier WHERE country = %(country)s),
       EXISTS (SELECT FROM earlier WHERE country <> ''),
       EXISTS (SELECT FROM sessions_security_signinnotice n
                 JOIN sessions_security_usersession s ON s.id = n.session_id
                WHERE n.user_id = %(user)s AND s.network = %(network)s
                  AND n.created_at > %(now)s - interval '1 day')
"""
_BLAME = """
INSERT INTO sessions_security_networkreputation AS known (network, score, updated_at, expires_at)
VALUES (%(network)s, least(100, %(new)s + %(points)s), %(now)s, %(end)s)
ON CONFLICT (network) DO UPDATE
   SET score = least(100, greatest(%(new)s,
           known.score - floor(extract(epoch FROM %(now)s - known.updated_at) / 3600) * %(decay)s)
           + %(points)s),
       updated_at = %(now)s, expires_at = %(end)s
"""


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt that was counted, and what was there before it."""

    id: UUID
    at: dt.datetime
    network_failures: int
    network_burst: int
    good_accounts: int
    account_failures: int
    reputation: int
    device_accounts: int
    device_networks: int
    last_at: dt.datetime | None
    last_point: tuple[float, float] | None
    country_seen: bool
    any_country_seen: bool


@dataclass(frozen=True, slots=True)
class Arrival:
    """What was known of the account when a sign-in was complete."""

    score: int
    is_claimed: bool  # the sign-in that waited for a second step, where one did
    is_young: bool  # the account, a day at most
    is_known_device: bool
    has_earlier: bool  # sessions, of the last month at least
    is_familiar: bool  # the same program in the same network within a day
    country_seen: bool
    any_country_seen: bool
    was_noticed: bool  # a message about this network within a day


def begin(
    name: str,
    *,
    purpose: str,
    place: Place | None,
    device: UUID | None,
    by: Actor,
    now: dt.datetime | None = None,
) -> Begun:
    """Count an attempt on `name` (normal form), as wrong until `finish`, and read what led up to it.

    One statement. Raises django.db.Error.
    """
    rules = settings.SIGN_IN_RISK
    attempt_id, now = ids.uuid7(), now or timezone.now()
    given = _common(name, purpose=purpose, place=place, device=device, by=by, now=now) | {
        "id": attempt_id,
        "name": name,
        "outcome": WRONG,
        "has_cookie": by.device is not None,
        "enough": _ENOUGH,
        "new": rules["reputation_new"],
        "decay": rules["reputation_decay_per_hour"],
    }
    (row,) = sql.fetch_all(_BEGIN, given, using=_ALIAS)
    *counts, last_at, latitude, longitude, country_seen, any_country_seen = row
    counts[4] = rules["reputation_new"] if counts[4] is None else counts[4]
    if by.device is None:
        counts[5:7] = 0, 0
    last_point = None if latitude is None or longitude is None else (latitude, longitude)
    return Begun(attempt_id, now, *counts, last_at, last_point, country_seen, any_country_seen)


def finish(attempt_id: UUID, *, outcome: str, score: int) -> None:
    """Say how an attempt ended that `begin` counted. One statement."""
    sql.execute(_FINISH, [outcome, score, attempt_id], using=_ALIAS)


def note_refused(name: str, *, purpose: str, device: UUID | None, by: Actor) -> None:
    """Keep an attempt that a lock refused before anything was asked. One statement."""
    given = _common(name, purpose=purpose, place=None, device=device, by=by, now=timezone.now())
    sql.execute(_NOTE, given | {"id": ids.uuid7(), "outcome": REFUSED}, using=_ALIAS)


def complete(
    user: User,
    session: UserSession,
    *,
    by: Actor,
    attempt: UUID | None = None,
    score: int | None = None,
    pending: UUID | None = None,
) -> Arrival:
    """Keep that `session` began, in its transaction, and read what was known before. One statement.

    `attempt` (with its `score`) is the one that led here at once; None after a second step. `pending` is a
    sign-in that waited for that step: it is used up, once, and `is_claimed` says whether by this call.
    """
    place = places.locate(by.address)
    name = users.identifier(user.email) or str(user.pk)
    given = _common(
        name, purpose=session.kind, place=place, device=session.device_id, by=by,
        now=session.created_at,
    ) | {"id": ids.uuid7(), "user": user.pk, "session": session.pk, "agent": session.agent,
         "attempt": attempt, "score": score, "pending": pending}  # fmt: skip
    (row,) = sql.fetch_all(_COMPLETE, given)
    return Arrival(*row)


def blame(address: str, points: int, *, now: dt.datetime | None = None) -> None:
    """Think worse of a network by `points`; what it has fades by the hour. One statement."""
    rules = settings.SIGN_IN_RISK
    now = now or timezone.now()
    sql.execute(
        _BLAME,
        {
            "network": network_of(address),
            "points": points,
            "new": rules["reputation_new"],
            "decay": rules["reputation_decay_per_hour"],
            "now": now,
            "end": now + dt.timedelta(days=rules["reputation_days"]),
        },
        using=_ALIAS,
    )


def account_key(name: str) -> bytes:
    """Return what is kept of a name, whether or not somebody has it."""
    return crypto.mac(name.encode("utf-8", "surrogatepass"), purpose=_NAME_PURPOSE)


def agent_key(by: Actor) -> bytes:
    """Return what is kept of a browser: by its cookie where it has one, else by what it calls itself."""
    known_by = f"cookie {by.device}" if by.device is not None else f"agent {by.agent}"
    return crypto.mac(known_by.encode("utf-8", "surrogatepass"), purpose=_AGENT_PURPOSE)[:16]


def _common(
    name: str, *, purpose: str, place: Place | None, device: UUID | None, by: Actor, now: dt.datetime
) -> dict[str, Any]:
    return {
        "now": now,
        "account_key": account_key(name),
        "device_id": device,
        "network": network_of(by.address) if by.address else "",
        "agent_key": agent_key(by),
        "country": place.country if place is not None else "",
        "latitude": place.latitude if place is not None else None,
        "longitude": place.longitude if place is not None else None,
        "purpose": purpose[:8],
    }
