"""A guard that is there and does nothing is found: bodies, conditions, and what stands in front of them."""

from __future__ import annotations

import psycopg
import pytest

from mestore.lib import sql
from monitoring import guards, readiness, verified_trail

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

EMPTY = "LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
SPEC = """
SELECT convert_from(substring(tgargs FROM 1 FOR length(tgargs) - 1), 'UTF8') FROM pg_trigger
WHERE tgname = 'audit_capture_update' AND tgrelid = 'accounts_grant'::regclass
"""


DEFINITION = """
SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = %s AND tgrelid = %s::regclass
"""


def faults() -> list[str]:
    return [fault.what for fault in verified_trail.check_guards().faults]


def run(dsn: str, *statements: str) -> list[tuple[str, ...]]:
    """As a superuser; the rows of the last statement."""
    with psycopg.connect(dsn, autocommit=True) as superuser:
        for statement in statements:
            found = superuser.execute(statement.encode())
        return found.fetchall() if found.description else []


def test_what_the_migrations_made_is_as_they_made_it() -> None:
    assert faults() == []
    assert not guards.is_of_a_later_release()
    assert {"audit_capture", "audit_refuse_change", "ledger_post", "ledger_refuse_change"} <= set(
        guards.expected_bodies()
    )


@pytest.mark.parametrize("name", ["audit_capture", "audit_refuse_change", "audit_tile_only_grows"])
def test_a_function_that_does_nothing_any_more(name: str, superuser_dsn: str) -> None:
    ((before,),) = run(superuser_dsn, f"SELECT pg_get_functiondef('public.{name}()'::regprocedure)")
    run(superuser_dsn, f"CREATE OR REPLACE FUNCTION public.{name}() RETURNS trigger {EMPTY}")
    try:
        found = faults()
    finally:
        run(superuser_dsn, before)

    assert found == [f"the function {name} is not the one that the migrations made"]
    assert faults() == []


def test_a_trigger_in_front_of_the_trail_that_takes_events_away(superuser_dsn: str) -> None:
    run(
        superuser_dsn, f"CREATE FUNCTION public.nothing() RETURNS trigger {EMPTY}",
        "CREATE TRIGGER aaa BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION nothing()",
    )  # fmt: skip
    try:
        found = faults()
    finally:
        run(superuser_dsn, "DROP FUNCTION public.nothing() CASCADE")

    assert "the trigger aaa of audit_event runs a function that no migration made" in found
    assert faults() == []


@pytest.mark.parametrize(
    ("table", "trigger", "changed", "said"),
    [
        ("accounts_user", "audit_capture_update", "EXECUTE FUNCTION nothing()", "that no migration made"),
        ("audit_leaf", "audit_leaf_append_only", "EXECUTE FUNCTION nothing()", "that no migration made"),
        ("audit_leaf", "audit_leaf_append_only", "WHEN (false) {}", "under another condition"),
        ("accounts_user", "audit_capture_update", "WHEN (OLD.id <> NEW.id) {}", "under another condition"),
    ],
)
def test_a_trigger_of_the_right_name_that_does_something_else(
    table: str, trigger: str, changed: str, said: str, superuser_dsn: str
) -> None:
    with psycopg.connect(superuser_dsn) as superuser:
        ((before,),) = superuser.execute(DEFINITION, (trigger, table)).fetchall()
    head, _row, rest = before.partition(" FOR EACH ROW ")
    call = rest[rest.index("EXECUTE FUNCTION") :]
    again = "CREATE OR REPLACE" + head.removeprefix("CREATE")
    always = f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"
    run(
        superuser_dsn, f"CREATE FUNCTION public.nothing() RETURNS trigger {EMPTY}",
        f"{again} FOR EACH ROW {changed.format(call)}", always,
    )  # fmt: skip
    try:
        found = faults()
    finally:
        run(superuser_dsn, f"{again} FOR EACH ROW {rest}", always, "DROP FUNCTION public.nothing()")

    assert any(f"the trigger {trigger} of {table}" in what and said in what for what in found), found
    assert faults() == []


@pytest.mark.parametrize(
    ("attack", "undo", "said"),
    [
        (
            "CREATE RULE nothing AS ON INSERT TO audit_pending DO INSTEAD NOTHING",
            "DROP RULE nothing ON audit_pending", "a rule rewrites statements of audit_pending",
        ),
        (
            "ALTER TABLE audit_leaf ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE audit_leaf DISABLE ROW LEVEL SECURITY", "row security hides rows of audit_leaf",
        ),
    ],
)  # fmt: skip
def test_what_bends_a_table(attack: str, undo: str, said: str, superuser_dsn: str) -> None:
    run(superuser_dsn, attack)
    try:
        found = faults()
    finally:
        run(superuser_dsn, undo)

    assert said in found
    assert faults() == []


