"""`manage.py audit_proof`: proofs that strangers can check, offline, with one public key."""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from mestore.lib import errors
from monitoring import checkpoints, log, proofs, retirement
from monitoring.archives import ArchiveError
from monitoring.log import LogDamaged

_EXAMPLES = """
examples:
  manage.py audit_proof --key                          the log's public key, to be passed on safely
  manage.py audit_proof 0192… --out sale.tlog-proof    that an event, or an entry of the ledger, is in the log
  manage.py audit_proof --leaf 457 --with-cosignatures with at least one witness's line on its checkpoint
  manage.py audit_proof --from 1000 --to 2000          that the log of 2000 leaves begins so (JSON)
  manage.py audit_proof 0192… --archive /srv/archive   of an event whose month was retired
then, anywhere, with nothing but Python:
  python3 verify_proof.py sale.tlog-proof --key 'mestore.example/audit/log-1+1a2b3c4d+A…'

exit codes: 0 printed, 1 there is no such proof (yet), 2 wrong arguments, or the database is away
"""


class Command(BaseCommand):
    help = "Print the proof that an event is in the audit log, or that the log only grew."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = _EXAMPLES
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "event", nargs="?", type=UUID, help="the event's id; an entry's id for the ledger"
        )
        parser.add_argument("--leaf", type=int, help="the event's number in the log, instead of its id")
        parser.add_argument("--log", type=int, metavar="N", help="the how-manieth log (default: the current)")
        parser.add_argument(
            "--archive", type=Path, metavar="DIR", help="where the archives of retired months are kept"
        )
        parser.add_argument("--out", metavar="FILE", help="write the proof there")
        parser.add_argument("--with-cosignatures", action="store_true", help="demand a witness's line")
        parser.add_argument("--key", action="store_true", help="print the log's public key")
        parser.add_argument(
            "--from", type=int, dest="old", metavar="SIZE", help="consistency: the older size"
        )
        parser.add_argument("--to", type=int, dest="new", metavar="SIZE", help="consistency: the newer size")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print. Raises CommandError: 1 when there is no such proof, 2 when it cannot be made."""
        try:
            text = _asked(options)
            if options["out"]:
                Path(options["out"]).write_text(text, encoding="utf-8")
            else:
                self.stdout.write(text, ending="")
        except (errors.MeStoreError, ArchiveError, LogDamaged) as error:
            raise CommandError(str(error), returncode=1) from error
        except (OSError, ValueError) as error:
            raise CommandError(str(error), returncode=2) from error
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(
                f"The proof could not be made: {type(error).__name__}", returncode=2
            ) from error


def _asked(options: dict[str, Any]) -> str:
    asked = ("event", "leaf", "old")
    if options["key"] and all(options[name] is None for name in asked):
        return f"{checkpoints.verifier(options['log'] or log.state().epoch)}\n"
    if sum(options[name] is not None for name in asked) != 1 or options["key"]:
        raise ValueError("name one thing: an event, --leaf, --from with --to, or --key")
    if options["old"] is not None:
        return _consistency(options["old"], options["new"], options["log"])
    event = options["event"]
    if event is None:
        event = proofs.event_at(options["leaf"], options["log"])
    try:
        return proofs.of_event(event, cosigned=options["with_cosignatures"]).text()
    except proofs.EventArchived:
        folder = options["archive"] or retirement.folder()
        found = retirement.archived_event(event, folder) if folder is not None else None
        if found is None:
            raise
    proof = proofs.of_bytes(found.canon, found.leaf_index, found.epoch, cosigned=options["with_cosignatures"])
    return proof.text()


def _consistency(old: int, new: int | None, epoch: int | None) -> str:
    """Both sizes and roots, and the path of RFC 9162, 2.1.4, as JSON."""
    now = log.state() if epoch is None else log.state_of(epoch)
    new = now.size if new is None else new
    said = {
        "origin": checkpoints.origin(now.epoch),
        "old_size": old,
        "new_size": new,
        "proof": proofs.consistency(old, new, now.epoch),
        "old_root": _base64(log.root_at(old, now.epoch)),
        "new_root": _base64(log.root_at(new, now.epoch)),
    }
    return json.dumps(said, indent=2) + "\n"


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
