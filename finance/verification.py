"""Verification of money: every invariant, every signature, every broken row by name.

Run by `finance_verify` and by the worker at night. What is found is told by a signal with its evidence and by
an event; a run that found nothing is an event, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from finance import invariants, ledger
from mestore.lib import sql
from mestore.lib.actor import Actor
from monitoring import alerts, audit, events

FAILED: Final = alerts.declare(
    alerts.Rule(
        "finance.verify_failed",
        _("Verifying the books found rows that do not add up"),
        alerts.Severity.CRITICAL,
        "finance-verify-failed",
    )
)
#: How many broken rows of one invariant are named; of more it is said that there are more.
MOST: Final = 100
SIGNATURES: Final = "signatures"
PAGE: Final = 2_000
# Sorting and hashing large tables: for this transaction only.
_MEMORY: Final = "SET LOCAL work_mem = '64MB'"

Progress = Callable[[str, int], None]
"""`progress(name of the check, rows done)`: rows are counted where they are read one by one."""


@dataclass(frozen=True, slots=True)
class Broken:
    """One row that breaks an invariant: which row (its id), and what is wrong with it."""

    check: str
    row: str
    what: str


@dataclass(slots=True)
class Report:
    """What a verification found. `more` names the invariants of which more rows are broken than are named."""

    vendor: UUID | None
    checks: int = 0
    entries: int = 0
    broken: list[Broken] = field(default_factory=list)
    more: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether nothing at all was found."""
        return not self.broken


def verify(*, vendor: UUID | None = None, by: Actor, progress: Progress | None = None) -> Report:
    """Check every invariant, of one vendor's books or of all; return the broken rows, and tell of them.

    Reads only, apart from the signal and the event at its end. Memory does not grow with the books: what is
    summed is summed by the database, what is signed is read in pages.
    """
    started = time.monotonic()
    report = Report(vendor)
    for invariant in invariants.EVERY:
        if progress is not None:
            progress(invariant.name, 0)
        with transaction.atomic():
            sql.execute(_MEMORY)
            rows = sql.fetch_all(invariant.query, {"vendor": vendor, "most": MOST + 1})
        _found(report, invariant.name, [(row, what) for row, what in rows])
    _check_signatures(report, progress)
    report.seconds = time.monotonic() - started
    _tell(report, by)
    return report


def _check_signatures(report: Report, progress: Progress | None) -> None:
    forged: list[tuple[str, str]] = []
    after = (UUID(int=0), UUID(int=0))
    while True:
        page = ledger.signatures(after=after, book=report.vendor, limit=PAGE)
        if page.last is None:
            break
        after = page.last
        report.entries += page.entries
        if len(forged) <= MOST:
            forged += [(str(entry), "its MAC is not that of its rows") for entry in page.forged]
        if progress is not None:
            progress(SIGNATURES, report.entries)
    _found(report, SIGNATURES, forged)


def _found(report: Report, name: str, rows: list[tuple[str, str]]) -> None:
    report.checks += 1
    report.broken += [Broken(name, row, what) for row, what in rows[:MOST]]
    if len(rows) > MOST:
        report.more.append(name)


def _tell(report: Report, by: Actor) -> None:
    data = {
        "vendor_id": str(report.vendor) if report.vendor else None, "checks": report.checks,
        "entries": report.entries, "broken": len(report.broken),
        "rows": [f"{one.check} {one.row}" for one in report.broken[:20]],
    }  # fmt: skip
    with transaction.atomic():
        if report.is_good:
            audit.record(events.MONEY_VERIFIED, by=by, target=("ledger", "ledger"), data=data)
            return
        audit.record(events.MONEY_VERIFY_FAILED, by=by, target=("ledger", "ledger"), data=data)
        alerts.raise_signal(
            FAILED,
            entity=("ledger", str(report.vendor or "every_book")),
            evidence={
                "broken": len(report.broken), "checks": sorted({one.check for one in report.broken}),
                "rows": [f"{one.check} {one.row}: {one.what}" for one in report.broken[:8]],
            },
        )  # fmt: skip
