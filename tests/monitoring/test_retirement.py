"""Months of the trail come to their end: archived, agreed to by two people, dropped; and nothing else can."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from psycopg import errors as pg

from accounts import approvals, retirements
from accounts.models import User
from mestore.lib import actor, ids, sql
from mestore.lib.actor import Actor
from monitoring import (
    archives,
    archiving,
    audit,
    ceremony,
    checkpoints,
    erasure,
    events,
    log,
    retired,
    retirement,
    sequencer,
    verification,
)
from monitoring.models import AuditEvent
from monitoring.retirement import State
from monitoring.verifications import Mode, Plan
from monitoring.verifications import verify as verify_log
from tests.factories.accounts import BuyerFactory, SuperuserFactory
from tests.monitoring import months
from tests.monitoring.people import EMAIL, person
from tests.monitoring.test_verification import tamper

pytestmark = pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)

BY = actor.system("test")
OLD, NEXT, YOUNG = months.first_day(26), months.first_day(25), months.first_day(24)
WHY = "Past the time for which it is held."
VERIFIER = Path("docs/verify_proof.py")


@dataclass(frozen=True)
class Trail:
    """A trail with two months that are due. `old` are the events of the older one, `next` is the other's."""

    old: list[UUID]
    next: UUID
    late: UUID
    captured: UUID
    asker: User
    second: User
    folder: Path
    dsn: str


@pytest.fixture
def trail(owner_dsn: str, tmp_path: Path, settings: Any) -> Iterator[Trail]:
    settings.AUDIT_ARCHIVE_DIR, settings.AUDIT_MONTHS = str(tmp_path / "archive"), 24
    with months.of_the_past(owner_dsn, 27):
        ana = person(id="u-ana")
        with transaction.atomic():
            old = [months.record(_signed_out(ana, n), months.moment(OLD, n)) for n in range(5)]
            following = months.record(_signed_out(ana), months.moment(NEXT))
            old += [months.record(_signed_out(BY, n), months.moment(OLD, 60 + n)) for n in range(3)]
        captured = months.capture(owner_dsn, months.moment(OLD, 90), subject="u-ana", value=EMAIL)
        sequencer.drain()
        asker, second = SuperuserFactory.create(), SuperuserFactory.create()
        with transaction.atomic():
            # As a spool that was replayed late: an event of then, with a place of today.
            late = months.record(_signed_out(BY), months.moment(OLD, 120))
        sequencer.drain()
        with transaction.atomic():
            audit.record_many([_signed_out(BY, n) for n in range(300)])
        sequencer.drain()
        folder = tmp_path / "archive"
        yield Trail([*old, captured, late], following, late, captured, asker, second, folder, owner_dsn)


def _signed_out(by: Actor, n: int = 0) -> audit.Entry:
    return audit.Entry(events.SIGNED_OUT, by=by, target=("session", "s"), data={"n": n})


def run(command: str, *arguments: str) -> tuple[int, Any]:
    """Exit code and what was printed, as JSON where it is some."""
    out = io.StringIO()
    code = 0
    try:
        call_command(command, *arguments, stdout=out, stderr=io.StringIO())
    except CommandError as error:
        code = error.returncode
        out.write("" if out.getvalue() else str(error))
    text = out.getvalue()
    return code, json.loads(text) if text.startswith("{") else text


def retire(trail: Trail, month: dt.date = OLD, *more: str) -> tuple[int, Any]:
    name = archives.named(month)
    return run("audit_retire", name, "--by", str(trail.asker.pk), "--reason", WHY, "--json", *more)


def verified(*arguments: str) -> tuple[int, list[tuple[str, int | None]], list[str]]:
    code, said = run("audit_verify", *(arguments or ("--full",)), "--json")
    one = said["logs"][-1]
    return (
        code,
        [(fault["what"], fault["leaf"]) for fault in one["faults"]],
        [n["what"] for n in one["notes"]],
    )


def approve(trail: Trail) -> None:
    (waiting,) = approvals.waiting_for(trail.second)
    approvals.approve(waiting.pk, by=Actor(kind="user", id=str(trail.second.pk)))


def gone(trail: Trail, month: dt.date = OLD) -> None:
    """The whole way."""
    code, said = retire(trail, month)
    assert code == 3, said
    approve(trail)
    code, said = retire(trail, month)
    assert code == 0, said


