"""Events get their place in the signed log: each once, without gaps, whoever is killed or runs beside."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connections, transaction

from mestore import settings as written
from mestore.lib import actor, ids, merkle, notes, sql
from monitoring import audit, checkpoints, events, log, sequencer
from monitoring.log import LogDamaged
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

BY = actor.system("test")


def record(count: int) -> None:
    with transaction.atomic():
        audit.record_many([audit.Entry(events.SIGNED_OUT, by=BY, data={"n": n}) for n in range(count)])


def leaves() -> list[bytes]:
    """Leaf hashes in the log's order, made anew from the events' bytes."""
    rows = sql.fetch_all(
        "SELECT l.leaf_index, e.canon FROM audit_leaf l"
        " JOIN audit_event e ON e.id = l.event_id ORDER BY l.leaf_index"
    )
    assert [row[0] for row in rows] == list(range(len(rows)))
    return [merkle.leaf_hash(bytes(row[1])) for row in rows]


def waiting() -> int:
    row = sql.fetch_one("SELECT count(*) FROM audit_pending")
    assert row is not None
    return int(row[0])


def test_everything_recorded_becomes_a_leaf_once_and_is_signed() -> None:
    record(600)

    added = sequencer.drain()

    assert (added, waiting()) == (600, 0)
    assert log.state().size == 600
    found = checkpoints.last()
    assert found is not None
    assert checkpoints.verified(found).root == merkle.root(leaves())
    assert sequencer.drain() == 0


def test_batches_of_every_kind_make_the_same_tree() -> None:
    for count in (1, 1, 254, 1, 300, 7):
        record(count)
        sequencer.run_once(batch=100)
    sequencer.drain()

    assert log.root_at(564) == merkle.root(leaves()) == log.state().frontier.root()


def test_each_checkpoint_is_consistent_with_those_before() -> None:
    signed = []
    for count in (1, 2, 300):
        record(count)
        sequencer.drain()
        found = checkpoints.last()
        assert found is not None
        signed.append(found)

    for older, newer in itertools.pairwise(signed):
        proof = merkle.consistency_proof(older.size, newer.size, merkle.from_tiles(log.tile_row))
        merkle.verify_consistency(older.size, newer.size, proof, older.root, newer.root)


def test_simultaneous_sequencers_give_no_place_twice(race: Callable[..., list[Any]]) -> None:
    record(500)

    def one() -> int:
        return sum(done.sequenced for _ in range(20) if (done := sequencer.run_once(batch=40)) is not None)

    outcomes = race([one] * 4)
    sequencer.drain()

    assert all(isinstance(outcome, int) for outcome in outcomes), outcomes
    assert len(leaves()) == 500
    assert log.root_at(500) == merkle.root(leaves())


def test_a_batch_that_is_rolled_back_leaves_everything_waiting() -> None:
    record(10)

    with transaction.atomic():
        sequencer.run_once()
        transaction.set_rollback(True)

    assert waiting() == 10
    assert log.state().size == 0
    assert sequencer.drain() == 10


def test_writers_do_not_wait_for_a_sequencer() -> None:
    record(10)
    written = threading.Event()

    def write() -> None:
        from django.db import connections

        try:
            record(5)
            written.set()
        finally:
            connections.close_all()

    with transaction.atomic():
        sequencer.run_once()
        thread = threading.Thread(target=write)
        thread.start()
        assert written.wait(60)
        thread.join()

    assert waiting() == 5


def test_an_event_queued_again_gets_no_second_place() -> None:
    record(3)
    sequencer.drain()
    sql.execute(
        "INSERT INTO audit_pending (id, occurred_at) SELECT event_id, occurred_at FROM audit_leaf LIMIT 2"
    )

    done = sequencer.run_once()

    assert done is not None
    assert (done.taken, done.sequenced, done.unexplained) == (2, 0, 2)
    assert log.state().size == 3


def test_a_row_of_the_queue_without_its_event_does_not_stop_the_log() -> None:
    sql.execute("INSERT INTO audit_pending (id, occurred_at) VALUES (%s, now())", [ids.uuid7()])
    record(2)

    done = sequencer.run_once()

    assert done is not None
    assert (done.taken, done.sequenced) == (3, 2)


def test_nothing_is_signed_over_a_tree_that_forked(superuser_dsn: str) -> None:
    record(300)
    sequencer.drain()
    record(1)
    sequencer.run_once()
    change(
        superuser_dsn,
        "UPDATE audit_tile SET hashes = set_byte(hashes, 40, 1 # get_byte(hashes, 40)) WHERE level = 0",
    )

    with pytest.raises(LogDamaged):
        sequencer.publish()

    found = checkpoints.last()
    assert found is not None
    assert found.size == 300


def test_nothing_is_appended_to_a_tile_that_was_cut(superuser_dsn: str) -> None:
    record(10)
    sequencer.drain()
    change(superuser_dsn, "UPDATE audit_tile SET hashes = substring(hashes FROM 1 FOR 64)")
    record(1)

    with pytest.raises(LogDamaged):
        sequencer.run_once()

    assert waiting() == 1


def test_a_root_that_is_not_the_signed_one_is_not_confirmed(superuser_dsn: str) -> None:
    record(2)
    sequencer.drain()
    change(superuser_dsn, "UPDATE audit_tree SET frontier = set_byte(frontier, 0, 1 # get_byte(frontier, 0))")

    with pytest.raises(LogDamaged):
        sequencer.publish()


def change(superuser_dsn: str, statement: str) -> None:
    """As a superuser would: no trigger fires."""
    tamper(superuser_dsn, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_leaf", "UPDATE audit_leaf SET leaf_index = 10", "TRUNCATE audit_leaf",
        "DELETE FROM audit_tile", "TRUNCATE audit_tile", "UPDATE audit_tile SET hashes = sha256(hashes)",
        "UPDATE audit_tile SET number = 9", "DELETE FROM audit_checkpoint", "DELETE FROM audit_tree",
        "UPDATE audit_checkpoint SET note = ''", "TRUNCATE audit_checkpoint CASCADE",
        "UPDATE audit_tree SET size = 0, frontier = ''",
    ],
)  # fmt: skip
def test_the_log_is_append_only_even_for_its_owner(statement: str, owner_dsn: str) -> None:
    record(3)
    sequencer.drain()

    with psycopg.connect(owner_dsn) as connection, pytest.raises(psycopg.errors.RestrictViolation):
        connection.execute(statement)
    with pytest.raises(DatabaseError), transaction.atomic():
        sql.execute(statement)
    assert log.root_at(3) == merkle.root(leaves())


def test_silence_is_confirmed_every_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    record(1)
    sequencer.drain()
    first = log.state().published_at

    assert sequencer.publish() is False
    assert log.state().published_at == first
    monkeypatch.setattr(checkpoints, "REPUBLISH", checkpoints.REPUBLISH * 0)
    assert sequencer.publish() is False
    assert (log.state().published_at or first) > first  # type: ignore[operator]


def test_the_empty_log_is_signed_too() -> None:
    sequencer.drain()
    found = checkpoints.last()
    assert found is not None
    assert checkpoints.verified(found).root == merkle.EMPTY_ROOT


def test_a_checkpoint_of_another_key_is_not_ours(settings: Any) -> None:
    record(1)
    sequencer.drain()
    found = checkpoints.last()
    settings.AUDIT_SIGNING_KEY = bytes(32)

    assert found is not None
    with pytest.raises(notes.NoteError):
        checkpoints.verified(found)


def test_the_loop_sequences_until_it_is_stopped() -> None:
    record(700)
    stop = threading.Event()
    thread = threading.Thread(target=sequencer.run, args=(stop,))
    thread.start()
    done = threading.Event()
    try:
        for _ in range(2_000):
            if checkpoints.last() is not None and log.state().size == 700 and waiting() == 0:
                done.set()
                break
            stop.wait(0.05)
    finally:
        stop.set()
        thread.join()

    assert done.is_set()


def test_who_holds_the_log_and_says_nothing_loses_it_to_the_next() -> None:
    """A worker that was stopped, or whose machine vanished in the middle of a batch."""
    record(3)
    silent = psycopg.connect(**_parameters())
    silent.execute(sequencer._LOCK_BRIEFLY, ("1s",))
    silent.execute("SELECT FROM audit_tree FOR UPDATE")
    pause, done = threading.Event(), None
    try:
        for _ in range(6_000):
            done = sequencer.run_once()
            if done is not None:
                break
            pause.wait(0.05)
        with pytest.raises(psycopg.Error):
            silent.execute("SELECT 1")
    finally:
        silent.close()

    assert done is not None
    assert (done.sequenced, waiting()) == (3, 0)


def _parameters() -> dict[str, Any]:
    """How the service connects, without the ways of its pool and cursors."""
    known = connections["default"].get_connection_params()
    for name in ("context", "cursor_factory", "pool"):
        known.pop(name, None)
    return known


def test_both_sides_notice_a_machine_that_vanished() -> None:
    """As production connects: tests have more patience."""
    made = written._database(written._runtime, pool_size=None)["OPTIONS"]
    ours = {name: made[name] for name in made if name.startswith(("options", "keepalives", "tcp_"))}
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
    with psycopg.connect(**(_parameters() | ours)) as connection:
        found = [connection.execute("SELECT current_setting(%s)", (name,)).fetchone() for name in names]
        sent = connection.info.get_parameters()

    assert [row and row[0] for row in found] == ["10", "5", "3", "20000"]
    assert (sent["keepalives_idle"], sent["tcp_user_timeout"]) == ("10", "20000")
