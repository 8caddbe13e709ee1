"""The test database: migrated once, copied for each parallel worker, emptied after tests that commit.

Django's own ways do not fit: it would create test databases as the runtime role, which may not, and flush
tables by TRUNCATE as the runtime role, which may not either, least of all the append-only ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tests.harness.begin import TEMPLATE, with_database

ROOT = Path(__file__).resolve().parents[2]
KEPT = "test_reference"  # the schema with copies of the rows that migrations made
SETUP_LOCK = 7_301_151

Connection = psycopg.Connection[Any]


def owner_url() -> str:
    return os.environ["MIGRATION_DATABASE_URL"]


def set_up() -> None:
    """Bring this process's database to the newest schema. The first to come migrates, the others copy."""
    if owner_url() == os.environ[TEMPLATE]:
        _migrate_template()
        return
    name = urlsplit(owner_url()).path[1:]
    with psycopg.connect(with_database(owner_url(), "postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [SETUP_LOCK])
        _migrate_template()
        template = urlsplit(os.environ[TEMPLATE]).path[1:]
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        # Who may connect is not copied with a template.
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
        runtime = urlsplit(os.environ["DATABASE_URL"]).username or ""
        connection.execute(
            sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(
                sql.Identifier(name), sql.Identifier(runtime)
            )
        )


def empty() -> None:
    """Delete every row that a test committed, and put back the rows that migrations made.

    Append-only tables refuse TRUNCATE even from their owner: their triggers are off inside this one
    transaction.
    """
    connection = _owner_connection()
    plain, kept, triggers = _layout()
    with connection.transaction():
        filled = [table for table in plain if _has_rows(connection, table)]
        doomed = filled + [table for table in kept if _differs(connection, table)]
        if not doomed:
            return
        for table, trigger, _ in triggers:
            _alter(connection, table, "DISABLE TRIGGER", trigger)
        names = sql.SQL(", ").join(sql.Identifier("public", table) for table in doomed)
        connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(names))
        for table in kept:  # CASCADE may have reached more of them than were named
            if _differs(connection, table):
                _restore(connection, table)
        for table, trigger, state in triggers:
            _alter(connection, table, "ENABLE ALWAYS TRIGGER" if state == "A" else "ENABLE TRIGGER", trigger)


def _migrate_template() -> None:
    url = os.environ[TEMPLATE]
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [KEPT]).fetchone():
            return
    runtime = with_database(os.environ["DATABASE_URL"], urlsplit(url).path[1:])
    done = subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0", "--skip-checks"],
        cwd=ROOT,
        env=os.environ | {"MIGRATION_DATABASE_URL": url, "DATABASE_URL": runtime},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"migrate failed:\n{done.stdout}{done.stderr}")
    with psycopg.connect(url) as connection:
        _keep_reference_rows(connection)


def _keep_reference_rows(connection: Connection) -> None:
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(KEPT)))
    for table in _tables(connection):
        if _has_rows(connection, table):
            connection.execute(
                sql.SQL("CREATE TABLE {} AS TABLE {}").format(
                    sql.Identifier(KEPT, table), sql.Identifier("public", table)
                )
            )


@cache
def _owner_connection() -> Connection:
    return psycopg.connect(owner_url(), autocommit=True, application_name="mestore-tests")


@cache
def _layout() -> tuple[list[str], list[str], list[tuple[str, str, str]]]:
    """Tables to empty, tables to restore, and the triggers that would refuse it."""
    connection = _owner_connection()
    kept = _names(connection, "SELECT tablename FROM pg_tables WHERE schemaname = %s", [KEPT])
    plain = [table for table in _tables(connection) if table not in kept]
    triggers = connection.execute(
        """SELECT c.relname, t.tgname, t.tgenabled::text
           FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
           WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal AND t.tgenabled <> 'D'
             AND t.tgparentid = 0
             AND (t.tgtype & 32 <> 0 OR c.relname = ANY(%s))""",  # 32: fires on TRUNCATE
        [kept],
    ).fetchall()
    return plain, kept, triggers


def _tables(connection: Connection) -> list[str]:
    return _names(
        connection,
        """SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
           AND NOT relispartition AND relname <> 'django_migrations' ORDER BY relname""",
    )


def _names(connection: Connection, query: str, values: list[Any] | None = None) -> list[str]:
    return [name for (name,) in connection.execute(query.encode(), values or []).fetchall()]


def _has_rows(connection: Connection, table: str) -> bool:
    found = connection.execute(
        sql.SQL("SELECT EXISTS (TABLE {})").format(sql.Identifier("public", table))
    ).fetchone()
    return bool(found and found[0])


def _differs(connection: Connection, table: str) -> bool:
    now, then = sql.Identifier("public", table), sql.Identifier(KEPT, table)
    found = connection.execute(
        sql.SQL(
            "SELECT EXISTS (SELECT a::text FROM {0} a EXCEPT ALL SELECT b::text FROM {1} b)"
            " OR EXISTS (SELECT b::text FROM {1} b EXCEPT ALL SELECT a::text FROM {0} a)"
        ).format(now, then)
    ).fetchone()
    return bool(found and found[0])


def _restore(connection: Connection, table: str) -> None:
    columns = _names(
        connection,
        """SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
           AND attgenerated = ''""",
        [f"public.{table}"],
    )
    listed = sql.SQL(", ").join(sql.Identifier(column) for column in columns)
    target = sql.Identifier("public", table)
    connection.execute(sql.SQL("DELETE FROM {}").format(target))
    connection.execute(
        sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
            target, listed, listed, sql.Identifier(KEPT, table)
        )
    )


def _alter(connection: Connection, table: str, change: str, trigger: str) -> None:
    connection.execute(
        sql.SQL("ALTER TABLE {} {} {}").format(
            sql.Identifier("public", table), sql.SQL(change), sql.Identifier(trigger)
        )
    )
