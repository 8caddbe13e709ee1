"""Events leaving the house in the order of the signed log, in batches that prove themselves.

Only what a checkpoint counts leaves. Each batch is checked before it is signed: its events against the log's
tiles, the tiles against the checkpoint. A log that contradicts itself exports nothing more (`LogDamaged`).
Memory holds one batch, however long the log is; every statement is a page by key.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mestore.lib import crypto, merkle, sql
from mestore.lib.merkle import Frontier
from monitoring import (
    checkpoints,
    cosigning,
    export_batches,
    export_records,
    leaves,
    log,
    retired,
    subjects,
)
from monitoring.checkpoints import Signed
from monitoring.export_batches import Format, Trailer, Window
from monitoring.export_records import Record
from monitoring.log import LogDamaged

BATCH: Final = 500
"""Records in one batch at most, and leaves in one read."""
PERSONAL: Final = "audit.export_personal"
"""What a second person approves: an export with personal values, described by `details`."""

_PLACE = re.compile(r"([1-9][0-9]{0,8}):(0|[1-9][0-9]{0,17})", re.ASCII)
_LEAVES = """
SELECT l.leaf_index, l.event_id, l.occurred_at, e.canon, e.pii_ct
FROM audit_leaf l
LEFT JOIN audit_event e ON e.id = l.event_id AND e.occurred_at = l.occurred_at
  AND (%(since)s::timestamptz IS NULL OR l.occurred_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR l.occurred_at < %(until)s)
WHERE l.epoch = %(epoch)s AND l.leaf_index >= %(begin)s AND l.leaf_index < %(end)s
ORDER BY l.leaf_index
"""
# A leaf whose event happened later than that was not counted by a checkpoint signed so long before.
_BEFORE = """
SELECT coalesce(max(size), 0) FROM audit_checkpoint
WHERE epoch = %s AND signed_at < %s::timestamptz - interval '10 minutes'
"""


class BadPlace(ValueError):
    """The cursor is not one that an export gave out."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an export goes on: the how-manieth log, and the leaf that comes next."""

    epoch: int = 1
    index: int = 0

    def __str__(self) -> str:
        return f"{self.epoch}:{self.index}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Return the place that `str` wrote. Raises BadPlace."""
        found = _PLACE.fullmatch(text)
        if found is None:
            raise BadPlace("a cursor is two numbers: the log's and the next leaf's, as in 1:500")
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall leave, and how."""

    form: Format
    window: Window = field(default_factory=Window)
    personal: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of records and the trailer's line below them; `next` is where the following one begins."""

    place: Place
    next: Place
    lines: tuple[str, ...]
    trailer: str
    digest: bytes

    def text(self) -> str:
        return "".join(self.lines) + self.trailer


def batches(wanted: Wanted, after: Place, *, limit: int | None = None) -> Iterator[Batch]:
    """Yield what was sealed from `after` on, at most `limit` records in all.

    Ends at the newest checkpoint: called again with the last `next`, it goes on. Raises BadPlace for a place
    that the log has not reached, LogDamaged, django.db.Error.
    """
    place, left = _beginning(wanted, after), limit
    while left is None or left > 0:
        made = _batch(wanted, place, BATCH if left is None else min(left, BATCH))
        if made is None:
            following = _next_log(place)
            if following is None:
                return
            place = following
            continue
        yield made
        place = made.next
        left = None if left is None else left - len(made.lines)


def target(place: Place) -> tuple[str, str]:
    """Return what an export from `place` is about, for events and approvals."""
    return "audit_log", str(place)


def details(wanted: Wanted, place: Place, limit: int | None) -> dict[str, Any]:
    """Return in plain values what an export was asked for: recorded, and for personal values approved."""
    window = wanted.window
    return {
        "format": str(wanted.form),
        "from": str(place),
        "limit": limit,
        "since": window.since.astimezone(dt.UTC).isoformat() if window.since else None,
        "until": window.until.astimezone(dt.UTC).isoformat() if window.until else None,
        "personal": wanted.personal,
    }


def end() -> Place:
    """Return the place behind the newest leaf that is sealed."""
    epoch = log.state().epoch
    last = checkpoints.last(epoch)
    return Place(epoch, last.size if last is not None else 0)


def _batch(wanted: Wanted, place: Place, most: int) -> Batch | None:
    """Return the next batch of one log; None at its end."""
    last = checkpoints.last(place.epoch)
    if last is None or place.index >= last.size:
        # A log that ended may have lost what was delivered of it: the next one says so, and goes on.
        if place.index > (last.size if last is not None else 0) and place.epoch == log.state().epoch:
            raise BadPlace("the log is not that long")
        return None
    before = frontier_at(place)
    grown, records, at = replace(before, hashes=list(before.hashes)), list[Record](), place.index
    while at < last.size and len(records) < most:
        stop = min(at + most - len(records), last.size)
        found, hashes = _read(wanted, place.epoch, at, stop)
        records += found
        grown.extend(hashes)
        at = stop
    lines = tuple(export_records.line(record, wanted.form) for record in _opened(wanted, records))
    digest = hashlib.sha256("".join(lines).encode()).digest()
    trailer = Trailer(
        checkpoints.origin(place.epoch), wanted.form, place.index, at, len(lines), digest, before,
        grown.root(), wanted.window, wanted.personal,
    )  # fmt: skip
    return Batch(place, Place(place.epoch, at), lines, sealed(trailer, place.epoch, last), digest)


