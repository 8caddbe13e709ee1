"""The ledger against raw SQL: the runtime role, the owner, and a superuser in replica mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import transaction

from finance import ledger
from finance.ledger import Posting
from mestore.lib import actor
from tests.factories.finance import sale

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
TABLES = ["ledger_account", "ledger_entry", "ledger_transfer"]
Connection = psycopg.Connection[Any]

INSERT_ENTRY = """INSERT INTO ledger_entry (book_id, id, kind, source_event, occurred_at, actor_kind,
    transfer_count, control_total, mac)
    VALUES (%s, %s, 'sale', %s, now(), 'system', %s, %s, decode(repeat('00', 32), 'hex'))"""
INSERT_TRANSFER = """INSERT INTO ledger_transfer (book_id, entry_id, seq, debit, credit, currency, amount)
    VALUES (%s, %s, %s, %s, %s, %s, %s)"""


@pytest.fixture
def posted() -> Posting:
    made = sale(uuid4())
    with transaction.atomic():
        ledger.post_many([made], by=actor.system("test"))
    return made


@pytest.fixture
def runtime(app_dsn: str) -> Iterator[Connection]:
    with psycopg.connect(app_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def owner(owner_dsn: str) -> Iterator[Connection]:
    with psycopg.connect(owner_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def superuser(superuser_dsn: str) -> Iterator[Connection]:
    """A superuser who has switched ordinary triggers and foreign keys off."""
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


def accounts(connection: Connection, made: Posting) -> list[int]:
    rows = connection.execute("SELECT id FROM ledger_account WHERE book_id = %s ORDER BY id", [made.book])
    return [row[0] for row in rows]


def forge(connection: Connection, book: UUID, count: int, total: int, rows: list[list[Any]]) -> UUID:
    """Write an entry by hand, in one transaction; each row is debit, credit, currency, amount."""
    entry = uuid4()
    with connection.transaction():
        connection.execute(INSERT_ENTRY, [book, entry, "forged", count, total])
        for seq, row in enumerate(rows, 1):
            connection.execute(INSERT_TRANSFER, [book, entry, seq, *row])
    return entry


def snapshot(connection: Connection) -> list[Any]:
    return [connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall() for table in TABLES]  # noqa: S608  # names of this file


ATTACKS = [
    "UPDATE ledger_transfer SET amount = amount + 1",
    "UPDATE ledger_entry SET control_total = control_total + 1",
    "UPDATE ledger_account SET kind = 'suspense'",
    "DELETE FROM ledger_transfer",
    "DELETE FROM ledger_entry",
    "DELETE FROM ledger_account",
    "TRUNCATE ledger_transfer",
    "TRUNCATE ledger_account, ledger_entry, ledger_transfer CASCADE",
]
RUNTIME_ATTACKS = [
    *ATTACKS,
    "INSERT INTO ledger_account (book_id, kind, currency) VALUES (gen_random_uuid(), 'suspense', 'COP')",
    "INSERT INTO ledger_entry (book_id, id) VALUES (gen_random_uuid(), gen_random_uuid())",
    "INSERT INTO ledger_transfer (book_id, amount) VALUES (gen_random_uuid(), 1)",
    "SET session_replication_role = replica",
    "ALTER TABLE ledger_entry DISABLE TRIGGER ALL",
    "ALTER TABLE ledger_transfer DISABLE TRIGGER ledger_transfer_append_only",
    "DROP TABLE ledger_transfer",
    "SELECT nextval('ledger_transfer_id_seq')",
    "SELECT setval('ledger_transfer_id_seq', 1)",
    "CREATE OR REPLACE FUNCTION public.ledger_refuse_change() RETURNS trigger LANGUAGE sql AS 'SELECT 1'",
    (
        "ALTER FUNCTION public.ledger_post(uuid, uuid, text, timestamptz, "
        "text, jsonb, bytea, jsonb, uuid, boolean) SECURITY INVOKER"
    ),
    "ALTER FUNCTION public.ledger_move_guarded SECURITY INVOKER",
]


@pytest.mark.parametrize("attack", RUNTIME_ATTACKS)
def test_runtime_role_can_change_nothing(runtime: Connection, posted: Posting, attack: Any) -> None:
    before = snapshot(runtime)

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        runtime.execute(attack)

    assert snapshot(runtime) == before


def test_no_session_setting_opens_the_ledger(runtime: Connection, posted: Posting) -> None:
    runtime.execute("SELECT set_config('pgtrigger.ignore', 'finance:protect', false)")

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        runtime.execute("UPDATE ledger_transfer SET amount = 1")


@pytest.mark.parametrize("attack", ATTACKS)
def test_owner_can_change_nothing(owner: Connection, posted: Posting, attack: Any) -> None:
    before = snapshot(owner)

    with pytest.raises(psycopg.errors.RestrictViolation):
        owner.execute(attack)

    assert snapshot(owner) == before


@pytest.mark.parametrize("attack", ATTACKS)
def test_superuser_in_replica_mode_can_change_nothing(
    superuser: Connection, posted: Posting, attack: Any
) -> None:
    before = snapshot(superuser)

    with pytest.raises(psycopg.errors.RestrictViolation):
        superuser.execute(attack)

    assert snapshot(superuser) == before


@pytest.mark.parametrize(
    ("amount", "same", "currency"),
    [(0, False, "COP"), (-1, False, "COP"), (10**15 + 1, False, "COP"), (1, True, "COP")],
)
def test_superuser_cannot_write_what_is_no_amount(
    superuser: Connection, posted: Posting, amount: int, same: bool, currency: str
) -> None:
    first, second, *_ = accounts(superuser, posted)

    with pytest.raises(psycopg.errors.CheckViolation):
        superuser.execute(
            INSERT_TRANSFER,
            [posted.book, posted.entry_id, 9, first, first if same else second, currency, amount],
        )


def test_hand_made_transfer_in_an_old_entry_is_caught(superuser: Connection, posted: Posting) -> None:
    first, second, *_ = accounts(superuser, posted)

    with pytest.raises(psycopg.errors.CheckViolation, match="without an entry of this transaction"):
        superuser.execute(INSERT_TRANSFER, [posted.book, posted.entry_id, 9, first, second, "COP", 5])


@pytest.mark.parametrize(
    ("count", "total", "amounts"), [(1, 5, []), (2, 10, [5]), (1, 6, [5]), (1, 5, [5, 5])], ids=str
)
def test_hand_made_entry_that_does_not_add_up_is_caught_at_commit(
    superuser: Connection, posted: Posting, count: int, total: int, amounts: list[int]
) -> None:
    first, second, *_ = accounts(superuser, posted)
    rows = [[first, second, "COP", amount] for amount in amounts]

    with pytest.raises(psycopg.errors.CheckViolation, match="does not match"):
        forge(superuser, posted.book, count, total, rows)

    assert ledger.check().entries == 1


@pytest.mark.parametrize("wrong", ["no such account", "other currency", "other book"])
def test_hand_made_entry_on_wrong_accounts_is_caught_though_foreign_keys_sleep(
    superuser: Connection, posted: Posting, wrong: str
) -> None:
    first, second, *_ = accounts(superuser, posted)
    book = uuid4() if wrong == "other book" else posted.book
    currency = "USD" if wrong == "other currency" else "COP"
    debit = 777 if wrong == "no such account" else first

    with pytest.raises(psycopg.errors.CheckViolation, match="does not match"):
        forge(superuser, book, 1, 5, [[debit, second, currency, 5]])


def test_foreign_keys_are_checked_at_once_and_begin_with_the_book(owner: Connection) -> None:
    keys = owner.execute(
        """SELECT condeferrable, pg_get_constraintdef(oid) FROM pg_constraint
           WHERE contype IN ('f', 'p', 'u') AND conrelid = ANY(%s::regclass[])""",
        [TABLES],
    ).fetchall()

    assert len(keys) >= 12
    for deferrable, definition in keys:
        assert not deferrable
        assert "(book_id, " in definition
    assert not owner.execute(
        """SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid = ANY(%s::regclass[])
           AND NOT confrelid = ANY(%s::regclass[])""",
        [TABLES, TABLES],
    ).fetchall()


def test_no_ledger_column_can_hold_a_fraction_or_nan(owner: Connection) -> None:
    columns = owner.execute(
        """SELECT data_type FROM information_schema.columns
           WHERE table_name = ANY(%s) OR table_name LIKE 'finance\\_%%'""",
        [TABLES],
    ).fetchall()

    assert len(columns) > 60
    assert not {"numeric", "double precision", "real", "money"} & {kind for (kind,) in columns}


def test_every_protecting_trigger_is_always_on(owner: Connection) -> None:
    states = owner.execute(
        """SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal
           AND tgrelid = ANY(%s::regclass[])""",
        [[*TABLES, "finance_order", "finance_commission"]],
    ).fetchall()

    assert len(states) == 23
    assert {state for _name, state in states} == {"A"}


def test_posting_function_is_the_owners_and_nobody_bends_its_path(
    owner: Connection, runtime: Connection
) -> None:
    forms = owner.execute(
        "SELECT prosecdef, proconfig, proacl::text FROM pg_proc WHERE proname = 'ledger_post'"
    ).fetchall()

    assert len(forms) == 3  # without what an entry reverses, with it, and with events
    for is_definer, config, grants in forms:
        assert is_definer
        assert config == ["search_path=pg_catalog, pg_temp"]
        assert "=X/" not in str(grants).replace("mestore_app=X/", "").replace("mestore_owner=X/", "")
    privileges = runtime.execute(
        """SELECT table_name, string_agg(privilege_type, ',') FROM information_schema.role_table_grants
           WHERE table_name = ANY(%s) AND grantee = current_user GROUP BY 1 ORDER BY 1""",
        [TABLES],
    ).fetchall()
    assert privileges == [(table, "SELECT") for table in TABLES]


def test_a_forged_entry_that_adds_up_has_no_valid_mac(superuser: Connection, posted: Posting) -> None:
    first, second, *_ = accounts(superuser, posted)

    entry = forge(superuser, posted.book, 1, 5, [[first, second, "COP", 5]])

    found = ledger.check(signatures=True)
    assert found.forged == (entry,)
    assert not found.is_balanced
    assert ledger.check().is_balanced


def test_check_names_what_was_broken_behind_every_guard(superuser_dsn: str, posted: Posting) -> None:
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE ledger_transfer DISABLE TRIGGER ledger_transfer_append_only")
        try:
            connection.execute("UPDATE ledger_transfer SET amount = amount + 1 WHERE seq = 1")
        finally:
            connection.execute(
                "ALTER TABLE ledger_transfer ENABLE ALWAYS TRIGGER ledger_transfer_append_only"
            )

    found = ledger.check(signatures=True)

    assert found.broken == found.forged == (posted.entry_id,)
    assert not found.is_balanced


@pytest.mark.parametrize("fixture", ["owner", "superuser"])
def test_entry_written_around_the_posting_function_is_a_leaf_in_the_name_of_who_wrote_it(
    request: pytest.FixtureRequest, fixture: str, posted: Posting
) -> None:
    connection: Connection = request.getfixturevalue(fixture)
    debit, credit, *_rest = accounts(connection, posted)

    entry = forge(connection, posted.book, 1, 700, [[debit, credit, "COP", 700]])

    rows = connection.execute(
        """SELECT e.actor_kind, e.actor_id, e.writer_mac, convert_from(e.canon, 'UTF8')::jsonb
           FROM audit_event e JOIN audit_pending p USING (id)
           WHERE e.type = 'finance.ledger_entry.posted' AND e.target_id = %s""",
        [str(entry)],
    ).fetchall()
    ((kind, who, mac, told),) = rows
    assert (kind, who, mac) == ("database", connection.info.user, None)
    assert (told["id"], told["control_total"], told["actor"]["id"]) == (str(entry), 700, connection.info.user)
    assert [transfer[3:] for transfer in told["transfers"]] == [["COP", 700]]


def test_entry_that_was_posted_has_one_leaf(runtime: Connection, posted: Posting) -> None:
    leaves = runtime.execute(
        "SELECT count(*) FROM audit_event WHERE target_id = %s", [str(posted.entry_id)]
    ).fetchone()

    assert leaves == (1,)
