"""Who may begin and end a session, and how many there may be.

`UserSession` is the authority for cookies and tokens alike; what carries it (a cookie, a token pair) is
made by `store` and `tokens` from the row that `start` returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import devices
from accounts.models import User
from accounts.roles import Role
from mestore.lib import errors, ids, sql
from mestore.lib.actor import Actor
from mestore.lib.request import network_of
from monitoring import audit, events
from sessions_security import cutoffs, evictions, places, policy
from sessions_security.models import MachineClient, PendingSignIn, SessionCutoff, UserSession

if TYPE_CHECKING:
    from sessions_security.factor_proofs import Proof

Kind = Literal["cookie", "token"]
BATCH = 1_000
"""How many sessions one statement ends."""
EVERYONE = "everyone"
"""Why a session ended that ended with everybody's."""


class AccountChanged(errors.Unauthorized):
    """The account was closed, or its password or role changed, while the sign-in was under way."""

    message = _("Sign in again.")


# What proves no second factor of a person's own.
_WEAK = frozenset({"pwd", "key", "assertion", "break_glass"})

# Locks the account, so that two sign-ins of one person count each other's sessions; refuses an account that
# changed since its password was checked; keeps the dates of the last sign-in; and tells the database's time,
# by which "everything that began before" is judged. One statement for the four.
_ADMIT = """
    UPDATE accounts_user SET last_login = statement_timestamp(),
        last_strong_login = CASE WHEN %s THEN statement_timestamp() ELSE last_strong_login END
    WHERE id = %s AND auth_epoch = %s AND is_active AND deleted_at IS NULL
    RETURNING user_type, last_login
"""
# Runs when `_ADMIT` has locked the account: each of simultaneous sign-ins sees the sessions of those before.
_BEGIN = """
    WITH evicted AS (
        UPDATE sessions_security_usersession
        SET revoked_at = statement_timestamp(), revoked_why = 'limit', revoked_by = 'system'
        WHERE id IN (
            SELECT id FROM sessions_security_usersession
            WHERE user_id = %(user_id)s AND kind = %(kind)s AND revoked_at IS NULL
            AND NOT EXISTS (SELECT FROM sessions_security_impersonation i
                            WHERE i.session_id = sessions_security_usersession.id)
            AND created_at > coalesce((SELECT max(at) FROM sessions_security_sessioncutoff), '-infinity')
            AND absolute_expires_at > statement_timestamp()
            AND (idle_expires_at IS NULL OR idle_expires_at > statement_timestamp())
            ORDER BY last_seen_at DESC, id DESC OFFSET %(others)s
        ) RETURNING id
    ), cookies AS (
        DELETE FROM sessions_security_sessionsecret WHERE session_id IN (
            SELECT session_id FROM sessions_security_sessionsecret
            WHERE session_id IN (SELECT id FROM evicted) FOR UPDATE SKIP LOCKED)
    ), tokens AS (
        DELETE FROM sessions_security_refreshtoken WHERE id IN (
            SELECT id FROM sessions_security_refreshtoken
            WHERE session_id IN (SELECT id FROM evicted) FOR UPDATE SKIP LOCKED)
    ), begun AS (
        INSERT INTO sessions_security_usersession
        (id, user_id, kind, amr, created_at, last_seen_at, idle_expires_at, absolute_expires_at, address,
         network, agent, country, device_id, auth_epoch, client_id, risk, bound_key,
         revoked_why, revoked_by)
        VALUES (%(id)s, %(user_id)s, %(kind)s, %(amr)s, %(created_at)s, %(last_seen_at)s, %(idle_expires_at)s,
                %(absolute_expires_at)s, %(address)s, %(network)s, %(agent)s, %(country)s, %(device_id)s,
                %(auth_epoch)s, %(client_id)s, %(risk)s, %(bound_key)s, '', '')
    ), proved AS (
        INSERT INTO sessions_security_stepupproof (id, session_id, method, factor, bound_at, proved_at)
        SELECT %(proof_id)s::uuid, %(id)s::uuid, %(method)s::text, %(factor)s::text,
               %(bound_at)s::timestamptz, %(created_at)s::timestamptz
        WHERE %(factor)s::text IS NOT NULL
    )
    SELECT id FROM evicted
"""
_BEGIN_FIELDS = (
    "id", "user_id", "kind", "amr", "created_at", "last_seen_at", "idle_expires_at", "absolute_expires_at",
    "address", "network", "agent", "country", "device_id", "auth_epoch", "client_id", "risk",
    "bound_key",
)  # fmt: skip
# What a session could be opened with goes at once. A secret that another transaction holds at this moment is
# left to the purge: it opens nothing any more, and waiting for it could be waiting in a circle.
_REVOKE = """
    WITH ended AS (
        UPDATE sessions_security_usersession
        SET revoked_at = statement_timestamp(), revoked_why = %(why)s, revoked_by = %(by)s
        WHERE id = ANY(%(ids)s) AND revoked_at IS NULL RETURNING id
    ), cookies AS (
        DELETE FROM sessions_security_sessionsecret WHERE session_id IN (
            SELECT session_id FROM sessions_security_sessionsecret
            WHERE session_id IN (SELECT id FROM ended) FOR UPDATE SKIP LOCKED)
    ), tokens AS (
        DELETE FROM sessions_security_refreshtoken WHERE id IN (
            SELECT id FROM sessions_security_refreshtoken
            WHERE session_id IN (SELECT id FROM ended) FOR UPDATE SKIP LOCKED)
    )
    SELECT id FROM ended
"""
# In the order of the ids, so that two who end everything of one account do not wait for each other.
_NEXT_OF_ACCOUNT = """
    SELECT id FROM sessions_security_usersession
    WHERE user_id = %s AND revoked_at IS NULL AND id IS DISTINCT FROM %s
    ORDER BY id LIMIT %s FOR NO KEY UPDATE
"""
_CUT_OFF = """
    INSERT INTO sessions_security_sessioncutoff (id, at, reason, asked_by, approved_by)
    VALUES (%s, statement_timestamp(), %s, %s, %s) RETURNING at
"""
_BEGAN_LATER = """
    SELECT id FROM sessions_security_usersession
    WHERE absolute_expires_at > %s AND created_at > %s AND revoked_at IS NULL
    ORDER BY id FOR NO KEY UPDATE
"""
# A row that somebody holds is passed over: a use that is not noted ends the session early, which is the safe
# side, and a request that waited for the row would hold its connection, and those behind it.
_TOUCH = """
    UPDATE sessions_security_usersession
    SET last_seen_at = statement_timestamp(),
        idle_expires_at = LEAST(statement_timestamp() + %s, absolute_expires_at)
    WHERE id = (
        SELECT id FROM sessions_security_usersession
        WHERE id = %s AND revoked_at IS NULL AND last_seen_at < statement_timestamp() - %s
        AND (idle_expires_at IS NULL OR idle_expires_at > statement_timestamp())
        FOR NO KEY UPDATE SKIP LOCKED)
"""
_TOUCH_WITHOUT_IDLE = """
    UPDATE sessions_security_usersession SET last_seen_at = statement_timestamp()
    WHERE id = (
        SELECT id FROM sessions_security_usersession
        WHERE id = %s AND revoked_at IS NULL AND last_seen_at < statement_timestamp() - %s
        FOR NO KEY UPDATE SKIP LOCKED)
"""


