"""Money as integers: the one place where amounts are read, rounded, split and written.

An amount is a whole number of minor units (cents, centavos) together with its ISO 4217 currency. No
float and no `numeric` ever holds one: binary fractions lose centavos, and NaN passes `CHECK (x > 0)`.
Rounding happens in `share_of` only, half-up, in Python integers (10^15 x ppm does not fit a BIGINT).
This module imports no Django and reads no clock.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

#: The largest amount that one row may hold, in minor units; the database checks the same bound.
MAX_MINOR: Final = 10**15
#: A rate of 1 (100 %) in parts per million.
PPM: Final = 1_000_000

# ISO 4217 by number of decimals, pinned: a currency that is not listed is refused.
_NONE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_TWO = (
    "AED AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY "
    "COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF "
    "IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR "
    "MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG "
    "SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES "
    "WST XCD YER ZAR ZMW"
)
_THREE = "BHD IQD JOD KWD LYD OMR TND"
_FOUR = "CLF UYW"
#: How many decimals each currency has.
EXPONENTS: Final[dict[str, int]] = {
    code: decimals
    for decimals, codes in ((0, _NONE), (2, _TWO), (3, _THREE), (4, _FOUR))
    for code in codes.split()
}


class Rounding(StrEnum):
    """How a rounded amount came about; stored with it. Ties go away from zero, always."""

    HALF_UP = "half_up"  # to the currency's minor unit
    HALF_UP_WHOLE = "half_up_whole"  # to whole units: pesos without centavos


_LITERAL: Final = re.compile(r"(0|[1-9][0-9]{0,14})(?:\.([0-9]{1,4}))?", re.ASCII)


class MoneyError(ValueError):
    """An amount or currency that cannot be accepted; `code` says which rule refused it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def exponent(currency: str) -> int:
    """Return how many decimals `currency` has. Raises `MoneyError` for one that is not in the table."""
    try:
        return EXPONENTS[currency]
    except (KeyError, TypeError):
        raise MoneyError("currency_unknown", "The currency is not a known ISO 4217 code.") from None


@dataclass(frozen=True, slots=True, order=False)
class Money:
    """So many minor units of one currency. Arithmetic between two currencies is refused."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.minor) is not int:
            raise MoneyError("amount_not_integer", "An amount is a whole number of minor units.")
        exponent(self.currency)

    def __add__(self, other: Money) -> Money:
        return Money(self.minor + self._same(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.minor - self._same(other), self.currency)

    def __neg__(self) -> Money:
        return Money(-self.minor, self.currency)

    def __mul__(self, times: int) -> Money:
        if type(times) is not int:
            raise MoneyError("factor_not_integer", "An amount is multiplied by whole numbers only.")
        return Money(self.minor * times, self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.minor < self._same(other)

    def __le__(self, other: Money) -> bool:
        return self.minor <= self._same(other)

    def __str__(self) -> str:
        return f"{self.text} {self.currency}"

    @property
    def text(self) -> str:
        """The amount with exactly the currency's decimals, as `1234.50`."""
        return text_of(self.minor, self.currency)

    @property
    def decimal(self) -> Decimal:
        """The amount as an exact Decimal, for JSON numbers that are written from their digits."""
        return to_decimal(self.minor, self.currency)

    def allocate(self, weights: Sequence[int]) -> list[Money]:
        """Split over `weights`; see `allocate`."""
        return [Money(part, self.currency) for part in allocate(self.minor, weights)]

    def _same(self, other: Money) -> int:
        if not isinstance(other, Money):
            raise MoneyError("amount_not_money", "Money is compared and added with money only.")
        if other.currency != self.currency:
            raise MoneyError("currency_mismatch", "Amounts of two currencies cannot be combined.")
        return other.minor


def parse(value: object, currency: str) -> Money:
    """Read an amount from a string, a JSON number literal (a `str` subclass) or an int of major units.

    ASCII digits only, no sign, no exponent, no grouping, not more decimals than the currency has, at most
    10^15 minor units. A float is refused: its digits are not those that were sent. Raises `MoneyError`.
    """
    decimals = exponent(currency)
    if type(value) is int:
        text = str(value) if -MAX_MINOR <= value <= MAX_MINOR else "x"
    elif isinstance(value, str):
        text = str(value)
    else:
        raise MoneyError("amount_invalid", "The amount must be a string or a plain number.")
    match = _LITERAL.fullmatch(text)
    if match is None:
        raise MoneyError("amount_invalid", "The amount must be plain digits with an optional decimal part.")
    whole, fraction = match.group(1), match.group(2) or ""
    if len(fraction) > decimals:
        raise MoneyError("amount_too_precise", "The amount has more decimals than its currency.")
    minor = int(whole + fraction.ljust(decimals, "0"))
    if minor > MAX_MINOR:
        raise MoneyError("amount_too_large", "The amount is larger than what is accepted.")
    return Money(minor, currency)


def text_of(minor: int, currency: str) -> str:
    """Write `minor` with exactly the currency's decimals: `text_of(5, "COP") == "0.05"`."""
    decimals = exponent(currency)
    sign, digits = ("-" if minor < 0 else ""), str(abs(minor)).rjust(decimals + 1, "0")
    if not decimals:
        return sign + digits
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"


