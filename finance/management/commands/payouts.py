"""`manage.py payouts`: what is due, batch requests, bank files, and the bank's answers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from finance import payout_batches, payout_outcomes, payout_runs
from finance.bank_file_answers import LARGEST_FILE
from finance.models import PayoutBatch
from finance.money import MoneyError, text_of
from finance.payout_runs import Asked
from mestore.lib import actor, errors

EXIT_OPEN = 1
EXIT_FAILED = 2
_EXAMPLES = """
examples:
  manage.py payouts due --currency COP --json      who could be paid how much now, and why not
  manage.py payouts run --dry-run                  what a run would ask for; nothing is changed
  manage.py payouts run                            asks for them; people approve each as any other
  manage.py payouts export --layout pab            puts what is approved into a bank file
  manage.py payouts answer BAT-20261122-XXXXXXXX answer.csv

A file is handed over in the console, by somebody who did not make it. `run` does nothing unless
MESTORE_PAYOUT_RUN_FOR says for whom. Each step can be repeated: what is done is not done again.
exit codes: 0 done, 1 something was left out or has to be looked at (it is named), 2 it could not run
"""


class Command(BaseCommand):
    help = "Batch payouts: what is due, asking for it, bank files and answers."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        steps = parser.add_subparsers(dest="step", required=True, metavar="due|run|export|answer")
        due = steps.add_parser("due", help="list what could be paid now")
        run = steps.add_parser("run", help="ask for everything that is due")
        run.add_argument("--dry-run", action="store_true", help="say what would be asked for; change nothing")
        export = steps.add_parser("export", help="put approved payouts into a bank file")
        export.add_argument("--layout", choices=sorted(payout_batches.LAYOUTS), default="csv")
        answer = steps.add_parser("answer", help="read the bank's answer to a file")
        answer.add_argument("batch", help="the number of the bank file")
        answer.add_argument("file", type=Path, help="CSV: reference, outcome, amount, bank_reference, reason")
        for step in (due, run, export):
            step.add_argument("--currency", choices=sorted(settings.PAYOUT_BOUNDS), default="COP")
        for step in (due, run, export, answer):
            step.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do one step. Raises CommandError with the exit codes of the help."""
        steps = {"due": self._due, "run": self._run, "export": self._export, "answer": self._answer}
        try:
            told, is_open = steps[options["step"]](options)
        except (errors.MeStoreError, MoneyError, OSError) as error:
            message = getattr(error, "message", None) or error
            raise CommandError(str(message), returncode=EXIT_FAILED) from error
        self.stdout.write(json.dumps(told) if options["json"] else "\n".join(_lines(told)))
        if is_open:
            raise CommandError("Some of it has to be looked at.", returncode=EXIT_OPEN)

    def _due(self, options: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        rows = [_row(one) for one in payout_runs.due(options["currency"])]
        return {"currency": options["currency"], "due": rows}, False

    def _run(self, options: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        if options["dry_run"]:
            return self._due(options)
        if settings.PAYOUT_RUN_FOR == "nobody":
            raise CommandError(
                "MESTORE_PAYOUT_RUN_FOR is nobody: nothing is asked for.", returncode=EXIT_FAILED
            )
        asked, left_out = [], []
        for one in payout_runs.ask_for_all(options["currency"], by=actor.system("payouts")):
            if isinstance(one, Asked):
                asked.append({**_row(one.due), "payout": one.payout_number})
            else:
                left_out.append(_row(one))
        return {"currency": options["currency"], "asked": asked, "left_out": left_out}, bool(left_out)

    def _export(self, options: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        made = payout_batches.make(
            currency=options["currency"], layout=options["layout"], by=actor.system("payouts")
        )
        left_out = [{"payout": number, "why": why} for number, why in made.left_out]
        batch = made.batch
        if batch is None:
            return {"batch": None, "left_out": left_out}, True
        told = {
            "batch": batch.batch_number, "layout": batch.layout, "payouts": batch.payout_count,
            "total": text_of(batch.total_minor, batch.currency), "currency": batch.currency,
            "sha256": bytes(batch.file_digest or b"").hex(), "left_out": left_out,
        }  # fmt: skip
        return told, bool(left_out)

    def _answer(self, options: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        batch = PayoutBatch.objects.filter(batch_number=options["batch"]).first()
        if batch is None:
            raise payout_batches.BatchNotFound
        if options["file"].stat().st_size > LARGEST_FILE:
            raise CommandError("The file is too large.", returncode=EXIT_FAILED)
        read = payout_outcomes.import_answer(
            batch.pk, options["file"].read_bytes(), by=actor.system("payouts")
        )
        told = {
            "batch": batch.batch_number, "lines": len(read.lines), "done": read.count("done"),
            "unchanged": read.count("unchanged"),
            "open": [{"line": one.line, "payout": one.reference, "why": one.result} for one in read.open],
        }  # fmt: skip
        return told, bool(read.open)


def _row(one: payout_runs.Due) -> dict[str, str]:
    return {
        "vendor": str(one.vendor_id), "bank_account": str(one.account_id), "amount": one.amount.text,
        "currency": one.amount.currency, "obstacle": one.obstacle,
    }  # fmt: skip


def _lines(told: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in told.items():
        if isinstance(value, list):
            lines.append(f"{name}: {len(value)}")
            lines += ["  " + "  ".join(str(part) for part in row.values() if part) for row in value]
        else:
            lines.append(f"{name}: {value}")
    return lines
