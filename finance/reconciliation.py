"""Reconciliation: ledger, provider and bank say the same, or somebody is told where they do not.

A report is taken in whole or not at all, once, with COPY. Comparing it opens a case for each difference; a
case that a later comparison does not find any more ends by itself, the others wait for a person. Nothing is
posted here: what is wrong is put right by the use case that it belongs to (a refund, an adjustment).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, LiteralString
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from finance import reconciliation_sql as queries
from finance import transactions
from finance.models import ProviderReport, ReconciliationCase
from finance.reconciliation_files import Record, Rejected, digest_of, records
from finance.states import CaseKind, CaseState, ReportKind
from mestore.lib import errors, ids, sql
from mestore.lib.actor import Actor
from monitoring import alerts, audit, events

SHOWN_REJECTS: Final = 100
#: Reports of so many days are compared again each day, so that what comes late ends its case.
COMPARED_AGAIN: Final = dt.timedelta(days=10)
_ORDERS_AT_ONCE: Final = 10_000
FOUND: Final = alerts.declare(
    alerts.Rule(
        "finance.books_differ",
        _("Ledger, provider and bank differ"),
        alerts.Severity.MEDIUM,
        "ledger-provider-and-bank-differ",
    )
)

_COPY = """
COPY finance_providerrecord (report_id, line, kind, reference, currency, amount_minor, fee_minor, occurred_at)
FROM STDIN
"""
_OPEN = """
WITH told AS (
    INSERT INTO finance_reconciliationcase (
        id, kind, state, provider, reference, currency, ledger_minor, provider_minor, target_type, target_id,
        report_id, opened_at, updated_at)
    SELECT c.id, c.kind, 'open', %(provider)s, c.reference, c.currency, c.ledger, c.said, c.target_type,
           c.target_id, %(report)s, %(now)s, %(now)s
    FROM unnest(%(ids)s::uuid[], %(kinds)s::text[], %(references)s::text[], %(currencies)s::text[],
                %(ledger)s::bigint[], %(said)s::bigint[], %(target_types)s::text[], %(target_ids)s::text[])
         AS c (id, kind, reference, currency, ledger, said, target_type, target_id)
    -- A difference that a person explained is not found again, as long as it is the same.
    WHERE NOT EXISTS (
        SELECT FROM finance_reconciliationcase k
        WHERE k.provider = %(provider)s AND k.kind = c.kind AND k.reference = c.reference
          AND k.currency = c.currency AND k.state = 'explained'
          AND k.ledger_minor IS NOT DISTINCT FROM c.ledger AND k.provider_minor IS NOT DISTINCT FROM c.said)
    ON CONFLICT (provider, kind, reference, currency) WHERE state = 'open' DO UPDATE
        SET ledger_minor = EXCLUDED.ledger_minor, provider_minor = EXCLUDED.provider_minor,
            updated_at = EXCLUDED.updated_at
        WHERE (finance_reconciliationcase.ledger_minor, finance_reconciliationcase.provider_minor)
              IS DISTINCT FROM (EXCLUDED.ledger_minor, EXCLUDED.provider_minor)
    RETURNING xmax = 0 AS is_new)
SELECT count(*) FILTER (WHERE is_new) FROM told
"""
_VANISH = """
UPDATE finance_reconciliationcase k SET state = 'vanished', decided_at = %(now)s, updated_at = %(now)s
WHERE k.report_id = %(report)s AND k.state = 'open' AND NOT EXISTS (
    SELECT FROM unnest(%(kinds)s::text[], %(references)s::text[], %(currencies)s::text[])
         AS c (kind, reference, currency)
    WHERE c.kind = k.kind AND c.reference = k.reference AND c.currency = k.currency)
"""
_TOTALS = """
SELECT kind, currency, count(*), sum(amount_minor)::bigint, sum(fee_minor)::bigint FROM finance_providerrecord
WHERE report_id = %s GROUP BY 1, 2 ORDER BY 1, 2
"""


class ReportKnown(errors.Conflict):
    code = "REPORT_KNOWN"
    message = _("This file was taken in before.")


class ReportEmpty(errors.Unprocessable):
    message = _("No line of the file could be used.")


class CaseDecided(errors.Conflict):
    message = _("This case was decided before, or vanished.")


@dataclass(frozen=True, slots=True)
class Taken:
    """A report that was taken in, and the first lines that were left out."""

    report: ProviderReport
    rejected: Sequence[Rejected]


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found: differences now, how many of them are new, how many ended."""

    differences: int
    opened: int
    vanished: int


