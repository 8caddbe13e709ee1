"""The use case: bring a marketplace's orders into the house, once, however often it is asked for."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from finance import money
from mestore.lib.actor import Actor
from monitoring import audit, events

from . import batches, rejects, report, rows, vendors
from .files import Kind, SourceFile, UnusableFile, open_source
from .progress import Phase, silent
from .report import Report
from .staging import Staging

SOURCE = "marketplace"
DEFAULT_BATCH = 500


@dataclass(frozen=True, slots=True)
class Files:
    """The four files of one import."""

    orders: Path
    items: Path
    payments: Path
    sellers: Path


@dataclass(slots=True)
class _Finish:
    """Records the end of the import in the last transaction that writes: exactly once."""

    sources: Sequence[SourceFile]
    currency: str
    new_orders: int
    new_vendors: int
    rejected: int
    by: Actor

    def __call__(self) -> None:
        digests = {source.kind: _digest(source.path) for source in self.sources}
        audit.record(
            events.IMPORT_FINISHED,
            by=self.by,
            target=("import", digests["orders"]),
            data={
                "source": SOURCE,
                "currency": self.currency,
                "sha256": digests,
                "new_orders": self.new_orders,
                "new_vendors": self.new_vendors,
                "rejected": self.rejected,
            },
        )


def import_orders(
    *,
    files: Files,
    currency: str,
    rejects_file: Path | None,
    batch_size: int = DEFAULT_BATCH,
    dry_run: bool = False,
    phase: Phase = silent,
    by: Actor,
) -> Report:
    """Import the files' good lines, write the others to `rejects_file`, and say what is now stored.

    Every batch of orders is one transaction with its ledger entries and audit events. What is stored already
    stays as it is. Raises UnusableFile (nothing was changed), staging.Busy (another import runs), OSError
    (the rejects file cannot be written).
    """
    started = time.monotonic()
    sources = _open(files, currency)
    if rejects_file:
        rejects.refuse_unusable(rejects_file, sources)
    with Staging() as staging:
        for source in sources:
            staging.take(
                source, rows.validator(source.kind, currency), phase(_reading(source.kind), source.size)
            )
        staging.check()
        staging.wait_for_orphaned_batch()
        staging.compare(source=SOURCE, currency=currency)
        rejected = rejects.count(staging)
        if rejected and rejects_file:
            rejects.write(staging, sources, rejects_file)
        new_vendors = vendors.find_new(staging, source=SOURCE)
        present, new_orders = staging.present_and_new()
        if not dry_run:
            finish = _Finish(sources, currency, new_orders, new_vendors, rejected, by)
            _write(staging, finish, batch_size, phase)
        totals, sums = report.totals(staging, source=SOURCE), report.ledger_sums()
        return Report(
            totals=totals,
            currency=currency,
            rejected=rejected,
            new_orders=new_orders,
            already_present=present,
            new_vendors=new_vendors,
            dry_run=dry_run,
            elapsed_seconds=time.monotonic() - started,
            ledger_sums=sums,
        )


def _open(files: Files, currency: str) -> list[SourceFile]:
    """The files in the order in which they are read: what others refer to comes first."""
    try:
        money.exponent(currency)
    except money.MoneyError:
        raise UnusableFile(_("The currency %(currency)s is not known.") % {"currency": currency}) from None
    if currency in settings.IVA_PPM:
        # The files know no taxes; guessing them would post wrong amounts.
        raise UnusableFile(
            _("Orders in %(currency)s carry taxes, which these files do not name.") % {"currency": currency}
        )
    return [
        open_source("sellers", files.sellers),
        open_source("orders", files.orders),
        open_source("items", files.items),
        open_source("payments", files.payments),
    ]


def _write(staging: Staging, finish: _Finish, batch_size: int, phase: Phase) -> None:
    def nothing_more() -> None:
        """The vendors are not the last thing written."""

    vendors.create(
        staging,
        finish.new_vendors,
        source=SOURCE,
        advance=phase(_("Writing vendors"), finish.new_vendors),
        by=finish.by,
        and_last=nothing_more if finish.new_orders else finish,
    )
    batches.write(
        staging,
        finish.new_orders,
        source=SOURCE,
        currency=finish.currency,
        batch_size=batch_size,
        advance=phase(_("Writing orders"), finish.new_orders),
        by=finish.by,
        and_last=finish,
    )


def _reading(kind: Kind) -> str:
    return _("Reading %(kind)s") % {"kind": kind}


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
