"""What a vendor's part of an order is charged: the pure rules with the settings and the database's rules.

`orders.place`, `sales.post_sale` and the import all charge through `earn`, so that a sale costs the same
whichever way it came.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import simplejson
from django.conf import settings

from finance import commission_rules, numbers
from finance.commission_rules import Charge, Line, Rule, Withholding
from finance.models import CommissionRule
from finance.money import Rounding, allocate_steps, step_of
from finance.sale_postings import VendorSale
from finance.states import CommissionStatus, CommissionType, RuleStatus
from mestore.lib import ids, sql
from mestore.lib.actor import Actor
from monitoring import audit, events


@dataclass(frozen=True, slots=True)
class Policy:
    """How one currency is charged and rounded, from the settings."""

    currency: str
    rounding: Rounding
    step: int
    base: str
    fee_tax_ppm: int
    withholdings: tuple[Withholding, ...]

    def fitting(self, amounts: Iterable[int]) -> Policy:
        """Return the policy for these amounts: what has centavos already is rounded to centavos."""
        if self.step > 1:
            for amount in amounts:
                if amount % self.step:
                    return replace(self, rounding=Rounding.HALF_UP, step=1)
        return self


@dataclass(frozen=True, slots=True)
class PartLine:
    """One line of a vendor's part. Amounts are minor units."""

    number: int
    product: str
    category: str
    goods: int
    shipping: int


@dataclass(frozen=True, slots=True)
class Part:
    """One vendor's part of an order: the tax of its goods, and its lines."""

    vendor: UUID
    tax: int
    lines: tuple[PartLine, ...]

    @property
    def goods(self) -> int:
        """The sum of the lines."""
        return sum([line.goods for line in self.lines])

    @property
    def shipping(self) -> int:
        """The vendor's part of the shipping."""
        return sum([line.shipping for line in self.lines])


@dataclass(frozen=True, slots=True)
class Terms:
    """The rules in force for an order, and what each counted vendor had sold before it in the month."""

    rules: tuple[Rule, ...] = ()
    volumes: Mapping[UUID, int] | None = None

    def volume_of(self, vendor: UUID) -> int | None:
        """What the vendor had sold before; None when nobody counts."""
        return None if self.volumes is None else self.volumes.get(vendor)


NO_TERMS: Final = Terms()


@dataclass(frozen=True, slots=True)
class DatedRules:
    """All rules of one currency with the time of each: for sales that are told of long afterwards."""

    rules: tuple[tuple[Rule, dt.datetime, dt.datetime | None], ...] = ()

    def at(self, moment: dt.datetime) -> Terms:
        """Return the rules that were in force at a moment. Nobody counts what was sold before."""
        if not self.rules:
            return NO_TERMS
        return Terms(
            tuple(
                rule
                for rule, since, until in self.rules
                if since <= moment and not (until and until <= moment)
            )
        )


@dataclass(frozen=True, slots=True)
class Override:
    """A type and perhaps a rate that somebody asked for, and who."""

    kind: str
    rate_ppm: int | None
    by: str


@dataclass(frozen=True, slots=True)
class Earned:
    """One commission to be: its ids, the sale it is charged on, how it came about."""

    id: UUID
    number: str
    entry_id: UUID
    sale: VendorSale
    charge: Charge
    rounding: Rounding
    snapshot: str

    @property
    def kind(self) -> str:
        """The type of the rule that covers most of it."""
        return self.charge.main.rule.kind

    @property
    def rule_id(self) -> UUID | None:
        """The one rule; None for a default, and where there are several."""
        groups = self.charge.groups
        return groups[0].rule.id if len(groups) == 1 else None


def rounding_for(currency: str) -> Rounding:
    """Return how amounts of `currency` are rounded."""
    return Rounding(settings.ROUNDING.get(currency, Rounding.HALF_UP))


def step_for(currency: str) -> int:
    """Return the smallest amount of `currency` that is sold, in minor units."""
    return step_of(rounding_for(currency), currency)


def policy_for(currency: str) -> Policy:
    """Return how `currency` is charged."""
    rounding = rounding_for(currency)
    return Policy(
        currency, rounding, step_of(rounding, currency), settings.COMMISSION_BASE,
        settings.COMMISSION_TAX_PPM.get(currency, 0),
        tuple(Withholding(**kept) for kept in settings.WITHHOLDINGS.get(currency, ())),
    )  # fmt: skip


def default_rule(currency: str, kind: str = CommissionType.STANDARD) -> Rule:
    """Return the rule of last resort: the contract's rate of a type. Raises KeyError for an unknown type."""
    return _default(currency, str(kind), settings.COMMISSION_RATES_PPM[kind])


