"""Showing the personal values of one event to somebody who said why. The trail keeps who saw which.

Most values are sealed under the person's own key; those of a captured row stand beside the event, where an
erasure deletes them.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db import transaction

from mestore.lib import sql
from mestore.lib.actor import Actor
from monitoring import audit, events, selectors
from monitoring.models import AuditEvent
from monitoring.selectors import PersonalState

STEP_UP: Final = "audit.reveal"
"""The action for which a fresh factor is asked (the setting STEP_UP)."""

_ERASED_AT = "SELECT destroyed_at FROM subject_key WHERE subject = %s"
_CAPTURED = "SELECT name, value FROM audit_personal WHERE event_id = %s ORDER BY name"


@dataclass(frozen=True, slots=True)
class Revealed:
    """What is known: names and values in clear, and the names of those that are erased."""

    state: PersonalState
    values: list[tuple[str, str]]
    erased: tuple[str, ...] = ()
    erased_at: dt.datetime | None = None


def find(event_id: UUID) -> AuditEvent | None:
    """Return the event if it has personal values."""
    try:
        event = selectors.find(event_id)
    except selectors.EventNotFound:
        return None
    return event if event.pii_ct is not None or captured_names(_document(event)) else None


def captured_names(document: dict[str, Any]) -> list[str]:
    """Return which personal values a captured event commits to, by the names that they are kept under."""
    if not str(document.get("event", "")).startswith("capture."):
        return []
    data, by = document.get("data"), document.get("actor")
    held = data.get("personal") if isinstance(data, dict) else None
    names = [str(name) for name in held] if isinstance(held, dict) else []
    has_address = isinstance(by, dict) and "address_commit" in by
    return sorted(names + (["actor.address"] if has_address else []))


def reveal(event: AuditEvent, *, reason: str, by: Actor) -> Revealed:
    """Return the personal values of an event, and record who saw them and why, in one transaction.

    Nothing is returned when it cannot be recorded. The caller asked for permission and a fresh factor.
    """
    document = _document(event)
    with transaction.atomic():
        found = _captured(event, document) if event.pii_ct is None else _sealed(event, document)
        audit.record(
            events.AUDIT_VALUES_REVEALED,
            by=by,
            target=("audit_event", str(event.pk)),
            data={
                "event": event.type, "reason": reason, "state": found.state,
                "names": [name for name, _value in found.values],
                "whose": str(document.get("subject", "")) or event.target_id or "",
            },
        )  # fmt: skip
    return found


def _sealed(event: AuditEvent, document: dict[str, Any]) -> Revealed:
    detail = selectors.event_detail(event.pk, reveal_personal=True)
    erased_at = None
    if detail.personal_state == "erased":
        row = sql.fetch_one(_ERASED_AT, (str(document.get("subject", "")),))
        erased_at = row[0] if row is not None else None
    return Revealed(detail.personal_state, _flat(detail.personal), erased_at=erased_at)


def _captured(event: AuditEvent, document: dict[str, Any]) -> Revealed:
    kept = {str(name): str(value) for name, value in sql.fetch_all(_CAPTURED, (event.pk,))}
    erased = tuple(name for name in captured_names(document) if name not in kept)
    values = [(name, _plain(value)) for name, value in kept.items()]
    return Revealed("shown" if values else "erased", values, erased)


def _plain(value: str) -> str:
    """A captured value is the text of its JSON: a text is shown without its quotes."""
    try:
        read = json.loads(value)
    except ValueError:
        return value
    return read if isinstance(read, str) else value


def _flat(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as rows: "values.email"."""
    if isinstance(values, dict):
        return [
            row
            for name, one in values.items()
            for row in _flat(one, f"{prefix}.{name}" if prefix else str(name))
        ]
    return [(prefix, values if isinstance(values, str) else json.dumps(values, ensure_ascii=False))]


def _document(event: AuditEvent) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(event.canon))
    return found
