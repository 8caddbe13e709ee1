"""What is left of a month of the trail when its table is dropped: a file that proves itself, its manifest.

The file is an export of the log in JSONL (`export_batches`), compressed: signed batches that carry the tree
before and after them, so each line leads to a checkpoint. Leaves of other months that lie between stand as
hashes. Personal values are in it as they are kept, sealed under the key of their person: destroying the key
reaches every copy.

The manifest says which leaves the month had, and the file's SHA-256; the log signs it. Nothing here reads
the database.
"""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from mestore.lib import canonical, notes
from mestore.lib.notes import Checkpoint, NoteError, Signer, Verifier
from monitoring import export_batches
from monitoring.export_batches import BatchError, Format

TITLE: Final = "mestore audit archive v1"
MANIFEST_SUFFIX: Final = ".manifest"
_NAME = re.compile(r"audit-[0-9]{4}-[0-9]{2}-[0-9a-f]{12}\.jsonl\.gz", re.ASCII)
_HEAD = re.compile(r'\{"log":"([^"\\]+)","leaf_index":([0-9]{1,18}),"leaf_hash":"[0-9a-f]{64}",', re.ASCII)
_NO_EVENT = '"event":null}\n'

Run = tuple[int, int]
"""Leaves from the first number to the second, which is excluded."""
Progress = Callable[[int, int], None]
"""`progress(events so far, of how many)`."""


