"""The ledger: post entries, derive balances, check that all of it adds up.

Rows are written by the SQL function `ledger_post` alone (first migration): the runtime role may read the
tables and call the function, nothing else. No balance is stored, so no sale waits for another one. Each entry
carries a MAC under a key that the database does not have, and is a leaf of the audit trail under its own id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import simplejson
from django.db import IntegrityError
from django.utils.translation import gettext_lazy as _

from finance.ledger_balances import Available, Balance, available, balances, balances_as_of, owed
from finance.postings import PSP_CLEARING, SINGLE, Posting, Transfer
from mestore.lib import crypto, errors, sql
from mestore.lib.actor import Actor

__all__ = [
    "AlreadyPosted",
    "Available",
    "Balance",
    "Check",
    "InsufficientFunds",
    "OverReversed",
    "PeriodClosed",
    "Posting",
    "ReservationEnded",
    "Transfer",
    "available",
    "balances",
    "balances_as_of",
    "check",
    "currency_sums",
    "owed",
    "post_many",
    "poster",
    "refusals_named",
    "rows",
    "signatures",
]

MAC_PURPOSE: Final = "ledger-entry"
_SHOWN_PROBLEMS: Final = 100

_POST = """
SELECT count(public.ledger_post(e.book, e.entry, e.kind, e.occurred_at, e.source, e.transfers,
                                decode(e.mac, 'hex'), %s::jsonb, e.reverses, e.whole, NULL))
FROM jsonb_to_recordset(%s::jsonb) AS e (
    book uuid, entry uuid, kind text, occurred_at timestamptz, source text, transfers jsonb, mac text,
    reverses uuid, whole boolean)
"""

# One look at each transfer; an account that is missing or of another currency would leave its side out.
_CURRENCY_SUMS = """
SELECT t.currency, coalesce(sum(t.amount) FILTER (WHERE d.id IS NOT NULL), 0)
                   - coalesce(sum(t.amount) FILTER (WHERE c.id IS NOT NULL), 0)
FROM ledger_transfer t
LEFT JOIN ledger_account d ON d.book_id = t.book_id AND d.id = t.debit AND d.currency = t.currency
LEFT JOIN ledger_account c ON c.book_id = t.book_id AND c.id = t.credit AND c.currency = t.currency
GROUP BY t.currency ORDER BY t.currency
"""

# One look at the newest entries and their transfers: sums by kind of account, and entries that do not add up.
# LIMIT NULL is no limit.
_CHECK = """
WITH e AS MATERIALIZED (
    SELECT book_id, id, transfer_count, control_total FROM ledger_entry ORDER BY id DESC LIMIT %s),
t AS MATERIALIZED (
    SELECT t.book_id, t.entry_id, t.id, t.debit, t.credit, t.amount, t.phase FROM ledger_transfer t
    JOIN e ON e.book_id = t.book_id AND e.id = t.entry_id),
side AS (
    SELECT a.kind, a.currency, t.amount AS debit, 0 AS credit FROM t
    JOIN ledger_account a ON a.book_id = t.book_id AND a.id = t.debit WHERE t.phase IN ('single', 'post')
    UNION ALL
    SELECT a.kind, a.currency, 0, t.amount FROM t
    JOIN ledger_account a ON a.book_id = t.book_id AND a.id = t.credit WHERE t.phase IN ('single', 'post')),
sums AS (
    SELECT currency, kind, sum(debit) AS debit, sum(credit) AS credit FROM side GROUP BY currency, kind),
checked AS (
    SELECT e.book_id, e.id,
           count(t.id) <> e.transfer_count OR coalesce(sum(t.amount), 0) <> e.control_total AS broken
    FROM e LEFT JOIN t ON t.book_id = e.book_id AND t.entry_id = e.id
    GROUP BY e.book_id, e.id, e.transfer_count, e.control_total)
SELECT (SELECT coalesce(jsonb_agg(jsonb_build_array(currency, kind, debit::text, credit::text)
                                  ORDER BY currency, kind), '[]') FROM sums),
       count(*), (array_agg(id ORDER BY id) FILTER (WHERE broken))[1:%s] FROM checked
"""

_SIGNED = """
SELECT e.book_id, e.id, e.kind, e.occurred_at, e.source_event, e.mac, v.of_entry, e.reverses IS NOT NULL,
       array_agg(d.kind ORDER BY t.seq), array_agg(c.kind ORDER BY t.seq),
       array_agg(d.provider || c.provider ORDER BY t.seq), array_agg(t.currency ORDER BY t.seq),
       array_agg(t.amount ORDER BY t.seq), array_agg(t.phase ORDER BY t.seq),
       array_agg(r.entry_id ORDER BY t.seq)
