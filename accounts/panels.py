"""What the accounts say on the dashboard."""

from __future__ import annotations

from typing import Any

from django.db.models import Count
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import factors, roles, selectors
from accounts.models import User
from mestore.lib.console import Panel, State, collect, panel


def panels(request: Any) -> list[Panel]:
    return collect(request, (staff_factors, locked))


@panel(
    gettext_lazy("MFA coverage, staff"),
    source=gettext_lazy("accounts"),
    permission="accounts.view_user",
    order=40,
)
def staff_factors(request: Any) -> Panel:
    """The share of open staff accounts that have a proved second factor. Without one they cannot enter."""
    found = User.objects.filter(user_type__in=roles.STAFF, is_active=True).aggregate(
        everybody=Count("pk"), covered=Count("pk", filter=factors.proved())
    )
    everybody, missing = found["everybody"], found["everybody"] - found["covered"]
    return Panel(
        title=_("MFA coverage, staff"),
        value=f"{100 * found['covered'] // everybody} %" if everybody else _("no staff"),
        detail=ngettext("%(missing)d of %(all)d missing", "%(missing)d of %(all)d missing", missing)
        % {"missing": missing, "all": everybody},
        source=_("accounts"),
        as_of=timezone.now(),
        state=State.WARNING if missing else State.GOOD,
        link=reverse("console-factors"),
        order=40,
    )


@panel(
    gettext_lazy("Lockouts now"),
    source=gettext_lazy("failure counters"),
    permission="accounts.view_user",
    order=30,
)
def locked(request: Any) -> Panel:
    """How many accounts and networks are refused at this moment."""
    count = selectors.locked_now().count()
    return Panel(
        title=_("Lockouts now"),
        value=str(count),
        detail=_("accounts and networks"),
        source=_("failure counters"),
        as_of=timezone.now(),
        state=State.WARNING if count else State.GOOD,
        link=reverse("console-lockouts"),
        order=30,
    )
