"""Records of reconciliations go when nobody needs them any more, and no sooner, whoever asks."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

import psycopg
import pytest
from django.db import DataError, transaction

from mestore.lib import sql
from monitoring import row_records, tasks
from tests.harness.racing import race
from tests.monitoring import reconciling
from tests.monitoring.reconciling import keep_earlier, reconcile

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)

DAY = dt.timedelta(days=1)
KEPT = 400 * DAY
NEWEST = row_records.LOOKED_AT


def there() -> set[UUID]:
    return {row[0] for row in sql.fetch_all("SELECT id FROM audit_reconciliation")}


def nights(many: int, *, since: dt.timedelta) -> list[UUID]:
    """As many good ones, a day apart, the newest first."""
    return [keep_earlier(since + number * DAY) for number in range(many)]


def test_nothing_is_forgotten_where_nothing_was_compared() -> None:
    assert row_records.forget() == 0


def test_what_is_older_than_400_days_goes_and_nothing_younger() -> None:
    young = nights(NEWEST, since=DAY)
    kept, gone = keep_earlier(KEPT - DAY), [keep_earlier(KEPT + DAY), keep_earlier(2 * KEPT, differences=1)]

    assert row_records.forget() == 2
    assert there() == {*young, kept}
    assert there().isdisjoint(gone)
    assert row_records.forget() == 0


def test_the_newest_among_which_the_next_comparison_looks_stay_however_old() -> None:
    """A house that was closed for years: one more than is looked at, and that one goes."""
    old = nights(NEWEST + 1, since=KEPT + DAY)

    assert row_records.forget() == 1
    assert there() == set(old[:-1])


def test_the_newest_good_one_stays_however_many_bad_ones_came_after_it() -> None:
    bad = [keep_earlier(KEPT + (2 + number) * DAY, differences=1) for number in range(NEWEST + 2)]
    good, before = keep_earlier(2 * KEPT), keep_earlier(3 * KEPT)

    assert row_records.forget() == 3
    assert there() == {*bad[:NEWEST], good}
    assert before not in there()


def test_what_is_compared_with_is_never_forgotten() -> None:
    """The oldest that a comparison may look at is younger than the youngest that may go."""
    assert row_records.OLDEST < KEPT
    keep_earlier(row_records.OLDEST - DAY)
    nights(NEWEST + 1, since=KEPT + DAY)
    row_records.forget()

    found = row_records.before(row_records.now())
    assert found.last is not None
    assert found.faults == []


def test_they_go_some_at_a_time_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_records, "FORGOTTEN_AT_ONCE", 2)
    nights(NEWEST, since=DAY)
    old = nights(3, since=KEPT + DAY)

    assert row_records.forget() == 2
    assert there() & set(old) == {old[0]}
    assert (row_records.forget(), row_records.forget()) == (1, 0)


def test_two_at_once_remove_each_one_once() -> None:
    nights(NEWEST, since=DAY)
    nights(8, since=KEPT + DAY)

    many = race([row_records.forget] * 3)

    assert sum(one for one in many if isinstance(one, int)) == 8, many
    assert len(there()) == NEWEST


def test_the_nightly_comparison_forgets() -> None:
    reconcile()
    nights(NEWEST, since=DAY)
    gone = keep_earlier(KEPT + DAY)

    assert tasks.audit_reconcile.func(timestamp=0) is True
    assert gone not in there()
    assert len(there()) == NEWEST + 2


@pytest.mark.parametrize("most", [0, -1, 1_001, None])
def test_nonsense_is_refused(most: int | None) -> None:
    with pytest.raises(DataError), transaction.atomic():
        sql.fetch_one("SELECT audit_forget_reconciliations(%s::int)", (most,))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_reconciliation",
        "DELETE FROM audit_reconciliation WHERE taken_at > now() - interval '399 days'",
        "UPDATE audit_reconciliation SET differences = 0",
        "UPDATE audit_reconciliation SET taken_at = taken_at - interval '1 year'",
        "TRUNCATE audit_reconciliation",
    ],
)
def test_neither_service_nor_owner_goes_further(app_dsn: str, owner_dsn: str, statement: str) -> None:
    nights(NEWEST, since=DAY)
    keep_earlier(KEPT + DAY)
    before = there()

    with psycopg.connect(app_dsn) as runtime, pytest.raises(psycopg.errors.InsufficientPrivilege):
        runtime.execute(statement.encode())
    with psycopg.connect(owner_dsn) as owner, pytest.raises(psycopg.errors.RestrictViolation):
        owner.execute(statement.encode())
    assert there() == before


def test_a_caller_cannot_bend_it_by_a_table_of_its_own(app_dsn: str) -> None:
    kept = keep_earlier(KEPT + DAY)
    with psycopg.connect(app_dsn) as runtime:
        runtime.execute("CREATE TEMPORARY TABLE audit_reconciliation (LIKE public.audit_reconciliation)")
        runtime.execute("SET search_path = pg_temp, public")
        found = runtime.execute("SELECT public.audit_forget_reconciliations(10)").fetchone()

    assert (found, there()) == ((0,), {kept})


def test_a_forgotten_record_is_missed_by_no_comparison() -> None:
    """The trail still names it; what is missed is the one that the newest event names."""
    reconciling.people()
    for _night in range(2):
        reconcile()
    nights(NEWEST, since=2 * DAY)
    keep_earlier(KEPT + DAY)
    assert row_records.forget() == 1

    assert reconcile().is_good
