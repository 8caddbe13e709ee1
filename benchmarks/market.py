"""Marketplace files of any size under new ids, with the mix of a real marketplace."""

from __future__ import annotations

import random
from pathlib import Path

from finance.imports.files import COLUMNS, Kind

_KINDS: tuple[Kind, ...] = ("orders", "items", "payments", "sellers")


def write(folder: Path, *, orders: int, sellers: int, prefix: str) -> list[str]:
    """Write the four files; the options that import them. Sellers are the same for every prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(prefix)
    streams = {kind: (folder / f"{kind}.csv").open("w", encoding="utf-8") for kind in _KINDS}
    for kind, stream in streams.items():
        stream.write(",".join(COLUMNS[kind]) + "\n")
    for number in range(sellers):
        streams["sellers"].write(f"benchseller{number},01234,sao paulo,SP\n")
    for number in range(orders):
        name, at = f"{prefix}x{number:09d}x{'0' * 16}", _moment(chance)
        status = chance.choices(["delivered", "shipped", "canceled", "unavailable"], [64, 21, 8, 7])[0]
        streams["orders"].write(f"{name},buyer{prefix}{number:020d},{status},{at},{at},,,{at}\n")
        paid = 0
        for line in range(1, chance.choices([1, 2, 3], [95, 4, 1])[0] + 1):
            price, freight = chance.randint(500, 30_000), chance.randint(700, 4_000)
            paid += price + freight
            seller = f"benchseller{chance.randrange(sellers)}"
            amounts = f"{price / 100:.2f},{freight / 100:.2f}"
            streams["items"].write(f"{name},{line},product{line},{seller},{at},{amounts}\n")
        streams["payments"].write(f"{name},1,credit_card,1,{paid / 100:.2f}\n")
    for stream in streams.values():
        stream.close()
    return [part for kind in _KINDS for part in (f"--{kind}", str(folder / f"{kind}.csv"))]


def _moment(chance: random.Random) -> str:
    day = chance.randrange(600)
    date = f"20{17 + day // 336}-{day // 28 % 12 + 1:02d}-{day % 28 + 1:02d}"
    return f"{date} {chance.randrange(24):02d}:{chance.randrange(60):02d}:{chance.randrange(60):02d}"
