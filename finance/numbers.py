"""Numbers that people read out on the telephone. Random, so that nobody can guess the next one.

Two may be equal by chance; the database refuses the second, and the caller runs its transaction again.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

#: Numbers carry the day and time of the place where they are read.
_PLACE: Final = ZoneInfo("America/Bogota")
#: Digits and capital letters without I, L, O and U: nothing that is mistaken for something else.
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def order_number(moment: datetime) -> str:
    """Return a new number `ORD-YYYYMMDD-XXXXXXXX` for an order placed at `moment`."""
    return f"ORD-{moment.astimezone(_PLACE):%Y%m%d}-{_tail()}"


def commission_number(moment: datetime) -> str:
    """Return a new number `COM-YYYYMMDDHHMMSS-xxxxxxxx` for a commission calculated at `moment`."""
    return f"COM-{moment.astimezone(_PLACE):%Y%m%d%H%M%S}-{secrets.token_hex(4)}"


def payout_number(moment: datetime) -> str:
    """Return a new number `PAY-YYYYMMDD-XXXXXXXX` for a payout asked for at `moment`: 21 characters, the
    longest reference that a bank file carries."""
    return f"PAY-{moment.astimezone(_PLACE):%Y%m%d}-{_tail()}"


def batch_number(moment: datetime) -> str:
    """Return a new number `BAT-YYYYMMDD-XXXXXXXX` for a bank file made at `moment`."""
    return f"BAT-{moment.astimezone(_PLACE):%Y%m%d}-{_tail()}"


def refund_number(moment: datetime) -> str:
    """Return a new number `REF-YYYYMMDD-XXXXXXXX` for a refund posted at `moment`."""
    return f"REF-{moment.astimezone(_PLACE):%Y%m%d}-{_tail()}"


def _tail() -> str:
    bits = secrets.randbits(40)
    return "".join(_ALPHABET[(bits >> shift) & 31] for shift in range(0, 40, 5))
