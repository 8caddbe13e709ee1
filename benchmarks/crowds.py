"""Points about very many sessions: ending an account's, purging old ones, lists that stay as fast."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from benchmarks import load
from benchmarks.house import House
from benchmarks.points import Point
from benchmarks.report import Figures

FEW = 1_000
REPEATED = 3
REQUESTS = 40
NAMES = ("end all sessions", "purge of sessions", "console list", "list by API")


def measure(
    house: House, figures: Figures, lists: Sequence[Point], *, ended: int, purged: int, many: int
) -> None:
    """Add the figures: lists at a thousand sessions, ends and purges, lists at `many`."""
    _crowd(house, "live", FEW)
    for point in lists:
        _list(house, figures, point, f"{point.name}, few")
    for _ in range(REPEATED):
        figures.add("end all sessions", _work(house, "end", ended))
    figures.add("purge of sessions", _work(house, "purge", purged))
    _crowd(house, "live", many)
    for point in lists:
        _list(house, figures, point, f"{point.name}, many")


def _list(house: House, figures: Figures, point: Point, name: str) -> None:
    port = house.ports[point.service]
    load.run(port, point.requests, clients=1, seconds=60, expect=point.expect, limit=10)
    for _ in range(REPEATED):
        before = house.cpu()
        result = load.run(port, point.requests, clients=1, seconds=60, expect=point.expect, limit=REQUESTS)
        after = house.cpu()
        sample: dict[str, float] = {
            "requests": result.requests,
            "per_second": result.per_second,
            "p50_ms": result.percentile(50),
            "p99_ms": result.percentile(99),
        }
        for column, what in (
            ("cpu_ms", point.service),
            ("postgresql_ms", "postgresql"),
            ("redis_ms", "redis"),
        ):
            sample[column] = (after[what] - before[what]) * 1_000 / result.requests
        figures.add(name, sample)


def _work(house: House, what: str, count: int) -> dict[str, float]:
    """Work on rows: rows per second, and milliseconds of processor per row."""
    before = house.cpu()
    done = _crowd(house, what, count)
    postgresql = house.cpu()["postgresql"] - before["postgresql"]
    rows = done["rows"]
    if rows < count:
        raise RuntimeError(f"{what}: {rows} rows of {count}")
    return {
        "requests": rows,
        "per_second": rows / done["seconds"],
        "cpu_ms": done["cpu_seconds"] * 1_000 / rows,
        "postgresql_with_filling_ms": postgresql * 1_000 / rows,
        "seconds": done["seconds"],
        "longest_batch_ms": done.get("longest_batch_ms", 0.0),
    }


def _crowd(house: House, what: str, count: int) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(
        house.python("-m", "benchmarks.crowd", what, str(count)).splitlines()[-1]
    )
    return said
