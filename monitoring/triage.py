"""Working on signals: who looks at one, what it turned out to be, how long it may stay quiet.

open → under review → archived; open → archived. Every step is one conditional UPDATE that names what the
person saw: of two people at once one wins and the other is told (`Changed`). Each step is an event of the
audit trail about ("signal", id), in the same transaction.

The callers ask for the permission, and for a fresh factor before `archive` of a critical signal: what is
archived is the row as it was read then, so that a signal that became critical meanwhile is not.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mestore.lib import errors
from mestore.lib.actor import Actor
from mestore.lib.errors import MeStoreError
from monitoring import audit, events, responders
from monitoring.signals import ArchiveReason, Severity, Signal, SignalState

TARGET = "signal"
LONGEST_QUIET = dt.timedelta(days=30)
BULK_MAX = 100
REASON_MIN, REASON_MAX = 10, 500
ARCHIVE_CRITICAL = "signals.archive_critical"
"""The action for which a fresh factor is asked (the setting STEP_UP)."""


class Changed(errors.Conflict):
    """Somebody else, or the rule, was quicker."""

    code = "SIGNAL_CHANGED"
    message = _("The signal has changed since you saw it. Look at it again.")


class NotAResponder(errors.Unprocessable):
    """The person does not exist, or may not act on signals."""

    code = "NOT_A_RESPONDER"
    message = _("This person may not act on signals.")


class NotAReason(errors.Unprocessable):
    """Words are missing, or too many."""

    message = _("Say why in 10 to 500 characters.")


class NotAnEnd(errors.Unprocessable):
    """The end of the silence is not in the coming thirty days."""

    message = _("A signal can be quiet until a moment in the coming 30 days.")


class TooMany(errors.Unprocessable):
    """More at once than anybody looks at."""

    message = _("At most 100 signals at once.")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one signal of several: `error` is None when it was done."""

    signal_id: UUID
    error: MeStoreError | None


def needs_fresh_factor(signal: Signal) -> bool:
    """Say whether archiving this one takes a fresh factor."""
    return signal.severity >= Severity.CRITICAL


def assign(signal: Signal, *, to: str, by: Actor, reason: str = "") -> None:
    """Make somebody (an id or address; oneself by `by.id`) the owner. Raises `NotAResponder`, `Changed`."""
    owner = responders.one(to)
    if owner is None:
        raise NotAResponder
    with transaction.atomic():
        _change(signal, {"owner_id": signal.owner_id}, owner_id=UUID(owner.id), owner_label=owner.label[:254])
        _tell(
            events.SIGNAL_ASSIGNED, signal, by,
            data={"owner": owner.id, "reason": reason}, personal={"owner": owner.label},
        )  # fmt: skip


def review(signal: Signal, *, by: Actor, reason: str = "") -> None:
    """Begin to look at an open signal. Raises `Changed` when it is not open any more."""
    with transaction.atomic():
        now = timezone.now()
        _change(
            signal, {"state": SignalState.OPEN}, state=SignalState.REVIEWING,
            triaged_at=signal.triaged_at or now,
        )  # fmt: skip
        _tell(events.SIGNAL_REVIEWED, signal, by, data={"reason": reason})


def acknowledge(signal: Signal, *, until: dt.datetime, reason: str, by: Actor) -> None:
    """Keep a signal quiet until a moment: it counts on, and comes back then or with a higher severity.

    Raises `NotAnEnd`, `NotAReason`, `Changed`.
    """
    now = timezone.now()
    if not now < until <= now + LONGEST_QUIET:
        raise NotAnEnd
    words = _words(reason)
    with transaction.atomic():
        _change(
            signal,
            {"acknowledged_until": signal.acknowledged_until, "severity": signal.severity},
            acknowledged_until=until, acknowledged_why=words, triaged_at=signal.triaged_at or now,
        )  # fmt: skip
        _tell(
            events.SIGNAL_ACKNOWLEDGED, signal, by,
            data={"until": until.isoformat(timespec="seconds"), "reason": words},
        )  # fmt: skip


def archive(signal: Signal, *, archived_as: str, reason: str, by: Actor) -> None:
    """Say what it was. Seen again it is a new signal. Raises `NotAReason`, `Changed`."""
    if archived_as not in ArchiveReason.values:
        raise NotAReason
    words, now = _words(reason), timezone.now()
    with transaction.atomic():
        _change(
            signal, {"severity": signal.severity}, state=SignalState.ARCHIVED, archived_at=now,
            archived_as=archived_as, archived_why=words, triaged_at=signal.triaged_at or now,
            acknowledged_until=None,
        )  # fmt: skip
        _tell(events.SIGNAL_ARCHIVED, signal, by, data={"as": archived_as, "reason": words})


def each(wanted: Sequence[UUID], act: Callable[[Signal], None]) -> list[Result]:
    """Do `act` to each of up to `BULK_MAX` signals; one that is refused does not stop the others.

    Raises `TooMany`.
    """
    if len(wanted) > BULK_MAX:
        raise TooMany
    known = Signal.objects.in_bulk(list(wanted))
    return [Result(signal_id, _attempt(known.get(signal_id), act)) for signal_id in dict.fromkeys(wanted)]


def _attempt(signal: Signal | None, act: Callable[[Signal], None]) -> MeStoreError | None:
    if signal is None:
        return errors.NotFound()
    try:
        act(signal)
    except MeStoreError as refused:
        return refused
    return None


def _change(signal: Signal, seen: dict[str, Any], **values: Any) -> None:
    """Change the row if it still is as it was `seen`, and not archived; else raise `Changed`."""
    waiting = Signal.objects.filter(pk=signal.pk, **seen).exclude(state=SignalState.ARCHIVED)
    if waiting.update(**values) != 1:
        raise Changed
    for name, value in values.items():
        setattr(signal, name, value)


def _words(reason: str) -> str:
    words = reason.strip()
    if not REASON_MIN <= len(words) <= REASON_MAX:
        raise NotAReason
    return words


def _tell(
    event: str, signal: Signal, by: Actor, *, data: dict[str, Any], personal: dict[str, Any] | None = None
) -> None:
    audit.record(
        event,
        by=by,
        target=(TARGET, str(signal.pk)),
        data={"rule": signal.rule, "severity": signal.severity, **data},
        personal=personal,
    )
