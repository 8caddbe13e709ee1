"""What hardly ever happens is found by an index, in every month; what a sale writes is not in it."""

from __future__ import annotations

import importlib
from typing import Any

import psycopg
import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from mestore.lib import actor, sql
from monitoring import audit, events, trail_pages
from monitoring.trail_pages import Wanted

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

MIGRATION = importlib.import_module("monitoring.migrations.0014_faster")
BY = actor.system("test")
# All of them of this month, also where it began a minute ago.
FILL = """
INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, canon, leaf_hash)
SELECT gen_random_uuid(), greatest(now(), date_trunc('month', now(), 'UTC') + interval '2 hours')
           - n * interval '0.3 second',
       (ARRAY['order.recorded', 'commission.calculated'])[1 + n %% 2], 'SUCCESS', 'user', c.canon,
       sha256('\\x00'::bytea || c.canon)
FROM generate_series(1, %s) AS n, LATERAL (SELECT convert_to('{"n":' || n || '}', 'UTF8') AS canon) AS c
"""
CHILDREN = """
SELECT count(*) FILTER (WHERE i.indisvalid), count(*) FROM pg_inherits p
JOIN pg_index i ON i.indexrelid = p.inhrelid WHERE p.inhparent = to_regclass(%s)
"""
MONTHS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'public.audit_event'::regclass"


def plan_of(wanted: Wanted) -> tuple[str, list[str]]:
    """How the trail is searched, and the codes that were found."""
    with CaptureQueriesContext(connection) as caught:
        found = trail_pages.read(wanted, limit=20, cursor=None, by=BY)
    (asked,) = [one["sql"] for one in caught.captured_queries if 'FROM "audit_event"' in one["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {asked}")
        return "\n".join(str(row[0]) for row in cursor.fetchall()), [line.event.type for line in found.lines]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [(Wanted(code=events.GRANT_GIVEN), "rare_type"), (Wanted(outcome="BLOCKED"), "rare_outcome")],
)
@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_rare_code_and_outcome_read_no_month_from_end_to_end(
    wanted: Wanted, index: str, owner_dsn: str
) -> None:
    sql.execute(FILL, [20_000])
    with transaction.atomic():
        audit.record(events.GRANT_GIVEN, by=BY)
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        owner.execute("ANALYZE audit_event")  # what is there, and not what was there before

    plan, found = plan_of(wanted)

    month = f"audit_event_{timezone.now():%Y%m}"
    assert f"Scan using {month}_{index} on" in plan or f"Index Scan on {month}_{index}" in plan, plan
    assert f"Seq Scan on {month}" not in plan, plan
    assert f"{month}_occurred_at_id_idx" not in plan, plan
    assert found == ([events.GRANT_GIVEN] if wanted.code else [])


def test_what_a_sale_writes_is_in_neither_index() -> None:
    before = [_size(index) for index in MIGRATION.INDEXES]

    sql.execute(FILL, [20_000])

    assert [_size(index) for index in MIGRATION.INDEXES] == before


def _size(index: str) -> int:
    row = sql.fetch_one(
        "SELECT sum(pg_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = to_regclass(%s)",
        [f"public.{index}"],
    )
    assert row is not None
    return int(row[0])


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_migration_may_be_undone_cut_short_and_run_again(owner_dsn: str) -> None:
    class Editor:
        connection = connections["owner"]

    def children(owner: psycopg.Connection[Any]) -> set[Any]:
        return {owner.execute(CHILDREN, [f"public.{index}"]).fetchone() for index in MIGRATION.INDEXES}

    MIGRATION.drop(None, Editor)
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        assert children(owner) == {(0, 0)}
        # As a run leaves it that was killed between the first month and the rest.
        owner.execute(MIGRATION.INDEXES["audit_event_rare_type"][0])
        (month,) = owner.execute(MIGRATION.MONTHS, ["public.audit_event_rare_type"]).fetchone() or ("",)
        owner.execute(f'CREATE INDEX "{month}_rare_type" ON "{month}" (type)'.encode())

        MIGRATION.build(None, Editor)
        MIGRATION.build(None, Editor)  # finds nothing to do

        (months,) = owner.execute(MONTHS).fetchone() or (0,)
        assert months > 0
        assert children(owner) == {(months, months)}
