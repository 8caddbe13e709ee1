"""Ending sessions of other people: who may, with which reason, and what takes two.

Every door (console, API) comes through here, one session or many alike: whoever stands above somebody may
end their sessions, nobody ends those of somebody above or beside them, and one's own are always one's own.
"""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from accounts import approvals, hierarchy
from accounts.models import ApprovalRequest, User
from mestore.lib import errors
from mestore.lib.actor import Actor
from sessions_security import everyone, sessions
from sessions_security.models import UserSession

PERMISSION = "users.update.global"
STEP_UP = "users.end_sessions"
EVERYBODY: tuple[str, str] = ("sessions", "everyone")


class EndedAlready(errors.Conflict):
    """The session was over before."""

    message = _("This session had ended already.")


def end_one(session: UserSession, *, reason: str, by: Actor) -> None:
    """End one session for `reason`, its tokens with it.

    Raises hierarchy.ReasonMissing, hierarchy.NotAllowed, and EndedAlready for one that ended before.
    """
    hierarchy.demand_reason(reason)
    with transaction.atomic():
        _demand_over(session.user, by)
        if not sessions.end(session, by=by, why="console", reason=reason):
            raise EndedAlready


def end_all_of(user: User, *, reason: str, by: Actor) -> int:
    """End every session of one account; return how many ended. Raises as `end_one` does for the rank."""
    hierarchy.demand_reason(reason)
    with transaction.atomic():
        _demand_over(user, by)
        return sessions.end_all(user, by=by, why="console", reason=reason)


def ask_end_everyone(*, reason: str, by: Actor) -> ApprovalRequest:
    """Ask a second person to sign everybody out. Nothing ends before that person approves.

    Raises hierarchy.ReasonMissing, hierarchy.NotAllowed, approvals.AskedAlready.
    """
    hierarchy.demand_reason(reason)
    hierarchy.demand_right(hierarchy.authority_of(by), everyone.ASKING, by)
    return approvals.ask(everyone.PROCEDURE, target=EVERYBODY, reason=reason, by=by)


def _demand_over(user: User, by: Actor) -> None:
    """Lock both accounts and compare their ranks; inside the transaction of the ending."""
    held = hierarchy.hold(by, (user.pk,))
    found = held.users.get(user.pk)
    if found is None:
        raise errors.NotFound
    hierarchy.demand_right(held.authority, PERMISSION, by, found)
    if by.id != str(found.pk):
        hierarchy.demand_over(held.authority, found, by)