def decide(trail: Trail) -> None:
    """As far as the decision; its event waits for its leaf."""
    retire(trail)
    approve(trail)
    by = Actor(kind="user", id=str(trail.asker.pk))
    retirement.decide(archive_of(), trail.folder, reason=WHY, by=by)


def is_there(trail: Trail, month: dt.date = OLD) -> bool:
    with psycopg.connect(trail.dsn) as connection:
        return months.partition(month) in months.partitions(connection)


def leaf_of(event_id: UUID) -> int:
    return int(sql.fetch_all("SELECT leaf_index FROM audit_leaf WHERE event_id = %s", (event_id,))[0][0])


def archive_of(month: dt.date = OLD) -> archiving.Archived:
    found = retirement.find(month).archived
    assert found is not None
    return found


# --- The whole way -----------------------------------------------------------------------------------------


def test_a_month_is_archived_approved_by_another_person_and_dropped(trail: Trail) -> None:
    assert verified() == (0, [], verified()[2])

    code, said = retire(trail)
    assert (code, said["months"][0]["state"], said["months"][0]["events"]) == (3, "archived", 10)
    assert retire(trail)[1]["months"][0]["waits_for"] == said["months"][0]["waits_for"]
    assert is_there(trail)
    approve(trail)
    code, said = retire(trail)

    assert (code, said["months"][0]["state"], said["months"][0]["dropped"]) == (0, "retired", 10)
    assert not is_there(trail)
    assert is_there(trail, NEXT)
    assert not AuditEvent.objects.filter(pk__in=trail.old).exists()
    assert len(list(trail.folder.iterdir())) == 2
    assert retire(trail) == (0, {"months": [said["months"][0] | {"dropped": None}]})


def test_the_decision_is_in_the_log_before_the_month_goes(trail: Trail) -> None:
    gone(trail)
    kinds = (
        events.AUDIT_MONTH_ARCHIVED,
        events.APPROVAL_GIVEN,
        events.APPROVAL_USED,
        events.AUDIT_MONTH_RETIRED,
    )

    assert {e.type for e in AuditEvent.objects.filter(type__in=kinds)} == set(kinds)
    decision = AuditEvent.objects.get(type=events.AUDIT_MONTH_RETIRED)
    assert (decision.actor_id, decision.target_id) == (str(trail.asker.pk), archives.named(OLD))
    said = json.loads(bytes(decision.canon))["data"]
    assert (said["events"], said["sha256"]) == (10, archive_of().manifest.sha256.hex())
    assert leaf_of(decision.pk) < log.state().size


@pytest.mark.parametrize(
    "arguments", [["--full"], ["--full", "--stream"], ["--tail"], ["--range", "0:20"]], ids=" ".join
)
def test_verification_does_not_miss_what_was_retired(trail: Trail, arguments: list[str]) -> None:
    gone(trail)
    gone(trail, NEXT)

    code, faults, notes = verified(*arguments, "--archive", str(trail.folder))
    assert (code, faults) == (0, [])
    assert "11 events of 2 retired months are in their archives, which were read" in notes
    assert verification.sample(3_000).faults == ()


