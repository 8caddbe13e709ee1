"""`manage.py audit_verify`: does the audit log still say what was signed, and the trail what the log says?"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from mestore.lib import actor, notes
from mestore.lib.notes import NoteError, Verifier
from monitoring import verification, verifications, verified_trail
from monitoring.verifications import Mode, Plan, Result

_EXAMPLES = """
examples:
  manage.py audit_verify                      what came since the last good run; a worker does it every minute
  manage.py audit_verify --full --jobs 4      everything; a worker does it every night, in one process
  manage.py audit_verify --full --resume      goes on with a full run that was stopped
  manage.py audit_verify --full --hashes-only --jobs 4
                                              events, tiles, checkpoints; no columns, no MACs: much faster
  manage.py audit_verify --full --stream      hashes in Python what the database hashed: believes it nothing
  manage.py audit_verify --range 0:65536
  manage.py audit_verify --key 'mestore.example/audit/log-1+1a2b3c4d+A…' --checkpoint witness.txt
                                              with a key and a checkpoint that were kept elsewhere
  manage.py audit_verify --full --archive /srv/archive
                                              months that were retired, too, from their files
  manage.py audit_verify --requeue 0192… --reason 'taken out of the queue, incident 12'

exit codes: 0 everything is as it was signed, 1 something is not (it is named), 2 the check could not run
"""


class Command(BaseCommand):
    help = "Verify the audit log: every leaf, tile, checkpoint, MAC and guard, or what is new."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--tail", action="store_true", help="what came since the last good run (default)")
        mode.add_argument("--full", action="store_true", help="everything, of every log")
        mode.add_argument("--range", metavar="A:B", help="leaves A to B (excluded) of the current log")
        mode.add_argument(
            "--requeue", metavar="EVENT", help="put an event back that was taken out of the queue"
        )
        parser.add_argument("--resume", action="store_true", help="with --full: go on with a stopped run")
        parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default 1)")
        parser.add_argument("--stream", action="store_true", help="hash in Python, not in the database")
        parser.add_argument("--hashes-only", action="store_true", help="leave out columns, MACs and content")
        parser.add_argument("--key", metavar="VKEY", help="the log's public key, as it was kept elsewhere")
        parser.add_argument("--checkpoint", metavar="FILE", help="a checkpoint that was kept elsewhere")
        parser.add_argument(
            "--archive",
            type=Path,
            metavar="DIR",
            help="read the archives of retired months in this folder, too",
        )
        parser.add_argument("--reason", help="with --requeue: why")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Verify and print. Raises CommandError: 1 for findings, 2 when it could not run."""
        by = actor.system("audit_verify")
        try:
            if options["requeue"]:
                self._requeue(options, by)
                return
            key = Verifier.parse(options["key"]) if options["key"] else None
            results = verifications.verify(_plan(options, key), by=by, progress=self._progress)
        except (
            NoteError,
            ValueError,
            OSError,
            verifications.TakenOver,
            verified_trail.NothingToRequeue,
        ) as error:
            raise CommandError(str(error) or type(error).__name__, returncode=2) from error
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(f"The check could not run: {type(error).__name__}", returncode=2) from error
        self._say(results, as_json=options["json"])

    def _requeue(self, options: dict[str, Any], by: actor.Actor) -> None:
        if not (options["reason"] or "").strip():
            raise ValueError("--requeue needs --reason")
        verified_trail.requeue(UUID(options["requeue"]), reason=options["reason"], by=by)
        self.stdout.write("The event waits for its leaf again.")

    def _progress(self, done: int, total: int, rate: float) -> None:
        if total > verification.RANGE or done < total:
            end = "\r" if sys.stderr.isatty() and done < total else "\n"
            self.stderr.write(f"{done:,} of {total:,} leaves, {rate:,.0f} a second", ending=end)

    def _say(self, results: list[Result], *, as_json: bool) -> None:
        is_good = all(result.is_good for result in results)
        if as_json:
            self.stdout.write(json.dumps({"good": is_good, "logs": [_as_json(one) for one in results]}))
        else:
            for one in results:
                self._print(one)
        if not is_good:
            raise CommandError("The audit log is not as it was signed.", returncode=1)

    def _print(self, one: Result) -> None:
        for fault in one.found.faults:
            self.stdout.write(f"FAULT: {fault.what}{_where(fault)}")
        if one.found.more:
            self.stdout.write(f"FAULT: and {one.found.more} more")
        for note in one.found.notes:
            self.stdout.write(f"note: {note.what}{_where(note)}")
        self.stdout.write(
            f"log {one.epoch}: leaves {one.begin:,} to {one.upto:,} of {one.size:,}, "
            f"{one.rate:,} a second: {'good' if one.is_good else 'NOT GOOD'}"
        )


def _plan(options: dict[str, Any], key: Verifier | None) -> Plan:
    mode = Mode.FULL if options["full"] else Mode.RANGE if options["range"] else Mode.TAIL
    begin, end = _range(options["range"]) if options["range"] else (0, None)
    if not 1 <= options["jobs"] <= 64:
        raise ValueError("--jobs is 1 to 64")
    if options["resume"] and mode is not Mode.FULL:
        raise ValueError("--resume goes with --full")
    kept = Path(options["checkpoint"]).read_text(encoding="utf-8") if options["checkpoint"] else ""
    if kept:
        notes.parse(kept)
    return Plan(
        mode, begin, end, jobs=options["jobs"], stream=options["stream"],
        rows=not options["hashes_only"], key=key, kept=kept, resume=options["resume"],
        archive=options["archive"],
    )  # fmt: skip


def _range(text: str) -> tuple[int, int]:
    begin, colon, end = text.partition(":")
    if not (colon and begin.isascii() and begin.isdecimal() and end.isascii() and end.isdecimal()):
        raise ValueError("--range is A:B, two numbers")
    return int(begin), int(end)


def _where(one: verification.Fault) -> str:
    leaf = f", leaf {one.leaf_index}" if one.leaf_index is not None else ""
    event = f", event {one.event_id}" if one.event_id is not None else ""
    return leaf + event


def _as_json(one: Result) -> dict[str, Any]:
    return {
        "run": str(one.id), "mode": str(one.mode), "log": one.epoch, "begin": one.begin, "upto": one.upto,
        "size": one.size, "good": one.is_good, "rows_per_second": one.rate, "more_faults": one.found.more,
        "faults": [verifications.as_json(fault) for fault in one.found.faults],
        "notes": [verifications.as_json(note) for note in one.found.notes],
    }  # fmt: skip
