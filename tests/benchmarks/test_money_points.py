"""Every point about money can be measured, at a small scale, as `make bench` measures it at a large one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks import market, money, money_sql
from benchmarks.house import House
from benchmarks.report import CRITERIA, Figures
from tests.harness import unmeasured


@pytest.fixture
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench starts the service as in production: without what tests are configured and measured by."""
    for name in [name for name in os.environ if name.startswith("MESTORE_") or unmeasured.is_measuring(name)]:
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("_unset")
def test_every_point_about_money_gives_its_figures(tmp_path: Path) -> None:
    figures, amounts = Figures(), money.AMOUNTS["smoke"]
    with House(tmp_path) as house:
        files = market.write(tmp_path / "imported", orders=60, sellers=5, prefix="imported")
        house.manage("import_orders", *files, "--currency", "BRL", "--json")
        seed = json.loads(house.python("-m", "benchmarks.seed", "1").splitlines()[-1])
        house.serve("mestore", "mestore.wsgi:application")
        money.measure(house, figures, tmp_path, seed["vendors"], amounts)
        with house.admin() as connection:
            sleeping = connection.execute(
                "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'A'"
                " AND tgrelid = ANY(%s::regclass[])",
                [list(money_sql.TABLES)],
            ).fetchone()

    assert set(figures.samples) == set(money.NAMES)
    assert all(sample["per_second"] > 0 for found in figures.samples.values() for sample in found)
    assert figures.samples["settlement"][0]["requests"] == amounts.settled
    assert figures.samples["settlement, plain SQL"][0]["requests"] == amounts.settled
    assert figures.samples["statement, CSV"][0]["requests"] == amounts.statement_lines
    assert figures.samples["reconciliation import"][0]["requests"] == amounts.report_lines
    judged = [one for one in CRITERIA if one.needs and set(one.needs) <= set(money.NAMES)]
    assert judged
    assert all(
        one.is_measured(figures) and one.value(figures) > 0 for one in judged if "memory" not in one.name
    )
    assert sleeping == (0,), "a trigger that was switched off stayed off"
