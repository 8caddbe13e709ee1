"""What the database wrote itself for the service leaves a receipt too, and is matched both ways."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings as configured
from django.db import IntegrityError, connection, transaction

from accounts.models import Permission, User
from mestore.lib import actor, ids, merkle, sql
from monitoring import audit, events, receipt_matching, receipts, sequencer
from monitoring.models import AuditEvent, Signal
from monitoring.receipt_matching import Matching
from tests.factories.accounts import UserFactory, VendorFactory
from tests.finance import selling
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

BY = actor.system("test")
AT_ONCE = dt.timedelta(0)
MANY = 500
FORGED = """
INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, target_type, target_id,
                         canon, leaf_hash)
VALUES (%(id)s, %(at)s, %(type)s, 'SUCCESS', 'user', 'u-1', 'accounts_user', 'u-1', %(canon)s,
        sha256('\\x00'::bytea || %(canon)s))
"""


@pytest.fixture(autouse=True)
def stream(tmp_path: Path, settings: Any) -> Iterator[Path]:
    """Where the receipts of this test go."""
    with transaction.atomic():
        UserFactory.create(email="somebody@example.com")
    file = tmp_path / "receipts.jsonl"
    file.touch()
    settings.AUDIT_RECEIPTS = str(file)
    receipts._forget()
    yield file
    receipts._forget()


def leaves(stream: Path) -> list[str]:
    return [leaf for line in stream.read_text().splitlines() for leaf in json.loads(line)["leaves"]]


def matched(stream: Path, *lines: str) -> Matching:
    return receipt_matching.match(lines or stream.read_text().splitlines(), grace=AT_ONCE)


def change(name: str = "Carolina") -> None:
    """A change that only the database tells the trail of."""
    with transaction.atomic():
        User.objects.filter(email="somebody@example.com").update(nombre=name)


def record() -> None:
    with transaction.atomic():
        audit.record(events.SIGNED_OUT, by=BY)


def end() -> None:
    """This process's chain ends in order; the next receipt begins another."""
    receipts._end()
    receipts._forget()


def forge(dsn: str, *, role: str, kind: str = "capture.update", canon: bytes | None = None) -> None:
    """With the rights of the tables' owner: no guard of the application stands in the way."""
    event_id, at = ids.uuid7(), dt.datetime.now(dt.UTC)
    said = {
        "id": str(event_id),
        "event": kind,
        "database": {"role": role, "application": "mestore"},
        "data": {},
    }
    values = {"id": event_id, "at": at, "type": kind, "canon": canon or json.dumps(said).encode()}
    with psycopg.connect(dsn) as owner:
        owner.execute(FORGED.encode(), values)
        owner.execute("INSERT INTO audit_pending (id, occurred_at) VALUES (%s, %s)", (event_id, at))


class TestEmission:
    def test_a_change_that_a_trigger_captured_leaves_its_leaf_hash(self, stream: Path) -> None:
        change()

        (captured,) = leaves(stream)
        event = AuditEvent.objects.get(pk=captured[:36])
        assert (event.type, event.target_type) == ("capture.update", "accounts_user")
        assert captured[37:] == merkle.leaf_hash(bytes(event.canon)).hex()

    def test_all_that_a_transaction_wrote_is_one_receipt_before_any_other_work(self, stream: Path) -> None:
        seen: list[int] = []
        with transaction.atomic():
            transaction.on_commit(lambda: seen.append(len(leaves(stream))))
            User.objects.filter(email="somebody@example.com").update(nombre="Carolina")
            audit.record(events.SIGNED_OUT, by=BY)

        _start, line = (json.loads(text) for text in stream.read_text().splitlines())
        assert (len(line["leaves"]), seen) == (2, [2])

    def test_a_single_statement_leaves_it_too_and_answers_as_ever(self, stream: Path) -> None:
        user = User.objects.get(email="somebody@example.com")
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE accounts_user SET nombre = %s WHERE id = %s RETURNING nombre, '100%%' -- a remark",
                ["Ana %", user.pk],
            )
            assert (cursor.rowcount, cursor.fetchall()) == (1, [("Ana %", "100%")])
            cursor.execute("WITH one AS (SELECT 7 AS n) SELECT n FROM one")
            assert cursor.fetchall() == [(7,)]

        assert len(leaves(stream)) == 1

    def test_many_rows_of_every_kind_of_statement(self, stream: Path) -> None:
        with transaction.atomic():
            made = [UserFactory.build(email=f"many{n}@example.com") for n in range(MANY)]
            User.objects.bulk_create(made)
            User.objects.filter(email__startswith="many").update(apellido="Rojas")
            sql.execute("DELETE FROM accounts_user WHERE email LIKE 'many%'")

        said = leaves(stream)
        assert len(said) == len(set(said)) == 3 * MANY
        assert matched(stream).is_clean

    def test_what_is_rolled_back_leaves_nothing_and_its_neighbours_do(self, stream: Path) -> None:
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            change("Nobody")
            raise ZeroDivisionError
        assert leaves(stream) == []

        with transaction.atomic():
            change("One")
            with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                change("Two")
                raise ZeroDivisionError
            change("Three")

        assert len(leaves(stream)) == 2
        assert matched(stream).is_clean

    def test_an_entry_of_the_ledger_leaves_its_leaf_hash(self, stream: Path) -> None:
        commission = selling.sold(VendorFactory.create())

        assert str(commission.entry_id) in {leaf[:36] for leaf in leaves(stream)}
        assert matched(stream).is_clean

    def test_reading_leaves_nothing(self, stream: Path) -> None:
        with transaction.atomic():
            assert Permission.objects.count()

        assert leaves(stream) == []

    def test_where_receipts_are_off_nobody_asks(self, stream: Path, settings: Any) -> None:
        settings.AUDIT_RECEIPTS = "off"
        change()
        User.objects.filter(email="somebody@example.com").update(nombre="Eva")

        assert leaves(stream) == []
        assert User.objects.get(email="somebody@example.com").nombre == "Eva"

    def test_a_commit_that_is_refused_leaves_nothing(self, stream: Path, owner_dsn: str) -> None:
        refuse = """
            CREATE FUNCTION refuse_commit() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'; END $$;
            CREATE CONSTRAINT TRIGGER refuse_commit AFTER UPDATE ON accounts_user
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_commit()
        """
        with psycopg.connect(owner_dsn, autocommit=True) as owner:
            owner.execute(refuse)
            try:
                with pytest.raises(IntegrityError):
                    change()
            finally:
                owner.execute("DROP TRIGGER refuse_commit ON accounts_user; DROP FUNCTION refuse_commit()")

        assert leaves(stream) == []
        change()
        assert len(leaves(stream)) == 1

    def test_thirty_two_writers_at_once(self, stream: Path, race: Callable[..., list[Any]]) -> None:
        def write() -> None:
            with transaction.atomic():
                User.objects.bulk_create([UserFactory.build() for _ in range(3)])
                audit.record(events.SIGNED_OUT, by=BY)

        outcomes = race([write] * 32)

        said = leaves(stream)
        assert outcomes == [None] * 32
        assert len(said) == len(set(said)) == 32 * 4
        assert matched(stream).is_clean


