"""The console's pages about sessions and machine accounts.

What opens a session is in models that have no page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import grants
from accounts.admin import UserAdmin
from accounts.roles import Role
from mestore.lib import console
from mestore.lib.console import (
    ConsoleModelAdmin,
    Ordering,
    Panel,
    ReasonAction,
    SearchField,
    Table,
    display,
)
from sessions_security import (
    attempt_charts,  # noqa: F401  # adds its chart to the page of locks
    client_admin,  # noqa: F401  # registers its page
    cutoffs,
    ending,
    impersonation_tables,  # noqa: F401  # adds its table to the page of an account
    session_charts,
    session_lists,
    session_timeline,
    session_words,
)
from sessions_security.models import UserSession

grants.register_model_permission(
    "sessions_security.usersession", view="users.read.read_only", change="users.update.global"
)

STILL_LIVE: Callable[[UserSession], bool] = lambda session: not session.is_over(timezone.now())  # noqa: E731
END = ReasonAction(
    name="end",
    verb=gettext_lazy("End"),
    question=lambda count: ngettext("End %d session?", "End %d sessions?", count) % count,
    effect=gettext_lazy("Whoever uses it is signed out with their next request, tokens included."),
    undo=gettext_lazy("No. The person may sign in again."),
    done=lambda count: ngettext("%d session ended.", "%d sessions ended.", count) % count,
    permission="sessions_security.change_usersession",
    run=ending.end_one,
    offered=STILL_LIVE,
    step_up=ending.STEP_UP,
)
END_ALL = ReasonAction(
    name="end_all",
    verb=gettext_lazy("End all of this account"),
    question=lambda count: (
        ngettext(
            "End every session of the account behind this one?",
            "End every session of the accounts behind these %d?",
            count,
        )
        % ({} if count == 1 else count)
    ),
    effect=gettext_lazy("Everything the account is signed in with ends: browsers, tokens, programs."),
    undo=gettext_lazy("No. The person may sign in again."),
    done=lambda count: (
        ngettext("All sessions of the account ended.", "All sessions of %d accounts ended.", count)
        % ({} if count == 1 else count)
    ),
    permission="sessions_security.change_usersession",
    run=lambda session, *, reason, by: ending.end_all_of(session.user, reason=reason, by=by),
    offered=STILL_LIVE,
    step_up=ending.STEP_UP,
)
# The same on the page of an account, whose rows are accounts.
END_ALL_OF_USER = replace(
    END_ALL,
    name="end_sessions",
    verb=gettext_lazy("End all sessions"),
    question=lambda count: (
        ngettext("End every session of %d account?", "End every session of %d accounts?", count) % count
    ),
    done=lambda count: (
        ngettext("The sessions of %d account ended.", "The sessions of %d accounts ended.", count) % count
    ),
    permission="accounts.change_user",
    run=ending.end_all_of,
    offered=bool,
)
UserAdmin.offer(END_ALL_OF_USER)
_WITHOUT_FACTOR = ["pwd", "key", "assertion"]


def _by_state(rows: Any, value: str) -> Any:
    now = timezone.now()
    over_idle = rows.filter(idle_expires_at__lte=now)
    begun = rows.filter(cutoffs.not_cut_off(), revoked_at=None, absolute_expires_at__gt=now)
    live = begun.exclude(pk__in=over_idle.values("pk"))
    return live if value == "live" else rows.exclude(pk__in=live.values("pk"))


def _by_assurance(rows: Any, value: str) -> Any:
    one_factor = rows.filter(amr__contained_by=_WITHOUT_FACTOR)
    return one_factor if value == "one" else rows.exclude(amr__contained_by=_WITHOUT_FACTOR)


@admin.register(UserSession)
class UserSessionAdmin(ConsoleModelAdmin):
    """Who is signed in, from where, how well proved, until when."""

    group, position = "watch", 10
    personal_classes = ("device", "network")
    summary = gettext_lazy("Browsers and tokens that are or were signed in, newest first.")
    empty = gettext_lazy("A session appears here with each sign-in.")
    secret_fields = ("bound_key",)
    list_display = ("who", "state", "device", "factors", "begun", "last_seen_at", "issued", "risk_level")
    list_select_related = ("user", "client")
    list_filter = (
        console.choice_filter(
            parameter="state",
            title=gettext_lazy("State"),
            choices=[("live", gettext_lazy("live")), ("over", gettext_lazy("ended"))],
            narrow=_by_state,
        ),
        console.choice_filter(parameter="kind", title=gettext_lazy("Kind"), choices=UserSession.Kind.choices),
        console.choice_filter(
            parameter="role",
            title=gettext_lazy("Role"),
            choices=[(str(role), str(role)) for role in Role],
            narrow=lambda rows, value: rows.filter(user__user_type=value),
        ),
        console.choice_filter(
            parameter="assurance",
            title=gettext_lazy("Proved"),
            choices=[
                ("one", gettext_lazy("password or key alone")),
                ("two", gettext_lazy("with a second factor or a passkey")),
            ],
            narrow=_by_assurance,
        ),
    )
    open_lookups = ("user_id",)
    orderings = (Ordering("newest", gettext_lazy("newest first"), ("-pk",)),)
    search_in = (SearchField("id"), SearchField("user"))
    search_help_text = gettext_lazy("The whole id of the session or of the account")
    numeric_columns = ("issued", "risk_level")
    sections = (
        (
            gettext_lazy("Session"),
            ("id", "account", "kind", "factors", "client", "acted_by", "is_bound", "risk_level", "issued",
             "auth_epoch"),
        ),
        (gettext_lazy("Where from"), ("address", "network", "country_words", "confirmed_in", "agent")),
        (
            gettext_lazy("Times"),
            ("created_at", "last_seen_at", "idle_expires_at", "absolute_expires_at", "revoked_at",
             "revoked_why", "revoked_by"),
        ),
    )  # fmt: skip
    reason_actions = (END, END_ALL)

    def get_queryset(self, request: HttpRequest) -> QuerySet[UserSession]:
        return session_lists.with_cutoff(super().get_queryset(request))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        summary = f"{self.summary} {session_words.place_data()}"
        return super().changelist_view(request, {"summary": summary, **(extra_context or {})})

    def charts(self, request: HttpRequest) -> list[Panel]:
        return console.collect(request, (session_charts.ages, session_charts.concurrent))

    def page_read(self, rows: Sequence[UserSession]) -> None:
        """Count the tokens of the whole page in one statement."""
        issued = session_lists.tokens_issued(row.pk for row in rows if row.kind == UserSession.Kind.TOKEN)
        for row in rows:
            row.tokens_issued = issued.get(row.pk)  # type: ignore[attr-defined]  # for `issued`, below

    def list_links(self, request: HttpRequest) -> Iterable[tuple[str, str]]:
        yield _("Limits of sessions"), reverse("console-session-policy")
        if request.user.has_perm(END.permission):
            yield _("End everybody's sessions"), reverse("console-sessions-end-everyone")

    def links(self, request: HttpRequest, row: UserSession) -> Iterable[tuple[str, str]]:
        here = reverse("admin:sessions_security_usersession_changelist")
        yield _("Sessions of this account"), f"{here}?user_id={row.user_id}"

    def tables(self, request: HttpRequest, row: UserSession) -> Iterable[Table]:
        yield session_timeline.proofs(row)
        yield session_timeline.timeline(request, row)

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
        return session_words.state(session)

    def state_of(self, row: UserSession) -> SafeString:
        return session_words.state(row)

    @admin.display(description=gettext_lazy("where"))
    def device(self, session: UserSession) -> SafeString:
        # Why a country is missing stands above the list, once.
        place = " · ".join(part for part in (session.address, session.country) if part)
        return display.two_lines(session_words.device(session), place)

    @admin.display(description=gettext_lazy("country"))
    def country_words(self, session: UserSession) -> str:
        return session_words.country(session)

    @admin.display(description=gettext_lazy("confirmed in"))
    def confirmed_in(self, session: UserSession) -> str:
        return ", ".join(session.confirmed_networks)

    @admin.display(description=gettext_lazy("proved"))
    def factors(self, session: UserSession) -> str:
        return session_words.factors(session)

    @admin.display(description=gettext_lazy("begun"))
    def begun(self, session: UserSession) -> SafeString:
        age = _("%(age)s ago") % {"age": display.age(session.created_at)}
        return display.two_lines(display.moment(session.created_at), age)

    @admin.display(description=gettext_lazy("tokens"))
    def issued(self, session: UserSession) -> SafeString | str:
        """Refresh tokens of its chain; those of an ended session are gone, and a browser has none."""
        if session.kind != UserSession.Kind.TOKEN or session.revoked_at is not None:
            return display.EMPTY
        if not hasattr(session, "tokens_issued"):
            self.page_read([session])
        found: int | None = getattr(session, "tokens_issued", None)
        return display.EMPTY if found is None else display.numeric(display.number(found))

    @admin.display(description=gettext_lazy("risk, 0–4"))
    def risk_level(self, session: UserSession) -> SafeString:
        return display.numeric(f"{session.risk / 100:.1f}")

    @admin.display(description=gettext_lazy("bound to a key"))
    def is_bound(self, session: UserSession) -> str:
        return display.yes_no(session.bound_key is not None)

    @admin.display(description=gettext_lazy("used by"))
    def acted_by(self, session: UserSession) -> SafeString | str:
        return session_timeline.who_acts(session)
