"""A trail that is older than this database: months of the past, with events that happened then."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg

from mestore.lib import sql
from monitoring import audit, leaves, subjects
from monitoring.audit import Entry

Connection = psycopg.Connection[Any]
_SOURCE = "SELECT pg_get_functiondef('public.audit_ensure_partitions(int)'::regprocedure)"
_MONTHS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'public.audit_event'::regclass ORDER BY 1
"""


def first_day(back: int) -> dt.date:
    """The first day of the month that began `back` months ago, UTC."""
    now = dt.datetime.now(dt.UTC)
    at = now.year * 12 + now.month - 1 - back
    return dt.date(at // 12, at % 12 + 1, 1)


def partition(month: dt.date) -> str:
    return f"audit_event_{month:%Y%m}"


def partitions(connection: Connection) -> list[str]:
    return [name for (name,) in connection.execute(_MONTHS).fetchall()]


@contextmanager
def of_the_past(owner_dsn: str, back: int) -> Iterator[None]:
    """Months from `back` months ago on, made by the function that makes them, as if it had run then."""
    with psycopg.connect(owner_dsn, autocommit=True) as connection:
        before = set(partitions(connection))
        ((source,),) = connection.execute(_SOURCE).fetchall()
        moved = source.replace("public.audit_ensure_partitions", "pg_temp.audit_ensure_then").replace(
            "date_trunc('month', now())", f"date_trunc('month', now()) - interval '{back - 1} months'"
        )
        connection.execute(moved.replace("BETWEEN 0 AND 36", "BETWEEN 0 AND 99").encode())
        connection.execute("SELECT pg_temp.audit_ensure_then(%s)", [back])
        try:
            yield
        finally:
            for name in set(partitions(connection)) - before:
                connection.execute(sql.compose("DROP TABLE {t}", t=("public", name)))


def prepared(entry: Entry, at: dt.datetime) -> tuple[Any, ...]:
    """The row of an event as it would have been at that moment."""
    columns = leaves.columns(entry)
    owner = leaves.subject_of(entry, columns, at)
    keys = subjects.keys_for({owner}) if owner else {}
    return audit._row(entry, columns, owner if owner in keys else None, at, leaves.moment(at), keys)


def record(entry: Entry, at: dt.datetime) -> UUID:
    """Record an event as it would have been at that moment."""
    row = prepared(entry, at)
    audit._write_many([row])
    found: UUID = row[0]
    return found


def moment(month: dt.date, seconds: int = 0) -> dt.datetime:
    """A moment in the middle of a month."""
    begin = dt.datetime(month.year, month.month, 14, 12, tzinfo=dt.UTC)
    return begin + dt.timedelta(seconds=seconds)


_CAPTURED = """
INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, target_type, target_id,
                         canon, leaf_hash)
VALUES (%(id)s, %(at)s, 'capture.update', 'SUCCESS', 'user', %(actor)s, 'accounts_user', %(subject)s,
        %(canon)s, sha256('\\x00'::bytea || %(canon)s))
"""
_VALUE = """
INSERT INTO audit_personal (event_id, name, subject, nonce, value, occurred_at)
VALUES (%s, %s, %s, %s, %s, %s)
"""


def capture(owner_dsn: str, at: dt.datetime, *, subject: str, value: str) -> UUID:
    """A captured change of one personal value, as the trigger would have written it at that moment."""
    milliseconds = int(at.timestamp() * 1000)
    event_id = UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | secrets.randbits(62))
    nonce, kept = secrets.token_bytes(16), json.dumps(value)
    said = {
        "v": 1, "id": str(event_id), "at": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "event": "capture.update", "event_version": 1, "outcome": "SUCCESS",
        "actor": {"kind": "user", "id": subject}, "target": {"type": "accounts_user", "id": subject},
        "subject": subject,
        "data": {"personal": {"email.after": hashlib.sha256(nonce + kept.encode()).hexdigest()}},
    }  # fmt: skip
    row = {"id": event_id, "at": at, "actor": subject, "subject": subject, "canon": json.dumps(said).encode()}
    with psycopg.connect(owner_dsn) as connection:
        connection.execute(_CAPTURED.encode(), row)
        connection.execute("INSERT INTO audit_pending VALUES (%s, %s)", (event_id, at))
        connection.execute(_VALUE.encode(), (event_id, "email.after", subject, nonce, kept, at))
    return event_id
