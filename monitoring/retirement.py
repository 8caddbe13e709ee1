"""The end of a month of the trail: archived, given up by two people, dropped. Tiles and proofs stay.

The steps are apart, each is on record before the next begins, and each may be repeated: a process that died
anywhere is followed by one that goes on. Only the owner of the tables can do any of it, so neither an
injected statement nor a taken application can make evidence go away, however old it is.
"""

from __future__ import annotations

import base64
import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import OperationalError, transaction
from django.utils import timezone
from psycopg.errors import LockNotAvailable

from mestore.lib import crypto, guard, sql
from mestore.lib.actor import Actor
from monitoring import archives, archiving, audit, events, leaves, retired, sequencer, subjects
from monitoring.archives import Found, Manifest, Progress, named
from monitoring.archiving import OWNER, Archived

PROCEDURE: Final = "audit.retire_month"
"""What a second person approves, described by `details`."""
LONGEST_WAIT_SECONDS: Final = 60.0
FORGET_ROWS: Final = 10_000

_MONTHS = """
WITH there AS (
    SELECT to_date(substring(c.relname FROM '^audit_event_([0-9]{6})$'), 'YYYYMM') AS month
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'public.audit_event'::regclass
), made AS (
    SELECT DISTINCT ON (month) month, id, manifest, note, archived_at FROM audit_archive
    ORDER BY month, archived_at DESC
)
SELECT coalesce(t.month, a.month), t.month IS NOT NULL,
       coalesce(g.id, a.id), coalesce(g.manifest, a.manifest), coalesce(g.note, a.note),
       coalesce(g.archived_at, a.archived_at), r.decided_at, r.event_id
FROM there t FULL JOIN made a ON a.month = t.month
LEFT JOIN audit_retirement r ON r.month = coalesce(t.month, a.month)
LEFT JOIN audit_archive g ON g.id = r.archive_id
WHERE coalesce(t.month, a.month) IS NOT NULL ORDER BY 1
"""
_DECIDE = "INSERT INTO audit_retirement (month, archive_id, event_id) VALUES (%s, %s, %s)"
_HAS_LEAF = "SELECT 1 FROM audit_leaf WHERE event_id = %s"
_DROP = "SELECT audit_retire_month(%s)"
_FORGET = "SELECT audit_forget_values(%s, %s)"


class State(StrEnum):
    """How far a month has come. DUE: past its time, and nothing was done yet."""

    HELD = "held"
    DUE = "due"
    ARCHIVED = "archived"
    DECIDED = "decided"
    RETIRED = "retired"


class NoSuchMonth(LookupError):
    """The trail has no such month."""


class TooYoung(ValueError):
    """The month is not past the time for which the trail is held."""


class NotInTheLog(RuntimeError):
    """The decision has no leaf: does a worker run, or is the log damaged?"""


@dataclass(frozen=True, slots=True)
class Month:
    """A month of the trail. `manifest` is its newest archive's (the one that was decided about, if any)."""

    month: dt.date
    state: State
    due_on: dt.date
    archive_id: UUID | None = None
    manifest: Manifest | None = None
    archived_at: dt.datetime | None = None
    decided_at: dt.datetime | None = None
    decision: UUID | None = None

    @property
    def archived(self) -> Archived | None:
        """Its archive on record."""
        if self.archive_id is None or self.manifest is None:
            return None
        return Archived(self.archive_id, self.month, self.manifest)


def months() -> list[Month]:
    """Return every month that the trail holds or gave up, oldest first; two statements.

    An archive whose manifest the log did not sign counts as none.
    """
    rows, today = sql.fetch_all(_MONTHS), timezone.now().date()
    keys = retired.keys() if any(row[2] is not None for row in rows) else []
    return [_month(row, keys, today) for row in rows if row[0] <= today]


def find(month: dt.date) -> Month:
    """Return one month. Raises NoSuchMonth."""
    for one in months():
        if one.month == month:
            return one
    raise NoSuchMonth(f"the trail has no month {named(month)}")


def folder() -> Path | None:
    """Return where archives are kept; None when the settings name no folder."""
    return Path(settings.AUDIT_ARCHIVE_DIR) if settings.AUDIT_ARCHIVE_DIR else None


def demand_due(month: Month) -> None:
    """Raise TooYoung for a month that is still held."""
    if month.state is State.HELD:
        raise TooYoung(f"{named(month.month)} is held until {month.due_on.isoformat()}")


def details(archived: Archived) -> dict[str, Any]:
    """Return what two people agree to: exactly this archive of this month."""
    manifest = archived.manifest
    return {
        "month": named(archived.month), "archive": str(archived.id), "file": manifest.file,
        "events": manifest.events, "sha256": manifest.sha256.hex(),
    }  # fmt: skip


def target(month: dt.date) -> tuple[str, str]:
    """Return what events and approvals about a month are about."""
    return retired.TARGET, named(month)


