"""`audit_verify` as people and workers run it: modes, resumption, processes, records and exit codes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from mestore.lib import actor, notes, sql
from monitoring import audit, checkpoints, events, log, sequencer, verification, verifications
from monitoring.models import AuditEvent, Signal
from monitoring.signals import Severity
from monitoring.verifications import Mode, Plan
from tests.monitoring.test_verification import DELETE, EDIT, tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

BY = actor.system("test")


def grow(count: int) -> int:
    with transaction.atomic():
        audit.record_many([audit.Entry(events.SIGNED_OUT, by=BY, data={"n": n}) for n in range(count)])
    sequencer.drain()
    return log.state().size


@pytest.fixture(autouse=True)
def _log() -> None:
    for count in (300, 299, 101):
        grow(count)


def run(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and what was printed."""
    out = io.StringIO()
    try:
        call_command("audit_verify", *arguments, "--json", stdout=out, stderr=io.StringIO())
    except CommandError as error:
        return error.returncode, json.loads(out.getvalue() or "{}")
    return 0, json.loads(out.getvalue())


def recorded(code: str) -> int:
    return AuditEvent.objects.filter(type=code).count()


@pytest.mark.parametrize(
    "arguments",
    [[], ["--tail"], ["--full"], ["--range", "0:700"], ["--range", "256:300"], ["--full", "--stream"],
     ["--full", "--hashes-only"]],
    ids=" ".join,
)  # fmt: skip
def test_a_good_log_is_good_in_every_way(arguments: list[str]) -> None:
    code, said = run(*arguments)

    assert (code, said["good"]) == (0, True), said
    assert said["logs"][0]["faults"] == []
    assert recorded(events.AUDIT_VERIFIED) == 1
    assert not Signal.objects.exists()
    (kept,) = verifications.latest()
    assert (kept.faults, kept.upto, kept.finished_at is not None) == ([], kept.size, True)


@pytest.mark.parametrize(
    "arguments", [[], ["--full"], ["--full", "--stream"], ["--range", "256:512"]], ids=" ".join
)
@pytest.mark.parametrize(("attack", "what"), [
    (EDIT, "an event is not what the log says"), (DELETE, "the event of a leaf is gone"),
])  # fmt: skip
def test_a_finding_is_printed_kept_recorded_and_signalled(
    arguments: list[str], attack: str, what: str, superuser_dsn: str
) -> None:
    tamper(superuser_dsn, attack)

    code, said = run(*arguments)

    assert code == 1
    assert (what, 457) in [(fault["what"], fault["leaf"]) for fault in said["logs"][0]["faults"]]
    assert recorded(events.AUDIT_VERIFICATION_FAILED) == 1
    assert Signal.objects.get(rule="audit.verify_failed").severity == Severity.CRITICAL
    assert verifications.latest()[0].faults == said["logs"][0]["faults"]


def test_the_tail_begins_where_the_last_good_run_ended(superuser_dsn: str) -> None:
    run("--full")
    grow(100)

    said = run()[1]["logs"][0]
    assert (said["begin"], said["upto"], said["good"]) == (512, said["size"], True)

    tamper(superuser_dsn, EDIT)
    assert run()[0] == 0  # not in the tail
    assert run("--full")[0] == 1


def test_a_bad_tail_is_found_again_and_again(superuser_dsn: str) -> None:
    run("--full")
    grow(100)
    tamper(superuser_dsn, EDIT.replace("457", "750"))

    assert [run()[0], run()[0]] == [1, 1]
    assert Signal.objects.get().seen == 2


def test_a_log_that_shrank_since_the_last_run_is_a_finding(superuser_dsn: str) -> None:
    frontier, tiles = log.state().frontier.dump(), {n: log.tile_row(0, n * 256, 256) for n in range(3)}
    above = log.tile_row(1, 0, 2)
    grow(50)
    run("--full")
    restore(superuser_dsn, frontier, tiles, above)

    code, said = run()
    assert code == 1
    assert "shorter than it was when it was verified" in said["logs"][0]["faults"][0]["what"]


def restore(dsn: str, frontier: bytes, tiles: dict[int, bytes], above: bytes) -> None:
    """As a backup from when there were 700 leaves would: nothing in it is wrong by itself."""
    tamper(
        dsn,
        "DELETE FROM audit_checkpoint WHERE size > 700",
        "DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_leaf WHERE leaf_index >= 700)",
        "DELETE FROM audit_event WHERE id IN (SELECT id FROM audit_pending)",
        "DELETE FROM audit_pending",
        "DELETE FROM audit_leaf WHERE leaf_index >= 700",
        "DELETE FROM audit_tile WHERE level = 0 AND number > 2",
        *(
            ("UPDATE audit_tile SET hashes = %s WHERE level = 0 AND number = %s", (row, number))
            for number, row in tiles.items()
        ),
        ("UPDATE audit_tile SET hashes = %s WHERE level = 1", (above,)),
        ("UPDATE audit_tree SET size = 700, frontier = %s", (frontier,)),
    )


def test_a_restored_backup_does_not_begin_with_a_checkpoint_kept_elsewhere(
    superuser_dsn: str, tmp_path: Path
) -> None:
    frontier, tiles = log.state().frontier.dump(), {n: log.tile_row(0, n * 256, 256) for n in range(3)}
    above = log.tile_row(1, 0, 2)
    grow(50)
    newest = checkpoints.last()
    assert newest is not None
    (tmp_path / "kept.txt").write_text(newest.note)
    assert run("--checkpoint", str(tmp_path / "kept.txt"))[0] == 0
    restore(superuser_dsn, frontier, tiles, above)
    tamper(superuser_dsn, "DELETE FROM audit_verification")  # the backup did not know of it either
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM monitoring_signal")

    assert run("--full")[0] == 0  # in itself the log is right
    code, said = run("--checkpoint", str(tmp_path / "kept.txt"))
    assert code == 1
    assert "that was kept elsewhere" in said["logs"][0]["faults"][0]["what"]


