"""Finds payment card data where none may be. Pure; it never returns or repeats what it found.

We only take a provider's reference. A body with a card number or a security code is refused whole, so that
neither reaches a table, a log or an error report.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

_SECRET_NAMES: Final = frozenset(
    {
        "cvv", "cvv2", "cvc", "cvc2", "cid", "csc", "cav2", "securitycode", "cardsecuritycode", "pan",
        "codigoseguridad", "codigodeseguridad", "cardnumber", "numerotarjeta", "numerodetarjeta", "card",
        "tarjeta", "track1", "track2", "trackdata", "magstripe", "pinblock",
    }
)  # fmt: skip
_REMEMBERED: Final = 64  # characters
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
# Digits in groups of any size, as people and forms write card numbers; not inside a longer word or number.
_CANDIDATE: Final = re.compile(r"(?<![\dA-Za-z])\d(?:[ .\-_]?\d){12,18}(?![\dA-Za-z])")
# Groups with up to three of anything between them: a date or a code beside the number, other marks within it.
_GROUPS: Final = re.compile(r"(?<![\dA-Za-z])\d+(?:[\W_]{1,3}\d+)*(?![\dA-Za-z])")
_GROUP: Final = re.compile(r"\d+")
# What both of them find has so many digits, so close together: nearly every text is done with this one look.
_SHORTEST: Final = 13
_ENOUGH: Final = re.compile(r"(?<![\dA-Za-z])\d(?:[\W_]{0,3}\d){12}")
_INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
# How cards print their numbers: so much of a longer row of groups may be one.
_SHAPES: Final = ((4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 5))
# How the schemes' numbers begin, with their lengths: Visa, Mastercard, American Express, Diners, Discover,
# JCB, UnionPay, Maestro. Without this every tenth long number would look like a card.
_SCHEMES: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-59]|[689]\d)\d{11}"
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12,15}|35\d{14}|62\d{14,17}|(?:50|5[6-9]|6[37])\d{10,17}",
    re.ASCII,
)
_DOUBLED: Final = str.maketrans("0123456789", "0246813579")  # twice the digit, its own digits added


def find(value: Any, path: str = "body") -> str | None:
    """Return where card data is, as `body -> payment`, or None. A key that is one is named by its parent."""
    steps = _steps(value)
    return None if steps is None else " -> ".join((path, *steps))


def _steps(value: Any) -> tuple[str, ...] | None:
    """Return the members that lead to card data, from here on; None where there is none."""
    kind = type(value)
    if kind is str:
        return () if _holds_number(value) else None
    if kind is dict or isinstance(value, Mapping):
        return _steps_of_members(value)
    if isinstance(value, list):
        for index, item in enumerate(value):
            if (found := _steps(item)) is not None:
                return (str(index), *found)
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return () if _holds_number(str(value)) else None


def _steps_of_members(value: Mapping[Any, Any]) -> tuple[str, ...] | None:
    for key, item in value.items():
        name = str(key)
        if _holds_number(name):
            return ()
        if _is_secret(name):
            return (name,)
        if (found := _steps(item)) is not None:
            return (name, *found)
    return None


def _is_secret(name: str) -> bool:
    # The members of orders are the same few names again and again; long ones are not worth remembering.
    return _is_secret_word(name) if len(name) <= _REMEMBERED else _is_secret_word.__wrapped__(name)


@lru_cache(maxsize=512)
def _is_secret_word(name: str) -> bool:
    return re.sub(r"[^a-z0-9]", "", name.lower()) in _SECRET_NAMES


def _holds_number(text: str) -> bool:
    if len(text) < _SHORTEST:
        return False
    seen = text if text.isascii() else _INVISIBLE.sub("", text)
    if _ENOUGH.search(seen) is None or _UUID.fullmatch(text):
        return False
    return any(_is_card(digits) for digits in _candidates(seen))


def _candidates(text: str) -> Iterator[str]:
    """Yield what may be a card number in a text without invisible characters."""
    for candidate in _CANDIDATE.finditer(text):
        yield re.sub(r"\D", "", candidate.group())
    for run in _GROUPS.finditer(text):
        groups = _GROUP.findall(run.group())
        yield from groups
        sizes = tuple(map(len, groups))
        for start, size in enumerate(sizes):
            for shape in _SHAPES if size == 4 else ():
                if sizes[start : start + len(shape)] == shape:
                    yield "".join(groups[start : start + len(shape)])


def _is_card(digits: str) -> bool:
    if not _SHORTEST <= len(digits) <= 19:
        return False
    if not digits.isascii():  # what a person reads as a number is one, in any script
        digits = "".join(str(unicodedata.decimal(digit)) for digit in digits)
    return bool(_SCHEMES.fullmatch(digits)) and _passes_luhn(digits) and not _is_product_code(digits)


def _is_product_code(digits: str) -> bool:
    """Say whether 13 digits carry the check digit of a GTIN-13 (GS1 General Specifications 7.9)."""
    if len(digits) != 13:
        return False
    return (sum(map(int, digits[0::2])) + 3 * sum(map(int, digits[1::2]))) % 10 == 0


def _passes_luhn(digits: str) -> bool:
    doubled = digits[-2::-2].translate(_DOUBLED)
    return (sum(map(int, digits[-1::-2])) + sum(map(int, doubled))) % 10 == 0