@dataclass(slots=True)
class _Found:
    """Differences as the columns that a statement takes."""

    kinds: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    currencies: list[str] = field(default_factory=list)
    ledger: list[int | None] = field(default_factory=list)
    said: list[int | None] = field(default_factory=list)
    target_types: list[str] = field(default_factory=list)
    target_ids: list[str] = field(default_factory=list)
    seen: set[tuple[str, str, str]] = field(default_factory=set)

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Take rows of one of the queries; one reference differs in one way at a time."""
        for row in rows:
            if (key := (row[0], row[1], row[2])) in self.seen:
                continue
            self.seen.add(key)
            for column, value in zip(self.columns().values(), row, strict=True):
                column.append(value)

    def columns(self) -> dict[str, list[Any]]:
        """By the names of the statement's parameters, in the order of the queries' columns."""
        return {
            "kinds": self.kinds, "references": self.references, "currencies": self.currencies,
            "ledger": self.ledger, "said": self.said, "target_types": self.target_types,
            "target_ids": self.target_ids,
        }  # fmt: skip


def take_in(
    path: Path, *, kind: ReportKind, provider: str, since: dt.datetime | None = None,
    until: dt.datetime | None = None, by: Actor,
) -> Taken:  # fmt: skip
    """Take a report in, in one transaction: whole or not at all, and each file once.

    `since` and `until` say which time it covers; without them nothing is asked for that it does not name.
    Raises UnusableReport, ReportEmpty, ReportKnown.
    """
    report = ProviderReport(
        kind=kind, provider=provider, file_name=path.name[:200], file_digest=digest_of(path), since=since,
        until=until, imported_by=by.id or by.label, imported_at=timezone.now(),
    )  # fmt: skip
    rejected: list[Rejected] = []
    try:
        with transaction.atomic():
            report.save(force_insert=True)
            counts = _copy(report, path, rejected)
            if not counts["records"]:
                raise ReportEmpty
            report.record_count, report.rejected_count = counts["records"], counts["rejected"]
            report.totals = _totals(report.pk)
            report.save(update_fields=["record_count", "rejected_count", "totals"])
            audit.record(
                events.REPORT_TAKEN_IN, by=by, target=("report", str(report.pk)),
                data={"provider": provider, "kind": str(kind), "digest": report.file_digest.hex(), **counts},
            )  # fmt: skip
    except IntegrityError as error:
        if transactions.constraint_of(error) == "report_known_once":
            raise ReportKnown from error
        raise
    return Taken(report, rejected)


def compare(report: ProviderReport, *, by: Actor) -> Compared:
    """Compare a report with the ledger and its counterpart; open cases, end those that are over."""
    found = _Found()
    parameters = {
        "report": report.pk, "provider": report.provider, "since": report.since, "until": report.until,
        "other": str(ReportKind.BANK if report.kind == ReportKind.PROVIDER else ReportKind.PROVIDER),
        "sweep_missing": str(
            CaseKind.MISSING_AT_BANK if report.kind == ReportKind.PROVIDER else CaseKind.MISSING_AT_PROVIDER
        ),
    }  # fmt: skip
    for query in _queries(report):
        found.add(sql.fetch_all(query, parameters))
    with transaction.atomic():
        result = _write(found, provider=report.provider, report_id=report.pk)
        ProviderReport.objects.filter(pk=report.pk).update(matched_at=timezone.now())
        _tell(result, report.provider, ("report", str(report.pk)), by)
    return result


def compare_recent(*, by: Actor) -> int:
    """Compare the reports of the last days again; return how many cases are new."""
    recent = ProviderReport.objects.filter(imported_at__gte=timezone.now() - COMPARED_AGAIN)
    return sum(compare(report, by=by).opened for report in recent.order_by("imported_at"))


def compare_orders(source: str, *, by: Actor) -> Compared:
    """Compare what was sold with what was paid, for the orders of one source: imported marketplaces.

    In pages of orders: memory grows with the differences only.
    """
    found = _Found()
    for after, until in _ranges():
        found.add(sql.fetch_all(queries.ORDERS, {"source": source, "after": after, "until": until}))
    with transaction.atomic():
        result = _write(found, provider=source, report_id=None)
        _tell(result, source, ("orders", source), by)
    return result


def explain(case: ReconciliationCase, *, reason: str, by: Actor) -> None:
    """Say why a difference is right as it is; it is not found again. Raises CaseDecided."""
    _decide(case, CaseState.EXPLAINED, reason=reason, by=by)


def correct(case: ReconciliationCase, *, reason: str, by: Actor) -> None:
    """Say that it was put right elsewhere; found again, it opens another case. Raises CaseDecided."""
    _decide(case, CaseState.CORRECTED, reason=reason, by=by)


def _decide(case: ReconciliationCase, state: CaseState, *, reason: str, by: Actor) -> None:
    now = timezone.now()
    with transaction.atomic():
        changed = ReconciliationCase.objects.filter(pk=case.pk, state=CaseState.OPEN).update(
            state=state, resolution=reason[:500], decided_by=by.id, decided_at=now, updated_at=now
        )
        if not changed:
            raise CaseDecided
        audit.record(
            events.CASE_DECIDED, by=by, target=("reconciliation_case", str(case.pk)),
            data={"kind": case.kind, "reference": case.reference, "state": str(state), "reason": reason},
        )  # fmt: skip


def _copy(report: ProviderReport, path: Path, rejected: list[Rejected]) -> dict[str, int]:
    counts = {"records": 0, "rejected": 0}
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for one in records(path, ReportKind(report.kind)):
            if isinstance(one, Rejected):
                counts["rejected"] += 1
                if len(rejected) < SHOWN_REJECTS:
                    rejected.append(one)
                continue
            counts["records"] += 1
            copy.write_row(_row(report.pk, one))
    return counts


def _row(report_id: UUID, one: Record) -> tuple[Any, ...]:
    return (
        report_id,
        one.line,
        str(one.kind),
        one.reference,
        one.currency,
        one.amount,
        one.fee,
        one.occurred_at,
    )


def _totals(report_id: UUID) -> list[dict[str, Any]]:
    return [
        {"kind": kind, "currency": currency, "count": count, "minor": int(minor), "fee_minor": int(fee)}
        for kind, currency, count, minor, fee in sql.fetch_all(_TOTALS, [report_id])
    ]


def _queries(report: ProviderReport) -> Iterator[LiteralString]:
    yield queries.TWICE
    yield queries.SWEEPS
    has_period = report.since is not None and report.until is not None
    if report.kind == ReportKind.PROVIDER:
        yield from (queries.PAYMENTS, queries.REFUNDS, queries.CHARGEBACKS)
        if has_period:
            yield queries.UNREPORTED
    else:
        yield queries.PAYOUTS
        if has_period:
            yield queries.UNPAID


def _ranges() -> Iterator[tuple[int, int]]:
    last = (sql.fetch_one("SELECT coalesce(max(id), 0) FROM finance_order") or (0,))[0]
    for after in range(0, int(last), _ORDERS_AT_ONCE):
        yield after, after + _ORDERS_AT_ONCE


def _write(found: _Found, *, provider: str, report_id: UUID | None) -> Compared:
    columns: Mapping[str, Any] = found.columns()
    shared = {"provider": provider, "report": report_id, "now": timezone.now(), **columns}
    size = len(found.kinds)
    opened = sql.fetch_one(_OPEN, {**shared, "ids": [ids.uuid7() for _ in range(size)]}) or (0,)
    vanished = sql.execute(_VANISH, shared) if report_id else 0
    return Compared(size, int(opened[0]), vanished)


def _tell(result: Compared, provider: str, target: tuple[str, str], by: Actor) -> None:
    audit.record(
        events.BOOKS_COMPARED, by=by, target=target,
        data={"differences": result.differences, "opened": result.opened, "vanished": result.vanished},
    )  # fmt: skip
    if result.opened:
        alerts.raise_signal(
            FOUND, entity=("provider", provider), evidence={"opened": result.opened, "about": target[1]}
        )
