"""Who waits for whom, looked at again and again while others write."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import psycopg

EVERY_SECONDS = 0.05

# Ungranted locks on what the trail owns: its tables, and the advisory locks of sequencer and erasure. Nobody
# else takes advisory locks in a sale. Making a file longer takes a lock too, for as long as that takes.
_WAITING = """
SELECT coalesce(c.relname, l.locktype), l.mode,
       (coalesce(c.relname LIKE 'audit%', false) AND l.locktype <> 'extend') OR l.locktype = 'advisory'
FROM pg_locks l LEFT JOIN pg_class c ON c.oid = l.relation
WHERE NOT l.granted AND coalesce(l.database, 0) IN (
    0, (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@dataclass
class Waiting:
    """A context manager that samples locks; afterwards what it saw."""

    dsn: str
    samples: int = 0
    on_the_trail: Counter[str] = field(default_factory=Counter)
    elsewhere: Counter[str] = field(default_factory=Counter)
    deadlocks: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.deadlocks = -self._deadlocks()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()
        self.deadlocks += self._deadlocks()

    def _sample(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            while not self._over.wait(EVERY_SECONDS):
                for what, mode, is_ours in connection.execute(_WAITING).fetchall():
                    (self.on_the_trail if is_ours else self.elsewhere)[f"{what} {mode}"] += 1
                self.samples += 1

    def _deadlocks(self) -> int:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row: Any = connection.execute(_DEADLOCKS).fetchone()
            return int(row[0])
