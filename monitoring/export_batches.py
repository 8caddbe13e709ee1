"""The signed trailer below each batch of exported events, and how a stranger checks a batch with it.

A trailer is a note (C2SP signed-note) that the log signs: which leaves the batch covers, how many records,
SHA-256 over their lines, and the tree before and after them. Beside it stand a checkpoint (with its
witnesses' lines) and the proof that its log begins with that tree. So nobody can leave out a record, add one,
change one or move one: within a batch the digest tells, between batches that one begins where another ended.

Nothing here reads the database. A file is read line by line: memory does not grow with it.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from mestore.lib import merkle, notes, spreadsheets
from mestore.lib.merkle import Frontier
from mestore.lib.notes import NoteError, Signer, Verifier

TITLE: Final = "mestore audit batch v1"
CSV_MARK: Final = "batch"
LONGEST_LINE: Final = 1_048_576
_FIELDS: Final = (
    "log", "format", "from", "to", "records", "sha256", "frontier", "root", "since", "until", "personal",
)  # fmt: skip


class Format(StrEnum):
    """How events leave: exactly as they are hashed, as a table for people, in a SIEM's words."""

    JSONL = "jsonl"
    CSV = "csv"
    OCSF = "ocsf"


class BatchError(ValueError):
    """The file is not what left the house. The sentence says what is wrong, and where."""


class NotSignedByLog(BatchError):
    """None of the keys that are known signed it."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which moments were asked for; a batch with bounds leaves out what happened outside of them."""

    since: dt.datetime | None = None
    until: dt.datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.since is None and self.until is None

    def holds(self, at: dt.datetime) -> bool:
        """Return whether a moment lies inside; the end is outside."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


@dataclass(frozen=True, slots=True)
class Trailer:
    """What a batch says of itself. `before` and `root` are the log at `begin` and at `end` leaves."""

    log: str
    format: Format
    begin: int
    end: int
    records: int
    digest: bytes
    before: Frontier
    root: bytes
    window: Window
    personal: bool

    def text(self) -> str:
        """Return the text of the note."""
        values = (
            self.log, self.format, self.begin, self.end, self.records, self.digest.hex(),
            base64.b64encode(self.before.dump()).decode("ascii") or "-",
            base64.b64encode(self.root).decode("ascii"),
            _moment(self.window.since), _moment(self.window.until), "yes" if self.personal else "no",
        )  # fmt: skip
        lines = [f"{name} {value}" for name, value in zip(_FIELDS, values, strict=True)]
        return "\n".join([TITLE, *lines]) + "\n"

    @classmethod
    def read(cls, note: str, *, signed_by: Verifier) -> Trailer:
        """Return what a note says when the log signed it. Raises BatchError."""
        try:
            parsed = notes.parse(note)
            if not parsed.times(signed_by):
                raise NotSignedByLog("the log did not sign this batch")
            return cls._of(parsed.text, signed_by)
        except (NoteError, ValueError, TypeError, merkle.ProofError, binascii.Error) as error:
            raise (
                error if isinstance(error, BatchError) else BatchError("a batch's note is damaged")
            ) from None

    @classmethod
    def _of(cls, text: str, signed_by: Verifier) -> Trailer:
        title, *lines = text.rstrip("\n").split("\n")
        given = [line.partition(" ") for line in lines]
        if title != TITLE or tuple(name for name, _blank, _value in given) != _FIELDS:
            raise BatchError("this note is not about a batch")
        value = {name: text for name, _blank, text in given}
        if value["log"] != signed_by.name:
            raise BatchError("the batch is of another log")
        frontier = b"" if value["frontier"] == "-" else base64.b64decode(value["frontier"], validate=True)
        begin, end, records = int(value["from"]), int(value["to"]), int(value["records"])
        return cls(
            value["log"], Format(value["format"]), begin, end, records, bytes.fromhex(value["sha256"]),
            Frontier.load(begin, frontier), base64.b64decode(value["root"], validate=True),
            Window(_read_moment(value["since"]), _read_moment(value["until"])), value["personal"] == "yes",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sealed:
    """A trailer's note, the checkpoint that its log led to, and the proof that it did."""

    note: str
    checkpoint: str
    proof: tuple[bytes, ...]

    def line(self, form: Format) -> str:
        """Return the line below the batch."""
        proof = [base64.b64encode(part).decode("ascii") for part in self.proof]
        written = json.dumps(
            {"batch": {"note": self.note, "checkpoint": self.checkpoint, "proof": proof}}, ensure_ascii=False
        )
        return spreadsheets.line([CSV_MARK, written]) if form is Format.CSV else f"{written}\n"


