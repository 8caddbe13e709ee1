"""The canonical bytes of an event, whatever is put into it."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.utils.translation import gettext_lazy
from hypothesis import given, settings
from hypothesis import strategies as st

from mestore.lib import actor, canonical
from monitoring import events, leaves

NIL = UUID(int=0)

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.text(st.characters()), st.decimals(),
    st.uuids(), st.datetimes(), st.dates(), st.frozensets(st.integers()),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(), inner, max_size=5)),
    max_leaves=20,
)


def _canon(data: dict[str, Any]) -> bytes:
    entry = leaves.Entry(events.USER_CREATED, by=actor.system("test"), data=data)
    return leaves.canon(
        entry,
        leaves.columns(entry),
        event_id=NIL,
        at="2026-01-01T00:00:00.000000Z",
        subject=None,
        personal=None,
    )


@settings(deadline=None)
@given(st.dictionaries(st.text(), values, max_size=6))
def test_anything_has_canonical_bytes(data: dict[str, Any]) -> None:
    written = _canon(data)

    assert canonical.dumps(json.loads(written)) == written


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(-(2**53) + 1, 2**53 - 1), st.booleans())))
def test_fast_writer_writes_what_the_standard_says(data: dict[str, Any]) -> None:
    cleaned = leaves._clean(data)

    assert leaves._canonical(cleaned) == canonical.dumps(cleaned)


@settings(deadline=None)
@given(st.dictionaries(st.one_of(st.text(max_size=300), st.integers()), values, max_size=6))
def test_members_are_cleaned_like_each_alone(data: dict[Any, Any]) -> None:
    expected = {
        leaves._text(str(name), leaves.MAX_LABEL): leaves._clean(item, 1) for name, item in data.items()
    }

    assert leaves._clean(data) == expected
    assert leaves._clean(data) == expected


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (2**53 - 1, 2**53 - 1),
        (2**53, "9007199254740992"),
        (-(2**64), "-18446744073709551616"),
        (1.5, "1.5"),
        (float("nan"), "nan"),
        (Decimal("1.10"), "1.10"),
        (NIL, str(NIL)),
        (dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC), "2026-01-31T12:00:00+00:00"),
        (dt.date(2026, 1, 31), "2026-01-31"),
        ({"b", "a"}, ["a", "b"]),
        ((1, None, True), [1, None, True]),
        (gettext_lazy("Sessions"), str(gettext_lazy("Sessions"))),
        ("a\x00b", "a\ufffdb"),
        ("\ud800", "\ufffd"),
    ],
)
def test_value_is_written_as(value: object, written: object) -> None:
    assert json.loads(_canon({"x": value}))["data"]["x"] == written


def test_integer_of_any_length_is_recordable() -> None:
    assert json.loads(_canon({"x": 10**10_000}))["data"]["x"].startswith("0x")


def test_depth_and_breadth_are_bounded() -> None:
    deep: Any = "bottom"
    for _ in range(500):
        deep = [deep]

    document = json.loads(_canon({"deep": deep, "broad": list(range(5_000))}))

    assert "bottom" not in json.dumps(document)
    assert len(document["data"]["broad"]) == leaves.MAX_ITEMS


def test_parts_that_are_absent_are_not_written() -> None:
    entry = leaves.Entry(events.SIGN_IN_FAILED, by=actor.Actor(kind="anonymous"))

    document = json.loads(
        leaves.canon(entry, leaves.columns(entry), event_id=NIL, at="t", subject=None, personal=None)
    )

    assert document["actor"] == {"kind": "anonymous"}
    assert not {"target", "session", "request", "data", "subject", "pii_commit"} & document.keys()
    assert leaves.subject_of(entry, leaves.columns(entry), dt.datetime.now(dt.UTC)) is None


SOMEBODY = actor.Actor(
    kind="user", id="u-1", label="ana@example.com", role="ADMIN", address="203.0.113.7", agent="Agent é",
    session_id="s-1", request_id="r-1", impersonator="u-2",
)  # fmt: skip
AT = dt.datetime(2026, 1, 31, 12, 0, 5, 600, tzinfo=dt.UTC)


def _whole(entry: leaves.Entry, row: leaves.Columns) -> bytes:
    return leaves.canon(
        entry, row, event_id=NIL, at=leaves.moment(AT), subject="u-1", personal=b"nonce and values"
    )  # fmt: skip


def test_the_bytes_of_an_event_are_these() -> None:
    """They are hashed, signed and proved for ever: another order, separator or form is another event."""
    told = {"number": "N-1", "total": 10, "row": {"id": 1, "gone": None, "é": "ñ", "whole": True, "b": ["x"]}}
    entry = leaves.Entry(events.USER_CREATED, SOMEBODY, ("user", "u-3"), told)

    assert _whole(entry, leaves.columns(entry)).decode() == (
        '{"actor":{"id":"u-1","impersonator":"u-2","kind":"user","role":"ADMIN"},'
        '"at":"2026-01-31T12:00:05.000600Z",'
        '"data":{"number":"N-1","row":{"b":["x"],"gone":null,"id":1,"whole":true,"é":"ñ"},"total":10},'
        '"event":"user.created","event_version":1,"id":"00000000-0000-0000-0000-000000000000",'
        '"outcome":"SUCCESS",'
        '"pii_commit":"04f06956eb7afb4b49b16b0d40b423c4c3b2a3f8224b3a12b3880ddce2ae3216",'
        '"request":"r-1","session":"s-1","subject":"u-1","target":{"id":"u-3","type":"user"},"v":1}'
    )


def test_the_moment_of_an_event_has_all_its_digits() -> None:
    assert leaves.moment(AT.replace(microsecond=0)) == "2026-01-31T12:00:05.000000Z"


@pytest.mark.parametrize("other", [SOMEBODY, replace(SOMEBODY), replace(SOMEBODY, id="u-9", agent="")])
def test_an_event_beside_another_says_what_it_says_alone(other: actor.Actor) -> None:
    before = leaves.columns(leaves.Entry(events.USER_CREATED, other, ("user", "u-8"), {"a": 1}))
    for personal in (None, {"name": "Zoë"}):
        entry = leaves.Entry(events.USER_UPDATED, SOMEBODY, ("user", "u-3"), {"b": 2}, personal)
        alone, beside = leaves.columns(entry), leaves.columns(entry, before)

        assert beside == alone
        assert _whole(entry, beside) == _whole(entry, alone)
        values, again = (leaves.personal_bytes(entry, row) for row in (alone, beside))
        assert values[leaves.NONCE_BYTES :] == again[leaves.NONCE_BYTES :]
        assert values[: leaves.NONCE_BYTES] != again[: leaves.NONCE_BYTES]


def test_cleaning_leaves_what_was_given_as_it_was() -> None:
    given_data: dict[str, Any] = {"text": "a\x00b", "row": {"text": "\ud800"}, "many": [1.5]}

    leaves._clean(given_data)

    assert given_data == {"text": "a\x00b", "row": {"text": "\ud800"}, "many": [1.5]}
