"""Cells of CSV that a spreadsheet shows as they are: none becomes a formula, a row is one line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import Final

# What begins a formula in one of the usual programs, the full-width forms too (OWASP "CSV injection").
FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n", "\x00")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def harmless(cell: str) -> str:
    """Return `cell` without control characters, as text also where it looks like a formula (ASVS 1.2.10)."""
    shown = _CONTROL.sub(" ", cell)
    # Looked at as it will stand there: a control character in front would only have hidden the sign.
    is_formula = cell.startswith(FORMULA) or shown.lstrip().startswith(FORMULA)
    return f"'{shown}" if is_formula else shown


def line(cells: Iterable[str]) -> str:
    """Return one row, every cell quoted, with CR LF at its end (RFC 4180)."""
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL).writerow([harmless(cell) for cell in cells])
    return written.getvalue()


def read_line(text: str) -> list[str]:
    """Return the cells of one row that `line` wrote; an empty list for an empty row."""
    return next(csv.reader([text]), [])
