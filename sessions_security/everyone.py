"""Signing everybody out: who decides it, and what the worker does afterwards.

The sessions are over with the one row that `sessions.end_everyone` writes. What `mark` does later only makes
each row say so by itself, and takes away what could have opened it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from django.db import transaction
from procrastinate.contrib.django import app

from accounts import approvals, hierarchy
from accounts.models import ApprovalRequest, User
from mestore.lib import actor, sql
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events
from sessions_security import sessions

PROCEDURE: Final = "sessions.end_everyone"
ASKING: Final = "users.update.global"
"""What who asks holds: it ends sessions of single people, too."""
APPROVING: Final = "users.manage.global"
"""What the second person holds."""
JOB: Final = "sessions_security.mark_ended_with_everyone"

# Keyset over (end, id): each row is looked at once in a run, and a run that was cut short is repeated whole.
_MARK = """
    WITH newest AS (
        SELECT max(at) AS at FROM sessions_security_sessioncutoff
    ), picked AS (
        SELECT s.id, s.absolute_expires_at, n.at FROM sessions_security_usersession s, newest n
        WHERE s.revoked_at IS NULL AND s.created_at <= n.at AND s.absolute_expires_at > n.at
        AND (s.absolute_expires_at, s.id) > (coalesce(%(end)s::timestamptz, '-infinity'),
                                             coalesce(%(id)s::uuid, '00000000-0000-0000-0000-000000000000'))
        ORDER BY s.absolute_expires_at, s.id LIMIT %(batch)s FOR NO KEY UPDATE OF s SKIP LOCKED
    ), ended AS (
        UPDATE sessions_security_usersession s
        SET revoked_at = p.at, revoked_why = %(why)s, revoked_by = 'system'
        FROM picked p WHERE s.id = p.id
    ), cookies AS (
        DELETE FROM sessions_security_sessionsecret WHERE session_id IN (
            SELECT session_id FROM sessions_security_sessionsecret
            WHERE session_id IN (SELECT id FROM picked) FOR UPDATE SKIP LOCKED)
    ), tokens AS (
        DELETE FROM sessions_security_refreshtoken WHERE id IN (
            SELECT id FROM sessions_security_refreshtoken
            WHERE session_id IN (SELECT id FROM picked) FOR UPDATE SKIP LOCKED)
    )
    SELECT absolute_expires_at, id, count(*) OVER () FROM picked
    ORDER BY absolute_expires_at DESC, id DESC LIMIT 1
"""


def register() -> None:
    """Make the procedure known; called when Django starts."""
    approvals.register(approvals.Procedure(PROCEDURE, APPROVING, carry_out))


def carry_out(request: ApprovalRequest, by: Actor) -> None:
    """End everybody's sessions after a second person approved, those of both included.

    Raises hierarchy.NotAllowed when who asked may not ask for it any more.
    """
    asker = request.asker
    hierarchy.demand_right(hierarchy.authority_of(asker), ASKING, asker)
    sessions.end_everyone(reason=request.reason, asked_by=str(request.asked_by_id), by=by)
    app.configure_task(JOB).defer()


def end_by_command(asker: User, second: User, *, reason: str, by: Actor) -> None:
    """End everybody's sessions from a command, where nobody can prove that two people agreed.

    Whoever runs it can read the keys; what it names are claims, so both people it names are told by mail and
    the event says that it was a command.
    """
    with transaction.atomic():
        cutoff = sessions.end_everyone(
            reason=reason, asked_by=str(asker.pk), by=replace(by, label=f"command: {second.pk}")
        )
        for user in (asker, second):
            delivery.notify(user, "everyone_ended", {"at": cutoff.at, "reason": reason}, by=by)
        app.configure_task(JOB).defer()


def mark(*, batch: int = sessions.BATCH, progress: Callable[[int], None] = lambda _marked: None) -> int:
    """Mark what the newest end of all sessions ended, `batch` rows per statement; return how many.

    Resumable, and any number may run at once: rows that another one holds are left to it. One event tells
    how many: the end itself is in the trail already.
    """
    marked = 0
    end = last = None
    while True:
        row = sql.fetch_one(_MARK, {"end": end, "id": last, "batch": batch, "why": sessions.EVERYONE})
        if row is None:
            break
        end, last, count = row
        marked += count
        progress(marked)
        if count < batch:
            break
    if marked:
        with transaction.atomic():
            audit.record(
                events.SESSIONS_MARKED,
                by=actor.system("everybody's end"),
                target=("sessions", "everyone"),
                data={"sessions": marked},
            )
    return marked
