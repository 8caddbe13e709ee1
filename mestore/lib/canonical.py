"""One byte string per value: RFC 8785 JSON, for what is hashed, signed or authenticated.

JSON knows fewer types than Python, so these are written as strings, always the same way:

=====================  =====================================================================
UUID                   lower case with hyphens
aware datetime         UTC with six decimals and ``Z``: ``2026-01-31T23:59:59.000000Z``
date                   ``2026-01-31``
Decimal                plain digits as given, no exponent: ``Decimal("1E+2")`` -> ``"100"``
int beyond 2**53 - 1   its digits, because a JSON number would lose them in other readers
=====================  =====================================================================

Refused: sets (no order), bytes (no text), naive datetimes (no moment), NaN and infinities, texts that are
translated later (their bytes would depend on the reader's language), keys that are not strings, lone
surrogates.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import rfc8785

_SAFE_INTEGER = 2**53 - 1
_MAX_DEPTH = 64


class NotCanonical(ValueError):
    """The value has no canonical form; the message names the type, never the value."""


def dumps(value: Any) -> bytes:
    """The canonical bytes of `value`. Raises `NotCanonical`."""
    try:
        return rfc8785.dumps(_plain(value, 0))
    except rfc8785.CanonicalizationError:
        raise NotCanonical("a text or a number has no canonical form") from None
    except UnicodeEncodeError:
        raise NotCanonical("a key is not valid text") from None


def _plain(value: Any, depth: int) -> Any:
    if type(value) is str or value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, str):  # an enum's text, not the name of its member
        return str.__str__(value)
    if isinstance(value, int):
        return int(value) if -_SAFE_INTEGER <= value <= _SAFE_INTEGER else _digits(value)
    if depth >= _MAX_DEPTH:
        raise NotCanonical("nested too deeply")
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    return _text(value)


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise NotCanonical(f"a {type(key).__name__} cannot be a key")
    return str.__str__(key)


def _digits(value: int) -> str:
    try:
        return str(int(value))
    except ValueError:  # Python refuses to print integers of thousands of digits
        raise NotCanonical("an integer has too many digits") from None


def _text(value: Any) -> str:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise NotCanonical("a datetime without a time zone is no moment")
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise NotCanonical("a Decimal is not finite")
        return format(value, "f")
    raise NotCanonical(f"a {type(value).__name__} has no canonical form")
