"""Changing rows as somebody does who owns the database, and comparing them with the trail."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
from django.utils import timezone

from accounts.models import User
from mestore.lib import actor, ids, sql
from monitoring import row_reconciliation, row_records
from monitoring.row_reconciliation import Result
from tests.factories.accounts import UserFactory

BY = actor.system("test")
RULE = "audit.rows_untold"
TABLE = "sessions_security_sessioncutoff"
CUTOFF = """
INSERT INTO sessions_security_sessioncutoff (id, at, reason, asked_by, approved_by)
SELECT gen_random_uuid(), now(), 'r', 'a', 'b' FROM generate_series(1, %s)
"""
PERMISSION = """
INSERT INTO accounts_permission (id, name, resource, action, scope, required_clearance, risk, requires_mfa,
                                 requires_approval, is_system, conditions)
SELECT (SELECT max(id) + 1 FROM accounts_permission), lower(resource) || '.untold.' || lower(scope), resource,
       'UNTOLD', scope, required_clearance, risk, requires_mfa, requires_approval, is_system, conditions
FROM accounts_permission ORDER BY id LIMIT 1
"""
_TRIGGERS = """
SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal AND tgenabled = 'A'
"""


def people() -> list[User]:
    return [UserFactory.create(email=f"person{n}@example.com") for n in range(5)]


def reconcile() -> Result:
    return row_reconciliation.reconcile(by=BY)


def keep_earlier(ago: dt.timedelta, *, differences: int = 0) -> UUID:
    """Keep a record of ours as it was made some time ago, of no table; return its id."""
    here, taken_at, record_id = row_records.now(), timezone.now() - ago, ids.uuid7()
    words: dict[str, Any] = {
        "v": 1, "id": str(record_id), "taken_at": taken_at.isoformat(), "cluster": here.cluster,
        "snapshot": here.snapshot, "xid": here.xid, "compared_with": None, "since": None, "tables": 0,
        "rows": 0, "compared": 0, "differences": [{"table": TABLE, "what": "gone"}] * differences,
        "notes": [], "actor": "test",
    }  # fmt: skip
    row_records.keep(row_records.Record(record_id, taken_at, is_ours=True, said=words), {})
    return record_id


def said(result: Result) -> list[tuple[str, str]]:
    return [(one.table, one.what) for one in result.differences]


def tables(result: Result) -> set[str]:
    return {one.table for one in result.differences}


def rows(result: Result) -> set[str]:
    return {key for one in result.differences for key in one.rows}


@contextmanager
def untold(dsn: str, table: str) -> Iterator[psycopg.Connection[Any]]:
    """As a superuser, while every trigger of the table is off; then everything is as it was."""
    with psycopg.connect(dsn, autocommit=True) as superuser:
        triggers = [name for (name,) in superuser.execute(_TRIGGERS, [f"public.{table}"]).fetchall()]
        superuser.execute(sql.compose("ALTER TABLE {t} DISABLE TRIGGER USER", t=table))
        try:
            yield superuser
        finally:
            for name in triggers:
                words = sql.compose("ALTER TABLE {t} ENABLE ALWAYS TRIGGER {name}", t=table, name=name)
                superuser.execute(words)
