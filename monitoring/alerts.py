"""Raising signals: what a rule saw, told to people with its evidence.

A rule is declared once, when its application starts; an unknown rule is a mistake in the code and an error.
Raised again while its signal about the same thing is not archived, a signal counts up: one statement, so that
any number of raisers at the same moment make one row with the exact count. An archived signal that is seen
again is a new row: what was decided about the old one stands.

Evidence says what was counted: ids, MACs, networks, numbers, moments. It holds no secret and no name as it
was typed. Networks are personal data: evidence is bounded here (`ITEMS`, `ITEM_BYTES`, `EVIDENCE_BYTES`) and
deleted with its signal, `settings.SIGNAL_DAYS` after that was archived.

While somebody has acknowledged a signal it counts silently; a higher severity ends the silence.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import UUID

import structlog
from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone
from django.utils.functional import Promise
from prometheus_client import Counter

from mestore.lib import ids, sql
from monitoring import redaction
from monitoring.registry import REGISTRY
from monitoring.signals import Severity

__all__ = ["Rule", "Severity", "UnknownRule", "declare", "declared", "get", "raise_signal"]

ITEMS = 20
"""How many of the newest pieces of evidence a signal keeps."""
ITEM_BYTES = 2_048
EVIDENCE_BYTES = 8_192
LIST_ITEMS = 20
TEXT_LENGTH = 200
KEYS = 24
_ENTITY_ID_LENGTH = 128

_CODE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){1,3}")
_ENTITY = re.compile(r"[a-z][a-z0-9_]{0,31}")

log = structlog.get_logger("mestore.alerts")

RAISED = Counter("mestore_signals_raised_total", "Signals raised, by rule.", ["rule"], registry=REGISTRY)

Text = str | Promise


@dataclass(frozen=True, slots=True)
class Rule:
    """What a signal is about. `runbook` is the heading (its anchor) in docs/operations.md."""

    code: str
    title: Text
    severity: Severity
    runbook: str


class UnknownRule(LookupError):
    """No application declared this rule."""


_rules: dict[str, Rule] = {}

# The newest evidence first, as many pieces as fit: `place` counts them, `bytes` sums them up.
_UPSERT = """
INSERT INTO monitoring_signal AS known (
    id, rule, entity_type, entity_id, severity, state, seen, first_seen_at, last_seen_at, evidence,
    owner_label, acknowledged_why, archived_as, archived_why, notified_severity)
VALUES (%(id)s, %(rule)s, %(entity_type)s, %(entity_id)s, %(severity)s, 'open', 1, %(now)s, %(now)s,
        jsonb_build_array(%(item)s::jsonb), '', '', '', '', 0)
ON CONFLICT (rule, entity_type, entity_id) WHERE NOT state = 'archived' DO UPDATE SET
    seen = least(known.seen, 2147483646) + 1,
    first_seen_at = least(known.first_seen_at, EXCLUDED.first_seen_at),
    last_seen_at = greatest(known.last_seen_at, EXCLUDED.last_seen_at),
    severity = greatest(known.severity, EXCLUDED.severity),
    state = CASE WHEN known.acknowledged_until IS NOT NULL AND EXCLUDED.severity > known.severity
                 THEN 'open' ELSE known.state END,
    acknowledged_until = CASE WHEN EXCLUDED.severity > known.severity
                              THEN NULL ELSE known.acknowledged_until END,
    acknowledged_why = CASE WHEN EXCLUDED.severity > known.severity
                            THEN '' ELSE known.acknowledged_why END,
    evidence = (
        SELECT coalesce(jsonb_agg(kept.item ORDER BY kept.place), '[]'::jsonb)
        FROM (SELECT item, place, sum(octet_length(item::text)) OVER (ORDER BY place) AS bytes
              FROM jsonb_array_elements(EXCLUDED.evidence || known.evidence)
                   WITH ORDINALITY AS every(item, place)) AS kept
        WHERE kept.place <= %(items)s AND kept.bytes <= %(bytes)s)
