"""A session goes on only from where it began: network, country and program of each request are compared.

What follows a change is the policy's (`SESSION_CHANGE_POLICY`, `policy.answer_to`): nothing, a line in the
audit trail, a challenge, or the end. It is decided per request and kept nowhere, so the owner at the old
place is not disturbed by whoever holds the cookie or token elsewhere. A challenge is answered by a step-up
sent from the new place (`confirm`); until then only that and signing out are open there.

These are the controls by context of OWASP ASVS 5 (8.2.4). Networks change honestly, so the answer differs by
role and is mostly a proof, not an end.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from mestore.lib import actor, errors, sql, throttle
from mestore.lib.actor import Actor
from mestore.lib.request import address_of
from mestore.lib.throttle import Limit
from monitoring import audit, events
from sessions_security import places, policy, session_check, sessions, stepup
from sessions_security.models import UserSession

ACTION: Final = "session.continue"
MOVED: Final = "moved"
OPEN: Final = frozenset(
    {
        "auth-step-up",
        "auth-passkey-step-up-options",
        "auth-logout",
        "console-confirm",
        "console-passkey-step-up-options",
        "console-sign-out",
        "admin:logout",
        "admin:jsi18n",
    }
)
"""What a challenged request may ask for, by the name of the route."""
# No session lives longer than a day: within it, one line for each place is enough.
_ONCE = Limit("session-place", 1, 86_400)

_CONFIRM = """
    UPDATE sessions_security_usersession
    SET agent = %(agent)s,
        confirmed_networks = CASE WHEN %(network)s::text IS NULL THEN confirmed_networks ELSE
            (array_append(array_remove(confirmed_networks, %(network)s), %(network)s))
            [greatest(1, cardinality(array_remove(confirmed_networks, %(network)s)) + 2 - %(most)s):] END
    WHERE id = %(id)s AND revoked_at IS NULL
"""


class MovedAway(errors.Unauthorized):
    """The session was used from elsewhere, where it may not go on: it is over."""

    code = "SESSION_MOVED"
    message = _("This session was ended because it was used from another place. Sign in again.")

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


def check(session: UserSession, request: Any) -> None:
    """Accept a request in `session` from where it comes. Called right after the session is loaded.

    Costs no statement while nothing changed. Raises `stepup.StepUpRequired` for `session.continue`,
    `MovedAway` (the session ended by then), and errors.SecurityServiceFailure.
    """
    base = getattr(request, "_request", request)
    address, agent = address_of(base), base.META.get("HTTP_USER_AGENT", "")
    found = _changes(session, address, agent)
    if not found:
        return
    answer = _answer(session, found)
    if answer == "ignore":
        return
    by = sessions.acting(actor.of(base), session)
    with session_check.database_guard():
        if answer == "note":
            _note(session, found, by)
        elif answer == "challenge":
            _challenge(session, found, base, by)
        else:
            _end(session, found, by)
            raise MovedAway


def may_refresh(session: UserSession, *, by: Actor) -> bool:
    """Say whether a refresh token of `session` may be exchanged by `by`; where not, the session ended.

    A challenge does not stop the exchange: what the new token opens is challenged when it is used. The
    session needs its origin, its factors and its account's role. Runs in the exchange's transaction.
    """
    acting = sessions.acting(by, session)
    if not policy.is_assured(settings.SESSION_POLICY, session.user.user_type, session.amr):
        sessions.end(session, by=acting, why=session_check.BELOW)
        return False
    found = _changes(session, by.address or "", by.agent)
    if found and _answer(session, found) == "end":
        _end(session, found, acting)
        return False
    return True


def confirm(session: UserSession, request: Any, *, method: str) -> None:
    """Let `session` go on from where a factor was proved in this very request.

    A network joins the confirmed ones (the oldest makes room), the program becomes the session's. A proof by
    a method that the action does not name confirms nothing, and a session that ended meanwhile stays ended.
    """
    base = getattr(request, "_request", request)
    address, agent = address_of(base), actor.of(base).agent[:256]
    found = _changes(session, address, agent)
    if not found or method not in settings.STEP_UP[ACTION]["methods"]:
        return
    is_elsewhere = "network_near" in found
    values = {
        "id": session.pk,
        "agent": agent if "agent" in found else session.agent,
        "network": policy.near(address) if is_elsewhere else None,
        "most": policy.CONFIRMED_NETWORKS,
    }
    with session_check.database_guard(), transaction.atomic():
        if sql.execute(_CONFIRM, values):
            by = sessions.acting(actor.of(base), session)
            _record(events.SESSION_CONFIRMED, session, found, by, method=method)


def _changes(session: UserSession, address: str, agent: str) -> frozenset[policy.Change]:
    began = policy.Origin(session.network, session.country, session.agent)
    confirmed = session.confirmed_networks
    # Asked only where it can matter: most requests come from where the session began.
    asks = session.country and policy.is_elsewhere(began, confirmed, address)
    country = places.country_of(address) if asks else ""
    return policy.changes(began, confirmed, policy.Origin(address, country, agent))


def _answer(session: UserSession, found: Collection[policy.Change]) -> policy.Answer:
    if session.impersonator_id is not None:
        # Whoever acts as somebody else proves nothing in their name: it begins anew instead.
        return "end"
    return policy.answer_to(settings.SESSION_CHANGE_POLICY, session.user.user_type, found)


def _note(session: UserSession, found: Collection[policy.Change], by: Actor) -> None:
    if _is_first(events.SESSION_MOVED, session, by):
        with transaction.atomic():
            _record(events.SESSION_MOVED, session, found, by)


def _challenge(session: UserSession, found: Collection[policy.Change], request: Any, by: Actor) -> None:
    match = request.resolver_match
    if match is not None and match.view_name in OPEN:
        return
    if _is_first(events.SESSION_CHALLENGED, session, by):
        audit.record_refusal(
            events.SESSION_CHALLENGED, by=by, target=("session", str(session.pk)),
            subject=str(session.user_id), data=_data(session, found),
        )  # fmt: skip
    methods = stepup.methods_for(ACTION, session)
    raise stepup.StepUpRequired(ACTION, methods, int(settings.STEP_UP[ACTION]["max_age_seconds"]))


def _end(session: UserSession, found: Collection[policy.Change], by: Actor) -> None:
    """End it, once: of many requests one finds it alive."""
    sessions.end(session, by=by, why=MOVED, reason=", ".join(sorted(found)))


def _is_first(event: str, session: UserSession, by: Actor) -> bool:
    """Say whether this is to be recorded: once per session and place, however many requests come."""
    where = (policy.near(by.address or "") or "", *policy.family(by.agent))
    return throttle.hit([(_ONCE, " ".join((event, str(session.pk), *where)))]).allowed


def _record(
    event: str, session: UserSession, found: Collection[policy.Change], by: Actor, **more: str
) -> None:
    audit.record(
        event, by=by, target=("session", str(session.pk)), subject=str(session.user_id),
        data=_data(session, found) | more,
    )  # fmt: skip


def _data(session: UserSession, found: Collection[policy.Change]) -> dict[str, Any]:
    return {"user": str(session.user_id), "changes": sorted(found)}
