"""A vendor's statement: the numbered movements of what is available, with the balance after each.

The numbers have no gap and the database gives them, in the order in which movements happened to the balance.
A period is a range of numbers: up to the last movement that was recorded before its end. So two periods that
touch share no line and leave none out, whatever the clocks of two postings said.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.core import signing
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from finance.money import text_of
from mestore.lib import errors, spreadsheets, sql
from mestore.lib.actor import Actor
from monitoring import audit, events

LARGEST_PAGE: Final = 500
DEFAULT_PAGE: Final = 100
#: What a printed page holds; more is taken as CSV, or month by month.
MOST_PRINTED: Final = 2_000
_BATCH: Final = 1_000
HOME: Final = "COP"
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_SIGNER: Final = signing.Signer(salt="finance.statement")

_CURRENCIES: Final = """
SELECT a.currency FROM ledger_account a
WHERE a.book_id = %s AND a.kind = 'vendor_available' ORDER BY a.currency
"""
_SPAN: Final = """
SELECT a.id, coalesce(f.seq, 0), coalesce(f.balance, 0), coalesce(l.seq, 0), coalesce(l.balance, 0)
FROM ledger_account a
LEFT JOIN LATERAL (
    SELECT s.seq, s.balance FROM ledger_statement_line s
    WHERE s.book_id = a.book_id AND s.account_id = a.id AND s.recorded_at < %(since)s::timestamptz
    ORDER BY s.seq DESC LIMIT 1) f ON true
LEFT JOIN LATERAL (
    SELECT s.seq, s.balance FROM ledger_statement_line s
    WHERE s.book_id = a.book_id AND s.account_id = a.id
      AND (%(until)s::timestamptz IS NULL OR s.recorded_at < %(until)s::timestamptz)
    ORDER BY s.seq DESC LIMIT 1) l ON true
WHERE a.book_id = %(vendor)s AND a.kind = 'vendor_available' AND a.provider = '' AND a.currency = %(currency)s
"""
_SUMS: Final = """
SELECT coalesce(sum(s.amount) FILTER (WHERE s.amount > 0), 0) FROM ledger_statement_line s
WHERE s.book_id = %s AND s.account_id = %s AND s.seq > %s AND s.seq <= %s
"""
_LINES: Final = """
SELECT s.seq, s.entry_id, e.kind, e.source_event, s.occurred_at, s.recorded_at, s.amount, s.balance
FROM ledger_statement_line s JOIN ledger_entry e ON e.book_id = s.book_id AND e.id = s.entry_id
WHERE s.book_id = %s AND s.account_id = %s AND s.seq > %s AND s.seq <= %s
ORDER BY s.seq LIMIT %s
"""

#: What the kinds of entries are called on paper.
WORDS: Final = {
    "settlement": _("Settlement of sales"),
    "refund": _("Refund to a buyer"),
    "refund_failed": _("Refund that failed, given back"),
    "refund_released": _("Money of a refund that failed"),
    "debt_netted": _("What was owed, taken off"),
    "payout_sent": _("Payout"),
    "payout_returned": _("Payout that came back"),
    "adjustment": _("Adjustment"),
}


class PeriodInvalid(errors.Unprocessable):
    """Its end comes before its beginning."""

    message = _("The period ends before it begins.")


class TooMuchToPrint(errors.Unprocessable):
    code = "STATEMENT_TOO_LONG"
    message = _("This is more than a page can hold. Take it as CSV, or choose a shorter period.")


class CursorInvalid(errors.Unprocessable):
    message = _("The cursor is not one that was given out.")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended, and what came in up to `upto` of the account's lines after `after`.

    So the pages of a statement add its period up once: a later page adds what was posted since.
    """

    number: int
    account: int | None = None
    after: int = 0
    upto: int = 0
    credits: int = 0

    def text(self) -> str:
        """Write it for a client, signed: what it says is told again as a total."""
        return _SIGNER.sign(f"{self.number}.{self.account}.{self.after}.{self.upto}.{self.credits}")


