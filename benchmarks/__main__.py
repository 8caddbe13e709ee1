"""`python -m benchmarks [--scale sample|full|smoke]`: start everything, measure in rounds, report."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import load, market, pgbench, points, report
from benchmarks.house import House
from benchmarks.load import Load
from benchmarks.points import Point
from benchmarks.report import Figures


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    rounds: int
    seconds: float
    orders_before: int
    orders_per_import: int


# One order is about 17 rows: 600,000 orders are ten million.
SCALES = {
    "smoke": Scale(1, 1, 600, 600),
    "sample": Scale(5, 5, 8_000, 6_000),
    "full": Scale(5, 8, 600_000, 20_000),
}
SELLERS = 500
COUNTED_REQUESTS = 20
WARM_UP_REQUESTS = 120  # of each client

console = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and print its tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scale", choices=sorted(SCALES), default="sample")
    name = parser.parse_args(arguments).scale
    with tempfile.TemporaryDirectory(prefix="mestore-bench-") as folder:
        figures = measure(Path(folder), SCALES[name])
    figures.scale = name
    report.show(figures, Console())
    console.print(f"written to {report.save(figures)}")
    return 0


def measure(folder: Path, scale: Scale) -> Figures:
    """Start, fill, measure, stop."""
    figures = Figures()
    with House(folder) as house:
        console.print("filling")
        _import(house, folder, "before", scale.orders_before)
        with house.admin() as connection:
            connection.execute("VACUUM (ANALYZE)")
        seed = json.loads(house.python("-m", "benchmarks.seed").splitlines()[-1])
        sales = pgbench.prepare(house, folder)
        house.serve("bare", "benchmarks.bare.wsgi:application")
        house.serve("mestore", "mestore.wsgi:application")
        measured = points.all_of(seed)
        for point in measured:
            _warm_up(house, point)
        for number in range(scale.rounds):
            console.print(f"round {number + 1} of {scale.rounds}")
            _round(house, folder, figures, scale, measured, sales, number)
        house.count_statements(True)
        for point in measured:
            figures.statements[point.name] = _statements(house, point)
    return figures


def _round(
    house: House, folder: Path, figures: Figures, scale: Scale, measured: list[Point],
    sales: tuple[Path, int], number: int,
) -> None:  # fmt: skip
    """Everything once: what is compared stands side by side in time."""
    for point in measured:
        before = house.cpu()
        result = _load(house, point, scale.seconds)
        figures.add(point.name, _sample(point, result, before, house.cpu()))
        if point.name == "POST /orders/":
            tps = pgbench.run(house, *sales, seconds=max(1, round(scale.seconds)))
            figures.add("pgbench", {"per_second": tps})
            said = _import(house, folder, f"round{number}", scale.orders_per_import)
            figures.add("import", {"per_second": said["new_orders"] / said["elapsed_seconds"]})
        if point.name == "login":
            alone = json.loads(house.python("-m", "benchmarks.hashing", str(scale.seconds)).splitlines()[-1])
            figures.add("hash", {"per_second": 1 / alone["seconds"], "cpu_ms": alone["cpu_seconds"] * 1_000})


def _warm_up(house: House, point: Point) -> None:
    """So many requests, however slow: every thread connects, every session is met by every worker."""
    port, limit = house.ports[point.service], WARM_UP_REQUESTS // (20 if point.name == "login" else 1)
    load.run(port, point.requests, clients=point.clients, seconds=60, expect=point.expect, limit=limit)


def _load(house: House, point: Point, seconds: float) -> Load:
    port = house.ports[point.service]
    return load.run(port, point.requests, clients=point.clients, seconds=seconds, expect=point.expect)


def _sample(point: Point, result: Load, before: dict[str, float], after: dict[str, float]) -> report.Sample:
    def spent(what: str) -> float:
        return (after[what] - before[what]) * 1_000 / result.requests

    return {
        "requests": result.requests,
        "per_second": result.per_second,
        "p50_ms": result.percentile(50),
        "p99_ms": result.percentile(99),
        "cpu_ms": spent(point.service),
        "postgresql_ms": spent("postgresql"),
        "redis_ms": spent("redis"),
    }


def _statements(house: House, point: Point) -> float:
    """Statements per request, over some requests of one client.

    The same requests go ahead uncounted: the first one of a session in a while also notes when it was seen.
    """
    port, count = house.ports[point.service], partial(load.run, clients=1, seconds=60, limit=COUNTED_REQUESTS)
    count(port, point.requests, expect=point.expect)
    before = house.statements()
    result = count(port, point.requests, expect=point.expect)
    return (house.statements() - before) / result.requests


def _import(house: House, folder: Path, prefix: str, orders: int) -> dict[str, Any]:
    options = market.write(folder / prefix, orders=orders, sellers=SELLERS, prefix=prefix)
    printed = house.manage("import_orders", *options, "--currency", "BRL", "--json")
    said: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return said


if __name__ == "__main__":
    raise SystemExit(main())
