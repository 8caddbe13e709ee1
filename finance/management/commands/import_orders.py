"""manage.py import_orders: a marketplace's files become vendors, orders, commissions and ledger entries."""

from __future__ import annotations

import json
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from rich.console import Console
from rich.table import Table

from finance.imports import progress, run, staging
from finance.imports.files import UnusableFile
from finance.imports.report import Report
from mestore.lib import actor

EXIT_UNUSABLE = 1
EXIT_SOME_REJECTED = 3
EXIT_BUSY = 4
EXIT_INTERRUPTED = 130
LARGEST_BATCH = 5_000


class Command(BaseCommand):
    """Import orders; see docs/import.md."""

    help = (
        "Import a marketplace's orders, items, payments and sellers. Good lines go in; bad ones are reported."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Add an example and the exit codes to --help."""
        return super().create_parser(
            prog_name,
            subcommand,
            formatter_class=RawDescriptionHelpFormatter,
            epilog=(
                "example:\n  manage.py import_orders --orders orders.csv --items items.csv \\\n"
                "      --payments payments.csv --sellers sellers.csv --currency BRL --rejects rejects.csv\n\n"
                "exit codes:\n  0 all lines taken   1, 2 unusable input   3 some lines rejected\n"
                "  4 another import runs\n\n"
                "A repeated run changes nothing; a killed one is completed by running it again."
            ),
            **kwargs,
        )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the files and options."""
        for name in ("orders", "items", "payments", "sellers"):
            parser.add_argument(
                f"--{name}", type=Path, required=True, metavar="FILE", help=f"CSV file of {name}"
            )
        parser.add_argument("--currency", required=True, help="ISO 4217 code of all amounts, e.g. BRL")
        parser.add_argument(
            "--rejects", type=Path, default=Path("import-rejects.csv"), metavar="FILE",
            help="where rejected lines go (default: import-rejects.csv, written when there are any)",
        )  # fmt: skip
        parser.add_argument(
            "--json", action="store_true", help="one JSON object as the last line of standard output"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="check the files and report; write nothing but rejects"
        )
        parser.add_argument(
            "--batch-size", type=int, default=run.DEFAULT_BATCH, metavar="N",
            help=f"orders per transaction (default: {run.DEFAULT_BATCH})",
        )  # fmt: skip

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run the import, show its end and exit with the code that says how it went."""
        if not 1 <= options["batch_size"] <= LARGEST_BATCH:
            raise CommandError(f"--batch-size must be between 1 and {LARGEST_BATCH}.")
        report = self._run(options)
        _show(report, options["rejects"], Console(stderr=options["json"]))
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json()))
        if report.rejected:
            self.stdout.flush()
            sys.exit(EXIT_SOME_REJECTED)

    def _run(self, options: dict[str, Any]) -> Report:
        files = run.Files(options["orders"], options["items"], options["payments"], options["sellers"])
        try:
            with progress.shown() as phase:
                return run.import_orders(
                    files=files,
                    currency=options["currency"],
                    rejects_file=options["rejects"],
                    batch_size=options["batch_size"],
                    dry_run=options["dry_run"],
                    phase=phase,
                    by=actor.system("import_orders"),
                )
        except UnusableFile as error:
            raise CommandError(str(error), returncode=EXIT_UNUSABLE) from error
        except staging.Busy as error:
            raise CommandError(
                _("Another import is running; start this one again when it has ended."), returncode=EXIT_BUSY
            ) from error
        except KeyboardInterrupt:
            raise CommandError(
                _("Interrupted. What was written stays; the same command completes it."),
                returncode=EXIT_INTERRUPTED,
            ) from None
        except OSError as error:
            raise CommandError(str(error), returncode=EXIT_UNUSABLE) from error


def _show(report: Report, rejects: Path, console: Console) -> None:
    """The closing table for people."""
    totals = report.totals
    table = Table(title=_("Import (dry run)") if report.dry_run else _("Import"), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for label, value in (
        (_("orders"), totals.orders),
        (_("of them new in this run"), report.new_orders),
        (_("of them already present"), report.already_present),
        (_("items"), totals.items),
        (_("vendors"), totals.vendors),
        (_("sold"), totals.sold),
        (_("gross"), _money(report, totals.gross)),
        (_("commission"), _money(report, totals.commission)),
        (_("vendor net"), _money(report, totals.vendor_net)),
        (_("rejected lines"), report.rejected),
        (_("sold by status, but without items"), totals.sold_without_items),
        (_("sold with payments other than the total"), totals.payment_differences),
        *((_("ledger, debits less credits"), f"{minor} {name}") for name, minor in _sums(report)),
        (_("seconds"), f"{report.elapsed_seconds:.1f}"),
    ):
        table.add_row(str(label), str(value))
    console.print(table)
    if not report.changed:
        console.print(_("Nothing was changed."))
    if report.rejected:
        console.print(
            _("The rejected lines and their reasons are in %(path)s.") % {"path": rejects}, soft_wrap=True
        )


def _money(report: Report, minor: int) -> str:
    return f"{report.text(minor)} {report.currency}"


def _sums(report: Report) -> list[tuple[str, str]]:
    return list(report.as_json()["ledger_sums"].items())
