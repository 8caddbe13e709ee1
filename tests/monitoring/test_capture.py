"""Whatever changes a watched row leaves an event: a model, a bulk operation, SQL of ours or of others."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.apps import apps
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from psycopg import errors

from accounts.models import Permission, User
from mestore.lib import ids, sql
from mestore.lib.actor import Actor
from mestore.management.commands import worker
from monitoring import capture, context, events, sequencer
from monitoring.database.counting import count_statements
from monitoring.models import AuditEvent
from tests.factories.accounts import UserFactory
from tests.monitoring.people import ADDRESS, person

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

MANY = 2_000
USER = "accounts_user"


def captured(code: str, table: str = USER) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(type=code, target_type=table).order_by("id"))


def document(event: AuditEvent) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(event.canon))
    return found


def people(count: int) -> list[User]:
    return [UserFactory.build(email=f"many{n}@example.com") for n in range(count)]


def everything_said(dsn: str) -> str:
    """All bytes of all events, as text and as hexadecimal."""
    with psycopg.connect(dsn) as reader:
        rows = reader.execute("SELECT convert_from(canon, 'UTF8'), e::text FROM audit_event e").fetchall()
    return "\n".join(f"{canon}\n{row}" for canon, row in rows)


class TestManyRows:
    """What application-level trails record nothing of."""

    def check(self, code: str, by: Actor) -> None:
        found = captured(code)
        assert len(found) == MANY
        assert len({event.target_id for event in found}) == MANY
        assert {
            (e.actor_kind, e.actor_id, e.actor_role, e.session_id, e.request_id, e.outcome) for e in found
        } == {("user", by.id, "ADMIN", by.session_id, by.request_id, "SUCCESS")}
        assert [e.occurred_at for e in found] == sorted(e.occurred_at for e in found)
        kept = sql.fetch_all(
            "SELECT value, subject FROM audit_personal WHERE name = 'actor.address' AND event_id = ANY(%s)",
            [[event.id for event in found]],
        )
        assert set(kept) == {(json.dumps(ADDRESS), by.id)}
        assert len(kept) == MANY

    def test_every_way_of_changing_them_is_captured_row_by_row(self) -> None:
        by = person()
        with context.acting(by), transaction.atomic():
            User.objects.bulk_create(people(MANY))
        self.check("capture.insert", by)

        with context.acting(by), transaction.atomic():
            User.objects.all().update(language="en")
        self.check("capture.update", by)

        rows = list(User.objects.all())
        for row in rows:
            row.security_clearance_level = 2
        by = person()
        before = {event.id for event in captured("capture.update")}
        with context.acting(by), transaction.atomic():
            User.objects.bulk_update(rows, ["security_clearance_level"])
        bulk = [event for event in captured("capture.update") if event.id not in before]
        assert len(bulk) == MANY
        assert {event.actor_id for event in bulk} == {by.id}
        assert document(bulk[0])["data"]["changes"]["security_clearance_level"]["after"] == 2

        with context.acting(by), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("DELETE FROM accounts_user")
        self.check("capture.delete", by)
        assert sequencer.drain() == 4 * MANY


def test_model_saved_changed_and_deleted_is_told_with_its_types(owner_dsn: str) -> None:
    by = person()
    with context.acting(by), transaction.atomic():
        user = UserFactory.create(email="before@example.com", is_active=True)
        user.is_active, user.email, user.auth_epoch = False, "after@example.com", user.auth_epoch + 7
        user.save(update_fields=["is_active", "email", "auth_epoch"])
        key = str(user.pk)
        user.delete()

    (made,), (changed,), (gone,) = (
        captured(code) for code in ("capture.insert", "capture.update", "capture.delete")
    )

    assert made.target_id == changed.target_id == gone.target_id == key
    said = document(changed)
    assert said["data"]["changes"]["is_active"] == {"before": True, "after": False}
    numbers = said["data"]["changes"]["auth_epoch"]
    assert numbers["after"] - numbers["before"] == 7
    assert set(said["data"]["personal"]) == {"email.before", "email.after"}
    assert said["subject"] == key
    assert said["actor"]["id"] == by.id
    assert "before" not in document(made)["data"]["changes"]["is_active"]
    assert document(gone)["data"]["changes"]["is_active"] == {"before": False}
    assert "@example.com" not in everything_said(owner_dsn)


def test_personal_value_proves_itself_against_the_event() -> None:
    with transaction.atomic():
        user = UserFactory.create(email="commitment@example.com")

    (event,) = captured("capture.insert")
    (row,) = sql.fetch_all(
        "SELECT nonce, value, subject FROM audit_personal WHERE event_id = %s AND name = 'email.after'",
        [event.id],
    )
    nonce, value, subject = bytes(row[0]), row[1], row[2]

    assert (json.loads(value), subject) == ("commitment@example.com", str(user.pk))
    said = document(event)["data"]["personal"]["email.after"]
    assert hashlib.sha256(nonce + value.encode()).hexdigest() == said
    assert len(nonce) == 16


def test_secret_is_in_no_event_in_any_encoding(owner_dsn: str) -> None:
    with transaction.atomic():
        user = UserFactory.create(password="argon2$first-secret-value")
        User.objects.filter(pk=user.pk).update(password="argon2$second-secret-value")

    assert document(captured("capture.update")[0])["data"]["secret"] == ["password"]
    said = everything_said(owner_dsn)
    for secret in ("first-secret-value", "second-secret-value"):
        for form in (secret, secret.encode().hex(), hashlib.sha256(secret.encode()).hexdigest()):
            assert form not in said
    assert not sql.fetch_all("SELECT 1 FROM audit_personal WHERE value LIKE '%secret-value%'")


def test_update_that_changes_nothing_or_only_what_is_ignored_writes_nothing() -> None:
    with transaction.atomic():
        user = UserFactory.create()
        User.objects.filter(pk=user.pk).update(email=user.email, is_active=user.is_active)
        User.objects.filter(pk=user.pk).update(last_login=user.created_at)

    assert captured("capture.update") == []


def test_columns_and_bytes_say_the_same_and_hash_to_the_leaf() -> None:
    by = person()
    with context.acting(by), transaction.atomic():
        UserFactory.create()

    (event,) = captured("capture.insert")
    said = document(event)

    assert hashlib.sha256(b"\x00" + bytes(event.canon)).digest() == bytes(event.leaf_hash)
    assert event.writer_mac is None
    assert (said["id"], said["event"], said["outcome"]) == (str(event.id), event.type, event.outcome)
    assert said["at"] == event.occurred_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert said["target"] == {"type": event.target_type, "id": event.target_id}
    assert (said["session"], said["request"]) == (by.session_id, by.request_id)
    assert said["database"]["application"] == "mestore"


# Names and values that a text put together by hand would get wrong.
ODD = """
CREATE TABLE public.odd (
    a int, "b ""c" text, doc jsonb, large text, mail text, hidden text, "ü" text, PRIMARY KEY (a, "b ""c"));