def sealed(trailer: Trailer, epoch: int, last: Signed) -> str:
    """Sign only what leads to the checkpoint: the proof is checked here as a stranger would."""
    try:
        proof = merkle.consistency_proof(trailer.end, last.size, merkle.from_tiles(log.tiles(epoch)))
        merkle.verify_consistency(trailer.end, last.size, proof, trailer.root, last.root)
    except merkle.ProofError as error:
        raise LogDamaged("the leaves to be exported do not lead to the checkpoint") from error
    checkpoint = last.note if epoch != log.state().epoch else cosigning.with_cosignatures(last)
    made = export_batches.seal(trailer, checkpoint=checkpoint, proof=proof, signer=checkpoints.signer(epoch))
    return made.line(trailer.format)


@dataclass(frozen=True, slots=True)
class _Sealed(Record):
    """A record whose personal values are still sealed."""

    pii_ct: bytes | None = None


def _read(wanted: Wanted, epoch: int, begin: int, stop: int) -> tuple[list[Record], list[bytes]]:
    """Return the wanted records of these leaves, and the hashes of all of them."""
    hashes = leaf_hashes(epoch, begin, stop)
    rows = sql.fetch_all(
        _LEAVES,
        {
            "epoch": epoch, "begin": begin, "end": stop,
            "since": wanted.window.since, "until": wanted.window.until,
        },
    )  # fmt: skip
    if [row[0] for row in rows] != list(range(begin, stop)):
        raise LogDamaged(f"leaves between {begin} and {stop} are missing")
    origin = checkpoints.origin(epoch)
    gone = retired.load() if any(row[3] is None for row in rows) else retired.Retired()
    found: list[Record] = []
    for (index, event_id, occurred_at, canon, pii_ct), leaf in zip(rows, hashes, strict=True):
        if not wanted.window.holds(occurred_at):
            continue
        if canon is None and not gone.holds(epoch, int(index)):
            raise LogDamaged(f"the event of the leaf {index} is gone")
        if canon is not None and merkle.leaf_hash(bytes(canon)) != leaf:
            raise LogDamaged(f"the event of the leaf {index} is not what the log says")
        kept = bytes(canon) if canon is not None else None
        sealed = bytes(pii_ct) if pii_ct is not None else None
        found.append(_Sealed(origin, int(index), leaf, event_id, kept, pii_ct=sealed))
    return found, hashes


def leaf_hashes(epoch: int, begin: int, stop: int) -> list[bytes]:
    """Return the leaf hashes of a range, out of tiles."""
    row, joined, at = log.tiles(epoch), b"", begin
    while at < stop:
        count = min(stop, (at // merkle.TILE_WIDTH + 1) * merkle.TILE_WIDTH) - at
        joined += row(0, at, count)
        at += count
    if len(joined) != (stop - begin) * merkle.HASH_BYTES:
        raise LogDamaged("the log's tiles are cut")
    return merkle.split(joined)


def frontier_at(place: Place) -> Frontier:
    """Return what the log was when it had `place.index` leaves: one hash per bit of that number."""
    whole, hashes, begin = merkle.from_tiles(log.tiles(place.epoch)), list[bytes](), 0
    try:
        for bit in range(place.index.bit_length() - 1, -1, -1):
            if place.index >> bit & 1:
                hashes.append(whole(begin, begin + (1 << bit)))
                begin += 1 << bit
    except merkle.ProofError as error:
        raise LogDamaged("the log's tiles are cut") from error
    return Frontier(place.index, hashes)


def _beginning(wanted: Wanted, after: Place) -> Place:
    """With a lower bound in time, what certainly came before it is passed over."""
    now = log.state().epoch
    if after.epoch > now:
        raise BadPlace("there is no such log yet")
    if wanted.window.since is None:
        return after
    row = sql.fetch_one(_BEFORE, (after.epoch, wanted.window.since))
    return Place(after.epoch, max(after.index, int(row[0]) if row else 0))


def _next_log(place: Place) -> Place | None:
    return Place(place.epoch + 1, 0) if place.epoch < log.state().epoch else None


def _opened(wanted: Wanted, records: list[Record]) -> list[Record]:
    """Open personal values where that was approved; one statement for all keys of a batch."""
    if not wanted.personal:
        return records
    owners = {record.index: _subject(record) for record in records}
    keys = subjects.read_keys({owner for owner in owners.values() if owner})
    return [
        replace(record, personal=_values(record, keys.get(owners[record.index])))
        if owners[record.index] and isinstance(record, _Sealed) and record.pii_ct is not None
        else record
        for record in records
    ]


def _subject(record: Record) -> str:
    return str(json.loads(record.canon).get("subject", "")) if record.canon is not None else ""


def _values(record: _Sealed, key: bytes | None) -> Mapping[str, Any]:
    """The personal values, or why there are none: a destroyed key is told, never passed over."""
    if key is None:
        return {"state": "erased"}
    try:
        plain = leaves.open_personal(record.pii_ct or b"", key=key, event_id=record.event_id)
    except crypto.Unreadable:
        return {"state": "unreadable"}
    found: Mapping[str, Any] = json.loads(plain[leaves.NONCE_BYTES :])
    return found
