"""What is recorded, when it stays, and what it does not show."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from mestore.lib import actor, crypto, errors, sql
from monitoring import audit, events, leaves, subjects
from monitoring.models import AuditEvent, AuditPending
from tests.monitoring.people import ADDRESS, AGENT, EMAIL, person

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
committing = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])


def _document(event_id: UUID, using: str = "default") -> dict[str, Any]:
    return dict(json.loads(bytes(AuditEvent.objects.using(using).get(id=event_id).canon)))


class TestWrongUse:
    @committing
    def test_outside_of_a_transaction_is_refused(self) -> None:
        with pytest.raises(audit.NotInTransaction):
            audit.record(events.USER_CREATED, by=person())
        with pytest.raises(audit.NotInTransaction):
            audit.record_many([audit.Entry(events.USER_CREATED, by=person())])

        assert not AuditEvent.objects.exists()

    def test_unknown_event_is_refused(self) -> None:
        with pytest.raises(events.UnknownEvent):
            audit.record("something.happened", by=person())

    def test_data_of_a_type_nobody_meant_to_record_is_refused(self) -> None:
        with pytest.raises(TypeError, match="object"):
            audit.record(events.USER_CREATED, by=person(), data={"thing": object()})

    def test_bytes_are_refused_they_are_a_secret_or_a_mistake(self) -> None:
        with pytest.raises(TypeError, match="bytes"):
            audit.record(events.USER_CREATED, by=person(), data={"key": b"123"})


class TestTogether:
    def test_one_statement_writes_what_several_modules_recorded(self) -> None:
        with transaction.atomic(), CaptureQueriesContext(connection) as sent, audit.together():
            first = audit.record(events.USER_CREATED, by=person())
            with audit.together():
                audit.record_many([audit.Entry(events.USER_UPDATED, by=person())] * 2)
            assert not AuditEvent.objects.exists()

        assert sum("audit_write(" in query["sql"] for query in sent) == 1
        assert AuditEvent.objects.count() == AuditPending.objects.count() == 3
        assert AuditEvent.objects.filter(pk=first, type=events.USER_CREATED).exists()

    def test_canonical_bytes_reach_the_trail_as_they_were_made(self) -> None:
        """They stand unescaped in what the statement takes: no text of theirs may end them, or change."""
        texts = (
            '"}}], "canon": {"',
            "\\\\u0000 \\",
            "\x01\x1f\x7f\t\n\u2028",
            "é 😀 \ufeff",
            " {} , [] ",
            "null",
        )
        rows = audit.batch(
            [audit.Entry(events.USER_CREATED, person(), data={text: [text, {text: 1}]}) for text in texts]
        ).rows

        with transaction.atomic():
            audit._write_many(rows)

        written = AuditEvent.objects.order_by("id").values_list("id", "canon", "leaf_hash")
        assert [(key, bytes(canon)) for key, canon, _hash in written] == [
            (row[0], row[audit._CANON]) for row in rows
        ]
        for _key, canon, leaf_hash in written:
            assert bytes(leaf_hash) == leaves.leaf_hash(bytes(canon))

    def test_what_fails_inside_writes_nothing_and_leaves_nothing_behind(self) -> None:
        def fail() -> None:
            audit.record(events.USER_CREATED, by=person())
            raise errors.Forbidden

        with pytest.raises(errors.Forbidden), transaction.atomic(), audit.together():
            fail()
        with transaction.atomic():
            audit.record(events.USER_UPDATED, by=person())

        assert list(AuditEvent.objects.values_list("type", flat=True)) == [events.USER_UPDATED]

    def test_refusal_is_written_at_once(self) -> None:
        with transaction.atomic(), audit.together():
            refusal = audit.record_refusal(events.PERMISSION_DENIED, by=person())
            assert AuditEvent.objects.using("audit").filter(pk=refusal).exists()

    @committing
    def test_outside_of_a_transaction_nothing_is_gathered(self) -> None:
        with pytest.raises(audit.NotInTransaction), audit.together():
            raise AssertionError("never reached")

    def test_nothing_recorded_is_nothing_written(self) -> None:
        with transaction.atomic(), CaptureQueriesContext(connection) as sent, audit.together():
            pass

        assert not any("audit_event" in query["sql"] for query in sent)


class TestTransactions:
    @committing
    def test_rolled_back_change_leaves_no_event_but_its_refusal_stays(self) -> None:
        refusals: list[UUID] = []

        def refuse() -> None:
            audit.record(events.USER_CREATED, by=person())
            refusals.append(audit.record_refusal(events.PERMISSION_DENIED, by=person()))
            raise errors.Forbidden

        with pytest.raises(errors.Forbidden), transaction.atomic():
            refuse()

        assert list(AuditEvent.objects.values_list("id", flat=True)) == refusals
        assert list(AuditPending.objects.values_list("id", flat=True)) == refusals

    @committing
    def test_committed_change_leaves_its_event_and_a_place_in_the_queue(self) -> None:
        with transaction.atomic():
            event_id = audit.record(events.USER_CREATED, by=person(), target=("user", "7"))

        event = AuditEvent.objects.get()
        assert (event.id, event.type, event.outcome) == (event_id, "user.created", "SUCCESS")
        assert AuditPending.objects.get().occurred_at == event.occurred_at

    @committing
    def test_sixty_four_threads_lose_nothing(self) -> None:
        start = threading.Barrier(64)
        made: list[UUID] = []
        failed: list[BaseException] = []

        def write() -> None:
            by = person()
            start.wait(120)
            try:
                with transaction.atomic():
                    made.append(audit.record(events.USER_CREATED, by=by))
                made.append(audit.record_refusal(events.PERMISSION_DENIED, by=by))
            except BaseException as error:  # noqa: BLE001 - reported below, whatever it is
                failed.append(error)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=write) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert not failed
        assert len(made) == 128
        assert set(AuditEvent.objects.values_list("id", flat=True)) == set(made)
        assert set(AuditPending.objects.values_list("id", flat=True)) == set(made)

    def test_one_event_is_one_statement(self, django_assert_num_queries: Any) -> None:
        by = person()
        audit.record(events.USER_CREATED, by=by)  # makes the key of a person seen for the first time

        with django_assert_num_queries(1):
            audit.record(events.USER_CREATED, by=by)

    def test_a_thousand_events_are_one_statement(self, django_assert_num_queries: Any) -> None:
        rows = [
            audit.Entry(events.ORDER_RECORDED, by=actor.system("import"), target=("order", str(number)))
            for number in range(1_000)
        ]

        with django_assert_num_queries(1):
            audit.record_many(rows)

        assert AuditEvent.objects.filter(type=events.ORDER_RECORDED).count() == 1_000
        assert AuditPending.objects.count() == 1_000

    def test_no_events_are_no_statement(self, django_assert_num_queries: Any) -> None:
        with django_assert_num_queries(0):
            audit.record_many([])


class TestFailClosed:
    @committing
    def test_refusal_that_cannot_be_written_becomes_a_service_failure(self, settings: Any) -> None:
        broken: Any = connections["audit"]
        port = broken.settings_dict["PORT"]
        broken.close()
        pool, options = broken.pool, broken.settings_dict["OPTIONS"]
        patience = options["pool"]["timeout"]
        broken.settings_dict["PORT"] = "1"
        broken._connection_pools.pop("audit", None)
        options["pool"]["timeout"] = 0.2
        try:
            with pytest.raises(errors.SecurityServiceFailure):
                audit.record_refusal(events.PERMISSION_DENIED, by=actor.system("test"))
        finally:
            broken.close()
            broken.pool.close()
            broken.settings_dict["PORT"] = port
            options["pool"]["timeout"] = patience
            broken._connection_pools["audit"] = pool

    @committing
    def test_refusal_survives_a_connection_that_died(self, superuser_dsn: str) -> None:
        audit.record_refusal(events.PERMISSION_DENIED, by=actor.system("test"))
        row = sql.fetch_one("SELECT pg_backend_pid()", using="audit")
        assert row is not None
        with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", row)

        audit.record_refusal(events.PERMISSION_DENIED, by=actor.system("test"))

        assert AuditEvent.objects.count() == 2

    @committing
    def test_answer_lost_after_the_commit_is_no_second_event(self, monkeypatch: pytest.MonkeyPatch) -> None:
        send = sql.execute
        attempts: list[int] = []

        def lose_first_answer(*args: Any, **kwargs: Any) -> int:
            written = send(*args, **kwargs)
            attempts.append(written)
            if len(attempts) == 1:
                raise OperationalError("server closed the connection unexpectedly")
            return written

        monkeypatch.setattr(sql, "execute", lose_first_answer)
        event_id = audit.record_refusal(events.PERMISSION_DENIED, by=actor.system("test"))

        assert AuditEvent.objects.get().id == event_id


class TestBytes:
    def test_leaf_hash_is_the_same_in_python_and_sql(self) -> None:
        event_id = audit.record(events.USER_CREATED, by=person(), data={"ciudad": "Bogotá", "n": 3})

        event = AuditEvent.objects.get(id=event_id)
        in_sql = sql.fetch_one(
            "SELECT sha256('\\x00'::bytea || canon) FROM audit_event WHERE id = %s", [event_id]
        )

        assert bytes(event.leaf_hash) == hashlib.sha256(b"\x00" + bytes(event.canon)).digest()
        assert bytes(event.leaf_hash) == leaves.leaf_hash(bytes(event.canon))
        assert in_sql is not None
        assert bytes(in_sql[0]) == bytes(event.leaf_hash)

    def test_writer_is_proved_by_a_key_the_database_lacks(self) -> None:
        event = AuditEvent.objects.get(id=audit.record(events.USER_CREATED, by=person()))
        canon, mac = bytes(event.canon), bytes(event.writer_mac or b"")

        assert crypto.verify_mac(canon, mac, purpose=audit.WRITER_PURPOSE)
        assert not crypto.verify_mac(canon + b" ", mac, purpose=audit.WRITER_PURPOSE)
        assert not crypto.verify_mac(canon, mac, purpose="another")

    def test_document_says_who_did_what_when(self) -> None:
        by = person()
        event_id = audit.record(events.GRANT_GIVEN, by=by, target=("user", "42"), data={"name": "users.read"})

        event = AuditEvent.objects.get(id=event_id)
        document = _document(event_id)

        assert document["id"] == str(event_id)
        assert document["at"] == event.occurred_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        assert document["event"] == "grant.given"
        assert document["outcome"] == event.outcome == "SUCCESS"
        assert document["actor"] == {"kind": "user", "id": by.id, "role": "ADMIN"}
        assert document["target"] == {"type": "user", "id": "42"}
        assert document["session"] == event.session_id == by.session_id
        assert document["request"] == "req_0123abcd"
        assert document["data"] == {"name": "users.read"}

    def test_job_is_named_in_clear_and_needs_no_key(self) -> None:
        event_id = audit.record(events.IMPORT_FINISHED, by=actor.system("import_orders"))

        assert _document(event_id)["actor"] == {"kind": "system", "name": "import_orders", "role": "SYSTEM"}
        assert AuditEvent.objects.get(id=event_id).pii_ct is None


class TestPersonalValues:
    def test_are_nowhere_in_clear(self) -> None:
        secret = "Calle 93 # 11-27"
        event_id = audit.record(events.USER_CREATED, by=person(), personal={"address": secret})

        row = sql.fetch_one(
            "SELECT e::text, encode(canon, 'escape') FROM audit_event e WHERE id = %s", [event_id]
        )
        assert row is not None
        for value in (EMAIL, ADDRESS, AGENT, secret):
            for text in (*row, bytes(AuditEvent.objects.get(id=event_id).pii_ct or b"").decode("latin-1")):
                assert value not in text
                assert value.encode().hex() not in text

    def test_are_committed_to(self) -> None:
        by = person()
        event_id = audit.record(events.USER_CREATED, by=by)

        event, document = AuditEvent.objects.get(id=event_id), _document(event_id)
        key = subjects.read_keys([document["subject"]])[document["subject"]]
        plaintext = leaves.open_personal(bytes(event.pii_ct or b""), key=key, event_id=event_id)

        assert document["subject"] == by.id
        assert document["pii_commit"] == hashlib.sha256(plaintext).hexdigest()
        assert json.loads(plaintext[leaves.NONCE_BYTES :]) == {
            "label": EMAIL,
            "address": ADDRESS,
            "agent": AGENT,
        }

    def test_same_values_are_committed_to_differently_each_time(self) -> None:
        by = person()
        first, second = (_document(audit.record(events.USER_CREATED, by=by)) for _ in range(2))

        assert first["pii_commit"] != second["pii_commit"]

    def test_events_of_several_people_in_one_statement_keep_to_their_own(self) -> None:
        first, second = person(), person()
        audit.record_many([audit.Entry(events.USER_CREATED, by=by) for by in (first, first, second, first)])

        found = []
        for event in AuditEvent.objects.order_by("id"):
            key = subjects.read_keys([str(event.actor_id)])[str(event.actor_id)]
            plaintext = leaves.open_personal(bytes(event.pii_ct or b""), key=key, event_id=event.id)
            document = _document(event.id)
            assert document["pii_commit"] == hashlib.sha256(plaintext).hexdigest()
            assert document["actor"]["id"] == document["subject"] == event.actor_id
            found.append((event.actor_id, plaintext[: leaves.NONCE_BYTES]))

        assert [who for who, _nonce in found] == [first.id, first.id, second.id, first.id]
        assert len({nonce for _who, nonce in found}) == 4

    def test_do_not_open_in_another_event(self) -> None:
        by = person()
        first, second = (audit.record(events.USER_CREATED, by=by) for _ in range(2))
        key = subjects.read_keys([str(by.id)])[str(by.id)]

        with pytest.raises(crypto.Unreadable):
            leaves.open_personal(
                bytes(AuditEvent.objects.get(id=first).pii_ct or b""), key=key, event_id=second
            )

    def test_belong_to_the_named_subject(self) -> None:
        event_id = audit.record(events.USER_DEACTIVATED, by=person(), subject="somebody-else")

        assert _document(event_id)["subject"] == "somebody-else"

    def test_of_a_stranger_belong_to_the_month(self) -> None:
        stranger = actor.Actor(kind="anonymous", address=ADDRESS)
        event_id = audit.record_refusal(events.SIGN_IN_FAILED, by=stranger, personal={"email": EMAIL})

        event = AuditEvent.objects.using("audit").get(id=event_id)
        assert _document(event_id, "audit")["subject"] == f"anonymous-{event.occurred_at:%Y-%m}"
        assert EMAIL not in bytes(event.canon).decode()

    @committing
    def test_dump_of_the_database_holds_no_address(self, owner_dsn: str) -> None:
        with transaction.atomic():
            audit.record(events.USER_CREATED, by=person(), personal={"email": EMAIL})

        with psycopg.connect(owner_dsn) as owner, owner.cursor() as cursor:
            for table in ("audit_event", "audit_pending", "subject_key"):
                with cursor.copy(f"COPY (SELECT * FROM {table}) TO STDOUT") as copy:  # noqa: S608
                    dump = b"".join(bytes(block) for block in copy)
                assert dump
                for value in (EMAIL, ADDRESS, AGENT):
                    assert value.encode() not in dump
                    assert value.encode().hex().encode() not in dump


HOSTILE = [
    "x" * 1_000_000,
    "nul\x00inside",
    "lone \ud800 surrogate",
    "emoji \U0001f4a3 and \u202e override",
    "'; DROP TABLE audit_event; --",
    "%s %(name)s {format}",
    "\\x00",
    "line\nbreak\r\t",
]


class TestHostileInput:
    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    def test_is_recordable_wherever_it_stands(self, text: str) -> None:
        by = actor.Actor("user", text, text, text, text, text, text, text)

        event_id = audit.record_refusal(
            events.SIGN_IN_FAILED,
            by=by,
            target=(text, text),
            data={text: text},
            personal={text: text},
            subject=text,
        )

        event = AuditEvent.objects.using("audit").get(id=event_id)
        assert len(event.canon) < leaves.MAX_DATA
        assert event.actor_id is not None
        assert len(event.actor_id) <= leaves.MAX_LABEL
        assert json.loads(bytes(event.canon))["actor"]["id"] == event.actor_id

    def test_too_much_data_is_replaced_by_its_digest(self) -> None:
        event_id = audit.record(
            events.IMPORT_FINISHED, by=actor.system("t"), data={str(n): "y" * 900 for n in range(150)}
        )

        data = _document(event_id)["data"]
        assert data["omitted_bytes"] > leaves.MAX_DATA
        assert len(data["sha256"]) == 64

    def test_too_many_personal_values_are_replaced_by_their_digest(self) -> None:
        by = person()
        event_id = audit.record(events.USER_CREATED, by=by, personal={str(n): "y" * 900 for n in range(150)})

        assert len(AuditEvent.objects.get(id=event_id).pii_ct or b"") < 1_000


class TestErasedSubjects:
    @committing
    def test_events_about_them_are_written_without_anything_personal(self) -> None:
        by = person()
        with transaction.atomic():
            audit.record(events.USER_CREATED, by=by)
        sql.execute(
            "UPDATE subject_key SET wrapped = NULL, destroyed_at = now() WHERE subject = %s",
            [by.id],
            using="owner",
        )

        # This process still holds the key: the statement itself has to notice.
        with transaction.atomic():
            first = audit.record(events.USER_REACTIVATED, by=by)
        with transaction.atomic():
            audit.record_many([audit.Entry(events.USER_REACTIVATED, by=who) for who in (by, person(), by)])
        refused = audit.record_refusal(events.SIGN_IN_FAILED, by=by)
        subjects.forget_cached_keys()
        with transaction.atomic():
            audit.record(events.USER_REACTIVATED, by=by)

        for event_id in (first, refused):
            assert not {"subject", "pii_commit"} & _document(event_id).keys()
        about = AuditEvent.objects.filter(actor_id=by.id).exclude(type=events.USER_CREATED)
        assert [row.pii_ct for row in about] == [None] * 5
        assert AuditEvent.objects.filter(pii_ct__isnull=False).count() == 2
        assert AuditPending.objects.count() == 7
