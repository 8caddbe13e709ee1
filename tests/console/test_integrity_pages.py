"""Integrity, evidence and jobs: what the pages say, what leaves the house, who may ask for it."""

from __future__ import annotations

import datetime as dt
import html
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from mestore.lib import actor, ids, notes, sql
from mestore.lib.console import State, display
from monitoring import (
    audit,
    checkpoints,
    cosigning,
    events,
    evidence,
    export_cursors,
    integrity,
    integrity_figures,
    jobs,
    panels,
    sequencer,
    verification_jobs,
    verifications,
)
from monitoring.cosigning import LastWord
from monitoring.integrity import Standing
from monitoring.models import AuditEvent, JobSample
from monitoring.verifications import Mode
from sessions_security.models import StepUpProof
from tests.console import house
from tests.console.test_pages import STATEMENTS, _offences, _statements

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

PAGE = "/admin/integrity/"
JOBS = "/admin/procrastinate/procrastinatejob/"
BY = actor.system("test")
ENGLISH = {"accept-language": "en"}
REASON = {"reason": "asked for by the regulator"}
NOW = dt.datetime(2026, 3, 4, 17, 30, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def _no_kept_sample() -> None:
    integrity.forget()


def record(count: int = 1) -> list[str]:
    with transaction.atomic():
        return [str(audit.record(events.ORDER_RECORDED, by=BY)) for _ in range(count)]


def page(client: Client, address: str = PAGE) -> str:
    answer = client.get(address, headers=ENGLISH)
    assert answer.status_code == 200, (address, answer)
    return html.unescape(answer.content.decode())


def stale(visitor: house.Visitor) -> None:
    StepUpProof.objects.filter(session__user=visitor.user).update(
        proved_at=timezone.now() - dt.timedelta(hours=1)
    )


# --- Who ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "checkpoint/", "verify/", "evidence/"])
def test_strangers_and_staff_without_the_right_are_kept_out(path: str) -> None:
    record()
    sequencer.drain()
    staff = house.visitor().client

    assert Client().get(f"{PAGE}{path}").status_code == 302
    assert staff.get(f"{PAGE}{path}").status_code == 403
    if path in {"verify/", "evidence/"}:
        assert staff.post(f"{PAGE}{path}", {**REASON, "mode": "full"}).status_code == 403
    assert PAGE not in staff.get("/admin/").content.decode()


# --- What it says ------------------------------------------------------------------------------------------


def test_empty_log_is_said_to_be_empty_and_unsigned(admin_visitor: house.Visitor) -> None:
    text = page(admin_visitor.client)

    assert "nothing is signed yet" in text
    assert "no data" in text
    assert "Nothing was verified yet" in text
    assert admin_visitor.client.get(f"{PAGE}checkpoint/").status_code == 404


def test_without_a_witness_the_page_says_so_plainly(admin_visitor: house.Visitor) -> None:
    assert cosigning.configured() == []
    text = page(admin_visitor.client)

    assert "No witness is configured: nobody outside would notice a rewritten log" in text
    assert "figure-critical" in text


def test_sealed_log_shows_size_root_key_and_runs(admin_visitor: house.Visitor) -> None:
    record(3)
    sequencer.drain()
    verifications.verify(verifications.Plan(Mode.FULL), by=BY)

    text = page(admin_visitor.client)

    found = checkpoints.last()
    assert found is not None
    assert found.root.hex() in text
    assert str(checkpoints.verifier(1)) in text
    assert "as sealed" in text
    assert "everything" in text
    assert _offences(text) == []


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_log_that_ended_is_told_with_its_reason_and_who_agreed() -> None:
    visitor = house.visitor(permissions=(house.AUDIT,))
    before = page(visitor.client)
    sql.execute(
        "INSERT INTO audit_ended_log (epoch, size, frontier, root, reason, approved_by)"
        " VALUES (7, 1234, '', %s, 'failover lost <b>four</b> events', %s)",
        (b"0" * 32, ["ana@example.com", "sofia@example.com"]), using="owner",
    )  # fmt: skip

    answer = visitor.client.get(PAGE, headers=ENGLISH).content.decode()

    assert "Logs that ended" not in before
    assert "failover lost &lt;b&gt;four&lt;/b&gt; events" in answer
    assert "ana@example.com, sofia@example.com" in answer


def test_page_costs_at_most_twelve_statements(admin_visitor: house.Visitor) -> None:
    record(3)
    sequencer.drain()

    assert _statements(admin_visitor.client, PAGE) <= STATEMENTS


def standing(**given: Any) -> Standing:
    values: dict[str, Any] = {
        "epoch": 1, "size": 10, "published_at": NOW, "signed_size": 10, "signed_root": b"", "signed_at": NOW,
        "pending": 0, "oldest": None,
    }  # fmt: skip
    return Standing(**values | given)


@pytest.mark.parametrize(
    ("age", "state"), [(10, State.GOOD), (119, State.GOOD), (121, State.CRITICAL), (9_999, State.CRITICAL)]
)
def test_old_signature_is_critical_when_nobody_confirms_it(age: int, state: State) -> None:
    made = integrity_figures.checkpoint(standing(), NOW + dt.timedelta(seconds=age))

    assert made.state is state


@pytest.mark.parametrize(("age", "state"), [(59, State.GOOD), (61, State.WARNING)])
def test_event_that_waits_too_long_is_a_warning(age: int, state: State) -> None:
    made = integrity_figures.pending(standing(pending=1, oldest=NOW), NOW + dt.timedelta(seconds=age))

    assert made.state is state


@pytest.mark.parametrize(
    ("size", "age", "state"),
    [(10, 99_999, State.GOOD), (9, 60, State.GOOD), (9, 901, State.CRITICAL)],
)
def test_witness_is_late_only_when_there_is_something_it_has_not_seen(
    size: int, age: int, state: State
) -> None:
    words = [LastWord("w.example", NOW, size)]

    assert integrity_figures.witness(words, 10, NOW + dt.timedelta(seconds=age)).state is state


def test_witness_that_never_spoke_is_critical() -> None:
    assert integrity_figures.witness([LastWord("w.example", None, None)], 10, NOW).state is State.CRITICAL


def test_overview_says_what_is_sealed_and_what_is_not(admin_visitor: house.Visitor) -> None:
    class Viewer:
        def __init__(self) -> None:
            self.user = self

        def has_perm(self, name: str) -> bool:
            return name == "monitoring.view_auditevent"

    record()
    (before,) = panels.standing(Viewer())
    sequencer.drain()
    (after,) = panels.standing(Viewer())

    assert (before.value, before.state) == ("not signed yet", State.WARNING)
    assert "not sealed yet" in str(before.detail)
    assert after.value == "sealed"
    assert "no witness" in str(after.detail)
    assert after.state is State.WARNING
    assert after.link == PAGE


# --- Downloads ---------------------------------------------------------------------------------------------


def test_checkpoint_is_a_file_that_the_log_signed(admin_visitor: house.Visitor) -> None:
    record()
    sequencer.drain()

    answer = admin_visitor.client.get(f"{PAGE}checkpoint/")

    assert notes.checkpoint_of(answer.content.decode(), log=checkpoints.verifier(1)).size >= 1
    assert answer["Content-Disposition"] == 'attachment; filename="mestore-checkpoint.txt"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in answer["Cache-Control"]


def pack_of(answer: Any) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content)))


