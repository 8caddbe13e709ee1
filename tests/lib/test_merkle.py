"""The tree of RFC 9162: published vectors, every size and index up to 300, and what must not verify."""

from __future__ import annotations

import hashlib
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mestore.lib import merkle
from mestore.lib.merkle import ProofError

LARGEST = 300

# Inputs and roots that implementations of Certificate Transparency share.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [merkle.leaf_hash(f"leaf {number}".encode()) for number in range(LARGEST + 1)]


@cache
def defined(begin: int, end: int) -> bytes:
    """The root by the standard's own recursive definition (2.1.1), to compare with."""
    if end == begin:
        return hashlib.sha256(b"").digest()
    if end - begin == 1:
        return LEAVES[begin]
    half = 1
    while half * 2 < end - begin:
        half *= 2
    return hashlib.sha256(b"\x01" + defined(begin, begin + half) + defined(begin + half, end)).digest()


class Tiles:
    """Tiles in memory, written only as `additions` says."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], bytes] = {}
        self.size = 0

    def row(self, level: int, start: int, count: int) -> bytes:
        index, at = divmod(start, 256)
        return self.rows.get((level, index), b"")[at * 32 : (at + count) * 32]

    def append(self, leaves: list[bytes]) -> None:
        for new in merkle.additions(self.size, leaves, self.row):
            before = self.rows.get((new.level, new.index), b"")
            assert len(before) == new.width * 32
            self.rows[new.level, new.index] = before + new.hashes
        self.size += len(leaves)


def test_published_roots() -> None:
    leaves = [merkle.leaf_hash(data) for data in INPUTS]

    assert [merkle.root(leaves[:size]).hex() for size in range(1, 9)] == ROOTS
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_published_inclusion_proofs() -> None:
    leaves = [merkle.leaf_hash(data) for data in INPUTS]

    def over(begin: int, end: int) -> bytes:
        return merkle.root(leaves[begin:end])

    assert [part.hex() for part in merkle.inclusion_proof(5, 8, over)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert merkle.inclusion_proof(0, 1, over) == []


def test_published_consistency_proofs() -> None:
    leaves = [merkle.leaf_hash(data) for data in INPUTS]

    def over(begin: int, end: int) -> bytes:
        return merkle.root(leaves[begin:end])

    assert [part.hex() for part in merkle.consistency_proof(6, 8, over)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def test_root_of_every_size_is_the_defined_one() -> None:
    frontier = merkle.Frontier()
    for size in range(LARGEST + 1):
        assert frontier.root() == defined(0, size)
        assert merkle.Frontier.load(size, frontier.dump()) == frontier
        frontier.append(LEAVES[size])


@pytest.mark.parametrize("step", [1, 7, 255, 256, 257, 300])
def test_tiles_are_the_same_however_leaves_arrive(step: int) -> None:
    tiles = Tiles()
    for at in range(0, LARGEST, step):
        tiles.append(LEAVES[at : min(at + step, LARGEST)])

    assert tiles.rows == {
        (0, 0): b"".join(LEAVES[:256]),
        (0, 1): b"".join(LEAVES[256:300]),
        (1, 0): defined(0, 256),
    }
    assert [merkle.tile_width(0, index, LARGEST) for index in range(3)] == [256, 44, 0]
    assert [merkle.tile_width(1, index, LARGEST) for index in range(2)] == [1, 0]


def test_three_levels_of_tiles() -> None:
    leaves = [number.to_bytes(32, "big") for number in range(70_000)]
    tiles = Tiles()
    for at in range(0, len(leaves), 4_999):
        tiles.append(leaves[at : at + 4_999])
    range_hash = merkle.from_tiles(tiles.row)

    assert len([key for key in tiles.rows if key[0] == 0]) == 274
    assert {key: len(row) // 32 for key, row in tiles.rows.items() if key[0] > 0} == {
        (1, 0): 256, (1, 1): 17, (2, 0): 1,
    }  # fmt: skip
    assert range_hash(0, 70_000) == merkle.root(leaves)
    for index in (0, 255, 256, 65_535, 65_536, 69_999):
        proof = merkle.inclusion_proof(index, 70_000, range_hash)
        merkle.verify_inclusion(leaves[index], index, 70_000, proof, merkle.root(leaves))


def test_every_leaf_of_every_size_is_proved_and_no_other() -> None:
    for size in range(1, LARGEST + 1):
        root = defined(0, size)
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, defined)
            merkle.verify_inclusion(LEAVES[index], index, size, proof, root)
            if size > 1:
                with pytest.raises(ProofError):
                    merkle.verify_inclusion(LEAVES[index], (index + 1) % size, size, proof, root)


def test_every_pair_of_sizes_is_consistent_and_no_other() -> None:
    for new in range(LARGEST + 1):
        for old in range(new + 1):
            proof = merkle.consistency_proof(old, new, defined)
            merkle.verify_consistency(old, new, proof, defined(0, old), defined(0, new))
            if 0 < old < new:
                with pytest.raises(ProofError):
                    merkle.verify_consistency(old, new, proof, defined(0, old - 1), defined(0, new))


def test_proofs_out_of_tiles_are_the_defined_ones() -> None:
    tiles = Tiles()
    tiles.append(LEAVES[:LARGEST])
    range_hash = merkle.from_tiles(tiles.row)

    for size in (1, 2, 255, 256, 257, 299, 300):
        for index in {0, size // 2, size - 1}:
            assert merkle.inclusion_proof(index, size, range_hash) == merkle.inclusion_proof(
                index, size, defined
            )
        assert merkle.consistency_proof(size, 300, range_hash) == merkle.consistency_proof(size, 300, defined)


@given(st.integers(2, LARGEST), st.data())
def test_one_bit_anywhere_is_noticed(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, defined)
    parts = [LEAVES[index], *proof, defined(0, size)]
    place, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    changed = bytearray(parts[place])
    changed[bit // 8] ^= 1 << bit % 8
    parts[place] = bytes(changed)

    with pytest.raises(ProofError):
        merkle.verify_inclusion(parts[0], index, size, parts[1:-1], parts[-1])


@given(st.integers(1, LARGEST - 1), st.data())
def test_one_bit_anywhere_in_a_consistency_proof_is_noticed(old: int, data: st.DataObject) -> None:
    new = data.draw(st.integers(old + 1, LARGEST))
    parts = [defined(0, old), *merkle.consistency_proof(old, new, defined), defined(0, new)]
    place, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    changed = bytearray(parts[place])
    changed[bit // 8] ^= 1 << bit % 8
    parts[place] = bytes(changed)

    with pytest.raises(ProofError):
        merkle.verify_consistency(old, new, parts[1:-1], parts[0], parts[-1])


@pytest.mark.parametrize("size", [1, 2, 3, 8, 13])
def test_a_part_too_many_or_too_few_is_refused(size: int) -> None:
    proof = merkle.inclusion_proof(size - 1, size, defined)
    for wrong in ([*proof, bytes(32)], [bytes(32), *proof], proof[:-1] if proof else [bytes(32)]):
        with pytest.raises(ProofError):
            merkle.verify_inclusion(LEAVES[size - 1], size - 1, size, wrong, defined(0, size))


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 4), (3, 7), (6, 8), (7, 7), (0, 5), (0, 0)])
def test_a_consistency_proof_of_another_length_is_refused(old: int, new: int) -> None:
    proof = merkle.consistency_proof(old, new, defined)
    for wrong in ([*proof, bytes(32)], proof[:-1] if proof else [bytes(32)]):
        with pytest.raises(ProofError):
            merkle.verify_consistency(old, new, wrong, defined(0, old), defined(0, new))


@pytest.mark.parametrize("index", [-1, 5, 6])
def test_a_leaf_that_is_not_there(index: int) -> None:
    with pytest.raises(ProofError):
        merkle.inclusion_proof(index, 5, defined)
    with pytest.raises(ProofError):
        merkle.verify_inclusion(LEAVES[0], index, 5, [], defined(0, 5))


@pytest.mark.parametrize(("old", "new"), [(6, 5), (-1, 5)])
def test_a_tree_does_not_shrink(old: int, new: int) -> None:
    with pytest.raises(ProofError):
        merkle.consistency_proof(old, new, defined)
    with pytest.raises(ProofError):
        merkle.verify_consistency(old, new, [], EMPTY, EMPTY)


EMPTY = merkle.EMPTY_ROOT


def test_the_empty_tree_is_consistent_with_every_tree_but_only_as_itself() -> None:
    merkle.verify_consistency(0, 5, [], EMPTY, defined(0, 5))
    for old_root, new_root, new in ((bytes(32), defined(0, 5), 5), (EMPTY, bytes(32), 0)):
        with pytest.raises(ProofError):
            merkle.verify_consistency(0, new, [], old_root, new_root)


def test_hashes_of_another_length_are_refused() -> None:
    with pytest.raises(ProofError):
        merkle.verify_inclusion(LEAVES[0][:31], 0, 1, [], LEAVES[0][:31])
    with pytest.raises(ProofError):
        merkle.verify_consistency(1, 2, [b""], LEAVES[0], defined(0, 2))
    with pytest.raises(ProofError):
        merkle.split(bytes(33))
    with pytest.raises(ProofError):
        merkle.full_tile_root(bytes(32 * 255))


@pytest.mark.parametrize(("size", "hashes"), [(3, 1), (2, 2), (-1, 1), (0, 1)])
def test_a_frontier_of_another_size_is_refused(size: int, hashes: int) -> None:
    with pytest.raises(ProofError):
        merkle.Frontier.load(size, bytes(32 * hashes))


def test_a_tile_that_is_cut_gives_no_proof() -> None:
    tiles = Tiles()
    tiles.append(LEAVES[:LARGEST])
    tiles.rows[0, 1] = tiles.rows[0, 1][: -32 * 20]

    with pytest.raises(ProofError):
        merkle.inclusion_proof(0, LARGEST, merkle.from_tiles(tiles.row))


def test_a_range_that_begins_elsewhere_is_refused() -> None:
    tiles = Tiles()
    tiles.append(LEAVES[:LARGEST])
    with pytest.raises(ValueError, match="begin"):
        merkle.from_tiles(tiles.row)(1, 3)
    assert merkle.from_tiles(tiles.row)(4, 4) == EMPTY