def seal(trailer: Trailer, *, checkpoint: str, proof: Iterable[bytes], signer: Signer) -> Sealed:
    """Return `trailer` signed, with its checkpoint."""
    text = trailer.text()
    return Sealed(f"{text}\n{signer.line(text)}", checkpoint, tuple(proof))


@dataclass(slots=True)
class Verified:
    """What a file turned out to hold. `begin` and `end`: the leaves of the log that it covers."""

    log: str = ""
    begin: int = 0
    end: int = 0
    batches: int = 0
    records: int = 0
    checkpoint_size: int = 0


@dataclass(slots=True)
class _Lines:
    """The records of the batch that is being read."""

    digest: Any = field(default_factory=hashlib.sha256)
    indexes: list[int] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)


def verify(
    lines: Iterable[str], form: Format, *, signed_by: Sequence[Verifier], is_sparse: bool = False
) -> Verified:
    """Return what an exported file holds when every batch of it is whole and follows the one before.

    `lines` keep their line ends. `signed_by` are the keys of the logs, for a file that goes on in the log
    after one that ended. In a sparse file leaves may be left out between two batches: it says elsewhere which
    it holds. Raises BatchError with the first thing that is wrong.
    """
    found, waiting, last = Verified(), _Lines(), None
    for line in _without_heading(lines, form):
        sealed = _sealed(line, form)
        if sealed is None:
            _take(waiting, line, form)
            continue
        trailer, key = _trailer(sealed.note, signed_by)
        _check(trailer, waiting, form)
        _follows(last, trailer, is_sparse=is_sparse)
        found.checkpoint_size = _leads_to(sealed, trailer, key)
        found.log, found.end = trailer.log, trailer.end
        found.begin = trailer.begin if last is None else found.begin
        found.batches, found.records = found.batches + 1, found.records + trailer.records
        waiting, last = _Lines(), trailer
    if waiting.indexes:
        raise BatchError(f"the file is cut: no trailer below the leaf {waiting.indexes[-1]}")
    if last is None:
        raise BatchError("the file holds no batch")
    return found


def _trailer(note: str, keys: Sequence[Verifier]) -> tuple[Trailer, Verifier]:
    for key in keys:
        try:
            return Trailer.read(note, signed_by=key), key
        except NotSignedByLog:
            continue
    raise NotSignedByLog("the log did not sign this batch")


def _check(trailer: Trailer, lines: _Lines, form: Format) -> None:
    where = f"the batch of the leaves {trailer.begin} to {trailer.end}"
    if trailer.format is not form:
        raise BatchError(f"{where} is of another format")
    if trailer.records != len(lines.indexes) or trailer.digest != lines.digest.digest():
        raise BatchError(f"{where} was changed: its records are not those that were signed")
    if not trailer.window.is_open:
        _demand_order(lines.indexes, trailer, where)
        return
    if lines.indexes != list(range(trailer.begin, trailer.end)):
        raise BatchError(f"{where} has gaps")
    grown = Frontier(trailer.before.size, list(trailer.before.hashes))
    grown.extend(lines.leaves)
    if grown.root() != trailer.root:
        raise BatchError(f"{where} holds an event that is not in the log")


def _demand_order(indexes: list[int], trailer: Trailer, where: str) -> None:
    inside = all(trailer.begin <= index < trailer.end for index in indexes)
    if not inside or indexes != sorted(set(indexes)):
        raise BatchError(f"{where} is not in the order of the log")


