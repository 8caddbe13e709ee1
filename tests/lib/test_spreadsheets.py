"""Whatever a cell holds, it is text on one line."""

from __future__ import annotations

import csv

from hypothesis import example, given
from hypothesis import strategies as st

from mestore.lib import spreadsheets


@given(st.lists(st.text(), min_size=1))
@example(["\x08="])
@example(["\u2028 +1"])
def test_a_row_is_one_line_of_harmless_cells(cells: list[str]) -> None:
    text = spreadsheets.line(cells)

    assert text.endswith("\r\n")
    assert len(text.splitlines()) == 1
    (row,) = csv.reader([text])
    assert len(row) == len(cells)
    for cell in row:
        assert not cell.lstrip().startswith(spreadsheets.FORMULA)
        assert cell.isprintable() or not any(ord(letter) < 32 for letter in cell)


@given(st.lists(st.text(alphabet=st.characters(codec="ascii", exclude_categories=["Cc"])), min_size=1))
def test_what_is_harmless_comes_back_as_it_was(cells: list[str]) -> None:
    row = spreadsheets.read_line(spreadsheets.line(cells))

    for cell, back in zip(cells, row, strict=True):
        assert back in {cell, f"'{cell}"}
