"""The progress bar: on a terminal, and nowhere else."""

from __future__ import annotations

import io

import pytest

from finance.imports import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nothing_is_shown_where_no_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)

    with progress.shown() as phase:
        phase("Reading orders", 10)(5)

    assert stream.getvalue() == ""


def test_terminal_shows_each_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)

    with progress.shown() as phase:
        phase("Reading orders", 10)(10)
        phase("Writing orders", 0)(0)

    assert "Reading orders" in stream.getvalue()
    assert "100%" in stream.getvalue()
    assert "Writing orders" in stream.getvalue()
