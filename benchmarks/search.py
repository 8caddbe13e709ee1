"""Searching the audit trail as it grows: by actor and month, page after page, and for what is rare.

`python -m benchmarks.search --events 100000 1000000 10000000` in the service's environment, on a database of
its own: it fills the trail (months that are prepared, 500 actors of whom 25 do half of everything, the codes
of a shop) up to each size and measures there. The 25 are searched for: their pages are full at every size, so
that as much is read at each. Prints one JSON object: milliseconds of a page (of 50) for each kind of search,
and how many blocks of 8 KiB its statement touched, which no other program on the machine changes.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from monitoring.trail_pages import Wanted

BATCH = 200_000
ACTORS, BUSY = 500, 25
PAGES = 5
SEARCHES = 40
MONTHS = 12
RARE_CODE, RARE_OUTCOME = "grant.revoked", "BLOCKED"
CODES = ["capture.insert", "capture.insert", "finance.ledger_entry.posted", "order.recorded"]
CODES += ["commission.calculated"]
RARE = 200_000
"""One event in so many has the rare code, and another one the rare outcome."""

# As many captured rows and entries of the ledger as a shop has; ids and moments as the service makes them.
_FILL = """
WITH made AS (
    SELECT n, md5(n::text) AS digits, date_trunc('month', now(), 'UTC') + make_interval(
               months => (n %% %(months)s)::int, secs => n / 5 + (n %% 1000) / 1000.0) AS at
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
), written AS (
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(digits, 1, 3)
            || 'a' || substr(digits, 4, 15))::uuid AS id, at, n, digits,
           CASE WHEN n %% %(rare)s = 7 THEN %(code)s ELSE (%(codes)s::text[])[1 + n %% 5] END AS type,
           CASE WHEN n %% %(rare)s = 8 THEN %(outcome)s ELSE 'SUCCESS' END AS outcome,
           convert_to(format('{"bench": %%s, "text": "%%s"}', n, repeat(digits, 6)), 'UTF8') AS canon
    FROM made
)
INSERT INTO audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, target_type, target_id,
                         session_id, request_id, canon, leaf_hash)
SELECT id, at, type, outcome, 'machine',
       'bench-' || abs(hashint8(n) %% CASE WHEN n / %(months)s %% 2 = 0 THEN %(busy)s ELSE %(actors)s END),
       'bench', n::text,
       'session-' || n / 100, digits, canon, sha256('\\x00'::bytea || canon)
FROM written ON CONFLICT DO NOTHING
"""


def main() -> None:
    """Fill, measure and print, size after size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=[100_000, 1_000_000])
    given = parser.parse_args()
    django.setup()
    found, filled = {}, 0
    for events in sorted(given.events):
        _fill(filled, events)
        filled = events
        times, blocks = _measure()
        found[str(events)] = {name: _figures(times[name], blocks[name]) for name in times}
    sys.stdout.write(json.dumps(found) + "\n")


def _fill(first: int, events: int) -> None:
    from mestore.lib import sql

    values = {
        "months": MONTHS, "rare": RARE, "code": RARE_CODE, "outcome": RARE_OUTCOME, "actors": ACTORS,
        "busy": BUSY, "codes": CODES,
    }  # fmt: skip
    for at in range(first, events, BATCH):
        last = min(at + BATCH, events) - 1
        sql.execute(_FILL, values | {"first": at, "last": last}, using="owner")
    sql.execute("VACUUM (ANALYZE) audit_event", using="owner")
    sql.execute("VACUUM (ANALYZE) audit_pending", using="owner")


def _measure() -> tuple[dict[str, list[float]], dict[str, list[int]]]:
    """Milliseconds of every page, and blocks of every first page, by kind of search."""
    from monitoring.trail_pages import Wanted

    draw = random.Random(7)  # the same searches each time
    found, blocks = dict[str, list[float]](), dict[str, list[int]]()
    for _ in range(SEARCHES):
        since = _month(draw.randrange(1, MONTHS))
        month = replace(Wanted(), since=since, until=_month_after(since))
        actor = f"bench-{draw.randrange(BUSY)}"
        searches = {
            "actor and month": replace(month, actor=actor),
            "rare code": replace(month, code=RARE_CODE),
            "rare outcome": replace(month, outcome=RARE_OUTCOME),
            "code that never was": replace(month, code="account.merged"),
        }
        for name, wanted in searches.items():
            found.setdefault(name, []).extend(_pages(wanted))
            blocks.setdefault(name, []).append(_blocks(wanted))
    return found, blocks


def _blocks(wanted: Wanted) -> int:
    """How many blocks the statement of the first page touches, in memory or not."""
    from monitoring import trail_pages

    said = json.loads(trail_pages.question(wanted, 50).explain(format="json", analyze=True, buffers=True))
    return int(said[0]["Plan"]["Shared Hit Blocks"]) + int(said[0]["Plan"]["Shared Read Blocks"])


def _pages(wanted: Wanted) -> Iterator[float]:
    """Milliseconds of each of the first pages of a search."""
    from mestore.lib import actor
    from monitoring import trail_pages

    cursor, by = None, actor.system("bench")
    for _ in range(PAGES):
        began = time.perf_counter()
        page = trail_pages.read(wanted, limit=50, cursor=cursor, by=by)
        yield (time.perf_counter() - began) * 1_000
        cursor = page.next
        if cursor is None:
            return


def _month(ahead: int) -> dt.datetime:
    now = dt.datetime.now(dt.UTC)
    year, month = divmod(now.year * 12 + now.month - 1 + ahead, 12)
    return dt.datetime(year, month + 1, 1, tzinfo=dt.UTC)


def _month_after(since: dt.datetime) -> dt.datetime:
    return (since + dt.timedelta(days=32)).replace(day=1)


def _figures(times: list[float], blocks: list[int]) -> dict[str, float]:
    return {
        "blocks_p50": statistics.median(blocks), "blocks_longest": max(blocks),
        "pages": len(times), "p50_ms": round(statistics.median(times), 2),
        "p95_ms": round(statistics.quantiles(times, n=20)[18], 2), "longest_ms": round(max(times), 2),
    }  # fmt: skip


if __name__ == "__main__":
    main()
