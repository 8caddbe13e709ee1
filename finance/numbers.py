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
_SHIFTS: Final = range(0, 40, 5)


def order_number(moment: datetime) -> str:
    """Return a new number `ORD-YYYYMMDD-XXXXXXXX` for an order placed at `moment`."""
    return f"ORD-{_day(moment.astimezone(_PLACE))}-{_tail()}"


def commission_number(moment: datetime) -> str:
    """Return a new number `COM-YYYYMMDDHHMMSS-xxxxxxxx` for a commission calculated at `moment`."""
    local = moment.astimezone(_PLACE)
    clock = f"{local.hour:02}{local.minute:02}{local.second:02}"
    return f"COM-{_day(local)}{clock}-{secrets.token_hex(4)}"


def payout_number(moment: datetime) -> str:
    """Return a new number `PAY-YYYYMMDD-XXXXXXXX` for a payout asked for at `moment`: 21 characters, the
    longest reference that a bank file carries."""
    return f"PAY-{_day(moment.astimezone(_PLACE))}-{_tail()}"


def batch_number(moment: datetime) -> str:
    """Return a new number `BAT-YYYYMMDD-XXXXXXXX` for a bank file made at `moment`."""
    return f"BAT-{_day(moment.astimezone(_PLACE))}-{_tail()}"


def refund_number(moment: datetime) -> str:
    """Return a new number `REF-YYYYMMDD-XXXXXXXX` for a refund posted at `moment`."""
    return f"REF-{_day(moment.astimezone(_PLACE))}-{_tail()}"


def _day(local: datetime) -> str:
    # Written out: `strftime` takes longer than all the rest of a number.
    return f"{local.year:04}{local.month:02}{local.day:02}"


def _tail() -> str:
    # Five bytes are eight characters of five bits.
    bits = int.from_bytes(secrets.token_bytes(5), "big")
    return "".join([_ALPHABET[(bits >> shift) & 31] for shift in _SHIFTS])
