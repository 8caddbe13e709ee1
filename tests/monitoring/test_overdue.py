"""What must run every night and did not is told to people; a house that is new has missed nothing yet."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import psycopg
import pytest
from django.conf import settings
from django.db import ProgrammingError
from django.utils import timezone
from procrastinate.contrib.django import app

from mestore.lib import actor, ids, sql
from monitoring import overdue, readiness, row_reconciliation, tasks, verifications
from monitoring.models import Signal
from monitoring.verifications import Mode, Plan
from tests.monitoring.reconciling import keep_earlier, reconcile

pytestmark = pytest.mark.django_db(databases=["default", "audit", "owner"], transaction=True)

BY = actor.system("test")
HOUR = dt.timedelta(hours=1)
ROWS, LOG = "audit.reconciliation_overdue", "audit.verification_overdue"
APPLIED = "UPDATE django_migrations SET applied = now() - %s WHERE app = 'monitoring'"
RUN = """
INSERT INTO audit_verification (id, mode, epoch, first_leaf, upto, size, started_at, finished_at, actor)
SELECT %s, %s, epoch, 0, 0, 0, now() - %s, now() - %s, 'test' FROM audit_tree
"""
ENDLESS = """
INSERT INTO audit_verification (id, mode, epoch, first_leaf, upto, size, started_at, finished_at, actor)
SELECT %s, mode, epoch, first_leaf, upto, size, started_at, 'infinity', actor
FROM audit_verification WHERE id = %s
"""
NEWER = "INSERT INTO django_migrations (app, name, applied) VALUES ('monitoring', '9999_of_tomorrow', now())"


def told() -> dict[str, int]:
    """How many times each was seen."""
    return dict(Signal.objects.filter(rule__in=[ROWS, LOG]).values_list("rule", "seen"))


def run(dsn: str, statement: str, *values: object) -> None:
    with psycopg.connect(dsn, autocommit=True) as superuser:
        superuser.execute(statement.encode(), values)


@pytest.fixture(autouse=True)
def _applied_as_before(superuser_dsn: str) -> Iterator[None]:
    """Rows about migrations are those that no test's end puts back."""
    with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
        before = superuser.execute("SELECT applied, id FROM django_migrations").fetchall()
        yield
        superuser.cursor().executemany("UPDATE django_migrations SET applied = %s WHERE id = %s", before)


@pytest.fixture
def _old(superuser_dsn: str) -> None:
    """A house that has stood for ten days."""
    run(superuser_dsn, APPLIED, 240 * HOUR)


def verified(ago: dt.timedelta, *, mode: str = "full", ended: dt.timedelta | None = None) -> None:
    sql.execute(RUN, (ids.uuid7(), mode, ago, ago if ended is None else ended))


def evidence(rule: str) -> dict[str, object]:
    found: dict[str, object] = Signal.objects.get(rule=rule).evidence[0]
    return found


@pytest.mark.usefixtures("_old")
@pytest.mark.parametrize("ended", [-24 * 365 * HOUR, 48 * HOUR], ids=["in a year", "before it began"])
def test_a_full_run_that_cannot_have_been_is_none(ended: dt.timedelta) -> None:
    verified(HOUR, ended=ended)

    overdue.watch()
    assert told()[LOG] == 1


@pytest.mark.usefixtures("_old")
def test_a_run_without_end_silences_nobody() -> None:
    run_id = ids.uuid7()
    sql.execute(RUN, (run_id, "full", HOUR, HOUR))
    sql.execute(ENDLESS, (ids.uuid7(), run_id))

    overdue.watch()
    assert LOG not in told()


@pytest.mark.usefixtures("_old")
def test_what_cannot_be_read_does_not_silence_the_look_at_the_guards(superuser_dsn: str) -> None:
    """A worker that may not read the verifier's runs still says that nobody saw the guards."""
    runtime = settings.DATABASES["default"]["USER"]
    with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
        superuser.execute(sql.compose("REVOKE SELECT ON audit_verification FROM {r}", r=runtime))
        try:
            with pytest.raises(ProgrammingError):
                tasks.watch_overdue.func(timestamp=0)
        finally:
            superuser.execute(sql.compose("GRANT SELECT ON audit_verification TO {r}", r=runtime))

    assert Signal.objects.filter(rule="audit.guards_unseen").count() == 1


class TestNewHouse:
    @pytest.mark.parametrize("hours", [0, 1, 35])
    def test_has_missed_nothing(self, hours: int, superuser_dsn: str) -> None:
        run(superuser_dsn, APPLIED, hours * HOUR)

        assert (overdue.watch(), told()) == (0, {})

    def test_in_which_nothing_ever_ran_is_told_of_after_a_day_and_a_half(self, superuser_dsn: str) -> None:
        run(superuser_dsn, APPLIED, 37 * HOUR)

        assert (overdue.watch(), told()) == (2, {ROWS: 1, LOG: 1})
        assert (evidence(ROWS)["last"], evidence(ROWS)["hours"]) == (None, 37)
        assert evidence(LOG)["last"] is None

    def test_that_is_old_and_learned_to_compare_just_now_has_missed_no_comparison(
        self, superuser_dsn: str
    ) -> None:
        run(superuser_dsn, APPLIED, 1_000 * HOUR)
        run(superuser_dsn, f"{APPLIED} AND name = '0017_reconciliation'", HOUR)

        assert (overdue.watch(), told()) == (1, {LOG: 1})


