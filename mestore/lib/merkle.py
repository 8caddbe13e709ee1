"""The Merkle tree of RFC 9162, section 2.1, over SHA-256: roots, tiles, proofs and their verification.

Pure: nothing here knows where hashes are kept. A leaf enters as its hash (`leaf_hash` of its bytes). What is
kept of a tree are its tiles (C2SP tlog-tiles): rows of up to 256 hashes, level 0 the leaf hashes, each hash
of a higher level the root of one full tile of the level below. Every other hash follows from these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

HASH_BYTES: Final = 32
TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

# What each leaf's hash begins with: a copy costs less than a hash made anew and bytes put together.
_LEAF: Final = hashlib.sha256(b"\x00")

RangeHash = Callable[[int, int], bytes]
"""`range_hash(begin, end)`: the root over the leaves `begin` to `end` (excluded)."""
TileRow = Callable[[int, int, int], bytes]
"""`tile_row(level, start, count)`: so many hashes of one tile, joined, `start` counted over the level."""


class ProofError(ValueError):
    """A proof does not show what it should, or no such proof exists."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf's bytes."""
    hashed = _LEAF.copy()
    hashed.update(data)
    return hashed.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over these leaf hashes; of a full tile, the hash that stands for it one level up."""
    frontier = Frontier()
    frontier.extend(hashes)
    return frontier.root()


def split(joined: bytes) -> list[bytes]:
    """Return the hashes of a row. Raises ProofError when it is cut inside of one."""
    if len(joined) % HASH_BYTES:
        raise ProofError("a row of hashes is cut")
    return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]


def full_tile_root(joined: bytes) -> bytes:
    """Return the root over the 256 hashes of a full tile. Raises ProofError for another length."""
    if len(joined) != TILE_WIDTH * HASH_BYTES:
        raise ProofError("a full tile has 256 hashes")
    sha256, row = hashlib.sha256, joined
    while len(row) > HASH_BYTES:
        row = b"".join([sha256(b"\x01" + row[at : at + 64]).digest() for at in range(0, len(row), 64)])
    return row


@dataclass(slots=True)
class Frontier:
    """What must be remembered of a tree to append to it: one hash per bit of its size, largest part first."""

    size: int = 0
    hashes: list[bytes] = field(default_factory=list)

    @classmethod
    def load(cls, size: int, joined: bytes) -> Frontier:
        """Return the frontier that `dump` wrote. Raises ProofError when the two do not belong together."""
        hashes = split(joined)
        if size < 0 or len(hashes) != size.bit_count():
            raise ProofError("the frontier has another number of hashes than its size says")
        return cls(size, hashes)

    def dump(self) -> bytes:
        return b"".join(self.hashes)

    def append(self, leaf: bytes) -> None:
        """Append one leaf hash."""
        size, carried = self.size, leaf
        while size & 1:
            carried = node_hash(self.hashes.pop(), carried)
            size >>= 1
        self.hashes.append(carried)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        for leaf in leaves:
            self.append(leaf)

    def root(self) -> bytes:
        """Return the root of the whole tree; of an empty one, the hash of nothing."""
        if not self.hashes:
            return EMPTY_ROOT
        folded = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            folded = node_hash(left, folded)
        return folded


@dataclass(frozen=True, slots=True)
class TileAddition:
    """Hashes to append to one tile, which holds `width` already."""

    level: int
    index: int
    width: int
    hashes: bytes


def additions(size: int, leaves: Sequence[bytes], row: TileRow) -> Iterator[TileAddition]:
    """Yield what must be written so that the tiles of a tree of `size` leaves hold these further leaf hashes.

    `row` reads tiles as they are before; levels come from the lowest up, tiles of a level in order.
    """
    level, start, hashes = 0, size, list(leaves)
    while hashes:
        completed: list[bytes] = []
        at = 0
        while at < len(hashes):
            index, width = divmod(start + at, TILE_WIDTH)
            added = b"".join(hashes[at : at + TILE_WIDTH - width])
            count = len(added) // HASH_BYTES
            yield TileAddition(level, index, width, added)
            if width + count == TILE_WIDTH:
                before = row(level, index * TILE_WIDTH, width) if width else b""
                completed.append(full_tile_root(before + added))
            at += count
        level, start, hashes = level + 1, start // TILE_WIDTH, completed


def tile_width(level: int, index: int, size: int) -> int:
    """Return how many hashes a tile has in a tree of `size` leaves (0: there is no such tile)."""
    hashes = size >> (TILE_HEIGHT * level)
    return max(0, min(TILE_WIDTH, hashes - index * TILE_WIDTH))


def from_tiles(row: TileRow) -> RangeHash:
    """Return how to hash any range of leaves that a proof needs, out of tiles."""

    def complete(height: int, index: int) -> bytes:
        level, rest = divmod(height, TILE_HEIGHT)
        hashes = split(row(level, index << rest, 1 << rest))
        if len(hashes) != 1 << rest:
            raise ProofError("a tile is shorter than the tree's size says")
        return root(hashes)

    def range_hash(begin: int, end: int) -> bytes:
        parts: list[bytes] = []
        while begin < end:
            height = (end - begin).bit_length() - 1
            if begin & ((1 << height) - 1):
                raise ValueError("the range does not begin where a part of its size does")
            parts.append(complete(height, begin >> height))
            begin += 1 << height
        if not parts:
            return EMPTY_ROOT
        folded = parts[-1]
        for left in reversed(parts[:-1]):
            folded = node_hash(left, folded)
        return folded

    return range_hash


def inclusion_proof(index: int, size: int, range_hash: RangeHash) -> list[bytes]:
    """Return the proof that leaf `index` is in the tree of `size` leaves (RFC 9162, 2.1.3.1).

    Raises ProofError when there is no such leaf.
    """
    if not 0 <= index < size:
        raise ProofError("the tree has no such leaf")
    begin, end, path = 0, size, list[bytes]()
    while end - begin > 1:
        middle = begin + _half(end - begin)
        if index < middle:
            path.append(range_hash(middle, end))
            end = middle
        else:
            path.append(range_hash(begin, middle))
            begin = middle
    return path[::-1]


def consistency_proof(old: int, new: int, range_hash: RangeHash) -> list[bytes]:
    """Return the proof that the tree of `new` leaves begins with that of `old` (RFC 9162, 2.1.4.1).

    Empty when `old` is 0 or `new`. Raises ProofError when `old` is larger.
    """
    if not 0 <= old <= new:
        raise ProofError("a tree does not shrink")
    if old in (0, new):
        return []
    begin, end, path, is_old_root = 0, new, list[bytes](), True
    while old != end:
        middle = begin + _half(end - begin)
        if old <= middle:
            path.append(range_hash(middle, end))
            end = middle
        else:
            path.append(range_hash(begin, middle))
            begin, is_old_root = middle, False
    if not is_old_root:
        path.append(range_hash(begin, end))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root_hash: bytes) -> None:
    """Return when `proof` shows that `leaf` (a leaf hash) is number `index` of the tree (RFC 9162, 2.1.3.2).

    Raises ProofError otherwise.
    """
    if not 0 <= index < size:
        raise ProofError("the tree has no such leaf")
    _demand_hashes([leaf, root_hash, *proof])
    at, last, folded = index, size - 1, leaf
    for part in proof:
        if last == 0:
            raise ProofError("the proof is too long")
        if at & 1 or at == last:
            folded = node_hash(part, folded)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            folded = node_hash(folded, part)
        at, last = at >> 1, last >> 1
    if last != 0 or folded != root_hash:
        raise ProofError("the proof does not lead to the root")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Return when `proof` shows that the new tree begins with the old one (RFC 9162, 2.1.4.2).

    Raises ProofError otherwise.
    """
    if not 0 <= old <= new:
        raise ProofError("a tree does not shrink")
    _demand_hashes([old_root, new_root, *proof])
    if old in (0, new):
        _verify_without_path(old, new, proof, old_root, new_root)
        return
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        raise ProofError("the proof is empty")
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    seen_old = seen_new = path[0]
    for part in path[1:]:
        if last == 0:
            raise ProofError("the proof is too long")
        if at & 1 or at == last:
            seen_old, seen_new = node_hash(part, seen_old), node_hash(part, seen_new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            seen_new = node_hash(seen_new, part)
        at, last = at >> 1, last >> 1
    if last != 0 or seen_old != old_root or seen_new != new_root:
        raise ProofError("the proof does not lead from the old root to the new one")


def _verify_without_path(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """From nothing to anything, or from a tree to itself: there is nothing to prove, only to compare."""
    expected = new_root if old == new else EMPTY_ROOT
    if proof or old_root != expected or (new == 0 and new_root != EMPTY_ROOT):
        raise ProofError("the roots differ")


def _half(size: int) -> int:
    """Return the largest power of two below `size`, which is at least 2."""
    return 1 << (size - 1).bit_length() - 1


def _demand_hashes(hashes: Iterable[bytes]) -> None:
    if any(len(one) != HASH_BYTES for one in hashes):
        raise ProofError("a hash has 32 bytes")
