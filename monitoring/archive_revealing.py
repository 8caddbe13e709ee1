"""Showing the personal values of an event whose month was retired, out of its archive.

Nobody has a page for it: an archive is read to its end, which may take minutes, and stands where two people
put it. So it is a command, and since no command can ask for a fresh factor, a second person agrees to exactly
this event of this file. Destroying a person's key reaches their values here as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.db import transaction

from mestore.lib import guard, merkle
from mestore.lib.actor import Actor
from monitoring import audit, events, leaves, log, retirement
from monitoring.archives import ArchiveError, Found, named
from monitoring.retirement import Month

PROCEDURE: Final = "audit.reveal_archived"
"""What a second person approves, described by `details`."""


class NotArchived(LookupError):
    """No archive of a retired month holds this event."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An archived event in clear. `erased`: what it held of people whose key is destroyed."""

    event: str
    document: dict[str, Any]
    values: dict[str, str]
    erased: tuple[str, ...]


def month_of(event_id: UUID) -> Month:
    """Return the retired month whose archive, as the log signed it, holds the event. Raises NotArchived."""
    month = retirement.month_of(event_id)
    if month is None or month.state is not retirement.State.RETIRED:
        raise NotArchived("no archive of a retired month holds this event")
    return month


def target(event_id: UUID) -> tuple[str, str]:
    """Return what events and approvals about an archived event are about."""
    return "audit_event", str(event_id)


def details(event_id: UUID, month: Month) -> dict[str, Any]:
    """Return what two people agree to: exactly this event of exactly this file."""
    manifest = month.manifest
    if manifest is None:
        raise NotArchived("the month has no archive that the log signed")
    return {
        "event": str(event_id), "month": named(month.month), "file": manifest.file,
        "sha256": manifest.sha256.hex(),
    }  # fmt: skip


def reveal(event_id: UUID, at: Path, *, reason: str, by: Actor) -> Opened:
    """Return an archived event with its personal values; record who saw which and why.

    `at` is the folder of archives. The approval is used up; nothing is returned when it cannot be recorded.
    Raises NotArchived, archives.ArchiveError for a file that is not the one that was signed, OSError,
    crypto.Unreadable, errors.MeStoreError where nobody approved.
    """
    month = month_of(event_id)
    said = details(event_id, month)
    found = retirement.archived_event(event_id, at)
    if found is None:
        raise NotArchived(f"{said['file']} does not hold the event")
    _demand_sealed(found)
    document, values = leaves.read_canon(found.canon), dict(retirement.personal_values(found))
    held = _held(found)
    erased = tuple(name for name in held if name not in values)
    with transaction.atomic():
        guard.require_second_person(PROCEDURE, by=by, target=target(event_id), details=said)
        audit.record(
            events.AUDIT_VALUES_REVEALED,
            by=by,
            target=target(event_id),
            data={
                "event": str(document.get("event", "")), "reason": reason, "file": said["file"],
                "state": "shown" if values else "erased" if erased else "none", "names": sorted(values),
                "whose": str(document.get("subject", "")),
            },
        )  # fmt: skip
    return Opened(str(event_id), document, values, erased)


def _held(found: Found) -> Sequence[str]:
    """The names under which the archive keeps personal values of an event."""
    return sorted(
        [*(["sealed"] if found.personal.get("sealed") else []), *(found.personal.get("values") or {})]
    )


def _demand_sealed(found: Found) -> None:
    """The line's bytes are the leaf that the log has; its tiles stay when a month goes."""
    leaf = log.tiles(found.epoch)(0, found.leaf_index, 1)
    if leaf != merkle.leaf_hash(found.canon):
        raise ArchiveError(f"the archived event is not the leaf {found.leaf_index} of the log")
