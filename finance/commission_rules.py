"""Which rule a sale is charged by, and what that comes to. Pure: no Django, no clock.

A rule says for what it holds (vendor, category, product, order; what is not set holds for all), from when,
and its terms: a rate, a fixed fee, a floor, a cap, and rates that depend on what the vendor sold this month.
Of the rules that match a line the one with the highest priority wins, then the narrower one: product before
order before category before vendor. Rules of one scope never overlap (the database says so), so the order is
total. The lines of one vendor's order under one rule make a group; each group is rounded once.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from finance.money import MAX_MINOR, PPM, MoneyError, allocate_steps, commission_of, on_increment, share_of
from mestore.lib import canonical, json_text

#: Tiers of one rule, and rules that an explanation names, at most.
MAX_TIERS: Final = 10
MAX_CONSIDERED: Final = 20


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Amounts are minor units of `currency`; `id` is None for a default of the contract."""

    id: UUID | None
    name: str
    currency: str
    rate_ppm: int
    kind: str = "STANDARD"
    vendor: UUID | None = None
    category: str = ""
    product: str = ""
    order: str = ""
    priority: int = 0
    fixed: int = 0
    floor: int | None = None
    cap: int | None = None
    tiers: tuple[tuple[int, int], ...] = ()
    starts: datetime | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a vendor's order: its goods, and the part of the commission's base that falls on it."""

    number: int
    product: str
    category: str
    goods: int
    base: int


@dataclass(frozen=True, slots=True)
class Fee:
    """How a fee came about: `rate_ppm` of the base, what that is, and the fee after all bounds."""

    rate_ppm: int
    by_rate: int
    fee: int


@dataclass(frozen=True, slots=True)
class Group:
    """The lines under one rule: what the vendor had sold before, the fee, its shares, which rules matched."""

    rule: Rule
    considered: tuple[Rule, ...]
    lines: tuple[Line, ...]
    volume: int | None
    fee: Fee
    shares: tuple[int, ...]

    @property
    def base(self) -> int:
        """What the rate applies to."""
        return sum(line.base for line in self.lines)


@dataclass(frozen=True, slots=True)
class Charge:
    """The commission on one vendor's part of an order: the sum of its groups' fees, each rounded once."""

    groups: tuple[Group, ...]

    @property
    def commission(self) -> int:
        """The whole commission."""
        return sum(group.fee.fee for group in self.groups)

    @property
    def rate_ppm(self) -> int:
        """The rate of the one rule; of several, commission over base, half-up to a millionth."""
        if len(self.groups) == 1:
            return self.groups[0].fee.rate_ppm
        base = sum(group.base for group in self.groups)
        return min(PPM, (self.commission * PPM * 2 + base) // (2 * base))

    @property
    def main(self) -> Group:
        """The group with the largest base, the first of equals."""
        return max(self.groups, key=lambda group: group.base)


def matches(rule: Rule, line: Line, *, vendor: UUID, order: str) -> bool:
    """Say whether a rule holds for a line: every part of its scope that is set is the line's."""
    return (
        rule.vendor in (None, vendor)
        and rule.category in ("", line.category)
        and rule.product in ("", line.product)
        and rule.order in ("", order)
    )


def rank(rule: Rule) -> tuple[bool, int, bool, bool, bool, bool, str]:
    """Return what rules are compared by: the greatest wins. A default of the contract loses to every rule."""
    return (
        rule.id is not None, rule.priority, bool(rule.product), bool(rule.order), bool(rule.category),
        rule.vendor is not None, str(rule.id or ""),
    )  # fmt: skip


def rate_at(rule: Rule, volume: int | None) -> int:
    """Return the rate of a sale of a vendor that had sold `volume` before it in the month.

    The sale that crosses a boundary is still charged by the tier it began in: one sale, one rate.
    """
    rate = rule.rate_ppm
    for sold_from, tier_rate in rule.tiers:
        if volume is not None and volume >= sold_from:
            rate = tier_rate
    return rate