class TestMatching:
    def test_a_captured_change_deleted_before_it_was_sequenced_is_found(
        self, stream: Path, superuser_dsn: str
    ) -> None:
        change()
        (captured,) = leaves(stream)
        gone = captured[:36]
        tamper(
            superuser_dsn,
            ("DELETE FROM audit_event WHERE id = %s", (gone,)),
            ("DELETE FROM audit_pending WHERE id = %s", (gone,)),
        )
        sequencer.drain()

        found = matched(stream)

        assert (found.without_event.count, found.is_clean) == (1, False)
        assert found.without_event.examples[0].startswith(gone)

    def test_a_captured_change_edited_before_it_was_sequenced_is_found(
        self, stream: Path, superuser_dsn: str
    ) -> None:
        change()
        tamper(
            superuser_dsn,
            "UPDATE audit_event SET canon = canon || ' ', leaf_hash = sha256('\\x00'::bytea || canon || ' ')"
            " WHERE type = 'capture.update'",
        )
        sequencer.drain()

        assert matched(stream).without_event.count == 1

    def test_an_event_cannot_be_hidden_by_calling_it_captured(self, stream: Path, owner_dsn: str) -> None:
        record()
        forge(owner_dsn, role=configured.RUNTIME_ROLE)
        forge(owner_dsn, role=configured.RUNTIME_ROLE, kind=events.LEDGER_ENTRY_POSTED)
        forge(owner_dsn, role=configured.RUNTIME_ROLE, canon=b"no json")
        forge(owner_dsn, role=configured.RUNTIME_ROLE, canon=b'{"database": 7}')
        record()
        end()

        found = matched(stream)

        assert (found.without_receipt.count, found.forged.count, found.is_clean) == (2, 2, False)
        assert Signal.objects.filter(rule="audit.event_without_receipt").exists()

    def test_what_another_login_did_is_told_with_its_name(self, stream: Path, owner_dsn: str) -> None:
        record()
        with psycopg.connect(owner_dsn, application_name="psql") as owner:
            owner.execute("UPDATE accounts_permission SET requires_mfa = NOT requires_mfa WHERE id < 3")
            role = owner.info.user
        record()

        found = matched(stream)

        assert (found.around.count, found.is_clean) == (2, True)
        assert found.around.examples[0].endswith(f"capture.update by the login {role}")

    def test_the_services_password_used_without_the_service_is_found(self, stream: Path) -> None:
        record()
        parameters = connection.get_connection_params()
        known = {name: parameters[name] for name in ("dbname", "user", "password", "host", "port")}
        known |= {name: parameters[name] for name in ("sslmode", "sslrootcert") if name in parameters}
        with psycopg.connect(**known, application_name="mestore") as thief:
            thief.execute("""SELECT set_config('mestore.ctx', '{"kind":"user","id":"u-1"}', true)""")
            thief.execute("UPDATE accounts_user SET nombre = 'Mallory'")
        record()

        assert (matched(stream).without_receipt.count, matched(stream).is_clean) == (1, False)

    def test_a_killed_process_excuses_what_it_captured_only_beside_an_event_of_its_own(
        self, stream: Path
    ) -> None:
        record()
        kept = stream.read_text().splitlines()
        with transaction.atomic():
            change("Killed")
            audit.record(events.SIGNED_OUT, by=BY)
        change("Alone")
        receipts._forget()  # its last lines never left the machine, and nothing ended in order
        record()
        end()

        found = matched(stream, *kept, *stream.read_text().splitlines()[-3:])

        assert (found.crashes.count, found.without_receipt.count) == (2, 1)
        assert found.without_receipt.examples[0].endswith("capture.update")

    def test_receipts_match_after_sequencing_and_after_the_month_is_gone(
        self, stream: Path, superuser_dsn: str
    ) -> None:
        change()
        sequencer.drain()
        assert matched(stream).is_clean
        tamper(superuser_dsn, "DELETE FROM audit_event")

        assert matched(stream).is_clean
