"""Settlement: what vendors earned becomes available when its hold is over.

One run settles all that was due before one moment, vendor by vendor: a vendor's commissions become PAID and
one entry per currency moves their sum from pending, first against what the vendor owes, the rest to
available. The marks and the entry are one transaction, and the run's name is in the entry's natural key: a
run that was killed goes on exactly where it stopped, and no vendor is settled twice in it. Sums are the
ledger's own: what a sale's entry left pending, less what refunds have taken back of it.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import simplejson
import structlog
from django.conf import settings
from django.db import IntegrityError, OperationalError, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from finance import debts, ledger, transactions, vendor_money
from finance.models import SettlementRun
from finance.settlement_postings import settlement_posting
from mestore.lib import errors, ids, sql
from mestore.lib.actor import Actor
from monitoring import audit, events

#: Keys (vendor and currency) that are read at once, and how many of them and of their commissions are settled
#: in one transaction. One vendor is never split: a run gives each one entry per currency.
PAGE: Final = 500
MOST_KEYS: Final = 100
MOST_COMMISSIONS: Final = 2_000

log = structlog.get_logger("mestore.finance")

Progress = Callable[[int, int], None]
"""`progress(vendors settled, commissions settled)`, after each transaction."""

# Whose hold is over: by the moment the sale counted, or by the delivery. PENDING ones only as far as they are
# approved by policy, and never with a rate or type chosen by hand: another person approves those (the
# snapshot is canonical JSON and names who chose it). Disputed, cancelled and paid ones never. Nor what is a
# buyer's: all of an order that was cancelled for its money, and sales of others of which more is due than
# refunds that failed hold. (What a refund holds, under way or failed, is apart already: the rest is settled.)
_DUE: Final = """
c.entry_id IS NOT NULL AND c.calculated_at < %(before)s
AND (c.status = 'APPROVED' OR (c.status = 'PENDING' AND c.commission_amount_minor <= coalesce(
        (%(review_above)s::jsonb ->> c.currency)::bigint, -1)
     AND (c.rule_snapshot = '' OR strpos(c.rule_snapshot, '"by_hand":""') > 0)))
AND (%(hold_from)s = 'confirmed' OR EXISTS (
        SELECT FROM finance_order o WHERE o.id = c.order_id AND o.delivered_at < %(before)s))
AND NOT EXISTS (
    SELECT FROM finance_order o WHERE o.id = c.order_id AND o.refund_due_minor > 0
      AND (o.status = 'cancelled' OR o.refund_due_minor > (
          SELECT coalesce(sum(r.amount_minor), 0) FROM finance_refund r
          WHERE r.order_id = o.id AND r.status = 'failed'
            AND EXISTS (SELECT FROM finance_refundpart p WHERE p.refund_id = r.id AND NOT EXISTS (
                SELECT FROM ledger_entry u WHERE u.book_id = p.vendor_id
                  AND u.source_event = 'refund/' || r.id || '/failed')))))
"""
_KEYS: Final = (
    """
SELECT c.vendor_id, c.currency, count(*) FROM finance_commission c
WHERE c.status IN ('PENDING', 'APPROVED') AND (c.vendor_id, c.currency) > (%(vendor)s, %(currency)s)
  AND """
    + _DUE
    + """
  AND NOT EXISTS (SELECT FROM ledger_entry e WHERE e.book_id = c.vendor_id
                  AND e.source_event = 'settlement/' || %(run)s || '/' || c.currency)
GROUP BY c.vendor_id, c.currency ORDER BY c.vendor_id, c.currency LIMIT %(page)s
"""
)
# In one order for everybody, before anything is changed; what a dispute or a refund holds is waited for.
_LOCK: Final = (
    """
