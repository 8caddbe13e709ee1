"""Are the guards what the migrations made: functions, triggers, their conditions, and nothing beside them?

A trigger that always fires guards nothing when its function was replaced by one that does nothing, when its
condition never holds, or when another trigger in front of it, a rule or a policy takes the row away. Only
somebody with the owner's rights can do that, so the code says what it expects: the bodies as the newest
migration wrote them, and the columns as they were declared.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from django.db.migrations import RunSQL
from django.db.migrations.loader import MigrationLoader

from mestore.lib import sql
from monitoring import capture, readiness

_BODY = re.compile(
    r"CREATE(?: OR REPLACE)? FUNCTION (?:public\.)?(\w+)\s*(\([^)]*\)).*?AS \$\$(.*?)\$\$", re.DOTALL
)
_TABLES: Final = ("audit_pending", "audit_tile", "audit_tree", "audit_verification", "subject_key")
_APPLIED = "SELECT app, name FROM django_migrations"
_FUNCTIONS = """
SELECT proname, prosrc FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND proname = ANY(%s) ORDER BY 1
"""
_TRIGGERS = """
SELECT c.relname, t.tgname, CASE WHEN f.pronamespace = 'public'::regnamespace THEN f.proname END,
       CASE WHEN t.tgqual IS NOT NULL THEN pg_get_triggerdef(t.oid) END
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc f ON f.oid = t.tgfoid
WHERE NOT t.tgisinternal AND c.relnamespace = 'public'::regnamespace
  AND (c.relname = ANY(%s) OR c.relname ~ '^audit_event_[0-9]{6}$') ORDER BY 1, 2
"""
_BENT = """
SELECT c.relname, c.relrowsecurity FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
  AND (c.relname = ANY(%s) OR c.relname ~ '^audit_event_[0-9]{6}$')
  AND (c.relrowsecurity OR EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid)) ORDER BY 1
"""
# The four triggers of each watched table, or NULL for one that is not there; whether they fire at what they
# should, for every column; with which declaration: a trigger's arguments end with a zero byte each.
_CAPTURING = """
SELECT n.name, w.trigger, t.tgenabled = 'A' AND f.proname = 'audit_capture'
                          AND f.pronamespace = 'public'::regnamespace,
       t.tgtype = w.type AND t.tgattr::text = '',
       CASE WHEN t.tgnargs = 1
            THEN convert_from(substring(t.tgargs FROM 1 FOR length(t.tgargs) - 1), 'UTF8') END