def test_evidence_pack_is_checked_by_what_it_brings_along(
    admin_visitor: house.Visitor, tmp_path: Path
) -> None:
    chosen = record(3)
    sequencer.drain()
    size = integrity.standing().size
    given = {"events": "\n".join([*chosen, chosen[0]]), "old_size": "1", "new_size": str(size), **REASON}

    answer = admin_visitor.client.post(f"{PAGE}evidence/", given)

    assert answer["Content-Type"] == "application/zip"
    assert answer["Content-Disposition"] == 'attachment; filename="mestore-evidence.zip"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in answer["Cache-Control"]
    with pack_of(answer) as archive:
        archive.extractall(tmp_path)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
        "checkpoint.txt", "keys.txt", "consistency.txt", "verify_proof.py", "README.en.txt", "LEAME.es.txt",
        *(f"proofs/{one}.tlog-proof" for one in chosen),
    }  # fmt: skip
    key = (tmp_path / "keys.txt").read_text().splitlines()[0].removeprefix("log ")
    for one in chosen:
        done = subprocess.run(
            [sys.executable, "verify_proof.py", f"proofs/{one}.tlog-proof", "--key", key],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert one in done.stdout
    told = AuditEvent.objects.get(type=events.AUDIT_EVIDENCE_MADE)
    said = json.loads(bytes(told.canon))["data"]
    assert (said["reason"], said["old_size"], said["events"][:3]) == (REASON["reason"], 1, chosen)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"reason": "short"}, 400),
        ({"events": "nonsense"}, 400),
        ({"events": "\n".join(["0190aaaa-0000-7000-8000-000000000001"] * 101)}, 400),
        ({"events": "0190aaaa-0000-7000-8000-000000000001"}, 404),
        ({"old_size": "99999999"}, 422),
        ({"old_size": "2", "new_size": "1"}, 422),
        ({"old_size": "-1"}, 400),
        ({"old_size": "9" * 40}, 400),
    ],
)
def test_evidence_that_cannot_be_given_is_refused_on_the_page(
    given: dict[str, str], status: int, admin_visitor: house.Visitor
) -> None:
    record()
    sequencer.drain()

    answer = admin_visitor.client.post(f"{PAGE}evidence/", {**REASON, **given})

    assert answer.status_code == status
    assert "attachment" not in answer.get("Content-Disposition", "")
    assert not AuditEvent.objects.filter(type=events.AUDIT_EVIDENCE_MADE).exists()


