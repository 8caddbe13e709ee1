"""Are the guards what the migrations made: functions, triggers, their conditions, and nothing beside them?

A trigger that always fires guards nothing when its function was replaced by one that does nothing, when its
condition never holds, or when another trigger in front of it, a rule or a policy takes the row away. Only
somebody with the owner's rights can do that, so the code says what it expects: the bodies as the newest
migration wrote them, and the columns as they were declared.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
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
# Guards that hold without a condition; what captures updates has one that follows from what is ignored.
_UNCONDITIONAL = ("_append_only", "_no_truncate", "_stays", "_grows", "_insert", "_delete", "_truncate")
_UPDATE = "audit_capture_update"


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
    for table, found in capture.watched().items():
        wanted = declared.get(table)
        said: dict[str, Any] = {
            "key": list(found.key), "subject": found.subject, "columns": dict(found.columns)
        }  # fmt: skip
        if found.told is not None:
            said["told"] = dict(found.told)
        if wanted is not None and said != json.loads(json.dumps(wanted)):
            yield f"the columns of {table} are captured in another way than the migrations declared"


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