SELECT count(*) FROM (
    SELECT c.id FROM finance_commission c
    JOIN unnest(%(vendors)s::uuid[], %(currencies)s::text[]) AS k (vendor, currency)
      ON c.vendor_id = k.vendor AND c.currency = k.currency
    WHERE c.status IN ('PENDING', 'APPROVED') AND """  # noqa: S608 - constants of this file
    + _DUE
    + " ORDER BY c.id FOR UPDATE OF c) AS locked"
)
_APPROVE: Final = (
    """
UPDATE finance_commission c SET status = 'APPROVED', approved_at = %(now)s, updated_at = %(now)s
FROM unnest(%(vendors)s::uuid[], %(currencies)s::text[]) AS k (vendor, currency)
WHERE c.vendor_id = k.vendor AND c.currency = k.currency AND c.status = 'PENDING' AND """
    + _DUE
)
_PAY: Final = (
    """
UPDATE finance_commission c
SET status = 'PAID', paid_at = %(now)s, settled_entry_id = k.entry, updated_at = %(now)s
FROM unnest(%(vendors)s::uuid[], %(currencies)s::text[], %(entries)s::uuid[]) AS k (vendor, currency, entry)
WHERE c.vendor_id = k.vendor AND c.currency = k.currency AND c.status = 'APPROVED' AND """
    + _DUE
)
# A statement of its own: its snapshot sees what the refunds posted for whose locks the marks had to wait.
_SUMS: Final = """
WITH paid AS MATERIALIZED (
    SELECT c.vendor_id AS book, c.entry_id AS sale, c.settled_entry_id AS settled
    FROM finance_commission c WHERE c.settled_entry_id = ANY(%(entries)s)),
family AS (
    SELECT settled, book, sale AS entry FROM paid
    UNION ALL
    SELECT p.settled, p.book, r.entry_id FROM paid p
    JOIN ledger_reversal r ON r.book_id = p.book AND r.of_entry = p.sale
    UNION ALL
    SELECT p.settled, p.book, b.entry_id FROM paid p
    JOIN ledger_reversal r ON r.book_id = p.book AND r.of_entry = p.sale
    JOIN ledger_reversal b ON b.book_id = r.book_id AND b.of_entry = r.entry_id),
moved AS (
    SELECT f.settled, sum(CASE WHEN c.kind = 'vendor_pending' THEN t.amount ELSE 0 END
                          - CASE WHEN d.kind = 'vendor_pending' THEN t.amount ELSE 0 END) AS amount
    FROM family f
    JOIN ledger_transfer t ON t.book_id = f.book AND t.entry_id = f.entry
    JOIN ledger_account d ON d.book_id = t.book_id AND d.id = t.debit
    JOIN ledger_account c ON c.book_id = t.book_id AND c.id = t.credit
    WHERE 'vendor_pending' IN (d.kind, c.kind)
    GROUP BY f.settled)
SELECT n.settled, n.many, coalesce(m.amount, 0) FROM (SELECT settled, count(*) AS many FROM paid GROUP BY 1) n
LEFT JOIN moved m USING (settled)
"""
_OWED: Final = """
SELECT a.book_id, a.currency,
       (SELECT coalesce(sum(t.amount), 0) FROM ledger_transfer t
        WHERE t.book_id = a.book_id AND t.debit = a.id AND t.phase IN ('single', 'post'))
       - (SELECT coalesce(sum(t.amount), 0) FROM ledger_transfer t
          WHERE t.book_id = a.book_id AND t.credit = a.id AND t.phase IN ('single', 'post'))
FROM ledger_account a WHERE a.book_id = ANY(%s) AND a.kind = 'vendor_receivable'
"""
_NOTHING_SETTLED: Final = (
    "UPDATE finance_commission SET settled_entry_id = NULL WHERE settled_entry_id = ANY(%s)"
)
_COUNT: Final = """
UPDATE finance_settlementrun r SET vendors = r.vendors + %(vendors)s,
    commissions = r.commissions + %(commissions)s,
    totals = r.totals || (
        SELECT coalesce(jsonb_object_agg(n.key, n.value::numeric
                                                + coalesce((r.totals ->> n.key)::numeric, 0)), '{}')
        FROM jsonb_each_text(%(totals)s::jsonb) n)
WHERE r.id = %(run)s
"""
_FORECAST: Final = (
    """
SELECT c.currency, count(DISTINCT c.vendor_id), count(*), sum(c.vendor_amount_minor - c.fee_tax_minor
                                                              - c.withheld_minor)
FROM finance_commission c WHERE c.status IN ('PENDING', 'APPROVED') AND """
    + _DUE
    + " GROUP BY c.currency ORDER BY c.currency"
)


class RunUnderWay(errors.Conflict):
    """A run that began earlier has another moment; it must end before."""

    code = "SETTLEMENT_UNDER_WAY"
    message = _("A settlement with another date is under way. Let it end first: run it without a date.")


class DueInFuture(errors.Unprocessable):
    message = _("Only what is due by now can be settled.")


@dataclass(slots=True)
class Result:
    """What one run settled in this process. `totals` are minor units by currency; `skipped` vendors wait."""

    run: UUID | None
    due_before: dt.datetime
    resumed: bool = False
    vendors: int = 0
    commissions: int = 0
    totals: dict[str, int] = field(default_factory=dict)
    skipped: list[UUID] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would look at in one currency: its amount is before refunds, in minor units."""

    currency: str
    vendors: int
    commissions: int
    minor: int


@dataclass(frozen=True, slots=True)
class _Key:
    vendor: UUID
    currency: str
    commissions: int


def settle(
    *, due_before: dt.datetime | None = None, by: Actor, progress: Progress | None = None
) -> list[Result]:
    """Settle what is due, and first what a run that was killed has left; return one result per run.

    `due_before` is the end of the hold: commissions that counted earlier are due (default: now less
    `settings.SETTLEMENT_HOLD_DAYS`). A vendor that cannot be settled is skipped, named and due again. At the
    end what vendors both have available and owe is taken off both (`debts`). Raises `DueInFuture` and
    `RunUnderWay`.
    """
    latest = hold_over(timezone.now())
    if due_before is not None and due_before > latest:
        raise DueInFuture
    results = []
    left = SettlementRun.objects.filter(finished_at=None).first()
    if left is not None:
        if due_before is not None and left.due_before != due_before:
            raise RunUnderWay
        results.append(_work(left, resumed=True, by=by, progress=progress))
    if left is None or due_before is None:
        run = _begun(due_before or latest, by)
        results.append(_work(run, resumed=False, by=by, progress=progress))
    debts.net_all(by=by)
    return results


def hold_over(now: dt.datetime) -> dt.datetime:
    """Return the moment before which a sale must have counted (or been delivered) to be due at `now`."""
    return now - dt.timedelta(days=settings.SETTLEMENT_HOLD_DAYS)


def forecast(*, due_before: dt.datetime | None = None) -> list[Forecast]:
    """Return what a run would settle, by currency, and change nothing. Raises `DueInFuture`."""
    latest = hold_over(timezone.now())
    if due_before is not None and due_before > latest:
        raise DueInFuture
    rows = sql.fetch_all(_FORECAST, _policy(due_before or latest))
    return [Forecast(code, vendors, many, int(minor)) for code, vendors, many, minor in rows]


def _begun(due_before: dt.datetime, by: Actor) -> SettlementRun:
    """Begin a run, or join the one that another process began at the same moment."""
    run = SettlementRun(id=ids.uuid7(), due_before=due_before)
    try:
        with transaction.atomic():
            run.save(force_insert=True)
            audit.record(
                events.SETTLEMENT_STARTED, by=by, target=("settlement", str(run.pk)),
                data={"due_before": due_before.isoformat(), "hold_from": settings.SETTLEMENT_HOLD_FROM},
            )  # fmt: skip
    except IntegrityError as error:
        if transactions.constraint_of(error) != "settlement_run_one_at_a_time":
            raise
        # It may have ended meanwhile: then there is nothing left to do in it, and that is what it will say.
        return SettlementRun.objects.order_by("-started_at", "-id")[0]
    return run


def _work(run: SettlementRun, *, resumed: bool, by: Actor, progress: Progress | None) -> Result:
    started = time.monotonic()
    result = Result(run.pk, run.due_before, resumed)
    for chunk in _chunks(run):
        _settle_or_split(run, chunk, result, by)
        if progress is not None:
            progress(result.vendors, result.commissions)
    result.seconds = time.monotonic() - started
    _finish(run, result, by)
    return result


def _chunks(run: SettlementRun) -> Iterator[list[_Key]]:
    """Yield what is due as lists of keys that fit into one transaction each; memory holds one page."""
    vendor, currency = UUID(int=0), ""
    while True:
        values = {"vendor": vendor, "currency": currency, "run": str(run.pk), "page": PAGE}
        page = [_Key(*row) for row in sql.fetch_all(_KEYS, _policy(run.due_before) | values)]
        chunk: list[_Key] = []
        for key in page:
            if chunk and (
                len(chunk) == MOST_KEYS
                or sum(one.commissions for one in chunk) + key.commissions > MOST_COMMISSIONS
            ):
                yield chunk
                chunk = []
            chunk.append(key)
        if chunk:
            yield chunk
        if len(page) < PAGE:
            return
        vendor, currency = page[-1].vendor, page[-1].currency


def _settle_or_split(run: SettlementRun, chunk: list[_Key], result: Result, by: Actor) -> None:
    """Settle a chunk in one transaction; where that is refused, each vendor alone, and skip who still is."""
    try:
        vendors, commissions, totals = transactions.run(lambda: _settle(run, chunk, by))
    except (errors.MeStoreError, IntegrityError, OperationalError) as error:
        if len(chunk) > 1:
            for key in chunk:
                _settle_or_split(run, [key], result, by)
            return
        # AlreadyPosted: another process settled this vendor in this run; what came due since waits.
        if not isinstance(error, ledger.AlreadyPosted):
            result.skipped.append(chunk[0].vendor)
        log.warning("vendor_not_settled", vendor=str(chunk[0].vendor), error=type(error).__name__)
        return
    result.vendors += vendors
    result.commissions += commissions
    for currency, minor in totals.items():
        result.totals[currency] = result.totals.get(currency, 0) + minor


def _settle(run: SettlementRun, chunk: list[_Key], by: Actor) -> tuple[int, int, dict[str, int]]:
    """Mark, sum up and post for the vendors of a chunk; return vendors, commissions and minor units."""
    now = timezone.now()
    entries = {ids.uuid7(): key for key in chunk}
    values = _policy(run.due_before) | {
        "vendors": [key.vendor for key in chunk], "currencies": [key.currency for key in chunk],
        "entries": list(entries), "now": now,
    }  # fmt: skip
    sql.fetch_one(_LOCK, values)
    sql.execute(_APPROVE, values)
    sql.execute(_PAY, values)
    sums = {entry: (many, int(minor)) for entry, many, minor in sql.fetch_all(_SUMS, values)}
    if negative := [entries[entry].vendor for entry, (_many, minor) in sums.items() if minor < 0]:
        raise PendingBelowZero(extra={"vendors": [str(vendor) for vendor in negative]})
    if nothing := [entry for entry, (_many, minor) in sums.items() if minor == 0]:
        sql.execute(_NOTHING_SETTLED, [nothing])
    moved = {entry: minor for entry, (_many, minor) in sums.items() if minor}
    _post(run, {entry: (entries[entry], minor) for entry, minor in moved.items()}, now, by)
    totals: dict[str, int] = {}
    for entry, minor in moved.items():
        totals[entries[entry].currency] = totals.get(entries[entry].currency, 0) + minor
    commissions = sum(many for many, _minor in sums.values())
    _count(run, len(sums), commissions, totals)
    return len(sums), commissions, totals


def _post(run: SettlementRun, moved: dict[UUID, tuple[_Key, int]], now: dt.datetime, by: Actor) -> None:
    """Post what moves, one entry per vendor and currency, each less what the vendor owes."""
    books = sorted({key.vendor for key, _minor in moved.values()})
    if not books:
        return
    vendor_money.hold(books)
    owed = {(book, code): int(minor) for book, code, minor in sql.fetch_all(_OWED, [books])}
    postings = [
        settlement_posting(
            book=key.vendor, currency=key.currency, amount=minor,
            owed=max(owed.get((key.vendor, key.currency), 0), 0),
            run=run.pk, entry_id=entry, occurred_at=now,
        )
        for entry, (key, minor) in moved.items()
    ]  # fmt: skip
    ledger.post_many(postings, by=by)


class PendingBelowZero(errors.Conflict):
    """More was taken back of a vendor's sales than they left pending: somebody has to look."""

    code = "PENDING_BELOW_ZERO"
    message = _("More was taken back of this vendor's sales than they had pending.")


def _count(run: SettlementRun, vendors: int, commissions: int, totals: dict[str, int]) -> None:
    sql.execute(
        _COUNT,
        {"run": run.pk, "vendors": vendors, "commissions": commissions, "totals": simplejson.dumps(totals)},
    )


def _finish(run: SettlementRun, result: Result, by: Actor) -> None:
    with transaction.atomic():
        ended = SettlementRun.objects.filter(pk=run.pk, finished_at=None).update(finished_at=timezone.now())
        if ended:
            told = SettlementRun.objects.get(pk=run.pk)
            audit.record(
                events.SETTLEMENT_FINISHED, by=by, target=("settlement", str(run.pk)),
                data={
                    "vendors": told.vendors, "commissions": told.commissions, "skipped": len(result.skipped),
                    "totals": {name: str(minor) for name, minor in told.totals.items()},
                },
            )  # fmt: skip


def _policy(due_before: dt.datetime) -> dict[str, Any]:
    review_above = settings.COMMISSION_REVIEW_ABOVE if settings.COMMISSION_AUTO_APPROVE else {}
    return {
        "before": due_before, "hold_from": settings.SETTLEMENT_HOLD_FROM,
        "review_above": simplejson.dumps(review_above),
    }  # fmt: skip
