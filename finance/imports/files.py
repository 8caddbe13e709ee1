"""Reading the files: strict, line by line, never more than one line in memory.

One record is one physical line. A quotation mark that is not closed therefore spoils its own line only, and
the line number in the rejects file is the one an editor shows.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO, Literal

from django.utils.translation import gettext as _

from .reasons import LineRefused, Reason

Kind = Literal["orders", "items", "payments", "sellers"]

MAX_LINE_BYTES = 64 * 1024

COLUMNS: dict[Kind, tuple[str, ...]] = {
    "orders": (
        "order_id",
        "customer_id",
        "order_status",
        "order_purchase_timestamp",
        "order_approved_at",
        "order_delivered_carrier_date",
        "order_delivered_customer_date",
        "order_estimated_delivery_date",
    ),
    "items": (
        "order_id",
        "order_item_id",
        "product_id",
        "seller_id",
        "shipping_limit_date",
        "price",
        "freight_value",
    ),
    "payments": (
        "order_id",
        "payment_sequential",
        "payment_type",
        "payment_installments",
        "payment_value",
    ),
    "sellers": ("seller_id", "seller_zip_code_prefix", "seller_city", "seller_state"),
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class UnusableFile(Exception):
    """A whole file cannot be used; the message is a sentence for the person who started the import."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file whose header was found good. `arrange` puts a line's fields in the order of COLUMNS."""

    kind: Kind
    path: Path
    size: int
    arrange: Callable[[Sequence[str]], Sequence[str]] | None


def open_source(kind: Kind, path: Path) -> SourceFile:
    """Check that the file is there, is a regular file and begins with the columns of its kind, in any order.

    Raises UnusableFile.
    """
    try:
        if not path.is_file():
            raise UnusableFile(
                _("The %(kind)s file %(path)s is not there or is no regular file.") % _named(kind, path)
            )
        with path.open("rb") as stream:
            first = stream.readline(MAX_LINE_BYTES)
        size = path.stat().st_size
    except OSError as error:
        why = error.strerror or error.__class__.__name__
        raise UnusableFile(
            _("The %(kind)s file %(path)s cannot be read: ") % _named(kind, path) + why
        ) from error
    return SourceFile(kind, path, size, _arrangement(kind, path, first))


def lines(source: SourceFile) -> Iterator[tuple[int, bytes]]:
    """Every line after the header as (physical line number, raw bytes without its end), blank lines left out.

    A line longer than MAX_LINE_BYTES comes cut to MAX_LINE_BYTES + 1 bytes; `fields` refuses it.
    """
    with source.path.open("rb") as stream:
        _next_line(stream)
        number = 1
        while raw := _next_line(stream):
            number += 1
            content = raw.rstrip(b"\r\n")
            if content:
                yield number, content


def fields(source: SourceFile, raw: bytes) -> Sequence[str]:
    """The fields of one line in the order of COLUMNS[kind]. Raises LineRefused."""
    if len(raw) > MAX_LINE_BYTES:
        raise LineRefused(Reason.LINE_TOO_LONG, str(MAX_LINE_BYTES))
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LineRefused(Reason.NOT_UTF8, str(error.start + 1)) from None
    if not text.isprintable() and (found := _CONTROL.search(text)):
        raise LineRefused(Reason.CONTROL_CHARACTER, str(ord(found.group())))
    values = _quoted(text) if '"' in text else text.split(",")
    expected = len(COLUMNS[source.kind])
    if len(values) != expected:
        raise LineRefused(Reason.WRONG_COLUMN_COUNT, f"{len(values)} / {expected}")
    return source.arrange(values) if source.arrange else values


def _quoted(text: str) -> list[str]:
    try:
        (values,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        raise LineRefused(Reason.BAD_QUOTES) from None
    return values


def _next_line(stream: IO[bytes]) -> bytes:
    """The next line, at most MAX_LINE_BYTES + 1 bytes of it; the rest of a longer one is read and dropped."""
    raw = stream.readline(MAX_LINE_BYTES + 1)
    rest = raw
    while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
        rest = stream.readline(MAX_LINE_BYTES + 1)
    return raw


def _arrangement(kind: Kind, path: Path, first: bytes) -> Callable[[Sequence[str]], Sequence[str]] | None:
    """How a line's fields come into our order; None when they already are. Raises UnusableFile."""
    wanted = COLUMNS[kind]
    try:
        text = first.removeprefix(_BYTE_ORDER_MARK).rstrip(b"\r\n").decode("ascii")
        found = _quoted(text) if text else []
    except (UnicodeDecodeError, LineRefused):
        found = []
    if sorted(found) != sorted(wanted):
        named = {**_named(kind, path), "columns": ", ".join(wanted)}
        raise UnusableFile(
            _("The first line of the %(kind)s file %(path)s must name the columns %(columns)s.") % named
        )
    if tuple(found) == wanted:
        return None
    return itemgetter(*(found.index(name) for name in wanted))


def _named(kind: Kind, path: Path) -> dict[str, str]:
    return {"kind": kind, "path": str(path)}