def test_an_archived_event_is_proved_on_a_machine_without_the_project(trail: Trail, tmp_path: Path) -> None:
    gone(trail)
    for event_id in (trail.old[2], trail.captured, trail.late):
        out = tmp_path / f"{event_id}.tlog-proof"
        assert run("audit_proof", str(event_id), "--archive", str(trail.folder), "--out", str(out))[0] == 0
        done = subprocess.run(
            [sys.executable, VERIFIER, out, "--key", str(checkpoints.verifier(1))],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert str(event_id) in done.stdout


def test_an_archived_event_without_its_archive_is_said_to_be_there(trail: Trail, settings: Any) -> None:
    gone(trail)
    settings.AUDIT_ARCHIVE_DIR = ""

    code, said = run("audit_proof", str(trail.old[0]))
    assert code == 1
    assert "archive of its month" in said


def test_an_export_of_the_log_goes_on_over_a_retired_month(trail: Trail, tmp_path: Path) -> None:
    gone(trail)
    assert run("audit_export", "--format", "jsonl", "--out", str(tmp_path / "all.jsonl"))[0] == 0
    code, _said = run("audit_export", "--format", "jsonl", "--verify", str(tmp_path / "all.jsonl"))
    assert code == 0


def test_the_list_says_how_far_each_month_has_come(trail: Trail) -> None:
    gone(trail)
    assert retire(trail, NEXT)[0] == 3

    _code, said = run("audit_retire", "--json")
    states = {one["month"]: one["state"] for one in said["months"]}
    assert [states[archives.named(month)] for month in (OLD, NEXT, YOUNG)] == ["retired", "archived", "held"]
    assert states[archives.named(months.first_day(0))] == "held"


def test_all_that_is_due_is_retired_oldest_first(trail: Trail) -> None:
    def due() -> tuple[int, Any]:
        return run("audit_retire", "--due", "--by", trail.asker.email, "--reason", WHY, "--json")

    code, said = due()
    assert (code, [one["month"] for one in said["months"]][-2:]) == (
        3,
        [archives.named(OLD), archives.named(NEXT)],
    )
    for waiting in list(approvals.waiting_for(trail.second)):
        approvals.approve(waiting.pk, by=Actor(kind="user", id=str(trail.second.pk)))
    assert due()[0] == 0
    assert due() == (0, {"months": []})


def test_a_dry_run_changes_nothing(trail: Trail) -> None:
    size = log.state().size
    code, said = run("audit_retire", archives.named(OLD), "--dry-run", "--json")

    assert (code, said["months"][0]["would_archive"], said["months"][0]["is_due"]) == (0, 10, True)
    assert not trail.folder.exists()
    assert (log.state().size, retirement.find(OLD).state) == (size, State.DUE)


def test_a_month_of_two_logs_is_one_archive(trail: Trail) -> None:
    why = "the tail of the log was lost in a failover"
    ceremony.begin_new_log(reason=why, approved_by=["staff 7", "staff 9"], by=BY)
    with transaction.atomic():
        months.record(_signed_out(BY), months.moment(OLD, 200))
    sequencer.drain()

    gone(trail)
    assert [part.epoch for part in archive_of().manifest.parts] == [1, 2]
    code, faults, _notes = verified("--full", "--archive", str(trail.folder))
    assert (code, faults) == (0, [])


# --- What is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["YOUNG"], 1), (["NOW"], 1), (["2024-13"], 2), (["1999-01"], 2), (["OLD", "--reason", "no"], 1),
        (["OLD", "--by", "nobody@example.com"], 2), (["OLD", "--by", "BUYER"], 1), (["OLD", "--by", ""], 2),
        (["OLD", "--archive", "/proc/nowhere"], 2),
    ],
    ids=str,
)  # fmt: skip
def test_what_may_not_be_is_refused(trail: Trail, arguments: list[str], code: int) -> None:
    known = {
        "OLD": archives.named(OLD), "YOUNG": archives.named(YOUNG), "BUYER": BuyerFactory.create().email,
        "NOW": archives.named(months.first_day(0)),
    }  # fmt: skip
    given = ["--by", trail.asker.email, "--reason", WHY, *(known.get(one, one) for one in arguments)]

    assert run("audit_retire", *given)[0] == code
    assert is_there(trail)


def test_without_the_owners_url_nothing_is_done(trail: Trail, settings: Any) -> None:
    settings.OWNER_ROLE = ""
    assert retire(trail)[0] == 2
    assert not trail.folder.exists()


def test_who_asked_does_not_approve(trail: Trail) -> None:
    retire(trail)
    (waiting,) = approvals.asked_by(trail.asker)
    with pytest.raises(approvals.NotYours):
        approvals.approve(waiting.pk, by=Actor(kind="user", id=str(trail.asker.pk)))
    with pytest.raises(approvals.SecondPersonRequired):
        retirement.decide(
            archive_of(), trail.folder, reason=WHY, by=Actor(kind="user", id=str(trail.asker.pk))
        )
    assert retire(trail)[0] == 3


EDIT = "UPDATE audit_event SET canon = canon || ' ' WHERE id = %s"
UNMACED = "UPDATE audit_event SET writer_mac = NULL WHERE id = %s"


@pytest.mark.parametrize("attack", [EDIT, UNMACED, "DELETE FROM audit_event WHERE id = %s"])
def test_a_month_that_is_not_as_it_was_signed_is_not_archived(
    trail: Trail, attack: str, superuser_dsn: str
) -> None:
    tamper(superuser_dsn, (attack, (trail.old[3],)))

    assert retire(trail)[0] == 1
    assert not trail.folder.exists()
    assert retirement.find(OLD).state is State.DUE


