"""Nobody changes an event: not the application, not the table's owner, not a superuser in replica mode."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.conf import settings
from psycopg import errors, sql

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

INSERT = """
INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, canon, leaf_hash)
VALUES (gen_random_uuid(), now(), 'test.event', 'SUCCESS', 'system', '{}'::bytea,
        sha256('\\x00'::bytea || '{}'))
"""
PARTITION = "SELECT 'audit_event_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')"
CHANGES = [
    "UPDATE {table} SET outcome = 'FAILURE'",
    "UPDATE {table} SET canon = '{{}}', leaf_hash = leaf_hash",
    "DELETE FROM {table}",
    "TRUNCATE {table}",
]

AUDIT = "audit_logs.read.read_only"

Connection = psycopg.Connection[Any]


def _connect(dsn: str) -> Iterator[Connection]:
    """A connection that has just inserted an event and keeps nothing."""
    with psycopg.connect(dsn) as connection:
        connection.execute(INSERT)
        yield connection
        connection.rollback()


@pytest.fixture
def runtime(app_dsn: str) -> Iterator[Connection]:
    yield from _connect(app_dsn)


@pytest.fixture
def owner(owner_dsn: str) -> Iterator[Connection]:
    yield from _connect(owner_dsn)


@pytest.fixture
def superuser(superuser_dsn: str) -> Iterator[Connection]:
    with psycopg.connect(superuser_dsn) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(INSERT)
        yield connection
        connection.rollback()


def _attack(connection: Connection, change: str, table: str) -> None:
    connection.execute(sql.SQL(change).format(table=sql.Identifier("public", table)))


def _partition(connection: Connection) -> str:
    row = connection.execute(PARTITION).fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("direct", [False, True], ids=["parent", "partition"])
class TestChange:
    def test_is_refused_to_the_runtime_role(self, runtime: Connection, change: str, direct: bool) -> None:
        table = _partition(runtime) if direct else "audit_event"

        with pytest.raises(errors.InsufficientPrivilege):
            _attack(runtime, change, table)

    def test_is_refused_to_the_owner(self, owner: Connection, change: str, direct: bool) -> None:
        table = _partition(owner) if direct else "audit_event"

        with pytest.raises(errors.RestrictViolation, match="append-only"):
            _attack(owner, change, table)

    def test_is_refused_to_a_superuser_in_replica_mode(
        self, superuser: Connection, change: str, direct: bool
    ) -> None:
        table = _partition(superuser) if direct else "audit_event"

        with pytest.raises(errors.RestrictViolation, match="append-only"):
            _attack(superuser, change, table)


def test_runtime_role_cannot_reach_a_partition_around_the_parent(runtime: Connection) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        _attack(runtime, "SELECT * FROM {table}", _partition(runtime))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_pending SET occurred_at = now()",
        "TRUNCATE audit_pending",
        "UPDATE subject_key SET wrapped = NULL",
        "INSERT INTO django_migrations (app, name, applied) VALUES ('monitoring', '9999_of_tomorrow', now())",
        "UPDATE django_migrations SET applied = now()",
        "DELETE FROM django_migrations",
        "DELETE FROM subject_key",
        "ALTER TABLE audit_event DISABLE TRIGGER ALL",
        "DROP TABLE audit_event",
        "CREATE TRIGGER t BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION audit_refuse_change()",
        "SET session_replication_role = replica",
    ],
)
def test_runtime_role_may_not(runtime: Connection, statement: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        runtime.execute(statement)


def test_event_whose_leaf_is_not_the_hash_of_its_bytes_is_refused(runtime: Connection) -> None:
    with pytest.raises(errors.CheckViolation):
        runtime.execute(INSERT.replace("|| '{}')", "|| '{ }')"))


def test_event_of_a_month_nobody_prepared_is_refused(runtime: Connection) -> None:
    with pytest.raises(errors.CheckViolation, match="no partition"):
        runtime.execute(INSERT.replace("now()", "now() + interval '5 years'"))


class TestPartitions:
    def test_this_month_and_a_year_ahead_are_there(self, runtime: Connection) -> None:
        made = runtime.execute("SELECT audit_ensure_partitions(12)").fetchone()

        assert made == (0,)

    @pytest.mark.parametrize("months", ["-1", "37", "NULL"])
    def test_nonsense_is_refused(self, runtime: Connection, months: str) -> None:
        with pytest.raises(errors.InvalidParameterValue):
            runtime.execute(f"SELECT audit_ensure_partitions({months})")

    def test_a_later_one_is_protected_like_the_first(self, owner: Connection) -> None:
        assert owner.execute("SELECT audit_ensure_partitions(14)").fetchone() == (2,)

        name = owner.execute(PARTITION.replace("now()", "(now() + interval '14 months')")).fetchone()
        assert name is not None
        states = owner.execute(
            """SELECT tgname, tgenabled::text FROM pg_trigger
               WHERE tgrelid = %s::regclass AND NOT tgisinternal""",
            [name[0]],
        ).fetchall()
        grants = owner.execute("SELECT relacl::text FROM pg_class WHERE relname = %s", [name[0]]).fetchone()
        user = owner.info.user

        assert sorted(states) == [
            ("audit_event_append_only", "A"), ("audit_event_no_truncate", "A"), ("audit_event_reserved", "A"),
        ]  # fmt: skip
        assert grants is not None
        assert all(grant.startswith(f"{user}=") for grant in grants[0].strip("{}").split(","))
        with pytest.raises(errors.RestrictViolation):
            _attack(owner, "TRUNCATE {table}", name[0])

    def test_function_cannot_be_bent_by_the_callers_search_path(self, runtime: Connection) -> None:
        runtime.execute("CREATE TEMPORARY TABLE audit_event (occurred_at timestamptz)")
        runtime.execute("SET search_path = pg_temp, public")

        assert runtime.execute("SELECT audit_ensure_partitions(12)").fetchone() == (0,)


def test_migration_can_be_undone_and_done_again(owner_dsn: str) -> None:
    migration = importlib.import_module("monitoring.migrations.0001_initial")
    runtime = settings.DATABASES["default"]["USER"]

    with psycopg.connect(owner_dsn) as connection:
        connection.execute(migration.LOCK_TIMEOUT)
        connection.execute(importlib.import_module("monitoring.migrations.0017_reconciliation").DROP)
        connection.execute(importlib.import_module("monitoring.migrations.0018_forget_reconciliations").DROP)
        connection.execute(importlib.import_module("monitoring.migrations.0012_retirement").DROP)
        connection.execute(importlib.import_module("monitoring.migrations.0011_erase").DROP)
        connection.execute(importlib.import_module("monitoring.migrations.0009_export_cursor").DROP)
        connection.execute(importlib.import_module("monitoring.migrations.0005_log").DROP)
        for step in (migration.DROP, migration.TABLES, migration.PROTECTION):
            connection.execute(step)
        connection.execute(migration.RUNTIME_ROLE, [runtime])
        connection.execute(migration.GRANTS)
        rights = connection.execute(
            """SELECT name FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) name
               WHERE has_table_privilege(%s, 'audit_event', name)""",
            [runtime],
        ).fetchall()
        connection.rollback()

    assert rights == [("SELECT",), ("INSERT",)]


def test_every_partition_is_held_by_triggers_that_always_fire(runtime: Connection) -> None:
    rows = runtime.execute(
        """SELECT c.relname, count(*) FILTER (WHERE t.tgenabled = 'A'), count(*)
           FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
           JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal
           WHERE i.inhparent = 'audit_event'::regclass GROUP BY 1"""
    ).fetchall()

    assert len(rows) >= 13
    assert all(always == total == 3 for _name, always, total in rows)


RESERVED = ["capture.insert", "capture.update", "capture.anything", "finance.ledger_entry.posted"]


class TestReserved:
    """Events that the database writes itself carry no MAC: nobody else may write one."""

    @pytest.mark.parametrize("code", RESERVED)
    def test_the_application_cannot_write_what_the_database_writes(
        self, runtime: Connection, code: str
    ) -> None:
        with pytest.raises(errors.InsufficientPrivilege, match="written by the database itself"):
            runtime.execute(INSERT.replace("test.event", code))

    @pytest.mark.parametrize("code", RESERVED)
    def test_nor_with_a_search_path_or_a_table_of_its_own(self, runtime: Connection, code: str) -> None:
        runtime.execute("CREATE TEMPORARY TABLE audit_event (LIKE public.audit_event INCLUDING ALL)")
        runtime.execute("SET search_path = pg_temp, public")
        with pytest.raises(errors.InsufficientPrivilege, match="written by the database itself"):
            runtime.execute(INSERT.replace("test.event", code).replace("audit_event", "public.audit_event"))

    def test_nor_among_others_of_one_statement(self, runtime: Connection) -> None:
        with pytest.raises(errors.InsufficientPrivilege):
            runtime.execute(
                f"{INSERT}, {INSERT.partition('VALUES')[2]}".replace("test.event", "capture.x", 1)
            )

    @pytest.mark.parametrize(
        "code", ["captured", "capture", "finance.ledger_entry.refused", "test.capture.x"]
    )
    def test_what_only_looks_alike_is_written(self, runtime: Connection, code: str) -> None:
        assert runtime.execute(INSERT.replace("test.event", code)).rowcount == 1

    def test_the_databases_own_functions_write_them(self, runtime: Connection) -> None:
        runtime.execute("UPDATE accounts_permission SET is_system = NOT is_system WHERE name = %s", [AUDIT])
        found = runtime.execute(
            "SELECT count(*) FROM audit_event WHERE type = 'capture.update' AND xid = pg_current_xact_id()"
        ).fetchone()
        assert found == (1,)

    @pytest.mark.parametrize("code", RESERVED)
    def test_in_replica_mode_the_guard_still_stands(
        self, superuser: Connection, app_dsn: str, code: str
    ) -> None:
        role = psycopg.conninfo.conninfo_to_dict(app_dsn)["user"]
        superuser.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(str(role))))
        with pytest.raises(errors.InsufficientPrivilege, match="written by the database itself"):
            superuser.execute(INSERT.replace("test.event", code))
