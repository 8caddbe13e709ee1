"""Does the log still say what it said? Everything is computed anew and compared with what was signed.

The work goes in ranges of 65,536 leaves (256 tiles). For each, the database hashes the events' bytes with its
own `sha256` and the result is compared with the tiles; these with the tiles above them; and every checkpoint
of the range is checked: its signature, the cosignatures of known witnesses, and that the log has its root. A
range is a few short statements with bounded memory, so ranges can be checked side by side, and a long check
can be stopped and taken up again. The first wrong leaf of a range is named.

What ties the ranges together (higher tiles, the state, checkpoints beyond it) is `check_tree`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from django.db import transaction

from mestore.lib import merkle, notes, sql
from mestore.lib.merkle import HASH_BYTES, TILE_WIDTH, Frontier
from mestore.lib.notes import Verifier
from monitoring import checkpoints, cosigning, log, retired

RANGE: Final = TILE_WIDTH * TILE_WIDTH
MOST: Final = 10
"""How many faults of one kind are named in a range; further ones are counted."""
PAGE: Final = 1_000

# The moments are constants in the next statement: the planner leaves out partitions, and knows how many rows.
_BOUNDS = """
SELECT count(*), min(occurred_at), max(occurred_at) FROM audit_leaf
WHERE epoch = %(epoch)s AND leaf_index >= %(begin)s AND leaf_index < %(end)s
"""
# pg_catalog by name: a function of the same name in another schema must not answer for it. The tiles stand
# there as one value that each leaf's hash is cut out of: nothing has to be sorted. What was compared is told
# by its digest.
_HASHES = """
WITH tiles AS MATERIALIZED (
    SELECT string_agg(hashes, ''::bytea ORDER BY number) AS hashes FROM audit_tile
    WHERE epoch = %(epoch)s AND level = 0 AND number >= %(first_tile)s AND number < %(end_tile)s
)
SELECT pg_catalog.sha256(pg_catalog.substring(
           (SELECT hashes FROM tiles), (%(begin)s - %(first)s) * 32 + 1, (%(end)s - %(begin)s) * 32)),
       count(*),
       count(*) FILTER (WHERE pg_catalog.byteaeq(
           pg_catalog.sha256('\\x00'::bytea || e.canon),
           pg_catalog.substring((SELECT hashes FROM tiles), (p.leaf_index - %(first)s)::int * 32 + 1, 32)))
FROM audit_leaf p JOIN audit_event e ON e.id = p.event_id AND e.occurred_at = p.occurred_at
WHERE p.epoch = %(epoch)s AND p.leaf_index >= %(begin)s AND p.leaf_index < %(end)s
  AND e.occurred_at >= %(since)s AND e.occurred_at <= %(until)s
"""
# The leaves of a span are joined in memory (5 MB). To compile the statement takes longer than it saves.
_SETTINGS = "SELECT set_config('work_mem', '32MB', true), set_config('jit', 'off', true)"
_TILES = """
SELECT string_agg(hashes, ''::bytea ORDER BY number), count(*) FROM audit_tile
WHERE epoch = %s AND level = %s AND number >= %s AND number < %s
"""
_LEAVES = """
SELECT p.leaf_index, p.event_id, pg_catalog.sha256('\\x00'::bytea || e.canon)
FROM audit_leaf p LEFT JOIN audit_event e ON e.id = p.event_id AND e.occurred_at = p.occurred_at
WHERE p.epoch = %s AND p.leaf_index >= %s AND p.leaf_index < %s ORDER BY p.leaf_index
"""
_CHECKPOINTS = """
SELECT size, root, note FROM audit_checkpoint
WHERE epoch = %s AND size > %s AND size <= %s ORDER BY size LIMIT %s
"""
_COSIGNATURES = """
SELECT size, witness, line FROM audit_cosignature
WHERE epoch = %s AND size >= %s AND size <= %s AND witness = ANY(%s) ORDER BY size, witness
"""
# The log's size as of the same moment: it may grow, and be signed, meanwhile.
_BEYOND = """
WITH log AS (
    SELECT size FROM audit_tree WHERE epoch = %(epoch)s
    UNION ALL SELECT size FROM audit_ended_log WHERE epoch = %(epoch)s
)
SELECT c.size, c.root, c.note, c.size > log.size FROM audit_checkpoint c, log
WHERE c.epoch = %(epoch)s AND (c.size = 0 OR c.size > log.size) ORDER BY c.size LIMIT %(most)s
"""
_STRAY = """
SELECT (SELECT count(*) FROM audit_leaf WHERE epoch = %(epoch)s AND leaf_index >= coalesce(
            (SELECT size FROM audit_tree WHERE epoch = %(epoch)s),
            (SELECT size FROM audit_ended_log WHERE epoch = %(epoch)s))),
       (SELECT count(*) FROM audit_leaf WHERE epoch > (SELECT epoch FROM audit_tree))
