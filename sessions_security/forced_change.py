"""An account whose password must change gets one thing done: changing it.

The session is real and stays; only what it may ask for is small. It is decided here for programs and for the
console, by the name of the route, so that an address nobody thought of is closed.
"""

from __future__ import annotations

from typing import Any, Final

from accounts.password_change import ChangeRequired
from sessions_security.models import UserSession

ALLOWED: Final = frozenset(
    {
        "auth-change-password",
        "auth-me",
        "auth-logout",
        # Where a second factor is due before the change.
        "auth-step-up",
        "auth-passkey-step-up-options",
        "console-password",
        "console-sign-in",
        "console-sign-out",
        "console-confirm",
        "console-passkey-step-up-options",
        "admin:login",
        "admin:logout",
        "admin:jsi18n",
    }
)


def refuse(request: Any, session: UserSession) -> None:
    """Raise ChangeRequired when the account must choose a new password first and this is something else."""
    if not session.user.force_password_change:
        return
    base = getattr(request, "_request", request)
    match = base.resolver_match
    if match is None or match.view_name not in ALLOWED:
        raise ChangeRequired
