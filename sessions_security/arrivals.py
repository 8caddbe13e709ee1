"""What follows when a sign-in is complete: it is kept, and where it is new or risky its owner is told.

New is a browser that is no known device of the account, and a country it never came from. Nobody is told of
the very first session, nor twice within a day of one network: programs that drop their cookies come every
hour. All of it is part of the transaction in which the session begins.
"""

from __future__ import annotations

from uuid import UUID

from mestore.lib.actor import Actor
from sessions_security import attempts, notices, risk, session_check, sessions
from sessions_security.attempts import Arrival
from sessions_security.models import UserSession

_RISKY = 150  # medium, in hundredths of a level


def note(
    session: UserSession, *, by: Actor, cleared: risk.Assessment | None = None, pending: UUID | None = None
) -> bool:
    """Keep that `session` began and tell its owner when there is something to tell; say whether it may stand.

    It may not when the sign-in `pending` was used by somebody faster.

    `cleared` is the assessment of the password that led here at once; after a second step there is none. Runs
    in the transaction that began it. One statement, a handful more when a message is due.
    """
    user = session.user
    with session_check.database_guard():
        arrival = attempts.complete(
            user, session, by=by,
            attempt=cleared.attempt_id if cleared is not None else None,
            score=cleared.score if cleared is not None else None,
            pending=pending,
        )  # fmt: skip
        if not arrival.is_claimed:
            return False
        if arrival.score:
            UserSession.objects.filter(pk=session.pk).update(risk=arrival.score)
            session.risk = arrival.score
        reasons = reasons_to_tell(session, arrival)
        if reasons:
            notices.send(session, reasons, by=sessions.acting(by, session))
    return True


def reasons_to_tell(session: UserSession, arrival: Arrival) -> tuple[notices.Reason, ...]:
    """Return why the owner is told; none when there is nothing new."""
    found: list[notices.Reason] = []
    if risk.is_new_country(session.country, seen=arrival.country_seen, any_seen=arrival.any_country_seen):
        found.append("country")
    if arrival.score >= _RISKY and not arrival.was_noticed:
        found.append("risk")
    is_first = arrival.is_young and not arrival.has_earlier
    is_known = arrival.is_known_device or arrival.is_familiar
    if not (is_known or is_first or arrival.was_noticed):
        found.append("device")
    return tuple(found)