def _follows(before: Trailer | None, trailer: Trailer, *, is_sparse: bool) -> None:
    if before is None:
        return
    if trailer.log != before.log:
        if not is_sparse:
            _begins(before, trailer)
        return
    if is_sparse and trailer.begin > before.end:
        return
    if trailer.begin != before.end:
        raise BatchError(f"between the leaves {before.end} and {trailer.begin} batches are missing or mixed")
    if trailer.before.root() != before.root:
        raise BatchError(f"the log forked at {trailer.begin} leaves")


def _begins(before: Trailer, trailer: Trailer) -> None:
    """After one log ended another begins, and its first event says how large that one was."""
    if trailer.begin != 0:
        raise BatchError(f"between {before.log} and {trailer.log} batches are missing or mixed")


def _leads_to(sealed: Sealed, trailer: Trailer, signed_by: Verifier) -> int:
    try:
        checkpoint = notes.checkpoint_of(sealed.checkpoint, log=signed_by)
        merkle.verify_consistency(trailer.end, checkpoint.size, sealed.proof, trailer.root, checkpoint.root)
    except (NoteError, merkle.ProofError):
        raise BatchError(f"the log of {trailer.end} leaves does not lead to the checkpoint") from None
    return checkpoint.size


def _without_heading(lines: Iterable[str], form: Format) -> Iterator[str]:
    for number, line in enumerate(lines):
        if len(line) > LONGEST_LINE:
            raise BatchError(f"line {number + 1} is too long")
        if number or form is not Format.CSV:
            yield line


def _sealed(line: str, form: Format) -> Sealed | None:
    """Return the trailer that a line is; None for a record."""
    if form is Format.CSV:
        cells = spreadsheets.read_line(line)
        if cells[:1] != [CSV_MARK] or len(cells) != 2:
            return None
        line = cells[1]
    elif not line.startswith('{"batch":'):
        return None
    try:
        given = json.loads(line)["batch"]
        proof = tuple(base64.b64decode(part, validate=True) for part in given["proof"])
        return Sealed(str(given["note"]), str(given["checkpoint"]), proof)
    except (ValueError, TypeError, KeyError, binascii.Error):
        raise BatchError("a trailer is damaged") from None


def _take(lines: _Lines, line: str, form: Format) -> None:
    try:
        index, leaf = _READERS[form](line)
    except (ValueError, TypeError, KeyError, IndexError):
        after = f" after the leaf {lines.indexes[-1]}" if lines.indexes else ""
        raise BatchError(f"a record{after} is damaged") from None
    lines.digest.update(line.encode())
    lines.indexes.append(index)
    lines.leaves.append(leaf)


def _of_jsonl(line: str) -> tuple[int, bytes]:
    """The event's own bytes are hashed, not what a record says their hash is, unless they are gone."""
    raw = line.encode()
    given = json.loads(raw)
    if given["event"] is None:
        return int(given["leaf_index"]), bytes.fromhex(given["leaf_hash"])
    canon = raw[-2 - int(given["event_bytes"]) : -2]
    if json.loads(canon) != given["event"]:
        raise ValueError("the event's bytes stand elsewhere")
    return int(given["leaf_index"]), merkle.leaf_hash(canon)


def _of_ocsf(line: str) -> tuple[int, bytes]:
    given = json.loads(line)
    return int(given["metadata"]["sequence"]), bytes.fromhex(given["unmapped"]["leaf_hash"])


def _of_csv(line: str) -> tuple[int, bytes]:
    cells = spreadsheets.read_line(line)
    return int(cells[0]), bytes.fromhex(cells[1])


_READERS: Final = {Format.JSONL: _of_jsonl, Format.OCSF: _of_ocsf, Format.CSV: _of_csv}


def _moment(at: dt.datetime | None) -> str:
    return at.astimezone(dt.UTC).isoformat() if at is not None else "-"


def _read_moment(text: str) -> dt.datetime | None:
    return None if text == "-" else dt.datetime.fromisoformat(text)
