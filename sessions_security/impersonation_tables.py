"""Who looked through whose eyes, on the page of an account and on the page about identities."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, Final

from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import identity_panels
from accounts.admin import UserAdmin
from accounts.models import User
from mestore.lib.console import Panel, State, Table, display, panel
from sessions_security.models import Impersonation

SHOWN: Final = 20
LATELY: Final = dt.timedelta(days=30)
_TITLE = gettext_lazy("Impersonations, last 30 days")
_SOURCE = gettext_lazy("impersonations")
_SEE = "sessions_security.view_usersession"


def of_account(request: HttpRequest, user: User) -> Iterable[Table]:
    """The last impersonations of `user`, and those that `user` began. One statement."""
    if not request.user.has_perm(_SEE):
        return
    rows = (
        Impersonation.objects.filter(Q(user=user) | Q(impersonator=user))
        .select_related("user", "impersonator")
        .order_by("-started_at")[:SHOWN]
    )
    yield Table(
        title=_("Impersonations"),
        headers=[_("Administrator"), _("As"), _("Began"), _("Ended at the latest"), _("Reason")],
        rows=[
            (_linked(row.impersonator), _linked(row.user), display.moment(row.started_at),
             display.moment(row.ends_at), row.reason)
            for row in rows
        ],
        empty=_("Nobody acted as this account, nor this account as another."),
    )  # fmt: skip


@panel(_TITLE, source=_SOURCE, permission=_SEE, order=30, keep_seconds=60)
def lately(request: Any) -> Panel:  # noqa: ARG001  # every panel is asked by a request
    """How often somebody looked through another person's eyes. One statement."""
    now = timezone.now()
    count = Impersonation.objects.filter(started_at__gt=now - LATELY).count()
    return Panel(
        title=_TITLE, value=display.number(count), detail=_("each has its reason on the account's page"),
        source=_SOURCE, as_of=now, state=State.PLAIN, order=30,
    )  # fmt: skip


def _linked(user: User) -> Any:
    return display.link(reverse("admin:accounts_user_change", args=[user.pk]), str(user))


UserAdmin.also_show(of_account)
identity_panels.also(lately)
