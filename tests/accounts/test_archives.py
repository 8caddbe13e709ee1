"""The archive of a person's own data: what is in it, what never is, who gets it, and what happens to it."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.db import OperationalError, connections, transaction
from django.utils import timezone

from accounts import archives, consents, data_requests, deletion, tasks
from accounts.models import (
    ArchivePart,
    DataRequest,
    IdentityCard,
    KnownDevice,
    User,
    VendorNote,
)
from mestore.lib import actor, crypto, own_data, resealing, sql
from mestore.lib.actor import Actor
from mestore.lib.own_data import Row, Section
from monitoring import audit, events
from monitoring.models import AuditEvent, OutboxMessage
from tests.accounts.test_consents import oneself, yes
from tests.factories.accounts import BuyerFactory, TotpDeviceFactory, VendorFactory, grant
from tests.factories.administration import REASON, acting, superuser
from tests.factories.finance import CommissionFactory, OrderFactory, OrderItemFactory
from tests.factories.sessions_security import session_of

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
committing = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
WORKER = actor.system("worker")
SOMEBODY_WAITS = """
    SELECT FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0
"""
State = DataRequest.State


def granted(user: User) -> DataRequest:
    request = data_requests.make(user, kind=DataRequest.Kind.EXPORT, by=acting(user))
    data_requests.approve(request, reason=REASON, by=acting(superuser()))
    return request


def made(user: User) -> DataRequest:
    request = granted(user)
    assert archives.build(request.pk, by=WORKER)
    found: DataRequest = DataRequest.objects.get(pk=request.pk)
    return found


def fetched(request: DataRequest) -> bytes:
    found = archives.download(request, by=WORKER)
    content = b"".join(found.content)
    assert len(content) == found.size
    return content


def files(user: User) -> dict[str, Any]:
    """What is in the archive of `user`, by name."""
    content = fetched(made(user))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name.removesuffix(".json"): json.loads(archive.read(name)) for name in archive.namelist()}


@pytest.fixture
def section() -> Iterator[Callable[[Callable[[UUID], Iterator[Row]]], None]]:
    """Contribute rows of one's own, as an app above does."""

    def add(rows: Callable[[UUID], Iterator[Row]]) -> None:
        own_data.register(Section("of_the_test", "rows of a test", rows))

    yield add
    own_data.forget("of_the_test")


# --- What is in it ----------------------------------------------------------------------------------------


def test_everything_the_house_keeps_about_a_buyer_is_in_it() -> None:
    user = BuyerFactory.create(nombre="Ñusta", ciudad="Ibagué")
    card = IdentityCard(user=user)
    card.write("1032456789")
    card.save(force_insert=True)
    KnownDevice.objects.create(
        user=user, token_hash=os.urandom(32), name="Firefox", expires_at=timezone.now() + dt.timedelta(days=1)
    )
    device = TotpDeviceFactory.create(user=user)
    session = session_of(user)
    consents.decide(user, yes("habeas_data"), by=oneself(user))
    order = OrderFactory.create(buyer=user, shipping_address="Calle 1 # 2-3")
    OrderItemFactory.create(order=order)
    OrderFactory.create(shipping_address="Carrera of somebody else")

    found = files(user)

    (account,) = found["account"]
    assert (account["nombre"], account["ciudad"], account["cedula"]) == ("Ñusta", "Ibagué", "1032456789")
    assert [row["document"] for row in found["consents"]] == ["habeas_data"]
    assert [row["id"] for row in found["sessions"]] == [str(session.pk)]
    assert {row["kind"] for row in found["security"]} == {"totp", "known_device"}
    (bought,) = found["orders"]
    assert (bought["shipping_address"], len(bought["items"])) == ("Calle 1 # 2-3", 1)
    assert bought["total"] == 134_000
    assert [row["kind"] for row in found["data_requests"]] == ["export"]
    assert "consent.given" in {row["event"] for row in found["audit_events"]}
    written = json.dumps(found)
    assert device.secret not in written
    assert user.password not in written
    assert "somebody else" not in written


