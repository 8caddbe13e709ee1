"""One exported event as one line: exactly as it is hashed (JSONL), as a table's row (CSV), or as OCSF."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from mestore.lib import spreadsheets
from monitoring import events, ocsf
from monitoring.export_batches import Format

HEADINGS: Final = (
    "leaf_index", "leaf_hash", "event_id", "at", "event", "outcome", "category", "actor_kind", "actor_id",
    "actor_role", "target_type", "target_id", "session", "request", "personal", "data",
)  # fmt: skip
HIDDEN: Final = "hidden"
_COLUMNS: Final = frozenset(
    {"v", "id", "at", "event", "event_version", "outcome", "actor", "target", "session", "request", "subject"}
    | {"pii_commit", "data"}
)


@dataclass(frozen=True, slots=True)
class Record:
    """One leaf of the log and its event. `canon` is None where the event was removed at its time's end.

    `personal` holds opened personal values; None where nobody may see them, or none are there.
    """

    log: str
    index: int
    leaf_hash: bytes
    event_id: UUID
    canon: bytes | None
    personal: Mapping[str, Any] | None = None


def heading(form: Format) -> str:
    """Return what stands above all records; only a table has that."""
    return spreadsheets.line(HEADINGS) if form is Format.CSV else ""


def line(record: Record, form: Format) -> str:
    """Return the record's line, with its end."""
    if form is Format.JSONL:
        return _jsonl(record)
    document = _document(record)
    return _csv(record, document) if form is Format.CSV else _ocsf(record, document)


def _jsonl(record: Record) -> str:
    """The event's canonical bytes stand in the line as they are, at its end: whoever hashes them can."""
    canon = record.canon if record.canon is not None else b"null"
    head = {
        "log": record.log,
        "leaf_index": record.index,
        "leaf_hash": record.leaf_hash.hex(),
        "event_id": str(record.event_id),
        "event_bytes": len(canon),
    }
    if record.personal is not None:
        head["personal"] = dict(record.personal)
    written = json.dumps(head, ensure_ascii=False, separators=(",", ":"))
    return f'{written[:-1]},"event":{canon.decode()}}}\n'


def _ocsf(record: Record, document: Mapping[str, Any]) -> str:
    found = ocsf.event(
        document, sequence=record.index, log=record.log, leaf_hash=record.leaf_hash.hex(),
        personal=record.personal,
    )  # fmt: skip
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n"


def _csv(record: Record, document: Mapping[str, Any]) -> str:
    actor, target = _part(document, "actor"), _part(document, "target")
    code = str(document.get("event", ""))
    return spreadsheets.line(
        (
            str(record.index), record.leaf_hash.hex(), str(record.event_id), str(document.get("at", "")),
            code,
            str(document.get("outcome", "")), _category(code), str(actor.get("kind", "")),
            str(actor.get("id", "")), str(actor.get("role", "")), str(target.get("type", "")),
            str(target.get("id", "")), str(document.get("session", "")), str(document.get("request", "")),
            _personal(record, document), _json(_data(document)),
        )
    )  # fmt: skip


def _personal(record: Record, document: Mapping[str, Any]) -> str:
    if record.personal is not None:
        return _json(record.personal)
    return HIDDEN if "pii_commit" in document else ""


def _document(record: Record) -> dict[str, Any]:
    """The event's document; of one that was removed, that it was there.

    The ledger's own events say `type` and `recorded_at`: what is posted at all has succeeded.
    """
    found: dict[str, Any] = {"id": str(record.event_id), "event": "", "outcome": ""}
    if record.canon is None:
        return found
    given: dict[str, Any] = json.loads(record.canon)
    if "event" not in given:
        found |= {
            "event": given.pop("type", ""), "at": given.get("recorded_at", ""), "outcome": "SUCCESS",
            "target": {"type": "ledger_entry", "id": str(record.event_id)},
        }  # fmt: skip
    return found | given


def _data(document: Mapping[str, Any]) -> Any:
    """What the event's own columns do not hold."""
    return document.get("data") or {name: value for name, value in document.items() if name not in _COLUMNS}


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value else ""


def _category(code: str) -> str:
    try:
        return events.get(code).category
    except events.UnknownEvent:
        return ""
