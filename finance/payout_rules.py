"""Who must agree to a payout, and what makes it wait. Pure: no clock, no database.

Everything found is kept: a rule that holds is never outvoted by one that is content (deny overrides allow).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median_low
from typing import Any, Final

from finance.money import Money, parse

#: An approval counts so long; the database says the same.
APPROVALS_LIVE: Final = dt.timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Tier:
    """How many people agree to amounts below `below` (None: to all above), and whether one is a lead."""

    below: Money | None
    approvals: int
    needs_lead: bool


class Reason(StrEnum):
    """What screening found. The words are stored with the payout and shown to who decides."""

    COOLING_OFF = "cooling_off"
    ADDRESS_CHANGED = "address_changed"
    SHARED_ACCOUNT = "shared_account"
    FIRST_PAYOUT = "first_payout"
    NEW_ACCOUNT = "new_account"
    ABOVE_USUAL = "above_usual"
    MANY_REFUNDS = "many_refunds"


#: These make a payout wait until somebody lets it go on.
HOLDING: Final = frozenset({Reason.COOLING_OFF, Reason.ADDRESS_CHANGED, Reason.SHARED_ACCOUNT})
#: These ask for one approver more.
RAISING: Final = frozenset(
    {Reason.SHARED_ACCOUNT, Reason.FIRST_PAYOUT, Reason.NEW_ACCOUNT, Reason.ABOVE_USUAL, Reason.MANY_REFUNDS}
)
#: A payout above so many times the median of those before is unusual; fewer than so many say nothing.
USUAL_TIMES: Final = 3
USUAL_SAMPLE: Final = 3
#: A vendor who gave back more than this share of the sales of the last month (parts per million).
REFUND_SHARE_PPM: Final = 200_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What screening knows. Amounts are minor units of the payout's currency."""

    amount: int
    now: dt.datetime
    usable_from: dt.datetime
    address_changed_at: dt.datetime | None
    vendors_sharing: int
    paid_before: Sequence[int]
    paid_to_account: int
    sold: int
    refunded: int
    cooling: dt.timedelta


@dataclass(frozen=True, slots=True)
class Screening:
    """What came of it: the reasons in the order of their names, and what follows from them."""

    reasons: tuple[Reason, ...]

    @property
    def holds(self) -> bool:
        return any(reason in HOLDING for reason in self.reasons)

    @property
    def raises(self) -> bool:
        return any(reason in RAISING for reason in self.reasons)

    @property
    def text(self) -> str:
        """As it is stored: `cooling_off, first_payout`; empty when nothing was found."""
        return ", ".join(self.reasons)


def screen(facts: Facts) -> Screening:
    """Return every reason that the facts give."""
    found = {
        Reason.COOLING_OFF: facts.usable_from > facts.now,
        Reason.ADDRESS_CHANGED: facts.address_changed_at is not None
        and facts.address_changed_at > facts.now - facts.cooling,
        Reason.SHARED_ACCOUNT: facts.vendors_sharing > 0,
        Reason.FIRST_PAYOUT: not facts.paid_before,
        Reason.NEW_ACCOUNT: bool(facts.paid_before) and facts.paid_to_account == 0,
        Reason.ABOVE_USUAL: len(facts.paid_before) >= USUAL_SAMPLE
        and facts.amount > USUAL_TIMES * median_low(facts.paid_before),
        Reason.MANY_REFUNDS: facts.sold > 0 and facts.refunded * 1_000_000 > facts.sold * REFUND_SHARE_PPM,
    }
    return Screening(tuple(sorted(reason for reason, is_so in found.items() if is_so)))


def tiers_of(table: Mapping[str, Sequence[Mapping[str, Any]]], currency: str) -> tuple[Tier, ...]:
    """Return the tiers of a currency, ascending. Raises `ValueError` for a table that leaves amounts out.

    The last line has no `below`. A currency without lines of its own is treated as the strictest tier of all.
    """
    lines = table.get(currency)
    if lines is None:
        strictest = [line for one in table.values() for line in one if line["below"] is None]
        most = max((int(line["approvals"]) for line in strictest), default=2)
        return (Tier(None, most, needs_lead=True),)
    tiers = tuple(
        Tier(None if line["below"] is None else parse(line["below"], currency), int(line["approvals"]),
             bool(line["lead"]))
        for line in lines
    )  # fmt: skip
    limits = [tier.below.minor for tier in tiers if tier.below is not None]
    if (
        not tiers
        or tiers[-1].below is not None
        or len(limits) != len(tiers) - 1
        or limits != sorted(set(limits))
    ):
        raise ValueError(f"the tiers of {currency} do not cover every amount once")
    return tiers


def approvals_for(amount: Money, tiers: Sequence[Tier], screening: Screening) -> Tier:
    """Return what this amount needs; what screening found raises it by one tier, never lowers it."""
    index = next(
        number for number, tier in enumerate(tiers) if tier.below is None or amount.minor < tier.below.minor
    )
    return tiers[min(index + screening.raises, len(tiers) - 1)]
