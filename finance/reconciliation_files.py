"""Reading a provider's or a bank's report: CSV, strict, line by line, never more than one line in memory.

Columns, in any order: `reference`, `kind`, `amount`, `currency`, `occurred_at`, and `fee` where there is one.
`amount` is plain digits, without a sign: what comes in and what goes out is said by `kind` and by whose
report it is. `occurred_at` is ISO 8601 with a zone, or a moment of business time.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from django.utils.translation import gettext_lazy as _

from finance import money, selectors
from finance.states import RecordKind, ReportKind
from mestore.lib import errors

COLUMNS: Final = ("reference", "kind", "amount", "currency", "occurred_at")
_LONGEST_LINE: Final = 4_096
_LONGEST_REFERENCE: Final = 128
_CHUNK: Final = 1 << 20
# Which way money moves, seen from whose report it is; a pair that is not listed makes no sense there.
SIGNS: Final = {
    (ReportKind.PROVIDER, RecordKind.PAYMENT): 1,
    (ReportKind.PROVIDER, RecordKind.REFUND): -1,
    (ReportKind.PROVIDER, RecordKind.CHARGEBACK): -1,
    (ReportKind.PROVIDER, RecordKind.FEE): -1,
    (ReportKind.PROVIDER, RecordKind.SWEEP): -1,
    (ReportKind.BANK, RecordKind.SWEEP): 1,
    (ReportKind.BANK, RecordKind.PAYOUT): -1,
    (ReportKind.BANK, RecordKind.RETURN): 1,
    (ReportKind.BANK, RecordKind.FEE): -1,
}


class UnusableReport(errors.Unprocessable):
    """A whole file cannot be used."""

    message = _("The file cannot be read, or its first line does not name the columns of a report.")


@dataclass(frozen=True, slots=True)
class Record:
    """One good line. `amount` is signed and, like `fee`, in minor units."""

    line: int
    kind: RecordKind
    reference: str
    currency: str
    amount: int
    fee: int
    occurred_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that was left out, and why: a code."""

    line: int
    why: str


def digest_of(path: Path) -> bytes:
    """Return the SHA-256 of a file. Raises UnusableReport."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                found.update(chunk)
    except OSError as error:
        raise UnusableReport from error
    return found.digest()


def records(path: Path, kind: ReportKind) -> Iterator[Record | Rejected]:
    """Yield every line after the first, good or not. Raises UnusableReport."""
    try:
        with path.open("rb") as stream:
            header = _fields(stream.readline(_LONGEST_LINE).removeprefix(b"\xef\xbb\xbf"))
            if header is None or not set(COLUMNS) <= set(header) or len(set(header)) != len(header):
                raise UnusableReport
            number = 1
            while raw := stream.readline(_LONGEST_LINE + 1):
                number += 1
                if len(raw) > _LONGEST_LINE:
                    while raw and not raw.endswith(b"\n"):
                        raw = stream.readline(_LONGEST_LINE)
                    yield Rejected(number, "too_long")
                elif raw.strip():
                    yield _record(number, header, _fields(raw), kind)
    except OSError as error:
        raise UnusableReport from error


def _fields(raw: bytes) -> list[str] | None:
    """The fields of one line; None for bytes that are no UTF-8 or no CSV."""
    try:
        rows = list(csv.reader([raw.decode("utf-8")], strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    return rows[0] if len(rows) == 1 else None


def _record(number: int, header: list[str], fields: list[str] | None, kind: ReportKind) -> Record | Rejected:
    if fields is None or len(fields) != len(header):
        return Rejected(number, "malformed")
    given = dict(zip(header, fields, strict=True))
    reference = given["reference"].strip()
    if not 0 < len(reference) <= _LONGEST_REFERENCE or not reference.isprintable():
        return Rejected(number, "reference")
    try:
        what = RecordKind(given["kind"].strip().lower())
        sign = SIGNS[kind, what]
    except (ValueError, KeyError):
        return Rejected(number, "kind")
    try:
        amount = money.parse(given["amount"].strip(), given["currency"].strip())
        fee = money.parse(given.get("fee", "").strip() or "0", amount.currency)
    except money.MoneyError as error:
        return Rejected(number, error.code)
    moment = _moment(given["occurred_at"].strip())
    if moment is None:
        return Rejected(number, "occurred_at")
    return Record(number, what, reference, amount.currency, sign * amount.minor, fee.minor, moment)


def _moment(text: str) -> dt.datetime | None:
    try:
        moment = dt.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = selectors.in_business_time(moment)
        return moment.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None
