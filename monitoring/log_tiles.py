"""The signed log as monitors read it: tiles by the addresses of C2SP tlog-tiles.

A tile is asked for with the width that it has in a tree whose checkpoint the caller knows; what it gets
proves itself against that checkpoint.
"""

from __future__ import annotations

import re

from mestore.lib import errors, merkle
from monitoring import checkpoints, log

_NUMBER = re.compile(r"((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)
HIGHEST_LEVEL = 7


def read(level: int, address: str) -> bytes:
    """Return the hashes of one tile: `address` is its number, and for a partial tile its width.

    Raises errors.NotFound for what no tile is called, and for tiles that no checkpoint counts yet.
    """
    found = _NUMBER.fullmatch(address)
    if found is None or not 0 <= level <= HIGHEST_LEVEL:
        raise errors.NotFound
    number = int(found[1].replace("x", "").replace("/", ""))
    width = int(found[2]) if found[2] else merkle.TILE_WIDTH
    last = checkpoints.last()
    if last is None or not 0 < width <= merkle.tile_width(level, number, last.size):
        raise errors.NotFound
    hashes = log.tile_row(level, number * merkle.TILE_WIDTH, width)
    if len(hashes) != width * merkle.HASH_BYTES:
        raise log.LogDamaged("a tile is shorter than the checkpoint says")
    return hashes
