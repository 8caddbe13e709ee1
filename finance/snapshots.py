"""The sums behind balances: taken from time to time, compared every night, thrown away after a restore.

A snapshot is told by a horizon of transaction ids: every transaction before it has ended, so nothing can be
added behind it. A dump that is restored into another cluster begins these ids anew: then every snapshot has
to go, which is what `finance_snapshots --rebuild` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

from django.db import transaction

from mestore.lib import sql
from mestore.lib.actor import Actor
from monitoring import audit, events

#: Books in one transaction.
PAGE: Final = 500
#: Snapshots of one account that are kept: the newest, and some to look back on an axis of time.
KEPT: Final = 40

_TAKE: Final = "SELECT last_book, taken FROM ledger_take_snapshots(%s, %s)"
_FUTURE: Final = """
SELECT count(*) FROM ledger_snapshot WHERE horizon > pg_snapshot_xmin(pg_current_snapshot())
"""
_FORGET: Final = """
DELETE FROM ledger_snapshot s USING (
    SELECT book_id, id, row_number() OVER (PARTITION BY book_id, account_id ORDER BY horizon DESC) AS place
    FROM ledger_snapshot) o
WHERE o.book_id = s.book_id AND o.id = s.id AND o.place > %s
"""

Progress = Callable[[int], None]
"""`progress(snapshots taken)`, after each page."""


def take(*, page: int = PAGE, progress: Progress = lambda _taken: None) -> int:
    """Sum up what has ended since the last time, `page` books per transaction; return how many snapshots."""
    taken, after = 0, None
    while True:
        last, count = sql.fetch_one(_TAKE, [after, page]) or (None, 0)
        if last is None:
            return taken
        after = UUID(str(last))
        taken += int(count)
        progress(taken)


def from_another_cluster() -> int:
    """Return how many snapshots have a horizon that has not come yet: not one, or a dump was restored."""
    row = sql.fetch_one(_FUTURE)
    return int(row[0]) if row else 0


def rebuild(*, reason: str, by: Actor, progress: Progress = lambda _taken: None) -> tuple[int, int]:
    """Throw every snapshot away, as the owner of the tables, and take them anew; return (gone, taken).

    Without a snapshot balances are summed up from the beginning. Before this, after a dump was restored into
    another cluster, they are wrong: its snapshots speak of other transactions.
    """
    gone = sql.execute("DELETE FROM ledger_snapshot", using="owner")
    taken = take(progress=progress)
    with transaction.atomic():
        audit.record(
            events.SNAPSHOTS_REBUILT, by=by, target=("ledger", "snapshots"),
            data={"gone": gone, "taken": taken, "reason": reason},
        )  # fmt: skip
    return gone, taken


def forget(*, kept: int = KEPT) -> int:
    """Delete, as the owner, all but the newest `kept` snapshots of each account; return how many."""
    return sql.execute(_FORGET, [kept], using="owner")
