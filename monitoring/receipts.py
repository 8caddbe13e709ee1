"""Receipts: what this process wrote to the audit trail, said outside of the database at each commit.

Between the commit of an event and its place in the signed log lie some hundred milliseconds in which whoever
owns the database could take it away without a trace. So each committed write leaves one line
(`audit_receipt`) with the ids and leaf hashes of its events, in the stream of the log lines, which leaves the
machine at once. Lines of one process are a chain under a key that the database does not know: each carries a
number and the MAC of the one before. `manage.py audit_receipts --match` compares them with the database.

What triggers and `ledger_post` wrote in the transaction, which the process cannot know, it asks for in the
message that commits it (monitoring/database), and says in a line of its own.

A rolled-back transaction, or savepoint, leaves no line. A process that begins says so with its first receipt,
one that ends in order says so too: a chain without an end is a process that was killed, or still runs.
"""

from __future__ import annotations

import atexit
import datetime as dt
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction

from mestore.lib import crypto, json_text, merkle
from monitoring.logging import STANDARD_ERROR, AppendedFile, StandardError

EVENT: Final = "audit_receipt"
MAC_PURPOSE: Final = "audit-receipt"
MOST_LEAVES: Final = 64
"""Leaves of one line: a line stays below what collectors cut."""
OFF: Final = "off"
START, COMMIT, END = "start", "commit", "end"
FIRST: Final = "0" * 64

LOGGER: Final = "mestore.audit"

log = structlog.get_logger(LOGGER)


def promise(rows: Sequence[tuple[UUID, bytes]], *, using: str) -> None:
    """Emit the receipt of events (id, canonical bytes) when what wrote them over `using` is committed."""
    if are_wanted():
        transaction.on_commit(Promise([leaf(*row) for row in rows]), using=using)


@dataclass(frozen=True, slots=True)
class Promise:
    """Leaves that wait for their commit. The engine `monitoring.database` keeps it right after that."""

    leaves: Sequence[str]

    def __call__(self) -> None:
        """Keep it, where nobody did."""
        _emit(self.leaves)


def are_wanted() -> bool:
    """Whether this process leaves receipts."""
    return bool(settings.AUDIT_RECEIPTS != OFF)


def emit(leaves: Sequence[str]) -> None:
    """Leave the receipt of what was committed a moment ago, nothing for no leaves. Never raises."""
    if leaves:
        _emit(leaves)


def leaf(event_id: UUID, canon: bytes) -> str:
    """Return how a receipt names an event: its id and its leaf hash."""
    return f"{event_id!s} {merkle.leaf_hash(canon).hex()}"


def link(writer: str, n: int, kind: str, before: str, leaves: Sequence[str]) -> bytes:
    """Return the bytes of one receipt that its MAC is made of."""
    return crypto.row_binding(writer, n, kind, before, *leaves)


class Writer:
    """The receipts of one process, one after the other; `write_line` may raise OSError."""

    def __init__(self, write_line: Callable[[str], None]) -> None:
        self.id = secrets.token_hex(16)
        self._write_line = write_line
        self._lock = threading.Lock()
        self._n, self._last, self._is_over = 0, FIRST, False

    def write(self, leaves: Sequence[str]) -> None:
        """Write receipts for `leaves`, the process's first words before them."""
        with self._lock:
            if not self._n:
                self._say(START, ())
            for at in range(0, len(leaves), MOST_LEAVES):
                self._say(COMMIT, leaves[at : at + MOST_LEAVES])

    def end(self) -> None:
        """Say that nothing follows, if anything went before."""
        with self._lock:
            if self._n and not self._is_over:
                self._say(END, ())
                self._is_over = True

    def _say(self, kind: str, leaves: Sequence[str]) -> None:
        made = crypto.mac(link(self.id, self._n, kind, self._last, leaves), purpose=MAC_PURPOSE).hex()
        # As all our log lines look. It holds nothing that came from outside: neither logging's steps nor a
        # look for secrets would find anything to do.
        line = {
            "kind": kind, "writer": self.id, "n": self._n, "prev": self._last, "mac": made,
            "leaves": list(leaves), "event": EVENT, "level": "info", "logger": LOGGER, "at": _now(),
        }  # fmt: skip
        self._write_line(_text(line))
        # Only what was written is counted: after a line that could not be, the next takes its number.
        self._n, self._last = self._n + 1, made


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat().removesuffix("+00:00") + "Z"


_text = json_text.writer()
_writer: Writer | None = None
_beginning = threading.Lock()


def _emit(leaves: Sequence[str]) -> None:
    """Never raises: what was committed stays committed; a lost line is found by matching."""
    try:
        _own().write(leaves)
    except Exception as error:  # noqa: BLE001 - whatever a stream can throw
        log.critical("audit_receipt_not_written", leaves=len(leaves), error=type(error).__name__)


def _own() -> Writer:
    global _writer  # noqa: PLW0603 - one chain per process
    with _beginning:
        if _writer is None:
            where: str = settings.AUDIT_RECEIPTS
            stream = StandardError(LOGGER) if where == STANDARD_ERROR else AppendedFile(LOGGER, where)
            _writer = Writer(stream.msg)
        return _writer


def _forget() -> None:
    """A child process must not go on with its parent's chain, nor wait for its parent's locks."""
    global _writer, _beginning
    _writer, _beginning = None, threading.Lock()


def _end() -> None:
    if _writer is not None:
        try:
            _writer.end()
        except Exception as error:  # noqa: BLE001 - the process ends anyway; the missing end is reported
            log.critical("audit_receipt_not_written", leaves=0, error=type(error).__name__)


os.register_at_fork(after_in_child=_forget)
atexit.register(_end)
