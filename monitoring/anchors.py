"""Anchors: each hour the newest checkpoint, with its cosignatures, leaves the database for a folder.

A file is made once, under a name of log and size, and never written over; the folder is best on storage that
allows nothing else (object lock, a write-once share). `audit_verify --checkpoint FILE` holds the log against
any of them. Where the files go is a port: `Anchor` is all that another driver must do.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import structlog
from django.conf import settings

from mestore.lib import merkle, notes
from mestore.lib.notes import Checkpoint, NoteError
from monitoring import checkpoints, cosigning, log

logger = structlog.get_logger("mestore.audit")


class Anchor(Protocol):
    """A place outside of the database, where a text stays as it was first kept."""

    def keep(self, name: str, text: str) -> bool:
        """Keep `text` under `name` for good; False when something is there already. Raises OSError."""

    def every(self) -> Iterator[tuple[str, str]]:
        """Yield names and texts. Raises OSError."""


class Folder:
    """Files of a folder: made whole or not at all, and never again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, name: str, text: str) -> bool:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = self._path / f".{secrets.token_hex(16)}"
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        try:
            # A link, and no rename: it fails where a file has the name already.
            os.link(beside, self._path / name)
        except FileExistsError:
            return False
        finally:
            beside.unlink()
            directory = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        return True

    def every(self) -> Iterator[tuple[str, str]]:
        for file in sorted(self._path.glob("log-*.checkpoint")):
            with contextlib.suppress(UnicodeDecodeError):
                yield file.name, file.read_text(encoding="utf-8")


def configured() -> Anchor | None:
    """Return where the settings keep anchors; None for nowhere."""
    return Folder(Path(settings.AUDIT_ANCHOR_DIR)) if settings.AUDIT_ANCHOR_DIR else None


def keep_newest() -> str | None:
    """Keep the newest checkpoint, if it is a new one; return its name. Raises OSError, django.db.Error."""
    anchor, found = configured(), checkpoints.last()
    if anchor is None or found is None:
        return None
    name = f"log-{log.state().epoch}-{found.size:016d}.checkpoint"
    if not anchor.keep(name, cosigning.with_cosignatures(found)):
        return None
    logger.info("audit_anchored", name=name, size=found.size)
    return name


def disagreements() -> list[str]:
    """Hold the logs against every anchor; return, by name, those that they do not begin with.

    An anchor that the log did not sign is one of them. Raises OSError, django.db.Error, LogDamaged.
    """
    anchor = configured()
    if anchor is None:
        return []
    states = [*log.ended(), log.state()]
    return [name for name, text in anchor.every() if not _agrees(text, states)]


def _agrees(text: str, states: list[log.State]) -> bool:
    for state in states:
        if not text.startswith(f"{checkpoints.origin(state.epoch)}\n"):
            continue
        try:
            said: Checkpoint = notes.checkpoint_of(text, log=checkpoints.verifier(state.epoch))
            return said.size <= state.size and log.root_at(said.size, state.epoch) == said.root
        except (NoteError, merkle.ProofError):
            return False
    return False
