"""Making the archive of a month: the month is checked, written, read back, and only then on record.

Memory holds one batch, however large the month is. A process that dies leaves a file that nothing names: the
next run makes another one.
"""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from uuid import UUID

from django.db import transaction

from mestore.lib import crypto, ids, merkle, sql
from mestore.lib.actor import Actor
from monitoring import (
    archives,
    audit,
    checkpoints,
    events,
    export,
    export_records,
    log,
    proofs,
    retired,
    subjects,
    verification,
    verified_rows,
    verified_trail,
)
from monitoring.archives import Manifest, Part, Progress, Run, named
from monitoring.checkpoints import Signed
from monitoring.export import Place
from monitoring.export_batches import Format, Trailer, Window
from monitoring.export_records import Record
from monitoring.verification import RANGE, Fault, Findings, Span

OWNER: Final = "owner"
BATCH: Final = 4_096
"""Leaves in one batch of an archive."""
MOST_RUNS: Final = 100_000

# Consecutive leaves of a month differ from their rank by the same number.
_RUNS = """
SELECT epoch, min(leaf_index), max(leaf_index) + 1 FROM (
    SELECT epoch, leaf_index,
           leaf_index - row_number() OVER (PARTITION BY epoch ORDER BY leaf_index) AS island
    FROM audit_leaf WHERE occurred_at >= %(begin)s AND occurred_at < %(end)s
) AS placed GROUP BY epoch, island ORDER BY 1, 2 LIMIT %(most)s
"""
_EVENTS = """
SELECT l.leaf_index, l.event_id, l.occurred_at >= %(from)s AND l.occurred_at < %(until)s, e.canon, e.pii_ct
FROM audit_leaf l
LEFT JOIN audit_event e ON e.id = l.event_id AND e.occurred_at = l.occurred_at
  AND e.occurred_at >= %(from)s AND e.occurred_at < %(until)s
WHERE l.epoch = %(epoch)s AND l.leaf_index >= %(begin)s AND l.leaf_index < %(end)s
ORDER BY l.leaf_index
"""
_VALUES = "SELECT event_id, name, subject, nonce, value FROM audit_personal WHERE event_id = ANY(%s)"
_ABOUT = """
SELECT id::text, target_id FROM audit_event
WHERE target_type = %(target)s AND target_id IS NOT NULL AND type = %(type)s
  AND occurred_at >= %(begin)s AND occurred_at < %(end)s ORDER BY 2, 1
"""
_KEEP = "INSERT INTO audit_archive (id, month, events, manifest, note) VALUES (%s, %s, %s, %s, %s)"


class NotSound(ValueError):
    """The month is not as it was signed: it is neither archived nor given up."""

    def __init__(self, month: dt.date, found: Findings) -> None:
        self.faults: Sequence[Fault] = found.faults
        first = found.faults[0]
        where = "" if first.leaf_index is None else f", leaf {first.leaf_index}"
        super().__init__(f"{named(month)} is not as it was signed: {first.what}{where}")


@dataclass(frozen=True, slots=True)
class Archived:
    """An archive that is on record."""

    id: UUID
    month: dt.date
    manifest: Manifest


