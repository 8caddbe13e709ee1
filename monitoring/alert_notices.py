"""Telling people of signals: once for a signal and each rise of its severity, and not too often.

The mail names the rule and the number of times, and links to the console. Evidence stays there: it is
personal, and a mailbox is not the place for it.
"""

from __future__ import annotations

import datetime as dt
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.urls import reverse
from django.utils import timezone, translation

from mestore.lib import actor, sql
from monitoring import alerts, audit, delivery, events, responders
from monitoring.signals import Severity, Signal, SignalState

BATCH = 100
HOUR = dt.timedelta(hours=1)
TEMPLATE = "signal_raised"

log = structlog.get_logger("mestore.alerts")

_FORGET = """
UPDATE monitoring_signal SET evidence = '[]'::jsonb
WHERE id IN (SELECT id FROM monitoring_signal WHERE last_seen_at < %(before)s AND evidence <> '[]'::jsonb
             ORDER BY last_seen_at DESC LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
"""
_DELETE = """
DELETE FROM monitoring_signal
WHERE id IN (SELECT id FROM monitoring_signal WHERE state = 'archived' AND archived_at < %(before)s
             ORDER BY archived_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
"""


def wake(*, now: dt.datetime | None = None) -> int:
    """Open again the signals whose silence is over; return how many. They are told of anew."""
    now = now or timezone.now()
    over = Signal.objects.filter(acknowledged_until__lte=now).exclude(state=SignalState.ARCHIVED)
    return sum(_wake(signal) for signal in over.order_by("acknowledged_until")[:BATCH])


def tell(*, now: dt.datetime | None = None) -> int:
    """Mail those who may act about what is high or critical and not told yet; return how many signals.

    A rule is told of `SIGNAL_MAILS_AN_HOUR` times an hour at most: the rest waits, the worst first.
    """
    now = now or timezone.now()
    due = (
        Signal.objects.filter(severity__gte=Severity.HIGH, severity__gt=F("notified_severity"))
        .filter(acknowledged_until=None)
        .exclude(state=SignalState.ARCHIVED)
        .order_by("-severity", "-last_seen_at")
    )
    waiting = list(due[:BATCH])
    if not waiting:
        return 0
    people = [person for person in responders.everybody() if person.mailbox is not None]
    if not people:
        log.critical("nobody_to_tell_of_signals", waiting=len(waiting))
        return 0
    return sum(_tell(signal, people, now) for signal in waiting)


def forget(*, now: dt.datetime | None = None) -> int:
    """Delete signals archived `SIGNAL_DAYS` ago, and old evidence of the others; return how many rows."""
    before = (now or timezone.now()) - dt.timedelta(days=settings.SIGNAL_DAYS)
    values = {"before": before, "batch": BATCH * 10}
    return sql.execute(_DELETE, values) + sql.execute(_FORGET, values)


def address_of(signal_id: UUID) -> str:
    """Return where the console shows a signal."""
    return f"{settings.PUBLIC_URL}{reverse('admin:monitoring_signal_change', args=[signal_id])}"


def title_of(code: str) -> str:
    """Return what a rule is called; its code when this version does not know it any more."""
    try:
        return str(alerts.get(code).title)
    except alerts.UnknownRule:
        return code


def _wake(signal: Signal) -> bool:
    with transaction.atomic():
        waiting = Signal.objects.filter(pk=signal.pk, acknowledged_until=signal.acknowledged_until)
        woken = waiting.exclude(state=SignalState.ARCHIVED).update(
            acknowledged_until=None, acknowledged_why="", state=SignalState.OPEN, notified_severity=0
        )
        if woken:
            audit.record(
                events.SIGNAL_REOPENED,
                by=actor.system("worker"),
                target=("signal", str(signal.pk)),
                data={"rule": signal.rule, "severity": signal.severity, "seen": signal.seen},
            )
    return bool(woken)


def _tell(signal: Signal, people: list[responders.Responder], now: dt.datetime) -> bool:
    lately = Signal.objects.filter(rule=signal.rule, notified_at__gt=now - HOUR)
    if lately.count() >= settings.SIGNAL_MAILS_AN_HOUR:
        return False
    with transaction.atomic():
        claimed = Signal.objects.filter(pk=signal.pk, notified_severity=signal.notified_severity)
        if not claimed.update(notified_severity=signal.severity, notified_at=now):
            return False
        for person in people:
            _mail(signal, person)
        audit.record(
            events.SIGNAL_TOLD,
            by=actor.system("worker"),
            target=("signal", str(signal.pk)),
            data={"rule": signal.rule, "severity": signal.severity, "people": len(people)},
        )
    return True


def _mail(signal: Signal, person: responders.Responder) -> None:
    if person.mailbox is None:
        return
    with translation.override(person.mailbox.language or settings.LANGUAGE_CODE):
        context = {
            "title": title_of(signal.rule),
            "severity": str(Severity(signal.severity).label),
            "seen": signal.seen,
            "since": signal.first_seen_at,
            "link": address_of(signal.pk),
        }
    delivery.mail(person.mailbox, TEMPLATE, context, by=actor.system("worker"))
