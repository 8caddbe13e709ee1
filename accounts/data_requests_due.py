"""Requests of people about their own data whose day is near or over: told to the staff in time."""

from __future__ import annotations

import datetime as dt
from typing import Final

from django.utils.translation import gettext_lazy as _

from accounts import data_requests, working_days
from accounts.models import DataRequest
from monitoring import alerts
from monitoring.alerts import Severity

WARNED_DAYS: Final = 2
"""So many working days, today among them, are left when the staff is told for the first time."""
MOST: Final = 200
"""Requests told of in one run, those that are due first."""

OVERDUE: Final = alerts.declare(
    alerts.Rule(
        "data_request.overdue",
        _("A person has not been answered about their own data within the time of the law"),
        Severity.HIGH,
        "data-request-overdue",
    )
)


def watch(today: dt.date | None = None) -> int:
    """Raise a signal for every open request that is overdue, or due within two working days.

    `today` is the day in Colombia. Return how many were told. For a worker, each hour; raise django.db.Error.
    """
    now = today or data_requests.today()
    soon = working_days.last_day(now, WARNED_DAYS, counting_first=True)
    near = DataRequest.objects.filter(urgent_on__lte=soon).order_by("urgent_on", "id")[:MOST]
    told = 0
    for request in near:
        late = request.due_on < now
        alerts.raise_signal(
            OVERDUE,
            entity=("data_request", str(request.pk)),
            severity=Severity.HIGH if late else Severity.MEDIUM,
            evidence={
                "kind": request.kind, "state": request.state, "due_on": request.due_on,
                "asked_on": request.asked_at.date(), "days_overdue": max(0, (now - request.due_on).days),
            },
        )  # fmt: skip
        told += 1
    return told
