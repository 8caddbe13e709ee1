"""A guard that was off for a moment is told of, though everything is as it was."""

from __future__ import annotations

import psycopg
import pytest

from monitoring import readiness
from monitoring.guard_watch import Watch
from monitoring.models import Signal

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

ON = "ALTER TABLE accounts_user ENABLE ALWAYS TRIGGER audit_capture_update"
OFF = "ALTER TABLE accounts_user DISABLE TRIGGER audit_capture_update"
FUNCTION = "SELECT pg_get_functiondef('public.audit_capture()'::regprocedure)"


def run(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as superuser:
        for statement in statements:
            superuser.execute(statement.encode())


@pytest.fixture
def watch() -> Watch:
    """One that has looked before."""
    made = Watch()
    assert made.look() == []
    return made


def test_nothing_happened(watch: Watch) -> None:
    assert watch.look() == []
    assert not Signal.objects.filter(rule="audit.guards_touched").exists()


def test_a_trigger_that_was_off_for_a_moment_is_told(watch: Watch, superuser_dsn: str) -> None:
    run(superuser_dsn, OFF, ON)

    assert watch.look() == ["accounts_user.audit_capture_update"]
    signal = Signal.objects.get(rule="audit.guards_touched")
    assert signal.evidence[0]["guards"] == ["accounts_user.audit_capture_update"]
    assert watch.look() == []


def test_a_trigger_that_was_made_anew_between_two_looks_at_nothing_is_told(
    watch: Watch, superuser_dsn: str
) -> None:
    with psycopg.connect(superuser_dsn) as superuser:
        row = superuser.execute(
            """SELECT pg_get_triggerdef(oid) FROM pg_trigger
               WHERE tgname = 'audit_capture_update' AND tgrelid = 'accounts_user'::regclass"""
        ).fetchone()
    assert row is not None
    try:
        run(superuser_dsn, "DROP TRIGGER audit_capture_update ON accounts_user")
        assert watch.look() == []  # the verifier says that it is missing
    finally:
        run(superuser_dsn, row[0], ON)

    assert watch.look() == ["accounts_user.audit_capture_update"]


def test_a_function_that_was_replaced_and_put_back_is_told(watch: Watch, superuser_dsn: str) -> None:
    with psycopg.connect(superuser_dsn) as superuser:
        row = superuser.execute(FUNCTION.encode()).fetchone()
    assert row is not None
    run(superuser_dsn, row[0])

    assert watch.look() == ["audit_capture()"]


@pytest.mark.parametrize("is_known", [True, False])
def test_only_a_migration_of_this_release_may_touch_them(
    is_known: bool, watch: Watch, superuser_dsn: str
) -> None:
    app, name = max(key for key in readiness.migrations_on_disk() if key[0] == "monitoring")
    row = (app, name if is_known else "9999_of_nobody")
    with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
        superuser.execute("DELETE FROM django_migrations WHERE (app, name) = (%s, %s)", (app, name))
        watch.look()
        run(superuser_dsn, OFF, ON)
        superuser.execute("INSERT INTO django_migrations (app, name, applied) VALUES (%s, %s, now())", row)
        try:
            found = watch.look()
        finally:
            superuser.execute("DELETE FROM django_migrations WHERE (app, name) = (%s, %s)", row)
            superuser.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES (%s, %s, now())", (app, name)
            )

    assert found == ([] if is_known else ["accounts_user.audit_capture_update"])