def test_everything_about_a_vendor_is_in_it_but_no_buyer() -> None:
    vendor = VendorFactory.create()
    commission = CommissionFactory.create(vendor=vendor, order__shipping_name="Buyer Benítez")
    VendorNote.objects.create(vendor=vendor, text="answers late", author_label="boss@example.com")

    found = files(vendor)

    (sale,) = found["sales"]
    assert sale["order_number"] == commission.order.order_number
    assert sale["order_amount"] == 100_000
    assert {row["kind"] for row in found["shop"]} == {"shop", "note"}
    assert "Benítez" not in json.dumps(found, ensure_ascii=False)
    assert "boss@example.com" not in json.dumps(found)


def test_index_names_every_file_with_its_digest() -> None:
    user = BuyerFactory.create()
    request = made(user)
    with zipfile.ZipFile(io.BytesIO(fetched(request))) as archive:
        index = json.loads(archive.read("index.json"))
        written = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
        rows = {name: len(json.loads(archive.read(name))) for name in written if name != "index.json"}

    assert index["account"] == str(user.pk)
    del written["index.json"]
    assert {one["file"]: one["sha256"] for one in index["files"]} == written
    assert {one["file"]: one["rows"] for one in index["files"]} == rows
    assert all(one["about"] for one in index["files"])


def test_the_trail_tells_what_is_the_persons_and_not_who_did_it_to_them() -> None:
    user, boss = BuyerFactory.create(), superuser(nombre="Jefe")
    whose = str(user.pk)
    at_work = Actor(
        kind="user",
        id=str(boss.pk),
        label=boss.email,
        role="SUPERUSER",
        address="198.51.100.7",
        agent="Chrome",
    )
    with transaction.atomic():
        audit.record(
            events.USER_UPDATED,
            by=at_work,
            personal={"telefono": "+573001112233"},
            subject=whose,
            target=("user", whose),
        )
        audit.record(events.SIGNED_OUT, by=oneself(user))
        # About somebody else, by this person: no value of the other's is the person's own.
        other = BuyerFactory.create()
        audit.record(
            events.USER_UPDATED, by=oneself(user), target=("user", str(other.pk)), subject=str(other.pk),
            personal={"telefono": "+573009998877"},
        )  # fmt: skip

    found = files(user)

    rows = {(row["event"], row["by"]): row for row in found["audit_events"]}
    assert rows["user.updated", "SUPERUSER"]["personal"] == {"values": {"telefono": "+573001112233"}}
    assert rows["auth.signed_out", "oneself"]["personal"]["address"] == "203.0.113.5"
    assert "personal" not in rows["user.updated", "oneself"]
    written = json.dumps(found)
    for foreign in (boss.email, "198.51.100.7", "+573009998877", str(boss.pk)):
        assert foreign not in written, foreign


def test_what_the_staff_did_to_others_says_nothing_about_the_others() -> None:
    boss, other = superuser(), BuyerFactory.create()
    with transaction.atomic():
        for target in (("user", str(other.pk)), ("session", "somebody's")):
            audit.record(events.USER_UPDATED, by=acting(boss), target=target, data={"reason": "he lies"})
        audit.record(
            events.USER_UPDATED, by=acting(boss), target=("user", str(boss.pk)), data={"reason": "own"}
        )

    found = files(boss)

    changed = [row for row in found["audit_events"] if row["event"] == "user.updated"]
    assert [row.get("data") for row in changed] == [None, None, {"reason": "own"}]


def test_values_from_before_a_change_are_in_it() -> None:
    user = BuyerFactory.create(nombre="Antes")
    User.objects.filter(pk=user.pk).update(nombre="Después")

    values = {(row["field"], row["value"]) for row in files(user)["earlier_values"]}

    assert any(value == "Antes" for _field, value in values)