FROM (SELECT * FROM ledger_entry ORDER BY id DESC LIMIT %s) e
JOIN ledger_transfer t ON t.book_id = e.book_id AND t.entry_id = e.id
JOIN ledger_account d ON d.book_id = t.book_id AND d.id = t.debit
JOIN ledger_account c ON c.book_id = t.book_id AND c.id = t.credit
LEFT JOIN ledger_transfer r ON r.book_id = t.book_id AND r.id = t.pending_id
LEFT JOIN ledger_reversal v ON v.book_id = e.book_id AND v.entry_id = e.id
GROUP BY e.book_id, e.id, e.kind, e.occurred_at, e.source_event, e.mac, v.of_entry, e.reverses
"""

_SIGNED_PAGE = """
SELECT e.book_id, e.id, e.kind, e.occurred_at, e.source_event, e.mac, v.of_entry, e.reverses IS NOT NULL,
       t.debits, t.credits, t.providers, t.currencies, t.amounts, t.phases, t.reservations
FROM (SELECT * FROM ledger_entry
      WHERE (book_id, id) > (%(book)s, %(entry)s) AND (%(only)s::uuid IS NULL OR book_id = %(only)s::uuid)
      ORDER BY book_id, id LIMIT %(limit)s) e
LEFT JOIN ledger_reversal v ON v.book_id = e.book_id AND v.entry_id = e.id
CROSS JOIN LATERAL (
    SELECT array_agg(d.kind ORDER BY t.seq) AS debits, array_agg(c.kind ORDER BY t.seq) AS credits,
           array_agg(d.provider || c.provider ORDER BY t.seq) AS providers,
           array_agg(t.currency ORDER BY t.seq) AS currencies, array_agg(t.amount ORDER BY t.seq) AS amounts,
           array_agg(t.phase ORDER BY t.seq) AS phases, array_agg(r.entry_id ORDER BY t.seq) AS reservations
    FROM ledger_transfer t
    JOIN ledger_account d ON d.book_id = t.book_id AND d.id = t.debit
    JOIN ledger_account c ON c.book_id = t.book_id AND c.id = t.credit
    LEFT JOIN ledger_transfer r ON r.book_id = t.book_id AND r.id = t.pending_id
    WHERE t.book_id = e.book_id AND t.entry_id = e.id) t
ORDER BY e.book_id, e.id
"""


class AlreadyPosted(errors.Conflict):
    """The same event is in the vendor's book already; the whole transaction must be given up."""

    code = "ALREADY_POSTED"
    message = _("This event is already in the ledger.")


class InsufficientFunds(errors.Conflict):
    """The account that money would leave does not hold it, or holds it reserved for something else."""

    code = "INSUFFICIENT_FUNDS"
    message = _("The available balance does not cover this amount.")


class PeriodClosed(errors.Conflict):
    """The books of that time are closed: what is found now is posted with a moment of now."""

    code = "PERIOD_CLOSED"
    message = _("The accounting period is closed.")


class OverReversed(errors.Conflict):
    """More would be taken back than the entry moved, or it was taken back wholly before."""

    code = "OVER_REVERSED"
    message = _("More would be taken back than was posted.")


class ReservationEnded(errors.Conflict):
    """The reservation was posted or given up before, or never was one of these accounts."""

    code = "RESERVATION_ENDED"
    message = _("This reservation has ended.")


_REFUSALS: Final[dict[str | None, type[errors.Conflict]]] = {
    "ledger_entry_source_event_once": AlreadyPosted,
    "ledger_guarded_balance_covered": InsufficientFunds,
    "ledger_entry_period_open": PeriodClosed,
    "ledger_reversal_within_original": OverReversed,
    "ledger_entry_reversed_once": OverReversed,
    "ledger_transfer_resolved_once": ReservationEnded,
    "ledger_transfer_resolves_its_own": ReservationEnded,
    "ledger_transfer_phase_resolves": ReservationEnded,
}


@dataclass(frozen=True, slots=True)
class Check:
    """What a look over the ledger found. `sums` holds one row per currency and kind of account."""

    entries: int
    sums: tuple[Balance, ...]
    broken: tuple[UUID, ...]
    forged: tuple[UUID, ...]

    @property
    def currencies(self) -> dict[str, int]:
        """Debits less credits over all accounts, per currency: zero, or the ledger is wrong."""
        totals: dict[str, int] = {}
        for row in self.sums:
            totals[row.currency] = totals.get(row.currency, 0) + row.debit - row.credit
        return totals

    @property
    def is_balanced(self) -> bool:
        """Whether nothing at all was found."""
        return not self.broken and not self.forged and not any(self.currencies.values())


@dataclass(frozen=True, slots=True)
class Signatures:
    """A page of entries whose MACs were checked. `last` is where the next page begins, None at the end."""

    entries: int
    last: tuple[UUID, UUID] | None
    forged: tuple[UUID, ...]


def post_many(postings: Sequence[Posting], *, by: Actor) -> None:
    """Post all of them with one statement, in the transaction of what they tell about.

    Missing accounts are opened. Raises `AlreadyPosted` when one of the events is in its book already,
    `InsufficientFunds`, `PeriodClosed`, `OverReversed`, `ReservationEnded`, and `django.db.IntegrityError`
    for anything else that the database refuses. Either way nothing is posted, and the transaction, or the
    savepoint around this call, must be given up.
    """
    if not postings:
        return
    with refusals_named():
        sql.fetch_one(_POST, [simplejson.dumps(poster(by)), simplejson.dumps(rows(postings))], prepare=True)


