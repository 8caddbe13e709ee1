"""A used refresh token came back: its family and its session end, the owner is told, watchers are.

Two parties hold the token then, and nobody can say which of them is the owner: so neither goes on. A client
that keeps its first token does the same without harm, from the same address and with the same program; its
session ends as well, without a signal and without mail.
"""

from __future__ import annotations

from typing import Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from mestore.lib.actor import Actor
from monitoring import alerts, audit, delivery, events
from sessions_security import sessions
from sessions_security.models import UserSession

RULE: Final = "tokens.refresh_reused"

alerts.declare(
    alerts.Rule(
        RULE,
        _("A used refresh token came back from another place"),
        alerts.Severity.HIGH,
        "a-refresh-token-was-used-twice",
    )
)


def end_family(session: UserSession, *, same_place: bool, by: Actor) -> bool:
    """End `session` and so every token of it; say whether it was this call that did.

    Unless the reuse came from the `same_place` as the sign-in, the owner is mailed and a signal is raised.
    All of it is one transaction.
    """
    with transaction.atomic():
        if not sessions.end(session, by=by, why="refresh_reused"):
            return False
        audit.record(
            events.TOKEN_REUSED, by=by, target=("session", str(session.pk)), subject=str(session.user_id),
            data={"user": str(session.user_id), "same_place": same_place},
        )  # fmt: skip
        if not same_place:
            _tell(session, by=by)
    return True


def _tell(session: UserSession, *, by: Actor) -> None:
    owner = User.objects.get(pk=session.user_id)
    context = {"at": timezone.now(), "address": by.address or ""}
    delivery.notify(owner, "refresh_reused", context, by=by, second_address=True)
    alerts.raise_signal(
        RULE,
        entity=("user", str(session.user_id)),
        severity=alerts.Severity.HIGH,
        evidence={"session": str(session.pk), "address": by.address or "", "request": by.request_id or ""},
    )
