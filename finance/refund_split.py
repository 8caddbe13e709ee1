"""Whose money a refund is: over vendors, over goods, tax and shipping, and over whose the goods' money was.

Pure. Amounts are minor units of one currency. Two rules hold for every sequence of refunds: no part ever
takes back more than was sold, and refunds that add up to the whole take back exactly what the sale had split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from finance.money import MoneyError, allocate, reversal_of

_COMPONENTS: Final = 3


@dataclass(frozen=True, slots=True)
class Figures:
    """What one vendor's sale came to, or what refunds took back of it.

    Goods, tax and shipping are what the buyer paid. The goods' money is divided into commission, tax on it,
    what is withheld, and the rest, which is the vendor's.
    """

    goods: int = 0
    tax: int = 0
    shipping: int = 0
    commission: int = 0
    fee_tax: int = 0
    withheld: int = 0

    @property
    def total(self) -> int:
        """What the buyer paid, or gets back."""
        return self.goods + self.tax + self.shipping

    @property
    def vendor(self) -> int:
        """What of the goods' money is the vendor's."""
        return self.goods - self.commission - self.fee_tax - self.withheld

    def less(self, other: Figures) -> Figures:
        """What remains."""
        return Figures(
            self.goods - other.goods, self.tax - other.tax, self.shipping - other.shipping,
            self.commission - other.commission, self.fee_tax - other.fee_tax, self.withheld - other.withheld,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sold:
    """One vendor's sale, and what was taken back of it so far."""

    vendor: UUID
    sale: Figures
    taken: Figures = Figures()

    @property
    def rest(self) -> Figures:
        """What can still be taken back."""
        return self.sale.less(self.taken)


@dataclass(frozen=True, slots=True)
class Part:
    """What one vendor's sale gives to a refund."""

    vendor: UUID
    figures: Figures


def split(amount: int, sales: Sequence[Sold], wanted: Mapping[UUID, int] | None = None) -> list[Part]:
    """Split a refund of `amount` over the sales of an order; vendors that give nothing are left out.

    `wanted` says how much of it is which vendor's; without it, everything that remains gives its share.
    Raises `MoneyError` for an amount that is not positive, more than remains, or not the sum of `wanted`.
    """
    if amount <= 0:
        raise MoneyError("refund_invalid", "A refund is greater than zero.")
    if wanted is None:
        components = [part for sold in sales for part in _rest_of(sold)]
        shares = _allocate(amount, components)
        each = [shares[at : at + _COMPONENTS] for at in range(0, len(shares), _COMPONENTS)]
    else:
        if sum(wanted.values()) != amount or set(wanted) - {sold.vendor for sold in sales}:
            raise MoneyError("refund_invalid", "The parts of a refund add up to it.")
        each = [_allocate(wanted.get(sold.vendor, 0), _rest_of(sold)) for sold in sales]
    return [
        Part(sold.vendor, _figures(sold, *parts))
        for sold, parts in zip(sales, each, strict=True)
        if any(parts)
    ]


def _rest_of(sold: Sold) -> list[int]:
    return [sold.rest.goods, sold.rest.tax, sold.rest.shipping]


def _allocate(amount: int, rests: list[int]) -> list[int]:
    """Largest remainder over what remains: no share exceeds its rest, and all of it takes all of each."""
    if amount > sum(rests):
        raise MoneyError("refund_too_large", "More would go back than remains of the sale.")
    return allocate(amount, rests) if amount else [0] * len(rests)


def _figures(sold: Sold, goods: int, tax: int, shipping: int) -> Figures:
    """Divide the goods' part as the sale had divided the goods' money.

    Each charge telescopes: what all refunds together give back is that share of it, rounded half-up. The
    bounds matter where a refund failed in between or roundings meet: nothing becomes negative, and the last
    refund takes exactly what is left.
    """
    sale, rest = sold.sale, sold.rest
    back = sold.taken.goods + goods
    left, others = goods, rest.goods
    given = []
    for charged, remains in (
        (sale.commission, rest.commission), (sale.fee_tax, rest.fee_tax), (sale.withheld, rest.withheld),
    ):  # fmt: skip
        others -= remains
        aim = reversal_of(charged, 0, back, sale.goods) - (charged - remains) if charged else 0
        part = max(aim, left - others, 0)
        part = min(part, left, remains)
        given.append(part)
        left -= part
    return Figures(goods, tax, shipping, *given)
