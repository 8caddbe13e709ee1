"""What happened to a vendor's money, entry by entry: the old contract's transactions, read from the ledger.

A transaction is an entry of the vendor's book, so it is complete (it was posted whole or not at all) and its
id is the entry's. Newest first, by keyset: identifiers are time-ordered.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.roles import STAFF
from finance.models import Commission, LedgerEntry
from mestore.lib import errors, sql

#: Kinds of entries by the old contract's types; a kind that is not listed is no transaction of the contract.
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "VENTA": ("sale",),
    "COMISION": ("settlement",),
    "DEVOLUCION": ("refund",),
    "AJUSTE": ("adjustment",),
}
TYPE_OF: Final = {kind: name for name, kinds in KINDS.items() for kind in kinds}
COUNTED: Final = 10_000
_ORDER: Final = re.compile(r"order/([0-9]{1,18})/")

# Each kind by an index of its own, and the newest of what they give: a rare kind is not looked for among
# everything else. The index leaves sales out, because nearly every entry is one: they are found by time, and
# the literals let the planner see which branch is which. What a vendor owns or owes is what moved on the
# vendor's own accounts.
_PAGE = """
SELECT e.id, e.book_id, e.kind, e.source_event, e.occurred_at, e.recorded_at, e.control_total, m.currency,
       m.own, m.fee
FROM (
    SELECT * FROM (
        (SELECT id, book_id, kind, source_event, occurred_at, recorded_at, control_total FROM ledger_entry
         WHERE %(sales)s AND kind = 'sale' AND (%(book)s::uuid IS NULL OR book_id = %(book)s)
           AND (%(before)s::uuid IS NULL OR id < %(before)s)
           AND (%(since)s::timestamptz IS NULL OR occurred_at >= %(since)s)
           AND (%(until)s::timestamptz IS NULL OR occurred_at < %(until)s)
         ORDER BY id DESC LIMIT %(upto)s)
        UNION ALL
        SELECT n.* FROM unnest(%(rare)s::text[]) AS k (wanted)
        CROSS JOIN LATERAL (
            SELECT id, book_id, kind, source_event, occurred_at, recorded_at, control_total FROM ledger_entry
            WHERE kind = k.wanted AND kind <> 'sale' AND (%(book)s::uuid IS NULL OR book_id = %(book)s)
              AND (%(before)s::uuid IS NULL OR id < %(before)s)
              AND (%(since)s::timestamptz IS NULL OR occurred_at >= %(since)s)
              AND (%(until)s::timestamptz IS NULL OR occurred_at < %(until)s)
            ORDER BY id DESC LIMIT %(upto)s) n) each_kind
    ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s) e
CROSS JOIN LATERAL (
    SELECT min(t.currency) AS currency,
           coalesce(sum(CASE WHEN c.kind LIKE 'vendor%%' THEN t.amount ELSE 0 END
                        - CASE WHEN d.kind LIKE 'vendor%%' THEN t.amount ELSE 0 END), 0) AS own,
           coalesce(sum(CASE WHEN c.kind = 'platform_fee' THEN t.amount WHEN d.kind = 'platform_fee'
                             THEN -t.amount ELSE 0 END), 0) AS fee
    FROM ledger_transfer t
    JOIN ledger_account d ON d.book_id = t.book_id AND d.id = t.debit
    JOIN ledger_account c ON c.book_id = t.book_id AND c.id = t.credit
    WHERE t.book_id = e.book_id AND t.entry_id = e.id) m
ORDER BY e.id DESC
"""
_COUNTS = """
SELECT kind, count(*) FROM (
    (SELECT kind FROM ledger_entry
     WHERE %(sales)s AND kind = 'sale' AND (%(book)s::uuid IS NULL OR book_id = %(book)s)
       AND (%(since)s::timestamptz IS NULL OR occurred_at >= %(since)s)
       AND (%(until)s::timestamptz IS NULL OR occurred_at < %(until)s)
     ORDER BY id DESC LIMIT %(counted)s)
    UNION ALL
    SELECT n.kind FROM unnest(%(rare)s::text[]) AS k (wanted)
    CROSS JOIN LATERAL (
        SELECT kind FROM ledger_entry
        WHERE kind = k.wanted AND kind <> 'sale' AND (%(book)s::uuid IS NULL OR book_id = %(book)s)
          AND (%(since)s::timestamptz IS NULL OR occurred_at >= %(since)s)
          AND (%(until)s::timestamptz IS NULL OR occurred_at < %(until)s)
        ORDER BY id DESC LIMIT %(counted)s) n) AS newest GROUP BY kind
