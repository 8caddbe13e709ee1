"""Rows that came, went or changed while a trigger was off are found, though everything is as it was."""

from __future__ import annotations

import json
import tracemalloc

import psycopg
import pytest
from django.core.management import CommandError, call_command

from accounts.models import Permission, User
from mestore.lib import sql
from monitoring import alerts, guards, row_counts, row_reconciliation, row_records
from monitoring.models import AuditEvent, Signal
from monitoring.tasks import audit_reconcile
from tests.factories.accounts import UserFactory
from tests.monitoring import reconciling
from tests.monitoring.reconciling import (
    CUTOFF,
    PERMISSION,
    RULE,
    TABLE,
    reconcile,
    rows,
    said,
    tables,
    untold,
)

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

CHANGED = "1 place where values changed and the trail tells of nothing"


@pytest.fixture
def people() -> list[User]:
    """Some people, counted already."""
    made = reconciling.people()
    assert reconcile().notes == ["the first reconciliation: from here on rows are compared"]
    return made


def test_a_row_that_came_while_a_trigger_was_off_is_named(people: list[User], superuser_dsn: str) -> None:
    with untold(superuser_dsn, "accounts_permission") as superuser:
        superuser.execute(PERMISSION)

    found = reconcile()

    (one,) = found.differences
    assert (one.table, one.more, one.fewer) == ("accounts_permission", 1, 0)
    assert one.what == "1 row more than the trail tells"
    assert one.rows == (str(Permission.objects.get(action="UNTOLD").pk),)
    assert found.since is not None


def test_a_row_that_went_is_counted(people: list[User], superuser_dsn: str) -> None:
    with untold(superuser_dsn, "accounts_user") as superuser:
        superuser.execute("DELETE FROM accounts_user WHERE id = ANY(%s)", [[people[0].pk, people[1].pk]])

    (one,) = reconcile().differences

    assert (one.table, one.more, one.fewer) == ("accounts_user", 0, 2)
    assert one.what == "2 rows fewer than the trail tells"


def test_one_row_in_the_place_of_another_is_found(people: list[User], superuser_dsn: str) -> None:
    with untold(superuser_dsn, "accounts_permission") as superuser:
        superuser.execute(PERMISSION)
        superuser.execute(
            "DELETE FROM accounts_permission WHERE id = (SELECT min(id) FROM accounts_permission)"
        )

    assert tables(reconcile()) == {"accounts_permission"}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE accounts_user SET password = 'argon2$of-somebody-else' WHERE id = %s",
        "UPDATE accounts_user SET email = 'taken@example.com' WHERE id = %s",
        "UPDATE accounts_user SET user_type = 'SUPERUSER', updated_at = now() WHERE id = %s",
        "UPDATE accounts_user SET locked_until = now(), nombre = '', is_active = false WHERE id = %s",
    ],
    ids=["secret", "personal", "plain", "several"],
)
def test_a_value_that_changed_is_found_and_its_row_named(
    people: list[User], superuser_dsn: str, change: str
) -> None:
    with untold(superuser_dsn, "accounts_user") as superuser:
        superuser.execute(change.encode(), [people[0].pk])

    found = reconcile()

    assert (tables(found), rows(found)) == ({"accounts_user"}, {str(people[0].pk)})
    assert ("accounts_user", CHANGED) in said(found)


def test_a_row_that_changed_honestly_too_is_compared_column_by_column(
    people: list[User], superuser_dsn: str
) -> None:
    with untold(superuser_dsn, "accounts_user") as superuser:
        superuser.execute(
            "UPDATE accounts_user SET email = 'taken@example.com', user_type = 'SUPERUSER' WHERE id = %s",
            [people[0].pk],
        )
    User.objects.filter(pk=people[0].pk).update(language="en")

    (one,) = reconcile().differences

    assert one.what == "email, user_type: not what the trail last told"
    assert one.rows == (str(people[0].pk),)


def test_a_value_changed_before_the_first_time_is_found_by_what_the_trail_told(superuser_dsn: str) -> None:
    user = UserFactory.create()
    with untold(superuser_dsn, "accounts_user") as superuser:
        superuser.execute("UPDATE accounts_user SET user_type = 'SUPERUSER'")

    (one,) = reconcile().differences

    assert (one.what, one.rows) == ("user_type: not what the trail last told", (str(user.pk),))


def test_a_value_that_is_too_long_for_the_trail_is_compared_by_its_hash(superuser_dsn: str) -> None:
    permission = Permission.objects.order_by("pk").first()
    assert permission is not None
    Permission.objects.filter(pk=permission.pk).update(conditions={"text": "x" * 9_000})
    assert reconcile().is_good
    with untold(superuser_dsn, "accounts_permission") as superuser:
        superuser.execute(
            "UPDATE accounts_permission SET conditions = jsonb_build_object('text', repeat('y', 9000))"
            " WHERE id = %s", [permission.pk],
        )  # fmt: skip

    assert ("accounts_permission", "conditions: not what the trail last told") in said(reconcile())