def fee_of(rule: Rule, base: int, goods: int, *, volume: int | None = None, step: int = 1) -> Fee:
    """Return the fee of a group: rounded rate of the base, plus the fixed fee, within floor, cap and goods.

    The cap wins over the floor and the goods over both, so that nothing becomes negative. Raises `MoneyError`
    for amounts that are no multiples of `step`.
    """
    rate = rate_at(rule, volume)
    by_rate = commission_of(base, rate, step)
    fee = by_rate + rule.fixed
    if rule.floor is not None:
        fee = max(fee, rule.floor)
    if rule.cap is not None:
        fee = min(fee, rule.cap)
    fee = max(0, min(fee, goods))
    return Fee(rate, by_rate, on_increment(fee, step)[0])


def charge(
    lines: Sequence[Line], rules: Sequence[Rule], default: Rule, *, vendor: UUID, order: str = "",
    volume: int | None = None, step: int = 1,
) -> Charge:  # fmt: skip
    """Charge one vendor's lines by the rules in force, `default` where none matches.

    `volume` is what the vendor had sold before in the month, None where nobody counts. Raises `MoneyError`
    when there are no lines or an amount is none.
    """
    if not lines or any(line.goods <= 0 or line.base < line.goods for line in lines):
        raise MoneyError("sale_invalid", "A sale has goods, and no part of it is negative.")
    grouped: dict[Rule, tuple[tuple[Rule, ...], list[Line]]] = {}
    for line in lines:
        found = [rule for rule in rules if matches(rule, line, vendor=vendor, order=order)]
        ranked = (*sorted(found, key=rank, reverse=True), default)
        grouped.setdefault(ranked[0], (ranked, []))[1].append(line)
    return Charge(
        tuple(
            group_of(rule, ranked, members, volume=volume, step=step)
            for rule, (ranked, members) in grouped.items()
        )
    )


def group_of(
    rule: Rule, considered: Sequence[Rule], lines: Sequence[Line], *, volume: int | None, step: int
) -> Group:
    """Charge the lines under one rule: one rounding, and shares of the lines that add up to the fee."""
    goods = [line.goods for line in lines]
    fee = fee_of(rule, sum(line.base for line in lines), sum(goods), volume=volume, step=step)
    counted = volume if rule.tiers else None
    shares = tuple(allocate_steps(fee.fee, goods, step))
    return Group(rule, tuple(considered[:MAX_CONSIDERED]), tuple(lines), counted, fee, shares)


@dataclass(frozen=True, slots=True)
class Withholding:
    """What is kept of the vendor's money for a tax office: a rate of the goods or of the goods' tax."""

    name: str
    ppm: int
    of: str = "goods"


@dataclass(frozen=True, slots=True)
class Deductions:
    """What comes off the vendor's money beside the commission."""

    fee_tax: int
    withheld: tuple[int, ...]


def deductions(
    *, goods: int, tax: int, commission: int, fee_tax_ppm: int, withholdings: Sequence[Withholding], step: int
) -> Deductions:
    """Return the tax on the commission and each withholding, each rounded once.

    The goods pay them in this order as far as they go: the vendor's money never becomes negative.
    """
    left = goods - commission
    fee_tax = min(share_of(commission, fee_tax_ppm, step), left)
    left -= fee_tax
    withheld = []
    for kept in withholdings:
        amount = min(share_of(tax if kept.of == "tax" else goods, kept.ppm, step), left)
        left -= amount
        withheld.append(amount)
    return Deductions(fee_tax, tuple(withheld))


def terms(rule: Rule) -> dict[str, Any]:
    """Return a rule's terms as plain values: what a commission keeps of it, and what its hash is of."""
    return {
        "id": None if rule.id is None else str(rule.id), "name": rule.name, "currency": rule.currency,
        "vendor": None if rule.vendor is None else str(rule.vendor), "category": rule.category,
        "product": rule.product, "order": rule.order, "priority": rule.priority, "type": rule.kind,
        "rate_ppm": rule.rate_ppm, "fixed_minor": rule.fixed, "floor_minor": rule.floor,
        "cap_minor": rule.cap, "tiers": [list(tier) for tier in rule.tiers],
        "starts": None if rule.starts is None else rule.starts.astimezone(UTC).isoformat(),
    }  # fmt: skip


