"""What a superuser with all triggers off can do to the log is found and named."""

from __future__ import annotations

import psycopg
import pytest
from django.db import transaction

from mestore.lib import actor, merkle, notes, sql
from monitoring import audit, checkpoints, events, log, proofs, sequencer, verification
from monitoring.verification import Fault, Span

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

BY = actor.system("test")
SIZE = 700


@pytest.fixture(autouse=True)
def _log() -> None:
    for count in (300, 299, 101):
        with transaction.atomic():
            audit.record_many([audit.Entry(events.SIGNED_OUT, by=BY, data={"n": n}) for n in range(count)])
        sequencer.drain()


def faults() -> list[Fault]:
    size, found = log.state().size, verification.Findings()
    for span in verification.spans(size):
        found.add(verification.check_span(span))
    found.add(verification.check_tree(size))
    return found.faults


def tamper(dsn: str, *statements: str | tuple[str, tuple[object, ...]]) -> None:
    """As a superuser would: no trigger fires, no constraint of a foreign key either."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        guards = connection.execute(GUARDS).fetchall()
        for table, trigger in guards:
            connection.execute(sql.compose("ALTER TABLE {t} DISABLE TRIGGER {g}", t=table, g=trigger))
        connection.execute("ALTER TABLE audit_event DROP CONSTRAINT audit_event_leaf_hash")
        for statement in statements:
            text, values = statement if isinstance(statement, tuple) else (statement, None)
            connection.execute(text.encode(), values)
        connection.execute(
            "ALTER TABLE audit_event ADD CONSTRAINT audit_event_leaf_hash"
            " CHECK (leaf_hash = sha256('\\x00'::bytea || canon)) NOT VALID"
        )
        for table, trigger in guards:
            connection.execute(sql.compose("ALTER TABLE {t} ENABLE ALWAYS TRIGGER {g}", t=table, g=trigger))


GUARDS = """
SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relname LIKE 'audit\\_%' AND t.tgenabled = 'A'
"""
WHERE_IT_IS = "(SELECT event_id FROM audit_leaf WHERE leaf_index = 457)"
EDIT = f"UPDATE audit_event SET canon = canon || ' ' WHERE id = {WHERE_IT_IS}"  # noqa: S608 - constants
DELETE = f"DELETE FROM audit_event WHERE id = {WHERE_IT_IS}"  # noqa: S608 - constants


def test_an_untouched_log_has_no_fault() -> None:
    assert faults() == []
    assert list(verification.spans(SIZE)) == [Span(0, SIZE)]


def test_an_edited_event_is_named(superuser_dsn: str) -> None:
    tamper(superuser_dsn, EDIT)

    (fault,) = faults()
    assert (fault.what, fault.leaf_index) == ("an event is not what the log says", 457)


def test_an_edited_event_with_its_hash_made_anew_is_named(superuser_dsn: str) -> None:
    tamper(superuser_dsn, EDIT, "UPDATE audit_event SET leaf_hash = sha256('\\x00'::bytea || canon)")
    assert [fault.leaf_index for fault in faults()] == [457]


def test_a_deleted_event_is_named(superuser_dsn: str) -> None:
    tamper(
        superuser_dsn,
        DELETE,
    )

    (fault,) = faults()
    assert (fault.what, fault.leaf_index) == ("the event of a leaf is gone", 457)


def test_two_events_that_changed_places_are_named(superuser_dsn: str) -> None:
    tamper(
        superuser_dsn,
        "ALTER TABLE audit_leaf DROP CONSTRAINT audit_leaf_pkey",
        "UPDATE audit_leaf SET leaf_index = 460 - leaf_index + 457 WHERE leaf_index IN (457, 460)",
        "ALTER TABLE audit_leaf ADD PRIMARY KEY (epoch, leaf_index)",
    )
    assert [fault.leaf_index for fault in faults()] == [457]


def test_a_leaf_without_its_place_is_named(superuser_dsn: str) -> None:
    tamper(superuser_dsn, "DELETE FROM audit_leaf WHERE leaf_index = 457")

    (fault,) = faults()
    assert (fault.what, fault.leaf_index) == ("a leaf has lost its event", 457)


def test_a_tile_changed_with_its_event_does_not_lead_to_what_was_signed(superuser_dsn: str) -> None:
    tamper(
        superuser_dsn,
        EDIT,
        """UPDATE audit_tile SET hashes = overlay(hashes placing (
               SELECT sha256('\\x00'::bytea || e.canon)
               FROM audit_event e JOIN audit_leaf l ON l.event_id = e.id
               WHERE l.leaf_index = 457) from (457 - 256) * 32 + 1) WHERE level = 0 AND number = 1""",
    )
    assert faults() == [Fault("the hash above leaf tile 1 is not its root", 256)]


def test_a_tree_recomputed_as_a_whole_does_not_begin_with_what_was_signed(superuser_dsn: str) -> None:
    """The attacker recomputes all tiles and the state, but has no key to sign with."""
    tamper(superuser_dsn, EDIT)
    rows = sql.fetch_all(
        "SELECT e.canon FROM audit_leaf l JOIN audit_event e ON e.id = l.event_id ORDER BY l.leaf_index"
    )
    leaves = [merkle.leaf_hash(bytes(row[0])) for row in rows]
    frontier = merkle.Frontier()
    frontier.extend(leaves)
    joined = [b"".join(leaves[at : at + 256]) for at in range(0, SIZE, 256)]
    above = merkle.full_tile_root(joined[0]) + merkle.full_tile_root(joined[1])
    tamper(
        superuser_dsn,
        *(
            ("UPDATE audit_tile SET hashes = %s WHERE level = 0 AND number = %s", (row, number))
            for number, row in enumerate(joined)
        ),
        ("UPDATE audit_tile SET hashes = %s WHERE level = 1", (above,)),
        ("UPDATE audit_tree SET frontier = %s", (frontier.dump(),)),
    )

    assert [fault.what for fault in faults()] == [
        "the log does not begin with its checkpoint of size 599",
        "the log does not begin with its checkpoint of size 700",
    ]


def test_a_log_cut_back_is_shorter_than_its_checkpoint(superuser_dsn: str) -> None:
    rows = sql.fetch_all(
        "SELECT substring(hashes FROM 1 FOR 44 * 32) FROM audit_tile WHERE level = 0 AND number = 1"
    )
    kept = b"".join(merkle.split(log.tile_row(0, 0, 256))) + bytes(rows[0][0])
    frontier = merkle.Frontier()
    frontier.extend(merkle.split(kept))
    tamper(
        superuser_dsn,
        "DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_leaf WHERE leaf_index >= 300)",
        "DELETE FROM audit_leaf WHERE leaf_index >= 300",
        "DELETE FROM audit_tile WHERE level = 0 AND number = 2",
        "UPDATE audit_tile SET hashes = substring(hashes FROM 1 FOR 44 * 32) WHERE level = 0 AND number = 1",
        "UPDATE audit_tile SET hashes = substring(hashes FROM 1 FOR 32) WHERE level = 1",
        ("UPDATE audit_tree SET size = 300, frontier = %s", (frontier.dump(),)),
    )

    assert [fault.what for fault in faults()] == [
        "the log is shorter than its checkpoint of size 599",
        "the log is shorter than its checkpoint of size 700",
    ]


def test_a_checkpoint_of_somebody_else_is_named(superuser_dsn: str) -> None:
    note = notes.Checkpoint(checkpoints.origin(1), 700, log.root_at(700)).signed(
        notes.Signer.of_seed(checkpoints.origin(1), bytes(32))
    )
    tamper(superuser_dsn, ("UPDATE audit_checkpoint SET note = %s WHERE size = 700", (note,)))

    assert faults() == [Fault("the checkpoint of size 700 is not signed by the log")]


def test_the_proof_of_an_event_is_one_text_that_verifies() -> None:
    event_id = sql.fetch_all("SELECT event_id FROM audit_leaf WHERE leaf_index = 457")[0][0]

    found = notes.parse_proof(proofs.of_event(event_id).text())

    checkpoint = notes.verify_proof(found, merkle.leaf_hash(found.extra), log=checkpoints.verifier(1))
    assert (found.index, checkpoint.size) == (457, 599)


def test_an_event_that_is_not_signed_yet_has_no_proof() -> None:
    with transaction.atomic():
        event_id = audit.record(events.SIGNED_OUT, by=BY)
    with pytest.raises(proofs.NotSealedYet):
        proofs.of_event(event_id)
    sequencer.run_once()
    with pytest.raises(proofs.NotSealedYet):
        proofs.of_event(event_id)
    sequencer.publish()
    assert proofs.of_event(event_id).index == SIZE


def test_a_tampered_log_gives_no_proof(superuser_dsn: str) -> None:
    event_id = sql.fetch_all("SELECT event_id FROM audit_leaf WHERE leaf_index = 457")[0][0]
    tamper(superuser_dsn, EDIT)
    with pytest.raises(log.LogDamaged):
        proofs.of_event(event_id)
