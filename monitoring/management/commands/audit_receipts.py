"""Compare receipts, as they left this machine, with the audit trail."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError, CommandParser

from monitoring import receipt_matching
from monitoring.receipt_matching import Finding, Matching

LONGEST_LINE = 1_048_576


class Command(BaseCommand):
    help = (
        "Compare the receipts in log files with the audit trail: events that were taken away, events that "
        "nobody of the service wrote, receipts that are missing. Files in the order of their lines, '-' for "
        "standard input; other lines are skipped. Exit codes: 0 everything matches, 1 something does not, "
        "2 the comparison could not be made. "
        "Example: journalctl -u mestore-web -o cat | manage.py audit_receipts --match -"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--match", nargs="+", required=True, metavar="FILE", help="files with log lines")
        parser.add_argument("--grace", type=int, default=60, help="seconds that a transaction may take (60)")
        parser.add_argument("--json", action="store_true", help="say it as one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            found = receipt_matching.match(
                _lines(options["match"]), grace=dt.timedelta(seconds=max(0, options["grace"]))
            )
        except OSError as error:
            raise CommandError(f"a file cannot be read: {error}", returncode=2) from error
        if options["json"]:
            self.stdout.write(json.dumps(found.as_dict()))
        else:
            self._tell(found)
        if not found.is_clean:
            raise SystemExit(1)

    def _tell(self, found: Matching) -> None:
        self.stdout.write(
            f"{found.receipts} receipts of {found.writers} processes for {found.leaves} events; "
            f"{found.repeated} lines came twice"
        )
        self._list("committed, and not in the trail any more", found.without_event)
        self._list("in the trail, and not written by this service", found.forged)
        self._list("in the trail without a receipt, and no process was killed then", found.without_receipt)
        self._list("in the trail without a receipt; a process ended without a word then", found.crashes)
        self._list("written with another login than the service's (commands of the owner, SQL)", found.around)
        self._list("wrong in the receipts themselves", found.broken)
        if found.is_clean:
            self.stdout.write("Everything matches.")

    def _list(self, title: str, finding: Finding) -> None:
        if not finding.count:
            return
        self.stdout.write(f"{finding.count} {title}:")
        for text in finding.examples:
            self.stdout.write(f"  {text}")


def _lines(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name == "-":
            yield from _whole(sys.stdin)
            continue
        with open(name, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as the shell names it
            yield from _whole(file)


def _whole(file: TextIO) -> Iterator[str]:
    """Yield lines; of one that is longer than any of ours, pieces: nobody can fill the memory."""
    while line := file.readline(LONGEST_LINE):
        yield line
