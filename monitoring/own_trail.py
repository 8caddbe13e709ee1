"""What the audit trail knows about a person, for the archive that they may ask for.

Events that the person caused or that were about them. Personal values are opened with the person's own data
key only; of who acted on them the role is told, not the name or address. What somebody did to others as part
of their work is listed without what it says about the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db.models import Q

from mestore.lib import crypto, sql
from mestore.lib.own_data import Row, Section, register
from monitoring import leaves, subjects
from monitoring.models import AuditEvent

PAGE = 500
_OWN_TARGETS = ("user", "person", "accounts_user")
# Of the actor: theirs, when somebody else acted.
_OF_ACTOR = ("label", "address", "agent")
_KEPT = """
SELECT event_id, name, value, occurred_at FROM audit_personal
 WHERE subject = %s AND (event_id, name) > (%s, %s) ORDER BY event_id, name LIMIT %s
"""
# What they do concerns what is theirs; the staff works on other people.
_NOT_STAFF = ("BUYER", "VENDOR")
_NONE = UUID(int=0)


def trail(person_id: UUID) -> Iterator[Row]:
    """Yield events, those that the person caused first, each kind oldest first."""
    subject = str(person_id)
    key = subjects.read_keys([subject]).get(subject)
    caused = Q(actor_id=subject)
    about = Q(target_type__in=_OWN_TARGETS, target_id=subject) & (Q(actor_id=None) | ~Q(actor_id=subject))
    for chosen in (caused, about):
        rows = AuditEvent.objects.filter(chosen).order_by("occurred_at", "id")
        for event in rows.defer("writer_mac", "leaf_hash").iterator(chunk_size=PAGE):
            yield _told(event, subject, key)


def kept_values(person_id: UUID) -> Iterator[Row]:
    """Yield the values that stood in rows about the person when these were changed; 500 to a statement."""
    subject, after = str(person_id), (_NONE, "")
    while rows := sql.fetch_all(_KEPT, (subject, *after, PAGE)):
        for event_id, name, value, occurred_at in rows:
            if name != "actor.address":  # whoever changed the row, not always the person
                yield {"event": event_id, "at": occurred_at, "field": name, "value": _plain(value)}
        after = (rows[-1][0], rows[-1][1])


def register_sections() -> None:
    """Make the sections known; called when Django starts."""
    register(Section("audit_events", "what was done by the person and about them", trail))
    register(Section("earlier_values", "values that were kept when something was changed", kept_values))


def _told(event: AuditEvent, subject: str, key: bytes | None) -> dict[str, Any]:
    document = json.loads(bytes(event.canon))
    is_own = event.actor_id == subject
    told: dict[str, Any] = {
        "id": event.pk, "at": event.occurred_at, "event": event.type, "outcome": event.outcome,
        "by": "oneself" if is_own else (event.actor_role or event.actor_kind), "session": event.session_id,
    }  # fmt: skip
    is_about_self = event.target_id in {None, subject, event.session_id}
    if not is_own or is_about_self or event.actor_role in _NOT_STAFF:
        told["data"] = document.get("data", {})
    personal = _personal(event, document, subject, key)
    if not is_own and event.actor_kind != "anonymous":
        personal = {name: value for name, value in personal.items() if name not in _OF_ACTOR}
    return {**told, "personal": personal} if personal else told


def _personal(event: AuditEvent, document: dict[str, Any], subject: str, key: bytes | None) -> dict[str, Any]:
    if event.pii_ct is None or key is None or document.get("subject") != subject:
        return {}
    try:
        plain = leaves.open_personal(bytes(event.pii_ct), key=key, event_id=event.pk)
    except crypto.Unreadable:
        return {}
    found: dict[str, Any] = json.loads(plain[leaves.NONCE_BYTES :])
    return found


def _plain(value: str) -> Any:
    """A captured value is the text of its JSON."""
    try:
        return json.loads(value)
    except ValueError:
        return value
