"""`manage.py commission_explain`: how a commission came about, step by step."""

from __future__ import annotations

import argparse
import sys
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from finance import commission_explain
from finance.api.commissions_shapes import explanation
from finance.commission_explain import Explained
from finance.commission_explanation import GroupExplanation, percent
from finance.models import Commission
from finance.money import text_of
from mestore.lib import errors
from mestore.lib.http import dumps

EXIT_DIFFERS = 1
EXIT_UNKNOWN = 2
_EXAMPLES = """
examples:
  manage.py commission_explain COM-20260304103000-1a2b3c4d
  manage.py commission_explain 0190a0a0-0000-7000-8000-000000000001 --json

exit codes: 0 explained, 1 doing it again gives other figures than were charged, 2 there is nothing to explain
"""


class Command(BaseCommand):
    help = "Tell which rules were considered for a commission, which won and why, and the arithmetic."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("commission", help="the commission's number or id")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Explain. Raises CommandError and SystemExit with the exit codes of the help."""
        row = _find(options["commission"])
        if row is None:
            raise CommandError("there is no such commission", returncode=EXIT_UNKNOWN)
        try:
            found = commission_explain.of(row)
        except errors.MeStoreError as refused:
            raise CommandError(str(refused.message), returncode=EXIT_UNKNOWN) from refused
        if options["json"]:
            self.stdout.write(dumps(explanation(found)).decode())
        else:
            self.stdout.write("\n".join(_lines(found)))
        if not found.agrees:
            sys.exit(EXIT_DIFFERS)


def _find(text: str) -> Commission | None:
    try:
        return Commission.objects.filter(pk=UUID(text)).first()
    except ValueError:
        return Commission.objects.filter(commission_number=text).first()


def _lines(found: Explained) -> list[str]:
    row, told = found.commission, found.told
    lines = [f"{row.commission_number}  order {row.order_id}  vendor {row.vendor_id}  ({told.rounding})"]
    for group in told.groups:
        lines += _group(group, row.currency)
    lines.append(f"commission  {text_of(told.commission, row.currency)} {row.currency}")
    lines += [
        f"  {step.name}: {step.figures} = {text_of(step.minor, row.currency)}" for step in told.deductions
    ]
    if not found.agrees:
        lines.append("DIFFERS: doing it again does not give what was charged")
    return lines


def _group(group: GroupExplanation, currency: str) -> list[str]:
    numbers = ", ".join(str(line[0]) for line in group.lines)
    lines = [f"lines {numbers}: {group.rule.name} ({percent(group.rule.rate_ppm)}), first by {group.why}"]
    lines += [f"  before {rival.rule.name}: by {rival.why}" for rival in group.rivals]
    return lines + [
        f"  {step.name}: {step.figures} = {text_of(step.minor, currency)}" for step in group.steps
    ]
