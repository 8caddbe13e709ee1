"""A small marketplace made for tests: its four files, and what they must come to, computed apart."""

from __future__ import annotations

import csv
import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from finance.imports.files import COLUMNS, Kind
from finance.imports.run import Files

SOLD = {"approved", "processing", "invoiced", "shipped", "delivered"}
MOMENT = "2018-03-02 10:11:12"


def order(name: str, status: str = "delivered", customer: str = "buyer1", *, approved: str = MOMENT) -> str:
    return f"{name},{customer},{status},{MOMENT},{approved},,,2018-04-01 00:00:00"


def item(
    name: str, number: int = 1, seller: str = "seller1", price: str = "100.00", freight: str = "9.50"
) -> str:
    return f"{name},{number},product{number},{seller},{MOMENT},{price},{freight}"


def payment(name: str, sequence: int = 1, amount: str = "109.50", method: str = "credit_card") -> str:
    return f"{name},{sequence},{method},1,{amount}"


def seller(name: str = "seller1", city: str = "sao paulo") -> str:
    return f"{name},01234,{city},SP"


@dataclass
class Marketplace:
    """Lines of the four files; `write` puts them in a folder."""

    orders: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    payments: list[str] = field(default_factory=list)
    sellers: list[str] = field(default_factory=lambda: [seller()])

    def write(self, folder: Path) -> Files:
        folder.mkdir(exist_ok=True)
        return Files(
            _written(folder, "orders", self.orders),
            _written(folder, "items", self.items),
            _written(folder, "payments", self.payments),
            _written(folder, "sellers", self.sellers),
        )


def _written(folder: Path, kind: Kind, lines: Sequence[str]) -> Path:
    path = folder / f"{kind}.csv"
    path.write_text("\n".join([",".join(COLUMNS[kind]), *lines, ""]), encoding="utf-8", newline="")
    return path


def good() -> Marketplace:
    """Three orders: one of two vendors, one cancelled, one sold that was paid with two payments."""
    return Marketplace(
        orders=[order("o1"), order("o2", "canceled"), order("o3", "shipped", "buyer2")],
        items=[
            item("o1", 1, "seller1", "100.10"),
            item("o1", 2, "seller2", "0.30"),
            item("o2", 1),
            item("o3", 1, "seller2", "59.9", "0"),
            item("o3", 2, "seller2", "59.9", "12"),
        ],
        payments=[
            payment("o1", amount="119.4"),
            payment("o3", 1, "100.00"),
            payment("o3", 2, "31.80", "voucher"),
        ],
        sellers=[seller("seller1"), seller("seller2", '"rio de janeiro, brasil"')],
    )


def generated(orders: int, seed: int = 1) -> Marketplace:
    """So many orders with the mix of a real marketplace: several items, several vendors, cancelled ones."""
    chance = random.Random(seed)
    sellers = [_name("s", n) for n in range(max(3, orders // 10))]
    made = Marketplace(sellers=[seller(name) for name in sellers])
    for number in range(orders):
        name = _name("o", number)
        status = chance.choices(["delivered", "shipped", "canceled", "created"], [80, 14, 5, 1])[0]
        made.orders.append(order(name, status, _name("c", number)))
        for line in range(1, chance.choices([1, 2, 5], [85, 12, 3])[0] + 1):
            price = f"{chance.randint(1, 300_000) / 100:.2f}"
            made.items.append(
                item(name, line, chance.choice(sellers), price, f"{chance.randint(0, 5_000) / 100:.2f}")
            )
        made.payments.append(payment(name, 1, f"{chance.randint(100, 300_000) / 100:.2f}"))
    return made


def _name(prefix: str, number: int) -> str:
    return hashlib.md5(f"{prefix}{number}".encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Expected:
    """What an import must report."""

    orders: int
    items: int
    sold: int
    gross: Decimal
    commission: Decimal

    @property
    def vendor_net(self) -> Decimal:
        return self.gross - self.commission


def expected(files: Files) -> Expected:
    """The totals of files without a bad line, by Decimal and plain loops: nothing of ours is used."""
    orders = list(_records(files.orders))
    status = {row["order_id"]: row["order_status"] for row in orders}
    goods: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    items = 0
    for row in _records(files.items):
        items += 1
        if status[row["order_id"]] in SOLD:
            goods[row["order_id"], row["seller_id"]] += Decimal(row["price"])
    cents = Decimal("0.01")
    fees = [(amount * Decimal("0.05")).quantize(cents, ROUND_HALF_UP) for amount in goods.values()]
    return Expected(
        orders=len(orders),
        items=items,
        sold=len({name for name, _ in goods}),
        gross=sum(goods.values(), Decimal()).quantize(cents),
        commission=sum(fees, Decimal()).quantize(cents),
    )


def _records(path: Path) -> Iterable[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)
