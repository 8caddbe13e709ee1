"""A session's timeline: the index, month by month, and the page that walks it."""

from __future__ import annotations

import datetime as dt
import importlib
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from mestore.lib import ids
from mestore.lib.actor import Actor
from monitoring import audit, events, selectors
from monitoring.models import AuditEvent
from monitoring.selectors import session_events

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

CHILDREN = """
    SELECT count(*) FILTER (WHERE i.indisvalid), count(*) FROM pg_inherits p
    JOIN pg_index i ON i.indexrelid = p.inhrelid WHERE p.inhparent = 'public.audit_event_session'::regclass
"""
MONTHS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'public.audit_event'::regclass"


def within(session_id: Any) -> Actor:
    return Actor(kind="user", id=str(ids.uuid7()), label="a@example.com", session_id=str(session_id))


def record(event: str, by: Actor, target: tuple[str, str] | None = None) -> None:
    with transaction.atomic():
        audit.record(event, by=by, target=target)


def begun() -> dt.datetime:
    return timezone.now() - dt.timedelta(minutes=1)


def test_nothing_happened_is_an_empty_page() -> None:
    page = session_events(ids.uuid7(), since=begun())

    assert (page.events, page.next) == ([], None)


def test_what_happened_in_it_and_to_it_is_there_once_newest_first_and_nothing_of_others() -> None:
    session, other = ids.uuid7(), ids.uuid7()
    record(events.SESSION_STARTED, within(session), ("session", str(session)))  # both ways: once
    record(events.STEP_UP_PROVED, within(session))
    record(events.SESSION_ENDED, within(other), ("session", str(session)))
    record(events.STEP_UP_PROVED, within(other))
    record(events.STEP_UP_PROVED, within(other), ("user", str(session)))

    page = session_events(session, since=begun())

    assert [event.type for event in page.events] == [
        events.SESSION_ENDED, events.STEP_UP_PROVED, events.SESSION_STARTED,
    ]  # fmt: skip


def test_pages_follow_one_another_without_gap_or_repetition() -> None:
    session = ids.uuid7()
    for number in range(11):
        record(events.STEP_UP_PROVED, within(session), ("session", str(session)) if number % 2 else None)

    seen, after = [], None
    for _ in range(4):
        page = session_events(session, since=begun(), after=after, limit=3)
        seen += [event.pk for event in page.events]
        after = page.next

    assert after is None
    newest = AuditEvent.objects.filter(session_id=str(session)).order_by("-occurred_at", "-id")
    assert seen == list(newest.values_list("pk", flat=True))


def test_no_page_scans_the_trail() -> None:
    session = ids.uuid7()
    place = selectors.Position(timezone.now(), ids.uuid7())
    with connection.cursor() as cursor:
        # Of an empty month every plan is cheap, and the cheapest depends on whether it was vacuumed lately:
        # ask for the one without a scan, and see that there is one.
        cursor.execute("SET LOCAL enable_seqscan = off")
    planned: list[str] = []

    def explain(execute: Any, statement: str, params: Any, many: bool, context: Any) -> Any:
        execute("EXPLAIN " + statement, params, many, context)
        planned.append("\n".join(row[0] for row in context["cursor"].fetchall()))
        return execute(statement, params, many, context)

    for after in (None, place):
        with connection.execute_wrapper(explain):
            session_events(session, since=begun(), after=after)

    assert len(planned) == 2
    for plan in planned:
        assert "_session" in plan
        assert "Seq Scan" not in plan, plan


def test_every_month_has_its_valid_index(owner_dsn: str) -> None:
    with psycopg.connect(owner_dsn) as owner:
        valid = owner.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = "
                              "'public.audit_event_session'::regclass").fetchone()  # fmt: skip
        months = owner.execute(MONTHS).fetchone()

        assert valid == (True,)
        assert owner.execute(CHILDREN).fetchone() == (months[0], months[0]) if months else False


def test_a_month_that_is_made_later_gets_its_index_with_it(owner_dsn: str) -> None:
    with psycopg.connect(owner_dsn) as owner:
        before = owner.execute(CHILDREN).fetchone()
        made = owner.execute("SELECT audit_ensure_partitions(15)").fetchone()
        after = owner.execute(CHILDREN).fetchone()
        owner.rollback()

    assert made is not None
    assert made[0] == 3
    assert before is not None
    assert after == (before[0] + 3, before[1] + 3)


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_migration_may_be_undone_cut_short_and_run_again(owner_dsn: str) -> None:
    from django.db import connections

    migration = importlib.import_module("monitoring.migrations.0004_session_events")

    class Editor:
        connection = connections["owner"]

    migration.drop(None, Editor)
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        assert owner.execute("SELECT to_regclass('public.audit_event_session')").fetchone() == (None,)
        # As a run leaves it that was killed between the first month and the rest.
        owner.execute(migration.PARENT)
        month = owner.execute(migration.MONTHS).fetchone()
        assert month is not None
        owner.execute(f'CREATE INDEX "{month[0]}_session" ON "{month[0]}" (session_id)')

        migration.build(None, Editor)
        migration.build(None, Editor)  # finds nothing to do

        months, children = owner.execute(MONTHS).fetchone(), owner.execute(CHILDREN).fetchone()
    assert months is not None
    assert children == (months[0], months[0])
