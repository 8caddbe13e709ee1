"""How many accounts nobody uses, for the page about identities; apps above add what they know."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import roles, user_lists
from accounts.models import User
from mestore.lib.console import Panel, State, collect, display, panel
from mestore.lib.console.figures import Guarded

DORMANT_AFTER: Final = dt.timedelta(days=90)
SEE: Final = "accounts.view_user"

_more: list[Guarded] = []


def also(builder: Guarded) -> None:
    """Show the panel of `builder`, once, on the page about identities."""
    if builder not in _more:
        _more.append(builder)


def panels(request: Any) -> list[Panel]:
    """The figures that this person may see."""
    return collect(request, (unused, *_more))


def dormant(rows: QuerySet[User], *, now: dt.datetime | None = None) -> QuerySet[User]:
    """Return the open accounts among `rows` that signed in once, but not for DORMANT_AFTER."""
    return user_lists.signed_in(_open(rows), before=(now or timezone.now()) - DORMANT_AFTER)


def never(rows: QuerySet[User]) -> QuerySet[User]:
    """Return the open accounts among `rows` that could sign in and never did."""
    return user_lists.never_signed_in(_open(rows))


def weak(rows: QuerySet[User], *, now: dt.datetime | None = None) -> QuerySet[User]:
    """Return the open accounts among `rows` that used a second factor never, or not for DORMANT_AFTER."""
    since = (now or timezone.now()) - DORMANT_AFTER
    return _open(rows).filter(Q(last_strong_login=None) | Q(last_strong_login__lt=since))


@panel(
    gettext_lazy("Unused accounts"), source=gettext_lazy("accounts"), permission=SEE, order=20,
    keep_seconds=60,
)  # fmt: skip
def unused(request: Any) -> list[Panel]:  # noqa: ARG001  # every panel is asked by a request
    """How many accounts sleep and how many were never used, counted to ten thousand. One statement."""
    now = timezone.now()
    sleeping, unborn = user_lists.capped_counts(
        [dormant(User.objects.all(), now=now), never(User.objects.all())]
    )
    accounts = reverse("admin:accounts_user_changelist")
    return [
        Panel(
            title=title, value=_counted(count), detail=detail, source=_("accounts"), as_of=now,
            state=State.PLAIN, link=f"{accounts}?signed_in={name}", order=20 + number,
        )
        for number, (title, detail, count, name) in enumerate(
            [
                (_("No sign-in for 90 days"), _("open accounts"), sleeping, "dormant"),
                (_("Never signed in"), _("open accounts with an address"), unborn, "never"),
            ]
        )
    ]  # fmt: skip


def _open(rows: QuerySet[User]) -> QuerySet[User]:
    return rows.filter(is_active=True, deleted_at=None, email_key__isnull=False).exclude(
        user_type=roles.Role.SYSTEM
    )


def _counted(count: int) -> str:
    shown = display.number(min(count, user_lists.COUNTED))
    return f"{shown}+" if count > user_lists.COUNTED else shown
