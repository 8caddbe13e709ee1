"""The canonical bytes of one event: what is hashed, proved and kept for ever.

Canonical means RFC 8785 JSON. Personal values are not in it: it carries a commitment to them
(`pii_commit`, SHA-256 of a random nonce and the values), and nonce and values are sealed beside it.

Whatever a stranger sends must be recordable: texts are cut, NUL and lone surrogates replaced, numbers that
JSON cannot carry written as text, and data that is still too large is replaced by its digest.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.utils.functional import Promise

from mestore.lib import canonical, crypto, json_text
from mestore.lib.actor import Actor
from monitoring import events

FORMAT = 1
MAX_TEXT = 2_000  # characters of one text value
MAX_LABEL = 200  # characters of one id or type
MAX_ITEMS = 200  # of one list or mapping
MAX_DEPTH = 6
MAX_DATA = 32_768  # bytes of all data of one event
NONCE_BYTES = 16

_LARGEST_INTEGER = 2**53 - 1  # what RFC 8785 numbers hold exactly
_LEAST_INTEGER = -_LARGEST_INTEGER
_TEXTS = frozenset({str})

Target = tuple[str, str]
Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One event to be recorded: what `audit.record` takes as arguments."""

    event: str
    by: Actor
    target: Target | None = None
    data: Data | None = None
    personal: Data | None = None
    subject: str | None = None


@dataclass(slots=True)
class Speaker:
    """Who acts, cleaned and cut once for all events that are prepared together."""

    by: Actor
    id: str | None
    role: str | None
    session_id: str | None
    request_id: str | None
    told: dict[str, str]  # as the canonical bytes name the actor
    known: bytes | None  # the canonical personal values of the actor alone; None: nothing personal


@dataclass(slots=True)
class Columns:
    """The texts of an event that are columns too, cleaned and cut once for column and canon alike."""

    speaker: Speaker
    target_type: str | None
    target_id: str | None


def columns(entry: Entry, before: Columns | None = None) -> Columns:
    """Return the column texts of `entry`; of the same actor as the event `before`, they are taken from it."""
    target = entry.target or (None, None)
    is_same = before is not None and before.speaker.by is entry.by
    speaker = before.speaker if before is not None and is_same else _speaker(entry.by)
    return Columns(speaker, _label(target[0]), _label(target[1]))


def subject_of(entry: Entry, row: Columns, at: dt.datetime) -> str | None:
    """Return whose key seals the personal values of `entry`, None when it has none."""
    if row.speaker.known is None and not entry.personal:
        return None
    return _label(entry.subject) or row.speaker.id or f"anonymous-{at:%Y-%m}"


def personal_bytes(entry: Entry, row: Columns) -> bytes:
    """Return nonce and canonical personal values of `entry`: the bytes that are committed to and sealed."""
    known = row.speaker.known
    values = known if known is not None and not entry.personal else _personal_values(_personal(entry))
    return os.urandom(NONCE_BYTES) + values


def seal_personal(plaintext: bytes, *, key: bytes, event_id: UUID) -> bytes:
    """Return `plaintext` sealed under the subject's `key`, bound to the event."""
    return crypto.seal_with(key, plaintext, bound_to=_binding(event_id))


def open_personal(sealed: bytes, *, key: bytes, event_id: UUID) -> bytes:
    """Return what `seal_personal` sealed; raise `crypto.Unreadable` for other bytes, key or event."""
    return crypto.unseal_with(key, sealed, bound_to=_binding(event_id))


def moment(at: dt.datetime) -> str:
    """Return a moment in UTC as canonical bytes have it."""
    return at.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def canon(
    entry: Entry, row: Columns, *, event_id: UUID, at: str, subject: str | None, personal: bytes | None
) -> bytes:
    """Return the canonical bytes of an event that happened at the UTC moment `at`."""
    event = events.get(entry.event)
    speaker = row.speaker
    document: dict[str, Any] = {
        "v": FORMAT,
        "id": str(event_id),
        "at": at,
        "event": event.code,
        "event_version": event.version,
        "outcome": str(event.outcome),
        "actor": speaker.told,
    }
    if row.target_type is not None:
        document["target"] = {"type": row.target_type, "id": row.target_id}
    if speaker.session_id is not None:
        document["session"] = speaker.session_id
    if speaker.request_id is not None:
        document["request"] = speaker.request_id
    if personal is not None:
        document["subject"] = subject
        document["pii_commit"] = hashlib.sha256(personal).hexdigest()
    if entry.data:
        document["data"] = _clean(entry.data)
    written = _canonical(document)
    if len(written) > MAX_DATA:
        document["data"] = _digest_of(_canonical(document["data"]))
        written = _canonical(document)
    return written


def without_personal(canon_bytes: bytes) -> bytes:
    """Return the canonical bytes of an event as if it had no personal values."""
    document = json.loads(canon_bytes)
    for name in ("subject", "pii_commit"):
        document.pop(name, None)
    return _canonical(document)


