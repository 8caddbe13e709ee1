"""How a session reads to people: its device, what was proved in it, where it is, whether it lives."""

from __future__ import annotations

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mestore.lib.console import State, display
from sessions_security import places
from sessions_security.models import UserSession

FACTOR_WORDS: dict[str, str | Promise] = {
    "pwd": gettext_lazy("password"),
    "otp": gettext_lazy("one-time code"),
    "hwk": gettext_lazy("passkey"),
    "swk": gettext_lazy("synchronised passkey"),
    "mfa": gettext_lazy("second factor"),
    "key": gettext_lazy("client key"),
    "assertion": gettext_lazy("signed assertion"),
    "break_glass": gettext_lazy("sealed emergency code"),
}


METHOD_WORDS: dict[str, str | Promise] = {
    "totp": gettext_lazy("authenticator application"),
    "passkey": gettext_lazy("passkey"),
    "backup_code": gettext_lazy("backup code"),
    "password": gettext_lazy("password"),
}


def device(session: UserSession) -> str:
    """The browser and system, or the program, that uses the session: "Chrome on Linux"."""
    return str(session.client) if session.client_id is not None else display.agent(session.agent)


def factors(session: UserSession) -> str:
    """What was proved at sign-in, in words."""
    return ", ".join(str(FACTOR_WORDS.get(factor, factor)) for factor in session.amr)


def country(session: UserSession) -> str:
    """The country's ISO 3166 code; what is not known is said, with the reason."""
    if session.country:
        return session.country
    return _("country unknown") if places.source() is not None else _("no data source for countries")


def place_data() -> str:
    """Say where countries come from and how old that is."""
    source = places.source()
    if source is None:
        return _("Countries: no data source.")
    built = source.built_at.astimezone(display.BOGOTA).strftime("%Y-%m-%d")
    return _("Countries: %(name)s, built %(date)s.") % {"name": source.name, "date": built}


def state(session: UserSession) -> SafeString:
    """Whether a session is alive, in a word with its mark.

    The end of everybody's sessions is told by the annotation `cut_at` (see `session_lists.with_cutoff`).
    """
    if session.revoked_at is not None:
        return display.state(State.UNKNOWN, _("ended"))
    if session.is_over(timezone.now()):
        return display.state(State.UNKNOWN, _("expired"))
    if session.auth_epoch != session.user.auth_epoch:
        return display.state(State.UNKNOWN, _("ended with a change of the account"))
    cut_at = getattr(session, "cut_at", None)
    if cut_at is not None and session.created_at <= cut_at:
        return display.state(State.UNKNOWN, _("ended with everybody's"))
    if not session.user.is_active or session.user.deleted_at is not None:
        return display.state(State.UNKNOWN, _("ended: the account is closed"))
    return display.state(State.GOOD, _("live"))
