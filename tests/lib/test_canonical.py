"""Canonical bytes: RFC 8785 with the documented rule for types that JSON lacks."""

from __future__ import annotations

import enum
import json
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from mestore.lib import canonical

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), TEXT)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        b"bytes",
        bytearray(b"x"),
        datetime(2026, 1, 1),  # noqa: DTZ001 - that it is naive is the point
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        Decimal("Infinity"),
        gettext_lazy("Forbidden"),
        {1: "key"},
        {None: "key"},
        {"\ud800": 1},
        "\ud800",
        object(),
        10**5000,
        timedelta(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_canonical_form_is_refused_wherever_it_stands(value: Any) -> None:
    for place in (value, [value], {"a": {"b": value}}):
        with pytest.raises(canonical.NotCanonical):
            canonical.dumps(place)


def test_a_refusal_names_the_type_and_never_the_value() -> None:
    with pytest.raises(canonical.NotCanonical) as caught:
        canonical.dumps({"password": b"hunter2"})

    assert "bytes" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_nesting_is_bounded() -> None:
    assert canonical.dumps(nested(64)).startswith(b"[" * 64)
    with pytest.raises(canonical.NotCanonical):
        canonical.dumps(nested(65))
    with pytest.raises(canonical.NotCanonical):
        canonical.dumps(nested(5_000))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (uuid.UUID("ABCDEF00-0000-7000-8000-000000000001"), b'"abcdef00-0000-7000-8000-000000000001"'),
        (datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC), b'"2026-01-31T23:59:59.000000Z"'),
        (
            datetime(2026, 1, 31, 23, 59, 59, 7, tzinfo=timezone(timedelta(hours=-5))),
            b'"2026-02-01T04:59:59.000007Z"',
        ),
        (datetime(99, 1, 1, tzinfo=UTC), b'"0099-01-01T00:00:00.000000Z"'),
        (date(2026, 1, 31), b'"2026-01-31"'),
        (Decimal("1E+2"), b'"100"'),
        (Decimal("1.50"), b'"1.50"'),
        (Decimal("-0.00"), b'"-0.00"'),
        (2**53 - 1, b"9007199254740991"),
        (2**53, b'"9007199254740992"'),
        (-(2**53) + 1, b"-9007199254740991"),
        (-(2**53), b'"-9007199254740992"'),
        (True, b"true"),
        (1.0, b"1"),
        (1e21, b"1e+21"),
        ((1, None), b"[1,null]"),
        (enum.StrEnum("Role", {"ADMIN": "admin"}).ADMIN, b'"admin"'),  # type: ignore[attr-defined]  # functional form
        (enum.IntEnum("Level", {"HIGH": 5}).HIGH, b"5"),  # type: ignore[attr-defined]  # functional form
    ],
)
def test_each_type_has_one_form(value: Any, expected: bytes) -> None:
    assert canonical.dumps(value) == expected


def test_keys_are_sorted_by_utf_16_units_as_the_rfc_says() -> None:
    value = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}

    keys = list(json.loads(canonical.dumps(value)))
    assert keys == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_texts_are_written_in_utf_8_with_the_shortest_escapes() -> None:
    assert canonical.dumps('€$\x0f\nA\'B"\\\\"/') == '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()


@given(VALUES)
def test_canonical_bytes_read_back_as_the_same_value(value: Any) -> None:
    assert json.loads(canonical.dumps(value)) == value


@given(st.dictionaries(TEXT, SCALARS), st.randoms())
def test_the_order_in_which_keys_were_put_in_does_not_matter(value: dict[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)

    assert canonical.dumps(dict(items)) == canonical.dumps(value)


@given(VALUES)
def test_there_is_no_white_space_between_tokens_and_the_bytes_do_not_change_when_read_and_written(
    value: Any,
) -> None:
    once = canonical.dumps(value)

    assert canonical.dumps(json.loads(once)) == once
