"""Which months of the trail were given up, as far as the log itself says so.

A row in a table excuses nothing: whoever deletes events could write one. What excuses a missing event is a
manifest that names its leaf, signed by the log, and a month whose table is gone. Leaves are named by number,
so that nobody can move an event into a month that was given up.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from mestore.lib import sql
from mestore.lib.notes import Verifier
from monitoring import archives, checkpoints, events, log
from monitoring.archives import ArchiveError, Manifest, Run, named

_RETIRED = """
SELECT r.month, a.id, a.manifest, a.note, r.event_id,
       EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'public.audit_event'::regclass
               AND c.relname = 'audit_event_' || to_char(r.month, 'YYYYMM')),
       l.event_id IS NOT NULL, e.type, e.target_id
FROM audit_retirement r JOIN audit_archive a ON a.id = r.archive_id
LEFT JOIN audit_leaf l ON l.event_id = r.event_id
LEFT JOIN audit_event e ON e.id = l.event_id AND e.occurred_at = l.occurred_at
ORDER BY r.month
"""
TARGET: Final = "audit_month"
"""What an event about a month is about."""


@dataclass(frozen=True, slots=True)
class Month:
    """A month on record as given up. `is_there`: its table stands still, or again."""

    month: dt.date
    archive_id: UUID
    manifest: Manifest
    event_id: UUID
    is_there: bool


@dataclass(frozen=True, slots=True)
class Retired:
    """What is on record. `wrong` says of which months the record is not to be believed, and why."""

    months: tuple[Month, ...] = ()
    wrong: tuple[str, ...] = ()

    def gone(self, epoch: int, begin: int, end: int) -> list[Run]:
        """Return which of the leaves `begin` to `end` (excluded) went with their month, in order."""
        runs = [
            (max(first, begin), min(last, end))
            for month in self.months
            if not month.is_there
            for part in month.manifest.parts
            if part.epoch == epoch
            for first, last in part.runs
            if first < end and last > begin
        ]
        return sorted(runs)

    def holds(self, epoch: int, leaf_index: int) -> bool:
        """Say whether the event of a leaf went with its month."""
        return bool(self.gone(epoch, leaf_index, leaf_index + 1))

    def kept(self, epoch: int, begin: int, end: int) -> list[Run]:
        """Return which of the leaves `begin` to `end` must have their event, in order."""
        found, at = list[Run](), begin
        for first, last in self.gone(epoch, begin, end):
            if first > at:
                found.append((at, first))
            at = max(at, last)
        if at < end:
            found.append((at, end))
        return found

    def erased(self) -> set[str]:
        """Return the people whose erasure is an event of an archived month."""
        return {subject for month in self.months for subject in month.manifest.erased}


def load(key: Verifier | None = None) -> Retired:
    """Return what is on record, signatures checked; one statement. `key` is a pinned one of a log."""
    rows = sql.fetch_all(_RETIRED)
    if not rows:
        return Retired()
    known, months, wrong = keys(pinned=key), list[Month](), list[str]()
    for month, archive_id, written, note, event_id, is_there, *_decision in rows:
        try:
            manifest = archives.read(bytes(written), str(note), known)
        except ArchiveError as error:
            wrong.append(f"the record of the retired month {named(month)} is not to be believed: {error}")
            continue
        if manifest.month != month:
            wrong.append(f"the record of the retired month {named(month)} is about another month")
            continue
        months.append(Month(month, archive_id, manifest, event_id, is_there))
    archived = {one for month in months for one in month.manifest.decisions}
    for month, _archive_id, _written, _note, event_id, _is_there, *decision in rows:
        if not _is_decision(month, event_id, decision, archived):
            wrong.append(f"nobody's decision to give up the month {named(month)} is in the log")
    return Retired(tuple(months), tuple(wrong))


def keys(pinned: Verifier | None = None) -> list[Verifier]:
    """Return the public keys of every log there was, newest first; `pinned` in the place of its own."""
    found = [checkpoints.verifier(epoch) for epoch in range(log.state().epoch, 0, -1)]
    return [pinned if pinned is not None and one.name == pinned.name else one for one in found]


def _is_decision(
    month: dt.date, event_id: UUID, found: Sequence[object], archived: Collection[tuple[str, str]]
) -> bool:
    """Whether the event on record is in the log and gave this month up; an archive may hold it by now."""
    has_leaf, code, target = found
    if code is None:
        return bool(has_leaf) and (str(event_id), named(month)) in archived
    return bool(has_leaf) and (code, target) == (events.AUDIT_MONTH_RETIRED, named(month))
