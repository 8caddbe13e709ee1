"""The test database: migrated once, copied for each parallel worker, emptied after tests that commit.

Django's own ways do not fit: it would create test databases as the runtime role, which may not, and flush
tables by TRUNCATE as the runtime role, which may not either, least of all the append-only ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tests.harness import unmeasured
from tests.harness.begin import SUPERUSER, TEMPLATE, with_database

ROOT = Path(__file__).resolve().parents[2]
KEPT = "test_reference"  # the schema with copies of the rows that migrations made
TRAIL = {"audit_event", "audit_pending", "audit_personal"}  # what was captured of them: tests begin with none
SETUP_LOCK = 7_301_151
LARGE = 2_000_000  # bytes of a table with its indexes, from which on it is made anew and not deleted from

Connection = psycopg.Connection[Any]


def owner_url() -> str:
    return os.environ["MIGRATION_DATABASE_URL"]


def set_up() -> None:
    """Bring this process's database to the newest schema. The first to come migrates, the others copy."""
    if owner_url() == os.environ[TEMPLATE]:
        _migrate_template()
        empty()
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
    empty()


def empty() -> None:
    """Delete every row that a test committed, and put back the rows that migrations made.

    Whatever tables there are, partitions too, are found in the catalogue each time. Few hold rows after a
    test, and those hold few: they are deleted. TRUNCATE would make every file of a table and its indexes
    anew, and is for what has grown.
    """
    if SUPERUSER not in os.environ:
        _empty_as_owner()
        return
    connection = _connection(os.environ[SUPERUSER])
    with connection.transaction():
        filled = _filled(connection)
        changed = _changed(connection)
        if not filled and not changed:
            return
        with _no_triggers(connection, [*filled, *changed]):
            connection.execute(sql.SQL("; ").join(_emptying(table, size) for table, size in filled.items()))
            connection.execute(_RESTART, [list(filled)])
            for table in changed:
                _restore(connection, table)


_FILES = """
SELECT c.relname FROM pg_class c
JOIN pg_class root ON root.oid = coalesce(pg_partition_root(c.oid), c.oid)
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND pg_relation_size(c.oid) > 0
      AND root.relname <> 'django_migrations' AND root.relname <> ALL(%s)
"""
_RESTART = """
SELECT setval(s.seqrelid::regclass, s.seqstart, false) FROM pg_sequence s
JOIN pg_depend d ON d.objid = s.seqrelid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
WHERE d.refobjid IN (SELECT coalesce(pg_partition_root(c.oid), c.oid) FROM pg_class c
                     WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY(%s))
"""


def _filled(connection: Connection) -> dict[str, int]:
    """Tables and partitions with rows, but for those of migrations, with their size in bytes."""
    tables = _names(connection, _FILES, [_kept(connection)])
    if not tables:
        return {}
    # The files of a table and its indexes are looked up where there is a row, which is rarely.
    look = "SELECT {}, pg_total_relation_size({}::regclass) WHERE EXISTS (SELECT FROM ONLY {})"
    looks = sql.SQL(" UNION ALL ").join(
        sql.SQL(look).format(table, f"public.{table}", sql.Identifier("public", table)) for table in tables
    )
    return dict(connection.execute(looks).fetchall())


def _changed(connection: Connection) -> list[str]:
    """Tables whose rows are not those that migrations made."""
    kept = _kept(connection)
    now = _fingerprints(connection, "public", kept)
    return [table for table, then in _fingerprints_of_kept(connection).items() if now[table] != then]


def _fingerprints(connection: Connection, schema: str, tables: list[str]) -> dict[str, tuple[int, int]]:
    """Number of rows and sum of their hashes, whatever their order."""
    if not tables:
        return {}
    looks = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}, count(*), sum(hashtextextended(t::text, 0)) FROM {} t").format(
            table, sql.Identifier(schema, table)
        )
        for table in tables
    )
    return {table: (count, digest) for table, count, digest in connection.execute(looks).fetchall()}


@contextmanager
def _no_triggers(connection: Connection, tables: list[str]) -> Iterator[None]:
    """Inside this transaction, and for nobody else, `tables` have no triggers, nor those of foreign keys.

    ALTER TABLE would have to name every one of them, there and back, after each test.
    """
    names = sql.SQL(", ").join(sql.Identifier("public", table) for table in tables)
    # Whoever else writes their rows in pg_class, VACUUM as well, waits.
    connection.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(names))
    words = "UPDATE pg_class SET relhastriggers = %s WHERE oid = ANY(%s)"
    having = connection.execute(
        """SELECT array_agg(c.oid) FROM pg_class c
           JOIN pg_class root ON root.oid = coalesce(pg_partition_root(c.oid), c.oid)
           WHERE c.relnamespace = 'public'::regnamespace AND c.relhastriggers
                 AND (c.relname = ANY(%s) OR root.relname = ANY(%s))""",
        [tables, tables],
    ).fetchone()
    found = (having and having[0]) or []
    connection.execute(words, [False, found])
    yield
    connection.execute(words, [True, found])


def _emptying(table: str, size: int) -> sql.Composed:
    words = "DELETE FROM ONLY {}" if size < LARGE else "TRUNCATE ONLY {}"
    return sql.SQL(words).format(sql.Identifier("public", table))


def _empty_as_owner() -> None:
    """The slow way, for servers that were given from outside: without a superuser, triggers are altered."""
    connection = _connection(owner_url())
    plain, triggers = _layout()
    with connection.transaction():
        filled = [table for table in plain if _has_rows(connection, table)]
        doomed = filled + _changed(connection)
        if not doomed:
            return
        for table, trigger, _ in triggers:
            _alter(connection, table, "DISABLE TRIGGER", trigger)
        names = sql.SQL(", ").join(sql.Identifier("public", table) for table in doomed)
        connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(names))
        for table in _changed(connection):  # CASCADE may have reached more of them than were named
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
        env=unmeasured.environment() | {"MIGRATION_DATABASE_URL": url, "DATABASE_URL": runtime},
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
        if table not in TRAIL and _has_rows(connection, table):
            connection.execute(
                sql.SQL("CREATE TABLE {} AS TABLE {}").format(
                    sql.Identifier(KEPT, table), sql.Identifier("public", table)
                )
            )


@cache
def _connection(url: str) -> Connection:
    return psycopg.connect(url, autocommit=True, application_name="mestore-tests")


@cache
def _kept(connection: Connection) -> list[str]:
    return _names(connection, "SELECT tablename FROM pg_tables WHERE schemaname = %s", [KEPT])


@cache
def _fingerprints_of_kept(connection: Connection) -> dict[str, tuple[int, int]]:
    return _fingerprints(connection, KEPT, _kept(connection))


@cache
def _layout() -> tuple[list[str], list[tuple[str, str, str]]]:
    """Tables to empty, and the triggers that would refuse it."""
    connection = _connection(owner_url())
    kept = _kept(connection)
    plain = [table for table in _tables(connection) if table not in kept]
    triggers = connection.execute(
        """SELECT c.relname, t.tgname, t.tgenabled::text
           FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
           WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal AND t.tgenabled <> 'D'
             AND t.tgparentid = 0
             AND (t.tgtype & 32 <> 0 OR c.relname = ANY(%s))""",  # 32: fires on TRUNCATE
        [kept],
    ).fetchall()
    return plain, triggers


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