"""
_SAMPLE = """
SELECT i.leaf_index, l.event_id, pg_catalog.sha256('\\x00'::bytea || e.canon),
       substring(t.hashes FROM ((i.leaf_index %% 256) * 32 + 1)::int FOR 32)
FROM unnest(%(indexes)s::bigint[]) AS i (leaf_index)
LEFT JOIN audit_leaf l ON l.epoch = %(epoch)s AND l.leaf_index = i.leaf_index
LEFT JOIN audit_event e ON e.id = l.event_id AND e.occurred_at = l.occurred_at
LEFT JOIN audit_tile t ON t.epoch = %(epoch)s AND t.level = 0 AND t.number = i.leaf_index / 256
ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, in words and, where it can be told, at which leaf and event."""

    what: str
    leaf_index: int | None = None
    event_id: UUID | None = None


@dataclass(slots=True)
class Findings:
    """What a check found: faults, and notes on what is no fault and should be known."""

    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)
    more: int = 0
    """Faults that were counted and not kept."""

    def fault(self, what: str, leaf_index: int | None = None, event_id: UUID | None = None) -> None:
        if sum(one.what == what for one in self.faults) < MOST and len(self.faults) < 10 * MOST:
            self.faults.append(Fault(what, leaf_index, event_id))
        else:
            self.more += 1

    def note(self, what: str, leaf_index: int | None = None) -> None:
        self.notes.append(Fault(what, leaf_index))

    def add(self, other: Findings) -> None:
        for one in other.faults:
            self.fault(one.what, one.leaf_index, one.event_id)
        self.notes.extend(other.notes[: max(0, 10 * MOST - len(self.notes))])
        self.more += other.more


@dataclass(frozen=True, slots=True)
class Span:
    """Leaves `begin` to `end` (excluded) of one log."""

    begin: int
    end: int
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """A look at leaves picked at random."""

    size: int
    checked: int
    faults: tuple[Fault, ...]


def spans(size: int, begin: int = 0, epoch: int = 1) -> Iterator[Span]:
    """Yield the parts of a tree of `size` leaves from the tile that holds `begin` on, none across a range."""
    start = begin - begin % TILE_WIDTH
    while start < size:
        end = min(start - start % RANGE + RANGE, size)
        yield Span(start, end, epoch)
        start = end


def check_span(span: Span, *, key: Verifier | None = None, stored: bytes | None = None) -> Findings:
    """Check one span of a log against its tiles, and the checkpoints in it against these.

    `key` is the log's public key when it is not to be that of the settings. With `stored` (the span's
    `leaf_tiles`) the caller hashes the events itself: only what stands above is checked.
    """
    found, is_hashed = Findings(), stored is not None
    stored = leaf_tiles(span) if stored is None else stored
    with ThreadPoolExecutor(max_workers=1) as aside:
        # These hashes ask no database: they are made while it makes its own.
        roots = aside.submit(_tile_roots, stored)
        if not is_hashed:
            _check_kept_leaves(span, stored, found, key)
        elif len(stored) != (span.end - span.begin) * HASH_BYTES:
            found.fault("the leaf tiles are shorter than the log", span.begin)
    if found.faults and len(stored) != (span.end - span.begin) * HASH_BYTES:
        return found
    _check_above(span, roots.result(), found)
    # What is wrong below makes every root above wrong: then only the signatures are worth a look.
    _check_checkpoints(span, stored, roots.result(), key or checkpoints.verifier(span.epoch), found)
    return found


def check_tree(size: int, epoch: int = 1, *, key: Verifier | None = None, begin: int = 0) -> Findings:
    """Compare tiles of the levels above the ranges with each other, the state with the tiles, and look for
    checkpoints and leaves beyond the log's end. `begin` to `size` is what was checked in spans.
    """
    found, tile_row, level = Findings(), log.tiles(epoch), 2
    while size >> (8 * level):
        for number in range(begin >> (8 * level), size >> (8 * level)):
            below = tile_row(level - 1, number * TILE_WIDTH, TILE_WIDTH)
            above = tile_row(level, number, 1)
            if len(below) != TILE_WIDTH * HASH_BYTES or merkle.full_tile_root(below) != above:
                found.fault(f"tile {number} of level {level - 1} is not what the tile above says")
        level += 1
    _check_state(size, epoch, key or checkpoints.verifier(epoch), found)
    return found


def check_kept(note: str, *, key: Verifier | None = None) -> Findings:
    """Compare the log with a checkpoint that was kept elsewhere, with the lines of witnesses on it.

    Raises notes.NoteError when the text is no signed note at all.
    """
    found = Findings()
    notes.parse(note)
    now = next((one for one in (log.state(), *log.ended()) if _is_by(note, one.epoch)), None)
    if now is None:
        found.fault("the checkpoint that was kept elsewhere is of a log with another name")
        return found
    try:
        said = notes.checkpoint_of(note, log=key or checkpoints.verifier(now.epoch))
        notes.cosigned_at(note, [one.key for one in cosigning.configured()])
    except notes.NoteError as error:
        found.fault(f"the checkpoint that was kept elsewhere is not this log's: {error}")
        return found
    if said.size > now.size:
        found.fault(f"the log is shorter than the checkpoint of size {said.size} that was kept elsewhere")
    elif _root_at(said.size, now.epoch) != said.root:
        found.fault(f"the log does not begin with the checkpoint of size {said.size} kept elsewhere")
    return found


def sample(count: int) -> Sample:
    """Compare so many leaves, picked at random, with their tiles; two statements.

    Leaves whose month was given up are not compared. 3,000 leaves find a change of one in a thousand with a
    probability of 95 in a hundred.
    """
    now, draw = log.state(), secrets.SystemRandom()
    indexes = draw.sample(range(now.size), min(count, now.size))
    rows = sql.fetch_all(_SAMPLE, {"indexes": indexes, "epoch": now.epoch})
    gone = retired.load() if any(row[2] is None for row in rows) else retired.Retired()
    faults = []
    for index, event_id, leaf, tile in rows:
        if leaf is None and gone.holds(now.epoch, int(index)):
            continue
        if event_id is None:
            faults.append(Fault("a leaf has lost its event", int(index)))
        elif leaf is None:
            faults.append(Fault("the event of a leaf is gone", int(index), event_id))
        elif tile is None or bytes(leaf) != bytes(tile):
            faults.append(Fault("an event is not what the log says", int(index), event_id))
    return Sample(now.size, len(indexes), tuple(faults[:MOST]))


def leaf_tiles(span: Span) -> bytes:
    """Return the stored leaf hashes of a span, joined; shorter when tiles are missing or cut."""
    numbers = (span.epoch, 0, span.begin // TILE_WIDTH, -(-span.end // TILE_WIDTH))
    row = sql.fetch_one(_TILES, numbers, binary=True)
    hashes = bytes(row[0] or b"") if row else b""
    return hashes[: (span.end - span.begin) * HASH_BYTES]


def check_leaves(span: Span, stored: bytes, found: Findings) -> None:
    """Let the database hash the events of a span, and compare that with the span's `leaf_tiles`."""
    leaves, first_tile = span.end - span.begin, span.begin // TILE_WIDTH
    values: dict[str, object] = {
        "epoch": span.epoch, "begin": span.begin, "end": span.end, "first": first_tile * TILE_WIDTH,
        "first_tile": first_tile, "end_tile": -(-span.end // TILE_WIDTH),
    }  # fmt: skip
    with transaction.atomic():
        places, since, until = sql.fetch_one(_BOUNDS, values) or (0, None, None)
        sql.execute(_SETTINGS)
        row = sql.fetch_one(_HASHES, values | {"since": since, "until": until}) if places else None
    digest, events, same = row or (None, 0, 0)
    is_what_was_read = bytes(digest or b"") == hashlib.sha256(stored).digest()
    if same != leaves or not is_what_was_read or len(stored) != leaves * HASH_BYTES:
        one = _first_fault(span, stored, events=int(events), places=int(places))
        found.fault(one.what, one.leaf_index, one.event_id)


def _check_kept_leaves(span: Span, stored: bytes, found: Findings, key: Verifier | None) -> None:
    """Check the leaves of a span that must have their events: all but those of months that were given up."""
    if len(stored) != (span.end - span.begin) * HASH_BYTES:
        check_leaves(span, stored, found)
        return
    kept = retired.load(key).kept(span.epoch, span.begin, span.end)
    while True:
        trial = Findings()
        for begin, end in kept:
            at, until = ((one - span.begin) * HASH_BYTES for one in (begin, end))
            check_leaves(Span(begin, end, span.epoch), stored[at:until], trial)
        # A month may have been dropped while its leaves were looked at.
        before = kept
        kept = retired.load(key).kept(span.epoch, span.begin, span.end) if trial.faults else kept
        if kept == before:
            found.add(trial)
            return


def _tile_roots(stored: bytes) -> list[bytes]:
    """Return the root of each full tile of joined leaf hashes that begin with a tile."""
    tile = TILE_WIDTH * HASH_BYTES
    return [merkle.full_tile_root(stored[at : at + tile]) for at in range(0, len(stored) - tile + 1, tile)]


def _check_above(span: Span, roots: Sequence[bytes], found: Findings) -> None:
    """Compare the root of each full leaf tile of the span with the hash that stands for it."""
    first, full = span.begin // TILE_WIDTH, span.end // TILE_WIDTH
    above = log.tiles(span.epoch)(1, first, full - first) if full > first else b""
    if len(above) != len(roots) * HASH_BYTES:
        found.fault("the tile above the leaf tiles has another length", span.begin)
        return
    for at, root in enumerate(roots):
        if above[at * HASH_BYTES : (at + 1) * HASH_BYTES] != root:
            found.fault(f"the hash above leaf tile {first + at} is not its root", (first + at) * TILE_WIDTH)
            return


@dataclass(slots=True)
class _Climb:
    """The tree of a span as it grew: its root at any size, asked for in rising order."""

    span: Span
    stored: bytes
    roots: Sequence[bytes]
    tiles: Frontier
    part: Frontier = field(default_factory=Frontier)

    @classmethod
    def of(cls, span: Span, stored: bytes, roots: Sequence[bytes]) -> _Climb:
        """Raises merkle.ProofError when the tiles do not reach to where the span begins."""
        range_hash, at, hashes = merkle.from_tiles(log.tiles(span.epoch)), 0, list[bytes]()
        for bit in reversed(range(span.begin.bit_length())):
            if span.begin >> bit & 1:
                hashes.append(range_hash(at, at + (1 << bit)))
                at += 1 << bit
        return cls(span, stored, roots, Frontier(span.begin // TILE_WIDTH, hashes))

    def root_at(self, size: int) -> bytes:
        while (self.tiles.size + 1) * TILE_WIDTH <= size:
            self.tiles.append(self.roots[self.tiles.size - self.span.begin // TILE_WIDTH])
            self.part = Frontier()
        done = self.tiles.size * TILE_WIDTH - self.span.begin
        for at in range(done + self.part.size, size - self.span.begin):
            self.part.append(self.stored[at * HASH_BYTES : (at + 1) * HASH_BYTES])
        return Frontier(size, self.tiles.hashes + self.part.hashes).root()


def _check_checkpoints(
    span: Span, stored: bytes, roots: Sequence[bytes], key: Verifier, found: Findings
) -> None:
    """Check signatures, cosignatures and roots of the checkpoints that end in this span."""
    climb = None
    if not found.faults:
        try:
            climb = _Climb.of(span, stored, roots)
        except merkle.ProofError:
            found.fault("the tiles before these leaves are cut", span.begin)
    after = span.begin
    while rows := sql.fetch_all(_CHECKPOINTS, (span.epoch, after, span.end, PAGE)):
        for size, root, note in rows:
            if not _says(str(note), int(size), bytes(root), key):
                found.fault(f"the checkpoint of size {size} is not signed by the log")
            elif climb is not None and climb.root_at(int(size)) != bytes(root):
                found.fault(f"the log does not begin with its checkpoint of size {size}")
        _check_cosignatures(span.epoch, {int(size): str(note) for size, _root, note in rows}, found)
        after = int(rows[-1][0])


def _check_cosignatures(epoch: int, signed: dict[int, str], found: Findings) -> None:
    keys = {one.key.name: one.key for one in cosigning.configured()}
    if not keys:
        return
    unknown = 0
    values = (epoch, min(signed), max(signed), sorted(keys))
    for size, witness, line in sql.fetch_all(_COSIGNATURES, values):
        try:
            unknown += not notes.cosigned_at(signed.get(int(size), "") + str(line), [keys[str(witness)]])
        except notes.NoteError:
            found.fault(f"the line of {witness} on the checkpoint of size {size} does not verify")
    if unknown:
        found.note(f"{unknown} cosignatures are by keys that the settings do not name")


def _check_state(size: int, epoch: int, key: Verifier, found: Findings) -> None:
    now = log.state_of(epoch)
    if now.size < size or _root_at(now.size, epoch) != now.frontier.root():
        found.fault("the tiles do not lead to the root of the log's state")
    for at, root, note, is_beyond in sql.fetch_all(_BEYOND, {"epoch": epoch, "most": MOST}):
        if not _says(str(note), int(at), bytes(root), key):
            found.fault(f"the checkpoint of size {at} is not signed by the log")
        elif is_beyond:
            found.fault(f"the log is shorter than its checkpoint of size {at}")
        elif bytes(root) != merkle.EMPTY_ROOT:
            found.fault("the log does not begin with its checkpoint of size 0")
    stray, future = sql.fetch_one(_STRAY, {"epoch": epoch}) or (0, 0)
    if stray:
        found.fault(f"{stray} leaves stand beyond the end of the log")
    if future:
        found.fault(f"{future} leaves stand in a log that has not begun")


def _says(note: str, size: int, root: bytes, key: Verifier) -> bool:
    """Say whether a note is a checkpoint of this size and root, signed by `key`."""
    try:
        said = notes.checkpoint_of(note, log=key)
    except notes.NoteError:
        return False
    return (said.size, said.root) == (size, root)


def _root_at(size: int, epoch: int) -> bytes | None:
    try:
        return log.root_at(size, epoch)
    except merkle.ProofError:
        return None


def _is_by(note: str, epoch: int) -> bool:
    return note.partition("\n")[0] == checkpoints.origin(epoch)


def _first_fault(span: Span, stored: bytes, *, events: int, places: int) -> Fault:
    """Go through the leaves of a wrong span one by one; say what the first difference is."""
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
