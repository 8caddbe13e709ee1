"""When the trail takes no rows: what changes something is refused, refused sign-ins of the public wait."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connections, transaction
from rest_framework.test import APIClient

from mestore.lib import actor, errors, sql
from monitoring import audit, erasure, events, health, pipeline, readiness, spool
from monitoring.models import AuditEvent, Signal
from tests.factories import accounts as factories

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

BY = actor.system("test")
LOGIN = "/api/v1/auth/login"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.AUDIT_SPOOL = str(tmp_path / "spool")
    return tmp_path / "spool"


REFUSE = """
CREATE FUNCTION public.refuse_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'permission denied for table audit_event'
        USING ERRCODE = 'insufficient_privilege', SCHEMA = 'public', TABLE = 'audit_event';
END $$;
CREATE TRIGGER refuse_events BEFORE INSERT ON public.audit_event FOR EACH ROW
    WHEN (NEW.writer_mac IS NOT NULL) EXECUTE FUNCTION public.refuse_events()
"""
ACCEPT = "DROP TRIGGER refuse_events ON public.audit_event; DROP FUNCTION public.refuse_events()"


@contextmanager
def refusing(owner_dsn: str) -> Iterator[None]:
    """The table of the trail takes no rows of the service, by whatever way; everything else works."""
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        owner.execute(REFUSE)
        try:
            yield
        finally:
            owner.execute(ACCEPT)


def refuse(event: str = events.SIGN_IN_FAILED, **values: Any) -> Any:
    return audit.record_refusal(event, by=BY, may_wait=True, **values)


def recorded() -> list[Any]:
    return [row[0] for row in sql.fetch_all("SELECT id FROM audit_event WHERE type LIKE 'auth.%%'", ())]


def test_what_waits_is_in_the_trail_afterwards_once(owner_dsn: str, folder: Path) -> None:
    with refusing(owner_dsn):
        kept = [refuse(data={"n": n}) for n in range(3)]
        with pytest.raises(DatabaseError):
            audit.replay_spool()
    assert spool.waiting() == 3
    copy = {file.name: file.read_bytes() for file in folder.glob("*.event")}

    assert audit.replay_spool() == 3
    assert (sorted(recorded()), spool.waiting()) == (sorted(kept), 0)

    for name, content in copy.items():  # a worker was killed before it took them off the disk
        (folder / name).write_bytes(content)
    assert audit.replay_spool() == 3
    assert (len(recorded()), spool.waiting()) == (3, 0)


def test_about_a_person_erased_meanwhile_nothing_personal_comes_back(owner_dsn: str) -> None:
    with refusing(owner_dsn):
        kept = [refuse(subject=subject, personal={"name": "Ana"}) for subject in ("p-1", "p-2")]
    with transaction.atomic():
        erasure.erase("p-1", by=BY, reason="asked")

    assert audit.replay_spool() == 2

    gone, there = (AuditEvent.objects.get(pk=event_id) for event_id in kept)
    assert (gone.pii_ct, there.pii_ct is None) == (None, False)
    assert b"pii_commit" not in bytes(gone.canon)
    assert (sorted(recorded()), spool.waiting()) == (sorted(kept), 0)


def test_two_workers_replay_each_once(owner_dsn: str, race: Callable[..., list[Any]]) -> None:
    with refusing(owner_dsn):
        kept = [refuse() for _ in range(20)]

    outcomes = race([audit.replay_spool] * 4)

    assert all(isinstance(outcome, int) for outcome in outcomes), outcomes
    assert (sorted(recorded()), spool.waiting()) == (sorted(kept), 0)


@pytest.mark.parametrize(
    "event", sorted({events.ACCOUNT_LOCKED, events.PERMISSION_DENIED, events.SIGN_IN_SUCCEEDED})
)
def test_no_other_event_waits(owner_dsn: str, event: str) -> None:
    with refusing(owner_dsn), pytest.raises((errors.SecurityServiceFailure, ValueError)):
        refuse(event)
    assert spool.waiting() == 0


def test_a_caller_who_did_not_ask_gets_503(owner_dsn: str) -> None:
    with refusing(owner_dsn), pytest.raises(errors.SecurityServiceFailure):
        audit.record_refusal(events.SIGN_IN_FAILED, by=BY)


def test_without_a_folder_it_is_503(owner_dsn: str, settings: Any) -> None:
    settings.AUDIT_SPOOL = ""
    with refusing(owner_dsn), pytest.raises(errors.SecurityServiceFailure):
        refuse()


def test_a_full_spool_is_503(owner_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MOST", 2)
    with refusing(owner_dsn):
        refuse()
        refuse()
        with pytest.raises(errors.SecurityServiceFailure):
            refuse()
    assert spool.waiting() == 2


def test_a_database_that_is_away_is_503_and_nothing_waits() -> None:
    connection: Any = connections["audit"]
    good = connection.settings_dict
    connection.close()
    connection.settings_dict = good | {"PORT": "1", "OPTIONS": {**good["OPTIONS"], "pool": False}}
    try:
        with pytest.raises(errors.SecurityServiceFailure):
            refuse()
    finally:
        connection.close()
        connection.settings_dict = good
    assert spool.waiting() == 0


def test_files_are_for_their_owner_only_and_hold_nothing_personal(owner_dsn: str, folder: Path) -> None:
    with refusing(owner_dsn):
        refuse(personal={"name": "camila@example.com"}, subject="s")

    (file,) = folder.iterdir()
    assert (file.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    assert b"camila" not in file.read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content.replace(b"FAILURE", b"SUCCESS"),
        lambda content: b"zz" + content[2:],
        lambda content: os.urandom(300_000),
    ],
)
def test_a_file_that_is_not_ours_is_put_aside_and_told(owner_dsn: str, folder: Path, damage: Any) -> None:
    with refusing(owner_dsn):
        refuse()
    (file,) = folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))

    assert audit.replay_spool() == 0

    assert [file.suffix for file in folder.iterdir()] == [".wrong"]
    assert (pipeline.watch(), recorded()) == (1, [])
    assert Signal.objects.get().rule == "audit.spool_in_use"


def test_a_crash_in_the_middle_of_a_file_leaves_no_event(folder: Path) -> None:
    folder.mkdir()
    (folder / "abc.new").write_bytes(b"half")

    assert (spool.waiting(), audit.replay_spool()) == (0, 0)


def test_readiness_warns_while_something_waits(owner_dsn: str) -> None:
    with refusing(owner_dsn):
        refuse()
    health.forget_report()

    report = health.current_report()

    assert (report.word, report.status) == ("warn", 200)
    assert dict(report.checks)["audit"] == "events wait on the disk of this machine"
    health.forget_report()
    assert "database" not in readiness.WARNINGS


class TestOverHttp:
    """What a client gets while the trail takes no rows."""

    def test_a_wrong_password_of_a_buyer_is_answered_as_always_and_not_lost(self, owner_dsn: str) -> None:
        user = factories.BuyerFactory.create()
        with refusing(owner_dsn):
            answer = APIClient().post(
                LOGIN, {"email": user.email, "password": "not the password of anybody"}, format="json"
            )

        assert answer.status_code == 401
        assert spool.waiting() == 1
        assert audit.replay_spool() == 1

    def test_the_right_password_begins_no_session_without_its_events(self, owner_dsn: str) -> None:
        user = factories.BuyerFactory.create()
        with refusing(owner_dsn):
            answer = APIClient(raise_request_exception=False).post(
                LOGIN, {"email": user.email, "password": factories.PASSWORD}, format="json"
            )

        assert answer.status_code == 503
        assert sql.fetch_all("SELECT count(*) FROM sessions_security_usersession") == [(0,)]


def test_a_change_is_rolled_back_with_its_event(owner_dsn: str) -> None:
    user = factories.BuyerFactory.create()

    def change() -> None:
        with transaction.atomic():
            type(user).objects.filter(pk=user.pk).update(nombre="changed")
            audit.record(events.SIGNED_OUT, by=BY)

    with refusing(owner_dsn), pytest.raises(audit.NotRecorded):
        change()

    user.refresh_from_db()
    assert user.nombre != "changed"