def test_permissions_are_named() -> None:
    boss = superuser("users.read.global")
    grant(boss, "users.update.global")

    rows = files(boss)["permissions"]

    assert {row["permission"] for row in rows if row["kind"] == "grant"} == {
        "users.read.global", "users.update.global",
    }  # fmt: skip


# --- At rest ----------------------------------------------------------------------------------------------


def parts_of(request: DataRequest) -> list[bytes]:
    rows = sql.fetch_all(
        "SELECT content FROM accounts_archivepart WHERE request_id = %s ORDER BY number", [request.pk]
    )
    return [bytes(row[0]) for row in rows]


def test_it_stands_sealed_and_is_what_its_digest_says() -> None:
    user = BuyerFactory.create(nombre="Zerafina")
    request = made(user)

    stored = b"".join(parts_of(request))
    content = fetched(request)

    assert content[:4] == b"PK\x03\x04"
    assert b"PK\x03\x04" not in stored
    assert base64.b64encode(content)[:40] not in stored
    assert request.archive_sha256 == hashlib.sha256(content).hexdigest()
    assert request.archive_bytes == len(content)


def test_a_part_that_was_moved_to_another_archive_does_not_open() -> None:
    mine, yours = made(BuyerFactory.create()), made(BuyerFactory.create())
    ArchivePart.objects.filter(request=mine).delete()
    ArchivePart.objects.filter(request=yours).update(request=mine)

    with pytest.raises(crypto.Unreadable):
        archives.download(mine, by=WORKER)


def test_parts_that_changed_places_do_not_open(section: Any) -> None:
    section(lambda _person: iter([{"noise": os.urandom(400_000).hex()}]))
    request = made(BuyerFactory.create())
    assert request.archive_parts is not None
    assert request.archive_parts > 2
    for number, other in ((0, 100), (1, 0), (100, 1)):
        ArchivePart.objects.filter(request=request, number=number).update(number=other)

    with pytest.raises(crypto.Unreadable):
        archives.download(request, by=WORKER)


def test_a_part_that_is_missing_is_noticed(section: Any) -> None:
    section(lambda _person: iter([{"noise": os.urandom(400_000).hex()}]))
    request = made(BuyerFactory.create())
    ArchivePart.objects.filter(request=request, number=1).delete()

    found = archives.download(request, by=WORKER)
    with pytest.raises(archives.ArchiveDamaged):
        b"".join(found.content)
    ArchivePart.objects.filter(request=request).delete()
    with pytest.raises(archives.ArchiveDamaged):
        archives.download(request, by=WORKER)


def test_parts_move_to_the_next_master_key_with_the_rest() -> None:
    assert "accounts_archivepart.content" in {place.name for place in resealing.places()}


# --- Its life ---------------------------------------------------------------------------------------------


def test_the_person_is_told_without_any_of_it() -> None:
    user = BuyerFactory.create(nombre="Zerafina")
    request = made(user)

    message = OutboxMessage.objects.filter(subject=str(user.pk)).latest("created_at")
    assert message.template == "data_archive_ready"
    assert "Zerafina" not in (message.payload or "")
    assert AuditEvent.objects.filter(type=events.DATA_ARCHIVE_MADE, target_id=str(user.pk)).count() == 1
    assert request.ready_at is not None
    assert request.expires_at == request.ready_at + archives.KEPT


def test_each_download_is_counted_recorded_and_bounded() -> None:
    user = BuyerFactory.create()
    request = made(user)

    for _ in range(archives.DOWNLOADS):
        fetched(request)
    with pytest.raises(archives.ArchiveOver):
        archives.download(request, by=WORKER)

    recorded = AuditEvent.objects.filter(type=events.DATA_ARCHIVE_DOWNLOADED, target_id=str(user.pk))
    assert recorded.count() == archives.DOWNLOADS


