"""Background work on sessions: deleting what ended, in small batches that hold no long locks."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone
from procrastinate.contrib.django import app

from mestore.lib import sql
from sessions_security import samples  # noqa: F401  # its task registers

BATCH = 1_000
KEEP = timedelta(days=30)
"""How long an ended session stays listed; what could open it (secrets, tokens) goes at once."""

_STATEMENTS = (
    """DELETE FROM sessions_security_pendingsignin WHERE id IN (
        SELECT id FROM sessions_security_pendingsignin WHERE expires_at < %(now)s
        ORDER BY expires_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)""",
    """DELETE FROM sessions_security_sessionsecret WHERE session_id IN (
        SELECT k.session_id FROM sessions_security_sessionsecret k
        JOIN sessions_security_usersession s ON s.id = k.session_id
        WHERE s.absolute_expires_at < %(now)s LIMIT %(batch)s FOR UPDATE OF k SKIP LOCKED)""",
    """DELETE FROM sessions_security_stepupproof WHERE id IN (
        SELECT p.id FROM sessions_security_stepupproof p
        JOIN sessions_security_usersession s ON s.id = p.session_id
        WHERE s.absolute_expires_at < %(now)s LIMIT %(batch)s FOR UPDATE OF p SKIP LOCKED)""",
    """DELETE FROM sessions_security_refreshtoken WHERE id IN (
        SELECT r.id FROM sessions_security_refreshtoken r WHERE r.expires_at < %(now)s
        ORDER BY r.expires_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)""",
    """DELETE FROM sessions_security_usersession WHERE id IN (
        SELECT s.id FROM sessions_security_usersession s WHERE s.absolute_expires_at < %(old)s
        AND NOT EXISTS (SELECT FROM sessions_security_refreshtoken r WHERE r.session_id = s.id)
        AND NOT EXISTS (SELECT FROM sessions_security_sessionsecret k WHERE k.session_id = s.id)
        AND NOT EXISTS (SELECT FROM sessions_security_stepupproof p WHERE p.session_id = s.id)
        ORDER BY s.absolute_expires_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)""",
)


@app.periodic(cron="*/10 * * * *")
@app.task(name="sessions_security.purge", queueing_lock="sessions_security.purge", pass_context=False)
def purge(timestamp: int = 0) -> int:  # noqa: ARG001  # the scheduler passes it
    """Delete what ended; return how many rows went. A run that is cut short loses nothing but time."""
    now = timezone.now()
    return sum(
        _drain(statement, {"now": now, "old": now - KEEP, "batch": BATCH}) for statement in _STATEMENTS
    )


def _drain(statement: str, values: dict[str, object]) -> int:
    gone = 0
    while True:
        deleted = sql.execute(statement, values)
        gone += deleted
        if deleted < BATCH:
            return gone
