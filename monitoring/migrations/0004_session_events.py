"""The index that a session's timeline is read by: everything that happened in one session, newest first.

Writers are not held up: an index on the parent alone, which is empty and invalid, then one per month built
CONCURRENTLY and attached; with the last one attached the parent's becomes valid. Months that are made later
get theirs with ATTACH. Cut short, it may be run again: what is half built is dropped and built anew.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations

from mestore.lib import sql

PARENT = """
    CREATE INDEX IF NOT EXISTS audit_event_session
    ON ONLY public.audit_event (session_id, occurred_at DESC, id DESC) WHERE session_id IS NOT NULL
"""
# The months whose index is not attached yet, and whether one of that name stands there half built.
MONTHS = """
    SELECT c.relname
    FROM pg_inherits p JOIN pg_class c ON c.oid = p.inhrelid
    WHERE p.inhparent = 'public.audit_event'::regclass AND NOT EXISTS (
        SELECT FROM pg_inherits a JOIN pg_index i ON i.indexrelid = a.inhrelid
        WHERE a.inhparent = 'public.audit_event_session'::regclass AND i.indrelid = c.oid)
    ORDER BY c.relname
"""
DROP_MONTH = "DROP INDEX CONCURRENTLY IF EXISTS public.{index}"
BUILD_MONTH = """
    CREATE INDEX CONCURRENTLY {index}
    ON public.{month} (session_id, occurred_at DESC, id DESC) WHERE session_id IS NOT NULL
"""
ATTACH_MONTH = "ALTER INDEX public.audit_event_session ATTACH PARTITION public.{index}"
# A lock that is not had soon makes everybody behind it wait; a concurrent build waits alone, however long.
BRIEFLY = "SET lock_timeout = '5s'"
PATIENTLY = "SET lock_timeout = 0"
AS_BEFORE = "RESET lock_timeout"


def build(_apps: Any, schema_editor: Any) -> None:
    """Build the index of every month and attach it."""
    alias = schema_editor.connection.alias
    try:
        sql.execute(BRIEFLY, using=alias)
        sql.execute(PARENT, using=alias)
        for (month,) in sql.fetch_all(MONTHS, using=alias):
            index = f"{month}_session"
            sql.execute(PATIENTLY, using=alias)
            sql.execute(sql.compose(DROP_MONTH, index=index), using=alias)
            sql.execute(sql.compose(BUILD_MONTH, index=index, month=month), using=alias)
            sql.execute(BRIEFLY, using=alias)
            sql.execute(sql.compose(ATTACH_MONTH, index=index), using=alias)
    finally:
        sql.execute(AS_BEFORE, using=alias)


def drop(_apps: Any, schema_editor: Any) -> None:
    """Take the index away, with those of the months."""
    alias = schema_editor.connection.alias
    try:
        sql.execute(BRIEFLY, using=alias)
        sql.execute("DROP INDEX IF EXISTS public.audit_event_session", using=alias)
    finally:
        sql.execute(AS_BEFORE, using=alias)


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY works outside of transactions only

    dependencies = [("monitoring", "0003_signals")]

    operations = [migrations.RunPython(build, drop)]
