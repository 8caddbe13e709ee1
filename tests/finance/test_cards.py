"""Card data is found wherever it stands, and the quick look before the long one changes nothing of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finance import cards
from mestore.lib.http import JsonNumber

VISA = "4111111111111111"
AMEX = "378282246310005"
DIGITS = "0123456789"
# Pieces that card numbers and what is taken for one are made of.
PIECES = st.one_of(
    st.sampled_from([
        VISA, AMEX, "4111", "1111", "3782", "822463", "10005", " ", "-", ".", "_", "--", " / ", " - ", "é",
        "x", "\u200b", "\u00ad", "٤", "１", "+57", "\u2003", "01a20236-d59f-7226-b859-627a171403f2",
        "4000000000006",
    ]),
    st.text(alphabet=DIGITS, max_size=5),
    st.text(max_size=3),
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=9).map("".join)
NAMES = st.one_of(st.sampled_from(["cvv", "Card Number", "name", "items", VISA, ""]), st.text(max_size=4))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 10**20), TEXTS, TEXTS.map(JsonNumber)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)


def holds_number(text: str) -> bool:
    """What `cards` says without its quick look."""
    if len(text) < 13 or cards._UUID.fullmatch(text):
        return False
    return any(cards._is_card(digits) for digits in cards._candidates(cards._INVISIBLE.sub("", text)))


def find(value: Any, path: str = "body") -> str | None:
    """What `cards.find` says, looking at everything."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if holds_number(str(key)):
                return path
            here = f"{path} -> {key}"
            if re.sub(r"[^a-z0-9]", "", str(key).lower()) in cards._SECRET_NAMES:
                return here
            if found := find(item, here):
                return found
        return None
    if isinstance(value, list):
        return next((p for i, item in enumerate(value) if (p := find(item, f"{path} -> {i}"))), None)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return path if holds_number(str(value)) else None


@given(TEXTS)
@example(f"paid with {VISA[:4]} {VISA[4:8]} - {VISA[8:12]}/{VISA[12:]}")
@example(f"12/29 {AMEX[:4]}.{AMEX[4:10]}.{AMEX[10:]}")
@example("4111\u200b1111\u200b1111\u200b1111")
@example("٤١١١١١١١١١١١١١١١")
@example("4111-1111---1111___1111")
def test_the_quick_look_passes_over_no_number(text: str) -> None:
    assert cards._holds_number(text) == holds_number(text)


@given(VALUES)
def test_a_body_is_judged_as_when_everything_is_looked_at(value: Any) -> None:
    assert cards.find(value) == find(value)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"notes": f"my card: {VISA}"}, "body -> notes"),
        ({"items": [{"name": "a"}, {"name": AMEX}]}, "body -> items -> 1 -> name"),
        ({"payment": {"cvv": "1"}}, "body -> payment -> cvv"),
        ({"payment": {VISA: "1"}}, "body -> payment"),
        ({"n": int(VISA)}, "body -> n"),
        ({"n": JsonNumber(VISA)}, "body -> n"),
        (VISA, "body"),
        ({VISA: 1}, "body"),
        ([[VISA]], "body -> 0 -> 0"),
        ({"notes": "1" * 12 + " and +573001234567"}, None),
        ({"id": "01a20236-d59f-7226-b859-627a171403f2"}, None),
        ([], None),
        (None, None),
        (True, None),
    ],
)
def test_where_it_is_found(body: Any, place: str | None) -> None:
    assert cards.find(body) == place


def test_a_very_long_text_of_digits_takes_no_longer_than_its_length() -> None:
    assert cards.find("1 " * 200_000) is None
    assert cards.find("1-" * 6 + "x" * 400_000) is None