def decide(archived: Archived, at: Path, *, reason: str, by: Actor) -> UUID:
    """Record that a month is given up, after somebody else approved exactly that; return the event's id.

    The archive is read to its end once more before. Raises archives.ArchiveError, OSError, TooYoung,
    errors.MeStoreError where nobody approved.
    """
    demand_due(find(archived.month))
    archiving.demand_whole(at, archived.manifest)
    said = details(archived)
    # The approval is used up when this is over; should the process die before, it stands for this month only.
    with transaction.atomic():
        guard.require_second_person(PROCEDURE, by=by, target=target(archived.month), details=said)
        with transaction.atomic(using=OWNER):
            entry = audit.Entry(
                events.AUDIT_MONTH_RETIRED, by=by, target=target(archived.month),
                data=said | {"reason": reason},
            )  # fmt: skip
            event_id, _leaf = audit.record_through(OWNER, entry)
            sql.execute(_DECIDE, (archived.month, archived.id, event_id), using=OWNER)
    return event_id


def drop(month: Month, at: Path, *, progress: Progress | None = None) -> int | None:
    """Drop a month that was given up; return how many events went, None when it was gone already.

    Its archive is read to its end before, and its decision must have its leaf. Values that triggers kept
    beside its events go after it. Raises NotInTheLog, archives.ArchiveError, OSError, django.db.Error.
    """
    archived = month.archived
    if month.decision is None or archived is None:
        raise NoSuchMonth(f"{named(month.month)} was not given up with an archive that the log signed")
    went = None
    if month.state is State.DECIDED:
        archiving.demand_whole(at, archived.manifest, progress=progress)
        _demand_leaf(month.decision)
        went = _dropped(month.month)
    while sql.fetch_all(_FORGET, (month.month, FORGET_ROWS), using=OWNER)[0][0]:
        pass
    return went


def month_of(event_id: UUID) -> Month | None:
    """Return the month whose archive on record holds an event; None where none does."""
    placed = sql.fetch_one("SELECT epoch, leaf_index FROM audit_leaf WHERE event_id = %s", (event_id,))
    if placed is None:
        return None
    epoch, leaf_index = placed
    for month in months():
        if month.manifest is not None and _holds(month.manifest, int(epoch), int(leaf_index)):
            return month
    return None


def archived_event(event_id: UUID, at: Path) -> Found | None:
    """Return an event of a month that is gone, out of its archive in the folder `at`.

    Raises archives.ArchiveError when the file is not the one that the log signed, OSError.
    """
    month = month_of(event_id)
    if month is None or month.manifest is None:
        return None
    return archives.find(at, month.manifest, event_id)


def personal_values(found: Found) -> Mapping[str, str]:
    """Return the personal values of an archived event that can still be read: their people were not erased.

    For who has been allowed to; recording that is the caller's. Raises crypto.Unreadable.
    """
    document, values = leaves.read_canon(found.canon), dict[str, str]()
    event_id = UUID(str(document["id"]))
    sealed = found.personal.get("sealed")
    owners = {str(document.get("subject", ""))} if sealed else set()
    kept: Mapping[str, list[str]] = found.personal.get("values") or {}
    keys = subjects.read_keys(owners | {subject for subject, _value in kept.values()})
    for owner in owners & keys.keys():
        plain = leaves.open_personal(base64.b64decode(str(sealed)), key=keys[owner], event_id=event_id)
        values["sealed"] = plain[leaves.NONCE_BYTES :].decode()
    for name, (subject, value) in kept.items():
        if subject in keys:
            bound_to = archiving.binding(event_id, name)
            plain = crypto.unseal_with(keys[subject], base64.b64decode(value), bound_to=bound_to)
            values[name] = plain[leaves.NONCE_BYTES :].decode()
    return values


def _holds(manifest: Manifest, epoch: int, leaf_index: int) -> bool:
    return any(
        first <= leaf_index < last
        for part in manifest.parts
        if part.epoch == epoch
        for first, last in part.runs
    )


def _dropped(month: dt.date) -> int | None:
    """Drop the table; where readers of the trail are waited for, let writers by every two seconds."""
    until = time.monotonic() + LONGEST_WAIT_SECONDS
    while True:
        try:
            ((went,),) = sql.fetch_all(_DROP, (month,), using=OWNER)
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable) or time.monotonic() > until:
                raise
            time.sleep(sequencer.PAUSE_SECONDS)
        else:
            return None if went is None else int(went)


def _demand_leaf(event_id: UUID) -> None:
    """See the decision into the log, here or by the worker that is at it."""
    until = time.monotonic() + LONGEST_WAIT_SECONDS
    while True:
        sequencer.drain()
        if sql.fetch_one(_HAS_LEAF, (event_id,)) is not None:
            return
        if time.monotonic() > until:
            raise NotInTheLog("the decision did not get its leaf within a minute")
        time.sleep(sequencer.PAUSE_SECONDS)


def _month(row: sql.Row, keys: Any, today: dt.date) -> Month:
    month, is_there, archive_id, written, note, archived_at, decided_at, decision = row
    due_on = _due_on(month)
    manifest = None
    if written is not None:
        try:
            manifest = archives.read(bytes(written), str(note), keys)
        except archives.ArchiveError:
            archive_id = archived_at = None
    if decided_at is not None:
        state = State.DECIDED if is_there else State.RETIRED
    elif due_on > today:
        state = State.HELD
    else:
        state = State.ARCHIVED if manifest is not None else State.DUE
    return Month(month, state, due_on, archive_id, manifest, archived_at, decided_at, decision)


def _due_on(month: dt.date) -> dt.date:
    """The first day on which all of the month is older than the setting says."""
    last = month.year * 12 + month.month + settings.AUDIT_MONTHS
    return dt.date(last // 12, last % 12 + 1, 1)
