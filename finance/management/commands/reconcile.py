"""`manage.py reconcile`: reports of providers and banks against the ledger."""

from __future__ import annotations

import datetime as dt
import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from finance import reconciliation, selectors
from finance.models import ProviderReport, ReconciliationCase
from finance.states import CaseState, ReportKind
from mestore.lib import actor, errors

EXIT_REFUSED = 1
EXIT_DIFFERENCES = 3
_EXAMPLES = """
examples:
  manage.py reconcile import report.csv --kind provider --provider wompi --since 2026-11-01 --until 2026-11-30
      takes the report in and compares it
  manage.py reconcile import statement.csv --kind bank --provider bancolombia
  manage.py reconcile compare            the reports of the last ten days again
  manage.py reconcile orders --source marketplace   imported orders: what was sold against what was paid
  manage.py reconcile cases --json

A report is CSV with the columns reference, kind, amount, currency, occurred_at and, if there are any, fee.
exit codes: 0 no differences, 1 refused, 2 wrong arguments, 3 differences
"""


class Command(BaseCommand):
    help = "Compare what providers and banks report with the ledger; differences become cases."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One word says what to do."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        made = {name: actions.add_parser(name) for name in ("import", "compare", "orders", "cases")}
        for one in made.values():
            one.add_argument("--json", action="store_true", help="print one JSON object")
        made["import"].add_argument("file", type=Path)
        made["import"].add_argument("--kind", choices=[kind.value for kind in ReportKind], required=True)
        made["import"].add_argument("--provider", required=True, help="who reports, as in payments")
        made["import"].add_argument("--since", type=_day, help="first day that it covers")
        made["import"].add_argument("--until", type=_day, help="last day that it covers")
        made["compare"].add_argument("--report", type=UUID, help="one report only")
        made["orders"].add_argument("--source", required=True, help="where the orders came from")
        made["cases"].add_argument("--limit", type=int, default=100)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do it and print. Exits with 3 where there are differences."""
        run: Callable[[dict[str, Any]], tuple[dict[str, Any], int]] = getattr(self, f"_{options['action']}")
        try:
            answer, differences = run(options)
        except errors.MeStoreError as refused:
            raise CommandError(str(refused), returncode=EXIT_REFUSED) from refused
        if options["json"]:
            self.stdout.write(json.dumps(answer))
        else:
            for name, value in answer.items():
                for line in value if isinstance(value, list) else [value]:
                    self.stdout.write(f"{name}: {line}")
        if differences:
            sys.exit(EXIT_DIFFERENCES)

    def _import(self, options: dict[str, Any]) -> tuple[dict[str, Any], int]:
        until = options["until"]
        taken = reconciliation.take_in(
            options["file"], kind=ReportKind(options["kind"]), provider=options["provider"],
            since=selectors.start_of(options["since"]) if options["since"] else None,
            until=selectors.start_of(until + dt.timedelta(days=1)) if until else None, by=_by(),
        )  # fmt: skip
        found = reconciliation.compare(taken.report, by=_by())
        answer = {
            "report": str(taken.report.pk), "records": taken.report.record_count,
            "rejected": taken.report.rejected_count,
            "rejects": [f"line {one.line}: {one.why}" for one in taken.rejected], **_told(found),
        }  # fmt: skip
        return answer, found.differences

    def _compare(self, options: dict[str, Any]) -> tuple[dict[str, Any], int]:
        if options["report"] is None:
            opened = reconciliation.compare_recent(by=_by())
            waiting = ReconciliationCase.objects.filter(state=CaseState.OPEN).exists()
            return {"opened": opened, "open_cases": waiting}, int(waiting)
        report = ProviderReport.objects.filter(pk=options["report"]).first()
        if report is None:
            raise CommandError("There is no such report.", returncode=EXIT_REFUSED)
        found = reconciliation.compare(report, by=_by())
        return _told(found), found.differences

    def _orders(self, options: dict[str, Any]) -> tuple[dict[str, Any], int]:
        found = reconciliation.compare_orders(options["source"], by=_by())
        return _told(found), found.differences

    def _cases(self, options: dict[str, Any]) -> tuple[dict[str, Any], int]:
        rows = ReconciliationCase.objects.filter(state=CaseState.OPEN).order_by("-id")[: options["limit"]]
        told = [
            {
                "id": str(row.pk), "kind": row.kind, "provider": row.provider, "reference": row.reference,
                "currency": row.currency, "ledger_minor": row.ledger_minor,
                "provider_minor": row.provider_minor,
            }
            for row in rows
        ]  # fmt: skip
        return {"cases": told}, len(told)


def _told(found: reconciliation.Compared) -> dict[str, Any]:
    return {"differences": found.differences, "opened": found.opened, "vanished": found.vanished}


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError("a day as 2026-01-31") from None


def _by() -> actor.Actor:
    return actor.system("reconcile")
