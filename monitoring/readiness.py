"""What must hold before this process is given work. Each check returns why it does not, or an empty text."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import psycopg
from django.conf import settings
from django.db import connections
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django_redis import get_redis_connection
from redis.exceptions import RedisError

from monitoring import spool
from monitoring.capture import CaptureTable

LAG_SECONDS = 60
UNSIGNED_SECONDS = 120
STATEMENT_TIMEOUT = "400ms"

_append_only: set[str] = {
    "audit_event", "audit_leaf", "audit_checkpoint", "audit_cosignature", "audit_ended_log",
    "audit_receipt_match", "audit_personal", "audit_archive", "audit_retirement", "audit_reconciliation",
}  # fmt: skip

WARNINGS = frozenset({"audit"})
"""Checks that warn and keep nobody from working: refusing work would not make the trail any faster."""

_LAG = """
SELECT extract(epoch FROM now() - (SELECT occurred_at FROM audit_pending ORDER BY id LIMIT 1))::int,
       extract(epoch FROM now() - published_at)::int FROM audit_tree
"""
_APPLIED = "SELECT app, name FROM django_migrations"
# Per table: is it there, may this role change rows, is any trigger not ALWAYS, and do the ALWAYS ones fire
# before UPDATE, DELETE (8 + 16) and TRUNCATE (32)? A partition is judged like its parent.
_PROTECTION = """
WITH named AS (SELECT unnest(%s::text[]) AS name),
guarded AS (
    SELECT n.name, to_regclass(format('public.%%I', n.name)) AS relation FROM named n
    UNION ALL
    SELECT n.name, i.inhrelid::regclass FROM named n
    JOIN pg_inherits i ON i.inhparent = to_regclass(format('public.%%I', n.name))
)
SELECT g.name, g.relation::text,
       g.relation IS NOT NULL,
       coalesce(has_table_privilege(g.relation, 'UPDATE, DELETE, TRUNCATE'), true)
           OR coalesce(has_any_column_privilege(g.relation, 'UPDATE'), true),
       coalesce(t.all_always, false),
       coalesce(t.fires & 56 = 56, false)
FROM guarded g
LEFT JOIN LATERAL (
    SELECT bool_and(tgenabled = 'A') AS all_always, bit_or(tgtype::int) AS fires
    FROM pg_trigger WHERE tgrelid = g.relation AND NOT tgisinternal AND tgtype & 2 = 2 AND tgtype & 56 <> 0
) t ON true
"""
# Tables whose changes are not captured by all four triggers, always.
_NOT_CAPTURED = """
SELECT n.name FROM unnest(%s::text[]) AS n (name)
LEFT JOIN pg_trigger t ON t.tgrelid = to_regclass(format('public.%%I', n.name)) AND t.tgenabled = 'A'
    AND starts_with(t.tgname::text, 'audit_capture_')
GROUP BY 1 HAVING count(t.oid) < 4 ORDER BY 1
"""


def must_be_append_only(*tables: str) -> None:
    """Name tables (of the schema public) whose rows nobody may change: apps say it when they are ready."""
    _append_only.update(tables)


def append_only() -> frozenset[str]:
    """Return the tables whose rows nobody may change."""
    return frozenset(_append_only)


def checks() -> dict[str, Callable[[], str]]:
    """Return the checks by name."""
    captured_tables()  # reads many files the first time: not within the time that a check has
    parameters = connections["default"].get_connection_params()
    return {
        "database": lambda: database(parameters),
        "redis": redis,
        "audit": lambda: audit(parameters),
    }


def database(parameters: dict[str, Any]) -> str:
    """Check, over a connection of its own, that the database answers, is migrated and protects its tables.

    Not through the pool: whether a connection is free is a matter of load, not of health.
    """
    try:
        with psycopg.connect(**parameters, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, false)", [STATEMENT_TIMEOUT])
            return _migrations(cursor) or protection(cursor)
    except (psycopg.Error, OSError) as error:
        return f"database: {type(error).__name__}"


def audit(parameters: dict[str, Any]) -> str:
    """Say why the audit trail is behind: events wait for the signed log, or on this machine's disk."""
    try:
        with psycopg.connect(**parameters, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, false)", [STATEMENT_TIMEOUT])
            cursor.execute(_LAG)
            waits, signed = cursor.fetchone() or (None, None)
    except (psycopg.Error, OSError) as error:
        return f"audit: {type(error).__name__}"
    if (waits or 0) > LAG_SECONDS:
        return f"events wait for the signed log for {waits} s"
    if (signed or 0) > UNSIGNED_SECONDS:
        return f"nobody has signed the log for {signed} s"
    return "events wait on the disk of this machine" if spool.waiting() else ""


def redis() -> str:
    """Check that Redis answers, where one is configured."""
    if not settings.REDIS_URL:
        return ""
    try:
        get_redis_connection("default").ping()
    except (RedisError, OSError) as error:
        return f"redis: {type(error).__name__}"
    return ""


def _migrations(cursor: psycopg.Cursor[Any]) -> str:
    cursor.execute(_APPLIED)
    missing = migrations_on_disk() - set(cursor.fetchall())
    return f"{len(missing)} migrations are not applied" if missing else ""


@lru_cache(maxsize=1)
def migrations_on_disk() -> frozenset[tuple[str, str]]:
    """Return app and name of every migration that this code brings."""
    return frozenset(key for key, migration in _on_disk().items() if not migration.replaces)


@lru_cache(maxsize=1)
def captured_tables() -> frozenset[str]:
    """Return every table that a migration of this code puts under watch."""
    operations = (operation for migration in _on_disk().values() for operation in migration.operations)
    return frozenset(operation.table for operation in operations if isinstance(operation, CaptureTable))


@lru_cache(maxsize=1)
def _on_disk() -> dict[tuple[str, str], Migration]:
    return dict(MigrationLoader(None).disk_migrations)


def protection(cursor: Any) -> str:
    """Check that nobody may change what must not change; `cursor` is the runtime role's."""
    cursor.execute(_PROTECTION, [sorted(_append_only)])
    for name, relation, exists, may_change, all_always, fires in cursor.fetchall():
        if not exists:
            return f"the table {name} is missing"
        if may_change:
            return f"this role may change rows of {relation}"
        if not (all_always and fires):
            return f"{relation} is not protected by triggers that always fire"
    cursor.execute(_NOT_CAPTURED, [sorted(captured_tables())])
    missing = [name for (name,) in cursor.fetchall()]
    return f"changes of {', '.join(missing)} are not captured" if missing else ""
