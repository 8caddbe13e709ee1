"""Does the log still say what it said? Everything is computed anew and compared with what was signed.

The work goes in ranges of 65,536 leaves (256 tiles). For each, the database hashes the events' bytes with its
own `sha256` and the result is compared with the tiles; then tiles with the tiles above them, the tree with
its checkpoints. A range is one short statement with bounded memory, so ranges can be checked side by side,
and a long check can be stopped and taken up again. The first wrong leaf of a range is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from mestore.lib import merkle, notes, sql
from mestore.lib.merkle import HASH_BYTES, TILE_WIDTH
from monitoring import checkpoints, log

RANGE: Final = TILE_WIDTH * TILE_WIDTH

_HASHES = """
WITH places AS MATERIALIZED (
    SELECT leaf_index, event_id, occurred_at FROM audit_leaf
    WHERE epoch = %(epoch)s AND leaf_index >= %(begin)s AND leaf_index < %(end)s
), bounds AS MATERIALIZED (
    SELECT min(occurred_at) AS first, max(occurred_at) AS last FROM places
)
SELECT string_agg(sha256('\\x00'::bytea || e.canon), ''::bytea ORDER BY p.leaf_index),
       count(e.id), (SELECT count(*) FROM places)
FROM places p JOIN audit_event e ON e.id = p.event_id AND e.occurred_at = p.occurred_at
WHERE e.occurred_at >= (SELECT first FROM bounds) AND e.occurred_at <= (SELECT last FROM bounds)
"""
_TILES = """
SELECT string_agg(hashes, ''::bytea ORDER BY number), count(*) FROM audit_tile
WHERE epoch = %s AND level = %s AND number >= %s AND number < %s
"""
_LEAVES = """
SELECT p.leaf_index, p.event_id, sha256('\\x00'::bytea || e.canon)
FROM audit_leaf p LEFT JOIN audit_event e ON e.id = p.event_id AND e.occurred_at = p.occurred_at
WHERE p.epoch = %s AND p.leaf_index >= %s AND p.leaf_index < %s ORDER BY p.leaf_index
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, in words and, where it can be told, at which leaf and event."""

    what: str
    leaf_index: int | None = None
    event_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Leaves `begin` to `end` (excluded) of one log."""

    begin: int
    end: int
    epoch: int = 1


def spans(size: int, begin: int = 0, epoch: int = 1) -> Iterator[Span]:
    """Yield the ranges of a tree of `size` leaves, from the one that holds `begin` on."""
    for start in range(begin - begin % RANGE, size, RANGE):
        yield Span(start, min(start + RANGE, size), epoch)


def check_span(span: Span, size: int) -> list[Fault]:
    """Compare the events of one range with its leaf tiles, and those with the tiles above them."""
    stored = _tile_hashes(0, span)
    values = {"epoch": span.epoch, "begin": span.begin, "end": span.end}
    hashes, events, places = sql.fetch_one(_HASHES, values) or (None, 0, 0)
    found = bytes(hashes or b"")
    wanted = (span.end - span.begin) * HASH_BYTES
    if found == stored and len(found) == wanted:
        return _check_above(span, size, stored)
    return [_first_fault(span, stored, events=int(events), places=int(places))]


def check_tree(size: int, epoch: int = 1) -> list[Fault]:
    """Compare tiles of the levels above the ranges with each other, and the tree with its checkpoints."""
    faults: list[Fault] = []
    tile_row = log.tiles(epoch)
    level = 2
    while size >> (8 * level):
        hashes = size >> (8 * level)
        for number in range(hashes):
            below = tile_row(level - 1, number * TILE_WIDTH, TILE_WIDTH)
            above = tile_row(level, number, 1)
            if len(below) != TILE_WIDTH * HASH_BYTES or merkle.full_tile_root(below) != above:
                faults.append(Fault(f"tile {number} of level {level - 1} is not what the tile above says"))
        level += 1
    return [*faults, *_check_checkpoints(size, epoch)]


def _check_above(span: Span, size: int, stored: bytes) -> list[Fault]:
    """Compare each full leaf tile of the range with the hash that stands for it."""
    first, full = span.begin // TILE_WIDTH, span.end // TILE_WIDTH
    above = log.tiles(span.epoch)(1, first, full - first) if full > first else b""
    for number in range(first, full):
        at = (number - first) * TILE_WIDTH * HASH_BYTES
        root = merkle.full_tile_root(stored[at : at + TILE_WIDTH * HASH_BYTES])
        if above[(number - first) * HASH_BYTES : (number - first + 1) * HASH_BYTES] != root:
            return [Fault(f"the hash above leaf tile {number} is not its root", number * TILE_WIDTH)]
    width = merkle.tile_width(1, span.begin // RANGE, size)
    if len(above) != min(width, full - first) * HASH_BYTES:
        return [Fault("the tile above the leaf tiles has another length", span.begin)]
    return []


def _check_checkpoints(size: int, epoch: int) -> list[Fault]:
    """Compare the tree with its state and every checkpoint of its epoch with the tree."""
    now, faults = log.state_of(epoch), list[Fault]()
    if now.size < size or log.root_at(now.size, epoch) != now.frontier.root():
        faults.append(Fault("the tiles do not lead to the root of the log's state"))
    key = checkpoints.verifier(epoch)
    for signed in checkpoints.every(epoch):
        try:
            said = notes.checkpoint_of(signed.note, log=key)
        except notes.NoteError:
            faults.append(Fault(f"the checkpoint of size {signed.size} is not signed by the log"))
            continue
        if said.size > now.size:
            faults.append(Fault(f"the log is shorter than its checkpoint of size {said.size}"))
            continue
        is_kept = (said.size, said.root) == (signed.size, signed.root)
        if not is_kept or log.root_at(said.size, epoch) != said.root:
            faults.append(Fault(f"the log does not begin with its checkpoint of size {said.size}"))
    return faults


def _tile_hashes(level: int, span: Span) -> bytes:
    row = sql.fetch_one(_TILES, (span.epoch, level, span.begin // TILE_WIDTH, -(-span.end // TILE_WIDTH)))
    hashes = bytes(row[0] or b"") if row else b""
    return hashes[: (span.end - span.begin) * HASH_BYTES]


def _first_fault(span: Span, stored: bytes, *, events: int, places: int) -> Fault:
    """Go through the leaves of a wrong range one by one; say what the first difference is."""
    expected = span.begin
    for leaf_index, event_id, leaf in sql.fetch_all(_LEAVES, (span.epoch, span.begin, span.end)):
        if leaf_index != expected:
            return Fault("a leaf has lost its event", expected)
        if leaf is None:
            return Fault("the event of a leaf is gone", leaf_index, event_id)
        at = (leaf_index - span.begin) * HASH_BYTES
        if bytes(leaf) != stored[at : at + HASH_BYTES]:
            return Fault("an event is not what the log says", leaf_index, event_id)
        expected += 1
    missing = expected if expected < span.end else None
    return Fault(f"{events} events and {places} leaves stand for {span.end - span.begin}", missing)
