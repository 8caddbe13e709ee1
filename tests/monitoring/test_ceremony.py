"""After a restored backup the old log stays as it is, and the next one says how it ended."""

from __future__ import annotations

import json
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, transaction

from mestore.lib import actor, merkle, notes, sql
from mestore.servers import postgres
from monitoring import (
    audit,
    ceremony,
    checkpoints,
    cosigning,
    events,
    log,
    proofs,
    sequencer,
    verification,
    witness,
)
from monitoring.log import LogDamaged
from monitoring.models import Signal
from tests.monitoring.test_cosigning import grow, watching  # noqa: F401 - a fixture
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)

BY = actor.system("test")
REASON = "the failover lost its tail"
TWO = ("staff 7", "staff 9")
EMPTIED = (
    "audit_event, audit_pending, audit_tree, audit_leaf, audit_tile, audit_checkpoint, audit_cosignature"
)
DUMPED = [f"{name}*" for name in EMPTIED.split(", ")]
COMMAND = (f"--reason={REASON}", *(f"--approved-by={name}" for name in TWO))


def restored(superuser_dsn: str, lost: int) -> None:
    """The trail as a dump of five leaves has it, from before the witness saw more."""
    grow(5)
    dump = tool("pg_dump", superuser_dsn, "--data-only", *(f"--table=public.{name}" for name in DUMPED))
    grow(lost)
    cosigning.ask_all()
    tamper(superuser_dsn, f"TRUNCATE {EMPTIED}")
    tool("psql", superuser_dsn, "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction", given=dump)
    assert log.state().size == 5


def tool(name: str, dsn: str, *arguments: str, given: str = "") -> str:
    command = [str(postgres.find_binaries() / name), *arguments, f"--dbname={dsn}"]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def first_leaf() -> dict[str, Any]:
    row = sql.fetch_one(
        """SELECT e.canon FROM audit_event e JOIN audit_leaf l ON l.event_id = e.id
           WHERE l.epoch = 2 AND l.leaf_index = 0"""
    )
    assert row is not None
    found: dict[str, Any] = json.loads(bytes(row[0]))
    return found


def faults() -> list[Any]:
    found: list[Any] = []
    for state in [*log.ended(), log.state()]:
        for span in verification.spans(state.size, epoch=state.epoch):
            found += verification.check_span(span).faults
        found += verification.check_tree(state.size, state.epoch).faults
    return found


def test_a_restored_backup_is_refused_ended_and_followed_by_a_log_that_goes_on(
    watching: witness.Witness,  # noqa: F811 - the fixture
    superuser_dsn: str,
    tmp_path: Path,
    settings: Any,
) -> None:
    restored(superuser_dsn, 10)
    known = watching.checkpoint(witness.name_of(checkpoints.origin(1))).body
    grow(1)
    assert cosigning.ask_all() == 0
    assert Signal.objects.filter(rule="audit.witness_refused").exists()
    (tmp_path / "known").write_text(known)
    with transaction.atomic():
        waits = audit.record(events.SIGNED_OUT, by=BY)

    out = StringIO()
    call_command("audit_new_log", *COMMAND, f"--last-known={tmp_path / 'known'}", stdout=out)

    (old,) = log.ended()
    said = first_leaf()["data"]
    assert (said["old_size"], said["old_root"]) == (6, old.frontier.root().hex())
    assert (said["known_size"], said["reason"], said["approved_by"]) == (15, REASON, list(TWO))
    assert (log.state().epoch, log.place_of(waits)) == (2, 1)
    assert str(checkpoints.verifier(2)) in out.getvalue()
    assert faults() == []
    # The witness is told of the new log by a person, and watches it from its beginning.
    watching._logs[checkpoints.origin(2)] = checkpoints.verifier(2)
    grow(300)
    assert cosigning.ask_all() == 1
    assert (cosigning.last_words()[0].size, faults()) == (log.state().size, [])


def test_events_of_both_logs_are_proved() -> None:
    grow(3)
    (before,) = sql.fetch_all("SELECT event_id FROM audit_leaf WHERE leaf_index = 1")
    ceremony.begin_new_log(reason=REASON, approved_by=TWO, by=BY)
    grow(2)
    (after,) = sql.fetch_all("SELECT event_id FROM audit_leaf WHERE epoch = 2 AND leaf_index = 1")

    for event_id, epoch in ((before[0], 1), (after[0], 2)):
        proof = notes.parse_proof(proofs.of_event(event_id).text())
        notes.verify_proof(proof, merkle.leaf_hash(proof.extra), log=checkpoints.verifier(epoch))
        with pytest.raises(notes.NoteError):
            notes.verify_proof(proof, merkle.leaf_hash(proof.extra), log=checkpoints.verifier(3 - epoch))