def test_before_it_is_made_and_after_its_week_there_is_none() -> None:
    user = BuyerFactory.create()
    request = granted(user)
    with pytest.raises(archives.NotReady):
        archives.download(request, by=WORKER)
    assert archives.build(request.pk, by=WORKER)

    long_ago = timezone.now() - dt.timedelta(days=8)
    DataRequest.objects.filter(pk=request.pk).update(ready_at=long_ago, expires_at=long_ago + archives.KEPT)
    request.refresh_from_db()
    with pytest.raises(archives.ArchiveOver):
        archives.download(request, by=WORKER)
    assert archives.purge(10, by=WORKER) == 1
    assert archives.purge(10, by=WORKER) == 0

    request.refresh_from_db()
    assert (request.state, ArchivePart.objects.count()) == ("done", 0)
    assert AuditEvent.objects.filter(type=events.DATA_ARCHIVE_PURGED, target_id=str(user.pk)).count() == 1
    with pytest.raises(archives.ArchiveOver):
        archives.download(request, by=WORKER)


def test_an_erasure_has_no_archive() -> None:
    user = BuyerFactory.create()
    request = data_requests.make(user, kind=DataRequest.Kind.ERASURE, by=acting(user))

    with pytest.raises(archives.NoArchive):
        archives.download(request, by=WORKER)
    assert not archives.build(request.pk, by=WORKER)


def test_an_archive_is_made_once() -> None:
    request = made(BuyerFactory.create())

    assert not archives.build(request.pk, by=WORKER)


@committing
def test_two_workers_with_the_same_request_make_one_archive(race: Callable[..., list[Any]]) -> None:
    request = granted(BuyerFactory.create())

    answers = race([partial(archives.build, request.pk, by=WORKER)] * 4)

    assert sorted(answers) == [False, False, False, True]
    assert DataRequest.objects.get(pk=request.pk).archive_parts == ArchivePart.objects.count()


def test_an_account_that_was_deleted_meanwhile_gets_no_archive() -> None:
    user = BuyerFactory.create()
    request = granted(user)
    deletion.delete(user, reason=REASON, by=WORKER)

    assert not archives.build(request.pk, by=WORKER)

    request.refresh_from_db()
    assert (request.state, ArchivePart.objects.count()) == ("cancelled", 0)


@committing
def test_erasing_the_person_while_their_archive_is_made_leaves_neither(
    section: Any, race: Callable[..., list[Any]]
) -> None:
    user = BuyerFactory.create()
    request = granted(user)
    begun, go_on, removed = threading.Event(), threading.Event(), threading.Event()

    def slowly(_person: UUID) -> Iterator[Row]:
        yield {"half": "done"}
        begun.set()
        assert go_on.wait(60)
        yield {"half": "two"}

    section(slowly)

    def let_go() -> None:
        """Once the erasure waits for the archive, or is over."""
        while not sql.fetch_all(SOMEBODY_WAITS) and not removed.is_set():
            pass
        go_on.set()

    def remove() -> Any:
        assert begun.wait(60)
        try:
            while True:
                try:
                    return deletion.erase(user.pk, reason=REASON, confirmed=True, by=WORKER, may_be_open=True)
                except OperationalError:  # it waited for as long as a lock is waited for: once more
                    assert User.objects.filter(pk=user.pk).exists()
        finally:
            removed.set()

    answers = race([partial(archives.build, request.pk, by=WORKER), remove, let_go])

    assert answers[0] is True
    assert isinstance(answers[1], deletion.Dependencies), answers
    assert not User.objects.filter(pk=user.pk).exists()
    assert (DataRequest.objects.get(pk=request.pk).state, ArchivePart.objects.count()) == ("done", 0)