def test_columns_declared_away_are_found(superuser_dsn: str) -> None:
    """The trigger is there, always fires, and looks at nothing any more."""
    ((before,),) = run(superuser_dsn, SPEC)
    watch = sql.compose("SELECT public.audit_watch('public.accounts_grant'::regclass, %s::jsonb)")
    bent = before.replace('"reason": "plain"', '"reason": "ignored"').replace('"plain"', '"secret"')
    with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
        superuser.execute(watch, (bent,))
        try:
            found = faults()
        finally:
            superuser.execute(watch, (before,))

    assert "the columns of accounts_grant are captured in another way than the migrations declared" in found
    assert faults() == []


@pytest.mark.parametrize(
    ("operation", "before", "after", "said"),
    [
        # Of four triggers, one: the others say of the table what they should.
        ("update", '"plain"', '"secret"', "the columns of accounts_grant"),
        ("delete", '"plain"', '"ignored"', "the columns of accounts_grant"),
        ("insert", "audit_capture('", "audit_capture('x', '", "the columns of accounts_grant"),
        ("delete", "AFTER DELETE", "AFTER INSERT", "audit_capture_delete of accounts_grant"),
        ("update", "AFTER UPDATE", "AFTER UPDATE OF id", "audit_capture_update of accounts_grant"),
    ],
    ids=["update-secret", "delete-ignored", "insert-arguments", "delete-at-insert", "update-of-one-column"],
)
def test_one_of_four_triggers_that_was_bent_is_found(
    operation: str, before: str, after: str, said: str, superuser_dsn: str
) -> None:
    trigger = f"audit_capture_{operation}"
    with psycopg.connect(superuser_dsn) as superuser:
        ((made,),) = superuser.execute(DEFINITION, (trigger, "accounts_grant")).fetchall()
    drop = f"DROP TRIGGER {trigger} ON accounts_grant"
    always = f"ALTER TABLE accounts_grant ENABLE ALWAYS TRIGGER {trigger}"
    assert before in made
    run(superuser_dsn, drop, made.replace(before, after), always)
    try:
        found, whole = faults(), guards.captured()["accounts_grant"].is_whole
    finally:
        run(superuser_dsn, drop, made, always)

    assert any(said in what for what in found), found
    assert not whole
    assert faults() == []


def test_the_digest_stays_until_a_guard_is_written(superuser_dsn: str) -> None:
    before = guards.digest()
    run(superuser_dsn, "ALTER TABLE accounts_grant ENABLE TRIGGER audit_capture_update")
    switched = guards.digest()
    run(superuser_dsn, "ALTER TABLE accounts_grant ENABLE ALWAYS TRIGGER audit_capture_update")
    assert (guards.digest(), len(before)) == (before, 64)

    ((body,),) = run(superuser_dsn, "SELECT pg_get_functiondef('public.audit_capture()'::regprocedure)")
    run(superuser_dsn, "ALTER FUNCTION public.audit_capture() SECURITY INVOKER")
    invoked = guards.digest()
    run(superuser_dsn, body)

    assert len({before, switched, invoked}) == 3
    assert guards.digest() == before


def test_every_watched_table_is_whole() -> None:
    found = guards.captured()

    assert set(found) == readiness.captured_tables()
    assert all(one.is_whole for one in found.values())


def test_a_database_of_a_newer_release_is_said_not_to_be_compared(superuser_dsn: str) -> None:
    run(
        superuser_dsn,
        "INSERT INTO django_migrations (app, name, applied) VALUES ('monitoring', '9999_of_tomorrow', now())",
        f"CREATE FUNCTION public.nothing() RETURNS trigger {EMPTY}",
        "CREATE TRIGGER aaa BEFORE INSERT ON audit_leaf FOR EACH ROW EXECUTE FUNCTION nothing()",
    )
    try:
        found = verified_trail.check_guards()
    finally:
        run(
            superuser_dsn, "DELETE FROM django_migrations WHERE name = '9999_of_tomorrow'",
            "DROP FUNCTION public.nothing() CASCADE",
        )  # fmt: skip

    assert "a trigger of audit_leaf" not in str(found.faults)
    assert ["newer release" in note.what for note in found.notes] == [True]
    assert faults() == []