SELECT public.audit_watch('public.odd', '{"key": ["a", "b \\"c"], "subject": null, "columns": {
    "a": "plain", "b \\"c": "plain", "doc": "plain", "large": "plain", "mail": "personal", "ü": "plain",
    "hidden": "secret"}}');
"""
ODD_CHANGES = r"""
INSERT INTO public.odd VALUES
    (1, E'tab\t"quote" \\ \u0001 ñ', '{"n": null, "aa": [1.50, {}], "b": "\u2028"}');
INSERT INTO public.odd VALUES (2, '', 'null', repeat('x', 9000), 'a@b.co', 'h', 'ü');
UPDATE public.odd SET doc = '{"z": 1, "yy": null}', "ü" = NULL, mail = 'c@d.co', large = NULL WHERE a = 2;
UPDATE public.odd SET large = repeat('y', 9000), hidden = NULL WHERE a = 2;
UPDATE public.odd SET hidden = 'other', mail = NULL;
DELETE FROM public.odd;
TRUNCATE public.odd;
"""
ODD_EVENTS = """
SELECT convert_from(canon, 'UTF8'), convert_from(canon, 'UTF8')::jsonb::text,
       leaf_hash = sha256('\\x00'::bytea || canon)
FROM audit_event WHERE target_type = 'odd' ORDER BY occurred_at, id
"""


def _what_odd_changes_say(dsn: str, *, before: bool) -> list[dict[str, Any]]:
    """The events of ODD_CHANGES without what is drawn each time; with `before`, by the function as it was."""
    migration = importlib.import_module("monitoring.migrations.0014_faster")
    told = json.dumps({"kind": "user", "id": 'q"', "role": {"x": None, "y": 1}, "address": "::1", "name": ""})
    with psycopg.connect(dsn) as owner:
        if before:
            owner.execute(migration.BEFORE)
        owner.execute("SELECT set_config('mestore.ctx', %s, true)", [told])
        owner.execute(ODD.encode())
        owner.execute(ODD_CHANGES.encode())
        rows = owner.execute(ODD_EVENTS).fetchall()
        owner.rollback()
    assert [row[0] for row in rows] == [row[1] for row in rows]
    assert all(row[2] for row in rows)
    found = [json.loads(row[0]) for row in rows]
    for said in found:
        del said["id"], said["at"], said["actor"]["address_commit"]
        said["data"]["personal"] = sorted(said["data"].get("personal", {}))
    return found


def test_bytes_are_those_that_jsonb_writes_and_say_what_they_always_said(owner_dsn: str) -> None:
    said = _what_odd_changes_say(owner_dsn, before=False)

    assert said == _what_odd_changes_say(owner_dsn, before=True)
    assert [one["event"].removeprefix("capture.") for one in said] == [
        "insert", "insert", "update", "update", "update", "update", "delete", "delete", "truncate",
    ]  # fmt: skip
    large = {"after_sha256": hashlib.sha256(json.dumps("x" * 9000).encode()).hexdigest()}
    assert said[1]["data"]["changes"]["large"] == large
    assert said[2]["data"]["personal"] == ["mail.after", "mail.before"]


def test_ids_are_version_7_and_ordered() -> None:
    with transaction.atomic():
        User.objects.bulk_create(people(50))

    found = [
        event.id for event in AuditEvent.objects.filter(type="capture.insert").order_by("occurred_at", "id")
    ]

    assert found == sorted(found)
    assert {event_id.version for event_id in found} == {7}
    assert {event_id.variant for event_id in found} == {UUID(int=ids.uuid7().int).variant}


def _make_and_fail() -> None:
    with transaction.atomic():
        UserFactory.create()
        raise ZeroDivisionError


class TestRolledBack:
    def test_transaction_leaves_nothing(self) -> None:
        with pytest.raises(ZeroDivisionError):
            _make_and_fail()

        assert captured("capture.insert") == []
        assert not sql.fetch_all("SELECT 1 FROM audit_personal")

    def test_savepoint_leaves_nothing_and_what_is_around_it_stays(self) -> None:
        by = person()
        with context.acting(by), transaction.atomic():
            kept = UserFactory.create()
            with pytest.raises(ZeroDivisionError):
                _make_and_fail()
            later = UserFactory.create()

        found = captured("capture.insert")
        assert {event.target_id for event in found} == {str(kept.pk), str(later.pk)}
        assert {event.actor_id for event in found} == {by.id}


class TestAroundTheApplication:
    def test_person_with_sql_is_named_by_role_and_program(self, owner_dsn: str) -> None:
        with transaction.atomic():
            user = UserFactory.create()

        with psycopg.connect(owner_dsn, application_name="psql") as owner:
            owner.execute("UPDATE accounts_user SET user_type = 'SUPERUSER' WHERE id = %s", [user.pk])
            role = owner.info.user

        (event,) = captured("capture.update")
        said = document(event)
        assert (event.actor_kind, event.actor_id, event.request_id) == ("database", role, None)
        assert said["database"] == {"role": role, "application": "psql"}
        assert said["data"]["changes"]["user_type"] == {"before": "BUYER", "after": "SUPERUSER"}

    def test_who_claims_to_be_somebody_is_still_named(self, owner_dsn: str) -> None:
        with psycopg.connect(owner_dsn, application_name="psql") as owner:
            owner.execute("""SET mestore.ctx = '{"kind":"user","id":"somebody-else"}'""")
            owner.execute("UPDATE accounts_permission SET requires_mfa = NOT requires_mfa WHERE id = 1")
            role = owner.info.user

        (event,) = captured("capture.update", "accounts_permission")
        assert document(event)["database"] == {"role": role, "application": "psql"}

    def test_replica_mode_silences_nothing(self, superuser_dsn: str) -> None:
        with transaction.atomic():
            user = UserFactory.create()

        with psycopg.connect(superuser_dsn) as superuser:
            superuser.execute("SET session_replication_role = replica")
            superuser.execute("UPDATE accounts_user SET is_active = false WHERE id = %s", [user.pk])
            superuser.execute("DELETE FROM accounts_user WHERE id = %s", [user.pk])

        assert [len(captured(code)) for code in ("capture.update", "capture.delete")] == [1, 1]

    def test_truncate_is_captured(self, owner_dsn: str) -> None:
        with psycopg.connect(owner_dsn) as owner:
            owner.execute("TRUNCATE accounts_identitycard")

        (event,) = captured("capture.truncate", "accounts_identitycard")
        assert (event.target_id, document(event)["data"]) == (None, {})

    def test_copy_is_captured(self, owner_dsn: str) -> None:
        statement = "COPY sessions_security_sessioncutoff (id, at, reason, asked_by, approved_by) FROM STDIN"
        with psycopg.connect(owner_dsn) as owner, owner.cursor().copy(statement) as copy:
            for _ in range(3):
                copy.write_row([ids.uuid7(), "2026-01-01", "r", "a", "b"])

        assert len(captured("capture.insert", "sessions_security_sessioncutoff")) == 3

    def test_context_that_cannot_be_read_stops_the_change(self, owner_dsn: str) -> None:
        with psycopg.connect(owner_dsn) as owner:
            owner.execute("SET mestore.ctx = 'no json'")
            with pytest.raises(errors.InvalidTextRepresentation):
                owner.execute("UPDATE accounts_permission SET requires_mfa = NOT requires_mfa WHERE id = 1")

    def test_column_that_nobody_declared_is_secret(self, owner_dsn: str) -> None:
        with psycopg.connect(owner_dsn) as owner:
            owner.execute("ALTER TABLE accounts_permission ADD COLUMN hint text")
            owner.execute("UPDATE accounts_permission SET hint = 'undeclared-value' WHERE id = 1")
            row = owner.execute(
                """SELECT convert_from(canon, 'UTF8') FROM audit_event
                   WHERE target_type = 'accounts_permission'"""
            ).fetchone()
            owner.rollback()

        assert row is not None
        assert json.loads(row[0])["data"] == {"secret": ["hint"]}
        assert "undeclared-value" not in row[0]


class TestRuntimeRole:
    """What injected SQL would run as."""

    @pytest.mark.parametrize(
        "statement",
        [
            "INSERT INTO audit_personal VALUES (gen_random_uuid(), 'a', 'b', '', 'c', now())",
            "UPDATE audit_personal SET value = ''",
            "DELETE FROM audit_personal",
            "TRUNCATE audit_personal",
            "SELECT audit_unwatch('accounts_user')",
            "SELECT audit_watch('accounts_user', '{}')",
            "ALTER TABLE accounts_user DISABLE TRIGGER audit_capture_update",
            "DROP TRIGGER audit_capture_update ON accounts_user",
            "CREATE TRIGGER t AFTER INSERT ON accounts_grant EXECUTE FUNCTION audit_capture('{}')",
        ],
    )
    def test_may_not(self, app_dsn: str, statement: str) -> None:
        with psycopg.connect(app_dsn) as runtime, pytest.raises(errors.InsufficientPrivilege):
            runtime.execute(statement)


class TestPersonalValues:
    @pytest.mark.parametrize(
        "statement",
        ["UPDATE audit_personal SET value = ''", "DELETE FROM audit_personal", "TRUNCATE audit_personal"],
    )
    def test_stay_even_for_a_superuser_in_replica_mode(self, superuser_dsn: str, statement: str) -> None:
        with transaction.atomic():
            UserFactory.create()

        with psycopg.connect(superuser_dsn) as superuser:
            superuser.execute("SET session_replication_role = replica")
            with pytest.raises(errors.RestrictViolation):
                superuser.execute(statement)

    def test_of_one_person_are_not_erased_with_another(self, owner_dsn: str) -> None:
        with transaction.atomic():
            UserFactory.create()

        with psycopg.connect(owner_dsn) as owner:
            owner.execute("SELECT set_config('mestore.erasing', 'somebody', true)")
            with pytest.raises(errors.RestrictViolation):
                owner.execute("DELETE FROM audit_personal")

    def test_of_an_erased_person_are_not_kept_again(self, owner_dsn: str) -> None:
        key = ids.uuid7()
        with psycopg.connect(owner_dsn) as owner:
            owner.execute("INSERT INTO subject_key (subject, destroyed_at) VALUES (%s, now())", [str(key)])

        with transaction.atomic():
            UserFactory.create(id=key)

        (event,) = captured("capture.insert")
        assert "email.after" in document(event)["data"]["personal"]
        assert not sql.fetch_all("SELECT 1 FROM audit_personal WHERE subject = %s", [str(key)])


class TestContext:
    def test_of_one_transaction_is_not_met_by_the_next_on_the_same_connection(self) -> None:
        with context.acting(person()), transaction.atomic():
            UserFactory.create()
        before = sql.fetch_one("SELECT pg_backend_pid(), current_setting('mestore.ctx', true)")

        assert before is not None
        assert not before[1]
        with transaction.atomic():
            row = sql.fetch_one(
                "SELECT pg_backend_pid(), current_setting('mestore.ctx', true)::jsonb ->> 'kind'"
            )
        assert row == (before[0], "system")

    def test_of_threads_that_share_a_pool_never_meets_another(
        self, race: Callable[[list[Callable[[], Any]]], list[Any]]
    ) -> None:
        def work(by: Actor) -> None:
            for _ in range(10):
                with context.acting(by), transaction.atomic():
                    UserFactory.create(email=f"{ids.uuid7()}@example.com", nombre=by.id)
                connection.close()

        actors = [person() for _ in range(6)]
        assert race([lambda by=by: work(by) for by in actors]) == [None] * 6  # type: ignore[misc]

        rows = sql.fetch_all(
            """SELECT e.actor_id, p.value FROM audit_event e JOIN audit_personal p ON p.event_id = e.id
               WHERE p.name = 'nombre.after'"""
        )
        assert len(rows) == 60
        assert all(actor_id == json.loads(name) for actor_id, name in rows)

    def test_costs_no_statement(self) -> None:
        with count_statements("default") as sent, context.acting(person()), transaction.atomic():
            Permission.objects.filter(pk=1).update(requires_mfa=True)

        assert len(sent) == 1

    def test_of_a_single_statement_outside_of_a_transaction_goes_in_front_of_it(self) -> None:
        by = person(session_id="it's 100% \\ strange; %s")
        user = UserFactory.create()
        with count_statements("default") as sent, context.acting(by):
            changed = User.objects.filter(pk=user.pk).update(language="en")
            row = sql.fetch_one(
                "UPDATE accounts_user SET language = 'es' WHERE id = %s RETURNING '100%%', language",
                [user.pk],
            )
            sql.execute("DELETE FROM accounts_user")
            assert sql.fetch_one("SELECT coalesce(current_setting('mestore.ctx', true), '')") == ("",)

        assert (changed, row, len(sent)) == (1, ("100%", "es"), 4)
        found = [*captured("capture.update"), *captured("capture.delete")]
        assert [(event.actor_id, event.session_id) for event in found] == [(by.id, by.session_id)] * 3

    def test_of_a_job_is_the_job(self) -> None:
        user = UserFactory.create()
        job = SimpleNamespace(job=SimpleNamespace(task_name="accounts.some_job"))

        worker.in_its_own_name(lambda: User.objects.filter(pk=user.pk).update(language="en"), job, None)

        (event,) = captured("capture.update")
        assert document(event)["actor"] == {"kind": "system", "name": "accounts.some_job", "role": "SYSTEM"}

    def test_of_a_request_is_who_is_signed_in_when_the_transaction_begins(self) -> None:
        user = UserFactory.create()
        request = HttpRequest()
        request.META["REMOTE_ADDR"] = ADDRESS
        request.request_id = "req_feedbeef"  # type: ignore[attr-defined]

        def view(request: HttpRequest) -> HttpResponse:
            with transaction.atomic():
                User.objects.filter(pk=user.pk).update(language="en")
            request.user = user
            with transaction.atomic():
                User.objects.filter(pk=user.pk).update(language="es")
            return HttpResponse()

        context.ContextMiddleware(view)(request)

        unknown, known = captured("capture.update")
        assert (unknown.actor_kind, unknown.actor_id) == ("anonymous", None)
        assert (known.actor_kind, known.actor_id) == ("user", str(user.pk))
        assert {event.request_id for event in (unknown, known)} == {"req_feedbeef"}
        assert context.current().kind == "system"

    def test_transaction_with_its_own_isolation_level_keeps_it(self) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SHOW transaction_isolation")
            assert cursor.fetchone() == ("repeatable read",)


def test_every_column_of_every_watched_table_is_declared() -> None:
    models = {model._meta.db_table: model for model in apps.get_models()}
    watched = capture.watched()

    assert len(watched) >= 25
    for table, found in watched.items():
        columns = {field.column for field in models[table]._meta.concrete_fields}
        assert set(found.columns) == columns, table
        assert found.is_whole, table
        assert found.subject is None or found.subject in columns, table


# Minutes of life, a change with every use, or rows that cannot change; docs/audit.md says why of each.
NOT_WATCHED = {
    "accounts_accessdecision", "accounts_addresschange", "accounts_archivepart", "accounts_factorstreak",
    "accounts_grantuse",
    "accounts_knowndevice", "accounts_lockoutcounter", "accounts_passkeychallenge", "accounts_passwordreset",
    "accounts_recoverycase", "accounts_verificationcode",
    "finance_eventdelivery", "finance_idempotencykey", "finance_orderitem", "finance_orderpayment",
    "finance_outboundevent", "finance_payoutapproval", "finance_payoutchange", "finance_providerrecord",
    "finance_refundpart", "finance_vendorvolume",
    "ledger_account", "ledger_entry", "ledger_guarded_balance", "ledger_period_close", "ledger_snapshot",
    "ledger_statement_line", "ledger_transfer",
    "sessions_security_networkreputation", "sessions_security_pendingsignin",
    "sessions_security_refreshtoken", "sessions_security_sessionsample", "sessions_security_sessionsecret",
    "sessions_security_signinattempt", "sessions_security_signinnotice", "sessions_security_stepupproof",
    "sessions_security_usedproof",
}  # fmt: skip


def test_every_table_is_watched_or_named_as_not() -> None:
    tables = {
        model._meta.db_table
        for model in apps.get_models()
        if model._meta.app_label in {"accounts", "sessions_security", "finance"}
    }

    assert tables == NOT_WATCHED | capture.watched().keys()


@pytest.mark.parametrize("code", ["insert", "update", "delete", "truncate"])
def test_what_the_database_writes_is_in_the_catalogue(code: str) -> None:
    assert events.get(f"capture.{code}").outcome is events.Outcome.SUCCESS
