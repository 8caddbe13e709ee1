"""Migrations are reversible and safe on a live system."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import migrations
from django.db.migrations.loader import MigrationLoader

from mestore import servers
from tests.harness import unmeasured

OWN_APPS = ("accounts", "sessions_security", "finance", "monitoring")
# On a table that holds rows these lock out writers for as long as they run.
BLOCKING = (
    migrations.AddIndex,
    migrations.AddConstraint,
    migrations.AlterField,
    migrations.RenameField,
    migrations.RenameModel,
)
SHAPE = """
    SELECT 'column', table_name::text, column_name::text,
           data_type::text || coalesce(column_default, '') || is_nullable
      FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'index', tablename::text, indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL
    SELECT 'trigger', tgrelid::regclass::text, tgname::text, tgenabled::text || pg_get_triggerdef(oid)
      FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT 'function', proname::text, '', prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'grant', table_name::text, grantee::text, string_agg(privilege_type, ',' ORDER BY privilege_type)
      FROM information_schema.role_table_grants WHERE table_schema = 'public' GROUP BY 2, 3
    ORDER BY 1, 2, 3, 4
"""


def own_migrations() -> list[migrations.Migration]:
    loader = MigrationLoader(None, ignore_no_migrations=True)
    return [migration for (app, _), migration in sorted(loader.disk_migrations.items()) if app in OWN_APPS]


def manage(environment: dict[str, str], *arguments: str) -> None:
    run = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        env={**unmeasured.environment(), **environment}, cwd=settings.BASE_DIR,
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2_000:]


def shape(dsn: str) -> list[tuple[str, ...]]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(SHAPE).fetchall()
    return [row for row in rows if not row[1].startswith(("procrastinate", "django_", "auth_", "axes_"))]


@pytest.mark.parametrize("migration", own_migrations(), ids=str)
def test_every_operation_has_a_way_back(migration: migrations.Migration) -> None:
    for operation in migration.operations:
        assert operation.reversible, operation


@pytest.mark.parametrize("migration", [m for m in own_migrations() if not m.initial], ids=str)
def test_later_migrations_do_not_lock_out_writers(migration: migrations.Migration) -> None:
    # A table that the same migration makes has neither rows nor writers.
    new = {op.name_lower for op in migration.operations if isinstance(op, migrations.CreateModel)}
    for operation in migration.operations:
        about = str(getattr(operation, "model_name", "")).lower()
        assert not isinstance(operation, BLOCKING) or about in new, (
            f"{operation}: expand, migrate, contract; indexes concurrently"
        )


def test_no_migration_edits_a_table_by_string_formatting() -> None:
    for app in OWN_APPS:
        for file in Path(settings.BASE_DIR, app, "migrations").rglob("*.py"):
            assert not re.search(r"RunSQL\(\s*f[\"']", file.read_text(encoding="utf-8")), file


def test_forward_back_and_forward_again_ends_in_the_same_schema(own_servers: servers.Servers) -> None:
    environment = own_servers.environment()
    dsn = environment["MIGRATION_DATABASE_URL"]

    manage(environment, "migrate", "--verbosity", "0")
    first = shape(dsn)
    for app in ("accounts", "monitoring"):  # with accounts go those that build upon it
        manage(environment, "migrate", app, "zero", "--verbosity", "0")
    nothing = [row for row in shape(dsn) if row[1].startswith(OWN_APPS)]
    manage(environment, "migrate", "--verbosity", "0")

    assert nothing == []
    assert shape(dsn) == first