FROM unnest(%(tables)s::text[]) AS n (name)
CROSS JOIN unnest(%(triggers)s::text[], %(types)s::int[]) AS w (trigger, type)
LEFT JOIN pg_class c ON c.relname = n.name AND c.relnamespace = 'public'::regnamespace
LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = w.trigger AND NOT t.tgisinternal
LEFT JOIN pg_proc f ON f.oid = t.tgfoid
ORDER BY 1, 2
"""
# As pg_trigger says it: for each row 1, before 2, INSERT 4, DELETE 8, UPDATE 16, TRUNCATE 32.
_FIRES: Final = {
    "audit_capture_insert": 5,
    "audit_capture_update": 17,
    "audit_capture_delete": 9,
    "audit_capture_truncate": 32,
}
# Everything that guards, as the database writes it; months come and go, so their triggers are not among them.
_DEFINED = """
SELECT t.tgenabled::text || ' ' || pg_get_triggerdef(t.oid) AS text FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND c.relnamespace = 'public'::regnamespace AND c.relname = ANY(%(tables)s)
UNION ALL
SELECT pg_get_functiondef(f.oid) FROM pg_proc f
WHERE f.pronamespace = 'public'::regnamespace AND f.prokind IN ('f', 'p') AND f.proname = ANY(%(functions)s)
"""
# Guards that hold without a condition; what captures updates has one that follows from what is ignored.
_UNCONDITIONAL = ("_append_only", "_no_truncate", "_stays", "_grows", "_insert", "_delete", "_truncate")
_UPDATE = "audit_capture_update"


@dataclass(slots=True)
class Captured:
    """How a watched table is captured now."""

    is_there: bool = True
    """All four triggers are there, run our function and no setting silences them."""
    is_declared: bool = True
    """Each that is there says of every column what the migrations declared."""
    bent: tuple[str, ...] = ()
    """Those that fire at something else than they should."""

    @property
    def is_whole(self) -> bool:
        return self.is_there and self.is_declared and not self.bent


def tables() -> list[str]:
    """Return every table that must hold: what nobody may change, what the log stands in, what is captured."""
    return sorted({*_TABLES, *readiness.append_only(), *readiness.captured_tables()})


def is_of_a_later_release() -> bool:
    """Whether the database was migrated by newer code, which alone knows what it made of the guards."""
    apps = {app for app, _name in readiness.migrations_on_disk()}
    applied = {(app, name) for app, name in sql.fetch_all(_APPLIED) if app in apps}
    return bool(applied - readiness.migrations_on_disk())


def wrong() -> Iterator[str]:
    """Yield what is wrong with functions, triggers, rules and policies, in words."""
    bodies = expected_bodies()
    for name, source in sql.fetch_all(_FUNCTIONS, (sorted(bodies),)):
        if source not in bodies[name]:
            yield f"the function {name} is not the one that the migrations made"
    declared = _declarations()
    for table, trigger, function, condition in sql.fetch_all(_TRIGGERS, (tables(),)):
        if function not in bodies:
            yield f"the trigger {trigger} of {table} runs a function that no migration made"
        elif not _is_as_made(table, trigger, condition, declared):
            yield f"the trigger {trigger} of {table} fires under another condition than it should"
    for table, has_policies in sql.fetch_all(_BENT, (tables(),)):
        what = "row security hides rows" if has_policies else "a rule rewrites statements"
        yield f"{what} of {table}"
    for table, found in captured().items():
        if not found.is_declared:
            yield f"the columns of {table} are captured in another way than the migrations declared"
        for trigger in found.bent:
            yield f"the trigger {trigger} of {table} fires at something else than it should"


def captured() -> dict[str, Captured]:
    """Return each table that the migrations of this release watch, and how it is captured; one statement."""
    declared = _declarations()
    found: dict[str, Captured] = {}
    values = {"tables": sorted(declared), "triggers": list(_FIRES), "types": list(_FIRES.values())}
    for table, trigger, is_on, fires_so, said in sql.fetch_all(_CAPTURING, values):
        one = found.setdefault(table, Captured())
        one.is_there = one.is_there and is_on is True
        if is_on is not None:  # it is there
            one.is_declared = one.is_declared and _read(said) == _read(json.dumps(declared[table]))
            one.bent = one.bent if fires_so else (*one.bent, trigger)
    return found


def digest() -> str:
    """Return SHA-256, in hexadecimal digits, of all that guards: triggers with their state, and functions.

    It stays as it is from one release to the next, unless somebody else writes a guard. One statement.
    """
    values = {"tables": tables(), "functions": sorted(expected_bodies())}
    texts = sorted(str(text) for (text,) in sql.fetch_all(_DEFINED, values))
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


@lru_cache(maxsize=1)
def expected_bodies() -> dict[str, frozenset[str]]:
    """Return the bodies of every function of ours, as the newest migration that mentions it wrote them.

    By name: a function that comes with several lists of arguments has several.
    """
    found: dict[str, dict[str, str]] = {}
    for migration in _in_order():
        for operation in migration.operations:
            for text in _statements(operation):
                for name, arguments, body in _BODY.findall(text):
                    found.setdefault(name, {})[" ".join(arguments.split())] = body
    return {name: frozenset(bodies.values()) for name, bodies in found.items()}


def captures() -> dict[str, capture.CaptureTable]:
    """Return how the newest migration declared each watched table."""
    return {
        operation.table: operation
        for migration in _in_order()
        for operation in migration.operations
        if isinstance(operation, capture.CaptureTable)
    }


@lru_cache(maxsize=1)
def _declarations() -> dict[str, dict[str, Any]]:
    return {table: operation.declaration for table, operation in captures().items()}


@lru_cache(maxsize=1)
def _in_order() -> tuple[Any, ...]:
    loader = MigrationLoader(None)
    keys: dict[tuple[str, str], None] = {}
    for leaf in sorted(loader.graph.leaf_nodes()):
        keys.update(dict.fromkeys(loader.graph.forwards_plan(leaf)))
    every = (loader.graph.nodes[key] for key in keys)
    return tuple(one for one in every if not _is_foreign(one))


def _is_foreign(migration: Any) -> bool:
    """Whether a library brings it: what it puts into the database is its own affair."""
    return "site-packages" in str(sys.modules[type(migration).__module__].__file__)


def _statements(operation: Any) -> list[str]:
    if not isinstance(operation, RunSQL):
        return []
    given = operation.sql if isinstance(operation.sql, (list, tuple)) else [operation.sql]
    return [one if isinstance(one, str) else str(one[0]) for one in given]


def _read(said: str | None) -> dict[str, Any]:
    """What a trigger declares: what an earlier release left out and this one calls nothing is the same."""
    try:
        found = json.loads(said) if said is not None else None
    except ValueError:
        return {}
    members = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in members if value is not None}


def _is_as_made(table: str, trigger: str, condition: str | None, declared: dict[str, dict[str, Any]]) -> bool:
    if trigger == _UPDATE and table in declared:
        return condition is not None and _condition(declared[table]) in _plain(condition)
    return condition is None or not trigger.endswith(_UNCONDITIONAL)


def _condition(declaration: dict[str, Any]) -> str:
    """The condition under which an update is captured, as the database says it, without its parentheses."""
    ignored = [name for name, kind in declaration["columns"].items() if kind == "ignored"]
    ignored.sort(key=lambda name: (len(name), name))  # as jsonb orders its members
    if not ignored:
        return "WHENold.*ISDISTINCTFROMnew.*EXECUTE"
    names = f"'{{{','.join(ignored)}}}'::text[]"
    return f"WHENto_jsonbold.*-{names}ISDISTINCTFROMto_jsonbnew.*-{names}EXECUTE"


def _plain(text: str) -> str:
    return re.sub(r"[\s()]", "", text)