RETURNING id
"""


def declare(rule: Rule) -> Rule:
    """Make `rule` known, at import time; return it.

    Raises ValueError for a malformed code or one that another rule has.
    """
    if not _CODE.fullmatch(rule.code) or len(rule.code) > 64:
        raise ValueError(f"{rule.code!r} is not a well-formed rule code")
    if _rules.setdefault(rule.code, rule) is not rule:
        raise ValueError(f"rule {rule.code!r} is declared twice")
    return rule


def get(code: str) -> Rule:
    """Return the rule of `code`; raise `UnknownRule` when nobody declared it."""
    try:
        return _rules[code]
    except KeyError:
        raise UnknownRule(f"no rule {code!r} is declared") from None


def declared() -> Iterator[Rule]:
    """Yield every rule, by code."""
    return iter(sorted(_rules.values(), key=lambda rule: rule.code))


def raise_signal(
    rule: Rule | str,
    *,
    entity: tuple[str, str],
    severity: Severity | None = None,
    evidence: Mapping[str, Any],
    using: str = "default",
) -> UUID | None:
    """Tell that `rule` saw something about `entity` (kind, id); return the signal's id. One statement.

    With `using="default"` the signal is part of the caller's transaction, and a database error reaches it.
    With `using="audit"` it is kept whatever becomes of that transaction, and a failure changes nothing for
    the caller: it is logged as critical and None returned. Raises `UnknownRule`, and ValueError for an
    entity that is none.
    """
    known = get(rule if isinstance(rule, str) else rule.code)
    values = _values(known, entity, severity or known.severity, evidence)
    try:
        row = sql.fetch_one(_UPSERT, values, using=using)
    except DatabaseError as error:
        log.critical("signal_not_raised", rule=known.code, entity_type=entity[0], error=type(error).__name__)
        if using == "default" or connections[using].in_atomic_block:
            raise
        return None
    RAISED.labels(known.code).inc()
    return row[0] if row else None


def bounded(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return `evidence` as plain JSON values of at most `ITEM_BYTES`, without what looks like a secret.

    Lists keep their first entries; should that not suffice, fewer of them, then only their lengths.
    """
    for longest in (LIST_ITEMS, 8, 3, 0):
        made = {
            _clean(key, 64): _plain(str(key), value, longest) for key, value in list(evidence.items())[:KEYS]
        }
        if _size(made) <= ITEM_BYTES:
            return made
    return {"too_large": True, "keys": [_clean(key, 32) for key in list(evidence)[:KEYS]]}


def _values(
    rule: Rule, entity: tuple[str, str], severity: Severity, evidence: Mapping[str, Any]
) -> dict[str, Any]:
    kind, which = entity
    if not _ENTITY.fullmatch(kind) or not which or len(which) > _ENTITY_ID_LENGTH or "\x00" in which:
        raise ValueError("a signal is about a kind of thing and its id")
    now = timezone.now()
    item = {**bounded(evidence), "at": now.isoformat(timespec="seconds")}
    return {
        "id": ids.uuid7(), "rule": rule.code, "entity_type": kind, "entity_id": which,
        "severity": int(severity), "now": now, "item": json.dumps(item, ensure_ascii=False),
        "items": ITEMS, "bytes": EVIDENCE_BYTES,
    }  # fmt: skip


def _plain(name: str, value: Any, longest: int) -> Any:
    if redaction.is_secret_name(name):
        return redaction.REDACTED
    if isinstance(value, Mapping):
        pairs = list(value.items())[: max(1, longest)]
        return {_clean(key, 64): _scalar(str(key), one) for key, one in pairs}
    if isinstance(value, (list, tuple, set, frozenset)):
        every = sorted(value, key=str) if isinstance(value, (set, frozenset)) else list(value)
        kept = [_scalar(name, one) for one in every[:longest]]
        return kept if len(kept) == len(every) else [*kept, f"… {len(every)}"]
    return _scalar(name, value)


def _scalar(name: str, value: Any) -> Any:
    if redaction.is_secret_name(name):
        return redaction.REDACTED
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, (bool, int)):
        return value if value is None or abs(value) < 2**53 else str(value)[:TEXT_LENGTH]
    if isinstance(value, float):
        return round(value, 6) if abs(value) < 2**53 else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()[:TEXT_LENGTH]
    if isinstance(value, (dt.datetime, dt.date)):
        return value.isoformat()
    return redaction.text(_clean(value, TEXT_LENGTH))


def _clean(value: Any, longest: int) -> str:
    """Text that JSON in PostgreSQL can hold: no NUL, no half of a surrogate pair."""
    return str(value)[:longest].replace("\x00", "").encode("utf-8", "replace").decode()


def _size(made: Mapping[str, Any]) -> int:
    return len(json.dumps(made, ensure_ascii=False).encode())
