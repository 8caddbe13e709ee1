"""Checkpoints: the log's size and root, signed. Never two that contradict each other.

A checkpoint is signed after the leaves it counts are committed, and only when the tiles prove that the tree
begins with that of the last checkpoint. When nothing happens the last one is confirmed every minute, so that
silence is seen as what it is: either nothing happened, or nobody signs.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from django.conf import settings
from django.utils import timezone

from mestore.lib import crypto, merkle, notes, sql
from mestore.lib.notes import Checkpoint, Signer, Verifier
from monitoring import audit, events, log
from monitoring.log import LogDamaged

REPUBLISH = dt.timedelta(seconds=60)

logger = structlog.get_logger("mestore.audit")

_LAST = """
SELECT size, root, note, signed_at FROM audit_checkpoint
WHERE epoch = coalesce(%s, (SELECT epoch FROM audit_tree)) ORDER BY size DESC LIMIT 1
"""
_COVERING = """
SELECT size, root, note, signed_at FROM audit_checkpoint
WHERE epoch = coalesce(%s, (SELECT epoch FROM audit_tree)) AND size > %s ORDER BY size LIMIT 1
"""
_EVERY = """
SELECT size, root, note, signed_at FROM audit_checkpoint
WHERE epoch = coalesce(%s, (SELECT epoch FROM audit_tree)) AND size > %s ORDER BY size LIMIT 1000
"""
_BEGINNING = """
SELECT e.type, e.canon, e.writer_mac, ended.size, ended.root
FROM audit_leaf l
JOIN audit_event e ON e.id = l.event_id AND e.occurred_at = l.occurred_at
JOIN audit_ended_log ended ON ended.epoch = l.epoch - 1
WHERE l.epoch = %s AND l.leaf_index = 0
"""
_KEEP = "INSERT INTO audit_checkpoint (epoch, size, root, note) VALUES (%s, %s, %s, %s)"
_CONFIRM = "UPDATE audit_tree SET published_at = now() WHERE epoch = %s"


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint that was signed and kept."""

    size: int
    root: bytes
    note: str
    signed_at: dt.datetime


def origin(epoch: int) -> str:
    """Return the name of the log: where it lives, and the how-manieth it is."""
    return f"{settings.AUDIT_ORIGIN}/log-{epoch}"


def signer(epoch: int) -> Signer:
    return Signer.of_seed(origin(epoch), settings.AUDIT_SIGNING_KEY)


def verifier(epoch: int) -> Verifier:
    """Return the log's public key: what a stranger pins to check proofs."""
    return signer(epoch).verifier


def last(epoch: int | None = None) -> Signed | None:
    """Return the newest checkpoint of a log (the current one); None before the first."""
    return _signed(sql.fetch_one(_LAST, (epoch,)))


def covering(leaf_index: int, epoch: int | None = None) -> Signed | None:
    """Return the smallest checkpoint of a log that counts this leaf; None while none does."""
    return _signed(sql.fetch_one(_COVERING, (epoch, leaf_index)))


def every(epoch: int | None = None) -> Iterator[Signed]:
    """Yield all checkpoints of a log (the current one), smallest first, a thousand rows at a time."""
    after = -1
    while rows := sql.fetch_all(_EVERY, (epoch, after)):
        for size, root, note, signed_at in rows:
            yield Signed(int(size), bytes(root), str(note), signed_at)
        after = int(rows[-1][0])


def publish() -> Signed | None:
    """Sign what was committed since the last checkpoint, or confirm it once a minute; return what is new.

    The caller holds the sequencer's lock, in a transaction. Raises LogDamaged when the stored tree does not
    begin with what was signed last: then nothing is signed.
    """
    now = log.state()
    before = last()
    if before is not None and before.size == now.size:
        if before.root != now.frontier.root():
            raise LogDamaged("the tree's root is not the one that was signed")
        if now.published_at is None or timezone.now() - now.published_at >= REPUBLISH:
            sql.execute(_CONFIRM, (now.epoch,))
        return None
    root = now.frontier.root()
    if before is not None:
        _demand_consistency(before, now.size, root)
    elif log.root_at(now.size) != root:
        raise LogDamaged("the tiles do not lead to the tree's root")
    elif now.epoch > 1:
        _demand_beginning(now.epoch)
    note = Checkpoint(origin(now.epoch), now.size, root).signed(signer(now.epoch))
    sql.execute(_KEEP, (now.epoch, now.size, root, note))
    sql.execute(_CONFIRM, (now.epoch,))
    logger.info("audit_checkpoint", size=now.size, root=root.hex())
    return Signed(now.size, root, note, timezone.now())


def _demand_consistency(before: Signed, size: int, root: bytes) -> None:
    """The proof is made from the tiles and checked against both roots, as a stranger would."""
    try:
        proof = merkle.consistency_proof(before.size, size, merkle.from_tiles(log.tile_row))
        merkle.verify_consistency(before.size, size, proof, before.root, root)
    except merkle.ProofError as error:
        raise LogDamaged("the tree does not begin with what was signed") from error


def _demand_beginning(epoch: int) -> None:
    """A later log is signed only when its first leaf, of our own making, says how the last one ended."""
    row = sql.fetch_one(_BEGINNING, (epoch,))
    if row is None or row[0] != events.AUDIT_LOG_BEGUN:
        raise LogDamaged("the log does not begin with the end of the one before")
    _type, canon, tag, size, root = row
    if tag is None or not crypto.verify_mac(bytes(canon), tag, purpose=audit.WRITER_PURPOSE):
        raise LogDamaged("the beginning of the log was not written by this service")
    said = json.loads(bytes(canon))["data"]
    if (said["old_size"], said["old_root"]) != (size, bytes(root).hex()):
        raise LogDamaged("the log begins with another end of the one before")


def _signed(row: sql.Row | None) -> Signed | None:
    if row is None:
        return None
    size, root, note, signed_at = row
    return Signed(int(size), bytes(root), str(note), signed_at)


def verified(found: Signed, epoch: int | None = None) -> Checkpoint:
    """Return what a kept checkpoint says, its signature checked. Raises notes.NoteError."""
    return notes.checkpoint_of(found.note, log=verifier(epoch or log.state().epoch))