def test_evidence_before_anything_is_signed_is_refused(admin_visitor: house.Visitor) -> None:
    answer = admin_visitor.client.post(f"{PAGE}evidence/", REASON, headers=ENGLISH)

    assert answer.status_code == 409
    assert "Nothing is signed yet" in answer.content.decode()


def test_proof_is_given_under_the_checkpoint_that_witnesses_cosigned(admin_visitor: house.Visitor) -> None:
    (chosen,) = record()
    sequencer.drain()
    record(5)
    sequencer.drain()
    newest = checkpoints.last()
    assert newest is not None
    line = "— w.example AAAA\n"
    sql.execute(
        "INSERT INTO audit_cosignature (epoch, size, witness, line, cosigned_at)"
        " VALUES (1, %s, %s, %s, now())",
        (newest.size, "w.example", line),
    )

    text = evidence.proof_text(AuditEvent.objects.get(pk=chosen).pk)

    assert text.endswith(line)
    assert f"\n{newest.size}\n" in text
    assert "w.example" in page(admin_visitor.client, f"/admin/monitoring/auditevent/{chosen}/change/")


# --- Verify now --------------------------------------------------------------------------------------------


def test_verifying_needs_a_fresh_factor_and_a_reason_and_is_put_in_line_once(
    admin_visitor: house.Visitor,
) -> None:
    record(2)
    sequencer.drain()
    client, given = admin_visitor.client, {"mode": "full", **REASON}
    stale(admin_visitor)
    unproved = client.post(f"{PAGE}verify/", given)
    StepUpProof.objects.filter(session__user=admin_visitor.user).update(proved_at=timezone.now())
    short = client.post(f"{PAGE}verify/", {**given, "reason": "no"})

    asked = client.post(f"{PAGE}verify/", given)
    again = client.post(f"{PAGE}verify/", given)

    assert "audit.verify" in unproved["Location"]
    assert short.status_code == 400
    assert asked["Location"] == PAGE
    assert again.status_code == 409
    job = ProcrastinateJob.objects.get(task_name=verification_jobs.JOB)
    assert job.args == {"mode": "full", "asked_by": str(admin_visitor.user.pk)}
    assert AuditEvent.objects.filter(type=events.AUDIT_VERIFICATION_ASKED).count() == 1
    assert verification_jobs.verify_log(**job.args)
    assert verifications.latest()[0].mode == "full"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"mode": "range", "begin": "5", "end": "5"}, 422),
        ({"mode": "range", "begin": "0", "end": "999999"}, 422),
        ({"mode": "everything"}, 400),
        ({"mode": "range", "begin": "-1"}, 400),
        ({}, 400),
    ],
)
def test_leaves_that_are_not_there_are_not_verified(
    given: dict[str, str], status: int, admin_visitor: house.Visitor
) -> None:
    record(3)
    sequencer.drain()

    assert admin_visitor.client.post(f"{PAGE}verify/", {**REASON, **given}).status_code == status
    assert not ProcrastinateJob.objects.filter(task_name=verification_jobs.JOB).exists()


# --- Jobs and deliveries -----------------------------------------------------------------------------------


def job(status: str = "failed", **kept: Any) -> ProcrastinateJob:
    number = app.configure_task("test.job", allow_unknown=True, **kept).defer(secret="very-secret")
    sql.execute("UPDATE procrastinate_jobs SET status = %s WHERE id = %s", (status, number))
    found: ProcrastinateJob = ProcrastinateJob.objects.get(pk=number)
    return found


def do(visitor: house.Visitor, action: str, *rows: ProcrastinateJob) -> Any:
    return visitor.client.post(
        f"{JOBS}do/", {"action": action, "pk": [str(row.pk) for row in rows], **REASON}
    )


def test_the_depth_of_the_line_is_drawn_from_samples_and_a_gap_is_no_zero(
    admin_visitor: house.Visitor,
) -> None:
    assert "a worker that runs writes the first sample within a minute" in page(admin_visitor.client, JOBS)
    now = timezone.now()
    for minutes, waiting, oldest in ((1, 4_321, 754), (300, 7, None)):
        at = now - dt.timedelta(minutes=minutes)
        JobSample.objects.create(at=at, waiting=waiting, running=2, failed=1, oldest_seconds=oldest)

    text = page(admin_visitor.client, JOBS)

    assert "Depth of the line" in text
    assert display.number(4_321) in text
    assert f"{display.number(754)} s" in text
    assert text.count("no data") >= 40  # half hours in which nobody measured
    assert not list(_offences(admin_visitor.client.get(JOBS).content.decode()))
    assert _statements(admin_visitor.client, JOBS) <= STATEMENTS