class TestDatabase:
    """What the functions refuse, whoever asks them."""

    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT audit_retire_month('2020-01-01')", "SELECT audit_forget_values('2020-01-01', 1)",
            """INSERT INTO audit_archive (id, month, events, manifest, note)
               VALUES (gen_random_uuid(), '2020-01-01', 0, '', 'x')""",
            """INSERT INTO audit_retirement (month, archive_id, event_id)
               VALUES ('2020-01-01', gen_random_uuid(), gen_random_uuid())""",
            "DELETE FROM audit_personal",
        ],
    )  # fmt: skip
    def test_the_application_may_do_none_of_it(self, trail: Trail, app_dsn: str, statement: str) -> None:
        table = sql.compose("DROP TABLE {t}", t=months.partition(OLD))
        with psycopg.connect(app_dsn) as connection:
            with pytest.raises(pg.InsufficientPrivilege):
                connection.execute(statement.encode())
            connection.rollback()
            with pytest.raises(pg.InsufficientPrivilege):
                connection.execute(table)

    def refused(self, trail: Trail, month: dt.date) -> str:
        with psycopg.connect(trail.dsn) as connection:
            with pytest.raises((pg.RestrictViolation, pg.InvalidParameterValue)) as refusal:
                connection.execute("SELECT audit_retire_month(%s)", (month,))
            return str(refusal.value)

    def test_a_month_that_nobody_gave_up_stays(self, trail: Trail) -> None:
        assert "not on record" in self.refused(trail, OLD)
        retire(trail)
        assert "not on record" in self.refused(trail, OLD)
        assert is_there(trail)

    @pytest.mark.parametrize("back", [0, 1, 12])
    def test_twelve_whole_months_stay_whatever_the_setting_says(self, trail: Trail, back: int) -> None:
        assert "too young" in self.refused(trail, months.first_day(back))

    def test_the_thirteenth_is_old_enough(self, trail: Trail) -> None:
        assert "not on record" in self.refused(trail, months.first_day(13))

    def test_a_month_is_its_first_day(self, trail: Trail) -> None:
        assert "first day" in self.refused(trail, OLD + dt.timedelta(days=1))

    def test_a_month_whose_events_wait_stays(self, trail: Trail, superuser_dsn: str) -> None:
        decide(trail)
        sequencer.drain()
        with transaction.atomic():
            months.record(_signed_out(BY), months.moment(OLD, 300))
        assert "still wait" in self.refused(trail, OLD)
        sequencer.drain()
        assert "holds 11 events and its archive 10" in self.refused(trail, OLD)
        assert retire(trail)[0] == 2
        assert is_there(trail)

    def test_a_decision_that_is_not_in_the_log_drops_nothing(self, trail: Trail) -> None:
        decide(trail)
        assert "not in the log yet" in self.refused(trail, OLD)

    def test_records_stay_as_they_are(self, trail: Trail) -> None:
        decide(trail)
        sequencer.drain()
        with psycopg.connect(trail.dsn, autocommit=True) as connection:
            for table in ("audit_archive", "audit_retirement"):
                for change in ("DELETE FROM {t}", "UPDATE {t} SET month = month", "TRUNCATE {t} CASCADE"):
                    with pytest.raises(pg.RestrictViolation):
                        connection.execute(sql.compose(change, t=table))


# --- Attacks -----------------------------------------------------------------------------------------------


def drop_by_hand(trail: Trail, month: dt.date = OLD) -> None:
    with psycopg.connect(trail.dsn, autocommit=True) as connection:
        connection.execute(sql.compose("DROP TABLE {t}", t=months.partition(month)))


def test_a_month_dropped_by_hand_is_named(trail: Trail) -> None:
    gone(trail)
    drop_by_hand(trail, NEXT)

    code, faults, _notes = verified()
    assert code == 1
    assert ("the event of a leaf is gone", leaf_of(trail.next)) in faults
    assert (f"there is no partition for events of {archives.named(NEXT)}", None) in faults
    assert [fault.event_id for fault in verification.sample(3_000).faults] == [trail.next]