def test_an_old_log_that_is_changed_later_is_found(superuser_dsn: str) -> None:
    grow(3)
    ceremony.begin_new_log(reason=REASON, approved_by=TWO, by=BY)
    tamper(
        superuser_dsn,
        """UPDATE audit_event SET canon = canon || ' ' WHERE id =
           (SELECT event_id FROM audit_leaf WHERE epoch = 1 AND leaf_index = 2)""",
    )

    assert [fault.leaf_index for fault in faults()] == [2]


@pytest.mark.parametrize(
    ("reason", "people"),
    [
        ("", TWO), ("short", TWO), ("x" * 501, TWO), (REASON, ("staff 7",)), (REASON, (*TWO, "staff 11")),
        (REASON, ("staff 7", "Staff 7 ")), (REASON, ("staff 7", "ｓtaff 7")), (REASON, ("staff 7", " ")),
    ],
)  # fmt: skip
def test_without_a_reason_and_two_people_no_log_begins(reason: str, people: tuple[str, ...]) -> None:
    with pytest.raises(ceremony.NotApproved):
        ceremony.begin_new_log(reason=reason, approved_by=people, by=BY)
    assert log.state().epoch == 1


def test_a_checkpoint_of_somebody_else_is_not_what_is_known(tmp_path: Path) -> None:
    grow(1)
    (tmp_path / "other").write_text(
        notes.Checkpoint(checkpoints.origin(1), 9, bytes(32)).signed(
            notes.Signer.of_seed(checkpoints.origin(1), bytes(32))
        )
    )
    with pytest.raises(CommandError, match="not signed by this log"):
        call_command("audit_new_log", *COMMAND, f"--last-known={tmp_path / 'other'}")
    assert log.state().epoch == 1


def test_the_application_cannot_end_a_log() -> None:
    grow(2)
    for statement in (
        "UPDATE audit_tree SET epoch = 2, size = 0, frontier = ''",
        """INSERT INTO audit_ended_log (epoch, size, frontier, root, reason, approved_by)
           SELECT 1, size, frontier, sha256(''), 'because', '{a,b}' FROM audit_tree""",
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            sql.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_tree SET epoch = 2, size = 0, frontier = ''",
        "UPDATE audit_tree SET epoch = 3",
        "UPDATE audit_tree SET epoch = 0",
    ],
)
def test_the_owner_cannot_begin_a_log_without_the_end_of_the_last(owner_dsn: str, statement: str) -> None:
    grow(2)
    with psycopg.connect(owner_dsn) as owner, pytest.raises(psycopg.errors.IntegrityError):
        owner.execute(statement)


def test_a_log_that_the_owner_began_around_the_command_is_not_signed(owner_dsn: str) -> None:
    grow(2)
    with psycopg.connect(owner_dsn) as owner:
        owner.execute(
            """INSERT INTO audit_ended_log (epoch, size, frontier, root, reason, approved_by)
               SELECT 1, size, frontier, sha256(frontier), 'because', '{a,b}' FROM audit_tree"""
        )
        owner.execute("UPDATE audit_tree SET epoch = 2, size = 0, frontier = ''")
    with transaction.atomic():
        audit.record(events.SIGNED_OUT, by=BY)

    with pytest.raises(LogDamaged):
        sequencer.drain()
    assert checkpoints.last() is None


def test_ended_logs_stay(owner_dsn: str) -> None:
    ceremony.begin_new_log(reason=REASON, approved_by=TWO, by=BY)
    for statement in (
        "DELETE FROM audit_ended_log", "UPDATE audit_ended_log SET size = 9", "TRUNCATE audit_ended_log",
    ):  # fmt: skip
        with psycopg.connect(owner_dsn) as owner, pytest.raises(psycopg.errors.RestrictViolation):
            owner.execute(statement)


def test_a_ceremony_that_fails_half_way_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    grow(2)

    def broken(*_args: object, **_values: object) -> int:
        raise LogDamaged("half way")

    with monkeypatch.context() as patch:
        patch.setattr(log, "append", broken)
        with pytest.raises(LogDamaged):
            ceremony.begin_new_log(reason=REASON, approved_by=TWO, by=BY)

    assert (log.state().epoch, log.ended()) == (1, [])


def test_one_ceremony_of_two_at_once_then_the_other(race: Any) -> None:
    grow(2)

    race([lambda: ceremony.begin_new_log(reason=REASON, approved_by=TWO, by=BY)] * 2)

    assert [state.epoch for state in log.ended()] == [1, 2]
    assert (log.state().epoch, faults()) == (3, [])