def test_jobs_are_told_by_task_without_what_they_are_about(admin_visitor: house.Visitor) -> None:
    found = job()

    text = page(admin_visitor.client, JOBS)
    row = page(admin_visitor.client, f"{JOBS}{found.pk}/change/")

    assert "test.job" in text
    assert "failed" in text
    assert "very-secret" not in text + row
    assert "Every message has been sent or given up." in text
    assert _statements(admin_visitor.client, JOBS) <= STATEMENTS


def test_failed_job_is_put_back_in_line_once_and_told(admin_visitor: house.Visitor) -> None:
    found = job()

    first = do(admin_visitor, "retry", found)
    second = do(admin_visitor, "retry", found)

    found.refresh_from_db()
    assert (found.status, first.status_code, second.status_code) == ("todo", 302, 302)
    told = AuditEvent.objects.get(type=events.JOB_RETRIED)
    assert (told.target_id, told.actor_id) == (str(found.pk), str(admin_visitor.user.pk))
    assert "very-secret" not in bytes(told.canon).decode()


def test_job_whose_twin_waits_already_is_not_put_back() -> None:
    failed = job(queueing_lock="only-one")
    job("todo", queueing_lock="only-one")

    with pytest.raises(jobs.Changed):
        jobs.retry(failed, reason="asked for", by=BY)
    assert not AuditEvent.objects.filter(type=events.JOB_RETRIED).exists()


def test_parking_needs_a_fresh_factor_and_takes_a_waiting_job_out(admin_visitor: house.Visitor) -> None:
    found = job("todo")
    stale(admin_visitor)
    unproved = do(admin_visitor, "park", found)
    StepUpProof.objects.filter(session__user=admin_visitor.user).update(proved_at=timezone.now())

    do(admin_visitor, "park", found)

    found.refresh_from_db()
    assert "jobs.park" in unproved["Location"]
    assert found.status == "cancelled"
    assert AuditEvent.objects.filter(type=events.JOB_PARKED, target_id=str(found.pk)).exists()


@pytest.mark.parametrize(
    ("status", "run"), [("doing", jobs.retry), ("todo", jobs.retry), ("doing", jobs.park)]
)
def test_job_in_another_state_is_left_alone(status: str, run: Any) -> None:
    found = job()
    sql.execute("UPDATE procrastinate_jobs SET status = %s::procrastinate_job_status WHERE id = %s",
                ("succeeded", found.pk))  # fmt: skip

    with pytest.raises(jobs.Changed):
        run(found, reason="asked for", by=BY)


def test_who_may_only_look_changes_no_job() -> None:
    visitor = house.visitor()
    found = job()

    assert page(visitor.client, JOBS)
    assert do(visitor, "retry", found).status_code == 403
    found.refresh_from_db()
    assert found.status == "failed"


def test_waiting_messages_are_counted_by_channel_without_their_contents(
    admin_visitor: house.Visitor,
) -> None:
    from monitoring.outbox import OutboxMessage

    now = timezone.now()
    OutboxMessage(
        channel="mail", template="welcome", payload=json.dumps({"to": "eva@example.com"}), attempts=3,
        created_at=now - dt.timedelta(minutes=5), expires_at=now + dt.timedelta(days=1), next_attempt_at=now,
        last_error="SMTPServerDisconnected",
    ).save(force_insert=True)  # fmt: skip

    text = page(admin_visitor.client, JOBS)

    assert "SMTPServerDisconnected" in text
    assert "5 min ago" in text
    assert "eva@example.com" not in text
    (line,) = jobs.messages()
    assert (line.channel, line.many, line.again, line.attempts) == ("mail", 1, 1, 3)


def test_receiver_of_the_export_is_shown_with_how_far_behind_it_is(admin_visitor: house.Visitor) -> None:
    record(3)
    sequencer.drain()
    held = export_cursors.take("siem-1", by=BY)
    assert held is not None
    export_cursors.fail(held, "<b>timeout</b>")

    answer = admin_visitor.client.get(JOBS, headers=ENGLISH).content.decode()

    assert "siem-1" in answer
    assert "&lt;b&gt;timeout&lt;/b&gt;" in answer
    (kept,) = export_cursors.every()
    assert kept.behind >= 3


def test_ids_of_nothing_lead_nowhere(admin_visitor: house.Visitor) -> None:
    for unknown in ("0", "99999999999999999999999", "x", str(ids.uuid7())):
        assert admin_visitor.client.get(f"{JOBS}{unknown}/change/").status_code in {400, 404}
    assert re.search("Nothing was selected", page(admin_visitor.client, JOBS)) is None