@lru_cache(maxsize=1024)
def _default(currency: str, kind: str, rate_ppm: int) -> Rule:
    return Rule(id=None, name=f"default {kind}", currency=currency, rate_ppm=rate_ppm, kind=kind)


def month_of(moment: dt.datetime) -> tuple[dt.date, dt.datetime]:
    """Return the first day of a moment's business month, and the moment at which it began."""
    zone = ZoneInfo(settings.BUSINESS_TIME_ZONE)
    first = moment.astimezone(zone).date().replace(day=1)
    return first, dt.datetime.combine(first, dt.time(), tzinfo=zone)


def dated_rules(currency: str) -> DatedRules:
    """Read all rules of a currency that were ever approved and not withdrawn."""
    found = CommissionRule.objects.filter(currency=currency, status=RuleStatus.ACTIVE).order_by("id")
    return DatedRules(
        tuple((rule_of(row), row.valid.lower, row.valid.upper) for row in found.iterator(chunk_size=1000))
    )


def rule_of(row: CommissionRule) -> Rule:
    """Return a stored rule as the pure functions take it."""
    return Rule(
        id=row.pk, name=row.name, currency=row.currency, rate_ppm=row.rate_ppm, kind=row.commission_type,
        vendor=row.vendor_id, category=row.category, product=row.product_id, order=row.order_reference,
        priority=row.priority, fixed=row.fixed_minor, floor=row.floor_minor, cap=row.cap_minor,
        tiers=tuple((int(sold), int(rate)) for sold, rate in row.tiers), starts=row.valid.lower,
    )  # fmt: skip


def base_of(part: Part, base: str) -> int:
    """Return what the rate applies to: the goods, or goods, tax and shipping."""
    return part.goods if base == "goods" else part.goods + part.tax + part.shipping


def question(
    parts: Sequence[Part], *, currency: str, reference: str | None, at: dt.datetime
) -> dict[str, Any]:
    """Return the arguments of `finance_sale_terms` for these parts."""
    month, since = month_of(at)
    lines = [line for part in parts for line in part.lines]
    base = settings.COMMISSION_BASE
    return {
        "currency": currency, "at": at, "month": month, "since": since,
        "parts": sql.array([part.vendor for part in parts]),
        "bases": sql.array([base_of(part, base) for part in parts]),
        "products": sql.array(sorted({line.product for line in lines})),
        "categories": sql.array(sorted({line.category for line in lines if line.category})),
        "reference": reference or "",
    }  # fmt: skip


def terms_from(rules: Any, volumes: Any) -> Terms:
    """Return what `finance_sale_terms` answered."""
    found = _rules_in(rules) if isinstance(rules, str | bytes) else _rules(rules or ())
    if not found:
        return NO_TERMS
    counted = {UUID(vendor): int(sold) for vendor, sold in (_decoded(volumes) or {}).items()}
    return Terms(found, counted)


@lru_cache(maxsize=256)
def _rules_in(text: str | bytes) -> tuple[Rule, ...]:
    # The rules in force for the things of a shop are the same ones for sale after sale.
    return _rules(simplejson.loads(text) or ())


def _rules(rows: Iterable[Mapping[str, Any]]) -> tuple[Rule, ...]:
    return tuple([commission_rules.from_terms(row) for row in rows])


def _decoded(value: Any) -> Any:
    return simplejson.loads(value) if isinstance(value, str | bytes) else value


def earn(
    part: Part, terms: Terms, policy: Policy, *, at: dt.datetime, reference: str | None = None,
    override: Override | None = None,
) -> Earned:  # fmt: skip
    """Charge one vendor's part by the rules in force at `at`. Raises `MoneyError`."""
    policy = policy.fitting(
        [part.tax, *[line.goods for line in part.lines], *[line.shipping for line in part.lines]]
    )
    lines = _lines(part, policy)
    rules, default = terms.rules, default_rule(policy.currency)
    if override is not None:
        rules, default = _overridden(rules, override, policy.currency)
    charged = commission_rules.charge(
        lines, rules, default, vendor=part.vendor, order=reference or "", volume=terms.volume_of(part.vendor),
        step=policy.step,
    )  # fmt: skip
    commission = charged.commission
    off = commission_rules.deductions(
        goods=part.goods, tax=part.tax, commission=commission, fee_tax_ppm=policy.fee_tax_ppm,
        withholdings=policy.withholdings, step=policy.step,
    )  # fmt: skip
    sale = VendorSale(
        part.vendor, policy.currency, part.goods, part.shipping, part.tax, base_of(part, policy.base),
        charged.rate_ppm, commission, off.fee_tax, off.withheld,
    )  # fmt: skip
    told = commission_rules.snapshot(
        charged, rounding=policy.rounding, base=policy.base, fee_tax_ppm=policy.fee_tax_ppm,
        fee_tax=off.fee_tax, withheld=list(zip(policy.withholdings, off.withheld, strict=True)),
        by_hand=override.by if override else "",
    )  # fmt: skip
    number = numbers.commission_number(at)
    return Earned(ids.uuid7(), number, ids.uuid7(), sale, charged, policy.rounding, told)


