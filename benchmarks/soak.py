"""`make soak`: what the audit trail must stand for longer than a test may take.

`python -m benchmarks.soak [--only writers|kills|half|sales] [--seconds 60] [--kills 50] [--seed N]`, on
private servers of its own, durable, over TLS:

* writers: 64 connections place orders for a minute, beside a worker: no deadlock, nobody waits for a lock of
  the trail, nothing waits for its place in the log five seconds later;
* kills: beside writers one of two workers is killed (SIGKILL) at random moments: the other one goes on with
  the log within seconds, no gap, no duplicate, a full verification is good;
* half: sales per second over HTTP with the trail and without, then the 95th percentile of both at half of
  what the service with the trail can do. Both are measured in short slots, one pair after the other, and
  compared within each pair: what else runs on the machine meets both. The median of the pairs is the answer,
  and it says how sure it is;
* sales: the service is killed at random moments while people buy, give back and ask for payouts
  (`soak_sales`): the books add up, everything that was told is in them once.

Prints one JSON object and writes it to `benchmarks/results/`; ends with 1 when a bound is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import load, points, report, soak_sales, unaudited
from benchmarks.__main__ import SELLERS, console
from benchmarks.house import ROOT, House
from benchmarks.locks import Waiting
from benchmarks.market import write

PARTS = ("writers", "kills", "half", "sales")
PROCESSES = 4
WRITERS = 64
SETTLED_SECONDS = 5.0
GROWS_SECONDS = 240.0  # a busy machine takes its time to start a worker
TAKEN_OVER_SECONDS = 10.0
WARM_SECONDS, SLOT_SECONDS = 0.5, 2.5
FULL_PAIRS, HALF_PAIRS = 6, 40
DRAWN = 2_000
SWITCHES = 10
DAY_SECONDS = 86_400.0
LOG = "soak.log"
MOST_SLOWER = 1.25
LEAST_SALES = 0.85

_STATES: tuple[unaudited.State, ...] = ("audit", "no audit")
_Loads = dict[unaudited.State, list[load.Load]]

_PENDING = "SELECT count(*) FROM audit_pending"
_SIZE = "SELECT size FROM audit_tree"
_NEWEST = "SELECT max(id) FROM procrastinate_workers"
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
    parser.add_argument("--pairs", type=int, default=HALF_PAIRS, help="pairs of slots at half")
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
                    "half": lambda: half(house, given.pairs),
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
    """Kill one of two workers at random moments, beside writers; then verify everything."""
    selling = _writing(house, PROCESSES, DAY_SECONDS)  # until it is ended
    draw, killed, taken_over = random.Random(), 0, list[float]()
    first = _start(house, "manage.py", "worker")
    try:
        _until_grown(house, first, _ask(house, _SIZE)[0])
        for _ in range(count):
            following = _start(house, "manage.py", "worker")
            _until_registered(house, following)
            time.sleep(draw.uniform(0, 0.5))
            first.kill()
            killed += first.wait() == -signal.SIGKILL
            taken_over.append(_until_grown(house, following, _ask(house, _SIZE)[0]))
            first = following
    finally:
        first.kill()
        first.wait()
        _end(selling)
    house.python("-m", "benchmarks.drain")
    events, leaves, distinct, upto, size = _ask(house, _ONCE)
    verified = json.loads(house.manage("audit_verify", "--full", "--json").splitlines()[-1])
    is_whole = verified["good"] and events == leaves == distinct == upto == size
    return {
        "kept": bool(killed == count and is_whole and max(taken_over) <= TAKEN_OVER_SECONDS),
        "killed": killed, "events": events, "leaves": leaves, "verified": verified["good"],
        "taken_over_after_seconds": {
            "median": round(statistics.median(taken_over), 2), "longest": round(max(taken_over), 2),
        },
    }  # fmt: skip


def half(house: House, pairs: int) -> dict[str, Any]:
    """Compare sales over HTTP with the trail and without: the most per second, then latencies at half."""
    seed = json.loads(house.python("-m", "benchmarks.seed", "1").splitlines()[-1])
    (sale,) = (point for point in points.all_of(seed, None) if point.name == "POST /orders/")
    house.serve("audit", "mestore.wsgi:application")
    house.serve("no audit", "benchmarks.unaudited:application")
    worker = _start(house, "manage.py", "worker")

    def run(state: unaudited.State, interval: float) -> load.Load:
        _switch(house, state)
        for seconds in (WARM_SECONDS, SLOT_SECONDS):
            done = load.run(
                house.ports[state], sale.requests, clients=sale.clients, seconds=seconds,
                expect=sale.expect, interval=interval,
            )  # fmt: skip
        return done

    try:
        most = _in_pairs(FULL_PAIRS, lambda state: run(state, 0.0))
        rates = {state: statistics.median(one.per_second for one in done) for state, done in most.items()}
        slow = _in_pairs(pairs, lambda state: run(state, sale.clients / (rates["audit"] / 2)))
    finally:
        _end(worker)
        _switch(house, "audit")
    sales = compare([one.per_second for one in most["audit"]], [one.per_second for one in most["no audit"]])
    slower = compare(
        [one.percentile(95) for one in slow["audit"]], [one.percentile(95) for one in slow["no audit"]]
    )
    return {
        "kept": slower["median"] <= MOST_SLOWER and sales["median"] >= LEAST_SALES,
        "is_sure": slower["to"] <= MOST_SLOWER or slower["from"] > MOST_SLOWER,
        "sales_ratio": sales, "p95_ratio_at_half": slower, "pairs": pairs,
        "sales_per_second": {state: round(rate, 1) for state, rate in rates.items()},
        "p95_ms_at_half": {
            state: round(load.Load(0, 1, tuple(at for one in done for at in one.latencies)).percentile(95), 1)
            for state, done in slow.items()
        },
    }  # fmt: skip


def compare(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the median of the pairs' ratios, and from where to where it lies with a probability of 95 %.

    Pairs are drawn again and again from those that were measured (the bootstrap), always in the same order.
    """
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    draw = random.Random(len(ratios))
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(DRAWN))
    return {
        "median": round(statistics.median(ratios), 3),
        "from": round(medians[DRAWN // 40], 3), "to": round(medians[-1 - DRAWN // 40], 3),
    }  # fmt: skip


def _in_pairs(
    pairs: int, measure: Callable[[unaudited.State], load.Load]
) -> dict[unaudited.State, list[load.Load]]:
    """Measure both states so many times, one right after the other; which comes first alternates."""
    found: dict[unaudited.State, list[load.Load]] = {"audit": [], "no audit": []}
    for number in range(pairs):
        for state in sorted(found, reverse=bool(number % 2)):
            found[state].append(measure(state))
    return found


def _switch(house: House, state: unaudited.State) -> None:
    """Switch the database within this process: another one would take seconds of both processors to start."""
    os.environ.update(house.environment)
    unaudited.demand_bench()

    from django.db import OperationalError, connections

    for tries_left in reversed(range(SWITCHES)):
        try:
            unaudited.switch_database(state)
            break
        except OperationalError:  # a job of the worker holds the table
            if not tries_left:
                raise
    connections.close_all()


def _start(house: House, *command: str) -> subprocess.Popen[bytes]:
    with (house.folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *command], cwd=ROOT,
            env=house.environment | {"MESTORE_AUDIT_RECEIPTS": str(house.folder / "receipts.jsonl")},
            stdout=subprocess.PIPE if "benchmarks.writers" in command else subprocess.DEVNULL, stderr=log,
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


def _until_grown(house: House, worker: subprocess.Popen[bytes], before: int) -> float:
    """Wait until a worker has sequenced something; return for how long. Raises RuntimeError."""
    began = time.monotonic()
    end = began + GROWS_SECONDS
    while _ask(house, _SIZE)[0] <= before:
        if worker.poll() is not None:
            raise RuntimeError(f"the worker ended with {worker.returncode}:\n{_last_words(house)}")
        if time.monotonic() > end:
            raise RuntimeError(f"the worker gave nothing its place:\n{_last_words(house)}")
        time.sleep(0.02)
    return time.monotonic() - began


def _until_registered(house: House, worker: subprocess.Popen[bytes]) -> None:
    """Wait until a worker says that it is there: its sequencer began before. Raises RuntimeError."""
    end = time.monotonic() + GROWS_SECONDS
    known = _ask(house, _NEWEST)[0]
    while _ask(house, _NEWEST)[0] == known:
        if worker.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the worker did not begin ({worker.returncode}):\n{_last_words(house)}")
        time.sleep(0.02)


def _last_words(house: House) -> str:
    return (house.folder / LOG).read_text(errors="replace")[-3_000:]


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    worker.wait(60)


def _ask(house: House, query: Any) -> Any:
    with house.admin() as connection:
        return connection.execute(query).fetchone()


if __name__ == "__main__":
    raise SystemExit(main())
