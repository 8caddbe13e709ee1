"""Verifying the audit log, against the database hashing the same rows and doing nothing else.

Prints one JSON object: leaves per second of `SELECT sha256(canon)`, of comparing events with their leaf
tiles, of that with tree and checkpoints (`audit_verify --full --hashes-only`), of the full check, and of
hashing in Python. What is compared alternates, and runs in one process and one backend unless `--jobs` says
otherwise.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable

import django

ROUNDS = 5
BATCH = 100_000

# Events as a trigger would write them (no MAC of the application), spread over the last days.
_FILL = """
WITH made AS (
    SELECT (left(lpad(to_hex(ms), 12, '0'), 8) || '-' || right(lpad(to_hex(ms), 12, '0'), 4)
            || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS id,
           to_timestamp(ms / 1000.0) AS at, n
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n,
         LATERAL (SELECT (extract(epoch FROM now()) * 1000)::bigint - 864000000 + n * 500 AS ms) AS moment
), written AS (
    SELECT m.id, m.at, convert_to(jsonb_build_object(
        'v', 1, 'id', m.id, 'at', to_char(m.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'event', 'capture.insert', 'event_version', 1, 'outcome', 'SUCCESS',
        'actor', jsonb_build_object('kind', 'system', 'role', 'SYSTEM', 'name', 'bench'),
        'target', jsonb_build_object('type', 'bench', 'id', m.n::text), 'request', md5(m.n::text),
        'data', jsonb_build_object('n', m.n, 'text', md5(m.n::text)))::text, 'UTF8') AS canon, m.n
    FROM made m
), event AS (
    INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, actor_role, target_type, target_id,
                             request_id, canon, leaf_hash)
    SELECT id, at, 'capture.insert', 'SUCCESS', 'system', 'SYSTEM', 'bench', n::text, md5(n::text), canon,
           sha256('\\x00'::bytea || canon)
    FROM written RETURNING id, occurred_at
)
INSERT INTO audit_pending (id, occurred_at) SELECT id, occurred_at FROM event
"""
_HASH = "SELECT count(sha256(canon)) FROM audit_event"
_ALONE = "SELECT set_config('max_parallel_workers_per_gather', '0', false)"
_ANALYZE = "ANALYZE audit_event, audit_leaf, audit_tile"


def main() -> None:
    """Fill as far as needed, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaves", type=int, default=300_000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--hashes-only", action="store_true", help="only what is compared")
    given = parser.parse_args()
    django.setup()
    from mestore.lib import sql
    from monitoring import log

    _fill(given.leaves)
    if given.jobs == 1:
        sql.execute(_ALONE)
    compared = {"sha256(canon)": _hashed, "events": _events, "hashes only": _verified(given.jobs, rows=False)}
    work = compared | {"full": _verified(given.jobs), "stream": _verified(given.jobs, stream=True)}
    spent: dict[str, list[float]] = {}
    for number in range(given.rounds):
        for name, run in (compared if number or given.hashes_only else work).items():
            spent.setdefault(name, []).append(run())
    size = log.state().size
    rates = {name: round(size / statistics.median(times)) for name, times in spent.items()}
    said = {
        "leaves": size, "jobs": given.jobs, "leaves_per_second": rates,
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "ratio": {name: round(rate / rates["sha256(canon)"], 2) for name, rate in rates.items()},
    }  # fmt: skip
    sys.stdout.write(json.dumps(said) + "\n")


def _hashed() -> float:
    from mestore.lib import sql

    began = time.perf_counter()
    sql.fetch_one(_HASH)
    return time.perf_counter() - began


def _events() -> float:
    from monitoring import log, verification

    found, began = verification.Findings(), time.perf_counter()
    for span in verification.spans(log.state().size):
        verification.check_leaves(span, verification.leaf_tiles(span), found)
    if found.faults:
        raise RuntimeError(f"the log is not good: {found.faults[0]}")
    return time.perf_counter() - began


def _verified(jobs: int, *, rows: bool = True, stream: bool = False) -> Callable[[], float]:
    from mestore.lib import actor
    from monitoring import verifications
    from monitoring.verifications import Mode, Plan

    def run() -> float:
        plan = Plan(Mode.FULL, jobs=jobs, rows=rows, stream=stream)
        (found,) = verifications.verify(plan, by=actor.system("bench"))
        if not found.is_good:
            raise RuntimeError(f"the log is not good: {found.found.faults[0]}")
        return found.seconds

    return run


def _fill(leaves: int) -> None:
    from mestore.lib import sql
    from monitoring import log, sequencer

    for first in range(log.state().size, leaves, BATCH):
        last = min(first + BATCH, leaves) - 1
        sql.execute(_FILL, {"first": first, "last": last}, using="owner")
        sequencer.drain()
    sql.execute(_ANALYZE, using="owner")


if __name__ == "__main__":
    main()
