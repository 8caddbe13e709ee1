"""The writers that are made once write what `json.dumps` writes."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mestore.lib import json_text


class Word(StrEnum):
    ONE = "one"


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.text(st.characters()),
        st.just(Word.ONE),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(st.characters()), inner, max_size=4),
    ),
    max_leaves=12,
)
ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"separators": (",", ":")},
    {"ensure_ascii": False, "separators": (",", ":"), "sort_keys": True},
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
@given(value=VALUES)
def test_the_text_is_that_of_the_standard_library(arguments: dict[str, Any], value: Any) -> None:
    write = json_text.writer(**arguments)

    assert write(value) == json.dumps(value, **arguments)
    assert write(value) == json.dumps(value, **arguments)


@pytest.mark.parametrize("value", [b"bytes", {"a": {1}}, [object()], {(1, 2): 3}])
def test_what_has_no_json_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        json_text.writer()(value)


def test_what_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises(RecursionError):
        json_text.writer()(value)


def test_without_the_encoder_in_c_it_is_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json.encoder, "c_make_encoder", None)

    assert json_text.writer(separators=(",", ":"))({"b": [1, "é"]}) == '{"b":[1,"\\u00e9"]}'
