"""What each attack meets. The attacker is a superuser of the database with every trigger off, and recomputes
what can be recomputed without the log's key and the application's keys.

Edits, deletions, swaps, truncation and forged checkpoints: test_verification. A restored backup, another key,
a kept checkpoint: test_verifications; with a witness: test_cosigning.
"""

from __future__ import annotations

import importlib
import io
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from mestore.lib import actor, ids, notes, sql
from monitoring import (
    audit,
    ceremony,
    checkpoints,
    context,
    erasure,
    events,
    leaves,
    sequencer,
    verifications,
)
from monitoring.models import AuditEvent
from monitoring.verification import Fault
from monitoring.verifications import Mode, Plan
from tests.factories.accounts import UserFactory
from tests.monitoring.test_verification import EDIT, tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)

BY = actor.system("test")
ANA = actor.Actor(kind="user", id="u-1", label="Ana", role="BUYER", address="203.0.113.9", session_id="s-1")


def record(count: int = 1, *, by: actor.Actor = BY) -> None:
    entries = [
        audit.Entry(events.SIGNED_OUT, by=by, target=("session", "s-1"), data={"n": n}) for n in range(count)
    ]
    with transaction.atomic():
        audit.record_many(entries)


@pytest.fixture(autouse=True)
def _log() -> None:
    record(5)
    record(5, by=ANA)
    sequencer.drain()


def found(mode: Mode = Mode.FULL, **options: Any) -> list[Fault]:
    return [one for result in results(mode, **options) for one in result.found.faults]


def results(mode: Mode = Mode.FULL, **options: Any) -> list[verifications.Result]:
    return verifications.verify(Plan(mode, **options), by=BY)


def event_of(leaf_index: int) -> UUID:
    found: UUID = sql.fetch_all("SELECT event_id FROM audit_leaf WHERE leaf_index = %s", (leaf_index,))[0][0]
    return found


def test_nothing_is_wrong_with_what_the_application_wrote() -> None:
    assert found() == []
    assert found(stream=True) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [("actor_id", "u-2"), ("actor_role", "ADMIN"), ("actor_kind", "machine"), ("target_type", "order"),
     ("target_id", "o-9"), ("session_id", None), ("request_id", "r-1"), ("outcome", "FAILURE"),
     ("type", "auth.locked")],
)  # fmt: skip
def test_a_column_that_says_something_else_than_the_sealed_bytes(
    column: str, value: str | None, superuser_dsn: str
) -> None:
    """The tree seals the bytes; what people search and read are the columns."""
    with psycopg.connect(superuser_dsn) as connection:
        statement = sql.compose("UPDATE audit_event SET {c} = %s WHERE id = %s", c=column).as_string(
            connection
        )
    tamper(superuser_dsn, (statement, (value, event_of(7))))

    assert found() == [Fault(f"the column {column} is not what the event's sealed bytes say", 7, event_of(7))]


def test_an_event_moved_to_another_day(superuser_dsn: str) -> None:
    tamper(
        superuser_dsn,
        ("UPDATE audit_event SET occurred_at = occurred_at - interval '1 day' WHERE id = %s", (event_of(7),)),
        ("UPDATE audit_leaf SET occurred_at = occurred_at - interval '1 day' WHERE leaf_index = 7", ()),
    )
    assert [fault.what for fault in found()] == [
        "the column occurred_at is not what the event's sealed bytes say"
    ]


@pytest.mark.parametrize("mac", [None, bytes(32)], ids=["none", "wrong"])
def test_an_event_written_by_sql(mac: bytes | None, app_dsn: str) -> None:
    """With the rights of the application, as an injected statement would have them; nothing is recomputed."""
    forge(app_dsn, mac=mac)
    sequencer.drain()

    (fault,) = found(Mode.TAIL)
    assert fault.what.startswith("an event was written outside the application")
    assert fault.leaf_index == 10


def test_an_event_whose_bytes_are_no_event(app_dsn: str) -> None:
    forge(app_dsn, canon=b"\xff not JSON")
    sequencer.drain()
    assert [fault.what for fault in found()] == ["the sealed bytes of an event are no JSON object"]


