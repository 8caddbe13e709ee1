"""How a commission came about, step by step, from the terms that were kept with it. Pure.

The arithmetic is done again from the kept terms: an explanation whose figures are not those of the commission
says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from finance import commission_rules
from finance.commission_rules import Line, Rule
from finance.money import PPM, Rounding, step_of, text_of, to_decimal


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what was done, in figures and signs only, and what it came to in minor units."""

    name: str
    figures: str
    minor: int


@dataclass(frozen=True, slots=True)
class Rival:
    """A rule that matched too, and why it did not win."""

    rule: Rule
    why: str


@dataclass(frozen=True, slots=True)
class GroupExplanation:
    """The lines under one rule: why it won, against whom, and what it came to."""

    rule: Rule
    rule_hash: str
    why: str
    rivals: tuple[Rival, ...]
    lines: tuple[tuple[int, int, int, int], ...]
    volume: int | None
    steps: tuple[Step, ...]
    minor: int
    agrees: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole. `agrees` says whether doing it again gives what was charged."""

    rounding: str
    base: str
    by_hand: str
    groups: tuple[GroupExplanation, ...]
    deductions: tuple[Step, ...]
    commission: int
    agrees: bool


def explain(kept: Mapping[str, Any], *, currency: str, rules: Mapping[str, Rule]) -> Explanation:
    """Explain the kept terms of a commission. `rules` are the rules that were considered, by id."""
    step = step_of(Rounding(kept["rounding"]), currency)
    groups = tuple(_group(group, currency, step, rules) for group in kept["groups"])
    commission = sum(group.minor for group in groups)
    goods = sum(line[1] for group in groups for line in group.lines)
    taken = [
        Step(
            "fee_tax",
            f"{percent(kept['fee_tax_ppm'])} × {text_of(commission, currency)}",
            kept["fee_tax_minor"],
        )
    ]
    for part in kept["withheld"]:
        of_goods = f" × {text_of(goods, currency)}" if part["of"] == "goods" else ""
        taken.append(Step(part["name"], f"{percent(part['ppm'])}{of_goods}", part["minor"]))
    return Explanation(
        kept["rounding"], kept["base"], kept["by_hand"], groups, tuple(taken), commission,
        all(group.agrees for group in groups),
    )  # fmt: skip


def _group(kept: Mapping[str, Any], currency: str, step: int, rules: Mapping[str, Rule]) -> GroupExplanation:
    rule = commission_rules.from_terms(kept["rule"])
    lines = [Line(number, "", "", goods, base) for number, goods, base, _share in kept["lines"]]
    again = commission_rules.group_of(rule, (), lines, volume=kept["volume_minor"], step=step)
    rivals = tuple(
        Rival(rules[rule_id], why_first(rule, rules[rule_id]))
        for rule_id in kept["considered"]
        if rule_id in rules and rule_id != str(rule.id)
    )
    shares = tuple(line[3] for line in kept["lines"])
    return GroupExplanation(
        rule, kept["hash"], _why(rule, rivals), rivals, tuple(tuple(line) for line in kept["lines"]),
        kept["volume_minor"], tuple(_steps(rule, again, currency)), kept["fee_minor"],
        again.fee.fee == kept["fee_minor"] and again.shares == shares
        and again.fee.rate_ppm == kept["rate_ppm"] and commission_rules.rule_hash(rule).hex() == kept["hash"],
    )  # fmt: skip


def why_first(winner: Rule, loser: Rule) -> str:
    """Return in a word why one rule goes before another: priority, or which part of its scope is narrower."""
    if winner.priority != loser.priority:
        return "priority"
    for name in ("product", "order", "category", "vendor"):
        if bool(getattr(winner, name)) != bool(getattr(loser, name)):
            return name
    return "id"


def _why(rule: Rule, rivals: Sequence[Rival]) -> str:
    if rule.id is None:
        return "default"
    return rivals[0].why if rivals else "only"


def _steps(rule: Rule, group: commission_rules.Group, currency: str) -> list[Step]:
    def text(minor: int) -> str:
        return text_of(minor, currency)

    fee, base = group.fee, group.base
    exact = to_decimal(base, currency) * Decimal(fee.rate_ppm) / PPM
    made = [Step("base", " + ".join(text(line.base) for line in group.lines[:10])
                 + (" + …" if len(group.lines) > 10 else ""), base)]  # fmt: skip
    if rule.tiers and group.volume is not None:
        figures = f"{text(group.volume)} → {percent(fee.rate_ppm)}"
        made.append(Step("tier", figures, group.volume))
    made.append(Step("rate", f"{percent(fee.rate_ppm)} × {text(base)} = {exact.normalize():f}", fee.by_rate))
    reached = fee.by_rate
    if rule.fixed:
        reached += rule.fixed
        made.append(Step("fixed", f"+ {text(rule.fixed)}", reached))
    if rule.floor is not None and reached < rule.floor:
        reached = rule.floor
        made.append(Step("floor", f"≥ {text(rule.floor)}", reached))
    if rule.cap is not None and reached > rule.cap:
        reached = rule.cap
        made.append(Step("cap", f"≤ {text(rule.cap)}", reached))
    if reached != fee.fee:
        made.append(Step("goods", f"≤ {text(sum(line.goods for line in group.lines))}", fee.fee))
    return made


def percent(ppm: int) -> str:
    """Return parts per million as people read them: 123450 is "12.345 %"."""
    whole, rest = divmod(ppm, 10_000)
    return f"{whole}.{rest:04d}".rstrip("0").rstrip(".") + " %"
