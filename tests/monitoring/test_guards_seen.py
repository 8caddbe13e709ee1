"""Each hour the trail itself says how its guards are; an hour in which it does not is told."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import DatabaseError, connection
from django.utils import timezone
from procrastinate.contrib.django import app

from mestore.lib import actor, sql
from monitoring import audit, capture, guards, guards_seen, readiness, sequencer, tasks, verifications
from monitoring.models import AuditEvent, Signal
from monitoring.verifications import Mode, Plan
from tests.harness.racing import race
from tests.monitoring.reconciling import untold
from tests.monitoring.test_rare_events import FILL

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

BY = actor.system("test")
HOUR = dt.timedelta(hours=1)
RULE = "audit.guards_unseen"
OFF = "ALTER TABLE accounts_grant DISABLE TRIGGER audit_capture_update"
ON = "ALTER TABLE accounts_grant ENABLE ALWAYS TRIGGER audit_capture_update"
# An hour's middle, so that the hours of a test are the same however long it takes.
NOW = timezone.now().replace(minute=30, second=0, microsecond=0)
SINCE = "UPDATE django_migrations SET applied = %s WHERE name = '0018_forget_reconciliations'"
WHEN = "SELECT applied FROM django_migrations WHERE name = '0018_forget_reconciliations'"
NEWER = "INSERT INTO django_migrations (app, name, applied) VALUES ('monitoring', '9999_of_tomorrow', now())"
COPIED = """
INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, target_type, target_id, canon,
                         writer_mac, leaf_hash)
SELECT gen_random_uuid(), now(), type, outcome, actor_kind, target_type, %s, canon, {mac}, leaf_hash
FROM audit_event WHERE type = 'audit.guards_seen'
"""


def run(dsn: str, statement: str, *values: object) -> None:
    with psycopg.connect(dsn, autocommit=True) as superuser:
        superuser.execute(statement.encode(), values or None)


@pytest.fixture(autouse=True)
def _applied_as_before(superuser_dsn: str) -> Iterator[None]:
    """Rows about migrations are those that no test's end puts back."""
    with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
        ((before,),) = superuser.execute(WHEN).fetchall()
        yield
        superuser.execute(SINCE, (before,))


def look(ago: dt.timedelta = 0 * HOUR) -> UUID | None:
    return guards_seen.look(by=BY, now=NOW - ago)


def looks() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(target_type="audit_guards").order_by("id"))


def data(event: AuditEvent) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(event.canon))["data"]
    return found


def begun(dsn: str, ago: dt.timedelta) -> None:
    """Looks began so long ago."""
    run(dsn, SINCE, NOW - ago)