def forge(dsn: str, *, mac: bytes | None = None, canon: bytes | None = None) -> None:
    event_id, entry = ids.uuid7(), audit.Entry(events.SIGNED_OUT, by=BY)
    columns = leaves.columns(entry)
    with psycopg.connect(dsn, autocommit=True) as connection:
        (now,) = connection.execute("SELECT now()").fetchone() or (None,)
        at = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
        canon = canon or leaves.canon(entry, columns, event_id=event_id, at=at, subject=None, personal=None)
        connection.execute(
            """INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, actor_role, canon,
                                        writer_mac, leaf_hash)
               VALUES (%s, %s, 'auth.signed_out', 'SUCCESS', 'system', 'SYSTEM', %s, %s,
                       sha256('\\x00'::bytea || %s))""",
            (event_id, now, canon, mac, canon),
        )
        connection.execute("INSERT INTO audit_pending VALUES (%s, %s)", (event_id, now))


def test_personal_content_that_somebody_removed(superuser_dsn: str) -> None:
    tamper(superuser_dsn, ("UPDATE audit_event SET pii_ct = NULL WHERE id = %s", (event_of(7),)))
    assert found() == [
        Fault("the personal content of an event is gone, and nobody erased it", 7, event_of(7))
    ]


def test_personal_content_that_somebody_added(superuser_dsn: str) -> None:
    tamper(superuser_dsn, ("UPDATE audit_event SET pii_ct = '\\x00' WHERE id = %s", (event_of(2),)))
    assert found() == [
        Fault("an event has personal content that its sealed bytes do not commit to", 2, event_of(2))
    ]


def test_erased_content_is_told_and_is_no_fault() -> None:
    with transaction.atomic():
        erasure.erase("u-1", by=BY, reason="asked to be forgotten")
    sequencer.drain()

    (result,) = results()
    assert result.found.faults == []
    assert [(note.what, note.leaf_index) for note in result.found.notes] == [
        ("the personal content of 5 events is erased: the key was destroyed", 5)
    ]


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE subject_key SET wrapped = NULL, destroyed_at = now() WHERE subject = 'u-1'",
        "INSERT INTO subject_key (subject, wrapped, destroyed_at) VALUES ('u-2', NULL, now())",
    ],
    ids=["destroyed", "before there was one"],
)  # fmt: skip
def test_a_key_that_was_destroyed_without_an_erasure(attack: str, superuser_dsn: str) -> None:
    """The second the application's role may do as well: of such a person nothing personal is ever kept."""
    tamper(superuser_dsn, attack)
    who = "u-1" if attack.startswith("UPDATE") else "u-2"

    assert [fault.what for fault in found()] == [
        f"the data key of {who} is destroyed, and no event says that it was erased"
    ]


def test_an_erasure_of_somebody_else_explains_nothing(superuser_dsn: str) -> None:
    with transaction.atomic():
        erasure.erase("u-3", by=BY, reason="asked to be forgotten")
    sequencer.drain()
    tamper(superuser_dsn, "UPDATE subject_key SET wrapped = NULL, destroyed_at = now() WHERE subject = 'u-1'")

    assert [fault.what for fault in found() if fault.event_id is None] == [
        "the data key of u-1 is destroyed, and no event says that it was erased"
    ]


GONE = "a personal value of an event is gone, and nobody erased it"
OTHER = "a personal value is not what its event commits to"