"""


class TransactionNotFound(errors.NotFound):
    message = _("Transaction not found")


class VendorNeeded(errors.Unprocessable):
    """Over all vendors a period would be searched entry by entry."""

    message = _("Narrowed by time, the transactions of one vendor can be listed.")


class NotOwnTransactions(errors.Forbidden):
    message = _("Permission denied - can only access own commissions")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which transactions."""

    types: tuple[str, ...] = ()
    vendor_id: UUID | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    limit: int = 50
    offset: int = 0
    before: UUID | None = None


@dataclass(frozen=True, slots=True)
class Transaction:
    """One entry of a vendor's book, in minor units; `own` is what the vendor gained or lost by it."""

    id: UUID
    vendor_id: UUID
    kind: str
    source: str
    occurred_at: dt.datetime
    recorded_at: dt.datetime
    amount: int
    currency: str
    own: int
    fee: int

    @property
    def type(self) -> str:
        """The word of the contract."""
        return TYPE_OF[self.kind]

    @property
    def order_id(self) -> int | None:
        """The order that it is about, where it is about one."""
        found = _ORDER.match(self.source)
        return int(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `counts` are by type, each exact up to `COUNTED`, and so is `total`."""

    rows: Sequence[Transaction]
    counts: Mapping[str, int]
    next: UUID | None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def is_estimate(self) -> bool:
        return self.total > COUNTED


def page(wanted: Wanted, *, reader: User) -> Page:
    """Return one page of what `reader` may see: a vendor's own, all for the staff. Two statements.

    Raises NotOwnTransactions for another vendor's, VendorNeeded for a period over all vendors.
    """
    parameters = _parameters(wanted, reader)
    rows = [Transaction(*row) for row in sql.fetch_all(_PAGE, parameters)]
    counted: dict[str, int] = dict(sql.fetch_all(_COUNTS, parameters))
    shown = rows[: wanted.limit]
    counts = {TYPE_OF[kind]: int(count) for kind, count in counted.items()}
    return Page(shown, counts, shown[-1].id if len(rows) > wanted.limit else None)


def commission_of(transaction_id: UUID, *, reader: User) -> Commission:
    """Return the commission of the sale that a transaction is, or raise TransactionNotFound."""
    entries = LedgerEntry.objects.filter(pk=transaction_id, kind="sale")
    if reader.user_type not in STAFF:
        entries = entries.filter(book_id=reader.pk)
    entry = entries.only("book_id", "source_event").first()
    found = _ORDER.match(entry.source_event) if entry else None
    if entry is None or found is None:
        raise TransactionNotFound
    commission = Commission.objects.filter(order_id=int(found[1]), vendor_id=entry.book_id).first()
    if commission is None:
        raise TransactionNotFound
    return commission


def _parameters(wanted: Wanted, reader: User) -> dict[str, Any]:
    book = wanted.vendor_id
    if reader.user_type not in STAFF:
        if book not in {None, reader.pk}:
            raise NotOwnTransactions
        book = reader.pk
    if book is None and (wanted.since or wanted.until):
        raise VendorNeeded(details=[errors.FieldError("query -> vendor_id", VendorNeeded.message, "missing")])
    kinds = [kind for name in wanted.types or tuple(KINDS) for kind in KINDS[name]]
    return {
        "book": book, "sales": "sale" in kinds, "rare": [kind for kind in kinds if kind != "sale"],
        "before": wanted.before, "since": wanted.since, "until": wanted.until, "limit": wanted.limit + 1,
        "offset": wanted.offset, "upto": wanted.limit + 1 + wanted.offset, "counted": COUNTED + 1,
    }  # fmt: skip