def test_one_that_cannot_be_made_keeps_no_other_waiting(section: Any) -> None:
    poor, fine = BuyerFactory.create(), BuyerFactory.create()
    requests = [granted(poor), granted(fine)]

    def rows(person_id: UUID) -> Iterator[Row]:
        yield {"fine": 1 // (person_id != poor.pk)}

    section(rows)

    assert archives.build_waiting(10, by=WORKER) == 1
    assert [DataRequest.objects.get(pk=one.pk).state for one in requests] == ["building", "ready"]
    assert set(ArchivePart.objects.values_list("request_id", flat=True)) == {requests[1].pk}


def test_the_periodic_job_makes_what_waits_and_deletes_what_is_over() -> None:
    old, waiting = made(BuyerFactory.create()), granted(BuyerFactory.create())
    long_ago = timezone.now() - dt.timedelta(days=8)
    DataRequest.objects.filter(pk=old.pk).update(ready_at=long_ago, expires_at=long_ago + archives.KEPT)

    assert tasks.own_data_archives() == 2

    states = dict(DataRequest.objects.values_list("pk", "state"))
    assert states == {old.pk: "done", waiting.pk: "ready"}


# --- A bad day, and a huge account ------------------------------------------------------------------------

HALF = """
import sys, uuid
import django; django.setup()
from accounts import archives
from mestore.lib import actor, own_data

def rows(person):
    import os
    yield {"noise": os.urandom(1_000_000).hex()}
    print("half", flush=True)
    sys.stdin.read()
    yield {}

own_data.register(own_data.Section("of_the_test", "rows of a test", rows))
archives.build(uuid.UUID(sys.argv[1]), by=actor.system("worker"))
"""


@committing
def test_a_worker_that_is_killed_in_the_middle_leaves_nothing_and_the_next_one_does_it() -> None:
    request = granted(BuyerFactory.create())
    worker = subprocess.Popen(
        [sys.executable, "-c", HALF, str(request.pk)], cwd=settings.BASE_DIR, text=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "mestore.settings"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert worker.stdout is not None
        lines = iter(worker.stdout.readline, "")
        assert "half\n" in lines
        # Somebody else has it: others neither wait nor begin.
        assert archives.build_waiting(10, by=WORKER) == 0
    finally:
        worker.kill()
        code = worker.wait()
    assert code == -signal.SIGKILL
    with transaction.atomic():  # waits until the server has noticed, which ends the dead worker's transaction
        DataRequest.objects.select_for_update().get(pk=request.pk)

    assert DataRequest.objects.get(pk=request.pk).state == "building"
    assert ArchivePart.objects.count() == 0
    assert archives.build_waiting(10, by=WORKER) == 1

    request.refresh_from_db()
    with zipfile.ZipFile(io.BytesIO(fetched(request))) as archive:
        assert archive.testzip() is None
    connections.close_all()


def test_memory_does_not_grow_with_the_account(section: Any) -> None:
    rows = 8_000
    section(lambda _person: ({"noise": os.urandom(2_400).hex()} for _ in range(rows)))
    request = granted(BuyerFactory.create())

    tracemalloc.start()
    try:
        assert archives.build(request.pk, by=WORKER)
        request.refresh_from_db()
        size = sum(len(part) for part in archives.download(request, by=WORKER).content)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size == request.archive_bytes
    assert size > 18_000_000
    assert peak < 6_000_000


def test_a_long_trail_is_read_in_pages(django_assert_max_num_queries: Any) -> None:
    user = BuyerFactory.create()
    by = oneself(user)
    with transaction.atomic():
        for _ in range(3):
            audit.record_many([audit.Entry(events.SIGNED_OUT, by, data={"n": n}) for n in range(500)])
    trail = next(one for one in own_data.sections() if one.name == "audit_events")

    with django_assert_max_num_queries(6), transaction.atomic():
        rows = list(trail.rows(user.pk))

    assert sum(row["event"] == "auth.signed_out" for row in rows) == 1_500


# --- The registry -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["index", "", "A", "../etc", "a/b", "x" * 41, "ñu"])
def test_a_section_is_named_like_a_file_of_the_archive(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        own_data.register(Section(name, "", lambda _person: iter(())))


def test_a_name_is_taken_once() -> None:
    with pytest.raises(RuntimeError, match="registered already"):
        own_data.register(Section("account", "another", lambda _person: iter(())))


def test_every_app_contributes() -> None:
    assert {"account", "consents", "sessions", "sign_ins", "orders", "sales", "audit_events"} <= {
        one.name for one in own_data.sections()
    }
