"""What a bank answers about the payments of a file, read from CSV. Pure; what cannot be read is named.

The header names the columns: reference, outcome, amount and, if there are, bank_reference and reason. An
outcome is a word of ours or one that Colombian banks write.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from finance.bank_files import folded
from finance.money import MoneyError, parse

LARGEST_FILE: Final = 5_000_000
MOST_LINES: Final = 50_000
_LONGEST: Final = 200


class Outcome(StrEnum):
    """What became of a payment."""

    PAID = "paid"
    RETURNED = "returned"
    REJECTED = "rejected"


_WORDS: Final = {
    "PAID": Outcome.PAID, "PAGADO": Outcome.PAID, "PAGADA": Outcome.PAID, "EXITOSO": Outcome.PAID,
    "EXITOSA": Outcome.PAID, "ABONADO": Outcome.PAID, "APLICADO": Outcome.PAID,
    "RETURNED": Outcome.RETURNED, "DEVUELTO": Outcome.RETURNED, "DEVUELTA": Outcome.RETURNED,
    "REJECTED": Outcome.REJECTED, "RECHAZADO": Outcome.REJECTED, "RECHAZADA": Outcome.REJECTED,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answered:
    """One line of the answer; `minor` is what the bank says it moved."""

    line: int
    reference: str
    outcome: Outcome
    minor: int
    bank_reference: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One line that says nothing that can be used, and why in a word."""

    line: int
    reference: str
    why: str


class AnswerRefused(ValueError):
    """The file as a whole cannot be read; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def read(content: bytes, currency: str) -> list[Answered | Unreadable]:
    """Return what the file says, line by line. Raises `AnswerRefused`."""
    if len(content) > LARGEST_FILE:
        raise AnswerRefused("too_large")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise AnswerRefused("not_utf8") from None
    if "\x00" in text:
        raise AnswerRefused("not_text")
    return list(_rows(text, currency))


def _rows(text: str, currency: str) -> Iterator[Answered | Unreadable]:
    separator = ";" if ";" in text.partition("\n")[0] else ","
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        if not {"reference", "outcome", "amount"} <= set(names) or len(set(names)) != len(names):
            raise AnswerRefused("header")
        seen: set[str] = set()
        for number, cells in enumerate(reader, 2):
            if number > MOST_LINES + 1:
                raise AnswerRefused("too_many_lines")
            if any(cell.strip() for cell in cells):
                yield _row(number, dict(zip(names, cells, strict=False)), currency, seen)
    except csv.Error:
        raise AnswerRefused("not_csv") from None


def _row(number: int, cells: dict[str, str], currency: str, seen: set[str]) -> Answered | Unreadable:
    reference = cells.get("reference", "").strip()[:_LONGEST]
    outcome = _WORDS.get(folded(cells.get("outcome", "")))
    if not reference:
        return Unreadable(number, "", "reference")
    if reference in seen:
        return Unreadable(number, reference, "twice")
    seen.add(reference)
    if outcome is None:
        return Unreadable(number, reference, "outcome")
    try:
        minor = parse(cells.get("amount", "").strip(), currency).minor
    except MoneyError:
        return Unreadable(number, reference, "amount")
    said = [" ".join(cells.get(name, "").split())[:_LONGEST] for name in ("bank_reference", "reason")]
    return Answered(number, reference, outcome, minor, said[0], said[1])