def start(
    user: User,
    *,
    kind: Kind,
    amr: Sequence[str],
    by: Actor,
    client: MachineClient | None = None,
    risk: int = 0,
    bound_key: bytes | None = None,
    proof: Proof | None = None,
    announce: str = events.SIGN_IN_SUCCEEDED,
) -> UserSession:
    """Begin a session for `user` and end the least recently seen ones above the role's limit.

    `amr` names the factors proved; `proof` is the one that counts as fresh (`stepup`); `risk` is what
    `risk.clear` said of the attempt (hundredths of a level); `announce` is the event about the account that
    this start completes.
    Raises `AccountChanged` when the account is not (any more) the one whose credentials were checked, and
    `NoPolicy` for a role that may have no session.
    """
    rule = policy.for_role(settings.SESSION_POLICY, user.user_type)
    with transaction.atomic(savepoint=False):
        admitted = sql.fetch_one(_ADMIT, (not _WEAK.issuperset(amr), user.pk, user.auth_epoch), prepare=True)
        if admitted is None or admitted[0] != user.user_type:
            raise AccountChanged
        now = admitted[1]
        idle_end, absolute_end = rule.ends(now)
        session = UserSession(
            user=user,
            kind=kind,
            amr=list(amr),
            created_at=now,
            last_seen_at=now,
            idle_expires_at=idle_end,
            absolute_expires_at=absolute_end,
            address=by.address or "",
            network=network_of(by.address) if by.address else "",
            agent=(by.agent or "")[:256],
            country=places.country_of(by.address),
            # A browser that is not known yet becomes the device of this id when it is given its cookie.
            device_id=devices.lane_of(by=by, user=user) or ids.uuid7(),
            risk=risk,
            bound_key=bound_key,
            auth_epoch=user.auth_epoch,
            client=client,
        )
        evicted = _begin(session, proof, others=rule.max_sessions - 1)
        by = acting(by, session)
        audit.record_many(
            [
                _announced(announce, session, by),
                _started(session, by),
                *(_evicted(gone, user, by) for gone in evicted),
            ]
        )
        evictions.tell(user, evicted, by=by)
    return session