def from_terms(kept: Mapping[str, Any]) -> Rule:
    """Return the rule whose terms these are: `from_terms(terms(rule)) == rule`."""
    return Rule(
        id=UUID(kept["id"]) if kept["id"] else None, name=kept["name"], currency=kept["currency"],
        rate_ppm=kept["rate_ppm"], kind=kept["type"], vendor=UUID(kept["vendor"]) if kept["vendor"] else None,
        category=kept["category"], product=kept["product"], order=kept["order"], priority=kept["priority"],
        fixed=kept["fixed_minor"], floor=kept["floor_minor"], cap=kept["cap_minor"],
        tiers=tuple((sold, rate) for sold, rate in kept["tiers"]),
        starts=datetime.fromisoformat(kept["starts"]) if kept["starts"] else None,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def rule_hash(rule: Rule) -> bytes:
    """Return SHA-256 of the canonical terms. Computed once per rule and process."""
    return hashlib.sha256(canonical.dumps(terms(rule))).digest()


def snapshot(
    charged: Charge, *, rounding: str, base: str, fee_tax_ppm: int, fee_tax: int,
    withheld: Sequence[tuple[Withholding, int]], by_hand: str = "",
) -> str:  # fmt: skip
    """Return all that a commission came from, as canonical JSON: what is stored and hashed.

    Integers and texts only, so the standard writer gives the bytes of RFC 8785; a test holds them together.
    `by_hand` is who chose a rate or a type themselves.
    """
    kept = {
        "base": base, "rounding": rounding, "groups": [_told(group) for group in charged.groups],
        "fee_tax_ppm": fee_tax_ppm, "fee_tax_minor": fee_tax, "by_hand": by_hand,
        "withheld": [
            {"name": part.name, "ppm": part.ppm, "of": part.of, "minor": minor} for part, minor in withheld
        ],
    }  # fmt: skip
    return _write(kept)


_write = json_text.writer(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _told(group: Group) -> dict[str, Any]:
    return {
        "rule": _terms(group.rule), "hash": rule_hash(group.rule).hex(),
        "considered": [str(rule.id) for rule in group.considered if rule.id is not None],
        "lines": [
            [line.number, line.goods, line.base, share]
            for line, share in zip(group.lines, group.shares, strict=True)
        ],
        "volume_minor": group.volume, "rate_ppm": group.fee.rate_ppm, "by_rate_minor": group.fee.by_rate,
        "fee_minor": group.fee.fee,
    }  # fmt: skip


@lru_cache(maxsize=4096)
def _terms(rule: Rule) -> dict[str, Any]:
    return terms(rule)


def problems(rule: Rule, *, step: int = 1) -> dict[str, str]:
    """Return what is wrong with the terms of a rule, by field; empty when nothing is."""
    found: dict[str, str] = {}
    if not 0 <= rule.rate_ppm <= PPM:
        found["rate"] = "rate_invalid"
    for field, amount in (("fixed", rule.fixed), ("floor", rule.floor), ("cap", rule.cap)):
        if amount is not None and not 0 <= amount <= MAX_MINOR:
            found[field] = "amount_invalid"
        elif amount is not None and on_increment(amount, step)[1]:
            found[field] = "amount_off_increment"
    if rule.floor is not None and rule.cap is not None and rule.floor > rule.cap:
        found["cap"] = "cap_below_floor"
    bounds = [sold for sold, _rate in rule.tiers]
    if len(bounds) > MAX_TIERS:
        found["tiers"] = "tiers_too_many"
    elif any(not 0 <= rate <= PPM for _sold, rate in rule.tiers):
        found["tiers"] = "rate_invalid"
    elif any(not 0 < sold <= MAX_MINOR for sold in bounds):
        found["tiers"] = "amount_invalid"
    elif any(later <= sold for sold, later in itertools.pairwise(bounds)):
        found["tiers"] = "tiers_not_rising"
    return found