class TestLook:
    def test_says_that_all_is_as_the_migrations_made_it(self) -> None:
        event_id = look()

        (event,) = looks()
        assert (event.pk, event.type, event.outcome) == (event_id, "audit.guards_seen", "SUCCESS")
        assert event.target_id == f"{NOW.astimezone(dt.UTC):%Y-%m-%dT%H}Z"
        said, tables = data(event), len(readiness.captured_tables())
        assert said == {
            "tables": tables, "captured": tables, "append_only": len(readiness.append_only()),
            "functions": len(guards.expected_bodies()), "digest": guards.digest(), "faults": 0,
        }  # fmt: skip
        assert len(bytes(event.canon)) < 1_000

    def test_names_the_table_whose_capture_is_off(self, superuser_dsn: str) -> None:
        run(superuser_dsn, OFF)
        try:
            look()
        finally:
            run(superuser_dsn, ON)

        (event,) = looks()
        said = data(event)
        assert (event.type, event.outcome) == ("audit.guards_not_whole", "FAILURE")
        assert (said["tables"] - said["captured"], said["not_captured"]) == (1, ["accounts_grant"])
        assert any("accounts_grant" in what for what in said["first"])
        assert said["digest"] != guards.digest()

    def test_says_of_the_other_guards_that_they_are_off(self, superuser_dsn: str) -> None:
        with untold(superuser_dsn, "audit_reconciliation"):
            look()

        (event,) = looks()
        said = data(event)
        assert (event.type, said["captured"], said["not_captured"]) == (
            "audit.guards_not_whole", said["tables"], [],
        )  # fmt: skip
        assert any("audit_reconciliation" in what for what in said["first"])

    def test_stays_small_when_everything_is_off(self, superuser_dsn: str) -> None:
        pairs = [(table, one) for table in sorted(readiness.captured_tables()) for one in capture.TRIGGERS]
        run(superuser_dsn, "; ".join(f"ALTER TABLE {table} DISABLE TRIGGER {one}" for table, one in pairs))
        try:
            look()
        finally:
            always = (f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {one}" for table, one in pairs)
            run(superuser_dsn, "; ".join(always))

        (event,) = looks()
        said = data(event)
        assert (said["captured"], len(said["not_captured"])) == (0, guards_seen.NAMED)
        assert len(bytes(event.canon)) < 4_000
        assert guards.captured()["accounts_grant"].is_whole

    def test_is_sealed_and_verified_like_every_event(self) -> None:
        look()
        sequencer.drain()

        assert all(one.is_good for one in verifications.verify(Plan(Mode.FULL), by=BY))


class TestOncePerHour:
    def test_a_job_that_is_done_again_writes_nothing(self) -> None:
        assert look() is not None
        assert [look(), guards_seen.look(by=BY, now=NOW + dt.timedelta(minutes=29))] == [None, None]
        assert len(looks()) == 1

    def test_the_next_hour_has_its_own(self) -> None:
        assert None not in {look(), look(HOUR), look(2 * HOUR)}
        assert [look(), look(HOUR)] == [None, None]
        assert len({event.target_id for event in looks()}) == 3

    def test_hours_meet_at_the_minute(self) -> None:
        whole = NOW.replace(minute=0)

        assert guards_seen.look(by=BY, now=whole) is not None
        assert guards_seen.look(by=BY, now=whole - dt.timedelta(microseconds=1)) is not None

    def test_of_eight_workers_at_once_one_writes(self) -> None:
        found = race([partial(guards_seen.look, by=BY, now=NOW)] * 8)

        assert sum(isinstance(one, UUID) for one in found) == 1, found
        assert found.count(None) == 7
        assert len(looks()) == 1

    def test_an_hour_that_was_not_whole_is_not_told_again_as_whole(self, superuser_dsn: str) -> None:
        run(superuser_dsn, OFF)
        try:
            look()
        finally:
            run(superuser_dsn, ON)

        assert look() is None

    @pytest.mark.parametrize("mac", ["NULL", "writer_mac", "sha256('x')"], ids=["none", "copied", "made up"])
    def test_somebody_elses_word_for_an_hour_counts_for_nothing(self, mac: str, superuser_dsn: str) -> None:
        """A copy of an earlier look, moved to this hour: its sealed bytes say another one."""
        look(2 * HOUR)
        run(superuser_dsn, COPIED.format(mac=mac), f"{NOW.astimezone(dt.UTC):%Y-%m-%dT%H}Z")

        assert look() is not None

    def test_what_cannot_be_recorded_is_no_look(self, superuser_dsn: str) -> None:
        run(superuser_dsn, "ALTER TABLE audit_pending ADD CONSTRAINT refused CHECK (false) NOT VALID")
        try:
            with pytest.raises((DatabaseError, audit.NotRecorded)):
                look()
        finally:
            run(superuser_dsn, "ALTER TABLE audit_pending DROP CONSTRAINT refused")

        assert look() is not None

    def test_next_to_a_newer_release_its_own_worker_looks(self, superuser_dsn: str) -> None:
        run(superuser_dsn, NEWER)
        try:
            assert look() is None
        finally:
            run(superuser_dsn, "DELETE FROM django_migrations WHERE name = '9999_of_tomorrow'")

        assert looks() == []

    def test_it_reads_no_more_of_the_trail_than_its_own_events(self, owner_dsn: str) -> None:
        sql.execute(FILL, [20_000])
        with psycopg.connect(owner_dsn, autocommit=True) as owner:
            owner.execute("ANALYZE audit_event")
        planned: list[str] = []

        def explain(execute: Any, statement: str, params: Any, many: bool, context: Any) -> Any:
            if "'audit_guards'" in statement:
                execute("EXPLAIN " + statement, params, many, context)
                planned.append("\n".join(row[0] for row in context["cursor"].fetchall()))
            return execute(statement, params, many, context)

        with connection.execute_wrapper(explain):
            guards_seen.day()

        (plan,) = planned
        month = f"audit_event_{timezone.now():%Y%m}"
        assert f"{month}_target_type_target_id" in plan, plan
        assert f"Seq Scan on {month}" not in plan, plan


class TestDay:
    def test_a_house_whose_looks_begin_misses_nothing(self, superuser_dsn: str) -> None:
        begun(superuser_dsn, 2 * dt.timedelta(minutes=1))

        found = guards_seen.day(now=NOW)

        assert (found.newest, found.missing) == (None, ())
        assert guards_seen.watch(now=NOW) == 0

    def test_every_hour_was_seen(self, superuser_dsn: str) -> None:
        begun(superuser_dsn, 100 * HOUR)
        for ago in range(guards_seen.HOURS + 1):
            look(ago * HOUR)

        found = guards_seen.day(now=NOW)

        assert found.missing == ()
        assert found.newest is not None
        assert (found.newest.hour, found.newest.is_whole) == (NOW.replace(minute=0), True)
        assert guards_seen.watch(now=NOW) == 0

    def test_this_hour_is_not_over_yet(self, superuser_dsn: str) -> None:
        begun(superuser_dsn, 2 * HOUR)
        look(HOUR)

        assert guards_seen.day(now=NOW).missing == ()

    def test_the_hour_in_which_looks_began_is_no_whole_one(self, superuser_dsn: str) -> None:
        begun(superuser_dsn, 3 * HOUR)

        missing = guards_seen.day(now=NOW).missing

        assert missing == tuple(NOW.replace(minute=0) - ago * HOUR for ago in (2, 1))

    def test_a_gap_shows_and_is_told_when_somebody_looks_again(self, superuser_dsn: str) -> None:
        begun(superuser_dsn, 100 * HOUR)
        for ago in range(guards_seen.HOURS, 0, -1):
            if ago not in {3, 2, 1}:
                look(ago * HOUR)
        look()

        assert len(guards_seen.day(now=NOW).missing) == 3
        assert guards_seen.watch(now=NOW) == 1
        signal = Signal.objects.get(rule=RULE)
        assert (signal.entity_id, signal.severity) == ("guards", 3)
        assert signal.evidence[0]["hours"] == 3
        assert signal.evidence[0]["first"] == (NOW.replace(minute=0) - 3 * HOUR).isoformat()

        # The hour after: the gap is on the page for a day, and told once.
        later = NOW + HOUR
        assert len(guards_seen.day(now=later).missing) == 3
        assert (guards_seen.watch(now=later), Signal.objects.get(rule=RULE).seen) == (0, 1)

    def test_a_gap_that_somebody_fills_later_stays_one(self, superuser_dsn: str) -> None:
        """With the rights of the owner, and without the application's key."""
        begun(superuser_dsn, 3 * HOUR)
        look(2 * HOUR)
        missing = NOW.replace(minute=0) - HOUR
        run(superuser_dsn, COPIED.format(mac="writer_mac"), f"{missing.astimezone(dt.UTC):%Y-%m-%dT%H}Z")

        assert guards_seen.day(now=NOW).missing == (missing,)

    def test_a_look_that_found_something_is_a_look(self, superuser_dsn: str) -> None:
        begun(superuser_dsn, 2 * HOUR)
        run(superuser_dsn, OFF)
        try:
            look(HOUR)
        finally:
            run(superuser_dsn, ON)

        found = guards_seen.day(now=NOW)

        assert found.missing == ()
        assert found.newest is not None
        assert not found.newest.is_whole
        assert found.newest.first

    def test_it_is_one_statement(self, django_assert_num_queries: Any) -> None:
        look()
        with django_assert_num_queries(1):
            guards_seen.day(now=NOW)


def test_a_worker_looks_each_ten_minutes_and_says_it_once() -> None:
    periodic = {one.task.name: one.cron for one in app.periodic_registry.periodic_tasks.values()}

    assert periodic["monitoring.audit_guards_seen"] == "*/10 * * * *"
    assert tasks.audit_guards_seen.func(timestamp=0) is True
    assert looks()


def test_the_migration_it_counts_from_is_there() -> None:
    assert ("monitoring", "0018_forget_reconciliations") in readiness.migrations_on_disk()