def end(session: UserSession, *, by: Actor, why: str, reason: str = "") -> bool:
    """End one session now; say whether it was this call that ended it. What it carried is dead with it.

    `why` is a word for programs; `reason` is what a person wrote about it, kept as personal data.
    """
    with transaction.atomic(savepoint=False):
        changed = _revoke([session.pk], by=by, why=why)
        if changed:
            audit.record_many([_ended(session.pk, session.user_id, why, reason, by)])
    return bool(changed)


def end_all(user: User, *, by: Actor, why: str, keep: UUID | None = None, reason: str = "") -> int:
    """End every live session of `user` (but `keep`, for "all others"); return how many ended.

    All of them or none, a batch at a time: memory does not grow with their number. `reason` as in `end`.
    """
    ended = 0
    with transaction.atomic(savepoint=False):
        while batch := sql.fetch_all(_NEXT_OF_ACCOUNT, (user.pk, keep, BATCH)):
            changed = _revoke([row[0] for row in batch], by=by, why=why)
            audit.record_many([_ended(pk, user.pk, why, reason, by) for pk in changed])
            ended += len(changed)
    return ended


def end_everyone(*, reason: str, asked_by: str, by: Actor) -> SessionCutoff:
    """End every session of everybody, cookies and tokens alike, with the very next request of each.

    Two people decide this: `asked_by` names who asked, `by` is who approved; `IntegrityError` when they are
    the same. One row does it, however many sessions there are: what began before its moment (by the
    database's clock) is over, also a row that somebody puts back later. Sign-ins that wait for a second
    factor are over too. The worker marks the sessions afterwards (`everyone.mark`).
    """
    with transaction.atomic():
        cutoff = SessionCutoff(
            reason=reason[:500], asked_by=asked_by[:64], approved_by=(by.id or by.label)[:64]
        )
        values = (cutoff.pk, cutoff.reason, cutoff.asked_by, cutoff.approved_by)
        (cutoff.at,) = sql.fetch_all(_CUT_OFF, values)[0]
        # A clock that runs ahead may have dated a session after this moment; those end one by one.
        ahead = sql.fetch_all(_BEGAN_LATER, (cutoff.at, cutoff.at))
        _revoke([row[0] for row in ahead], by=by, why=EVERYONE)
        pending = PendingSignIn.objects.filter(used_at=None, expires_at__gt=cutoff.at)
        pending.update(used_at=cutoff.at)
        audit.record(
            events.EVERY_SESSION_ENDED,
            by=by,
            target=("cutoff", str(cutoff.pk)),
            data={"before": cutoff.at, "asked_by": cutoff.asked_by, "approved_by": cutoff.approved_by},
            personal={"reason": reason},
        )
    return cutoff


