"""Erasing a person: their values are nowhere any more, every event and every proof stays good."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.conf import settings
from django.db import connections, transaction
from psycopg import errors

from accounts.models import User
from mestore.lib import actor, ids, sql
from monitoring import (
    audit,
    checkpoints,
    context,
    delivery,
    erasure,
    events,
    leaves,
    proofs,
    revealing,
    selectors,
    sequencer,
    subjects,
    verifications,
)
from monitoring.export_batches import Format
from monitoring.models import AuditEvent, SubjectKey
from monitoring.verifications import Mode, Plan
from tests.factories.accounts import UserFactory
from tests.monitoring.test_export import made

pytestmark = pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)
Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]

BY = actor.Actor(kind="user", id="staff-1", label="Olga Officer", role="SUPERUSER", address="198.51.100.7")
NAME = "Zerafina"
EMAIL = "zerafina@example.com"
ADDRESS = "203.0.113.77"
VERIFIER = Path(settings.BASE_DIR, "docs", "verify_proof.py")


def erase(subject: str, by: actor.Actor = BY) -> int:
    with transaction.atomic():
        return erasure.erase(subject, by=by, reason="asked in writing")


def in_a_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        try:
            return work()
        finally:
            connections.close_all()

    return run


def person() -> tuple[User, actor.Actor]:
    """Somebody whose row was captured, and who did something."""
    user: User = UserFactory.create(nombre=NAME, email=EMAIL)
    by = actor.Actor(kind="user", id=str(user.pk), label=EMAIL, role="BUYER", address=ADDRESS)
    with transaction.atomic():
        audit.record(events.SIGNED_OUT, by=by, personal={"name": NAME})
    return user, by


def kept(subject: str) -> int:
    return int(sql.fetch_all("SELECT count(*) FROM audit_personal WHERE subject = %s", [subject])[0][0])


def event(code: str, actor_id: str) -> AuditEvent:
    return AuditEvent.objects.filter(type=code, actor_id=actor_id).latest("occurred_at")


class TestNobody:
    @pytest.mark.parametrize("subject", ["", "*"])
    def test_is_no_subject(self, subject: str) -> None:
        with pytest.raises(ValueError, match="whose"):
            erase(subject)

    @pytest.mark.parametrize("subject", ["", "*", None])
    def test_is_refused_by_the_function_too(self, app_dsn: str, subject: str | None) -> None:
        with psycopg.connect(app_dsn) as runtime, pytest.raises(errors.InvalidParameterValue):
            runtime.execute("SELECT audit_erase(%s)", [subject])

    def test_erases_outside_of_a_transaction(self) -> None:
        with pytest.raises(audit.NotInTransaction):
            erasure.erase("p", by=BY, reason="x")

        assert not SubjectKey.objects.filter(destroyed_at__isnull=False).exists()

    def test_erases_somebody_else_with_it(self) -> None:
        user, _by = person()
        other = UserFactory.create()
        before = kept(str(other.pk))

        assert erase(str(user.pk)) > 0
        assert kept(str(other.pk)) == before > 0

    def test_bends_the_function_by_a_search_path(self, app_dsn: str) -> None:
        with psycopg.connect(app_dsn) as runtime:
            runtime.execute("CREATE TEMPORARY TABLE subject_key (subject text, wrapped bytea)")
            runtime.execute("CREATE TEMPORARY TABLE audit_personal (subject text)")
            runtime.execute("SET search_path = pg_temp, public")
            assert runtime.execute("SELECT audit_erase('p')").fetchone() == (0,)
            runtime.execute("SET search_path = public")
            row = runtime.execute("SELECT wrapped FROM public.subject_key WHERE subject = 'p'").fetchone()

        assert row == (None,)

    def test_may_erase_around_the_function(self, app_dsn: str) -> None:
        person()
        for statement in (
            "UPDATE subject_key SET wrapped = NULL, destroyed_at = now()",
            "SELECT set_config('mestore.erasing', '*', true); DELETE FROM audit_personal",
        ):
            with psycopg.connect(app_dsn) as runtime, pytest.raises(errors.InsufficientPrivilege):
                runtime.execute(statement)

    def test_may_delete_once_the_function_is_done(self, owner_dsn: str) -> None:
        user, _by = person()
        with psycopg.connect(owner_dsn) as owner:
            owner.execute("SELECT audit_erase(%s)", [str(user.pk)])
            row = owner.execute("SELECT current_setting('mestore.erasing', true)").fetchone()

        assert row == ("",)


class TestErased:
    def test_values_are_nowhere_and_everything_still_proves_itself(self, tmp_path: Path) -> None:
        user, _by = person()
        subject = str(user.pk)
        sequencer.drain()
        told = event(events.SIGNED_OUT, subject)
        sealed, key = bytes(told.pii_ct or b""), subjects.read_keys([subject])[subject]
        assert EMAIL.encode() in leaves.open_personal(sealed, key=key, event_id=told.id)
        before = proofs.of_event(told.id).text()
        had = kept(subject)
        assert _dumped(EMAIL) == {"accounts_user", "audit_personal"}

        with transaction.atomic():
            assert erasure.erase(subject, by=BY, reason="asked in writing") == had > 0
            User.objects.filter(pk=user.pk).delete()
        sequencer.drain()

        # What is in the database, with whatever keys are in it.
        assert kept(subject) == 0
        assert subjects.read_keys([subject]) == {}
        for value in (NAME, EMAIL, ADDRESS):
            assert _dumped(value) == set()
        # The proof that was made before, and one made now.
        for text in (before, proofs.of_event(told.id).text()):
            _checks_offline(tmp_path, text)
        (result,) = verifications.verify(Plan(Mode.FULL), by=actor.system("test"))
        assert result.found.faults == []
        assert "erased" in result.found.notes[0].what
        # People.
        assert selectors.event_detail(told.id, reveal_personal=True).personal_state == "erased"
        captured = AuditEvent.objects.filter(type="capture.insert", target_id=subject).latest("occurred_at")
        shown = revealing.reveal(captured, reason="a look", by=BY)
        assert (shown.state, shown.values) == ("erased", [])
        assert "email.after" in shown.erased

    def test_it_is_an_event_that_says_whom_and_how_many_and_why(self) -> None:
        user, _by = person()
        values = erase(str(user.pk))

        told = event(events.AUDIT_SUBJECT_ERASED, "staff-1")
        said = json.loads(bytes(told.canon))
        assert (told.target_type, told.target_id) == ("person", str(user.pk))
        assert said["data"] == {"values": values, "reason": "asked in writing"}
        assert said["subject"] == "staff-1"
        assert NAME not in str(said)
        assert EMAIL not in str(said)

    def test_once_more_takes_nothing_and_keeps_the_first_day(self) -> None:
        user, _by = person()
        erase(str(user.pk))
        day = SubjectKey.objects.get(subject=str(user.pk)).destroyed_at

        assert erase(str(user.pk)) == 0
        assert SubjectKey.objects.get(subject=str(user.pk)).destroyed_at == day

    def test_an_erasure_that_is_rolled_back_erased_nothing(self) -> None:
        user, by = person()
        had = kept(str(user.pk))
        with transaction.atomic():
            erasure.erase(str(user.pk), by=BY, reason="a mistake")
            transaction.set_rollback(True)

        assert kept(str(user.pk)) == had > 0
        with transaction.atomic():
            told = audit.record(events.SIGNED_OUT, by=by)
        assert selectors.event_detail(told, reveal_personal=True).personal["address"] == ADDRESS

    def test_who_was_never_heard_of_gets_no_key_later(self) -> None:
        subject = str(ids.uuid7())
        assert erase(subject) == 0

        user = UserFactory.create(id=UUID(subject), email=EMAIL)
        assert kept(subject) == 0
        assert subjects.keys_for([subject]) == {}
        assert str(user.pk) == subject

    def test_events_go_on_without_anything_personal_in_the_same_transaction_too(self) -> None:
        user, by = person()
        with transaction.atomic(), context.acting(by):
            erasure.erase(str(user.pk), by=by, reason="their own wish")
            with audit.together():
                audit.record(events.SIGNED_OUT, by=by, personal={"name": NAME})
                audit.record(events.SIGNED_OUT, by=BY)
            User.objects.filter(pk=user.pk).update(nombre="Zerafina II")

        told = AuditEvent.objects.filter(actor_id=str(user.pk)).order_by("-occurred_at")[:3]
        assert [row.pii_ct for row in told] == [None] * 3
        assert kept(str(user.pk)) == 0

    def test_a_mail_that_is_sent_later_is_recorded_without_their_name(self) -> None:
        user, by = person()
        with transaction.atomic():
            queued = delivery.notify(user, "password_changed", {}, by=by)
        erase(str(user.pk))

        assert [delivery.send(message) for message in queued] == [True]
        with transaction.atomic():
            (late,) = delivery.notify(user, "password_changed", {}, by=by)
        assert delivery.send(late)

        told = AuditEvent.objects.filter(type=events.MESSAGE_QUEUED).order_by("occurred_at")
        assert [row.pii_ct is None for row in told] == [False, True]

    def test_an_export_with_personal_values_says_erased(self) -> None:
        user, _by = person()
        erase(str(user.pk))
        sequencer.drain()

        text = "".join(batch.text() for batch in made(Format.JSONL, personal=True))

        assert '"erased"' in text
        assert EMAIL not in text
        assert "Olga Officer" in text


class TestRace:
    def test_many_erasures_are_one(self, race: Race) -> None:
        user, _by = person()
        had = kept(str(user.pk))

        answers = race([in_a_thread(lambda: erase(str(user.pk)))] * 6)

        assert sorted(answers) == [0] * 5 + [had]

    def test_writers_of_the_same_person_leave_nothing_behind(self, race: Race) -> None:
        user, by = person()

        def write() -> None:
            for number in range(10):
                with transaction.atomic(), context.acting(by):
                    audit.record(events.SIGNED_OUT, by=by, personal={"name": NAME})
                    User.objects.filter(pk=user.pk).update(nombre=f"{NAME} {number}")

        answers = race([in_a_thread(write)] * 4 + [in_a_thread(lambda: erase(str(user.pk)))])

        assert answers[:4] == [None] * 4
        assert isinstance(answers[4], int)
        assert kept(str(user.pk)) == 0
        assert subjects.read_keys([str(user.pk)]) == {}
        assert AuditEvent.objects.filter(type=events.SIGNED_OUT, actor_id=str(user.pk)).count() == 41

    def test_a_value_that_is_not_committed_yet_is_waited_for(self, race: Race) -> None:
        """The writer began before the erasure and commits after it was asked for."""
        user, _by = person()
        wrote, asked = Event(), Event()

        def write() -> None:
            with transaction.atomic():
                User.objects.filter(pk=user.pk).update(nombre="Zerafina II")
                wrote.set()
                asked.wait(120)
                _until_somebody_waits()

        def late() -> int:
            wrote.wait(120)
            asked.set()
            return erase(str(user.pk))

        answers = race([in_a_thread(write), in_a_thread(late)])

        assert answers[0] is None
        assert answers[1] > 0
        assert kept(str(user.pk)) == 0

    def test_a_first_key_that_is_made_meanwhile_is_destroyed(self, race: Race) -> None:
        subject = str(ids.uuid7())

        def ask() -> int:
            return len(subjects.keys_for([subject]))

        answers = race([in_a_thread(ask)] * 4 + [in_a_thread(lambda: erase(subject))])

        assert not [answer for answer in answers if isinstance(answer, BaseException)]
        assert SubjectKey.objects.get(subject=subject).wrapped is None


def _until_somebody_waits() -> None:
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    for _ in range(100_000):
        if sql.fetch_all(waits)[0][0]:
            return
    raise AssertionError("the erasure did not wait for the writer")


def _dumped(value: str) -> set[str]:
    """The tables in which a dump of the database would show `value`."""
    found = set()
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    connections["owner"].ensure_connection()
    for (table,) in sql.fetch_all(tables, using="owner"):
        query = sql.compose("COPY (SELECT * FROM {t}) TO STDOUT (FORMAT binary)", t=table)
        with connections["owner"].connection.cursor() as cursor, cursor.copy(query) as out:
            if value.encode() in b"".join(bytes(block) for block in out):
                found.add(table)
    return found


def _checks_offline(folder: Path, text: str) -> None:
    file = folder / "event.tlog-proof"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(VERIFIER), str(file), "--key", str(checkpoints.verifier(1))],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False, env={},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