def read_canon(canon_bytes: bytes) -> dict[str, Any]:
    """Return what canonical bytes of ours say."""
    found: dict[str, Any] = json.loads(canon_bytes)
    return found


def leaf_hash(canon_bytes: bytes) -> bytes:
    """Return the RFC 9162 leaf hash of canonical bytes."""
    return hashlib.sha256(b"\x00" + canon_bytes).digest()


def _canonical(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a value made of texts, safe integers, booleans, lists and mappings.

    For plain ASCII the standard library's encoder in C writes the same bytes ten times faster (an import
    records thousands of events in a second); other keys it would sort by code point, which is another order.
    """
    written = _encode(value)
    return written.encode("ascii") if written.isascii() else canonical.dumps(value)


_encode = json_text.writer(ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _binding(event_id: UUID) -> bytes:
    return crypto.row_binding("audit_event", event_id)


def _speaker(by: Actor) -> Speaker:
    by_id, role, known = _label(by.id), _label(by.role), _known(by)
    told: dict[str, str] = {"kind": by.kind}
    if by_id is not None:
        told["id"] = by_id
    if role is not None:
        told["role"] = role
    if (impersonator := _label(by.impersonator)) is not None:
        told["impersonator"] = impersonator
    if by.kind == "system":
        told["name"] = _label(by.label) or ""
    return Speaker(
        by, by_id, role, _label(by.session_id), _label(by.request_id), told,
        _personal_values(known) if known else None,
    )  # fmt: skip


def _known(by: Actor) -> dict[str, Any]:
    """Return who acted, as people know them; a command or job is nobody, its name stays in clear."""
    found: dict[str, Any] = {}
    if by.kind != "system" and by.label:
        found["label"] = by.label
    if by.address:
        found["address"] = by.address
    if by.agent:
        found["agent"] = by.agent
    return found


def _personal(entry: Entry) -> dict[str, Any]:
    """Return the personal values: who acted, and what the caller called personal."""
    found = _known(entry.by)
    if entry.personal:
        found["values"] = entry.personal
    return found


def _personal_values(found: dict[str, Any]) -> bytes:
    written = _canonical(_clean(found))
    return written if len(written) <= MAX_DATA else _canonical(_digest_of(written))


def _label(value: object) -> str | None:
    """Return an id or type as a column can hold it; None for nothing."""
    if value is None or value == "":
        return None
    return _text(str(value), MAX_LABEL)


def _text(value: str, limit: int = MAX_TEXT) -> str:
    if len(value) <= limit and value.isascii() and "\x00" not in value:
        return value  # as nearly every text
    if len(value) > limit:
        value = f"{value[: limit - 1]}…"
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\ufffd")


def _clean(value: Any, depth: int = 0) -> Any:
    """Return `value` in types that RFC 8785 can carry. Raise TypeError for a type nobody meant to record."""
    kind = type(value)
    if kind is dict and depth < MAX_DEPTH:
        return _clean_members(value, depth + 1)
    if kind is dict or kind is list:  # before the question for a Mapping or Sequence, which is a dear one
        return _clean_many(value, depth)
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if _LEAST_INTEGER <= value <= _LARGEST_INTEGER else _text(_digits(value))
    if isinstance(value, Mapping | Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        return _clean_many(value, depth)
    if isinstance(value, UUID | Decimal | Promise):
        return _text(str(value))
    if isinstance(value, float):
        return repr(value)  # a float is never an amount here; as text it is at least exact
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    raise TypeError(f"an event's data cannot hold a {type(value).__name__}")


def _clean_many(value: Any, depth: int) -> Any:
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return _clean_members(value, depth + 1)
    if isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    return [_clean(item, depth + 1) for item in value[:MAX_ITEMS]]


def _clean_members(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    """Return each member clean, as `_text` and `_clean` make it, in a dictionary of its own.

    Nearly all values are plain: they stay as they are, without a call. An event that tells of a row has
    dozens.
    """
    if len(value) > MAX_ITEMS:
        value = dict(list(value.items())[:MAX_ITEMS])
    found = dict(value)
    for name, item in value.items():
        kind = type(item)
        if kind is str:
            if len(item) <= MAX_TEXT and item.isascii() and "\x00" not in item:
                continue
        elif item is None or (kind is int and _LEAST_INTEGER <= item <= _LARGEST_INTEGER):
            continue
        found[name] = _clean(item, depth)
    # Names are nearly always the few of our own code: one look at all of them.
    if set(map(type, found)) <= _TEXTS:
        names = "".join(found)
        is_short = len(names) <= MAX_LABEL or max(map(len, found)) <= MAX_LABEL
        if is_short and names.isascii() and "\x00" not in names:
            return found
    return {_text(str(name), MAX_LABEL): item for name, item in found.items()}


def _digits(value: int) -> str:
    # Python refuses to write integers of thousands of digits in decimal; hexadecimal has no such limit.
    return str(value) if value.bit_length() < 4_096 else hex(value)


def _digest_of(written: bytes) -> dict[str, Any]:
    return {"omitted_bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}