@pytest.mark.usefixtures("_old")
class TestReconciliation:
    @pytest.fixture(autouse=True)
    def _verified(self) -> None:
        verified(HOUR)

    def test_of_last_night_is_none(self) -> None:
        keep_earlier(35 * HOUR)

        assert (overdue.watch(), told()) == (0, {})

    def test_of_the_night_before_is_told(self) -> None:
        keep_earlier(50 * HOUR)
        last = keep_earlier(37 * HOUR)

        assert (overdue.watch(), told()) == (1, {ROWS: 1})
        signal = Signal.objects.get()
        assert (signal.entity_type, signal.entity_id, signal.severity) == ("audit_log", "rows", 4)
        assert evidence(ROWS)["hours"] == 37
        (taken_at,) = sql.fetch_one("SELECT taken_at FROM audit_reconciliation WHERE id = %s", [last]) or (0,)
        assert evidence(ROWS)["last"] == taken_at.isoformat()

    def test_one_that_found_differences_did_run(self) -> None:
        """What it found has its own signal."""
        keep_earlier(50 * HOUR)
        keep_earlier(HOUR, differences=1)

        assert (overdue.watch(), told()) == (0, {})

    def test_one_that_could_not_run_since_did_not(self, superuser_dsn: str) -> None:
        keep_earlier(37 * HOUR)
        run(superuser_dsn, NEWER)
        try:
            assert tasks.audit_reconcile.func(timestamp=0) is False
        finally:
            run(superuser_dsn, "DELETE FROM django_migrations WHERE name = '9999_of_tomorrow'")

        assert (overdue.watch(), told()) == (1, {ROWS: 1})

    def test_a_record_that_somebody_else_made_is_none(self, app_dsn: str) -> None:
        keep_earlier(37 * HOUR)
        run(
            app_dsn,
            "INSERT INTO audit_reconciliation SELECT gen_random_uuid(), now(), 0, said, counted, mac"
            " FROM audit_reconciliation",
        )

        assert (overdue.watch(), told()) == (1, {ROWS: 1})

    def test_it_counts_until_one_has_run_and_then_no_more(self) -> None:
        keep_earlier(37 * HOUR)
        assert [overdue.watch(), overdue.watch()] == [1, 1]

        assert reconcile().is_good

        assert (overdue.watch(), told()) == (0, {ROWS: 2})


@pytest.mark.usefixtures("_old")
class TestVerification:
    @pytest.fixture(autouse=True)
    def _reconciled(self) -> None:
        keep_earlier(HOUR)

    def test_of_last_night_is_none(self) -> None:
        verified(35 * HOUR)

        assert (overdue.watch(), told()) == (0, {})

    def test_of_the_night_before_is_told(self) -> None:
        verified(50 * HOUR)
        verified(37 * HOUR)

        assert (overdue.watch(), told()) == (1, {LOG: 1})
        assert (evidence(LOG)["hours"], Signal.objects.get().entity_id) == (37, "log")

    def test_a_long_one_counts_from_its_end(self) -> None:
        verified(60 * HOUR, ended=35 * HOUR)

        assert (overdue.watch(), told()) == (0, {})

    def test_one_that_has_not_ended_and_parts_of_the_log_are_none(self) -> None:
        verified(37 * HOUR)
        verified(HOUR, mode="tail")
        verified(HOUR, mode="range")
        sql.execute(
            "INSERT INTO audit_verification (id, mode, epoch, first_leaf, upto, size, actor)"
            " SELECT %s, 'full', epoch, 0, 0, 0, 'test' FROM audit_tree",
            (ids.uuid7(),),
        )

        assert (overdue.watch(), told()) == (1, {LOG: 1})

    def test_that_of_another_log_is_not_that_of_this_one(self) -> None:
        sql.execute(
            "INSERT INTO audit_verification (id, mode, epoch, first_leaf, upto, size, finished_at, actor)"
            " VALUES (%s, 'full', 2, 0, 0, 0, now(), 'test')",
            (ids.uuid7(),),
        )

        assert (overdue.watch(), told()) == (1, {LOG: 1})

    def test_it_counts_until_one_has_run_and_then_no_more(self) -> None:
        verified(37 * HOUR)
        assert [overdue.watch(), overdue.watch()] == [1, 1]

        assert all(one.is_good for one in verifications.verify(Plan(Mode.FULL), by=BY))

        assert (overdue.watch(), told()) == (0, {LOG: 2})


def test_a_new_log_has_until_its_own_next_night(superuser_dsn: str) -> None:
    """The old one was verified; the new one began an hour ago, in an old house."""
    run(superuser_dsn, APPLIED, 240 * HOUR)
    keep_earlier(HOUR)
    run(
        superuser_dsn,
        "INSERT INTO audit_ended_log (epoch, size, frontier, root, ended_at, reason, approved_by)"
        " VALUES (1, 0, '', sha256(''), now() - %s, 'lost', ARRAY['a', 'b'])",
        HOUR,
    )

    assert (overdue.watch(), told()) == (0, {})
    assert overdue.watch(now=timezone.now() + 36 * HOUR) == 2


def test_the_console_and_the_signal_speak_of_the_same_limit() -> None:
    assert overdue.LIMIT == row_reconciliation.OLD == 36 * HOUR


def test_the_migrations_it_counts_from_are_there() -> None:
    wanted = {("monitoring", "0017_reconciliation"), ("monitoring", "0005_log")}

    assert wanted <= readiness.migrations_on_disk()


def test_a_worker_looks_every_hour(superuser_dsn: str) -> None:
    periodic = {one.task.name: one.cron for one in app.periodic_registry.periodic_tasks.values()}
    run(superuser_dsn, APPLIED, 37 * HOUR)
    run(superuser_dsn, f"{APPLIED} AND name = '0018_forget_reconciliations'", 0 * HOUR)

    assert periodic["monitoring.watch_overdue"] == "29 * * * *"
    assert tasks.watch_overdue.func(timestamp=0) == 2
