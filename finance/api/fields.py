"""How fields of our own stand in the published API description."""

from __future__ import annotations

from typing import Any, Final

from finance import schemas

AMOUNT: Final[dict[str, Any]] = schemas.AMOUNT
RATE: Final[dict[str, Any]] = {
    "description": "a fraction of 1 in plain digits, as a string or a number, with at most six decimals",
    "oneOf": [{"type": "string", "pattern": r"^(0|1)(\.[0-9]{1,6})?$"}, {"type": "number"}],
}