def to_decimal(minor: int, currency: str) -> Decimal:
    """Return `minor` as a Decimal with the currency's decimals, exact for any size."""
    return Decimal(text_of(minor, currency))


def on_increment(minor: int, increment: int) -> tuple[int, int]:
    """Split an amount into what can be moved in steps of `increment` and the residue that is carried on.

    The two add up to the amount; a negative amount mirrors the positive one. Raises `MoneyError`.
    """
    if type(minor) is not int or type(increment) is not int:
        raise MoneyError("amount_not_integer", "Amounts and increments are whole numbers.")
    if increment < 1:
        raise MoneyError("increment_invalid", "An increment is at least one minor unit.")
    residue = abs(minor) % increment
    residue = -residue if minor < 0 else residue
    return minor - residue, residue


def step_of(rounding: Rounding, currency: str) -> int:
    """Return to how many minor units a policy rounds: 1, or one whole unit. Raises `MoneyError`."""
    decimals = exponent(currency)
    step: int = 10**decimals if rounding is Rounding.HALF_UP_WHOLE else 1
    return step


def share_of(minor: int, ppm: int, step: int = 1) -> int:
    """Return `ppm` parts per million of `minor`, half-up to a multiple of `step` minor units.

    A negative amount mirrors the positive one. Raises `MoneyError`.
    """
    if type(minor) is not int or type(ppm) is not int or type(step) is not int:
        raise MoneyError("amount_not_integer", "Amounts and rates are whole numbers.")
    if ppm < 0 or step < 1:
        raise MoneyError("rate_invalid", "A rate is not negative.")
    whole = PPM * step
    size = (abs(minor) * ppm * 2 + whole) // (2 * whole) * step
    return -size if minor < 0 else size


def commission_of(minor: int, ppm: int, step: int = 1) -> int:
    """Return the commission on `minor` at a rate between 0 and 1, half-up to a multiple of `step`.

    An amount that is itself no multiple of `step` is refused: with whole pesos nothing costs centavos.
    Raises `MoneyError`.
    """
    if ppm > PPM:
        raise MoneyError("rate_invalid", "A commission rate is between 0 and 1.")
    if step > 1 and on_increment(minor, step)[1]:
        raise MoneyError("amount_off_increment", "The amount is not a whole number of the smallest steps.")
    return share_of(minor, ppm, step)


def capped_fee(fee_minor: int, sale_minor: int) -> int:
    """Return a fixed fee, but never more than the sale itself, so that nothing becomes negative."""
    return max(0, min(fee_minor, sale_minor))


def reversal_of(charged: int, refunded_before: int, refunded_now: int, total: int) -> int:
    """Return how much of a charged commission a partial refund gives back.

    It telescopes: the reversals of refunds that add up to `total` add up to `charged`, exactly.
    """
    if total <= 0 or refunded_before < 0 or refunded_now < 0 or refunded_before + refunded_now > total:
        raise MoneyError("refund_invalid", "Refunds lie between zero and the amount sold.")
    return _proportion(charged, refunded_before + refunded_now, total) - _proportion(
        charged, refunded_before, total
    )


def allocate(total: int, weights: Sequence[int]) -> list[int]:
    """Split `total` over `weights` so that the parts add up exactly (largest remainder, first wins a tie).

    A part whose weight is zero gets nothing; a negative total mirrors the positive one. Raises `MoneyError`
    when there is no positive weight, or a negative one.
    """
    if type(total) is int and len(weights) == 1 and type(weights[0]) is int and weights[0] > 0:
        return [total]
    if type(total) is not int or any(type(weight) is not int for weight in weights):
        raise MoneyError("amount_not_integer", "Amounts and weights are whole numbers.")
    if any(weight < 0 for weight in weights):
        raise MoneyError("weights_invalid", "A weight is not negative.")
    whole = sum(weights)
    if whole == 0:
        raise MoneyError("weights_invalid", "At least one weight must be positive.")
    size = abs(total)
    parts = [size * weight // whole for weight in weights]
    rests = [size * weight % whole for weight in weights]
    missing = size - sum(parts)
    for index in sorted(range(len(weights)), key=lambda i: (-rests[i], i))[:missing]:
        parts[index] += 1
    return [-part for part in parts] if total < 0 else parts


def allocate_steps(total: int, weights: Sequence[int], step: int) -> list[int]:
    """Split as `allocate` does, into parts that are multiples of `step`. Raises `MoneyError`."""
    if step == 1:
        return allocate(total, weights)
    whole, residue = on_increment(total, step)
    if residue:
        raise MoneyError("amount_off_increment", "The amount is not a whole number of the smallest steps.")
    size = allocate(abs(whole) // step, weights)
    return [-part * step if total < 0 else part * step for part in size]


def _proportion(amount: int, part: int, whole: int) -> int:
    """`amount * part / whole`, half-up, for non-negative integers."""
    return (amount * part * 2 + whole) // (2 * whole)
