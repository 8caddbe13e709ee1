"""Months that were retired: their archives, read to the end, or a word that they are elsewhere."""

from __future__ import annotations

from pathlib import Path

from monitoring import archiving, retired
from monitoring.archives import ArchiveError, named
from monitoring.verification import Findings


def check(folder: Path | None) -> Findings:
    """Read the archive of every retired month in `folder`; without one, note how many events are archived."""
    found, months = Findings(), retired.load().months
    for one in months:
        if folder is None:
            continue
        try:
            archiving.demand_whole(folder, one.manifest)
        except (ArchiveError, OSError) as error:
            found.fault(f"the archive of the month {named(one.month)} does not hold: {error}")
    gone = [one for one in months if not one.is_there]
    if gone:
        events = sum(one.manifest.events for one in gone)
        read = "read" if folder is not None else "not read"
        found.note(f"{events} events of {len(gone)} retired months are in their archives, which were {read}")
    for one in months:
        if one.is_there:
            found.note(f"the month {named(one.month)} was given up and stands still: audit_retire goes on")
    return found