def test_a_decision_that_went_with_its_own_month_is_vouched_for_by_the_archive(trail: Trail) -> None:
    """Years later the month is retired in which this one was given up."""
    retire(trail)
    by = Actor(kind="user", id=str(trail.asker.pk))
    target = retirement.target(OLD)
    with transaction.atomic():
        decision = months.record(
            audit.Entry(events.AUDIT_MONTH_RETIRED, by=by, target=target), months.moment(NEXT)
        )
    with psycopg.connect(trail.dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO audit_retirement (month, archive_id, event_id) VALUES (%s, %s, %s)",
            (OLD, archive_of().id, decision),
        )
    sequencer.drain()
    assert retire(trail)[0] == 0
    approvals.withdraw(approvals.asked_by(trail.asker)[0].pk, by=by)
    gone(trail, NEXT)

    assert archive_of(NEXT).manifest.decisions == ((str(decision), archives.named(OLD)),)
    assert verified("--full", "--archive", str(trail.folder))[:2] == (0, [])


def test_an_archive_alone_excuses_nothing(trail: Trail) -> None:
    retire(trail)
    drop_by_hand(trail)
    code, faults, _notes = verified()
    assert (code, ("the event of a leaf is gone", 0) in faults) == (1, True)


def test_a_forged_record_excuses_nothing(trail: Trail) -> None:
    """The owner may write the rows; what the log signed, and the decision, cannot be written by hand."""
    written = json.dumps({"v": 1, "month": archives.named(OLD)}).encode()
    with psycopg.connect(trail.dsn, autocommit=True) as connection:
        connection.execute(
            """WITH made AS (INSERT INTO audit_archive (id, month, events, manifest, note)
                             VALUES (gen_random_uuid(), %s, 10, %s, %s) RETURNING id, month)
               INSERT INTO audit_retirement (month, archive_id, event_id) SELECT month, id, %s FROM made""",
            (OLD, written, checkpoints.last().note, trail.late),  # type: ignore[union-attr]
        )
    drop_by_hand(trail)

    code, faults, _notes = verified()
    assert code == 1
    assert ("the event of a leaf is gone", 0) in faults
    assert any("is not to be believed" in what for what, _leaf in faults)


@pytest.mark.parametrize("which", ["late", "next", "none"])
def test_a_record_without_a_decision_is_named(trail: Trail, which: str) -> None:
    """An event of another meaning, one that goes with the month itself, or none at all."""
    retire(trail)
    decision = ids.uuid7() if which == "none" else getattr(trail, which)
    with psycopg.connect(trail.dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO audit_retirement (month, archive_id, event_id) VALUES (%s, %s, %s)",
            (OLD, archive_of().id, decision),
        )
    drop_by_hand(trail)

    what = f"nobody's decision to give up the month {archives.named(OLD)} is in the log"
    assert verified()[:2] == (1, [(what, None)])


def test_an_event_cannot_be_moved_into_a_retired_month(trail: Trail, superuser_dsn: str) -> None:
    gone(trail)
    young = sql.fetch_all("SELECT event_id, leaf_index FROM audit_leaf ORDER BY leaf_index DESC LIMIT 1")[0]
    tamper(
        superuser_dsn,
        ("UPDATE audit_leaf SET occurred_at = %s WHERE event_id = %s", (months.moment(OLD), young[0])),
        ("DELETE FROM audit_event WHERE id = %s", (young[0],)),
    )
    assert ("the event of a leaf is gone", young[1]) in verified()[1]


@pytest.mark.parametrize("share", [0.0, 0.13, 0.5, 0.77, 0.999])
def test_one_bit_of_an_archive_flipped_is_refused_everywhere(trail: Trail, share: float) -> None:
    retire(trail)
    approve(trail)
    path = trail.folder / archive_of().manifest.file
    flip(path, share)

    assert retire(trail)[0] == 1
    assert is_there(trail)
    flip(path, share)
    assert retire(trail)[0] == 0
    flip(path, share)
    code, faults, _notes = verified("--full", "--archive", str(trail.folder))
    assert (code, len(faults)) == (1, 1)
    assert "does not hold" in faults[0][0]
    assert run("audit_proof", str(trail.old[0]), "--archive", str(trail.folder))[0] == 1


def flip(path: Path, share: float) -> None:
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * share)] ^= 0x10
    path.chmod(0o600)
    path.write_bytes(raw)