def rows(postings: Sequence[Posting]) -> list[dict[str, Any]]:
    """Return postings as `ledger_post` takes them, signed, for a statement that has the words of `_POST`."""
    # One order for everybody: two transactions that open the same accounts cannot wait for each other.
    ordered = sorted(postings, key=lambda posting: (posting.book.bytes, posting.source))
    return [_row(posting) for posting in ordered]


def poster(by: Actor) -> dict[str, Any]:
    """Return who posts, as `ledger_post` takes it."""
    return {"kind": by.kind, "id": by.id or by.label or None, "role": by.role or None,
            "session": by.session_id, "request": by.request_id}  # fmt: skip


@contextmanager
def refusals_named() -> Iterator[None]:
    """Around a statement that posts: raise what `post_many` raises where the database refuses."""
    try:
        yield
    except IntegrityError as error:
        diagnosis = getattr(error.__cause__, "diag", None)
        if refusal := _REFUSALS.get(getattr(diagnosis, "constraint_name", None)):
            raise refusal from error
        raise


def currency_sums() -> dict[str, int]:
    """Return debits less credits of the whole ledger per currency: zero each, or the ledger is wrong."""
    return {currency: int(minor) for currency, minor in sql.fetch_all(_CURRENCY_SUMS)}


def check(*, newest: int | None = None, signatures: bool = False) -> Check:
    """Look over the ledger, or over its `newest` entries only: sums, control totals and, if asked, MACs.

    Without `newest` it reads every row: for imports and verification, not for a page.
    """
    told, entries, broken = sql.fetch_one(_CHECK, [newest, _SHOWN_PROBLEMS]) or ("[]", 0, None)
    sums = tuple(
        Balance(kind, "", currency, int(debit), int(credit))
        for currency, kind, debit, credit in simplejson.loads(told)
    )
    forged = tuple(_forged(sql.fetch_all(_SIGNED, [newest]))) if signatures else ()
    return Check(entries, sums, tuple(broken or ()), forged[:_SHOWN_PROBLEMS])


def signatures(*, after: tuple[UUID, UUID], book: UUID | None, limit: int) -> Signatures:
    """Check the MACs of the next `limit` entries by book and id, of one book or of all."""
    values = {"book": after[0], "entry": after[1], "only": book, "limit": limit}
    rows = sql.fetch_all(_SIGNED_PAGE, values)
    # An entry without any transfer has no columns to sign.
    forged = _forged((*row[:8], *([] if one is None else one for one in row[8:])) for row in rows)
    return Signatures(len(rows), (rows[-1][0], rows[-1][1]) if rows else None, tuple(forged))


def _row(posting: Posting) -> dict[str, Any]:
    at = _moment(posting.occurred_at)
    return {
        "book": str(posting.book),
        "entry": str(posting.entry_id),
        "kind": posting.kind,
        "occurred_at": at,
        "source": posting.source,
        "transfers": [_columns(transfer) for transfer in posting.transfers],
        "mac": crypto.mac(_signed_bytes(posting, at), purpose=MAC_PURPOSE).hex(),
        "reverses": None if posting.reverses is None else str(posting.reverses),
        "whole": posting.whole,
    }


def _columns(transfer: Transfer) -> list[Any]:
    """The transfer as `ledger_post` takes it: phase and reservation only where there are any."""
    columns: list[Any] = list(transfer[:5])
    if transfer.phase != SINGLE:
        columns += [transfer.phase, None if transfer.reserved_by is None else str(transfer.reserved_by)]
    return columns


def _signed_bytes(posting: Posting, at: str) -> bytes:
    """The entry as unambiguous bytes: book, id, kind, moment, source, transfers, what it reverses."""
    parts: list[str | bytes | UUID | int] = [
        posting.book, posting.entry_id, posting.kind, at, posting.source,
    ]  # fmt: skip
    for debit, credit, provider, currency, amount, phase, reserved_by in posting.transfers:
        parts += (debit, credit, provider if PSP_CLEARING in {debit, credit} else "", currency, amount)
        if phase != SINGLE:
            parts += ("phase", phase, "" if reserved_by is None else reserved_by)
    if posting.reverses is not None:
        parts += ("reverses", posting.reverses, int(posting.whole))
    return crypto.row_binding(*parts)


def _moment(value: datetime) -> str:
    """Microseconds in UTC, as the database keeps them. Raises ValueError for a moment without a time zone."""
    if value.utcoffset() is None:
        raise ValueError("a posting needs a moment with a time zone")
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _forged(rows: Iterable[tuple[Any, ...]]) -> Iterable[UUID]:
    """Yield the ids of entries whose MAC is not that of their rows."""
    for book, entry_id, kind, occurred_at, source, mac, reverses, whole, *columns in rows:
        transfers = [Transfer(*values) for values in zip(*columns, strict=True)]
        posting = Posting(book, entry_id, kind, occurred_at, source, transfers, reverses, whole)
        if not crypto.verify_mac(_signed_bytes(posting, _moment(occurred_at)), mac, purpose=MAC_PURPOSE):
            yield entry_id
