"""What the integrity page says about rows of watched tables, compared with the trail."""

from __future__ import annotations

import datetime as dt
import html

import pytest

from mestore.lib import ids
from mestore.lib.console import State
from monitoring import integrity_rows, row_reconciliation
from monitoring.row_records import Record
from tests.console import house
from tests.console.test_pages import STATEMENTS, _offences, _statements
from tests.monitoring.reconciling import PERMISSION, reconcile, untold

PAGE = "/admin/integrity/"
ENGLISH = {"accept-language": "en"}
NOW = dt.datetime(2026, 3, 4, 17, 30, tzinfo=dt.UTC)


def record(*, is_ours: bool = True, **said: object) -> Record:
    values: dict[str, object] = {
        "since": NOW.isoformat(), "tables": 37, "rows": 12_345, "differences": [], "notes": [],
        "actor": "job",
    }  # fmt: skip
    return Record(ids.uuid7(), NOW, is_ours, values | said if is_ours else {})


def test_nothing_was_compared_yet() -> None:
    panel = integrity_rows.figure([], NOW)

    assert (panel.state, panel.detail) == (State.UNKNOWN, "never compared")
    assert "every night" in str(integrity_rows.table([]).empty)


def test_all_is_told() -> None:
    panel = integrity_rows.figure([record(), record()], NOW)

    assert (panel.state, panel.value, panel.as_of) == (State.GOOD, "as the trail tells", NOW)
    assert "37 tables" in str(panel.detail)


def test_a_comparison_that_is_two_nights_old_asks_for_a_person() -> None:
    soon, late = NOW + row_reconciliation.OLD, NOW + row_reconciliation.OLD + dt.timedelta(seconds=1)

    assert integrity_rows.figure([record()], soon).state is State.GOOD
    assert integrity_rows.figure([record()], late).state is State.WARNING


def test_only_the_very_first_may_begin_anew() -> None:
    first = record(since=None)

    assert integrity_rows.figure([first], NOW).state is State.GOOD
    assert "counted for the first time" in str(integrity_rows.figure([first], NOW).detail)
    assert integrity_rows.figure([first, record()], NOW).state is State.WARNING


def test_differences_and_forged_records_are_critical() -> None:
    wrong = record(differences=[{"table": "accounts_grant", "what": "1 row more than the trail tells"}])

    assert integrity_rows.figure([wrong], NOW).state is State.CRITICAL
    assert integrity_rows.figure([wrong], NOW).value == "1 difference"
    assert integrity_rows.figure([record(is_ours=False)], NOW).state is State.CRITICAL
    assert len(integrity_rows.table([wrong, record(is_ours=False)]).rows) == 2


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_page_names_table_and_difference(superuser_dsn: str) -> None:
    visitor = house.visitor(permissions=(house.AUDIT,))
    before = visitor.client.get(PAGE, headers=ENGLISH).content.decode()
    reconcile()
    with untold(superuser_dsn, "accounts_permission") as superuser:
        superuser.execute(PERMISSION)
    reconcile()

    answer = visitor.client.get(PAGE, headers=ENGLISH).content.decode()

    assert "Nothing was compared yet" in before
    assert "1 difference" in answer
    assert "accounts_permission: 1 row more than the trail tells" in html.unescape(answer)
    assert not list(_offences(answer))
    assert _statements(visitor.client, PAGE) <= STATEMENTS
