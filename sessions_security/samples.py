"""How many sessions were live, every five minutes: what the charts of the sessions page are drawn from.

One grouped statement reads the live rows only; what is kept is a handful of numbers and nobody's name. Two
workers at once write one sample, because its key is the beginning of the five minutes.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from django.db.models import Count, DurationField, ExpressionWrapper, F, IntegerField
from django.db.models.functions import Cast, Extract, Floor, Now
from django.utils import timezone
from procrastinate.contrib.django import app

from sessions_security import selectors
from sessions_security.models import SessionSample

EVERY = dt.timedelta(minutes=5)
KEEP = dt.timedelta(days=30)
_HOUR = 3_600


@dataclass(frozen=True, slots=True)
class Moment:
    """One sample: live sessions by role and kind, and by whole hours since sign-in."""

    at: dt.datetime
    live: dict[str, dict[str, int]] = field(default_factory=dict)
    ages: dict[int, int] = field(default_factory=dict)

    def of_kind(self, kind: str) -> int:
        """Return how many sessions of `kind` were live, of all roles."""
        return sum(kinds.get(kind, 0) for kinds in self.live.values())


@app.periodic(cron="*/5 * * * *", periodic_id="sessions_sample")
@app.task(name="sessions_security.sample", queueing_lock="sessions_security.sample", pass_context=False)
def sample(timestamp: int = 0) -> bool:  # noqa: ARG001  # the scheduler passes it
    """Write the sample of the present five minutes and drop those too old; say whether it was written."""
    at = _beginning(timezone.now())
    live, ages = _counted()
    row = SessionSample(at=at, live=live, ages={str(hours): count for hours, count in ages.items()})
    SessionSample.objects.bulk_create([row], ignore_conflicts=True)
    SessionSample.objects.filter(at__lt=at - KEEP).delete()
    return True


def newest() -> Moment | None:
    """Return the last sample, or None when there never was one."""
    row = SessionSample.objects.order_by("-at").first()
    return _moment(row) if row is not None else None


def since(start: dt.datetime) -> list[Moment]:
    """Return the samples from `start` on, oldest first: 288 a day."""
    return [_moment(row) for row in SessionSample.objects.filter(at__gte=start).order_by("at")]


def _counted() -> tuple[dict[str, dict[str, int]], Counter[int]]:
    """Count the live sessions by role and kind, and by age. One statement."""
    age = ExpressionWrapper(Now() - F("created_at"), output_field=DurationField())
    rows = (
        selectors.live()
        .annotate(hours=Cast(Floor(Extract(age, "epoch") / _HOUR), IntegerField()))
        .values_list("user__user_type", "kind", "hours")
        .annotate(found=Count("pk"))
        .order_by()
    )
    live: defaultdict[str, dict[str, int]] = defaultdict(dict)
    ages: Counter[int] = Counter()
    for role, kind, hours, found in rows:
        live[role][kind] = live[role].get(kind, 0) + found
        ages[max(0, hours)] += found
    return dict(live), ages


def _beginning(now: dt.datetime) -> dt.datetime:
    return now - dt.timedelta(seconds=now.timestamp() % EVERY.total_seconds())


def _moment(row: SessionSample) -> Moment:
    return Moment(row.at, row.live, {int(hours): count for hours, count in row.ages.items()})
