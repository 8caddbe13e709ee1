"""The console's pages about sessions and machine accounts.

What opens a session is in models that have no page.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import grants
from mestore.lib import console
from mestore.lib.actor import Actor
from mestore.lib.console import ConsoleModelAdmin, Ordering, ReasonAction, SearchField, State, display
from mestore.lib.errors import Conflict
from sessions_security import cutoffs, sessions
from sessions_security.models import MachineClient, UserSession

grants.register_model_permission(
    "sessions_security.usersession", view="users.read.read_only", change="users.update.global"
)
grants.register_model_permission("sessions_security.machineclient", view="settings.read.read_only")

FACTOR_WORDS = {
    "pwd": gettext_lazy("password"),
    "otp": gettext_lazy("one-time code"),
    "mfa": gettext_lazy("second factor"),
    "key": gettext_lazy("client key"),
}


def end_session(session: UserSession, *, reason: str, by: Actor) -> None:
    """End one session for `reason`. Raises Conflict when it had ended already."""
    if not sessions.end(session, by=by, why="console", reason=reason):
        raise Conflict(_("This session had ended already."))


END = ReasonAction(
    name="end",
    verb=gettext_lazy("End"),
    question=lambda count: ngettext("End %d session?", "End %d sessions?", count) % count,
    effect=gettext_lazy("Whoever uses it is signed out with their next request, tokens included."),
    undo=gettext_lazy("No. The person may sign in again."),
    done=lambda count: ngettext("%d session ended.", "%d sessions ended.", count) % count,
    permission="sessions_security.change_usersession",
    run=end_session,
    offered=lambda session: not session.is_over(timezone.now()),
)


def _by_state(rows: Any, value: str) -> Any:
    now = timezone.now()
    over_idle = rows.filter(idle_expires_at__lte=now)
    begun = rows.filter(cutoffs.not_cut_off(), revoked_at=None, absolute_expires_at__gt=now)
    live = begun.exclude(pk__in=over_idle.values("pk"))
    return live if value == "live" else rows.exclude(pk__in=live.values("pk"))


@admin.register(UserSession)
class UserSessionAdmin(ConsoleModelAdmin):
    """Who is signed in, from where, how well proved, until when."""

    group, position = "watch", 10
    summary = gettext_lazy("Browsers and tokens that are or were signed in, newest first.")
    empty = gettext_lazy("A session appears here with each sign-in.")
    secret_fields = ("bound_key",)
    list_display = ("who", "state", "device", "address", "factors", "created_at", "ends")
    list_select_related = ("user", "client")
    list_filter = (
        console.choice_filter(
            parameter="state",
            title=gettext_lazy("State"),
            choices=[("live", gettext_lazy("live")), ("over", gettext_lazy("ended"))],
            narrow=_by_state,
        ),
        console.choice_filter(parameter="kind", title=gettext_lazy("Kind"), choices=UserSession.Kind.choices),
    )
    open_lookups = ("user_id",)
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-pk",)),)
    search_in = (SearchField("id"), SearchField("user"))
    search_help_text = gettext_lazy("The whole id of the session or of the account")
    sections = (
        (gettext_lazy("Session"), ("id", "account", "kind", "factors", "client", "risk", "auth_epoch")),
        (gettext_lazy("Where from"), ("address", "network", "agent")),
        (
            gettext_lazy("Times"),
            ("created_at", "last_seen_at", "idle_expires_at", "absolute_expires_at", "revoked_at",
             "revoked_why", "revoked_by"),
        ),
    )  # fmt: skip
    reason_actions = (END,)

    def name_of(self, row: UserSession) -> str:
        return _("Session of %(user)s") % {"user": row.user}

    @admin.display(description=gettext_lazy("account"))
    def who(self, session: UserSession) -> SafeString:
        return display.two_lines(session.user, f"{session.user.user_type} · {session.get_kind_display()}")

    @admin.display(description=gettext_lazy("account"))
    def account(self, session: UserSession) -> SafeString:
        return display.link(reverse("admin:accounts_user_change", args=[session.user_id]), session.user)

    @admin.display(description=gettext_lazy("state"))
    def state(self, session: UserSession) -> SafeString:
        return session_state(session)

    def state_of(self, row: UserSession) -> SafeString:
        return session_state(row)

    @admin.display(description=gettext_lazy("device"))
    def device(self, session: UserSession) -> str:
        return str(session.client) if session.client else display.agent(session.agent)

    @admin.display(description=gettext_lazy("factors"))
    def factors(self, session: UserSession) -> str:
        return ", ".join(str(FACTOR_WORDS.get(factor, factor)) for factor in session.amr)

    @admin.display(description=gettext_lazy("ends"))
    def ends(self, session: UserSession) -> SafeString:
        if session.revoked_at is not None:
            return display.moment(session.revoked_at)
        ends = [moment for moment in (session.idle_expires_at, session.absolute_expires_at) if moment]
        return display.moment(min(ends))


def session_state(session: UserSession) -> SafeString:
    """Whether a session is alive, in a word with its mark."""
    if session.revoked_at is not None:
        return display.state(State.UNKNOWN, _("ended"))
    if session.is_over(timezone.now()):
        return display.state(State.UNKNOWN, _("expired"))
    if session.auth_epoch != session.user.auth_epoch:
        return display.state(State.UNKNOWN, _("ended with a change of the account"))
    return display.state(State.GOOD, _("live"))


@admin.register(MachineClient)
class MachineClientAdmin(ConsoleModelAdmin):
    """Programs that may ask for tokens."""

    group, position = "system", 10
    summary = gettext_lazy("Programs that may ask for tokens, and from where.")
    empty = gettext_lazy("Machine accounts appear here when an operator creates one.")
    secret_fields = ("key_hash",)
    list_display = ("client_id", "state", "allowed_from", "created_at")
    list_select_related = ("user",)
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-pk",)),)
    search_in = (SearchField("client_id"), SearchField("id"))
    search_help_text = gettext_lazy("The whole client id")
    sections = ((gettext_lazy("Client"), ("client_id", "account", "allowed_from", "created_at")),)

    def state_of(self, row: MachineClient) -> SafeString:
        return self.state(row)

    @admin.display(description=gettext_lazy("state"))
    def state(self, client: MachineClient) -> SafeString:
        if client.is_active and client.user.is_active:
            return display.state(State.GOOD, _("active"))
        return display.state(State.CRITICAL, _("deactivated"))

    @admin.display(description=gettext_lazy("allowed from"))
    def allowed_from(self, client: MachineClient) -> str:
        return ", ".join(client.networks) or _("nowhere")

    @admin.display(description=gettext_lazy("account"))
    def account(self, client: MachineClient) -> SafeString:
        return display.link(reverse("admin:accounts_user_change", args=[client.user_id]), client.user)