def _overridden(rules: Sequence[Rule], override: Override, currency: str) -> tuple[tuple[Rule, ...], Rule]:
    """A rate of one's own stands alone; a type alone leaves the rules of that type, then its default.

    Either is somebody's choice of what a sale costs, and the snapshot names who made it.
    """
    if override.rate_ppm is None:
        return (
            tuple(rule for rule in rules if rule.kind == override.kind),
            default_rule(currency, override.kind),
        )
    own = Rule(
        id=None, name="given by hand", currency=currency, rate_ppm=override.rate_ppm, kind=override.kind
    )
    return (), own


def _lines(part: Part, policy: Policy) -> list[Line]:
    """The lines with their part of the base: the tax of a line is its share of the vendor's tax."""
    if policy.base == "goods":
        bases = [line.goods for line in part.lines]
    else:
        taxes = allocate_steps(part.tax, [line.goods for line in part.lines], policy.step)
        bases = [line.goods + line.shipping + tax for line, tax in zip(part.lines, taxes, strict=True)]
    return [
        Line(line.number, line.product, line.category, line.goods, base)
        for line, base in zip(part.lines, bases, strict=True)
    ]


def commission_row(earned: Earned, *, order_id: int, at: str) -> dict[str, Any]:
    """Return the columns of the commission under their names, ready for JSON.

    `at`: when it is charged, as `capture.moment` writes it.
    """
    sale = earned.sale
    return {
        "id": str(earned.id), "commission_number": earned.number, "order_id": order_id,
        "vendor_id": str(sale.vendor), "currency": sale.currency, "order_amount_minor": sale.base,
        "rate_ppm": sale.rate_ppm, "commission_amount_minor": sale.commission,
        "vendor_amount_minor": sale.vendor_amount, "commission_type": earned.kind,
        "status": CommissionStatus.PENDING.value, "entry_id": str(earned.entry_id),
        "rule_id": None if earned.rule_id is None else str(earned.rule_id),
        "rule_hash": f"\\x{snapshot_hash(earned.snapshot).hex()}", "rule_snapshot": earned.snapshot,
        "rounding": earned.rounding.value, "fee_tax_minor": sale.fee_tax,
        "withheld_minor": sale.withheld_total, "calculated_at": at,
    }  # fmt: skip


def snapshot_hash(snapshot: str) -> bytes:
    """Return what a commission keeps beside its snapshot: SHA-256 of its bytes."""
    return hashlib.sha256(snapshot.encode()).digest()


def line_terms(earned: Earned) -> list[dict[str, Any]]:
    """Return what each line keeps of the charge: its share, the rate, the rule's hash and the rounding."""
    return [
        {
            "line": line.number, "commission": share, "rate_ppm": group.fee.rate_ppm,
            "rule_hash": commission_rules.rule_hash(group.rule).hex(), "rounding": earned.rounding.value,
        }
        for group in earned.charge.groups
        for line, share in zip(group.lines, group.shares, strict=True)
    ]  # fmt: skip


def event_of(earned: Earned, order_id: int, by: Actor, *, row: Mapping[str, Any]) -> audit.Entry:
    """Return the event that tells of a commission and of its row.

    `row`: its columns (`commission_row`). Where the event is recorded in the same transaction and before the
    row, the database need not capture that as well.
    """
    sale = earned.sale
    # Its hash is told instead of the snapshot.
    told = {name: value for name, value in row.items() if value is not None and name != "rule_snapshot"}
    figures: dict[str, Any] = {
        "number": earned.number, "order_id": order_id, "vendor_id": row["vendor_id"],
        "currency": sale.currency, "base_minor": sale.base, "rate_ppm": sale.rate_ppm,
        "commission_minor": sale.commission, "fee_tax_minor": sale.fee_tax,
        "withheld_minor": row["withheld_minor"], "entry_id": row["entry_id"],
        "terms_hash": row["rule_hash"].removeprefix("\\x"),
        "row": {"created_at": row["calculated_at"], "refunded_minor": 0, "reversed_minor": 0, **told},
    }  # fmt: skip
    return audit.Entry(events.COMMISSION_CALCULATED, by, ("commission", row["id"]), figures)
