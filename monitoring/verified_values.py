"""Are the personal values that triggers keep beside events those that the events commit to?

An event carries SHA-256 of nonce and value. A value is gone rightly with its person only: when the person's
data key is destroyed, too.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from mestore.lib import sql
from monitoring.verification import Findings

_VALUES = "SELECT event_id, name, nonce, value FROM audit_personal WHERE event_id = ANY(%s)"
_DESTROYED = "SELECT subject FROM subject_key WHERE subject = ANY(%s) AND wrapped IS NULL"

Captured = tuple[int, UUID, Mapping[str, Any]]
"""Leaf, event and what the event's sealed bytes say."""


def check(captured: Sequence[Captured], found: Findings) -> None:
    """Compare the kept values of captured events with their commitments; at most two statements."""
    wanted = {event_id: dict(_commitments(document)) for _leaf, event_id, document in captured}
    asked = [event_id for _leaf, event_id, _document in captured if wanted[event_id]]
    kept: dict[UUID, dict[str, str]] = {}
    for event_id, name, nonce, value in sql.fetch_all(_VALUES, (asked,)) if asked else []:
        digest = hashlib.sha256(bytes(nonce) + str(value).encode()).hexdigest()
        kept.setdefault(event_id, {})[str(name)] = digest
    missing: list[tuple[int, UUID, str]] = []
    for leaf_index, event_id, document in captured:
        there = kept.get(event_id, {})
        for name, digest in wanted[event_id].items():
            if name not in there:
                missing.append((leaf_index, event_id, _owner(document, name)))
            elif not hmac.compare_digest(there[name], digest):
                found.fault("a personal value is not what its event commits to", leaf_index, event_id)
    destroyed = _destroyed({owner for _leaf, _event, owner in missing})
    for leaf_index, event_id, owner in missing:
        if owner not in destroyed:
            found.fault("a personal value of an event is gone, and nobody erased it", leaf_index, event_id)


def _commitments(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    data, actor = document.get("data"), document.get("actor")
    personal = data.get("personal") if isinstance(data, dict) else None
    if isinstance(personal, dict):
        yield from ((str(name), str(digest)) for name, digest in personal.items())
    if isinstance(actor, dict) and "address_commit" in actor:
        yield "actor.address", str(actor["address_commit"])


def _owner(document: Mapping[str, Any], name: str) -> str:
    """Whose value it is, as `audit_capture` says: the row's person, or for an address who acted."""
    if name != "actor.address":
        return str(document.get("subject"))
    actor = document["actor"]
    return str(actor["id"]) if actor.get("id") else f"anonymous-{str(document.get('at'))[:7]}"


def _destroyed(owners: set[str]) -> set[str]:
    rows = sql.fetch_all(_DESTROYED, (sorted(owners),)) if owners else []
    return {str(row[0]) for row in rows}
