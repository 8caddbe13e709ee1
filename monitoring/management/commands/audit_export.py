"""`manage.py audit_export`: events as files, in batches that prove themselves; and their check."""

from __future__ import annotations

import contextlib
import datetime as dt
import getpass
import hashlib
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from mestore.lib import actor, errors, guard
from mestore.lib.actor import Actor
from mestore.lib.notes import NoteError, Verifier
from monitoring import audit, checkpoints, events, export, export_batches, export_cursors, export_records, log
from monitoring.export import BadPlace, Batch, Place, Wanted
from monitoring.export_batches import BatchError, Format, Window

T = TypeVar("T")
_EXAMPLES = """
examples:
  manage.py audit_export --format jsonl --out events.jsonl
  manage.py audit_export --format csv --since 2026-11-01 --until 2026-12-01 --out november.csv
  manage.py audit_export --format ocsf --keep archive --out - | archive
      goes on where the last call with the same name ended
  manage.py audit_export --format jsonl --after 1:5000 --limit 2000 --out part.jsonl
  manage.py audit_export --format jsonl --verify events.jsonl --key "$LOG_KEY"
      LOG_KEY as it was received when the log began; without --key, the key of this installation

Personal values are hidden. --personal needs --by (an account), --limit, and somebody else's approval.

exit codes: 0 done, 1 refused or not whole
"""


class Command(BaseCommand):
    help = "Export the audit trail in signed batches, or check an exported file."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", type=Format, choices=list(Format), required=True)
        parser.add_argument("--since", type=_moment, help="first moment, UTC unless it says otherwise")
        parser.add_argument("--until", type=_moment, help="first moment that is not wanted any more")
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--after", type=_place, metavar="CURSOR", help="as an export printed it")
        where.add_argument(
            "--keep", metavar="NAME", help="keep the cursor under this name, and go on from it"
        )
        parser.add_argument("--limit", type=_count, help="events at most")
        parser.add_argument("--out", metavar="FILE", help="a new file, or - for standard output")
        parser.add_argument("--personal", action="store_true", help="with personal values")
        parser.add_argument("--by", default="", help="account in whose name this is done")
        parser.add_argument("--verify", metavar="FILE", help="check a file and export nothing")
        parser.add_argument(
            "--key", action="append", default=[], help="the log's public key; once for each log"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Export or verify. Raises CommandError with the reason."""
        try:
            if options["verify"]:
                self._verify(Path(options["verify"]), options["format"], options["key"])
            else:
                self._export(options)
        except (BatchError, BadPlace, NoteError, log.LogDamaged, OSError) as error:
            raise CommandError(str(error)) from error
        except errors.MeStoreError as error:
            raise CommandError(str(error.message)) from error

    def _verify(self, path: Path, form: Format, keys: list[str]) -> None:
        epochs = range(1, log.state().epoch + 1) if not keys else ()
        signed_by = [Verifier.parse(key) for key in keys] or [checkpoints.verifier(one) for one in epochs]
        with path.open(encoding="utf-8", newline="\n") as lines:
            found = export_batches.verify(lines, form, signed_by=signed_by)
        self.stdout.write(
            f"whole: {found.records} events in {found.batches} batches, leaves {found.begin} to {found.end} "
            f"of {found.log}, which leads to its checkpoint of {found.checkpoint_size} leaves"
        )

    def _export(self, options: dict[str, Any]) -> None:
        wanted = Wanted(
            options["format"], Window(options["since"], options["until"]), bool(options["personal"])
        )
        by = _actor(options["by"])
        _demand_whole(options)
        with contextlib.ExitStack() as stack:
            place, keep = options["after"] or Place(), None
            if options["keep"]:
                keep = stack.enter_context(_keeping(f"file:{options['keep']}", by))
                place = keep.held.place
            run = _Run(wanted, place, options["limit"], by)
            run.begin()
            out = stack.enter_context(_opened(options["out"]))
            _write(out, export_records.heading(wanted.form))
            for batch in run.batches():
                _write(out, batch.text())
                if keep is not None:
                    keep.arrived(batch.next)
            run.finish()
        self.stderr.write(f"{run.count} events, next cursor {run.next}")


@dataclass(slots=True)
class _Run:
    """One export, and what the audit trail says about it."""

    wanted: Wanted
    place: Place
    limit: int | None
    by: Actor
    count: int = 0
    next: Place = field(init=False)
    _digest: Any = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        self.next = self.place

    def begin(self) -> None:
        """Ask for what needs asking, and record that an export begins: before its first byte leaves."""
        with transaction.atomic():
            if self.wanted.personal:
                guard.require_second_person(
                    export.PERSONAL, by=self.by, target=export.target(self.place), details=self._details()
                )
            self._record(events.AUDIT_EXPORT_BEGUN, self._details())

    def batches(self) -> Iterator[Batch]:
        """Yield the batches and count what they hold."""
        for batch in export.batches(self.wanted, self.place, limit=self.limit):
            self.count += len(batch.lines)
            self.next = batch.next
            self._digest.update(batch.text().encode())
            yield batch

    def finish(self) -> None:
        """Record what left."""
        made = {"to": str(self.next), "events": self.count, "sha256": self._digest.hexdigest()}
        with transaction.atomic():
            self._record(events.AUDIT_EXPORTED, self._details() | made)

    def _details(self) -> dict[str, Any]:
        return export.details(self.wanted, self.place, self.limit)

    def _record(self, event: str, data: dict[str, Any]) -> None:
        audit.record(
            event,
            by=self.by,
            target=export.target(self.place),
            data=data,
            personal={"operator": getpass.getuser()},
        )


@dataclass(slots=True)
class _Keeping:
    held: export_cursors.Held

    def arrived(self, place: Place) -> None:
        self.held = export_cursors.advance(self.held, place)


@contextlib.contextmanager
def _keeping(destination: str, by: Actor) -> Iterator[_Keeping]:
    held = export_cursors.take(destination, by=by)
    if held is None:
        raise CommandError("another export of that name is running")
    keep = _Keeping(held)
    try:
        yield keep
    finally:
        export_cursors.release(keep.held)


@contextlib.contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    """A file that was not there before and that nobody else may read, or standard output."""
    if name == "-":
        yield sys.stdout.buffer
        return
    with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        yield out


def _write(out: IO[bytes], text: str) -> None:
    """A cursor never says more than what a crash of this machine leaves in the file."""
    out.write(text.encode())
    out.flush()
    if out is not sys.stdout.buffer:
        os.fsync(out.fileno())


def _demand_whole(options: dict[str, Any]) -> None:
    if not options["out"]:
        raise CommandError("--out says where the events go: a file, or - for standard output")
    if options["personal"] and not (options["by"] and options["limit"] and not options["keep"]):
        raise CommandError("--personal needs --by and --limit, and goes without --keep")


def _actor(by: str) -> Actor:
    return Actor(kind="user", id=by) if by else actor.system("audit_export")


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError("a moment looks like 2026-11-21 or 2026-11-21T10:00:00Z") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)


def _place(text: str) -> Place:
    return _argument(Place.parse, text)


def _count(text: str) -> int:
    return _argument(_positive, text)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:19]) < 10**18:
        raise ValueError("this must be a whole number above 0")
    return int(text)


def _argument(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
