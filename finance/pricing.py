"""What an order costs and which part of it is whose. Pure: rules come in, amounts come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from finance.money import allocate_steps, share_of


@dataclass(frozen=True, slots=True)
class Rules:
    """Tax and shipping of one currency: a rate on goods, a flat charge, and from which total it is free.

    `step` is the smallest amount, in minor units: 100 where pesos are whole.
    """

    tax_ppm: int = 0
    shipping_flat: int = 0
    shipping_free_from: int | None = None
    step: int = 1


@dataclass(frozen=True, slots=True)
class VendorPart:
    """One vendor's part of an order, in minor units."""

    vendor: UUID
    goods: int
    tax: int
    shipping: int


@dataclass(frozen=True, slots=True)
class Price:
    """What an order costs, in minor units, with each line's share of the shipping and each vendor's part."""

    subtotal: int
    tax: int
    shipping: int
    line_shipping: tuple[int, ...]
    parts: tuple[VendorPart, ...]

    @property
    def total(self) -> int:
        """What the buyer pays."""
        return self.subtotal + self.tax + self.shipping


def price(lines: Sequence[tuple[UUID, int]], rules: Rules) -> Price:
    """Price an order of `(vendor, line total)` lines.

    Tax is rounded once, on the order. Tax and shipping are split over the vendors by their goods, and a
    vendor's shipping over the vendor's lines, so that all parts add up exactly. Raises `money.MoneyError`.
    """
    goods: dict[UUID, int] = {}
    for vendor, amount in lines:
        goods[vendor] = goods.get(vendor, 0) + amount
    subtotal = sum(goods.values())
    tax = share_of(subtotal, rules.tax_ppm, rules.step)
    is_free = rules.shipping_free_from is not None and subtotal >= rules.shipping_free_from
    shipping = 0 if is_free else rules.shipping_flat
    weights = list(goods.values())
    parts = tuple(
        VendorPart(vendor, amount, tax_part, shipping_part)
        for (vendor, amount), tax_part, shipping_part in zip(
            goods.items(), allocate_steps(tax, weights, rules.step),
            allocate_steps(shipping, weights, rules.step), strict=True,
        )
    )  # fmt: skip
    by_vendor = {part.vendor: part.shipping for part in parts}
    return Price(subtotal, tax, shipping, _line_shipping(lines, by_vendor, rules.step), parts)


def _line_shipping(
    lines: Sequence[tuple[UUID, int]], by_vendor: Mapping[UUID, int], step: int
) -> tuple[int, ...]:
    shares = [0] * len(lines)
    for vendor, shipping in by_vendor.items():
        places = [index for index, (owner, _amount) in enumerate(lines) if owner == vendor]
        weights = [lines[index][1] for index in places]
        for place, share in zip(places, allocate_steps(shipping, weights, step), strict=True):
            shares[place] = share
    return tuple(shares)
