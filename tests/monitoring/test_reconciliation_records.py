"""What reconciliations compare with is kept so that nobody bends it."""

from __future__ import annotations

import dataclasses
import datetime as dt

import psycopg
import pytest
from django.conf import settings
from psycopg.sql import SQL, Identifier

from accounts.models import User
from monitoring import readiness, row_records
from monitoring.models import AuditEvent, Signal
from tests.monitoring import reconciling
from tests.monitoring.reconciling import PERMISSION, RULE, reconcile, tables, untold

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

TABLE = "audit_reconciliation"
REVOKE = SQL("REVOKE INSERT ON audit_reconciliation FROM {role}")
GRANT = SQL("GRANT INSERT ON audit_reconciliation TO {role}")


@pytest.fixture
def people() -> list[User]:
    """Some people, counted already."""
    made = reconciling.people()
    assert reconcile().is_good
    return made


def test_first_reconciliation_of_an_empty_database_and_the_next() -> None:
    first, second = reconcile(), reconcile()

    assert (first.since, first.is_good, second.is_good) == (None, True, True)
    assert (second.since, second.notes) == (first.taken_at, [])
    assert first.tables == len(readiness.captured_tables())
    told = AuditEvent.objects.filter(type="audit.reconciled").order_by("id")
    assert [event.target_id for event in told] == [str(first.id), str(second.id)]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_reconciliation SET said = said || ' '",
        "UPDATE audit_reconciliation SET counted = counted || ' '",
        "UPDATE audit_reconciliation SET taken_at = now()",
    ],
)
def test_a_record_that_was_changed_is_a_finding(people: list[User], superuser_dsn: str, change: str) -> None:
    with untold(superuser_dsn, TABLE) as superuser:
        superuser.execute(change.encode())

    found = reconcile()

    assert tables(found) == {TABLE}
    assert found.since is None
    assert found.notes


def test_a_record_made_by_somebody_else_is_a_finding_and_is_not_compared_with(
    people: list[User], app_dsn: str
) -> None:
    (last,) = row_records.newest()
    with psycopg.connect(app_dsn) as runtime:
        runtime.execute(
            "INSERT INTO audit_reconciliation SELECT gen_random_uuid(), now(), 0, said, counted, mac"
            " FROM audit_reconciliation"
        )

    found = reconcile()

    assert tables(found) == {TABLE}
    assert "was not written by this service" in found.differences[0].what
    assert found.since == last.taken_at


def test_records_that_were_deleted_are_missed(people: list[User], superuser_dsn: str) -> None:
    """So nobody begins anew behind a change that was not told."""
    with untold(superuser_dsn, "accounts_permission") as superuser:
        superuser.execute(PERMISSION)
    with untold(superuser_dsn, TABLE) as superuser:
        superuser.execute("DELETE FROM audit_reconciliation")

    (one,) = reconcile().differences

    assert one.table == TABLE
    assert one.what.endswith("is gone, of which the trail tells")


def test_the_newest_deleted_is_missed_and_the_one_before_compared_with(
    people: list[User], superuser_dsn: str
) -> None:
    (before,) = row_records.newest()
    assert reconcile().is_good
    with untold(superuser_dsn, "accounts_permission") as superuser:
        superuser.execute(PERMISSION)
    with untold(superuser_dsn, TABLE) as superuser:
        superuser.execute("DELETE FROM audit_reconciliation WHERE id <> %s", [before.id])

    found = reconcile()

    assert tables(found) == {TABLE, "accounts_permission"}
    assert found.since == before.taken_at


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_reconciliation SET differences = 0",
        "DELETE FROM audit_reconciliation",
        "TRUNCATE audit_reconciliation",
    ],
)
def test_nobody_changes_a_record(people: list[User], app_dsn: str, owner_dsn: str, statement: str) -> None:
    with psycopg.connect(app_dsn) as runtime, pytest.raises(psycopg.errors.InsufficientPrivilege):
        runtime.execute(statement.encode())
    with psycopg.connect(owner_dsn) as owner, pytest.raises(psycopg.errors.RestrictViolation):
        owner.execute(statement.encode())


def test_a_table_that_cannot_be_written_hides_nothing(people: list[User], superuser_dsn: str) -> None:
    role = Identifier(str(settings.DATABASES["default"]["USER"]))
    with untold(superuser_dsn, "accounts_permission") as superuser:
        superuser.execute(PERMISSION)
        superuser.execute(REVOKE.format(role=role))
        try:
            found = reconcile()
        finally:
            superuser.execute(GRANT.format(role=role))

    assert (found.is_kept, tables(found)) == (False, {"accounts_permission"})
    assert Signal.objects.filter(rule=RULE).exists()
    assert AuditEvent.objects.get(type="audit.reconciliation_failed").target_id in {None, ""}
    assert tables(reconcile()) == {"accounts_permission"}  # nobody keeps that it was told


@pytest.mark.parametrize("changed", [{"cluster": "7000000000000000000"}, {"snapshot": "9:9:"}], ids=str)
def test_records_of_another_cluster_are_not_compared_with(
    people: list[User], changed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a dump was restored elsewhere: another identifier, or transactions that have not come yet."""
    here = row_records.now
    monkeypatch.setattr(row_records, "now", lambda: dataclasses.replace(here(), **changed))  # type: ignore[arg-type]

    found = reconcile()

    assert found.is_good
    assert found.notes == ["the last reconciliation is of another cluster: rows are counted anew from here"]
    assert found.since is None


def test_a_record_older_than_the_trail_is_not_compared_with(
    people: list[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_records, "OLDEST", dt.timedelta(0))

    found = reconcile()

    assert (found.is_good, found.since) == (True, None)
    assert "too old" in found.notes[0]


def test_a_watched_table_that_is_gone_is_told(people: list[User], owner_dsn: str) -> None:
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        owner.execute("ALTER TABLE accounts_factorfreeze RENAME TO elsewhere")
        try:
            found = reconcile()
        finally:
            owner.execute("ALTER TABLE elsewhere RENAME TO accounts_factorfreeze")

    assert [(one.table, one.what) for one in found.differences] == [
        ("accounts_factorfreeze", "the table is gone")
    ]
    assert reconcile().notes == ["accounts_factorfreeze: counted for the first time"]
