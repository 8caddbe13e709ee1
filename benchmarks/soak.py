"""`make soak`: what the audit trail must stand for longer than a test may take.

`python -m benchmarks.soak [--only writers|kills|half|sales] [--seconds 60] [--kills 50] [--seed N]`, on
private servers of its own, durable, over TLS:

* writers: 64 connections place orders for a minute, beside a worker: no deadlock, nobody waits for a lock of
  the trail, nothing waits for its place in the log five seconds later;
* kills: beside writers the process with the sequencer is killed (SIGKILL) at random moments: no gap, no
  duplicate, a full verification is good;
* half: sales per second over HTTP with the trail and without, then the 95th percentile of both at half of
  what the service with the trail can do;
* sales: the service is killed at random moments while people buy, give back and ask for payouts
  (`soak_sales`): the books add up, everything that was told is in them once.

Prints one JSON object and writes it to `benchmarks/results/`; ends with 1 when a bound is not kept.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import load, points, report, soak_sales
from benchmarks.__main__ import SELLERS, console
from benchmarks.house import ROOT, House
from benchmarks.locks import Waiting
from benchmarks.market import write

PARTS = ("writers", "kills", "half", "sales")
PROCESSES = 4
WRITERS = 64
SETTLED_SECONDS = 5.0
GROWS_SECONDS = 240.0  # a busy machine takes its time to start a worker
ROUNDS = 5
MOST_SLOWER = 1.25
LEAST_SALES = 0.85

_PENDING = "SELECT count(*) FROM audit_pending"
_SIZE = "SELECT size FROM audit_tree"
_ONCE = """
SELECT (SELECT count(*) FROM audit_event), count(*), count(DISTINCT event_id),
       coalesce(max(leaf_index) + 1, 0), (SELECT size FROM audit_tree) FROM audit_leaf
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; 1 when a bound is not kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, help="what the part `sales` draws from (default: a new one)")
    given = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mestore-soak-") as name, House(Path(name)) as house:
        options = write(Path(name) / "market", orders=600, sellers=SELLERS, prefix="before")
        house.manage("import_orders", *options, "--currency", "BRL", "--json")
        for part in PARTS:
            if given.only in (None, part):
                console.print(part)
                found[part] = {
                    "writers": lambda: writers(house, given.seconds),
                    "kills": lambda: kills(house, given.kills),
                    "half": lambda: half(house, given.seconds / 6),
                    "sales": lambda: soak_sales.sales(house, given.kills, given.seed, console.print),
                }[part]()
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    console.print(f"written to {report.save_as('soak', found)}")
    return 0 if all(part["kept"] for part in found.values()) else 1


