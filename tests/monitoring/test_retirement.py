"""Months of the trail come to their end: archived, agreed to by two people, dropped, and missed by nobody."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils.translation import gettext

from accounts import approvals
from mestore.lib import sql
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
from tests.monitoring import months, retiring
from tests.monitoring.people import EMAIL
from tests.monitoring.retiring import (
    BY,
    NEXT,
    OLD,
    WHY,
    YOUNG,
    Trail,
    approve,
    archive_of,
    gone,
    is_there,
    leaf_of,
    lines_of,
    retire,
    run,
    signed_out,
    verified,
)

pytestmark = pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)


@pytest.fixture
def trail(owner_dsn: str, tmp_path: Path, settings: Any) -> Iterator[Trail]:
    with retiring.past(owner_dsn, tmp_path, settings) as made:
        yield made


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
            [sys.executable, "docs/verify_proof.py", out, "--key", str(checkpoints.verifier(1))],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert str(event_id) in done.stdout


def test_an_archived_event_without_its_archive_is_said_to_be_there(trail: Trail, settings: Any) -> None:
    gone(trail)
    settings.AUDIT_ARCHIVE_DIR = ""

    code, said = run("audit_proof", str(trail.old[0]))
    assert code == 1
    assert said.strip() == gettext("This event is in the archive of its month: its proof is made from there.")


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
        months.record(signed_out(BY), months.moment(OLD, 200))
    sequencer.drain()

    gone(trail)
    assert [part.epoch for part in archive_of().manifest.parts] == [1, 2]
    code, faults, _notes = verified("--full", "--archive", str(trail.folder))
    assert (code, faults) == (0, [])


# --- People ------------------------------------------------------------------------------------------------


def test_an_archive_holds_personal_values_sealed_until_their_person_is_erased(trail: Trail) -> None:
    gone(trail)
    raw = "".join(lines_of(trail.folder / archive_of().manifest.file))
    assert EMAIL not in raw

    sealed = retirement.archived_event(trail.old[0], trail.folder)
    captured = retirement.archived_event(trail.captured, trail.folder)
    assert sealed is not None
    assert captured is not None
    assert EMAIL in retirement.personal_values(sealed)["sealed"]
    assert retirement.personal_values(captured) == {"email.after": json.dumps(EMAIL)}

    with transaction.atomic():
        erasure.erase("u-ana", by=BY, reason="asked to be forgotten")
    assert retirement.personal_values(sealed) == retirement.personal_values(captured) == {}
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
        rows.append(months.prepared(signed_out(BY, n), month + dt.timedelta(milliseconds=n)))
    with transaction.atomic():
        audit._write_many(rows)
    sequencer.drain()
    gone(trail, NEXT)

    manifest = archive_of(NEXT).manifest
    assert manifest.events == many - 9 + 1
    assert len(manifest.parts[0].runs) == 11
    batches = sum(line.startswith('{"batch":') for line in lines_of(trail.folder / manifest.file))
    assert batches >= 3
    assert verified("--full", "--archive", str(trail.folder))[:2] == (0, [])
    assert verified("--full", "--stream")[:2] == (0, [])
    found = retirement.archived_event(rows[-1][0], trail.folder)
    assert found is not None
    assert found.leaf_index == leaf_of(rows[-1][0])