@dataclass(frozen=True, slots=True)
class Statement:
    """One vendor, one currency, one period: lines numbered `after` + 1 to `upto`. Amounts are minor units."""

    vendor: UUID
    currency: str
    currencies: tuple[str, ...]
    since: dt.datetime | None
    until: dt.datetime | None
    account: int | None
    after: int = 0
    upto: int = 0
    opening: int = 0
    closing: int = 0
    lines: int = 0
    credits: int = 0
    debits: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One movement. `number` counts all movements of the account; `balance` is what was there after it."""

    number: int
    entry_id: UUID
    kind: str
    source: str
    occurred_at: dt.datetime
    recorded_at: dt.datetime
    amount: int
    balance: int

    @property
    def word(self) -> str:
        """What it is called on paper."""
        return str(WORDS.get(self.kind, self.kind.replace("_", " ")))

    @property
    def credit(self) -> int:
        return max(self.amount, 0)

    @property
    def debit(self) -> int:
        return max(-self.amount, 0)


def read(
    vendor: UUID,
    *,
    currency: str | None = None,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    cursor: Cursor | None = None,
) -> Statement:
    """Return what a statement says in sum: opening, closing, credits and debits, in three statements at most.

    `cursor` of an earlier page of the same period spares adding up what it knows. Without `currency`: pesos,
    or the only one there is. An account that never moved is a statement of zeros. Raises `PeriodInvalid`.
    """
    if since is not None and until is not None and until < since:
        raise PeriodInvalid(
            details=[errors.FieldError("query -> to", PeriodInvalid.message, "period_invalid")]
        )
    currencies = tuple(row[0] for row in sql.fetch_all(_CURRENCIES, [vendor]))
    chosen = currency or (currencies[0] if len(currencies) == 1 else HOME)
    values = {"vendor": vendor, "currency": chosen, "since": since, "until": until}
    found = sql.fetch_one(_SPAN, values)
    if found is None:
        return Statement(vendor, chosen, currencies, since, until, None)
    account, after, opening, upto, closing = found
    if upto <= after:  # nothing moved in the period
        return Statement(vendor, chosen, currencies, since, until, account, after, after, opening, opening)
    incoming = _credits(vendor, account, after, upto, cursor)
    # The numbers have no gap, and what came in less what went out is what the balance moved by.
    return Statement(
        vendor, chosen, currencies, since, until, account, after, upto, opening, closing, upto - after,
        incoming, incoming - (closing - opening),
    )  # fmt: skip


def cursor_after(statement: Statement, number: int) -> Cursor:
    """Return the cursor of the page that ended with this number."""
    return Cursor(number, statement.account, statement.after, statement.upto, statement.credits)


def cursor_in(text: str) -> Cursor:
    """Read a cursor that was given out; a line's number alone is one. Raises `CursorInvalid`."""
    if _NUMBER.fullmatch(text):
        return Cursor(int(text))
    try:
        number, account, after, upto, incoming = _SIGNER.unsign(text).split(".")
    except signing.BadSignature as error:
        raise CursorInvalid(
            details=[errors.FieldError("query -> cursor", CursorInvalid.message, "cursor_invalid")]
        ) from error
    return Cursor(int(number), int(account), int(after), int(upto), int(incoming))


def _credits(vendor: UUID, account: int, after: int, upto: int, cursor: Cursor | None) -> int:
    """Add up what came in; of the part that the cursor knows it is taken from there."""
    known, begin = 0, after
    if cursor is not None and (cursor.account, cursor.after) == (account, after) and cursor.upto <= upto:
        known, begin = cursor.credits, cursor.upto
    if begin == upto:
        return known
    found = sql.fetch_one(_SUMS, [vendor, account, begin, upto])
    return known + int(found[0] if found else 0)


def page(statement: Statement, *, after: int | None = None, limit: int) -> Sequence[Line]:
    """Return the next `limit` lines after the number `after` (default: from the first), in one statement."""
    if statement.account is None:
        return ()
    begin = max(after or 0, statement.after)
    rows = sql.fetch_all(_LINES, [statement.vendor, statement.account, begin, statement.upto, limit])
    return [Line(*row) for row in rows]


def every_line(statement: Statement) -> Iterator[Line]:
    """Yield all lines, a page in memory at a time; what is posted meanwhile is not among them."""
    after = statement.after
    while lines := page(statement, after=after, limit=_BATCH):
        yield from lines
        after = lines[-1].number


def printed(statement: Statement) -> Sequence[Line]:
    """Return all lines for paper. Raises `TooMuchToPrint`."""
    if statement.lines > MOST_PRINTED:
        raise TooMuchToPrint
    return page(statement, limit=MOST_PRINTED)


def csv_rows(statement: Statement) -> Iterator[str]:
    """Yield the statement as CSV: a heading, the opening balance, a row per line, the closing balance.

    Amounts stand in a column of credits and one of debits, so that none begins with a sign.
    """
    yield spreadsheets.line(
        ("number", "occurred_at", "recorded_at", "kind", "reference", "entry_id", "credit", "debit",
         "balance", "currency")
    )  # fmt: skip
    yield _total(statement, "opening", statement.opening)
    for line in every_line(statement):
        yield spreadsheets.line(
            (
                str(line.number), _moment(line.occurred_at), _moment(line.recorded_at), line.kind,
                line.source, str(line.entry_id), _cell(line.credit, statement), _cell(line.debit, statement),
                text_of(line.balance, statement.currency), statement.currency,
            )
        )  # fmt: skip
    yield _total(statement, "closing", statement.closing)


def record_taken(statement: Statement, form: str, *, by: Actor) -> None:
    """Record that somebody took a vendor's statement away as a file or on paper."""
    with transaction.atomic():
        audit.record(
            events.STATEMENT_TAKEN, by=by, target=("vendor", str(statement.vendor)),
            data={
                "form": form, "currency": statement.currency, "lines": statement.lines,
                "from": statement.since.isoformat() if statement.since else None,
                "to": statement.until.isoformat() if statement.until else None,
            },
        )  # fmt: skip


def _total(statement: Statement, kind: str, minor: int) -> str:
    amount = text_of(minor, statement.currency)
    return spreadsheets.line(("", "", "", kind, "", "", "", "", amount, statement.currency))


def _cell(minor: int, statement: Statement) -> str:
    return text_of(minor, statement.currency) if minor else ""


def _moment(value: dt.datetime) -> str:
    return value.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
