"""Numbers carry the day of the place where they are read, whatever the moment's own zone and year."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finance import numbers

MOMENTS = st.builds(dt.datetime.fromtimestamp, st.integers(-(2**31), 2**37), st.timezones())
TAIL = "[0-9A-HJKMNP-TV-Z]{8}"


@given(MOMENTS)
def test_each_number_tells_the_day_in_bogota(moment: dt.datetime) -> None:
    local = moment.astimezone(numbers._PLACE)
    makers = {
        "ORD": numbers.order_number, "PAY": numbers.payout_number, "BAT": numbers.batch_number,
        "REF": numbers.refund_number,
    }  # fmt: skip

    for word, make in makers.items():
        assert re.fullmatch(f"{word}-{local:%Y%m%d}-{TAIL}", make(moment))
    assert re.fullmatch(f"COM-{local:%Y%m%d%H%M%S}-[0-9a-f]{{8}}", numbers.commission_number(moment))


@pytest.mark.parametrize(
    ("utc", "day"), [("2026-01-01T04:59:59+00:00", "20251231"), ("2026-01-01T05:00:00+00:00", "20260101")]
)
def test_the_day_changes_at_midnight_there(utc: str, day: str) -> None:
    assert numbers.order_number(dt.datetime.fromisoformat(utc)).startswith(f"ORD-{day}-")


def test_every_character_is_drawn() -> None:
    drawn = "".join(numbers._tail() for _ in range(2_000))

    # That one of 32 is missing among 16,000 has a chance of one in 10^219.
    assert set(drawn) == set(numbers._ALPHABET)