def test_an_archive_of_other_content_with_its_own_digest_is_refused(trail: Trail) -> None:
    """Whoever has the log's key may sign any manifest: the lines must lead to the log all the same."""
    retire(trail)
    good = archive_of().manifest
    lines = [line for line in archives_lines(trail.folder / good.file) if '"n":3' not in line]
    made = rewritten(trail, good, lines)
    with pytest.raises(archives.ArchiveError):
        archiving.demand_whole(trail.folder, made)


def archives_lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return file.readlines()


def rewritten(trail: Trail, good: archives.Manifest, lines: list[str]) -> archives.Manifest:
    raw = gzip.compress("".join(lines).encode())
    path = trail.folder / good.file.replace(good.file[14:26], "0" * 12)
    path.write_bytes(raw)
    return replace(good, file=path.name, size=len(raw), sha256=hashlib.sha256(raw).digest())


def test_an_archive_is_written_over_by_nobody(trail: Trail) -> None:
    retire(trail)
    path = trail.folder / archive_of().manifest.file
    assert path.stat().st_mode & 0o777 == 0o400
    first = archive_of()
    path.rename(path.with_suffix(".elsewhere"))

    assert retire(trail)[0] == 3  # a lost file is no archive: another one is made, and asked about anew
    assert archive_of().id != first.id
    assert archive_of().manifest.file != first.manifest.file


# --- Crashes -----------------------------------------------------------------------------------------------


def test_killed_before_the_archive_is_on_record(trail: Trail, superuser_dsn: str) -> None:
    archiving.make(OLD, trail.folder, by=BY)
    tamper(superuser_dsn, "DELETE FROM audit_archive")
    gone(trail)
    assert verified("--full", "--archive", str(trail.folder))[:2] == (0, [])


def test_killed_between_archive_and_question(trail: Trail) -> None:
    made = archiving.make(OLD, trail.folder, by=BY)
    gone(trail)
    assert archive_of().id == made.id


def test_killed_while_the_decision_is_written(trail: Trail) -> None:
    """Two connections commit: the record first, the use of the approval after it."""
    retire(trail)
    approve(trail)
    by = Actor(kind="user", id=str(trail.asker.pk))
    with transaction.atomic():
        retirement.decide(archive_of(), trail.folder, reason=WHY, by=by)
        transaction.set_rollback(True)
    assert retirement.find(OLD).state is State.DECIDED

    assert retire(trail)[0] == 0
    assert not is_there(trail)
    assert verified()[:2] == (0, [])
    request = retirements.standing(archive_of(), by=by)
    assert request is not None  # it may be used for this month alone, which is gone


def test_killed_between_decision_and_drop(trail: Trail) -> None:
    decide(trail)
    sequencer.drain()
    code, faults, notes = verified()
    assert (code, faults) == (0, [])
    assert any("was given up and stands still" in note for note in notes)

    assert retire(trail)[0] == 0
    assert not is_there(trail)


def test_killed_between_drop_and_the_values_beside_it(trail: Trail) -> None:
    decide(trail)
    sequencer.drain()
    with psycopg.connect(trail.dsn, autocommit=True) as connection:
        assert connection.execute("SELECT audit_retire_month(%s)", (OLD,)).fetchone() == (10,)
    assert kept_values(trail.captured) == 1

    assert retire(trail)[0] == 0
    assert kept_values(trail.captured) == 0


def kept_values(event_id: UUID) -> int:
    return int(sql.fetch_all("SELECT count(*) FROM audit_personal WHERE event_id = %s", (event_id,))[0][0])


def test_two_who_drop_the_same_month_at_once(trail: Trail, race: Callable[..., list[Any]]) -> None:
    decide(trail)
    sequencer.drain()
    month = retirement.find(OLD)

    ended = race([lambda: retirement.drop(month, trail.folder)] * 3)
    assert [one for one in ended if one is not None] == [10], ended
    assert verified()[:2] == (0, [])


def test_events_of_today_are_written_while_a_month_goes(trail: Trail, race: Callable[..., list[Any]]) -> None:
    decide(trail)
    month = retirement.find(OLD)

    def write() -> int:
        for n in range(50):
            with transaction.atomic():
                audit.record(events.SIGNED_OUT, by=BY, data={"n": n})
        return 50

    ended = race([lambda: retirement.drop(month, trail.folder), write, write])
    assert ended == [10, 50, 50]
    sequencer.drain()
    assert verified()[:2] == (0, [])


