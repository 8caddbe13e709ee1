"""The signed log as it is stored: the tree's state, its tiles, which event is which leaf.

Only the sequencer appends; everybody may read. What a reader gets out of tiles proves itself against a
checkpoint, so nothing here needs to be trusted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from mestore.lib import merkle, sql
from mestore.lib.merkle import Frontier

_STATE = "SELECT epoch, size, frontier, sequenced_at, published_at FROM audit_tree"
_STATE_LOCKED = "SELECT epoch, size, frontier, sequenced_at, published_at FROM audit_tree FOR UPDATE"
_GROW = "UPDATE audit_tree SET size = %s, frontier = %s, sequenced_at = now() WHERE epoch = %s AND size = %s"
_ENDED = "SELECT epoch, size, frontier, sequenced_at, published_at FROM audit_ended_log ORDER BY epoch"
_TILE_ROW = """
SELECT substring(hashes FROM %s FOR %s) FROM audit_tile
WHERE epoch = coalesce(%s, (SELECT epoch FROM audit_tree)) AND level = %s AND number = %s
"""
# The width is part of the condition: hashes are appended to exactly the tile that they were computed for.
_APPEND = """
INSERT INTO audit_tile AS t (epoch, level, number, hashes)
SELECT %(epoch)s, new.level, new.number, new.hashes
FROM unnest(%(levels)s::smallint[], %(numbers)s::bigint[], %(widths)s::int[], %(hashes)s::bytea[])
  AS new(level, number, width, hashes)
WHERE new.width = 0
   OR EXISTS (SELECT FROM audit_tile held
              WHERE held.epoch = %(epoch)s AND held.level = new.level AND held.number = new.number
              AND length(held.hashes) = 32 * new.width)
ON CONFLICT (epoch, level, number) DO UPDATE SET hashes = t.hashes || excluded.hashes
"""
_PLACE = """
SELECT leaf_index FROM audit_leaf WHERE event_id = %s AND epoch = (SELECT epoch FROM audit_tree)
"""


class LogDamaged(RuntimeError):
    """What is stored of the log contradicts itself: nothing is appended or signed until a person looked."""


@dataclass(frozen=True, slots=True)
class State:
    """How far the log has come. `epoch` counts logs: a new one begins after a loss that was admitted."""

    epoch: int
    frontier: Frontier
    sequenced_at: dt.datetime | None
    published_at: dt.datetime | None

    @property
    def size(self) -> int:
        return self.frontier.size


def state(*, lock: bool = False, using: str = "default") -> State:
    """Return the tree's state; with `lock`, its row is the caller's until the end of the transaction.

    Raises LogDamaged when size and frontier do not belong together.
    """
    row = sql.fetch_one(_STATE_LOCKED if lock else _STATE, using=using, prepare=True)
    if row is None:
        raise LogDamaged("the log's state is missing")
    return _state(row)


def ended(using: str = "default") -> list[State]:
    """Return the logs before this one as they were when they ended, oldest first. Raises LogDamaged."""
    return [_state(row) for row in sql.fetch_all(_ENDED, using=using)]


def state_of(epoch: int) -> State:
    """Return the state of one log: this one, or one that ended. Raises LogDamaged when there is none such."""
    for found in (state(), *ended()):
        if found.epoch == epoch:
            return found
    raise LogDamaged("there never was such a log")


def _state(row: sql.Row) -> State:
    epoch, size, joined, sequenced_at, published_at = row
    try:
        frontier = Frontier.load(size, bytes(joined))
    except merkle.ProofError as error:
        raise LogDamaged("the log's state contradicts itself") from error
    return State(epoch, frontier, sequenced_at, published_at)


def append(now: State, leaves: Sequence[bytes], using: str = "default") -> int:
    """Append leaf hashes to tiles and tree; return the new size. In the transaction that locked `now`.

    Raises LogDamaged when a tile is not as long as the tree says.
    """
    added = list(merkle.additions(now.size, leaves, tiles(now.epoch, using)))
    written = sql.execute(
        _APPEND,
        {
            "epoch": now.epoch,
            "levels": [tile.level for tile in added],
            "numbers": [tile.index for tile in added],
            "widths": [tile.width for tile in added],
            "hashes": [tile.hashes for tile in added],
        },
        using=using,
        prepare=True,
    )
    if written != len(added):
        raise LogDamaged("a tile is not as long as the tree's size says")
    grown = Frontier(now.size, list(now.frontier.hashes))
    grown.extend(leaves)
    values = (grown.size, grown.dump(), now.epoch, now.size)
    if sql.execute(_GROW, values, using=using, prepare=True) != 1:
        raise LogDamaged("the log grew in two places at once")
    return grown.size


def tile_row(level: int, start: int, count: int) -> bytes:
    """Return so many hashes of one tile of the current log, joined; shorter when the tile is."""
    return _tile_row(None, "default", level, start, count)


def tiles(epoch: int, using: str = "default") -> merkle.TileRow:
    """Return what reads the tiles of one log: this one, or one that ended."""
    return partial(_tile_row, epoch, using)


def _tile_row(epoch: int | None, using: str, level: int, start: int, count: int) -> bytes:
    number, at = divmod(start, merkle.TILE_WIDTH)
    row = sql.fetch_one(_TILE_ROW, (at * 32 + 1, count * 32, epoch, level, number), using=using)
    return bytes(row[0]) if row is not None else b""


def place_of(event_id: UUID) -> int | None:
    """Return which leaf of the current log an event is; None while it waits (or is not there)."""
    row = sql.fetch_one(_PLACE, (event_id,))
    return int(row[0]) if row is not None else None


def root_at(size: int, epoch: int | None = None) -> bytes:
    """Return the root of a log (the current one) as it was with `size` leaves. Raises merkle.ProofError."""
    return merkle.from_tiles(tile_row if epoch is None else tiles(epoch))(0, size)