def test_a_log_with_another_key_is_not_the_one_that_was_pinned(settings: Any, tmp_path: Path) -> None:
    pinned, newest = str(checkpoints.verifier(1)), checkpoints.last()
    assert newest is not None
    (tmp_path / "kept.txt").write_text(newest.note)
    assert run("--full", "--key", pinned)[0] == 0
    settings.AUDIT_SIGNING_KEY = bytes(32)
    grow(10)

    assert run("--full")[0] == 1
    assert run("--full", "--key", pinned)[0] == 1
    assert run("--checkpoint", str(tmp_path / "kept.txt"))[0] == 1


def test_a_key_of_another_log_is_a_finding() -> None:
    other = notes.Signer.of_seed("elsewhere.example/log-1", bytes(32)).verifier
    assert run("--key", str(other))[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [["--range", "5"], ["--range", "7:3"], ["--range", "0:701000"], ["--range", "٠:5"], ["--jobs", "0"],
     ["--key", "no key"], ["--resume"], ["--checkpoint", "/nowhere"], ["--requeue", "x"],
     ["--requeue", "01920000-0000-7000-8000-000000000000", "--reason", "why"]],
    ids=" ".join,
)  # fmt: skip
def test_what_cannot_run_says_so(arguments: list[str]) -> None:
    assert run(*arguments)[0] == 2


def test_a_stopped_run_is_taken_up_where_it_was(superuser_dsn: str) -> None:
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute(
            """INSERT INTO audit_verification (id, mode, epoch, first_leaf, upto, size, actor, faults)
               VALUES (gen_random_uuid(), 'full', 1, 0, 512, 700, 'x',
                       '[{"what": "w", "leaf": 3, "event": null}]')"""
        )
    code, said = run("--full", "--resume")

    assert code == 1  # what was found before still counts
    assert [fault["leaf"] for fault in said["logs"][0]["faults"]] == [3]
    assert said["logs"][0]["upto"] == 700
    assert len(verifications.latest()) == 1
    assert run("--full", "--resume")[0] == 0  # nothing to take up: from the beginning


def test_two_who_take_up_the_same_run_do_not_both_go_on(race: Callable[..., list[Any]]) -> None:
    sql.execute(
        """INSERT INTO audit_verification (id, mode, epoch, first_leaf, upto, size, actor)
           VALUES (gen_random_uuid(), 'full', 1, 0, 0, 700, 'x')"""
    )
    plan = Plan(Mode.FULL, resume=True)
    ended = race([lambda: verifications.verify(plan, by=BY)] * 3)

    assert sum(isinstance(one, list) for one in ended) >= 1
    assert all(isinstance(one, (list, verifications.TakenOver)) for one in ended)
    assert all(run.finished_at is not None for run in verifications.latest())


def test_several_processes_find_the_same(superuser_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(superuser_dsn, EDIT)
    assert run("--full", "--jobs", "2")[0] == 1


def test_what_was_found_cannot_be_taken_back() -> None:
    run("--full")
    for statement in (
        "UPDATE audit_verification SET faults = '[]'",
        "UPDATE audit_verification SET finished_at = NULL",
        "DELETE FROM audit_verification",
    ):
        with pytest.raises(Exception, match="stands"):
            sql.execute(statement)
    assert verifications.forget() == 0


def test_a_table_that_cannot_be_written_hides_nothing(superuser_dsn: str) -> None:
    tamper(superuser_dsn, EDIT)
    runtime = sql.fetch_all("SELECT current_user")[0][0]
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute(sql.compose("REVOKE INSERT, UPDATE ON audit_verification FROM {r}", r=runtime))
        try:
            assert run("--full")[0] == 1
        finally:
            connection.execute(
                sql.compose(
                    "GRANT INSERT, UPDATE (upto, moved_at, finished_at, faults, notes, rows_per_second)"
                    " ON audit_verification TO {r}",
                    r=runtime,
                )
            )
    assert Signal.objects.filter(rule="audit.verify_failed").exists()


def test_a_scheduled_tail_is_an_event_only_when_it_finds_something(superuser_dsn: str) -> None:
    verifications.verify(Plan(is_scheduled=True), by=BY)
    assert recorded(events.AUDIT_VERIFIED) == 0
    tamper(superuser_dsn, DELETE)
    verifications.verify(Plan(is_scheduled=True), by=BY)
    verifications.verify(Plan(Mode.FULL, is_scheduled=True), by=BY)
    assert recorded(events.AUDIT_VERIFICATION_FAILED) == 1


def test_a_sample_of_everything_finds_what_is_wrong(superuser_dsn: str) -> None:
    assert verification.sample(3_000) == verification.Sample(700, 700, ())
    assert verification.sample(10).checked == 10
    tamper(superuser_dsn, EDIT, DELETE.replace("457", "458"))

    found = verification.sample(3_000)
    assert [fault.leaf_index for fault in found.faults] == [457, 458]


def test_a_sample_of_an_empty_log_finds_nothing(superuser_dsn: str) -> None:
    tamper(superuser_dsn, "UPDATE audit_tree SET size = 0, frontier = ''")
    assert verification.sample(3_000) == verification.Sample(0, 0, ())


def test_a_sample_takes_two_statements(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2):
        verification.sample(100)