def writers(house: House, seconds: float) -> dict[str, Any]:
    """Let 64 connections sell beside a worker."""
    worker = _start(house, "manage.py", "worker")
    try:
        with Waiting(house.servers.admin_database_url()) as waiting:
            done = _sold([_writing(house, WRITERS // PROCESSES, seconds) for _ in range(PROCESSES)])
            ended = time.monotonic()
        while _ask(house, _PENDING)[0] and time.monotonic() - ended < GROWS_SECONDS:
            time.sleep(0.05)
        settled = time.monotonic() - ended
    finally:
        _end(worker)
    kept = not (waiting.deadlocks or waiting.on_the_trail or done["errors"]) and settled <= SETTLED_SECONDS
    return {
        "kept": kept, **done, "seconds": seconds, "samples_of_locks": waiting.samples,
        "deadlocks": waiting.deadlocks, "waiting_for_the_trail": waiting.on_the_trail,
        "waiting_for_others": waiting.elsewhere, "nothing_pending_after_seconds": round(settled, 2),
    }  # fmt: skip


def kills(house: House, count: int) -> dict[str, Any]:
    """Kill the process with the sequencer at random moments, beside writers; then verify everything."""
    selling = _writing(house, PROCESSES, 60.0 * count)  # until it is ended
    draw, killed = random.Random(), 0
    try:
        for _ in range(count):
            worker, before = _start(house, "manage.py", "worker"), _ask(house, _SIZE)[0]
            try:
                _until_grown(house, worker, before)
                time.sleep(draw.uniform(0, 0.5))
            finally:
                worker.kill()
            killed += worker.wait() == -signal.SIGKILL
    finally:
        _end(selling)
    house.python("-m", "benchmarks.drain")
    events, leaves, distinct, upto, size = _ask(house, _ONCE)
    verified = json.loads(house.manage("audit_verify", "--full", "--json").splitlines()[-1])
    kept = killed == count and verified["good"] and events == leaves == distinct == upto == size
    return {
        "kept": bool(kept), "killed": killed, "events": events, "leaves": leaves,
        "verified": verified["good"],
    }  # fmt: skip


def half(house: House, seconds: float) -> dict[str, Any]:
    """Compare sales over HTTP with the trail and without: the most per second, then latencies at half."""
    seed = json.loads(house.python("-m", "benchmarks.seed", "1").splitlines()[-1])
    (sale,) = (point for point in points.all_of(seed, None) if point.name == "POST /orders/")
    house.serve("audit", "mestore.wsgi:application")
    house.serve("no audit", "benchmarks.unaudited:application")
    worker = _start(house, "manage.py", "worker")

    def run(state: str, interval: float) -> load.Load:
        house.python("-m", "benchmarks.unaudited", state)
        load.run(house.ports[state], sale.requests, clients=sale.clients, seconds=1, expect=sale.expect)
        return load.run(
            house.ports[state], sale.requests, clients=sale.clients, seconds=seconds, expect=sale.expect,
            interval=interval,
        )  # fmt: skip

    try:
        most = _alternate(lambda state: run(state, 0.0).per_second)
        pace = sale.clients / (statistics.median(most["audit"]) / 2)
        slow = _alternate(lambda state: run(state, pace).percentile(95))
    finally:
        _end(worker)
        house.python("-m", "benchmarks.unaudited", "audit")
    sales = statistics.median(most["audit"]) / statistics.median(most["no audit"])
    slower = statistics.median(slow["audit"]) / statistics.median(slow["no audit"])
    return {
        "kept": slower <= MOST_SLOWER and sales >= LEAST_SALES, "sales_ratio": round(sales, 3),
        "p95_ratio_at_half": round(slower, 3), "sales_per_second": most, "p95_ms_at_half": slow,
    }  # fmt: skip


def _alternate(measure: Any) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"audit": [], "no audit": []}
    for number in range(ROUNDS):
        for state in sorted(found, reverse=bool(number % 2)):
            found[state].append(round(measure(state), 2))
    return found


def _start(house: House, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=house.environment,
        stdout=subprocess.PIPE if "benchmarks.writers" in command else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _writing(house: House, threads: int, seconds: float) -> subprocess.Popen[bytes]:
    # Half as many connections again for keys of people: with fewer, writers would wait for the pool.
    house.environment["MESTORE_DB_POOL_SIZE"] = str(2 * threads)
    return _start(house, "-m", "benchmarks.writers", str(threads), str(seconds))


def _sold(running: list[subprocess.Popen[bytes]]) -> dict[str, Any]:
    said = [json.loads(one.communicate()[0].splitlines()[-1]) for one in running]
    errors: dict[str, int] = {}
    for one in said:
        for name, many in one["errors"].items():
            errors[name] = errors.get(name, 0) + many
    return {"sold": sum(one["sold"] for one in said), "errors": errors}


def _until_grown(house: House, worker: subprocess.Popen[bytes], before: int) -> None:
    """Wait until a worker has sequenced something. Raises RuntimeError when it never does."""
    end = time.monotonic() + GROWS_SECONDS
    while _ask(house, _SIZE)[0] <= before:
        if worker.poll() is not None:
            raise RuntimeError(f"the worker ended with {worker.returncode}")
        if time.monotonic() > end:
            raise RuntimeError("the worker gave nothing its place")
        time.sleep(0.02)


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    worker.wait(60)


def _ask(house: House, query: Any) -> Any:
    with house.admin() as connection:
        return connection.execute(query).fetchone()


if __name__ == "__main__":
    raise SystemExit(main())
