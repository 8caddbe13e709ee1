"""Months of the trail that are past their time: told to people, since nothing retires by itself."""

from __future__ import annotations

from typing import Final

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from monitoring import alerts, retired, retirement
from monitoring.archives import named
from monitoring.retirement import State

MOST: Final = 12
"""Months told of at once, the oldest first: the others wait for these anyway."""

DUE: Final = alerts.declare(
    alerts.Rule(
        "audit.month_due",
        _("A month of the audit trail is past its time and waits to be archived or given up"),
        alerts.Severity.MEDIUM,
        "audit-month-due",
    )
)


def watch() -> int:
    """Raise a signal for every month that is due, or whose retirement stopped half-way; return how many.

    For a worker, each hour. Raises django.db.Error.
    """
    today = timezone.now().date()
    unfinished = [
        one for one in retirement.months() if one.state not in {State.HELD, State.RETIRED}
    ][:MOST]  # fmt: skip
    for month in unfinished:
        alerts.raise_signal(
            DUE,
            entity=(retired.TARGET, named(month.month)),
            evidence={
                "month": named(month.month), "state": month.state.value, "due_on": month.due_on,
                "days_overdue": (today - month.due_on).days,
            },
        )  # fmt: skip
    return len(unfinished)