def bounds(month: dt.date) -> Window:
    """Return the moments of a month, UTC; the end is outside."""
    begin = dt.datetime(month.year, month.month, 1, tzinfo=dt.UTC)
    return Window(begin, begin.replace(year=month.year + month.month // 12, month=month.month % 12 + 1))


def leaves_of(month: dt.date) -> dict[int, list[Run]]:
    """Return which leaves of which log are a month's. Raises log.LogDamaged for a month in tatters."""
    window, found = bounds(month), dict[int, list[Run]]()
    rows = sql.fetch_all(_RUNS, {"begin": window.since, "end": window.until, "most": MOST_RUNS + 1})
    if len(rows) > MOST_RUNS:
        raise log.LogDamaged(f"the events of {named(month)} are strewn over the log")
    for epoch, begin, end in rows:
        found.setdefault(int(epoch), []).append((int(begin), int(end)))
    return found


def check_month(month: dt.date, *, progress: Progress | None = None) -> dict[int, list[Run]]:
    """Verify a month in full (events, tiles, checkpoints, columns, MACs, nothing missing); return its leaves.

    Raises NotSound, log.LogDamaged.
    """
    runs, found, done = leaves_of(month), Findings(), 0
    total = sum(end - begin for parts in runs.values() for begin, end in parts)
    for epoch, parts in runs.items():
        size = log.state_of(epoch).size
        for number in sorted({at for a, b in parts for at in range(a // RANGE, (b - 1) // RANGE + 1)}):
            span = Span(number * RANGE, min((number + 1) * RANGE, size), epoch)
            found.add(verification.check_span(span))
            found.add(verified_rows.check_rows(span))
            done += sum(max(0, min(b, span.end) - max(a, span.begin)) for a, b in parts)
            if progress is not None:
                progress(done, total)
        found.add(verification.check_tree(size, epoch))
    window = bounds(month)
    if window.since is not None and window.until is not None:
        found.add(verified_trail.check_missing(window.since, window.until))
    if found.faults:
        raise NotSound(month, found)
    return runs


def make(month: dt.date, folder: Path, *, by: Actor, progress: Progress | None = None) -> Archived:
    """Check a month, write its archive into `folder`, read it back, and put it on record with its event.

    Raises NotSound, archives.ArchiveError when what was read back is not what was written, log.LogDamaged,
    proofs.NotSealedYet, OSError, django.db.Error.
    """
    archive_id = ids.uuid7()
    parts = tuple(_part(epoch, runs) for epoch, runs in check_month(month, progress=progress).items())
    name = f"audit-{named(month)}-{secrets.token_hex(6)}.jsonl.gz"
    count = sum(end - begin for part in parts for begin, end in part.runs)
    with _new_file(folder, name) as (out, kept):
        with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0) as packed:
            for part in parts:
                for text in _batches(month, part):
                    packed.write(text.encode())
        out.flush()
        size, digest = kept()
    erased = _about(month, "person", events.AUDIT_SUBJECT_ERASED)
    decisions = _about(month, retired.TARGET, events.AUDIT_MONTH_RETIRED)
    manifest = Manifest(
        month, count, name, size, digest, parts,
        erased=tuple(sorted({subject for _event, subject in erased})), decisions=tuple(decisions),
    )  # fmt: skip
    written = manifest.written()
    note = archives.sign(written, checkpoints.signer(log.state().epoch))
    with _new_file(folder, name + archives.MANIFEST_SUFFIX) as (beside, _kept):
        beside.write(written + b"\n" + note.encode())
    known = retired.keys()
    demand_whole(folder, archives.read(written, note, known), progress=progress)
    with transaction.atomic(using=OWNER):
        sql.execute(_KEEP, (archive_id, month, count, written, note), using=OWNER)
        entry = audit.Entry(
            events.AUDIT_MONTH_ARCHIVED, by=by, target=(retired.TARGET, named(month)),
            data={"archive": str(archive_id), "file": name, "events": count, "sha256": digest.hex()},
        )  # fmt: skip
        audit.record_through(OWNER, entry)
    return Archived(archive_id, month, manifest)


def demand_whole(folder: Path, manifest: Manifest, *, progress: Progress | None = None) -> None:
    """Read an archive to its end, and hold the log against the checkpoints that it leads to.

    Raises archives.ArchiveError, OSError.
    """
    for epoch, said in archives.check(folder, manifest, retired.keys(), progress=progress):
        try:
            root = log.root_at(said.size, epoch)
        except merkle.ProofError:
            root = b""
        if root != said.root:
            raise archives.ArchiveError(
                f"{manifest.file} leads to a checkpoint that the log does not begin with"
            )


def _part(epoch: int, runs: Sequence[Run]) -> Part:
    """Under the first checkpoint that counts all leaves and that a witness cosigned, where there is one."""
    found = proofs.checkpoint_over(epoch, runs[-1][1] - 1)
    return Part(epoch, checkpoints.origin(epoch), tuple(runs), found)


def _batches(month: dt.date, part: Part) -> Iterator[str]:
    """Yield the lines of a part, in batches that begin and end with a leaf of the month."""
    last = checkpoints.last(part.epoch)
    if last is None:
        raise log.LogDamaged("the log was never signed")
    before, runs = None, [list(run) for run in part.runs]
    while runs:
        begin = runs[0][0]
        end = max(min(stop, begin + BATCH) for first, stop in runs if first < begin + BATCH)
        while runs and runs[0][1] <= end:
            runs.pop(0)
        if runs and runs[0][0] < end:
            runs[0][0] = end
        if before is None or before.size != begin:
            before = export.frontier_at(Place(part.epoch, begin))
        yield from _batch(month, part, before, end, last)


def _batch(month: dt.date, part: Part, before: merkle.Frontier, end: int, last: Signed) -> Iterator[str]:
    """One batch; `before` has grown to `end` afterwards."""
    begin, old = before.size, merkle.Frontier(before.size, list(before.hashes))
    hashes = export.leaf_hashes(part.epoch, begin, end)
    digest, count = hashlib.sha256(), 0
    for record in _records(month, part, begin, end, hashes):
        line = export_records.line(record, Format.JSONL)
        digest.update(line.encode())
        count += 1
        yield line
    before.extend(hashes)
    trailer = Trailer(
        part.origin, Format.JSONL, begin, end, count, digest.digest(), old, before.root(), Window(), False
    )
    yield export.sealed(trailer, part.epoch, last)


def _records(month: dt.date, part: Part, begin: int, end: int, hashes: Sequence[bytes]) -> Iterator[Record]:
    window = bounds(month)
    rows = sql.fetch_all(
        _EVENTS,
        {"epoch": part.epoch, "begin": begin, "end": end, "from": window.since, "until": window.until},
    )
    if [row[0] for row in rows] != list(range(begin, end)):
        raise log.LogDamaged(f"leaves between {begin} and {end} are missing")
    values = _sealed_values([row[1] for row in rows if row[2]])
    for (index, event_id, is_wanted, canon, pii_ct), leaf in zip(rows, hashes, strict=True):
        if not is_wanted:
            yield Record(part.origin, int(index), leaf, event_id, None)
            continue
        if canon is None or merkle.leaf_hash(bytes(canon)) != leaf:
            raise log.LogDamaged(f"the event of the leaf {index} is not what the log says")
        personal: dict[str, Any] = {}
        if pii_ct is not None:
            personal["sealed"] = _base64(bytes(pii_ct))
        if event_id in values:
            personal["values"] = values[event_id]
        yield Record(part.origin, int(index), leaf, event_id, bytes(canon), personal or None)


def _sealed_values(event_ids: Sequence[UUID]) -> dict[UUID, dict[str, list[str]]]:
    """What triggers kept in clear leaves sealed under its person's key: [person, value] by name.

    Of the erased there is nothing.
    """
    rows = sql.fetch_all(_VALUES, (list(event_ids),)) if event_ids else []
    keys = subjects.keys_for({str(row[2]) for row in rows}) if rows else {}
    found: dict[UUID, dict[str, list[str]]] = {}
    for event_id, name, subject, nonce, value in rows:
        if (key := keys.get(str(subject))) is not None:
            plain = bytes(nonce) + str(value).encode()
            sealed = crypto.seal_with(key, plain, bound_to=binding(event_id, str(name)))
            found.setdefault(event_id, {})[str(name)] = [str(subject), _base64(sealed)]
    return found


def binding(event_id: UUID, name: str) -> bytes:
    """Return what a sealed value of an archived event is bound to."""
    return crypto.row_binding("audit_personal", event_id, name)


def _about(month: dt.date, target: str, code: str) -> list[tuple[str, str]]:
    """Return the events of a month with this code, and what each is about."""
    window = bounds(month)
    values = {"target": target, "type": code, "begin": window.since, "end": window.until}
    return [(str(event_id), str(about)) for event_id, about in sql.fetch_all(_ABOUT, values)]


@contextmanager
def _new_file(folder: Path, name: str) -> Iterator[tuple[IO[bytes], Any]]:
    """A file that is there whole or not at all, and that never takes another one's place."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = folder / f".{secrets.token_hex(16)}"
    try:
        with os.fdopen(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o400), "w+b") as out:
            yield out, lambda: _measured(out)
            out.flush()
            os.fsync(out.fileno())
        # A link, and no rename: it fails where a file has the name already.
        os.link(beside, folder / name)
    finally:
        beside.unlink(missing_ok=True)
    _sync(folder)


def _measured(out: IO[bytes]) -> tuple[int, bytes]:
    out.seek(0)
    digest = hashlib.file_digest(out, "sha256").digest()  # type: ignore[arg-type]  # typeshed
    return out.tell(), digest


def _sync(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