def end_everywhere(
    user: User, *, by: Actor, why: str, keep: UUID | None = None, keep_device: bool = False
) -> int:
    """As `end_all`, for a person who signs out everywhere: their browsers are not known any more either.

    `keep_device` spares the browser behind `by`; only for callers that had a fresh proof.
    """
    with transaction.atomic(savepoint=False):
        ended = end_all(user, by=by, why=why, keep=keep)
        devices.distrust(user, by=by, keep_own=keep_device)
    return ended


def live(user: User) -> QuerySet[UserSession]:
    """Return the sessions of `user` that have not ended, most recently seen first."""
    now = timezone.now()
    mine = UserSession.objects.filter(
        cutoffs.not_cut_off(), user=user, revoked_at=None, auth_epoch=user.auth_epoch
    )
    return (
        mine.filter(absolute_expires_at__gt=now)
        .exclude(idle_expires_at__lte=now)
        .order_by("-last_seen_at", "-id")
    )


def touch(session: UserSession) -> None:
    """Note that the session was used, at most once a minute; never revives one that ended meanwhile."""
    if timezone.now() - session.last_seen_at < policy.TOUCH_EVERY:
        return
    every = policy.TOUCH_EVERY
    idle = policy.for_role(settings.SESSION_POLICY, session.user.user_type).idle
    if idle is None:
        sql.execute(_TOUCH_WITHOUT_IDLE, (session.pk, every))
    else:
        sql.execute(_TOUCH, (idle, session.pk, every))


def acting(by: Actor, session: UserSession) -> Actor:
    """Return who acts once `session` is theirs: the account, at the address and with the agent of `by`."""
    user = session.user
    return replace(
        by,
        kind="machine" if user.user_type == Role.SYSTEM else "user",
        id=str(session.user_id),
        label=user.email,
        role=str(user.user_type),
        session_id=str(session.pk),
        second_factor=session.proved_second_factor(),
        impersonator=str(session.impersonator_id) if session.impersonator_id is not None else None,
    )


def _begin(session: UserSession, proof: Proof | None, *, others: int) -> list[UUID]:
    """Write a new session, end the least recently seen beyond `others`, return their ids. One statement."""
    values = {name: getattr(session, name) for name in _BEGIN_FIELDS}
    values |= {
        "kind": str(session.kind),
        "others": others,
        "proof_id": ids.uuid7(),
        "method": proof.method if proof else None,
        "factor": proof.factor if proof else None,
        "bound_at": proof.bound_at if proof else None,
    }
    rows = sql.fetch_all(_BEGIN, values, prepare=True)
    session._state.adding, session._state.db = False, "default"
    return [row[0] for row in rows]


def _revoke(ids: Sequence[UUID], *, by: Actor, why: str) -> list[UUID]:
    """Mark those of `ids` that have not ended, with what could open them gone; return them. One statement."""
    rows = sql.fetch_all(_REVOKE, {"ids": list(ids), "why": why, "by": (by.id or by.label)[:64]})
    return [row[0] for row in rows]


def _ended(session_id: UUID, user_id: UUID, why: str, reason: str, by: Actor) -> audit.Entry:
    return audit.Entry(
        events.SESSION_ENDED,
        by=by,
        target=("session", str(session_id)),
        subject=str(user_id),
        data={"why": why, "user": str(user_id)},
        personal={"reason": reason} if reason else None,
    )


def _announced(event: str, session: UserSession, by: Actor) -> audit.Entry:
    data: dict[str, Any] = {"kind": session.kind, "amr": session.amr}
    return audit.Entry(event, by=by, target=("user", str(session.user_id)), data=data)


def _started(session: UserSession, by: Actor) -> audit.Entry:
    data: dict[str, Any] = {
        "user": str(session.user_id),
        "kind": session.kind,
        "amr": session.amr,
        "ends_at": session.absolute_expires_at,
    }
    return audit.Entry(
        events.SESSION_STARTED,
        by=by,
        target=("session", str(session.pk)),
        subject=str(session.user_id),
        data=data,
    )


def _evicted(session_id: UUID, user: User, by: Actor) -> audit.Entry:
    return audit.Entry(
        events.SESSION_EVICTED, by=by, target=("session", str(session_id)), subject=str(user.pk),
        data={"user": str(user.pk), "why": "limit"},
    )  # fmt: skip