def test_nobody_is_alarmed_while_a_month_goes(trail: Trail, race: Callable[..., list[Any]]) -> None:
    decide(trail)
    month = retirement.find(OLD)

    def verify() -> list[str]:
        plans = [Plan(Mode.FULL), Plan(Mode.FULL, stream=True), Plan(Mode.FULL, rows=False)] * 2
        return [
            one.what for plan in plans for result in verify_log(plan, by=BY) for one in result.found.faults
        ]

    assert race([lambda: retirement.drop(month, trail.folder), verify, verify]) == [10, [], []]


def test_who_reads_the_whole_trail_is_waited_for_in_turns(
    trail: Trail, race: Callable[..., list[Any]]
) -> None:
    """A waiting drop lets nobody write: it gives up after two seconds, and comes back."""
    decide(trail)
    month, has_begun = retirement.find(OLD), threading.Event()

    def read() -> str:
        with psycopg.connect(trail.dsn) as reader, psycopg.connect(trail.dsn, autocommit=True) as watcher:
            reader.execute("SELECT count(*) FROM audit_event")
            has_begun.set()
            for is_wanted in (True, False, True):
                while is_waited_for(watcher, reader.info.backend_pid) is not is_wanted:
                    pass
        return "read"

    def drop() -> int | None:
        assert has_begun.wait(60)
        return retirement.drop(month, trail.folder)

    assert race([read, drop]) == ["read", 10]


def is_waited_for(watcher: psycopg.Connection[Any], pid: int) -> bool:
    found = watcher.execute(
        "SELECT 1 FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))", (pid,)
    ).fetchone()
    return found is not None


# --- People ------------------------------------------------------------------------------------------------


def test_an_archive_holds_personal_values_sealed_until_their_person_is_erased(trail: Trail) -> None:
    gone(trail)
    raw = "".join(archives_lines(trail.folder / archive_of().manifest.file))
    assert EMAIL not in raw

    signed_out = retirement.archived_event(trail.old[0], trail.folder)
    captured = retirement.archived_event(trail.captured, trail.folder)
    assert signed_out is not None
    assert captured is not None
    assert EMAIL in retirement.personal_values(signed_out)["sealed"]
    assert retirement.personal_values(captured) == {"email.after": json.dumps(EMAIL)}

    with transaction.atomic():
        erasure.erase("u-ana", by=BY, reason="asked to be forgotten")
    assert retirement.personal_values(signed_out) == retirement.personal_values(captured) == {}
    sequencer.drain()
    assert verified("--full", "--archive", str(trail.folder))[:2] == (0, [])


def test_an_erasure_that_is_archived_still_explains_the_destroyed_key(trail: Trail) -> None:
    with transaction.atomic():
        sql.execute("SELECT audit_erase('u-ana')")
        months.record(
            audit.Entry(events.AUDIT_SUBJECT_ERASED, by=BY, target=("person", "u-ana"), data={"values": 1}),
            months.moment(OLD, 400),
        )
    sequencer.drain()
    assert verified()[:2] == (0, [])
    gone(trail)

    assert archive_of().manifest.erased == ("u-ana",)
    assert verified()[:2] == (0, [])
    assert retired.load().erased() == {"u-ana"}


def test_a_month_of_many_batches_and_gaps(trail: Trail) -> None:
    """More events than two batches hold, with events of other months strewn between them."""
    many = 2 * archiving.BATCH + 100
    at, rows = months.moment(NEXT), []
    for n in range(many):
        month = months.moment(OLD) if n % 1_000 == 7 else at
        rows.append(months.prepared(_signed_out(BY, n), month + dt.timedelta(milliseconds=n)))
    with transaction.atomic():
        audit._write_many(rows)
    sequencer.drain()
    gone(trail, NEXT)

    manifest = archive_of(NEXT).manifest
    assert manifest.events == many - 9 + 1
    assert len(manifest.parts[0].runs) == 11
    batches = sum(line.startswith('{"batch":') for line in archives_lines(trail.folder / manifest.file))
    assert batches >= 3
    assert verified("--full", "--archive", str(trail.folder))[:2] == (0, [])
    assert verified("--full", "--stream")[:2] == (0, [])
    found = retirement.archived_event(rows[-1][0], trail.folder)
    assert found is not None
    assert found.leaf_index == leaf_of(rows[-1][0])
