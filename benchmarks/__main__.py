"""`python -m benchmarks [--scale sample|full|smoke]`: start everything, measure in rounds, report."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import beside, crowds, guessing, load, market, money, pgbench, points, report
from benchmarks.house import House
from benchmarks.load import Load
from benchmarks.money import Amounts
from benchmarks.points import Point
from benchmarks.report import Figures


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    rounds: int
    seconds: float
    orders_before: int
    orders_per_import: int
    ended_sessions: int
    purged_sessions: int
    many_sessions: int
    money: Amounts


# One order is about 17 rows: 600,000 orders are ten million.
SCALES = {
    "smoke": Scale(1, 1, 600, 600, 1_000, 2_000, 5_000, money.AMOUNTS["smoke"]),
    "sample": Scale(5, 5, 8_000, 6_000, 10_000, 100_000, 200_000, money.AMOUNTS["sample"]),
    "full": Scale(5, 8, 600_000, 20_000, 10_000, 1_000_000, 10_000_000, money.AMOUNTS["full"]),
}
SELLERS = 500
COUNTED_REQUESTS = 20
WIDTH = 150  # of the tables, in a file
TRIES = 3
LOPSIDED = 0.75  # of two workers, the share of one at which a sample is taken again
WARM_UP_REQUESTS = 120  # of each client

console = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and print its tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scale", choices=sorted(SCALES), default="sample")
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="only points whose name holds this, e.g. 'token read'"
    )
    parser.add_argument(
        "--before", metavar="ORDERS", type=int, help="orders that are there before (default: the scale's)"
    )
    options = parser.parse_args(arguments)
    scale = SCALES[options.scale]
    if options.before is not None:
        scale = replace(scale, orders_before=options.before)
    with tempfile.TemporaryDirectory(prefix="mestore-bench-") as folder:
        figures = measure(Path(folder), scale, only=options.only)
    figures.scale = options.scale
    report.show(figures, Console() if sys.stdout.isatty() else Console(width=WIDTH))
    console.print(f"written to {report.save(figures)}")
    return 0


def measure(folder: Path, scale: Scale, *, only: str = "") -> Figures:
    """Start, fill, measure, stop; with `only` the points whose name holds that text, and the bare view."""
    figures = Figures()
    with House(folder) as house:
        console.print("filling")
        _import(house, folder, "before", scale.orders_before)
        with house.admin() as connection:
            connection.execute("VACUUM (ANALYZE)")
        exchanges = points.refresh_tokens(scale.rounds + 3)  # warming up, and twice where statements count
        seed = json.loads(house.python("-m", "benchmarks.seed", str(exchanges)).splitlines()[-1])
        vendors = [vendor["id"] for vendor in seed["vendors"]]
        sales = pgbench.prepare(house.servers.admin_database_url(), folder, vendors)
        house.serve("bare", "benchmarks.bare.wsgi:application")
        house.serve("mestore", "mestore.wsgi:application")
        has_peer = not only or any(only in name for name in points.PEERS)
        peer = _peer(house, folder, figures, seed, exchanges) if has_peer else None
        known = points.all_of(seed, peer)
        measured = [point for point in known if only in point.name or point.name == "bare view"]
        for point in measured:
            _warm_up(house, point)
        for number in range(scale.rounds):
            console.print(f"round {number + 1} of {scale.rounds}")
            _round(house, folder, figures, scale, measured, sales, number)
        if not only or any(only in name for name in money.NAMES):
            console.print("money")
            money.measure(house, figures, folder, seed["vendors"], scale.money, only=only)
        if not only or any(only in name for name in crowds.NAMES):
            console.print("very many sessions")
            crowds.measure(
                house, figures, points.lists(seed),
                ended=scale.ended_sessions, purged=scale.purged_sessions, many=scale.many_sessions,
            )  # fmt: skip
            measured += [replace(point, name=f"{point.name}, many") for point in points.lists(seed)]
        if not only or any(only in name for name in guessing.NAMES):
            console.print("guesses at passwords")
            read = next(point for point in known if point.name == "token read")
            guessing.measure(house, figures, read, seed["people"], seconds=scale.seconds)
        house.count_statements(True)
        for point in measured:
            figures.statements[point.name] = _statements(house, point)
    return figures


def _peer(
    house: House, folder: Path, figures: Figures, seed: dict[str, Any], exchanges: int
) -> dict[str, Any] | None:
    """Start the peer; None, with the reason among the figures, where it cannot be had."""
    try:
        return beside.start(house, folder, seed, refresh_tokens=exchanges)
    except beside.PeerMissingError as error:
        console.print(f"[yellow]no peer to compare with: {error}[/yellow]")
        figures.left_out["peer"] = str(error)
        return None


def _round(
    house: House, folder: Path, figures: Figures, scale: Scale, measured: list[Point],
    sales: tuple[Path, int], number: int,
) -> None:  # fmt: skip
    """Everything once: what is compared stands side by side in time."""
    for point in measured:
        figures.add(point.name, _measured(house, point, scale.seconds))
        if point.name == "POST /orders/":
            owner = house.servers.owner_database_url()
            tps = pgbench.run(owner, *sales, seconds=max(1, round(scale.seconds)))
            figures.add("pgbench", {"per_second": tps})
            said = _import(house, folder, f"round{number}", scale.orders_per_import)
            figures.add("import", {"per_second": said["new_orders"] / said["elapsed_seconds"]})
        if point.name == "login":
            alone = json.loads(house.python("-m", "benchmarks.hashing", str(scale.seconds)).splitlines()[-1])
            figures.add("hash", {"per_second": 1 / alone["seconds"], "cpu_ms": alone["cpu_seconds"] * 1_000})


def _measured(house: House, point: Point, seconds: float) -> report.Sample:
    """One sample; taken again where one worker did nearly all the work, which a server may do by accident."""
    for _ in range(TRIES):
        before, shares = house.cpu(), house.shares(point.service)
        result = _load(house, point, seconds)
        sample = _sample(point, result, before, house.cpu())
        sample["busiest_worker"] = _busiest(shares, house.shares(point.service))
        if sample["busiest_worker"] <= LOPSIDED or point.limit:
            break
    return sample


def _busiest(before: dict[int, float], after: dict[int, float]) -> float:
    """The share of the busiest worker in what all did."""
    spent = [after[pid] - before.get(pid, 0.0) for pid in after]
    return max(spent) / sum(spent) if sum(spent) else 0.0


def _warm_up(house: House, point: Point) -> None:
    """So many requests, however slow: every thread connects, every session is met by every worker."""
    port, limit = house.ports[point.service], WARM_UP_REQUESTS // (20 if point.name == "login" else 1)
    point.begin()
    limit = min(limit, point.limit or limit)
    load.run(port, point.requests, clients=point.clients, seconds=60, expect=point.expect, limit=limit)


def _load(house: House, point: Point, seconds: float) -> Load:
    port = house.ports[point.service]
    point.begin()
    return load.run(
        port, point.requests, clients=point.clients, seconds=60 if point.limit else seconds,
        expect=point.expect, limit=point.limit,
    )  # fmt: skip


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
    point.begin()
    count(port, point.requests, expect=point.expect)
    point.begin()
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
