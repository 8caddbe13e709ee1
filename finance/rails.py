"""Which ways money takes, and what each can carry: by provider, direction and currency. Pure.

A rail moves multiples of its increment only (Colombian bank files carry whole pesos); an amount between two
steps is refused where it comes in, never rounded on its way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from finance.money import MAX_MINOR, Money, MoneyError, parse


class Direction(StrEnum):
    """Which way the money goes, seen from the platform."""

    IN = "in"
    OUT = "out"


#: The rail of payouts: a file that the platform's bank carries out.
BANK_FILE: Final = "bank_file"


@dataclass(frozen=True, slots=True)
class Rail:
    """One way for one currency. Amounts are minor units; `increment` divides every amount that it carries."""

    provider: str
    direction: Direction
    currency: str
    increment: int

    def carries(self, minor: int) -> bool:
        """Whether the rail can move exactly this amount."""
        return 0 < minor <= MAX_MINOR and minor % self.increment == 0


# Cash and bank rails in pesos know no centavos. Cards and wallets settle with them.
_RAILS: Final = (
    Rail(BANK_FILE, Direction.OUT, "COP", 100),
    Rail(BANK_FILE, Direction.OUT, "USD", 1),
    Rail(BANK_FILE, Direction.OUT, "EUR", 1),
    Rail("pse", Direction.IN, "COP", 100),
    Rail("efecty", Direction.IN, "COP", 100),
    Rail("baloto", Direction.IN, "COP", 100),
    Rail("wompi", Direction.IN, "COP", 1),
    Rail("payu", Direction.IN, "COP", 1),
    Rail("wompi", Direction.OUT, "COP", 100),
)
TABLE: Final[Mapping[tuple[str, Direction, str], Rail]] = {
    (rail.provider, rail.direction, rail.currency): rail for rail in _RAILS
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the most that one payout of a currency may be."""

    least: Money
    most: Money


def find(provider: str, direction: Direction, currency: str) -> Rail:
    """Return the rail. Raises `MoneyError` (`rail_unknown`) where there is none."""
    try:
        return TABLE[(provider, direction, currency)]
    except (KeyError, TypeError):
        raise MoneyError("rail_unknown", "There is no way to move money of this currency there.") from None


def bounds_of(table: Mapping[str, tuple[str, str]], currency: str) -> Bounds:
    """Return the bounds of one payout; `table` has (least, most) in major units by currency.

    Raises `MoneyError` (`currency_unsupported`) for a currency that is not in it.
    """
    try:
        least, most = table[currency]
    except (KeyError, TypeError):
        raise MoneyError("currency_unsupported", "Payouts are not made in this currency.") from None
    return Bounds(parse(least, currency), parse(most, currency))


def check_payout(amount: Money, table: Mapping[str, tuple[str, str]], provider: str = BANK_FILE) -> None:
    """Refuse an amount that one payout may not be, with the rule's code.

    Raises `MoneyError`: `currency_unsupported`, `rail_unknown`, `amount_too_small`, `amount_too_large`,
    `amount_not_in_steps`.
    """
    bounds = bounds_of(table, amount.currency)
    rail = find(provider, Direction.OUT, amount.currency)
    if amount < bounds.least:
        raise MoneyError("amount_too_small", f"A payout is at least {bounds.least}.")
    if bounds.most < amount:
        raise MoneyError("amount_too_large", f"A payout is at most {bounds.most}.")
    if not rail.carries(amount.minor):
        raise MoneyError(
            "amount_not_in_steps", f"A payout is a multiple of {Money(rail.increment, amount.currency)}."
        )


def floor_to_step(amount: Money, provider: str = BANK_FILE) -> Money:
    """Return the largest amount not above `amount` that the rail carries; what is left stays where it is."""
    step = find(provider, Direction.OUT, amount.currency).increment
    return Money(amount.minor - amount.minor % step, amount.currency)