def test_a_table_emptied_while_the_trigger_was_off_is_told(superuser_dsn: str) -> None:
    sql.execute(CUTOFF, [30])
    assert reconcile().is_good
    with untold(superuser_dsn, TABLE) as superuser:
        superuser.execute("TRUNCATE sessions_security_sessioncutoff")

    (one,) = reconcile().differences

    assert (one.table, one.more, one.fewer) == (TABLE, 0, 30)


def test_a_capture_that_did_nothing_for_a_while_is_found(people: list[User], superuser_dsn: str) -> None:
    with psycopg.connect(superuser_dsn) as superuser:
        source = "SELECT pg_get_functiondef('public.audit_capture()'::regprocedure)"
        row = superuser.execute(source).fetchone()
        assert row is not None
        superuser.execute(
            "CREATE OR REPLACE FUNCTION public.audit_capture() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RETURN NULL; END $$"
        )
        superuser.execute("UPDATE accounts_user SET is_active = false WHERE id = %s", [people[1].pk])
        superuser.execute(row[0].encode())

    assert rows(reconcile()) == {str(people[1].pk)}


def test_triggers_hidden_from_the_server_itself_do_not_help(people: list[User], superuser_dsn: str) -> None:
    """No trigger is touched, so nothing that watches triggers sees it."""
    words = "UPDATE pg_class SET relhastriggers = %s WHERE oid = 'public.accounts_permission'::regclass"
    with psycopg.connect(superuser_dsn) as superuser:
        superuser.execute(words, [False])
        superuser.execute(PERMISSION)
        superuser.execute(words, [True])

    assert ("accounts_permission", "1 row more than the trail tells") in said(reconcile())


def test_what_was_found_is_kept_told_and_signalled_once(people: list[User], superuser_dsn: str) -> None:
    with untold(superuser_dsn, "accounts_permission") as superuser:
        superuser.execute(PERMISSION)

    found = reconcile()

    (record, first) = row_records.newest()
    assert (record.id, record.said["compared_with"]) == (found.id, str(first.id))
    assert record.said["differences"] == row_reconciliation.as_json(found.differences)
    event = AuditEvent.objects.get(type="audit.reconciliation_failed")
    assert event.target_id == str(found.id)
    assert event.writer_mac is not None
    signal = Signal.objects.get(rule=RULE)
    assert (signal.entity_id, signal.severity) == ("rows", alerts.Severity.CRITICAL)
    assert signal.evidence[0]["named"] == ["accounts_permission"]
    assert reconcile().is_good


def test_command_ends_with_its_codes(
    people: list[User],
    superuser_dsn: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call_command("audit_reconcile")
    assert ": good" in capsys.readouterr().out
    with untold(superuser_dsn, "accounts_permission") as superuser:
        superuser.execute(PERMISSION)

    with pytest.raises(CommandError) as ended:
        call_command("audit_reconcile", "--json")
    told = json.loads(capsys.readouterr().out)
    assert ended.value.returncode == 1
    assert (told["good"], [one["table"] for one in told["differences"]]) == (False, ["accounts_permission"])
    assert told["since"] < told["taken_at"]

    with untold(superuser_dsn, "accounts_permission") as superuser:
        superuser.execute("DELETE FROM accounts_permission WHERE action = 'UNTOLD'")
    with pytest.raises(CommandError) as ended:
        call_command("audit_reconcile")
    assert "DIFFERENCE: accounts_permission: 1 row fewer than the trail tells" in capsys.readouterr().out

    monkeypatch.setattr(guards, "is_of_a_later_release", lambda: True)
    with pytest.raises(CommandError) as ended:
        call_command("audit_reconcile")
    assert ended.value.returncode == 2
    assert audit_reconcile(0) is False


def test_a_large_table_is_compared_in_bounded_memory(superuser_dsn: str) -> None:
    with untold(superuser_dsn, TABLE) as superuser:
        superuser.execute(CUTOFF, [100_000])
    assert reconcile().is_good
    with untold(superuser_dsn, TABLE) as superuser:
        superuser.execute(
            "DELETE FROM sessions_security_sessioncutoff WHERE id ="
            " (SELECT id FROM sessions_security_sessioncutoff LIMIT 1)"
        )
    sql.execute(CUTOFF, [500])

    tracemalloc.start()
    try:
        (one,) = reconcile().differences
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (one.table, one.more, one.fewer) == (TABLE, 0, 1)
    assert peak < 16_000_000
    row = sql.fetch_one("SELECT max(length(counted)) FROM audit_reconciliation")
    assert row is not None
    assert row[0] < 40_000


def test_a_table_too_large_to_be_digested_is_counted_all_the_same(
    people: list[User], superuser_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_counts, "DIGESTED_ROWS", 2)
    assert reconcile().is_good
    with untold(superuser_dsn, "accounts_user") as superuser:
        superuser.execute("DELETE FROM accounts_user WHERE id = %s", [people[0].pk])
        superuser.execute("UPDATE accounts_user SET user_type = 'ADMIN' WHERE id = %s", [people[1].pk])

    found = reconcile()

    assert ("accounts_user", "1 row fewer than the trail tells") in said(found)
    assert rows(found) == {str(people[1].pk)}