@pytest.mark.parametrize(
    ("attack", "what"),
    [
        ("DELETE FROM audit_personal WHERE name = 'email.after'", GONE),
        ("DELETE FROM audit_personal WHERE name = 'actor.address'", GONE),
        ("UPDATE audit_personal SET value = '\"eva@example.com\"' WHERE name = 'email.after'", OTHER),
        ("UPDATE audit_personal SET nonce = '\\x00' WHERE name = 'actor.address'", OTHER),
        ("UPDATE audit_personal SET name = 'other.after' WHERE name = 'email.after'", GONE),
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_value_beside_a_captured_event(
    attack: str, what: str, is_streamed: bool, superuser_dsn: str
) -> None:
    with context.acting(ANA), transaction.atomic():
        user = UserFactory.create(email="ana@example.com")
    sequencer.drain()
    assert found() == []
    tamper(superuser_dsn, attack)

    event = AuditEvent.objects.get(type="capture.insert", target_id=str(user.pk))
    assert {(one.what, one.event_id) for one in found(stream=is_streamed)} == {(what, event.pk)}


def test_values_of_an_erased_person_are_missed_by_nobody() -> None:
    with context.acting(ANA), transaction.atomic():
        user = UserFactory.create(email="ana@example.com")
    for subject in (str(user.pk), "u-1"):
        with transaction.atomic():
            erasure.erase(subject, by=BY, reason="asked to be forgotten")
    sequencer.drain()
    assert found() == []


def test_events_taken_out_of_the_queue_are_named_and_put_back_by_a_person(app_dsn: str) -> None:
    record(3)
    with psycopg.connect(app_dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM audit_pending")
    sequencer.drain()

    faults = found(Mode.TAIL)
    assert {fault.what for fault in faults} == {"an event was taken out of the queue before it got its leaf"}
    assert len(faults) == 3
    assert {fault.event_id for fault in found() if fault.leaf_index is None} == {
        fault.event_id for fault in faults
    }

    for fault in faults:
        again = ["audit_verify", "--requeue", str(fault.event_id), "--reason", "incident 12"]
        call_command(*again, stdout=io.StringIO())
        with pytest.raises(CommandError) as refused:
            call_command(*again, stdout=io.StringIO())
        assert refused.value.returncode == 2
    sequencer.drain()
    assert found() == []
    assert AuditEvent.objects.filter(type=events.AUDIT_REQUEUED).count() == 3


def test_leaves_that_stand_for_nothing_hide_no_missing_event(superuser_dsn: str) -> None:
    """Counting alone would be content: one event without a leaf, one leaf without an event."""
    record()
    tamper(
        superuser_dsn,
        "INSERT INTO audit_leaf SELECT 1, 900, gen_random_uuid(), occurred_at FROM audit_pending",
        "DELETE FROM audit_pending",
    )
    assert "1 leaves stand beyond the end of the log" in [fault.what for fault in found()]


def test_an_event_that_never_gets_its_turn(superuser_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifications, "LOOK_AGAIN_SECONDS", 0.0)
    record()
    tamper(superuser_dsn, "UPDATE audit_pending SET occurred_at = occurred_at - interval '2 minutes'")

    assert "an event waits for its leaf though a sequencer is at work" in [fault.what for fault in found()]


def test_an_edit_after_the_last_checkpoint(superuser_dsn: str) -> None:
    record(3)
    sequencer.run_once()  # in the tree, not signed
    tamper(superuser_dsn, EDIT.replace("457", "11"))
    assert next((fault.what, fault.leaf_index) for fault in found()) == (
        "an event is not what the log says", 11,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER TABLE audit_event DISABLE TRIGGER audit_event_append_only", "audit_event_append_only"),
        ("ALTER TABLE audit_leaf ENABLE REPLICA TRIGGER audit_leaf_append_only", "audit_leaf_append_only"),
        ("ALTER TABLE audit_tile DISABLE TRIGGER ALL", "audit_tile is not protected"),
        ("DROP TRIGGER audit_tree_grows ON audit_tree", "audit_tree is not protected"),
        ("DROP TABLE {partition}", "there is no partition for events of"),
        ("GRANT UPDATE ON audit_checkpoint TO PUBLIC", "may change rows of"),
    ],
)
def test_a_guard_that_is_off(statement: str, said: str, superuser_dsn: str) -> None:
    with psycopg.connect(superuser_dsn) as connection:
        (partition,) = connection.execute(
            "SELECT 'audit_event_' || to_char(now() + interval '1 month', 'YYYYMM')"
        ).fetchone() or ("",)
        connection.execute(sql.compose(statement, partition=partition))
        connection.commit()
    try:
        assert any(said in fault.what for fault in found(Mode.RANGE))
    finally:
        restore_guards(superuser_dsn)
    assert found(Mode.RANGE) == []


def restore_guards(dsn: str) -> None:
    migration = importlib.import_module("monitoring.migrations.0005_log")
    drop = migration.PROTECTION.partition("CREATE TRIGGER audit_tree_grows")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("REVOKE UPDATE ON audit_checkpoint FROM PUBLIC")
        connection.execute("SELECT audit_ensure_partitions(12)")
        missing = connection.execute("SELECT 1 FROM pg_trigger WHERE tgname = 'audit_tree_grows'").fetchone()
        if missing is None:
            connection.execute((drop[1] + drop[2].partition(";")[0]).encode())
        for table, trigger in connection.execute(
            """SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
               JOIN pg_proc f ON f.oid = t.tgfoid
               WHERE f.proname LIKE 'audit\\_%' AND NOT t.tgisinternal AND t.tgenabled <> 'A'"""
        ).fetchall():
            connection.execute(sql.compose("ALTER TABLE {t} ENABLE ALWAYS TRIGGER {g}", t=table, g=trigger))


def test_a_cosignature_that_does_not_verify(superuser_dsn: str, settings: Any) -> None:
    witness = notes.Signer.of_seed("witness.example/w1", bytes([7]) * 32, cosigner=True)
    settings.AUDIT_WITNESSES = [("https://witness.example", str(witness.verifier))]
    newest = checkpoints.last()
    assert newest is not None
    text = notes.parse(newest.note).text
    keep = """INSERT INTO audit_cosignature (epoch, size, witness, line, cosigned_at)
              VALUES (1, %s, %s, %s, now())"""
    sql.execute(keep, (newest.size, witness.verifier.name, witness.line(text, at=1_700_000_000)))
    assert found() == []

    wrong = witness.line(text.replace("\n10\n", "\n11\n"), at=1_700_000_000)
    tamper(superuser_dsn, ("UPDATE audit_cosignature SET line = %s", (wrong,)))
    assert [fault.what for fault in found()] == [
        f"the line of {witness.verifier.name} on the checkpoint of size 10 does not verify"
    ]


def test_a_log_that_ended_is_still_verified(superuser_dsn: str) -> None:
    why = "the tail of the log was lost in a failover"
    ceremony.begin_new_log(reason=why, approved_by=["staff 7", "staff 9"], by=BY)
    sequencer.drain()
    assert [(one.epoch, one.is_good) for one in results()] == [(1, True), (2, True)]

    tamper(superuser_dsn, EDIT.replace("457", "7 AND epoch = 1"))
    assert [one.is_good for one in results()] == [False, True]


def test_clocks_that_differ_are_noted(superuser_dsn: str) -> None:
    tamper(superuser_dsn, "UPDATE audit_checkpoint SET signed_at = signed_at - interval '1 hour'")

    (result,) = results()
    assert result.found.faults == []
    assert [note.what for note in result.found.notes] == [
        "10 events are more than 30 s later than the signature on them"
    ]


def test_a_state_that_contradicts_itself_is_a_finding(superuser_dsn: str) -> None:
    tamper(superuser_dsn, "UPDATE audit_tree SET size = 11")
    assert [fault.what for fault in found()] == ["the log's state contradicts itself"]


def test_tiles_that_are_cut(superuser_dsn: str) -> None:
    tamper(superuser_dsn, "UPDATE audit_tile SET hashes = substring(hashes FROM 1 FOR 64) WHERE level = 0")
    assert found()
    tamper(superuser_dsn, "DELETE FROM audit_tile")
    assert found()
    assert found(stream=True)


def test_an_empty_log_is_good(superuser_dsn: str) -> None:
    tamper(
        superuser_dsn, "DELETE FROM audit_leaf", "DELETE FROM audit_tile", "DELETE FROM audit_checkpoint",
        "DELETE FROM audit_event", "UPDATE audit_tree SET size = 0, frontier = ''",
    )  # fmt: skip
    assert found(Mode.TAIL) == found() == []