class ArchiveError(ValueError):
    """The archive is not what was signed. The sentence says what is wrong."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a month holds of one log, and the checkpoint (with its witnesses' lines) that it leads to."""

    epoch: int
    origin: str
    runs: tuple[Run, ...]
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the log signs about an archive.

    Of events that others rely on, the archive speaks when they are gone: `erased` names people whose erasure
    is an event of the month, `decisions` events that gave up an earlier month, with that month.
    """

    month: dt.date
    events: int
    file: str
    size: int
    sha256: bytes
    parts: tuple[Part, ...]
    erased: tuple[str, ...] = ()
    decisions: tuple[tuple[str, str], ...] = ()

    def written(self) -> bytes:
        """Return the canonical JSON that is signed and kept."""
        return canonical.dumps(
            {
                "v": 1, "month": named(self.month), "events": self.events, "file": self.file,
                "bytes": self.size, "sha256": self.sha256.hex(), "erased": list(self.erased),
                "decisions": [list(one) for one in self.decisions],
                "logs": [
                    {
                        "log": part.epoch, "origin": part.origin, "checkpoint": part.checkpoint,
                        "runs": [list(run) for run in part.runs],
                    }
                    for part in self.parts
                ],
            }
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """One archived event: which leaf of which log, and its canonical bytes."""

    epoch: int
    leaf_index: int
    canon: bytes
    personal: Mapping[str, Any]


def named(month: dt.date) -> str:
    """Return a month as people and files write it: 2024-10."""
    return f"{month:%Y-%m}"


def sign(written: bytes, signer: Signer) -> str:
    """Return the note with which a log stands for a manifest."""
    text = f"{TITLE}\n{signer.name}\n{hashlib.sha256(written).hexdigest()}\n"
    return f"{text}\n{signer.line(text)}"


def read(written: bytes, note: str, keys: Sequence[Verifier]) -> Manifest:
    """Return what a manifest says when one of the logs `keys` signed it. Raises ArchiveError."""
    try:
        parsed = notes.parse(note)
        title, name, digest = parsed.text.rstrip("\n").split("\n")
        key = next((one for one in keys if one.name == name), None)
        is_signed = key is not None and bool(parsed.times(key))
    except (NoteError, ValueError) as error:
        raise ArchiveError(f"the manifest's signature is damaged: {error}") from None
    if title != TITLE or not is_signed or digest != hashlib.sha256(written).hexdigest():
        raise ArchiveError("the log did not sign this manifest")
    try:
        return _manifest(json.loads(written))
    except (ValueError, TypeError, KeyError) as error:
        raise ArchiveError("the manifest cannot be read") from error


def _manifest(said: Mapping[str, Any]) -> Manifest:
    if said["v"] != 1 or not _NAME.fullmatch(said["file"]):
        raise ValueError
    parts = tuple(
        Part(
            int(one["log"]), str(one["origin"]), tuple((int(a), int(b)) for a, b in one["runs"]),
            str(one["checkpoint"]),
        )
        for one in said["logs"]
    )  # fmt: skip
    return Manifest(
        dt.date.fromisoformat(f"{said['month']}-01"), int(said["events"]), said["file"], int(said["bytes"]),
        bytes.fromhex(said["sha256"]), parts, tuple(str(one) for one in said["erased"]),
        tuple((str(event_id), str(month)) for event_id, month in said["decisions"]),
    )  # fmt: skip


def check(
    folder: Path, manifest: Manifest, keys: Sequence[Verifier], *, progress: Progress | None = None
) -> list[tuple[int, Checkpoint]]:
    """Read an archive to its end and return the checkpoints that it leads to, by log.

    `keys` are those of the logs. Raises ArchiveError with the first thing that is wrong, OSError.
    """
    check_bytes(folder, manifest)
    seen = _Seen(manifest, progress)
    try:
        with _lines(folder, manifest) as lines:
            if manifest.events:
                export_batches.verify(seen.of(lines), Format.JSONL, signed_by=keys, is_sparse=True)
            elif next(lines, None) is not None:
                raise ArchiveError("the archive of an empty month is not empty")
        found = [
            (part.epoch, notes.checkpoint_of(part.checkpoint, log=_key(part, keys)))
            for part in manifest.parts
        ]
    except (BatchError, NoteError, UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ArchiveError(str(error) or type(error).__name__) from error
    seen.demand_all()
    return found


def check_bytes(folder: Path, manifest: Manifest) -> None:
    """Compare size and SHA-256 of the file with the manifest. Raises ArchiveError, OSError."""
    path = folder / manifest.file
    with path.open("rb") as file:
        if path.stat().st_size != manifest.size:
            raise ArchiveError(f"{manifest.file} has another size than its manifest says")
        if hashlib.file_digest(file, "sha256").digest() != manifest.sha256:
            raise ArchiveError(f"{manifest.file} is not the file that its manifest names")


def find(folder: Path, manifest: Manifest, event_id: UUID) -> Found | None:
    """Return an event out of an archive whose bytes are those that were signed; None when it is not in it.

    Raises ArchiveError, OSError.
    """
    check_bytes(folder, manifest)
    epochs = {part.origin: part.epoch for part in manifest.parts}
    wanted = f'"event_id":"{event_id}"'
    with _lines(folder, manifest) as lines:
        for line in lines:
            if wanted not in line[:1_000] or line.endswith(_NO_EVENT) or not _HEAD.match(line):
                continue
            said, raw = json.loads(line), line.encode()
            if said["event_id"] == str(event_id):
                canon = raw[-2 - int(said["event_bytes"]) : -2]
                return Found(epochs[said["log"]], int(said["leaf_index"]), canon, said.get("personal") or {})
    return None


@contextmanager
def _lines(folder: Path, manifest: Manifest) -> Iterator[Iterator[str]]:
    with (
        gzip.open(folder / manifest.file, "rb") as raw,
        io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as lines,
    ):
        yield _bounded(lines)


def _bounded(lines: io.TextIOWrapper[Any]) -> Iterator[str]:
    # A line longer than any of ours comes in pieces, and the check of lines refuses it: memory is bounded.
    while line := lines.readline(export_batches.LONGEST_LINE + 1):
        yield line


def _key(part: Part, keys: Sequence[Verifier]) -> Verifier:
    for key in keys:
        if key.name == part.origin:
            return key
    raise ArchiveError(f"there is no key of the log {part.origin}")


@dataclass(slots=True)
class _Seen:
    """Which leaves the lines that pass by bring with their events."""

    manifest: Manifest
    progress: Progress | None
    runs: dict[str, list[list[int]]] = field(default_factory=dict)
    events: int = 0

    def of(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            if not line.startswith('{"batch":') and not line.endswith(_NO_EVENT):
                self._see(line)
            elif self.progress is not None and line.startswith('{"batch":'):
                self.progress(self.events, self.manifest.events)
            yield line

    def _see(self, line: str) -> None:
        head = _HEAD.match(line)
        if head is None:
            raise ArchiveError("a line of the archive has another form")
        runs, index = self.runs.setdefault(head[1], []), int(head[2])
        if runs and runs[-1][1] == index:
            runs[-1][1] = index + 1
        else:
            runs.append([index, index + 1])
        self.events += 1

    def demand_all(self) -> None:
        said = {part.origin: [list(run) for run in part.runs] for part in self.manifest.parts}
        if self.runs != said or self.events != self.manifest.events:
            raise ArchiveError(f"{self.manifest.file} does not hold the events that its manifest names")
